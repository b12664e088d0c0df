"""Ways of writing things that were accepted, and then protected nothing or failed at the first outage."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import tenacity

import resilient.httpx
from resilient import (
    Budget,
    Bulkhead,
    CircuitBreaker,
    Evidence,
    Fallback,
    Gate,
    Pipeline,
    PolicyError,
    RateLimit,
    Retry,
    Timeout,
    Verdict,
    When,
    criticality,
    deadline,
    set_active,
    standard,
    subscribe,
)
from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import report


def test_a_deadline_as_a_decorator_is_refused() -> None:
    """On an async function it was over before that began."""
    with pytest.raises(PolicyError, match=r"^deadline is a block, no decorator: .* or Timeout\(1\.5\)$"):

        @deadline(1.0)
        async def work() -> None: ...

    with pytest.raises(PolicyError, match=r"^criticality is a block, no decorator"):
        criticality("sheddable")(work_of_somebody)


def work_of_somebody() -> None: ...


def test_a_block_may_be_entered_again_and_inside_itself() -> None:
    block = deadline(5.0)
    with block as first, block as second:
        assert second.deadline == first.deadline, "the earlier one holds"
    with block as third:
        assert third.deadline is not None


@pytest.mark.parametrize("option", ["key", "cost"])
def test_an_async_key_is_refused(option: str) -> None:
    """Every coroutine was a key of its own: nothing was ever limited."""

    async def tenant(*_: object) -> Any:
        return 1

    options: dict[str, Any] = {option: tenant}
    with pytest.raises(PolicyError, match=rf"^RateLimit: {option}=.* must be a plain function"):
        RateLimit("1/minute", **options)
    if option == "key":
        with pytest.raises(PolicyError, match=r"^Retry: idempotency_key=.* must be a plain function"):
            Retry(idempotency_key=tenant)


def test_a_gate_with_an_async_admit_is_refused() -> None:
    with pytest.raises(
        PolicyError, match=r"^Never\.admit is async, and a gate is a state machine without I/O"
    ):

        class Never(Gate[None]):
            async def admit(self, now: float, /) -> None:  # type: ignore[override]
                raise AssertionError


def test_a_gate_without_admit_says_so() -> None:
    class Nothing(Gate[None]):
        pass

    with pytest.raises(NotImplementedError, match=r"^Nothing is a gate without admit\(\)"):
        Pipeline(Nothing()).call(work_of_somebody)


def test_a_key_and_not_idempotent_contradict_each_other() -> None:
    with pytest.raises(PolicyError, match=r"^Retry: idempotent=False contradicts idempotency_key="):
        Retry(idempotent=False, idempotency_key=lambda order: order.id)


def test_idempotent_is_true_or_false() -> None:
    given: Any = "false"
    with pytest.raises(PolicyError, match=r"^standard: idempotent='false' must be True or False"):
        standard("payments", idempotent=given)


def test_a_decorator_without_parentheses_is_seen_at_the_first_call() -> None:
    @Fallback
    def stock(sku: str) -> int:
        return 1

    with pytest.raises(PolicyError, match=r"'a' is no function; .* written with parentheses"):
        stock("a")


@pytest.mark.parametrize("name", ["", 5, len])
def test_a_name_is_a_text(name: Any) -> None:
    with pytest.raises(PolicyError, match=r"^Pipeline: name=.* must be a text"):
        Pipeline(Retry(), name=name)


def test_switches_and_listeners_are_what_they_must_be() -> None:
    wrong: Any = "no"
    with pytest.raises(PolicyError, match=r"^set_active: active='no' must be True or False"):
        set_active(wrong)
    with pytest.raises(PolicyError, match=r"^subscribe: 'no' is no function"):
        subscribe(wrong)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"endpoints": "10.0.0.7:80"},
            r"endpoints='10.0.0.7:80' must be a list; write endpoints=\['10.0.0.7:80'\]",
        ),
        ({"endpoints": ["http://h:80"]}, "'http://h:80' is not host:port"),
        ({"endpoints": [80]}, "80 is not host:port"),
        ({"http1": False}, "http1=False leaves no protocol"),
        ({"base_url": "ftp://x"}, "must be an absolute http or https URL"),
        ({"policies": [Retry()]}, "write the policies one after the other"),
        ({"policies": Fallback(httpx.Response(200))}, "one value for all calls"),
        ({"policies": Pipeline(Fallback([]), Bulkhead(9))}, "one value for all calls"),
    ],
)
def test_a_client_names_what_is_wrong(given: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        resilient.httpx.client("x", **{"base_url": "http://x", **given})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"endpoints": ["10.0.0.7:80"], "uds": "/run/x.sock"}, r"would be without effect beside uds="),
        (
            {"endpoints": ["10.0.0.7:80"], "proxy": "http://proxy:3128"},
            r"would be without effect beside proxy=",
        ),
        ({"endpoints": (each for each in ["10.0.0.7:80"])}, r"endpoints=.* must be a list; write endpoints="),
        ({"base_url": None}, r"base_url=None must be the service's URL; write base_url='http://"),
        ({"profile": ["none"]}, r"profile=\['none'\] must be a Profile or one of 'none'"),
        ({"policies": standard("y")}, r"policies= are those of 'y', the client is 'x'"),
    ],
)
@pytest.mark.parametrize("make", [resilient.httpx.Transport, resilient.httpx.client])
def test_what_a_client_or_transport_cannot_keep(make: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        make("x", **{"base_url": "http://x", **given})


def test_what_would_be_seen_at_the_first_request_is_said_before() -> None:
    async def stand_in(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    with pytest.raises(
        PolicyError, match=r"which is async, and the client is sync; write a sync fallback, or async_"
    ):
        resilient.httpx.client("x", base_url="http://x", policies=Fallback(stand_in))
    with pytest.raises(
        PolicyError, match=r"Timeout\(walk_away=True\), which is for sync functions; leave it out"
    ):
        resilient.httpx.async_client("x", base_url="http://x", policies=Timeout(1.0, walk_away=True))


def test_an_option_that_does_not_exist_beside_a_transport_of_ones_own() -> None:
    given: Any = {"transport": httpx.MockTransport(lambda request: httpx.Response(200)), "verfy": False}
    with pytest.raises(TypeError, match="verfy"):
        resilient.httpx.Transport("x", base_url="http://x", **given)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: CircuitBreaker(slow_ratio=0.1), r"slow_ratio=0.1 has no effect without slow_after; write "),
        (lambda: CircuitBreaker(count=100, window=30), r"window=30 has no effect beside count; write "),
        (lambda: RateLimit("1/second", max_keys=5), r"max_keys=5 has no effect without key=; write "),
        (
            lambda: RateLimit("1/second", overflow="share"),
            r"overflow='share' has no effect without key=; write ",
        ),
        (lambda: Budget(stock=4), r"stock=4 is less than one retry costs, 5; write stock=35, or 0 for none"),
        (lambda: Fallback(0, on=When(result=bool)), r"on=.* has result=, and results are not looked at here"),
        (
            lambda: CircuitBreaker(ignore=When(result=bool)),
            r"ignore=.* has result=, and results are not looked at",
        ),
        (lambda: Retry(on=When(result=bool)).attempts(), r"on=.* looks at results, and a block has none"),
        (lambda: When(result=5), r"result=5 must be a plain function"),  # type: ignore[arg-type]
        (
            lambda: Retry(wait=tenacity.stop_after_delay(5)),
            r"wait=.* says when to stop, not how long to wait",
        ),
        (lambda: Retry(stop=tenacity.wait_fixed(5)), r"stop=.* says how long to wait, not when to stop"),
        (
            lambda: standard("x", attempt_timeout=20),
            r"must be below the deadline of 10 s; write attempt_timeout=",
        ),
    ],
)
def test_what_has_no_effect_is_refused_with_what_to_write(build: Any, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        build()


def test_a_plain_function_where_an_async_one_is_asked_for() -> None:
    """What it gave could not be awaited, and the breaker counted that as the callee's failure."""
    breaker = CircuitBreaker(consecutive=1)

    async def main() -> None:
        with pytest.raises(PolicyError, match=r"gave int, which cannot be awaited; write pipeline.call\(len"):
            await breaker.acall(len, [])
        assert await breaker.acall(lambda: asyncio.sleep(0, "an awaitable will do")) == "an awaitable will do"

    asyncio.run(main())
    assert breaker.state == "closed"


