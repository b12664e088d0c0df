"""Which features of the current request were degraded: for a header of its answer, and for caches.

One context variable. It holds nothing until somebody collects, so that a thread which serves many requests does not
carry what one of them met into the next."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

_COLLECTING: ContextVar[tuple[dict[str, str], ...]] = ContextVar("resilient_degraded", default=())
"""The blocks around this code, the outermost first."""


def note(feature: str, variant: str, /) -> None:
    """A feature was met in a degraded variant."""
    for found in _COLLECTING.get():
        found[feature] = variant


def noted() -> dict[str, str]:
    """What the innermost block has collected; a copy."""
    blocks = _COLLECTING.get()
    return dict(blocks[-1]) if blocks else {}


class Collecting:
    """A block that collects; see `Features.collecting`."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: list[Token[tuple[dict[str, str], ...]]] = []

    def __enter__(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self._tokens.append(_COLLECTING.set((*_COLLECTING.get(), found)))
        return found

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        token = self._tokens.pop()
        try:
            _COLLECTING.reset(token)
        except (
            ValueError
        ):  # a coroutine that was left behind is closed in another context: nothing to put back
            pass
