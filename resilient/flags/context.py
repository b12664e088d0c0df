"""Which features of the current request were degraded: for a header of its answer, and for caches.

One context variable. It holds nothing until somebody collects, so that a thread which serves many requests does not
carry what one of them met into the next."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType


class _Block:
    """One time that a block was entered."""

    __slots__ = ("found", "open", "owner")

    def __init__(self, owner: Collecting) -> None:
        self.owner = owner
        self.found: dict[str, str] = {}
        self.open = True


_BLOCKS: ContextVar[tuple[_Block, ...]] = ContextVar("resilient_degraded", default=())
"""The blocks around this code, the outermost first; those that were left elsewhere are not open any more."""


def note(feature: str, variant: str, /) -> None:
    """A feature was met in a degraded variant."""
    for block in _BLOCKS.get():
        if block.open:
            block.found[feature] = variant


def noted() -> dict[str, str]:
    """What the innermost block has collected; a copy."""
    for block in reversed(_BLOCKS.get()):
        if block.open:
            return block.found.copy()
    return {}


class Collecting:
    """A block that collects; see `Features.collecting`."""

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: list[_Block] = []

    def __enter__(self) -> dict[str, str]:
        block = _Block(self)
        self._entered.append(block)
        _BLOCKS.set((*(each for each in _BLOCKS.get() if each.open), block))
        return block.found

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        # Not by a token: generators leave their blocks in any order, and a coroutine that was left behind in another
        # context, where nothing can be put back.
        blocks = _BLOCKS.get()
        here = (each for each in reversed(blocks) if each.owner is self and each.open)
        left = next(here, None) or self._entered[-1]
        self._entered.remove(left)
        left.open = False
        _BLOCKS.set(tuple(each for each in blocks if each.open))
