"""A stream whose end came while the policies had not yet said what is to be done at the end kept its permit for ever:
the answers of a quick server were all there before the bulkhead heard of the first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import pytest

import resilient.grpc
from resilient import Bulkhead, Policy
from resilient.core.policy import Site
from tests.adapters.grpc_sides import Client, Server, policies

P = ParamSpec("P")
R = TypeVar("R")


class UntilItIsOver(Policy):
    """Gives the bulkhead the stream when all of it has come."""

    kind = "until_it_is_over"

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            unfinished: Any = inner(*args, **kwargs)
            assert unfinished.result.code() is not None  # gRPC waits for the end
            return unfinished  # type: ignore[no-any-return]  # it is what was given

        return call

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            unfinished: Any = await inner(*args, **kwargs)
            await unfinished.result.code()
            return unfinished  # type: ignore[no-any-return]  # it is what was given

        return call


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_sync(kind: str) -> None:
    bulkhead = Bulkhead(1)
    with Server() as server:
        # One answer, for gRPC gives no end before its reader took what came.
        server.parts = ()
        with Client("sync", server.port, policies=policies(bulkhead, UntilItIsOver())) as client:
            for _ in range(2):
                watch = getattr(client.channel, kind)(f"/shop.{kind}/Watch")
                stream = watch([b"x"] if kind.startswith("stream") else b"x")
                assert list(stream) == [b"x"]
                assert bulkhead.in_flight == 0


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
def test_async(kind: str) -> None:
    bulkhead = Bulkhead(1)

    async def work() -> None:
        target, given = f"127.0.0.1:{server.port}", policies(bulkhead, UntilItIsOver())
        async with resilient.grpc.async_channel("svc", target, policies=given) as channel:
            for _ in range(2):
                watch = getattr(channel, kind)(f"/shop.{kind}/Watch")
                call = watch(
                    iter([b"x"]) if kind == "stream_unary" else b"x" if kind.startswith("unary") else [b"x"]
                )
                if kind.endswith("stream"):
                    assert [each async for each in call] == [b"x"]
                else:
                    assert await call == b"x"
                assert bulkhead.in_flight == 0

    with Server() as server:
        server.parts = ()
        asyncio.run(work())
