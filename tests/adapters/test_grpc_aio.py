"""What a call of grpc.aio gives its caller works as that of a bare channel; and what is cancelled leaves nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

import resilient.grpc
from resilient import (
    Bulkhead,
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    OutcomeUnknown,
    Pipeline,
    Retry,
    Timeout,
)
from resilient.core.call import NO_CALL, current_call
from resilient.core.outcome import Evidence
from tests.adapters.grpc_sides import Code, Server, faulty, nobody, policies, report, silence

bare_or_not = pytest.mark.parametrize("bare", [True, False], ids=["bare", "ours"])
EVERY = lambda method: True  # noqa: E731 - an argument


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in a loop of its own, and see to it that no task is left."""

    async def all_of_it() -> None:
        await work()
        gc.collect()
        for _ in range(50):
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if not left:
                return
            await asyncio.sleep(0.01)
        assert not left

    asyncio.run(all_of_it())


def channel(port: int, *, bare: bool = False, **given: Any) -> grpc.aio.Channel:
    if bare:
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}", **given)
    given.setdefault("policies", policies())
    return resilient.grpc.async_channel("svc", f"127.0.0.1:{port}", **given)


def say(context: grpc.ServicerContext) -> None:
    context.send_initial_metadata((("x-head", "1"),))
    context.set_trailing_metadata((("x-tail", "2"),))


def has(metadata: Any, key: str, value: str) -> bool:
    return (key, value) in [tuple(each) for each in metadata]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread, or gRPC, does."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.005)
    assert holds()


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
def test_a_call_with_one_answer(bare: bool, kind: str) -> None:
    async def work() -> None:
        async with channel(server.port, bare=bare) as made:
            call = getattr(made, kind)(f"/shop.{kind}/Get")(
                [b"x"] if kind.startswith("stream") else b"x", timeout=5
            )
            over = asyncio.Event()
            told: list[Any] = []
            call.add_done_callback(lambda done: (told.append(done), over.set()))
            assert not call.done()
            assert await call == b"x"
            assert await call == b"x"
            assert await call.code() is Code.OK
            assert await call.details() == ""
            assert has(await call.initial_metadata(), "x-head", "1")
            assert has(await call.trailing_metadata(), "x-tail", "2")
            await asyncio.wait_for(over.wait(), 5)
            assert len(told) == 1
            assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
            await call.wait_for_connection()

    with Server() as server:
        server.steps["Get"] = [say]
        run(work)


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_call_with_a_stream_of_answers(bare: bool, kind: str) -> None:
    async def work() -> None:
        async with channel(server.port, bare=bare) as made:
            get = getattr(made, kind)(f"/shop.{kind}/Get")
            request: Any = [b"1", b"2", b"x"] if kind.startswith("stream") else b"x"
            call = get(request, timeout=5)
            assert [each async for each in call] == [b"1", b"2", b"x"]
            assert await call.code() is Code.OK
            assert has(await call.initial_metadata(), "x-head", "1")
            assert has(await call.trailing_metadata(), "x-tail", "2")
            assert call.done()
            assert not call.cancelled()
            read = get(request, timeout=5)
            assert [await read.read() for _ in range(4)] == [b"1", b"2", b"x", grpc.aio.EOF]
            assert await read.read() is grpc.aio.EOF

    with Server() as server:
        server.steps["Get"] = [say]
        run(work)


