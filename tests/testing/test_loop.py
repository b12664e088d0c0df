"""The asyncio loop of `ManualClock`: timers in virtual time, sockets and threads in real time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from resilient.testing import DeadlockError, ManualClock


def test_an_hour_passes_at_once() -> None:
    clock = ManualClock()

    async def main() -> str:
        try:
            async with asyncio.timeout(3600.0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "not"

    assert clock.run(main()) == "timed out"
    assert clock.monotonic() == 3600.0


def test_timers_run_in_order_and_at_their_times() -> None:
    clock = ManualClock(7.0)
    seen: list[tuple[str, float]] = []

    async def worker(name: str, *waits: float) -> None:
        for wait in waits:
            await asyncio.sleep(wait)
            seen.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        asyncio.get_running_loop().call_later(2.5, lambda: seen.append(("timer", clock.monotonic())))
        await asyncio.gather(worker("a", 1.0, 3.0), worker("b", 2.0, 0.25))

    clock.run(main())
    assert seen == [("a", 8.0), ("b", 9.0), ("b", 9.25), ("timer", 9.5), ("a", 11.0)]


@pytest.mark.parametrize("start", [0.0, 0.1, 1e6 / 3, 1e9 / 3, 1e12])
def test_no_start_is_too_large(start: float) -> None:
    clock = ManualClock(start)

    async def main() -> None:
        for _ in range(10):
            await asyncio.sleep(0.1)

    clock.run(main())
    assert clock.monotonic() == pytest.approx(start + 1.0, abs=1e-3)


def test_a_year_is_one_jump() -> None:
    clock = ManualClock()
    clock.run(asyncio.sleep(365 * 86_400.0))
    assert clock.monotonic() == 365 * 86_400.0


def test_cancelled_timers_move_nothing() -> None:
    clock = ManualClock()

    async def main() -> None:
        async with asyncio.timeout(10.0):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(50.0, print).cancel()
        await asyncio.sleep(1.0)

    clock.run(main())
    assert clock.monotonic() == 1.0


def test_moving_the_clock_inside_fires_timers() -> None:
    clock = ManualClock()

    async def main() -> float:
        sleeper = asyncio.create_task(asyncio.sleep(5.0))
        await asyncio.sleep(0)
        clock.sleep(5.0)  # what blocking code inside a coroutine does
        await sleeper
        return clock.monotonic()

    assert clock.run(main()) == 5.0


def test_anyio_runs_on_it_too() -> None:
    clock = ManualClock()

    async def main() -> bool:
        with anyio.move_on_after(60.0) as scope:
            await anyio.sleep_forever()
        return scope.cancelled_caught

    assert anyio.run(main, backend_options={"loop_factory": clock.loop})
    assert clock.monotonic() == 60.0


def test_alarms_of_the_clock_are_jumped_to() -> None:
    clock = ManualClock()

    async def main() -> float:
        done = asyncio.Event()
        clock.call_at(3.0, done.set)
        async with asyncio.timeout(10.0):
            await done.wait()
        return clock.monotonic()

    assert clock.run(main()) == 3.0


# -- threads


def test_time_waits_for_executor_jobs() -> None:
    clock = ManualClock()
    go = threading.Event()

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, go.set)  # the loop is about to be idle, and the job runs
        async with asyncio.timeout(1.0):
            await asyncio.to_thread(go.wait)
            with ThreadPoolExecutor(1) as executor:
                return await loop.run_in_executor(executor, lambda: "back")

    assert clock.run(main()) == "back"
    assert clock.monotonic() == 0.0


def test_an_abandoned_job_holds_nothing() -> None:
    clock = ManualClock()
    go = threading.Event()

    async def main() -> None:
        job = asyncio.create_task(asyncio.to_thread(go.wait))
        await asyncio.sleep(0)
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job
        await asyncio.sleep(30.0)
        go.set()

    clock.run(main())
    assert clock.monotonic() == 30.0


def test_ending_the_executor_takes_no_virtual_time(recwarn: pytest.WarningsRecorder) -> None:
    clock = ManualClock()
    loop = clock.loop()
    go = threading.Event()
    job = loop.run_in_executor(None, go.wait)
    job.cancel()
    loop.call_later(0.0, go.set)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert clock.monotonic() == 0.0
    assert not recwarn.list


def test_a_held_clock_waits_for_any_thread() -> None:
    clock = ManualClock()

    async def main() -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        idle = threading.Event()
        loop.call_soon(loop.call_soon, idle.set)
        hold = clock.hold()
        hold.__enter__()

        def work() -> None:
            idle.wait()
            with contextlib.ExitStack() as stack:
                stack.push(hold)
                loop.call_soon_threadsafe(done.set_result, "called")

        thread = threading.Thread(target=work)
        thread.start()
        async with asyncio.timeout(1.0):
            result = await done
        thread.join()
        return result

    assert clock.run(main()) == "called"
    assert clock.monotonic() == 0.0


def test_time_goes_on_when_the_hold_ends() -> None:
    clock = ManualClock()

    async def main() -> None:
        hold = clock.hold()
        hold.__enter__()
        thread = threading.Thread(target=hold.__exit__, args=(None, None, None))
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, thread.start)
        await asyncio.sleep(5.0)
        thread.join()

    clock.run(main())
    assert clock.monotonic() == 5.0


def test_call_soon_threadsafe_from_many_threads() -> None:
    clock = ManualClock()
    count = 0

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def called() -> None:
            nonlocal count
            count += 1
            if count == 800:
                done.set()

        def work() -> None:
            for _ in range(100):
                loop.call_soon_threadsafe(called)

        threads = [threading.Thread(target=work) for _ in range(8)]
        with clock.hold():
            for thread in threads:
                thread.start()
            async with asyncio.timeout(1.0):
                await done.wait()
        for thread in threads:
            thread.join()

    clock.run(main())
    assert count == 800
    assert clock.monotonic() == 0.0


def test_a_thread_that_nobody_announced_is_waited_for_before_nothing_is_declared_to_come() -> None:
    clock = ManualClock()

    async def main() -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, "called"))
        loop.call_soon(loop.call_soon, thread.start)
        result = await done
        thread.join()
        return result

    assert clock.run(main()) == "called"


# -- sockets


def test_sockets_work_and_are_heard_before_time_jumps() -> None:
    clock = ManualClock()
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with theirs:
            theirs.sendall(theirs.recv(10).upper())

    thread = threading.Thread(target=answer)
    thread.start()

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection(sock=ours)
        async with asyncio.timeout(1.0):
            writer.write(b"hello")
            data = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return data

    assert clock.run(main()) == b"HELLO"
    assert clock.monotonic() == 0.0
    thread.join()


def test_a_silent_socket_lets_time_pass() -> None:
    clock = ManualClock(io_grace=0.0)
    ours, theirs = socket.socketpair()

    async def main() -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30.0):
                await reader.read(1)
        writer.close()
        await writer.wait_closed()

    with theirs:
        clock.run(main())
    assert clock.monotonic() == 30.0


def test_server_and_client_in_one_loop() -> None:
    clock = ManualClock(io_grace=0.0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readline()
        await asyncio.sleep(2.0)
        writer.write(data)
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            data = await reader.read()
            writer.close()
            await writer.wait_closed()
            return data

    assert clock.run(main()) == b"hello\n"
    assert clock.monotonic() == 2.0


# -- nothing left


def test_says_so_when_nothing_can_go_on() -> None:
    clock = ManualClock()

    async def forgotten() -> None:
        await asyncio.sleep(5.0)
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"at time 5\.0: no timer") as caught:
        clock.run(forgotten())
    assert "test_loop.py" in str(caught.value)
    assert "forgotten" in str(caught.value)


def test_says_which_threads_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient.testing.loop._PATIENCE", 0.01)
    clock = ManualClock()
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="somebody")
    thread.start()
    try:
        with pytest.raises(DeadlockError, match=r"threads alive: .*somebody.*hold"):
            clock.run(asyncio.Event().wait())
    finally:
        go.set()
        thread.join()


# -- without autojump


def test_without_autojump_advance_fires_timers() -> None:
    clock = ManualClock(autojump=False)
    seen: list[float] = []

    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(2.0)
            seen.append(clock.monotonic())

    thread = threading.Thread(target=lambda: clock.run(main()))
    thread.start()
    for expected in ([], [2.0], [2.0, 4.0]):
        clock.wait_until_blocked()
        assert seen == expected
        clock.advance(1.5)
        clock.wait_until_blocked()
        assert seen == expected
        clock.advance(0.5)
    thread.join()
    assert seen == [2.0, 4.0, 6.0]


def test_threads_and_a_loop_share_one_time() -> None:
    clock = ManualClock(autojump=False)
    order: list[str] = []

    async def main() -> None:
        await asyncio.sleep(1.0)
        order.append("task")

    def sleeper() -> None:
        clock.sleep(2.0)
        order.append("thread")

    threads = [threading.Thread(target=lambda: clock.run(main())), threading.Thread(target=sleeper)]
    for thread in threads:
        thread.start()
    clock.wait_until_blocked(2)
    clock.advance(1.0)
    threads[0].join()
    clock.advance(1.0)
    threads[1].join()
    assert order == ["task", "thread"]
