"""What the span of an attempt shows beside the conventions: whose key it has, what became of it, which pod it was
sent to. What is seen of requests that leave for elsewhere."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

import resilient.httpx
from resilient import InProgress, Pipeline, Retry, instrument, standard
from resilient.core import tracing
from resilient.http.profiles import Profile, Signal
from resilient.testing import Origin, answer

from .collected import Collected, collecting


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def sources(seen: Collected) -> list[Any]:
    return [dict(span.attributes).get("resilient.idempotency.source") for span in seen.spans()]


def test_whose_key_it_is_and_never_the_key() -> None:
    keyed = Pipeline(Retry(2, wait=0, idempotency_key=lambda request: "order-7"), name="keyed")
    with collecting() as seen, Origin() as origin:
        with (
            resilient.httpx.client("bank", base_url=origin.url) as client,
            resilient.httpx.client("keyed", base_url=origin.url, policies=keyed) as business,
            resilient.httpx.client("none", base_url=origin.url, profile="none") as none,
        ):
            client.get("/")
            none.post("/")
            client.post("/")
            client.post("/", headers={"Idempotency-Key": "callers-own"})
            client.put("/", extensions={"resilient": {"idempotency_key": "callers-own"}})
            business.post("/")
            standard("orders", idempotency_key=lambda: "order-7")(lambda: client.post("/"))()
        assert sources(seen) == [None, None, "generated", "caller", "caller", "business", "child"]
        for span, request in zip(seen.spans(), origin.requests, strict=True):
            key = request.header("idempotency-key")
            shown = span.attributes.get("resilient.idempotency.key_hash")
            assert shown == (None if key is None else hashed(key))
            assert key is None or key not in span.to_json()
        for name, metric in seen.metrics().items():
            for at, _ in seen.points(name):
                assert not any("idempotency" in each for each in at), metric


def test_what_became_of_the_key() -> None:
    profile = Profile(honours=True, in_progress=Signal(409))
    pipeline = Pipeline(Retry(2, wait=0.0), name="bank")
    with (
        collecting() as seen,
        Origin() as origin,
        resilient.httpx.client("bank", base_url=origin.url, profile=profile, policies=pipeline) as client,
    ):
        origin.script("reset_after_effect", answer(201, headers={"Idempotent-Replayed": "true"}))
        client.post("/")
        origin.script(*[answer(409, headers={"Retry-After": "0"})] * 2)
        with pytest.raises(InProgress):
            client.post("/")
        told = [
            (
                span.attributes.get("resilient.idempotency.outcome"),
                span.attributes.get("resilient.idempotency.replayed"),
                span.attributes.get("http.request.resend_count"),
            )
            for span in seen.spans()
        ]
        assert told == [
            (None, None, None),
            (None, True, 1),
            ("in_progress", None, None),
            ("in_progress", None, 1),
        ]


def test_the_pod_stands_on_the_span_and_in_no_metric() -> None:
    with collecting() as seen, Origin() as origin:
        endpoints = [f"127.0.0.1:{origin.port}", "127.0.0.1:1"]
        with resilient.httpx.client("shop", base_url="http://shop.svc", endpoints=endpoints) as client:
            client.post("/")
        last = seen.spans()[-1].attributes
        assert (last["server.address"], last["server.port"]) == ("shop.svc", 80)
        assert (last["network.peer.address"], last["network.peer.port"]) == ("127.0.0.1", origin.port)
        for at, _ in seen.points("http.client.request.duration"):
            assert not any(each.startswith("network.peer") for each in at)


@pytest.mark.parametrize("fails", [False, True])
def test_a_redirect_elsewhere_is_seen_and_told_nothing(fails: bool) -> None:
    with collecting() as seen, Origin() as other, Origin() as origin:
        origin.script(answer(307, headers={"Location": f"{other.url}/x"}))
        if fails:
            other.script("reset_before_effect")
        with (
            seen.tracers.get_tracer("t").start_as_current_span("order"),
            resilient.httpx.client("bank", base_url=origin.url, follow_redirects=True) as client,
        ):
            try:
                client.get("/")
            except httpx.ReadError:
                assert fails
        first, second, order = seen.spans()
        assert first.parent.span_id == second.parent.span_id == order.context.span_id
        assert second.kind is SpanKind.CLIENT
        assert second.attributes["server.port"] == other.port
        assert second.attributes["http.request.resend_count"] == 1
        assert second.attributes.get("error.type") == ("ReadError" if fails else None)
        assert origin.requests[0].header("traceparent") is not None
        assert other.requests[0].header("traceparent") is None
        counts = [count for _, (count, _) in seen.points("http.client.request.duration")]
        assert sum(counts) == 2


def test_nothing_is_made_for_a_span_that_nobody_records(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as seen:
        instrument(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=seen.meters)

        def refuse(*args: object) -> None:
            raise AssertionError(args)

        monkeypatch.setattr("resilient.http.keyed.shown", refuse)
        with Origin() as origin, resilient.httpx.client("bank", base_url=origin.url) as client:
            assert tracing.TRACER is not None
            assert client.post("/").status_code == 200
        assert seen.spans() == []
        assert seen.one("http.client.request.duration")[0] == 1
