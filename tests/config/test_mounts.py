"""Mounts by subPath: bound to one generation for ever, and told so."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from resilient.config.mounts import Mount, by_subpath, read_mounts
from resilient.testing import KubeletVolume

from .test_loader import Kit, attempts

POD = "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~configmap/cfg"
GENERATION = f"{POD}/..2026_11_10_12_00_00.123"


def line(root: str, point: str) -> str:
    return f"63 43 254:0 {root} {point} ro,relatime master:1 - ext4 /dev/vda rw\n"


def test_the_table_of_mounts_is_read_with_its_escapes() -> None:
    table = line("/", "/") + line("/a\\040b//deleted", "/etc/my\\040app") + "nonsense\n\n"
    assert list(read_mounts(table)) == [Mount("/", "/"), Mount("/a b//deleted", "/etc/my app")]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    monkeypatch.setattr("resilient.config.mounts._MOUNTS", file)
    return file


def test_a_file_that_is_mounted_alone_and_a_directory_of_one_generation_never_change(
    table: Path, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    file = mount / "a.json"
    file.write_text("{}")
    for root, point, stuck in (
        (f"{GENERATION}/a.json", file, True),
        (f"{GENERATION}/a.json//deleted", file, True),
        (f"{GENERATION}/sub", mount, True),
        (POD, mount, False),
        ("/data/pvc", mount, False),
        (f"{GENERATION}/a.json", tmp_path / "another.json", False),
    ):
        table.write_text(line("/", "/") + line(root, str(point)))
        assert by_subpath([str(mount), str(file)]) is stuck, (root, point)
    table.unlink()
    assert not by_subpath([str(mount), str(file)]), "where there is no table, nothing is known"


@pytest.mark.parametrize("name", ["", "a.json"])
def test_it_is_warned_of_once(
    table: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    table.write_text(line(f"{GENERATION}/a.json", str(mount / "a.json")))
    kit = Kit(mount / name)
    for n in (4, 5):
        (mount / "a.json").write_text(attempts(n) + " " * n)
        kit.look()
        assert kit.look() == "ready"
    (warning,) = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert "mounted by subPath or as a single file, and no change will ever be seen" in warning


def test_a_volume_that_is_mounted_whole_is_not_warned_of(
    table: Path, volume: KubeletVolume, caplog: pytest.LogCaptureFixture
) -> None:
    table.write_text(line(POD, str(volume.directory)))
    volume.write({"a.json": attempts(4)})
    kit = Kit(volume.directory)
    kit.look()
    assert [each for each in caplog.records if each.levelno == logging.WARNING] == []


@pytest.mark.system
@pytest.mark.parametrize(("inner", "outer"), [("a.json", "a.json"), ("sub", ".")])
def test_a_real_mount_by_subpath_is_known(tmp_path: Path, inner: str, outer: str) -> None:
    """Bound as the kubelet does it, in a namespace of its own; needs to be root."""
    generation, mount = tmp_path / "..2026_11_10", tmp_path / "mount"
    (generation / "sub").mkdir(parents=True)
    mount.mkdir()
    for each in (generation / "a.json", generation / "sub" / "a.json", mount / "a.json"):
        each.write_text("{}")
    said = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind "$1" "$2" && rm "$3" && exec "$4" -c "$5"',
            "sh",
            str(generation / inner),
            str(mount / outer),
            str(generation / "a.json"),  # as the kubelet does with the next generation
            sys.executable,
            textwrap.dedent(
                f"""
                from pathlib import Path
                from resilient.config.source import named
                where = named(Path({json.dumps(str(mount))}))
                print(where.stuck(where.read()))
                """
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert said.stdout.strip() == "True", said.stderr