def test_the_connect_timeout_of_a_preset_inside_another_pipeline() -> None:
    policies = Pipeline(Bulkhead(5), standard("x", connect_timeout=0.2), name="x")
    with resilient.httpx.client("x", base_url="http://x", policies=policies) as client:
        transport: Any = client._transport
        assert transport.dependency.connect_timeout == 0.2


def test_connections_that_never_expire() -> None:
    limits = httpx.Limits(keepalive_expiry=None)
    with Origin() as origin, resilient.httpx.client("x", base_url=origin.url, limits=limits) as client:
        client.get("/")
        transport: Any = client._transport
        assert next(iter(transport.endpoints)).exchange.pool._max_idle == float("inf")


def test_dates_are_read_on_the_clock_of_the_client(manual_clock: ManualClock) -> None:
    at = formatdate(manual_clock.time() + 5.0, usegmt=True)
    policies = Pipeline(Retry(2, wait=0), name="x", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        resilient.httpx.client("x", base_url=origin.url, policies=policies) as client,
    ):
        origin.script(answer(503, headers={"Retry-After": at, "Date": "none"}), 200)
        assert client.get("/").status_code == 200
    assert 4.0 <= manual_clock.monotonic() <= 6.0


@pytest.mark.parametrize("header", ["", "X Y", "a\r\nb", None, 5])
def test_a_profile_has_a_header(header: Any) -> None:
    with pytest.raises(PolicyError, match=r"^Profile: header=.* must be the name of a header"):
        resilient.httpx.Profile(header=header)