@bare_or_not
def test_messages_that_are_written(bare: bool) -> None:
    async def work() -> None:
        async with channel(server.port, bare=bare) as made:
            talk = made.stream_stream("/shop.stream_stream/Talk")()
            for each in (b"1", b"2", b"3"):
                await talk.write(each)
                assert await talk.read() == each
            await talk.done_writing()
            assert await talk.read() is grpc.aio.EOF
            assert await talk.code() is Code.OK
            put = made.stream_unary("/shop.stream_unary/Put")()
            await put.write(b"1")
            await put.write(b"2")
            await put.done_writing()
            assert await put == b"12"
            assert await put.code() is Code.OK

    with Server() as server:
        run(work)


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_an_error(bare: bool, kind: str) -> None:
    def fail(context: grpc.ServicerContext) -> None:
        say(context)
        context.abort(Code.NOT_FOUND, "no such order")

    async def work() -> None:
        async with channel(server.port, bare=bare) as made:
            for request in [[b"x"], gives()] if kind.startswith("stream") else [b"x"]:
                server.steps["Get"] = [fail]
                call = getattr(made, kind)(f"/shop.{kind}/Get")(request)
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    if kind.endswith("stream"):
                        async for _ in call:
                            pass
                    else:
                        await call
                assert raised.value.code() is await call.code() is Code.NOT_FOUND
                assert raised.value.details() == await call.details() == "no such order"
                assert has(await call.trailing_metadata(), "x-tail", "2")
                assert call.done()

    async def gives() -> AsyncIterator[bytes]:
        yield b"x"

    with Server() as server:
        # grpc.aio puts INTERNAL in place of the status of whoever answers while a message is being written.
        server.hears_out = True
        run(work)


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
@pytest.mark.parametrize("by", ["call", "task"])
def test_a_call_that_is_cancelled(bare: bool, kind: str, by: str) -> None:
    bulkhead = Bulkhead(1)

    async def work() -> None:
        given = {} if bare else {"policies": policies(bulkhead)}
        async with channel(port, bare=bare, **given) as made:
            call = getattr(made, kind)(f"/shop.{kind}/Get")([b"x"] if kind.startswith("stream") else b"x")

            async def wait() -> None:
                if kind.endswith("stream"):
                    async for _ in call:
                        pass
                else:
                    await call

            task = asyncio.ensure_future(wait())
            await until(lambda: bool(did))
            (call if by == "call" else task).cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await call.code() is Code.CANCELLED
            assert call.cancelled()
            assert call.done()
            assert bulkhead.in_flight == 0

    with faulty(silence) as (port, did):
        run(work)
        assert len(did) == 1


def test_cancelled_at_any_time_nothing_is_lost() -> None:
    bulkhead, breaker = Bulkhead(4, queue=4, max_wait=1.0), CircuitBreaker(minimum_calls=10_000)

    async def work() -> None:
        given: dict[str, Any] = {"policies": policies(breaker, bulkhead), "idempotent": EVERY}
        async with channel(server.port, **given) as made:
            for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
                get = getattr(made, kind)(f"/shop.{kind}/Get")

                async def use(request: Any, get: Any = get, kind: str = kind) -> None:
                    if kind.endswith("stream"):
                        async for _ in get(request):
                            pass
                    else:
                        await get(request)

                for ticks in range(60):
                    server.steps["Get"] = [Code.UNAVAILABLE] * (ticks % 2)
                    task = asyncio.ensure_future(use([b"x"] if kind.startswith("stream") else b"x"))
                    for _ in range(ticks):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await until(lambda: bulkhead.in_flight == 0)
            assert current_call() is NO_CALL
            assert breaker.state == "closed"
            assert await made.unary_unary("/shop.unary_unary/Other")(b"x") == b"x"

    with Server() as server:
        run(work)


def test_a_stream_that_is_cancelled_gives_its_permit_back_at_once() -> None:
    bulkhead = Bulkhead(1)

    async def work() -> None:
        async with channel(server.port, policies=policies(bulkhead)) as made:
            call = made.unary_stream("/shop.unary_stream/Watch")(b"x")
            assert await call.read() == b"1"
            assert bulkhead.in_flight == 1
            assert call.cancel()
            assert bulkhead.in_flight == 0

    with Server() as server:
        run(work)


def test_a_stream_that_nobody_reads_gives_its_permit_back_at_its_deadline() -> None:
    bulkhead, breaker = Bulkhead(1), CircuitBreaker(consecutive=1)

    async def work() -> None:
        ended = asyncio.Event()

        async def forever() -> AsyncIterator[bytes]:
            await ended.wait()
            yield b""

        of = policies(breaker, bulkhead, attempt=0.2)
        async with channel(port, policies=of) as made:
            call = made.stream_stream("/shop.stream_stream/Watch")(forever())
            await until(lambda: bulkhead.in_flight > 0)
            await until(lambda: bulkhead.in_flight == 0)
            ended.set()
            assert breaker.state == "open"
            with pytest.raises(resilient.TimedOut) as raised:
                await call.read()
            assert raised.value.code() is Code.DEADLINE_EXCEEDED  # type: ignore[attr-defined]  # it is gRPC's too

    with faulty(silence) as (port, _):
        run(work)


