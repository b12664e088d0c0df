"""What a service would take, and an operator might regret."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config.decode import Target
from ..config.document import Pointer
from ..config.live import Live
from ..config.snapshot import Snapshot
from ..core.backoff import Backoff
from ..core.options import seconds
from ..core.pipeline import Pipeline
from ..flags.plans import Plan
from ..policies.ratelimit.options import NANOSECONDS, parse_rate

UTILISATION = 0.9
"""Above it a callee does not recover from an outage while clients retry, whatever their budget."""


_DOES = {"forced_open": "every call is turned away", "observe": "it only watches"}


@dataclass(frozen=True)
class Worst:
    """What a dependency may cost at worst.

    Attributes:
        dependency: its name.
        latency: seconds that a call takes at most, its waits included.
        attempts: of one call, at most.
        amplification: requests for each call, while every one of them fails for longer than the budget's window.
    """

    dependency: str
    latency: float
    attempts: int
    amplification: float


@dataclass(frozen=True)
class Doubt:
    """Something that is probably not meant."""

    pointer: Pointer
    said: str


class Numbers:
    """The numbers of a dependency, as `standard` has them under a document."""

    def __init__(self, live: Live, name: str) -> None:
        self._live = live
        self._name = name

    def __getitem__(self, leaf: str) -> Any:
        return self._live.explain(f"{self._name}.{leaf}").value

    def backoff(self) -> Backoff:
        """How long its retries wait."""
        return Backoff(*(self[f"retry.wait.{each}"] for each in ("base", "cap", "factor", "jitter")))

    def attempts_take(self) -> float:
        """Seconds that all attempts and the waits between them take at most."""
        wait, attempts = self.backoff(), self["retry.attempts"]
        waits = math.fsum(wait.ceiling(retry) for retry in range(1, attempts))
        return float(attempts * self["timeout.attempt"] + waits)

    def worst(self) -> Worst:
        """What a call may cost."""
        attempts, ratio = self["retry.attempts"], self["retry.budget.ratio"]
        latency = min(self["timeout.total"], self.attempts_take())
        return Worst(self._name, latency, attempts, min(attempts, 1 + ratio) if attempts > 1 else 1.0)


def of_target(numbers: Numbers, name: str, said: Target, utilisation: float | None) -> Iterator[Doubt]:
    """What is doubtful in what a document says of a dependency.

    Args:
        said: by kind of policy.
        utilisation: of the callee, 0 to 1, in a usual hour; None: nobody knows.
    """

    def at(*leaf: str) -> Pointer:
        return ("resiliency", "targets", name, *leaf)

    attempts, total, take = numbers["retry.attempts"], numbers["timeout.total"], numbers.attempts_take()
    if ("retry" in said or "timeout" in said) and take > total:
        yield Doubt(
            at("timeout" if "timeout" in said else "retry"),
            f"{attempts} attempts of {seconds(numbers['timeout.attempt'])} and their waits take up to {seconds(take)}, "
            f"and the call has {seconds(total)}: the last ones are cut short",
        )
    ratio = numbers["retry.budget.ratio"]
    if utilisation is not None and attempts > 1 and utilisation * (1 + ratio) > UTILISATION:
        most = UTILISATION / utilisation - 1
        instead = (
            f"write budget: {{ratio: {math.floor(most * 100) / 100:g}}}"
            if most >= 0.01
            else "write attempts: 1"
        )
        yield Doubt(
            at("retry") if "retry" in said else at(),
            f"at {utilisation:.0%} utilisation retries of {ratio:.0%} load the callee with "
            f"{utilisation * (1 + ratio):.0%}, and it may not recover from an outage; {instead}",
        )
    yield from _suspended(said, at)
    yield from _breaker(numbers, said, at)


def _suspended(said: Target, at: Callable[..., Pointer]) -> Iterator[Doubt]:
    """Policies that somebody switched by hand, and may have forgotten."""
    for kind, of_kind in said.items():
        state = of_kind.values.get("state")
        if state is not None:
            does = _DOES.get(state) or (
                "nothing is retried" if kind == "retry" else "nothing protects the callee"
            )
            yield Doubt(at(kind, "state"), f"{state}: {does}; is that still meant?")


def _breaker(numbers: Numbers, said: Target, at: Callable[..., Pointer]) -> Iterator[Doubt]:
    if (
        "ratelimit" not in said
        or "rate" not in said["ratelimit"].values
        or numbers["breaker.count"] is not None
    ):
        return
    rate, window = said["ratelimit"].values["rate"], numbers["breaker.window"]
    calls = window * NANOSECONDS / parse_rate(rate).interval
    if calls < numbers["breaker.minimum_calls"]:
        yield Doubt(
            at("ratelimit", "rate"),
            f"{rate} is {calls:g} calls in the breaker's window of {seconds(window)}, and it judges their ratio from "
            f"{numbers['breaker.minimum_calls']} on: it never does; write breaker: {{window: ...}} or minimum_calls",
        )


def of_policies(tree: Mapping[str, Any]) -> Iterator[Doubt]:
    """Named policies that no target refers to."""
    resiliency = tree.get("resiliency", {})
    used = {
        (kind, said if isinstance(said, str) else said.get("use"))
        for target in resiliency.get("targets", {}).values()
        for kind, said in target.items()
        if isinstance(said, (str, dict))
    }
    for kind, named in resiliency.get("policies", {}).items():
        for name in named:
            if (kind, name) not in used:
                yield Doubt(("resiliency", "policies", kind, name), "no target refers to it")


def of_flags(tree: Mapping[str, Any], today: datetime.date) -> Iterator[Doubt]:
    """Features that nobody owns or that have outlived their day, and levels that do nothing."""
    steps: set[str] = set()
    for key, flag in tree.get("flags", {}).items():
        metadata = flag.get("metadata") or {}
        ladder = str(metadata.get("degrade") or "")
        steps |= {step.partition(":")[0].strip() for step in ladder.split(",") if step}
        if ladder and not metadata.get("owner"):
            yield Doubt(
                ("flags", key),
                'nobody is named whom to ask before it is degraded; write metadata: {owner: "a team"}',
            )
        expires = metadata.get("expires")
        if expires is None:
            continue
        try:
            day = datetime.date.fromisoformat(str(expires)[:10])
        except ValueError:
            yield Doubt(
                ("flags", key, "metadata", "expires"), f'{expires!r} is no day; write "2027-01-31", in quotes'
            )
            continue
        if day < today:
            yield Doubt(
                ("flags", key, "metadata", "expires"),
                f"{day} is over: remove the flag from code and document, or give it another day",
            )
    for number, level in enumerate(tree.get("degradation", {}).get("levels", ())):
        if number and not steps & {str(number), level}:
            yield Doubt(("degradation", "levels", number), f"no feature changes at level {number} ({level})")


def of_plans(plans: Mapping[str, Plan], today: datetime.date) -> Iterator[Doubt]:
    """Plans that nobody owns, that are over, or that are switched on for good."""
    for name, plan in plans.items():
        if not plan.owner:
            instead = 'nobody is named whom to ask while it holds; write owner: "a team"'
            yield Doubt(("plans", name), instead)
        if plan.window is not None:
            over = datetime.datetime.fromtimestamp(plan.window.end, tz=datetime.UTC).date()
            if over < today:
                said = f"its window is over since {over}: remove it, or give it another one"
                yield Doubt(("plans", name, "window", "end"), said)
            elif not plan.active:
                yield Doubt(
                    ("plans", name, "active"), "switched off: it will not hold in its window; is that meant?"
                )
        elif plan.active:
            yield Doubt(
                ("plans", name, "active"),
                "it holds now, until somebody switches it off; is that still meant?",
            )


def of_document(
    snapshot: Snapshot,
    targets: Mapping[str, Target],
    tree: Mapping[str, Any],
    utilisation: Mapping[str, float],
    today: datetime.date,
    plans: Mapping[str, Plan],
    live: Callable[[str, Snapshot], tuple[Live, Pipeline]],
) -> tuple[list[Worst], list[Doubt]]:
    """All of it.

    Args:
        targets: those that `standard` can take.
        utilisation: of the callees, by name of the dependency; ``*`` is all others.
        today: what flags expire by.
        plans: those of the document.
        live: gives what would follow the document for a dependency, and the pipeline that it holds weakly.
    """
    worst: list[Worst] = []
    doubts: list[Doubt] = []
    for name, said in targets.items():
        follower, _pipeline = live(name, snapshot)
        follower.apply(snapshot)
        numbers = Numbers(follower, name)
        worst.append(numbers.worst())
        doubts += of_target(numbers, name, said, utilisation.get(name, utilisation.get("*")))
    return worst, [*doubts, *of_policies(tree), *of_flags(tree, today), *of_plans(plans, today)]
