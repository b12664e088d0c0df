"""The library's events, collected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.events import Event, subscribe


class CapturedEvents:
    """What `capture_events` gives: the events so far. Safe to read while other threads emit.

    Attributes:
        events: all of them, in the order in which they were told.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    @property
    def names(self) -> list[str]:
        """The name of each event, such as ``"resilient.retry.scheduled"``."""
        return [event.name for event in list(self.events)]

    def named(self, name: str, /) -> list[Event]:
        """The events of one name; a name that ends in a dot stands for all that begin with it."""
        return [
            event
            for event in list(self.events)
            if event.name == name or (name.endswith(".") and event.name.startswith(name))
        ]

    def clear(self) -> None:
        """Forget all so far."""
        self.events.clear()

    def __repr__(self) -> str:
        return f"CapturedEvents({self.events!r})"


@contextmanager
def capture_events() -> Iterator[CapturedEvents]:
    """Collect every event of the library, from all threads and tasks, while inside.

    What was collected can still be read afterwards.

    Example:
        >>> from resilient import Bulkhead, BulkheadFull
        >>> bulkhead = Bulkhead(1)
        >>> @bulkhead
        ... def work(again):
        ...     return work(False) if again else "done"
        >>> with capture_events() as seen:
        ...     try:
        ...         work(True)
        ...     except BulkheadFull:
        ...         pass
        >>> [event.by for event in seen.named("resilient.rejected")]
        ['bulkhead']
    """
    captured = CapturedEvents()
    # list.append is one atomic step of the interpreter: no lock is needed, whoever emits
    stop = subscribe(captured.events.append)
    try:
        yield captured
    finally:
        stop()
