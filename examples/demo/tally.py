"""What each policy did, counted from the events of `resilient`; and how punctual the load was."""

from __future__ import annotations

from collections import Counter
from typing import Any

from resilient import Event

from . import guarded

LONG_WAIT = 1.0
"""Seconds: a retry that waits so long does so because payments asked for it (``Retry-After: 1``)."""


class Tally:
    """A listener that counts.

    Attributes:
        counts: by what happened; see `as_dict`.
        transitions: of the breaker, ``old -> new``, in order.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.transitions: list[str] = []
        self._longest_wait = 0.0
        self._peak = 0
        self._lags: list[float] = []

    def __call__(self, event: Event) -> None:
        fields = event.fields()
        match event.name:
            case "resilient.retry.scheduled":
                self.counts["retries"] += 1
                self.counts["retries_after_asked"] += fields["delay"] >= LONG_WAIT
            case "resilient.retry.suppressed":
                self.counts[f"not_retried_{fields['reason']}"] += 1
            case "resilient.retry.exhausted":
                self.counts["retries_exhausted"] += 1
            case "resilient.attempt.finished":
                self.counts["attempts"] += 1
                self.counts["attempts_timed_out"] += fields["outcome"] == "timeout"
            case "resilient.call.finished":
                self.counts["deadlines"] += fields["error_type"] == "DeadlineExceeded"
            case "resilient.rejected":
                self.counts[f"rejected_{fields['by']}"] += 1
            case "resilient.limiter.waited":
                self.counts[f"waited_{fields['kind']}"] += 1
                self._longest_wait = max(self._longest_wait, fields["duration"])
            case "resilient.breaker.transition":
                self.counts[f"breaker_{fields['new']}"] += 1
                self.transitions.append(f"{fields['old']} -> {fields['new']}")

    def sample(self) -> None:
        """Look at the bulkhead, as a request is sent."""
        self._peak = max(self._peak, guarded.POLICIES["bulkhead"].in_flight)

    def late(self, lag: float) -> None:
        """An order was begun ``lag`` seconds after it arrived."""
        self._lags.append(lag)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        lags = sorted(self._lags) or [0.0]
        return {
            "counts": dict(self.counts),
            "breaker": guarded.POLICIES["breaker"].state,
            "transitions": self.transitions,
            "longest_wait": round(self._longest_wait, 4),
            "peak_in_flight": self._peak,
            "lag_p99": round(lags[int(len(lags) * 0.99)], 4),
        }
