"""What the library counts on in its surroundings, checked one by one.

Each check is a function of what it looks at, and gives findings; nothing here prints."""

from __future__ import annotations

import difflib
import importlib.metadata
import platform
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config.center import PREFIX
from ..config.source import named
from ..core.errors import ConfigError
from ..discovery.options import Dns, detect, read_resolv_conf

OURS = "resilient-client"
PACKAGES = (
    "httpx", "httpcore", "httpx2", "httpcore2", "dnspython", "http-sf", "limits", "msgspec", "opentelemetry-api",
    "opentelemetry-sdk", "pybreaker", "pyyaml", "sniffio", "tenacity",
)  # fmt: skip
_OPTIONAL = ("httpx2", "httpcore2", "opentelemetry-sdk")
CLIENTS = {
    "resilient.httpx": ("httpx", "httpcore"),
    "resilient.httpx2": ("httpx2", "httpcore2"),
    "resilient.requests": ("requests", "urllib3"),
    "resilient.aiohttp": ("aiohttp",),
    "resilient.grpc": ("grpcio",),
}
"""The modules that give clients, and the distributions that each stands on."""
_PREFIX = "RESILIENT_"
VARIABLES = (
    "RESILIENT_CONFIG_DIR",
    "RESILIENT_DNS_NAMESERVERS",
    "RESILIENT_DNS_NAMESPACE",
    "RESILIENT_DNS_ZONE",
    "RESILIENT_EMERGENCY_DIR",
    "RESILIENT_FAULT_SEED",
)
"""Those that the library reads."""

FEW_DESCRIPTORS = 1_024
_RELEASED = 1_750_000_000.0  # seconds since 1970; no clock that is right is before this
_COARSE = 0.01  # seconds


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        what: the subject.
        state: ``ok``, ``warning`` (it works, but probably not as meant) or ``bad`` (it does not).
        said: what was found.
        do: what to do about it; empty where nothing is.
    """

    what: str
    state: str
    said: str
    do: str = ""


def versions() -> Iterator[Finding]:
    """The interpreter, this library, and what it stands on."""
    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("python", "ok", f"{implementation}, {platform.system()} {platform.machine()}")
    for name in (OURS, *PACKAGES):
        version = _version(name)
        if version is not None:
            yield _in_range(name, version)
        elif name == OURS:
            yield Finding(
                name, "warning", "imported from a directory, not installed", f"run pip install {OURS}"
            )
        elif name not in _OPTIONAL:
            yield Finding(name, "bad", "not installed", f"run pip install --force-reinstall {OURS}")


def clients() -> Iterator[Finding]:
    """Which clients there are with what is installed, and what they speak."""
    h2 = _version("h2")
    for module, names in CLIENTS.items():
        extra = module.partition(".")[2]
        known = {name: version for name in names if (version := _version(name)) is not None}
        if len(known) < len(names):
            yield Finding(module, "ok", f"not here; pip install '{OURS}[{extra}]' brings it")
            continue
        wrong = [
            found for name, version in known.items() if (found := _in_range(name, version)).state != "ok"
        ]
        speaks = "gRPC, sync and grpc.aio" if module == "resilient.grpc" else "HTTP/1.1"
        if module in ("resilient.httpx", "resilient.httpx2"):
            speaks += f", and HTTP/2 in async clients (h2 {h2})" if h2 else f"; HTTP/2 wants {OURS}[http2]"
        over = ", ".join(f"{name} {version}" for name, version in known.items())
        yield Finding(module, "ok", f"{speaks}; over {over}")
        yield from (found for found in wrong if found.what not in PACKAGES)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_range(name: str, version: str) -> Finding:
    """Whether a version is one that this library was tested with, as its own metadata says."""
    for requirement in _requirements():
        package, wanted = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?([^;]*)", requirement.replace(" ", ""))[0]
        if package != name:
            continue
        for sign, bound in re.findall(r"(>=|<)([\d.]+)", wanted):
            if (_numbers(version) >= _numbers(bound)) != (sign == ">="):
                said = f"{version} is outside of {wanted}, the versions that this was tested with"
                return Finding(name, "warning", said, f"run pip install '{name}{wanted}'")
        break
    return Finding(name, "ok", version)


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(OURS) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _numbers(version: str) -> list[int]:
    """Such as [3, 12, 15]; what comes after the digits of a release is left out."""
    return [int(each) for each in re.findall(r"^[\d.]*", version)[0].split(".") if each]


def namesakes(owners: Iterable[str]) -> Iterator[Finding]:
    """Other distributions that install the import name ``resilient``.

    Args:
        owners: the distributions that have it; one whose metadata is broken has no name.
    """
    others = sorted({each for each in owners if each and re.sub(r"[-_.]+", "-", each).lower() != OURS})
    if others:
        named = ", ".join(others)
        yield Finding(
            "import name",
            "bad",
            f"{named} installs `resilient` too; of two, the one installed last is imported, in parts",
            f"run pip uninstall {' '.join(others)} {OURS}, then pip install {OURS}",
        )
    else:
        yield Finding("import name", "ok", "nobody else installs `resilient`")


def cluster(environ: Mapping[str, str], *, namespace_file: Path, resolv_conf: Path) -> Iterator[Finding]:
    """Whether this is a pod, and whether its DNS can know the names of the cluster."""
    namespace = _read(namespace_file).strip()
    owner = f"of namespace {namespace}" if namespace else "none, or none that was mounted"
    yield Finding("service account", "ok", owner)
    nameservers, search = read_resolv_conf(resolv_conf)
    ndots = re.findall(r"^options\b.*\bndots:(\d+)", _read(resolv_conf), re.MULTILINE) or ["1"]
    shown = f"nameservers {', '.join(nameservers) or 'none'}; search {' '.join(search) or 'none'}; ndots {ndots[-1]}"
    known = any(f".{entry}".partition(".svc.")[1] for entry in search)
    if namespace and not known and not environ.get("RESILIENT_DNS_NAMESERVERS"):
        yield Finding(
            "resolv.conf",
            "warning",
            f"{shown}: a pod whose nameserver is not the cluster's finds no Service",
            "set dnsPolicy: ClusterFirst (with hostNetwork: ClusterFirstWithHostNet), or RESILIENT_DNS_NAMESERVERS",
        )
    else:
        yield Finding("resolv.conf", "ok", shown)
    try:
        dns = detect(environ, namespace_file=namespace_file, resolv_conf=resolv_conf)
    except ConfigError as exc:
        yield Finding("discovery", "bad", str(exc), "mend the RESILIENT_DNS_ variable that has this value")
    else:
        yield _discovery(dns, environ)


def _discovery(dns: Dns | None, environ: Mapping[str, str]) -> Finding:
    if dns is not None:
        servers = ", ".join(map(str, dns.servers))
        return Finding("discovery", "ok", f"on: zone {dns.zone}, namespace {dns.namespace}, asks {servers}")
    said = "off: not in a cluster, all names go to the ordinary resolver"
    idle = [name for name in ("RESILIENT_DNS_NAMESPACE", "RESILIENT_DNS_ZONE") if environ.get(name)]
    if not idle:
        return Finding("discovery", "ok", said)
    return Finding(
        "discovery",
        "warning",
        f"{said}; {' and '.join(idle)} changes nothing",
        "set RESILIENT_DNS_NAMESERVERS too",
    )


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The variables that are set for this library, and those that nothing reads."""
    for name in sorted(environ):
        if name in VARIABLES:
            yield Finding(name, "ok", environ[name])
        elif name.startswith(PREFIX):
            yield _number(name, environ[name])
        elif name.startswith(_PREFIX):
            known = [each.removeprefix(_PREFIX) for each in VARIABLES]
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), known, 1)
            do = f"write {_PREFIX}{near[0]}" if near else f"remove it; there are {', '.join(VARIABLES)}"
            yield Finding(name, "warning", "nothing reads it", do)


