"""For people: tables, in colours where there is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.options import seconds

if TYPE_CHECKING:  # what reads documents may be what is not installed, and `doctor` is to say so
    from ..config.records import Change
    from .documents import Checked, Explained
    from .health import Finding
    from .imported import Remark
    from .lookups import Asked, Resolved

MOST_ROWS = 20
"""Records and endpoints that are shown of one answer."""

_SIGNS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "bad": ("BAD", "bold red")}
_WIDE = 160  # columns where there is no terminal: a file, a pipe, a log


def _console() -> Console:
    # Without markup: what is shown comes from outside, and an IPv6 address stands in brackets.
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)


def _columns() -> Table:
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def resolved(found: Resolved) -> None:
    """What would be done with a name."""
    console = _console()
    facts = _columns()
    whose = {"cluster": "the cluster's", "address": "an address", "ordinary": "for the ordinary resolver"}
    facts.add_row("name", found.name)
    facts.add_row("it is", f"{whose[found.kind]} ({found.why})")
    if found.absolute is not None:
        facts.add_row("looked up", found.absolute)
        facts.add_row("nameservers", ", ".join(found.nameservers))
    facts.add_row("port", f"{found.port}, by SRV" if isinstance(found.port, str) else str(found.port))
    console.print(facts)
    for asked in found.asked:
        console.print()
        console.print(_asked(asked))
    console.print()
    if found.trouble:
        console.print(Text(f"dials nothing: {found.trouble}", style="bold red"))
        return
    dials = _columns()
    for number, place in enumerate(found.dials[:MOST_ROWS]):
        dials.add_row("" if number else "dials", place)
    if len(found.dials) > MOST_ROWS:
        dials.add_row("", f"and {len(found.dials) - MOST_ROWS} more")
    if found.refresh is not None:
        dials.add_row("", f"asked again after {found.refresh:g} s, +-20 %")
    console.print(dials)


def _asked(asked: Asked) -> Table:
    table = _columns()
    table.add_row("asked", asked.name, asked.kind, "", "" if asked.records else asked.status)
    for record in asked.records[:MOST_ROWS]:
        table.add_row("", record.name, record.kind, f"{record.ttl} s", record.data)
    if len(asked.records) > MOST_ROWS:
        table.add_row("", f"and {len(asked.records) - MOST_ROWS} more", "", "", "")
    return table


def findings(found: Iterable[Finding]) -> None:
    """What was found, and what to do about it."""
    table = _columns()
    for each in found:
        sign, style = _SIGNS[each.state]
        table.add_row(Text(sign, style=style), each.what, Text(each.said))
        if each.do:
            table.add_row("", "", Text(f"-> {each.do}", style="bold"))
    _console().print(table)


def checked(found: Iterable[Checked]) -> None:
    """Each document, and what is wrong with it: a line each, as compilers do it."""
    console = _console()
    for each in found:
        said = f"dependencies: {each.dependencies}, features: {each.features}"
        _line(console, "ok" if each.good else "bad", each.path, said if each.good else "would be refused")
        for worst in each.worst[:MOST_ROWS]:
            console.print(
                f"     {worst.dependency}: at worst {seconds(round(worst.latency, 3))} a call, "
                f"attempts: {worst.attempts}, requests for each call in an outage: {worst.amplification:g}",
                soft_wrap=True,
            )
        for problem in each.problems:
            place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
            said = f"{problem.pointer}: {problem.said}" if problem.pointer else problem.said
            _line(console, "warning" if problem.warning else "bad", place, said)


def _line(console: Console, state: str, place: str, said: str) -> None:
    sign, style = _SIGNS[state]
    console.print(Text.assemble((f"{sign:<5}", style), f"{place}: ", said), soft_wrap=True)


def remarks(found: Iterable[Remark]) -> None:
    """What a document does not say; beside it, so that it can be written to a file."""
    console = Console(highlight=False, markup=False, emoji=False, stderr=True)
    for each in found:
        _line(console, "warning", f"{each.file}: {each.at}", each.said)


def differing(found: Iterable[str]) -> None:
    """A line for each thing that is another."""
    console = _console()
    for each in found:
        console.print(each, soft_wrap=True)


def changed(change: Change) -> None:
    """A change of what is in force, and what it was."""
    at = time.strftime("%H:%M:%S", time.localtime(change.at))
    bad = change.result == "rejected"
    facts = [
        f"generation {change.generation}" if change.generation else "",
        f"version {change.version}" if change.version else "",
        f"by {change.changed_by}" if change.changed_by else "",
        change.ticket or "",
        f"again that of generation {change.rollback_of}" if change.rollback_of else "",
        change.reason or "",
    ]
    from .changes import said

    console = _console()
    line = f"{change.source}{': ' if any(facts) else ''}{', '.join(filter(None, facts))}"
    style = _SIGNS["bad" if bad else "ok"][1]
    console.print(Text.assemble(f"{at} ", (f"{change.result:<14}", style), line), soft_wrap=True)
    for each in change.differences:
        console.print(f"         {said(each)}", soft_wrap=True)
    if change.count > len(change.differences):
        console.print(f"         and {change.count - len(change.differences)} more")


def explained(found: Explained) -> None:
    """A value, and why it is that."""
    where = f" at {found.place}" if found.place else ""
    console = _console()
    layer = "emergency document" if found.layer == "emergency" else found.layer
    console.print(f"{found.key} = {found.value} (from the {layer}{where})")
    console.print(found.why)
