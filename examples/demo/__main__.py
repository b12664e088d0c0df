"""`python -m examples.demo`: two acts of faults, and a scorecard of each.

The first calls one failing service in three ways; in the second the same call goes through a cluster of replicas, and
an operator steers it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.text import Text

from . import schedule
from .cluster import card as cluster_card
from .cluster import screen as cluster_screen
from .cluster.director import act
from .cluster.timeline import timeline
from .columns import TITLES
from .runner import Broken, Settings, run
from .score import JUDGED, judge, score
from .screen import Screen, scorecard

BUSY = 0.1
"""Seconds of lateness of the load from which on the machine was too busy for its times to mean much."""
_WIDTH = 90


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Faults in two acts: one service, called in three ways; and a cluster that an operator steers.",
    )
    parser.add_argument("--act", type=int, choices=tuple(ACTS), help="one of the two acts alone")
    parser.add_argument("--seed", type=int, default=1, help="repeats a fault schedule (default: 1)")
    parser.add_argument(
        "--fast", action="store_true", help="about ten seconds for each act; judged by counts alone"
    )
    parser.add_argument("--json", action="store_true", help="print the scorecards as JSON, and nothing else")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="write a picture of the scorecards")
    parser.add_argument(
        "--break-key",
        action="store_true",
        help="have `resilient` send its key under a name that payments does not read: the judge must fail it",
    )
    return parser.parse_args(arguments)


class Outcome(NamedTuple):
    """What an act gave: a picture, the same for machines, and whether all rules hold."""

    picture: RenderableType
    told: dict[str, Any]
    passed: bool


async def first(options: argparse.Namespace, console: Console, live: bool) -> Outcome:
    """One failing service, called in three ways."""
    plan = schedule.plan(options.seed, fast=options.fast)
    ran = await run(Settings(plan, options.break_key), Screen(console).watch if live else None)
    cards = {name: score(name, plan, *ran.lanes[name]) for name in TITLES}
    verdicts = judge(cards[JUDGED], fast=plan.fast)
    picture = scorecard(plan, cards, verdicts)
    if max(card.lag_p99 for card in cards.values()) > BUSY:
        busy = "This machine was too busy: orders were begun late, and times mean little."
        picture = Group(picture, Text(busy, style="yellow"))
    told = {
        "faults": [fault._asdict() for fault in plan.faults],
        "columns": {name: card.as_dict() for name, card in cards.items()},
        "verdicts": [verdict._asdict() for verdict in verdicts],
        "cpu": ran.cpu,
    }
    return Outcome(picture, told, all(verdict.passed for verdict in verdicts))


async def second(options: argparse.Namespace, console: Console, live: bool) -> Outcome:
    """A cluster of replicas, steered by an operator."""
    plan = timeline(options.seed, fast=options.fast)
    acted = await act(plan, cluster_screen.Screen(console).watch if live else None)
    card = cluster_card.score(plan, acted.orders, acted.pods, acted.recommenders, acted.audit, acted.tally)
    verdicts = cluster_card.judge(card, fast=plan.fast)
    told = {
        "steps": [step._asdict() for step in plan.steps],
        "card": card.as_dict(),
        "verdicts": [verdict._asdict() for verdict in verdicts],
    }
    picture = cluster_screen.scorecard(plan, card, verdicts)
    return Outcome(picture, told, all(verdict.passed for verdict in verdicts))


ACTS = {1: ("service", first), 2: ("cluster", second)}


def as_svg(picture: RenderableType) -> str:
    """A scorecard as a picture, which loads nothing from anywhere when it is looked at."""
    with Path(os.devnull).open("w") as nowhere:
        recorder = Console(record=True, width=_WIDTH, file=nowhere, force_terminal=True)
        recorder.print(picture)
    drawn = recorder.export_svg(title="make demo")
    return re.sub(r"@font-face {.*?}", "", drawn, flags=re.DOTALL)  # fonts from a server of somebody else's


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit status."""
    options = parse(arguments)
    console = Console()
    live = not options.json and console.is_terminal
    outcomes: dict[str, Outcome] = {}
    try:
        for number, (name, play) in ACTS.items():
            if options.act in (None, number):
                outcomes[name] = asyncio.run(play(options, console, live))
                if not options.json:
                    console.print(outcomes[name].picture)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing is left behind", file=sys.stderr)
        return 130
    except Broken as exc:
        print(exc, file=sys.stderr)
        return 2
    passed = all(outcome.passed for outcome in outcomes.values())
    if options.json:
        acts = {name: outcome.told for name, outcome in outcomes.items()}
        print(json.dumps({"seed": options.seed, "fast": options.fast, "passed": passed, **acts}, indent=2))
    if options.svg is not None:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        picture = Group(*(outcome.picture for outcome in outcomes.values()))
        options.svg.write_text(as_svg(picture), encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
