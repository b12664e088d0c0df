"""`python -m examples.demo`: a minute of faults, three ways to call, one scorecard."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from pathlib import Path

from rich.console import Console, RenderableType

from . import schedule
from .columns import TITLES
from .runner import Broken, Ran, Settings, run
from .schedule import Plan
from .score import JUDGED, Card, Verdict, judge, score
from .screen import Screen, scorecard

BUSY = 0.1
"""Seconds of lateness of the load from which on the machine was too busy for its times to mean much."""
_WIDTH = 90


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description="A minute of faults, three ways to call, one scorecard."
    )
    parser.add_argument("--seed", type=int, default=1, help="repeats a fault schedule (default: 1)")
    parser.add_argument("--fast", action="store_true", help="ten seconds instead; judged by counts alone")
    parser.add_argument("--json", action="store_true", help="print the scorecard as JSON, and nothing else")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="write a picture of the scorecard")
    parser.add_argument(
        "--break-key",
        action="store_true",
        help="have `resilient` send its key under a name that payments does not read: the judge must fail it",
    )
    return parser.parse_args(arguments)


def as_json(plan: Plan, cards: dict[str, Card], verdicts: list[Verdict], cpu: float) -> str:
    """The scorecard for machines."""
    told = {
        "seed": plan.seed,
        "fast": plan.fast,
        "faults": [fault._asdict() for fault in plan.faults],
        "columns": {name: card.as_dict() for name, card in cards.items()},
        "verdicts": [verdict._asdict() for verdict in verdicts],
        "passed": all(verdict.passed for verdict in verdicts),
        "cpu": cpu,
    }
    return json.dumps(told, indent=2)


def as_svg(picture: RenderableType) -> str:
    """The scorecard as a picture, which loads nothing from anywhere when it is looked at."""
    with Path(os.devnull).open("w") as nowhere:
        recorder = Console(record=True, width=_WIDTH, file=nowhere, force_terminal=True)
        recorder.print(picture)
    drawn = recorder.export_svg(title="make demo")
    return re.sub(r"@font-face {.*?}", "", drawn, flags=re.DOTALL)  # fonts from a server of somebody else's


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit status."""
    options = parse(arguments)
    plan = schedule.plan(options.seed, fast=options.fast)
    console = Console()
    settings = Settings(plan, options.break_key)
    live = None if options.json or not console.is_terminal else Screen(console).watch
    try:
        ran = asyncio.run(run(settings, live))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing is left behind", file=sys.stderr)
        return 130
    except Broken as exc:
        print(exc, file=sys.stderr)
        return 2
    return report(options, plan, ran, console)


def report(options: argparse.Namespace, plan: Plan, ran: Ran, console: Console) -> int:
    """Print what the run gave; the exit status."""
    cards = {name: score(name, plan, *ran.lanes[name]) for name in TITLES}
    verdicts = judge(cards[JUDGED], fast=plan.fast)
    picture = scorecard(plan, cards, verdicts)
    if options.json:
        print(as_json(plan, cards, verdicts, ran.cpu))
    else:
        console.print(picture)
        if max(card.lag_p99 for card in cards.values()) > BUSY:
            console.print("[yellow]This machine was too busy: orders were begun late, and times mean little.")
    if options.svg is not None:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(as_svg(picture), encoding="utf-8")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
