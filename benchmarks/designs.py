"""Retry budgets of others, written down from their sources, for the simulation.

Each answers two questions: may this retry be made, and what happened. Nothing here is a library; the figures are the
defaults that each of them ships with.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Design(Protocol):
    """What a simulated client asks, with the time in seconds."""

    def began(self, now: float, /) -> None:
        """A logical call began."""

    def ended(self, now: float, good: bool, attempt: int, /) -> None:
        """An attempt ended; a failed one may be retried next."""

    def allows(self, now: float, /) -> bool:
        """Whether a retry may be scheduled; True: it is paid for."""
        ...


class Fixed:
    """As many attempts as there are, whatever happens."""

    def began(self, now: float, /) -> None:
        pass

    def ended(self, now: float, good: bool, attempt: int, /) -> None:
        pass

    def allows(self, now: float, /) -> bool:
        return True


class Never(Fixed):
    """No retry."""

    def allows(self, now: float, /) -> bool:
        return False


class Grpc(Fixed):
    """gRPC A6: up to ``most`` tokens; a failure takes 1, a success brings ``ratio``; retries while more than half is
    left."""

    def __init__(self, most: float = 10.0, ratio: float = 0.1) -> None:
        self.most = most
        self.ratio = ratio
        self.tokens = most

    def ended(self, now: float, good: bool, attempt: int, /) -> None:
        self.tokens = min(self.most, self.tokens + self.ratio) if good else max(0.0, self.tokens - 1)

    def allows(self, now: float, /) -> bool:
        return self.tokens > self.most / 2


class Within:
    """How often something happened in the last seconds."""

    def __init__(self, window: float) -> None:
        self.window = window
        self.times: deque[float] = deque()

    def add(self, now: float) -> None:
        self.times.append(now)

    def count(self, now: float) -> int:
        while self.times and self.times[0] <= now - self.window:
            self.times.popleft()
        return len(self.times)


class Finagle(Fixed):
    """Finagle RetryBudget: of the calls of the last 10 s a fifth, and 10 a second on top."""

    def __init__(self, ratio: float = 0.2, floor: float = 10.0, window: float = 10.0) -> None:
        self.ratio = ratio
        self.reserve = floor * window
        self.calls = Within(window)
        self.retries = Within(window)

    def began(self, now: float, /) -> None:
        self.calls.add(now)

    def allows(self, now: float, /) -> bool:
        if self.retries.count(now) + 1 > self.ratio * self.calls.count(now) + self.reserve:
            return False
        self.retries.add(now)
        return True


class Aws(Fixed):
    """botocore's retry quota: 500 tokens, a retry takes ``cost`` and gets it back when it succeeds; first-try success
    brings 1."""

    def __init__(self, cost: int = 5, most: int = 500) -> None:
        self.cost = cost
        self.most = most
        self.tokens = most

    def ended(self, now: float, good: bool, attempt: int, /) -> None:
        if good:
            self.tokens = min(self.most, self.tokens + (1 if attempt == 1 else self.cost))

    def allows(self, now: float, /) -> bool:
        if self.tokens < self.cost:
            return False
        self.tokens -= self.cost
        return True


class Envoy(Fixed):
    """Envoy's retry_budget: retries that wait or run, at most a fifth of the requests in flight, and 3 at least."""

    def __init__(self, share: float = 0.2, least: int = 3) -> None:
        self.share = share
        self.least = least
        self.active = 0
        self.retrying = 0

    def began(self, now: float, /) -> None:
        self.active += 1

    def ended(self, now: float, good: bool, attempt: int, /) -> None:
        self.active -= 1
        if attempt > 1:
            self.retrying -= 1

    def allows(self, now: float, /) -> bool:
        if self.retrying >= max(self.least, self.share * self.active):
            return False
        self.retrying += 1
        self.active += 1
        return True


class Sre(Fixed):
    """The SRE book: retries up to a tenth of the requests of the last two minutes."""

    def __init__(self, share: float = 0.1, window: float = 120.0) -> None:
        self.share = share
        self.calls = Within(window)
        self.retries = Within(window)

    def began(self, now: float, /) -> None:
        self.calls.add(now)

    def allows(self, now: float, /) -> bool:
        if self.retries.count(now) + 1 > self.share * self.calls.count(now):
            return False
        self.retries.add(now)
        return True
