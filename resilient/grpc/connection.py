"""Whether a channel has a connection: asked before an RPC that must not happen twice is handed to gRPC.

gRPC sends an RPC when it can, and of one that failed does not say whether it was sent. One that it was never given was
not. So where repeating is safe only then, it is given nothing before the channel has a connection; the wait is that
which gRPC would make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from ..core.clock import Clock
from ..core.loops import within

State = grpc.ChannelConnectivity

READY, FAILING, CLOSED = State.READY, State.TRANSIENT_FAILURE, State.SHUTDOWN
GOOD = (READY, CLOSED)
"""What may be handed to gRPC: of a closed channel it says so best itself."""


def _ends(patient: bool) -> tuple[State, ...]:
    """States that are not waited on: without ``wait_for_ready`` gRPC fails a call as soon as it could not connect."""
    return (READY, CLOSED) if patient else (READY, CLOSED, FAILING)


class SyncConnection:
    """That of a channel of the sync API.

    Args:
        core: gRPC's core of the channel; see `core_of`.
    """

    def __init__(self, core: Any) -> None:
        self._core = core

    def wait(self, seconds: float, clock: Clock, *, patient: bool, given_up: Callable[[], bool]) -> State:
        """Have it connect, and wait until it is clear whether it can, or nobody wants to know; the state then."""
        ends, end, pause = _ends(patient), clock.monotonic() + seconds, _SHORTEST_PAUSE
        while True:
            state = self._state()
            if state in ends or given_up():
                return state
            left = end - clock.monotonic()
            if left <= 0:
                return state
            clock.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _state(self) -> State:
        try:
            number = self._core.check_connectivity_state(True)
        except ValueError:
            return CLOSED
        return next(state for state in State if state.value[0] == number)


_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02
"""Seconds between two looks at the state. To be told of it costs a thread for each channel, which dies with a traceback
where the channel is closed."""


def core_of(channel: Any, /) -> Any:
    """What answers at once which state a channel is in; None where it is not found, and so nothing is known. The sync
    API has no ``get_state``, and keeps this for itself. An instrumented channel has the plain one inside."""
    for _ in range(8):
        channel = getattr(channel, "_channel", None)
        if hasattr(channel, "check_connectivity_state"):
            return channel
    return None


class AsyncConnection:
    """That of a channel of ``grpc.aio``."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def wait(self, seconds: float, clock: Clock, *, patient: bool) -> State:
        """As `SyncConnection.wait`."""
        ends, channel = _ends(patient), self._channel
        end = clock.monotonic() + seconds
        state: State = channel.get_state(try_to_connect=True)
        while state not in ends:
            try:
                await within(max(0.0, end - clock.monotonic()), channel.wait_for_state_change, state)
            except TimeoutError:
                break
            state = channel.get_state(try_to_connect=True)
        return state
