"""What `resilient doctor` finds, check by check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resilient.cli import health
from resilient.cli.health import Finding
from resilient.testing import KubeletVolume

POD = """\
search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5 timeout:1
"""


def pod(tmp_path: Path, resolv: str = POD, namespace: str = "shop", **environ: str) -> dict[str, Finding]:
    for name, text in (("resolv.conf", resolv), ("namespace", namespace)):
        if text:
            (tmp_path / name).write_text(text)
    found = health.cluster(
        environ, namespace_file=tmp_path / "namespace", resolv_conf=tmp_path / "resolv.conf"
    )
    return {each.what: each for each in found}


def test_a_pod_as_it_should_be(tmp_path: Path) -> None:
    found = pod(tmp_path)
    assert {each.state for each in found.values()} == {"ok"}
    assert found["service account"].said == "of namespace shop"
    assert found["resolv.conf"].said == (
        "nameservers 10.96.0.10; search shop.svc.cluster.local svc.cluster.local cluster.local; ndots 5"
    )
    assert found["discovery"].said == "on: zone cluster.local, namespace shop, asks 10.96.0.10:53"


def test_a_pod_whose_nameserver_is_the_nodes(tmp_path: Path) -> None:
    found = pod(tmp_path, "nameserver 8.8.8.8\nsearch example.com\n")["resolv.conf"]
    assert found.state == "warning"
    assert "finds no Service" in found.said
    assert found.do.startswith("set dnsPolicy: ClusterFirst")
    said = pod(tmp_path, "nameserver 8.8.8.8\n", RESILIENT_DNS_NAMESERVERS="10.96.0.10")
    assert {each.state for each in said.values()} == {"ok"}


def test_outside_of_a_cluster(tmp_path: Path) -> None:
    found = pod(tmp_path, "", "")
    assert {each.state for each in found.values()} == {"ok"}
    assert found["resolv.conf"].said == "nameservers none; search none; ndots 1"
    assert found["discovery"].said == "off: not in a cluster, all names go to the ordinary resolver"


def test_variables_of_discovery_that_are_wrong_or_do_nothing(tmp_path: Path) -> None:
    wrong = pod(tmp_path, RESILIENT_DNS_NAMESERVERS="10.96.0.10,dns.example")["discovery"]
    assert wrong.state == "bad"
    assert "'dns.example', which is no IP address" in wrong.said
    assert wrong.do
    idle = pod(tmp_path / "nowhere", "", "", RESILIENT_DNS_ZONE="k8s.example")["discovery"]
    assert idle.state == "warning"
    assert "RESILIENT_DNS_ZONE changes nothing" in idle.said
    assert idle.do == "set RESILIENT_DNS_NAMESERVERS too"


@pytest.mark.parametrize(
    "owners", [[], ["resilient-client"], ["Resilient_Client", "resilient-client"], [None]]
)
def test_ours_is_no_namesake(owners: Any) -> None:
    (found,) = health.namesakes(owners)
    assert found.state == "ok"


def test_a_namesake_is_bad(tmp_path: Path) -> None:
    (found,) = health.namesakes(["resilient-client", "resilient"])
    assert (found.state, found.do) == (
        "bad",
        "run pip uninstall resilient resilient-client, then pip install resilient-client",
    )


def test_variables_that_nothing_reads() -> None:
    environ = {
        "RESILIENT_DNS_ZONES": "x",
        "RESILIENT_CONFIG_DIR": "/etc/resilient",
        "PATH": "/bin",
        "RESILIENT_XYZZY": "",
    }
    first, second, third = health.variables(environ)
    assert first == Finding("RESILIENT_CONFIG_DIR", "ok", "/etc/resilient")
    assert second == Finding("RESILIENT_DNS_ZONES", "warning", "nothing reads it", "write RESILIENT_DNS_ZONE")
    assert (third.state, third.do[:10]) == ("warning", "remove it;")


def test_every_variable_that_is_read_is_known_to_it() -> None:
    """A variable that is added and not told here would be called one that nothing reads."""
    import re

    package = Path(health.__file__).parents[1]
    read = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"""environ(?:\.get\(|\[)"(RESILIENT_[A-Z_]+)\"""", path.read_text())
    }
    assert read == set(health.VARIABLES)


@pytest.mark.parametrize(
    ("now", "resolution", "state"), [(1.8e9, 1e-9, "ok"), (0.0, 1e-9, "bad"), (1.8e9, 0.0156, "warning")]
)
def test_the_clock(now: float, resolution: float, state: str) -> None:
    (found,) = health.clock(now, resolution)
    assert found.state == state
    assert bool(found.do) == (state != "ok")


