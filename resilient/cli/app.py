"""The commands and their options."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import logging
import os
import re
import sys
import time
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ..core.errors import ConfigError
from ..discovery.options import NAMESPACE_FILE, RESOLV_CONF, Dns, detect, is_port_name
from . import health, show
from .lookups import resolve as look_up

app = typer.Typer(
    name="resilient",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Asks what the library would ask, reads what it would read, and checks what it counts on.",
)

JSON = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """The options before a command."""
    logging.getLogger("resilient").addHandler(logging.NullHandler())  # what is tried out here happens nowhere
    if version:
        typer.echo(next(each.said for each in health.versions() if each.what == health.OURS))
        raise typer.Exit


@app.command()
def resolve(
    name: Annotated[str, typer.Argument(help="A host as in a base URL: payments, payments.shop.svc.")],
    port: Annotated[str, typer.Option(help="A number, or the name of the Service's port.")] = "80",
    dns: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The nameserver to ask; several with commas.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="That of names without one.")] = None,
    zone: Annotated[str | None, typer.Option(help="The cluster's domain.")] = None,
    as_json: JSON = False,
) -> None:
    """Look a name up as the first request to it would, and show what would be dialled.

    The exit status is 1 where there is nothing to dial.
    """
    try:
        found = look_up(_host(name), _port(port), _dns(dns, namespace, zone))
    except ConfigError as exc:
        _refuse(str(exc))
    if as_json:
        _print_json(asdict(found))
    else:
        show.resolved(found)
    raise typer.Exit(0 if found.dials else 1)


@app.command()
def doctor(as_json: JSON = False) -> None:
    """Check what the library counts on here: versions, the cluster's DNS, the environment, limits.

    The exit status is 1 where something does not work.
    """
    import resource

    findings = [
        *health.versions(),
        *health.clients(),
        *health.namesakes(importlib.metadata.packages_distributions().get("resilient", ())),
        *health.cluster(os.environ, namespace_file=NAMESPACE_FILE, resolv_conf=RESOLV_CONF),
        *health.variables(os.environ),
        *health.clock(time.time(), time.get_clock_info("monotonic").resolution),
        *health.descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        *health.config_directory("config directory", os.environ.get("RESILIENT_CONFIG_DIR")),
        *health.config_directory("emergency directory", os.environ.get("RESILIENT_EMERGENCY_DIR")),
    ]
    bad = any(each.state == "bad" for each in findings)
    if as_json:
        _print_json({"ok": not bad, "findings": [asdict(each) for each in findings]})
    else:
        show.findings(findings)
    raise typer.Exit(1 if bad else 0)


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Each a document: a file, or a mounted directory.")
    ],
    utilisation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SHARE",
            help="How busy callees are in a usual hour, 0 to 1: of one, payments=0.8, or of all others, 0.6.",
        ),
    ] = None,
    emergency: Annotated[
        Path | None,
        typer.Option(
            "--emergency", metavar="PATH", help="An emergency document that is to stand above each."
        ),
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(
            "--after", metavar="PATH", help="The document that is in force now, and that each is to follow."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What is doubtful is an error, too.")] = False,
    as_json: JSON = False,
) -> None:
    """Read config documents as a service would, and show what is wrong or doubtful: for reviews and pipelines.

    The exit status is 1 where a service would refuse one; with --strict also where something is doubtful.
    """
    from . import documents

    busy = dict(_share(each) for each in utilisation or ())
    checked, above = list[documents.Checked](), None
    if emergency is not None:
        first, above = documents.check_emergency(emergency)
        checked.append(first)
    try:
        before = None if after is None else documents.in_force(after)
    except ConfigError as exc:
        _refuse(f"--after: {exc}")
    checked += [documents.check(path, busy, emergency=above, after=before) for path in files]
    good = all(each.good and not (strict and each.problems) for each in checked)
    if as_json:
        _print_json({"ok": good, "documents": [asdict(each) for each in checked]})
    else:
        show.checked(checked)
    raise typer.Exit(0 if good else 1)


@app.command()
def explain(
    key: Annotated[
        str,
        typer.Argument(help="payments.retry.attempts; flags.search; degradation.level; plans.sale.active."),
    ],
    document: Annotated[
        Path | None,
        typer.Option(
            "--document", metavar="PATH", help="A file or a mounted directory; else RESILIENT_CONFIG_DIR."
        ),
    ] = None,
    emergency: Annotated[
        Path | None,
        typer.Option(
            "--emergency",
            metavar="PATH",
            help="The emergency document above it; else RESILIENT_EMERGENCY_DIR.",
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="When, as 2026-11-11T00:00:00+08:00; else now.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show what a config document makes of a number, a feature or degradation.level, and where it says so.

    In a running service `resilient.config.explain(key)` knows what its code says, too.
    """
    from ..config.followed import Followed
    from . import documents

    followed = Followed(document, emergency).else_environment()
    if followed.directory is None:
        _refuse("--document: name the file or directory, such as --document /etc/resilient")
    try:
        found = documents.explain(key, followed.directory, os.environ, followed.emergency, at=_moment(at))
    except ConfigError as exc:
        _refuse(str(exc))
    if as_json:
        _print_json(asdict(found))
    else:
        show.explained(found)