def _number(variable: str, given: str) -> Finding:
    try:
        from ..config.environment import read_environment  # what it needs may be what is not installed

        read_environment({variable: given})
    except ImportError as exc:
        return Finding(variable, "warning", f"{given}; it cannot be checked without {exc.name}")
    except ConfigError as exc:
        return Finding(variable, "bad", str(exc), "mend it: no service with this variable starts")
    return Finding(variable, "ok", f"{given}; it holds where the config document says nothing")


def clock(now: float, resolution: float) -> Iterator[Finding]:
    """Whether the time is plausible.

    Args:
        now: seconds since 1970.
        resolution: of the monotonic clock, in seconds.
    """
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if now < _RELEASED:
        yield Finding(
            "clock",
            "bad",
            f"{shown} is before this library was written: certificates and dates in Retry-After are misread",
            "have the node's time set (chrony, systemd-timesyncd)",
        )
    elif resolution > _COARSE:
        yield Finding(
            "clock",
            "warning",
            f"{shown}, in steps of {resolution:g} s: time-outs and rates are that coarse",
            "use another clock source on the node",
        )
    else:
        yield Finding("clock", "ok", shown)


def descriptors(soft: int, hard: int) -> Iterator[Finding]:
    """Whether there are enough file descriptors: each connection takes one.

    Args:
        soft: the limit in force; negative: none.
        hard: what it may be raised to; negative: without limit.
    """
    shown = ", ".join(
        f"{name} {'unlimited' if limit < 0 else limit}" for name, limit in (("soft", soft), ("hard", hard))
    )
    if 0 <= soft < FEW_DESCRIPTORS:
        do = f"run ulimit -n {FEW_DESCRIPTORS * 64}, or set the limit of the container runtime"
        yield Finding("file descriptors", "warning", f"{shown}: each connection takes one", do)
    else:
        yield Finding("file descriptors", "ok", shown)


def config_directory(what: str, given: str | None) -> Iterator[Finding]:
    """Whether the directory of a document can be read, and will ever change.

    Args:
        what: its name for people.
        given: what the variable names: the directory, or the one file in it that counts.
    """
    if not given:
        return
    path = named(Path(given)).path
    try:
        names = sorted(each.name for each in path.iterdir())
    except OSError as exc:
        yield Finding(
            what, "bad", f"{given}: {exc.strerror}", "mount the ConfigMap there as a directory, readable"
        )
        return
    shown = ", ".join(name for name in names if not name.startswith("..")) or "nothing"
    if "..data" in names:
        yield Finding(what, "ok", f"{given}: {shown}; a mounted ConfigMap")
    else:
        yield Finding(
            what,
            "warning",
            f"{given}: {shown}; no mounted ConfigMap: there is no ..data",
            "mount the ConfigMap as a whole directory; with subPath it would never change",
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
