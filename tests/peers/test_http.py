"""httpx-retries, urllib3 and clientwright: what becomes of connections, bodies and `Retry-After`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import Pipeline, Retry, TimedOut, Timeout
from resilient.testing import ManualClock, Origin, answer
from tests.peers.peer import defect, peer


@pytest.mark.peers
def test_httpx_retries_takes_a_new_connection_for_every_attempt() -> None:
    module = peer("httpx_retries")
    transport = module.RetryTransport(retry=module.Retry(total=5, backoff_factor=0.0))
    with Origin() as origin, httpx.Client(transport=transport) as client:
        origin.script(503, 503, 503, 503, 503)
        assert client.get(origin.url).status_code == 200
        used = origin.connections
    defect(used == 6, "httpx-retries", f"6 attempts over {used} connections")


def test_our_attempts_share_one_connection() -> None:
    with Origin() as origin, resilient.httpx.client("peers-keep-alive", base_url=origin.url) as client:
        origin.script(503, 503)
        assert client.get("/").status_code == 200
        assert len(origin.requests) == 3
        assert origin.connections == 1


@pytest.mark.peers
def test_httpx_retries_hides_the_answer_behind_a_stream_consumed() -> None:
    module = peer("httpx_retries")
    transport = module.RetryTransport(
        retry=module.Retry(total=2, backoff_factor=0.0, allowed_methods=["POST"])
    )

    def body() -> Iterator[bytes]:
        yield b"once"

    with Origin() as origin, httpx.Client(transport=transport) as client:
        origin.script(503, 503, 503)
        with pytest.raises(Exception) as caught:
            client.post(origin.url, content=body())
    defect(
        isinstance(caught.value, httpx.StreamConsumed),
        "httpx-retries",
        f"{caught.value!r} in place of the 503",
    )


def test_a_body_that_cannot_be_sent_again_leaves_us_the_answer() -> None:
    def body() -> Iterator[bytes]:
        yield b"once"

    with Origin() as origin, resilient.httpx.client("peers-body", base_url=origin.url) as client:
        origin.script(503, 503, 503)
        response = client.put("/", content=body())
        assert response.status_code == 503
        assert len(origin.requests) == 1


def test_a_server_cannot_hold_us_for_hours() -> None:
    """urllib3 honours a `Retry-After` of up to 6 hours."""
    with Origin() as origin, resilient.httpx.client("peers-retry-after", base_url=origin.url) as client:
        origin.script(answer(503, headers={"Retry-After": "21600"}))
        assert client.get("/").status_code == 503
        assert len(origin.requests) == 1


@pytest.mark.peers
def test_urllib3_would_wait_for_hours_and_wait_for_nothing() -> None:
    retry = peer("urllib3").Retry()
    seen = (retry.total, retry.backoff_factor, retry.backoff_jitter, set(retry.status_forcelist))
    defect(
        seen == (10, 0, 0.0, set()) and retry.parse_retry_after("21600") == 21_600,
        "urllib3",
        f"10 retries, no backoff, no jitter, no status; but 6 h where the server says so: {seen}",
    )


# ------------------------------------------------------------------------------------------------ what is the default
@pytest.mark.peers
def test_httpx_retries_asks_a_broken_server_eleven_times_without_a_pause() -> None:
    module = peer("httpx_retries")
    with Origin() as origin, httpx.Client(transport=module.RetryTransport()) as client:
        origin.always(503)
        assert client.get(origin.url).status_code == 503
        asked = len(origin.requests)
    pauses = module.Retry().backoff_factor
    defect((asked, pauses) == (11, 0.0), "httpx-retries", f"{asked} requests with pauses of {pauses} s")


def test_ours_asks_a_broken_server_three_times_with_pauses() -> None:
    clock = ManualClock()
    with (
        Origin(clock=clock) as origin,
        resilient.httpx.client(
            "peers-default", base_url=origin.url, policies=Pipeline(Retry(), clock=clock)
        ) as client,
    ):
        origin.always(503)
        assert client.get("/").status_code == 503
        assert len(origin.requests) == 3
    assert len(clock.sleeps) == 2


# ------------------------------------------------------------------------------------------------------ a POST again
@pytest.mark.peers
def test_httpx_retries_sends_a_post_again_without_a_key() -> None:
    module = peer("httpx_retries")
    transport = module.RetryTransport(
        retry=module.Retry(total=2, backoff_factor=0.0, allowed_methods=["POST"])
    )
    with Origin() as origin, httpx.Client(transport=transport) as client:
        origin.script(503)
        client.post(origin.url, content=b"pay")
        names = [{name.lower() for name, _ in request.headers} for request in origin.requests]
    missing = len(names) == 2 and not any("idempotency-key" in each for each in names)
    defect(missing, "httpx-retries", "two POSTs that a server cannot tell from two orders")


# --------------------------------------------------------------------------------------------- transports and time
def made(monkeypatch: pytest.MonkeyPatch, make: Any) -> list[str]:
    """Which of httpx' transports are made; each sets up TLS, which takes 25 ms."""
    seen: list[str] = []
    for kind in (httpx.HTTPTransport, httpx.AsyncHTTPTransport):

        def init(self: Any, *args: Any, kind: Any = kind, real: Any = kind.__init__, **kwargs: Any) -> None:
            seen.append(kind.__name__)
            real(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", init)
    make()
    return seen


@pytest.mark.peers
def test_httpx_retries_makes_a_sync_and_an_async_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = made(monkeypatch, peer("httpx_retries").RetryTransport)
    defect(len(seen) == 2, "httpx-retries", f"one client makes {seen}")


def test_a_client_of_ours_makes_no_transport_of_the_other_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> None:
        with resilient.httpx.client("peers-transport", base_url="http://127.0.0.1:9"):
            pass

    assert "AsyncHTTPTransport" not in made(monkeypatch, make)


def test_the_whole_time_of_ours_bounds_a_call_that_hangs() -> None:
    """The total of httpx-retries counts its own sleeps only."""
    clock = ManualClock()

    async def main() -> None:
        policies = Pipeline(Timeout(2.0), Retry(), clock=clock)
        async with resilient.httpx.async_client(
            "peers-total", base_url=origin.url, policies=policies
        ) as client:
            with pytest.raises(TimedOut):
                await client.get("/")

    with Origin(clock=clock) as origin:
        origin.always("hang")
        clock.run(main())
    assert clock.monotonic() == pytest.approx(2.0)