@app.command()
def build(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A document: a file, or a directory.")],
) -> None:
    """Print a config document as canonical JSON, to be mounted: of YAML, however long, and of several files, too.

    The exit status is 1 where a service would refuse it; then nothing is printed.
    """
    from . import changes, documents

    try:
        made = changes.build(file)
    except ConfigError as exc:
        show.checked([documents.refused(exc, file)])
        raise typer.Exit(1) from None
    typer.echo(made, nl=False)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A document: a file, or a directory.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one.")],
    as_json: JSON = False,
) -> None:
    """Show what another document would change of what is in force: not of how it is written.

    The exit status is 0 where nothing is, 1 where something is, 2 where one of them is no good document.
    """
    from . import changes

    try:
        found = changes.compared(before, after)
    except ConfigError as exc:
        _refuse(str(exc))
    if as_json:
        _print_json([each._asdict() for each in found])
    else:
        show.differing(changes.said(each) for each in found)
    raise typer.Exit(1 if found else 0)


@app.command()
def watch(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", help="A mounted directory, or a file; else RESILIENT_CONFIG_DIR."),
    ] = None,
    emergency: Annotated[
        Path | None,
        typer.Option(
            "--emergency", metavar="PATH", help="The emergency document; else RESILIENT_EMERGENCY_DIR."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--for", metavar="SECONDS", help="How long; else until it is interrupted.")
    ] = float("inf"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for programs.")] = False,
) -> None:
    """Follow a config document as a service does, and show each change when it comes: a roll-out, from inside a pod."""
    from ..config.followed import Followed
    from . import changes

    where = Followed(directory, emergency).else_environment()
    if where.directory is None:
        _refuse("PATH: name the file or directory, such as resilient watch /etc/resilient")
    try:
        for change in changes.followed(where.directory, where.emergency, seconds):
            if as_json:
                typer.echo(json.dumps(asdict(change)))
            else:
                show.changed(change)
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


class Mesh(StrEnum):
    """Whose manifests are read."""

    dapr = "dapr"
    istio = "istio"


@app.command("import")
def import_(
    mesh: Annotated[Mesh, typer.Argument(help="Whose manifests they are.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="As kubectl takes them.")],
    as_json: JSON = False,
) -> None:
    """Make a config document of what operators wrote for Dapr (Resiliency) or Istio (DestinationRule, VirtualService).

    What it cannot say is reported beside it, value by value: nothing is left out in silence.
    """
    from . import dapr, imported, istio

    readers = {Mesh.dapr: dapr.READERS, Mesh.istio: istio.READERS}[mesh]
    try:
        made = imported.read(files, readers)
    except ConfigError as exc:
        _refuse(str(exc))
    if as_json:
        _print_json({"document": made.document(), "remarks": [asdict(each) for each in made.remarks]})
    else:
        typer.echo(imported.text(made), nl=False)
        show.remarks(made.remarks)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the config document, for editors and for the checks of a repository.

    It says what each key may be; what must fit together is for `resilient check`.
    """
    from ..config.schema import schema as of_documents

    _print_json(of_documents())


def _share(text: str) -> tuple[str, float]:
    """The name of a dependency, and how busy it is."""
    name, given, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1 or (given and not name):
        _refuse(
            f"--utilisation: {text!r} must be a share, more than 0 and at most 1; write payments=0.8, or 0.6"
        )
    return name or "*", value


def _moment(text: str | None) -> float:
    """Seconds since the epoch."""
    if text is None:
        return time.time()
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        _refuse(f"--at: {text!r} must be a moment with its offset; write --at 2026-11-11T00:00:00+08:00")
    return moment.timestamp()


def _host(name: str) -> str:
    if "/" not in name and name.count(":") != 1:
        return name.removeprefix("[").removesuffix("]")  # as IPv6 stands in a URL
    # Not shown as it is: a URL may have a password, and this ends up in logs.
    place = re.split("[/?#]", name.partition("://")[2] or name)[0].rpartition("@")[2]
    address, _, rest = place.removeprefix("[").partition("]")  # as IPv6 stands in a URL
    host, _, port = (address, "", rest.removeprefix(":")) if place.startswith("[") else place.partition(":")
    instead = f"resilient resolve {host or 'payments.shop.svc'}{f' --port {port}' if port else ''}"
    _refuse(f"NAME: this is not a host alone; write {instead}")


def _port(port: str) -> int | str:
    if port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536:
        return int(port)
    if not is_port_name(port):
        _refuse(
            f"--port: {port!r} is neither 1 to 65535 nor the name of a port; write --port 8080 or --port http"
        )
    return port


def _dns(given: str | None, namespace: str | None, zone: str | None) -> Dns | None:
    """Whom to ask: as said, else as the library finds out."""
    found = detect()
    if given is not None:
        servers = tuple(each.strip() for each in given.split(","))
        found = Dns(servers) if found is None else replace(found, nameservers=servers)
    if found is None:
        if namespace or zone:
            _refuse("--namespace and --zone: this is not in a cluster; say whom to ask: --dns 127.0.0.1:5353")
        return None
    return replace(found, zone=zone or found.zone, namespace=namespace or found.namespace)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"resilient: {message}\n")
    raise typer.Exit(2)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))
