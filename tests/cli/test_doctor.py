"""`resilient doctor`, and what all commands have in common: the real command."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from resilient.cli import main
from tests.cli.commands import run


def test_here_all_is_well_enough() -> None:
    done = run("doctor", "--json")
    assert (done.status, done.err) == (0, "")
    found = {each["what"]: each for each in done.json["findings"]}
    assert done.json["ok"] is True
    assert {"python", "resilient-client", "import name", "resolv.conf", "discovery", "clock"} <= set(found)
    assert set(found["clock"]) == {"what", "state", "said", "do"}


def test_another_distribution_of_the_import_name_is_found(tmp_path: Path) -> None:
    info = tmp_path / "resilient-0.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: resilient\nVersion: 0.4\n")
    (info / "top_level.txt").write_text("resilient\n")
    done = run("doctor", path=tmp_path)
    assert done.status == 1
    lines = iter(done.lines)
    (bad,) = (line for line in lines if line.startswith("BAD"))
    assert "resilient installs `resilient` too" in bad
    assert next(iter(line for line in done.lines if "-> run pip uninstall" in line))
    told = run("doctor", "--json", path=tmp_path)
    assert (told.status, told.json["ok"]) == (1, False)


def test_what_is_wrong_in_the_environment_is_found(tmp_path: Path) -> None:
    done = run(
        "doctor",
        "--json",
        RESILIENT_DNS_NAMESERVERS="dns.example",
        RESILIENT_CONFIG_DIRECTORY="/etc/resilient",
        RESILIENT_CONFIG_DIR=str(tmp_path / "missing"),
    )
    assert done.status == 1
    found = {each["what"]: each for each in done.json["findings"]}
    assert found["discovery"]["state"] == "bad"
    assert found["config directory"]["state"] == "bad"
    assert found["RESILIENT_CONFIG_DIRECTORY"]["do"] == "write RESILIENT_CONFIG_DIR"


def test_a_warning_alone_is_no_failure() -> None:
    done = run("doctor", RESILIENT_NO_SUCH_THING="1")
    assert done.status == 0
    assert any(line.startswith("warn") and "RESILIENT_NO_SUCH_THING" in line for line in done.lines)


def test_help_and_version_and_nothing_at_all() -> None:
    assert run("--version").out.strip() == importlib.metadata.version("resilient-client")
    shown = run("--help")
    assert shown.status == 0
    assert all(command in shown.out for command in ("resolve", "doctor"))
    assert "doctor" in run().out + run().err


def test_without_its_extra_the_command_says_what_to_install() -> None:
    program = "import sys; sys.modules['typer'] = None; from resilient.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "resilient needs typer: pip install 'resilient-client[cli]'\n"


def test_the_command_is_installed_under_its_name() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="resilient")
    assert entry.load() is main