def test_a_stand_in_does_not_say_that_the_callee_answered() -> None:
    policies = Pipeline(Fallback(lambda request: httpx.Response(200)), Retry(2, wait=0), name="svc")
    endpoints = ["127.0.0.1:1"]  # nobody listens there
    with resilient.httpx.client(
        "svc", base_url="http://svc", policies=policies, endpoints=endpoints
    ) as client:
        first, second = client.get("/a"), client.get("/b")
    told = report(first)
    assert (told.evidence, told.attempts, told.verdict) == (Evidence.NOT_SENT, 2, Verdict.FAILURE)
    assert (first.request.url.path, second.request.url.path) == ("/a", "/b")


def test_a_stand_in_that_is_no_response_is_refused() -> None:
    policies = Pipeline(Fallback(lambda request: "text"), name="svc")
    with (
        Origin() as origin,
        resilient.httpx.client("svc", base_url=origin.url, policies=policies) as client,
        pytest.raises(
            PolicyError, match=r"gave str for a request to svc; .* write Fallback\(lambda request: "
        ),
    ):
        origin.script("reset_before_effect")
        client.post("/")


def test_every_error_of_a_client_has_a_report() -> None:
    with Origin() as origin:
        limited = Pipeline(RateLimit("1/hour"), name="svc")
        with resilient.httpx.client("svc", base_url=origin.url, policies=limited) as client:
            client.get("/")
            with pytest.raises(resilient.RateLimited) as caught:
                client.get("/")
            told = report(caught.value)
            assert (told.attempts, told.evidence, told.verdict) == (0, Evidence.NOT_SENT, Verdict.IGNORED)
        with resilient.httpx.client("svc", base_url=origin.url) as client, deadline(1e-9):
            with pytest.raises(resilient.DeadlineExceeded) as late:
                client.get("/")
            assert (report(late.value).attempts, report(late.value).evidence) == (0, Evidence.NOT_SENT)
