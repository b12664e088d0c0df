"""What a client says of itself, and policies around a client that somebody else made."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import PolicyError, standard
from resilient.testing import ManualClock, Origin
from tests.http.calls import PLAIN, policies, report
from tests.http.sdk import bound, httpx


def lines(client: Any) -> dict[str, str]:
    first, *rest = bound.describe(client).splitlines()
    return {"": first} | {line[2:11].strip(): line[13:] for line in rest}


# ------------------------------------------------------------------------------------------------------- describe
def test_it_says_what_protects_and_where_it_sends() -> None:
    pipeline = standard("payments", attempts=2)
    with bound.client(
        "payments",
        base_url="http://payments.shop.svc:81",
        policies=pipeline,
        profile="supported",
        verify=PLAIN,
    ) as client:
        found = lines(client)
    assert found[""] == "payments: http://payments.shop.svc:81"
    assert found["policies"] == str(pipeline)
    assert found["sends"] == "HTTP/1.1"
    assert found["to"] == "found out with the first request"
    assert found["keys"] == "Idempotency-Key on POST and PATCH, honoured: these are repeated under one key"
    assert found["is told"] == "deadline, attempt and criticality"


def test_after_a_request_it_knows_its_endpoints() -> None:
    with (
        Origin() as one,
        Origin() as two,
        bound.client(
            "svc",
            base_url="http://svc",
            endpoints=[f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"],
            verify=PLAIN,
        ) as client,
    ):
        client.get("/")
        told = bound.describe(client)
        assert f"127.0.0.1:{one.port}: closed, 0 in flight" in told
        assert f"127.0.0.1:{two.port}: closed, 0 in flight" in told


@pytest.mark.parametrize(
    ("given", "sends"),
    [
        ({"proxy": "http://user:secret@proxy:3128"}, "HTTP/1.1, by the proxy http://proxy:3128"),
        ({"uds": "/run/x.sock"}, "HTTP/1.1, by the unix socket /run/x.sock"),
        ({"http2": True}, "HTTP/1.1 and HTTP/2"),
        ({"http2": True, "http1": False}, "HTTP/2"),
    ],
)
def test_how_it_sends(given: dict[str, Any], sends: str) -> None:
    client = bound.async_client("svc", base_url="https://api.example.com", verify=PLAIN, **given)
    found = lines(client)
    assert found["sends"] == sends
    assert found["is told"] == "nothing: it is not in the cluster"
    assert "secret" not in bound.describe(client)


def test_what_is_not_protected_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = httpx.MockTransport(lambda request: httpx.Response(200))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    with bound.client("svc", base_url="http://svc", mounts={"http://files": mine}, profile="none") as client:
        told = bound.describe(client)
    assert "http://files" in told
    assert "not resilient: MockTransport" in told
    assert "the same policies; HTTP/1.1, by the proxy http://proxy:3128" in told
    assert "none: what may have happened is not repeated" in told
    with httpx.Client() as plain:
        assert bound.describe(plain) == ("Client: not resilient, no policy stands around its HTTPTransport")


def test_only_a_client_is_described() -> None:
    with pytest.raises(PolicyError, match="is no client of"):
        bound.describe(httpx.MockTransport(lambda request: httpx.Response(200)))


# --------------------------------------------------------------------------------------------------- wrap a client
def test_a_client_of_somebody_elses(manual_clock: ManualClock) -> None:
    with Origin() as origin:
        client = httpx.Client(base_url=origin.url, verify=PLAIN, headers={"X-Mine": "1"})
        assert bound.wrap(client, "svc", policies=policies(manual_clock), clock=manual_clock) is client
        with client:
            origin.script(503, "reset_before_effect")
            response = client.get("/")
        assert (response.status_code, report(response).attempts) == (200, 3)
        assert {each.header("x-mine") for each in origin.requests} == {"1"}
        assert "a transport of your own, HTTPTransport" in bound.describe(client)


def test_an_async_client(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin:
        client = httpx.AsyncClient(base_url=origin.url, verify=PLAIN)
        bound.wrap(client, "svc", policies=policies(manual_clock), clock=manual_clock)

        async def main() -> Any:
            async with client:
                origin.script(503)
                return await client.get("/")

        assert report(manual_clock.run(main())).attempts == 2


def test_its_mounts_are_wrapped_too(manual_clock: ManualClock) -> None:
    answers = iter([503, 200])
    mine = httpx.MockTransport(lambda request: httpx.Response(next(answers)))
    client = httpx.Client(base_url="http://svc", mounts={"http://svc": mine, "all://other": None})
    bound.wrap(client, "svc", policies=policies(manual_clock), clock=manual_clock)
    with client:
        assert report(client.get("/")).attempts == 2


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (lambda: httpx.Client(), "base_url='' must be an absolute http or https URL"),
        (lambda: httpx.MockTransport(lambda request: httpx.Response(200)), "wrap: base_url= is missing"),
        (lambda: bound.client("svc", base_url="http://svc", verify=PLAIN), "resilient already, as 'svc'"),
    ],
)
def test_what_cannot_be_wrapped(target: Any, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        bound.wrap(target(), "svc")