@pytest.mark.parametrize(
    ("soft", "hard", "state", "said"),
    [
        (256, 4096, "warning", "soft 256, hard 4096: each"),
        (1024, -1, "ok", "soft 1024, hard unlimited"),
        (-1, -1, "ok", "soft unlimited, hard unlimited"),
    ],
)
def test_file_descriptors(soft: int, hard: int, state: str, said: str) -> None:
    (found,) = health.descriptors(soft, hard)
    assert found.state == state
    assert found.said.startswith(said)


def test_a_config_directory_that_is_a_mounted_configmap(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "flags.json").write_text("{}")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "flags.json").symlink_to("..data/flags.json")
    (found,) = health.config_directory("config directory", str(tmp_path))
    assert found == Finding("config directory", "ok", f"{tmp_path}: flags.json; a mounted ConfigMap")


def test_the_one_file_that_counts_is_looked_for_in_its_directory(tmp_path: Path) -> None:
    KubeletVolume(tmp_path).write({"a.json": "{}"})
    (found,) = health.config_directory("emergency directory", str(tmp_path / "a.json"))
    assert (found.what, found.state) == ("emergency directory", "ok")


def test_a_config_directory_that_will_never_change(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text("{}")
    (found,) = health.config_directory("config directory", str(tmp_path))
    assert found.state == "warning"
    assert "there is no ..data" in found.said
    assert "subPath" in found.do


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_config_directory_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (found,) = health.config_directory("config directory", str(tmp_path / name))
    assert found.state == "bad"
    assert found.do
    assert (
        list(health.config_directory("config directory", ""))
        == list(health.config_directory("config directory", None))
        == []
    )


def test_what_it_stands_on_is_told_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {each.what: each for each in health.versions()}
    assert {"python", "resilient-client", "httpx", "dnspython", "msgspec"} <= set(found)
    assert {each.state for each in found.values()} == {"ok"}

    def gone(name: str) -> str:
        raise health.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(health.importlib.metadata, "version", gone)
    lost = {each.what: each for each in health.versions()}
    assert lost["httpx"].state == "bad"
    assert lost["resilient-client"].state == "warning"
    assert not {"httpx2", "httpcore2", "opentelemetry-sdk"} & set(lost), "nobody needs them"


def test_clients_say_what_they_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"httpx": "0.28.1", "httpcore": "1.0.9", "h2": "4.3.0", "aiohttp": "3.12.0", "requests": "2.32.5"}

    def version(name: str) -> str:
        if name not in there:
            raise health.importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(health.importlib.metadata, "version", version)
    found = {each.what: each for each in health.clients()}
    assert found["resilient.httpx"].said == (
        "HTTP/1.1, and HTTP/2 in async clients (h2 4.3.0); over httpx 0.28.1, httpcore 1.0.9"
    )
    assert found["resilient.requests"].said == "not here; pip install 'resilient-client[requests]' brings it"
    assert found["resilient.aiohttp"].said == "HTTP/1.1; over aiohttp 3.12.0"
    assert found["aiohttp"].state == "warning"
    assert found["aiohttp"].said.startswith("3.12.0 is outside of ")
    assert found["aiohttp"].do.startswith("run pip install 'aiohttp")
    assert {*found} == {*health.CLIENTS, "aiohttp"}
    del there["h2"]
    first = next(health.clients())
    assert first.said.startswith("HTTP/1.1; HTTP/2 wants resilient-client[http2]")


@pytest.mark.parametrize(
    ("version", "state"),
    [("3.12.15", "ok"), ("3.99.0rc1", "ok"), ("3.12.14", "warning"), ("4.0", "warning"), ("3.13", "ok")],
)
def test_a_version_is_compared_with_what_was_tested(
    version: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        health.importlib.metadata, "requires", lambda name: ['aiohttp<4,>=3.12.15; extra == "aiohttp"']
    )
    monkeypatch.setattr(health.importlib.metadata, "version", lambda name: version)
    found = [each for each in health.clients() if each.what == "aiohttp"]
    assert [each.state for each in found] == ([] if state == "ok" else [state])


def test_packages_are_those_that_the_project_depends_on() -> None:
    import re
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^a-z0-9-]", each)[0] for each in project["dependencies"]}
    assert needed | {"httpx2", "httpcore2", "opentelemetry-sdk"} == set(health.PACKAGES)


def test_variables_that_set_numbers() -> None:
    good, bad = "RESILIENT__PAYMENTS__RETRY__ATTEMPTS", "RESILIENT__SEARCH__TIMEOUT__TOTAL"
    first, second = health.variables({good: "2", bad: "4"})
    assert (first.what, first.state) == (good, "ok")
    assert (second.what, second.state) == (bad, "bad")
    assert f"write {bad}=2s" in second.said