def test_what_is_written_and_not_answered_may_have_happened() -> None:
    async def work() -> None:
        async with channel(server.port) as made:
            server.steps["Put"] = [Code.UNAVAILABLE]
            put = made.stream_unary("/shop.stream_unary/Put")()
            await put.write(b"1")
            await put.done_writing()
            with pytest.raises(OutcomeUnknown) as raised:
                await put
            assert report(raised.value).why_not_retried == "body"
            assert raised.value.code() is Code.UNAVAILABLE  # type: ignore[attr-defined]  # it is gRPC's too

    with Server() as server:
        run(work)


def test_a_request_iterator_that_raises_ends_the_call_as_it_does_everywhere() -> None:
    breaker = CircuitBreaker(consecutive=1)

    def broken() -> Iterator[bytes]:
        yield b"1"
        raise RuntimeError("no more rows")

    async def work() -> None:
        async with channel(server.port, policies=policies(breaker)) as made:
            with pytest.raises(asyncio.CancelledError):
                await made.stream_unary("/shop.stream_unary/Put")(broken())
            assert breaker.state == "closed"

    with Server() as server:
        run(work)


def test_a_fallback() -> None:
    async def stale(rpc: resilient.grpc.Rpc) -> bytes:
        return b"stale " + bytes(rpc.request)

    async def several() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async def work() -> None:
        async with channel(server.port, policies=Pipeline(Fallback(stale), Retry(1), name="svc")) as made:
            call = made.unary_unary("/shop.unary_unary/Get")(b"x")
            assert await call == b"stale x"
            assert await call.code() is Code.OK
            assert call.done()
        made_anew = Fallback(lambda rpc: several())
        async with channel(server.port, policies=Pipeline(made_anew, Retry(1), name="svc")) as made:
            answers = made.unary_stream("/shop.unary_stream/Get")(b"x")
            assert [each async for each in answers] == [b"1", b"2"]
            assert await answers.code() is Code.OK
            talk = made.stream_stream("/shop.stream_stream/Get")([b"x"])
            assert [await talk.read() for _ in range(3)] == [b"1", b"2", grpc.aio.EOF]

    with Server() as server:
        server.steps["Get"] = [Code.INTERNAL] * 3
        run(work)


def test_interceptors_of_the_users_see_attempts() -> None:
    seen: list[Any] = []

    class Counting(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(
            self, continuation: Any, client_call_details: Any, request: Any
        ) -> Any:
            seen.append(client_call_details.timeout)
            return await continuation(client_call_details, request)

    async def work() -> None:
        async with channel(server.port, interceptors=[Counting()], idempotent=EVERY) as made:
            assert await made.unary_unary("/shop.unary_unary/Get")(b"x") == b"x"

    with Server() as server:
        server.steps["Get"] = [Code.UNAVAILABLE]
        run(work)
    assert len(seen) == 2
    assert all(0 < each <= 10.01 for each in seen)


def test_interceptors_alone_cannot_know_that_nothing_was_sent() -> None:
    async def work() -> None:
        given = resilient.grpc.async_interceptors("svc", policies=policies())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=given) as made:
            with pytest.raises(OutcomeUnknown) as raised:
                await made.unary_unary("/shop.unary_unary/Place")(b"x")
            assert report(raised.value).evidence is Evidence.UNKNOWN

    with nobody() as port:
        run(work)


def test_the_deadline_ends_the_wait_for_a_connection() -> None:
    async def work() -> None:
        async with channel(port) as made:
            with pytest.raises(DeadlineExceeded) as raised:
                await made.unary_unary("/shop.unary_unary/Place")(b"x", wait_for_ready=True, timeout=0.2)
            assert report(raised.value).evidence is Evidence.NOT_SENT

    with nobody() as port:
        run(work)


def test_many_at_once() -> None:
    async def work() -> None:
        of = Pipeline(Timeout(20.0), Retry(3, wait=0, idempotent=False), Bulkhead(200), name="svc")
        async with channel(server.port, policies=of) as made:
            get = made.unary_unary("/shop.unary_unary/Get")
            answers = await asyncio.gather(*(get(b"%d" % number) for number in range(100)))
            assert list(answers) == [b"%d" % number for number in range(100)]

    with Server() as server:
        run(work)
        assert server.count("Get") == 100
