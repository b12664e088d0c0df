"""``python -m benchmarks``: every figure that has a budget, PASS or FAIL. The exit status is 1 where one fails."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.measure import QUICK, THOROUGH, Outcome
from benchmarks.rows import GROUPS, measure

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="NAME", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it runs, not what it costs")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, metavar="PATH", help="where the figures are written"
    )
    asked = parser.parse_args(arguments)
    outcomes: dict[str, Outcome] = {}
    for group in asked.only or _here():
        try:
            outcomes[group] = measure(group, QUICK if asked.quick else THOROUGH)
        except ModuleNotFoundError as exc:
            print(f'{exc.name} is not installed: pip install -e ".[bench]"', file=sys.stderr)
            return 2
        for line in report.group_lines(group, outcomes[group]):
            print(line)
        print(flush=True)
    report.write(asked.json, report.as_json(outcomes, quick=asked.quick))
    failed = report.failed(outcomes)
    print(f"FAILED: {', '.join(failed)}" if failed else "every budget is kept")
    return 1 if failed else 0


def _here() -> list[str]:
    """The groups that can be measured here: Envoy has no wheel for macOS."""
    return [group for group in GROUPS if group != "hop" or sys.platform != "darwin"]


if __name__ == "__main__":
    sys.exit(main())
