"""Evaluations, told: each that has not been seen since the last document, and a sample of the rest.

OpenTelemetry asks for an event of every evaluation, which no hot path can pay for. What callers get is one of a few
results for each flag; each of them is told when it is first met."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ..core.events import RUNTIME, FlagEvaluated, emit
from .following import FOLLOWING
from .snapshot import FlagDetails
from .state import STATE

MOST = 10_000
"""Results that are known as seen; more, of names that come from outside, are only sampled."""
_LONGEST = 100  # characters of a flag's name that came from who knows where


class Evaluations:
    """What is told of evaluations in this process. Thread-safe.

    Attributes:
        on: whether anything is.
    """

    def __init__(self) -> None:
        self.on = False
        self._sample = 0.0
        self._seen: set[Any] = set()  # two threads may both find a result new: it is told twice then

    def begin(self, sample: float, /) -> None:
        """Tell from now on; of what was seen before, this share."""
        self._sample, self._seen, self.on = sample, set(), True
        FOLLOWING.add(self)

    def end(self) -> None:
        self.on = False
        FOLLOWING.remove(self)

    def tell(self, key: str, found: FlagDetails[Any] | None, /) -> None:
        """An evaluation; of what no document has with ``found`` None. Asked only while `on`."""
        if not RUNTIME.listeners:
            return
        if found is None:
            error = "FLAG_NOT_FOUND" if STATE.ready else "PROVIDER_NOT_READY"
            found = FlagDetails(key, None, None, reason="ERROR", cause="code_default", error=error)
        name = str(key)[:_LONGEST]
        result = (name, found.variant, found.cause, found.error)
        seen = self._seen
        if result in seen or len(seen) >= MOST:
            if random.random() >= self._sample:
                return
        else:
            seen.add(result)
        emit(
            FlagEvaluated(
                name,
                "evaluation",
                variant=found.variant,
                reason=found.reason.lower(),
                cause=found.cause,
                error=None if found.error is None else found.error.lower(),
                flag_set=found.metadata.get("flagSetId"),
                version=found.metadata.get("version"),
            )
        )

    # ---------------------------------------------------------------------------------------------- as a follower
    def published(self, changed: Sequence[str], /) -> None:
        self._seen = set()

    def withdrawn(self, changed: Sequence[str], /) -> None:
        self._seen = set()

    def refused(self, problem: str, /) -> None:
        pass

    def recovered(self) -> None:
        pass


EVALUATIONS = Evaluations()
