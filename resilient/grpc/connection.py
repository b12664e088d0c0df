"""Whether a channel has a connection: asked before an RPC that must not happen twice is handed to gRPC.

gRPC sends an RPC when it can, and of one that failed does not say whether it was sent. One that it was never given was
not. So where repeating is safe only then, it is given nothing before the channel has a connection; the wait is that
which gRPC would make."""

from __future__ import annotations

import threading
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
        channel: as ``grpc.insecure_channel`` gave it.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._core = _core_of(channel)

    def wait(self, seconds: float, clock: Clock, *, patient: bool) -> State:
        """Have it connect, and wait until it is clear whether it can; the state then."""
        ends = _ends(patient)
        if self._core is not None:
            try:
                number = self._core.check_connectivity_state(True)
            except ValueError:
                return CLOSED
            known = next(state for state in State if state.value[0] == number)
            if known in ends or seconds <= 0:
                return known
        over = threading.Lock()
        over.acquire()
        last = [State.IDLE]

        def heard(state: State) -> None:
            last[0] = state
            if state in ends and over.locked():
                over.release()

        self._channel.subscribe(heard, try_to_connect=True)
        try:
            clock.acquire(over, seconds)
        finally:
            self._channel.unsubscribe(heard)
        return last[0]


def _core_of(channel: Any) -> Any:
    """What answers at once which state a channel is in. The sync API only has ``subscribe``, which asks it from a
    thread; so where gRPC's core is found it is asked directly, and else by that. An instrumented channel has the plain
    one inside."""
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
