"""``python -m benchmarks.plot``: the pictures and tables of docs/performance.md, from the JSON of a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from benchmarks.__main__ import RESULTS
from benchmarks.budget_table import Cell
from benchmarks.report import number

IMAGES = Path(__file__).parents[1] / "docs" / "images"
OURS, FLOOR, OTHERS = "#1f6f5c", "#8a8f98", "#c9ccd1"
LOAD, SUCCESS = "load / attempts per call", "success / %"


def colour(name: str) -> str:
    if name.startswith("resilient") or name.endswith(": resilient"):
        return OURS
    return FLOOR if "floor" in name or name.startswith("raise") or name in ("httpx", "httpx2") else OTHERS


def bars(title: str, race: list[dict[str, Any]], path: Path) -> None:
    """One bar per contender, the cheapest on top."""
    ordered = sorted((each for each in race if each["name"] != "bare call"), key=lambda each: -each["ns"])
    names = [each["name"] for each in ordered]
    values = [each["ns"] / 1000 for each in ordered]
    figure, axes = plt.subplots(figsize=(8.0, 0.36 * len(names) + 1.1))
    drawn = axes.barh(names, values, color=[colour(name) for name in names])
    axes.bar_label(drawn, labels=[f"{value:.3g}" for value in values], padding=4, fontsize=9)
    axes.margins(x=0.12)
    axes.set_xlabel("microseconds of CPU per call")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def budgets(table: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Load and success over the share of attempts that fail, for every design."""
    figure, (load, success) = plt.subplots(1, 2, figsize=(9.6, 4.4))
    columns = [column for column in next(iter(table.values())) if column.endswith("%")]
    for name, row in table.items():
        ours = name == "resilient"
        style = {"color": OURS, "linewidth": 2.6, "zorder": 3} if ours else {"linewidth": 1.1, "alpha": 0.8}
        load.plot(columns, [row[column][0] for column in columns], label=name, **style)
        success.plot(columns, [100 * row[column][1] for column in columns], **style)
    for axes, label in ((load, LOAD), (success, SUCCESS)):
        axes.set_xlabel("attempts that fail")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    load.legend(fontsize=8, frameon=False)
    save(figure, path)


def callers(table: dict[str, dict[str, float]], path: Path) -> None:
    """Requests a second by the number of callers, a bar for each client."""
    figure, axes = plt.subplots(figsize=(8.0, 3.2))
    names = list(next(iter(table.values())))
    shades = {"resilient.httpx": OURS, "httpx": FLOOR, "httpx-retries": OTHERS}
    for i, name in enumerate(names):
        at = [group + 0.2 * i for group in range(len(table))]
        drawn = axes.bar(
            at, [row[name] for row in table.values()], 0.19, label=name, color=shades.get(name, "#e3c58f")
        )
        axes.bar_label(drawn, fmt="{:,.0f}", fontsize=8, padding=2)
    axes.set_xticks(
        [group + 0.3 for group in range(len(table))],
        [f"{each} async caller{'s' * (each != '1')}" for each in table],
    )
    axes.set_ylabel("requests / s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    save(figure, path)


def tables(run: dict[str, Any]) -> Iterator[str]:
    """The tables of the page, as markdown: what has a budget, what has none, the retry budgets."""
    kept = [row for row in run["rows"] if row["budget"]]
    told = [row for row in run["rows"] if not row["budget"]]
    yield from ("| figure | measured | budget | |", "|---|---:|---:|---|")
    for row in kept:
        yield f"| {row['what']} | {number(row['median'], row['unit'])} | {row['budget']} | {row['verdict']} |"
    yield from ("", "| beside | measured |", "|---|---:|")
    for row in told:
        yield f"| {row['what']} | {number(row['median'], row['unit'])} |"
    budgets = run["tables"].get("retry budgets", {})
    for name, cells in budgets.items():
        if name == next(iter(budgets)):
            yield from ("", f"| load / success | {' | '.join(cells)} |", f"|---|{'---|' * len(cells)}")
        yield f"| {name} | {' | '.join(str(Cell(*cell)) for cell in cells.values())} |"


def same_everywhere() -> None:
    """The same numbers give the same file."""
    mpl.rcParams.update({"svg.hashsalt": "resilient", "svg.fonttype": "none", "font.size": 9})


def save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("json", type=Path, nargs="?", default=RESULTS, help="what a run has written")
    parser.add_argument("--into", type=Path, default=IMAGES, help="directory of the pictures")
    asked = parser.parse_args()
    run = json.loads(asked.json.read_text())
    same_everywhere()
    asked.into.mkdir(parents=True, exist_ok=True)
    print("\n".join(tables(run)))
    races = run["races"]
    pictures = (
        ("sync", "sync: a call that succeeds at once"),
        ("async", "async: a call that succeeds at once"),
        ("refusal", "refusal: a call that is turned away"),
        ("failing", "retry: three failing attempts, no delay"),
        ("http-sync", "http: GET over loopback, sync"),
        ("http-async", "http: GET over loopback, async"),
    )
    for name, title in pictures:
        if title in races:
            bars(title, races[title], asked.into / f"{name}.svg")
    if "retry budgets" in run["tables"]:
        budgets(run["tables"]["retry budgets"], asked.into / "retry-budgets.svg")
    if "requests/s by callers" in run["tables"]:
        callers(run["tables"]["requests/s by callers"], asked.into / "callers.svg")


if __name__ == "__main__":
    main()
