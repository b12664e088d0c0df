"""The seam to tracing: who sends attempts asks here whether somebody wants to see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class AttemptSpan(Protocol):
    """One attempt, as a tracer sees it."""

    @property
    def recording(self) -> bool:
        """Whether anybody will see what is noted."""
        ...

    def note(self, attributes: Mapping[str, Any], /) -> None:
        """Further attributes of its span; not of metrics."""
        ...

    def end(self, *, status: int | None = None, error: BaseException | None = None) -> None:
        """The attempt is over: an answer with this status came, or it failed."""
        ...


class AttemptTracer(Protocol):
    """Told of every attempt over HTTP."""

    def begin(
        self, method: str, url: Any, headers: list[tuple[bytes, bytes]], resend_count: int, /
    ) -> AttemptSpan | None:
        """An attempt begins; may add headers (``traceparent``). ``url`` is the SDK's; ``resend_count`` is
        from 0."""
        ...


TRACER: AttemptTracer | None = None
"""Set by `resilient.instrument`."""
