"""Admission through one gate as a block of code."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Generic, TypeVar

from .clock import Clock
from .errors import PolicyError
from .policy import Gate, Wait
from .rows import Admission

T = TypeVar("T")


class Guard(Generic[T]):
    """Admission through one gate as a block: ``with`` and ``async with``. See `Gate.guard`.

    May be entered again, also inside itself."""

    __slots__ = ("_clock", "_gate", "_inside")

    def __init__(self, gate: Gate[T], clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._inside: list[Admission] = []

    def __enter__(self) -> T:
        admission = Admission((self._gate,), self._clock, None)
        if _loop_is_running():
            # A blocking wait would stop the loop, and with it whoever could end the wait.
            admission.now = self._clock.monotonic()
            permit = self._gate.admit(admission.now)
            if permit.__class__ is Wait:
                self._gate.abandon(permit, admission.now)
                raise PolicyError(
                    f"{self._gate.kind}.guard(): `with` would have to wait inside a running event loop; write "
                    "`async with`"
                )
            admission.permits.append(permit)
        else:
            admission.enter()
        return self._entered(admission)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._inside.pop().leave(exc)

    async def __aenter__(self) -> T:
        admission = Admission((self._gate,), self._clock, None)
        await admission.aenter()
        return self._entered(admission)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._inside.pop().leave(exc)

    def _entered(self, admission: Admission) -> T:
        self._inside.append(admission)
        permit: T = admission.permits[0]
        return permit


def _loop_is_running() -> bool:
    asyncio = sys.modules.get("asyncio")  # not loaded: no loop of it can be running
    return asyncio is not None and asyncio._get_running_loop() is not None
