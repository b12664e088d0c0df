"""What each status and each break of a connection proves: whether it is tried again, what the breaker learns, and what
the caller is told. Each row is played by a real server, over both APIs."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from resilient import CircuitBreaker, OutcomeUnknown
from resilient.core.outcome import FAILURE, IGNORED, SUCCESS, Evidence, Verdict
from tests.adapters.grpc_sides import (
    Client,
    Code,
    Fault,
    Server,
    answer,
    both,
    close,
    faulty,
    goaway,
    head_then,
    no_grpc,
    nobody,
    policies,
    report,
    reset,
    reset_stream,
    trailers,
)

ANSWERED, UNKNOWN, DECLINED, NOT_SENT = (
    Evidence.ANSWERED,
    Evidence.UNKNOWN,
    Evidence.DECLINED,
    Evidence.NOT_SENT,
)

STATUSES: list[tuple[Code, Evidence, bool, Verdict]] = [
    (Code.CANCELLED, UNKNOWN, False, IGNORED),
    (Code.UNKNOWN, ANSWERED, False, FAILURE),
    (Code.INVALID_ARGUMENT, ANSWERED, False, SUCCESS),
    (Code.DEADLINE_EXCEEDED, UNKNOWN, True, FAILURE),
    (Code.NOT_FOUND, ANSWERED, False, SUCCESS),
    (Code.ALREADY_EXISTS, ANSWERED, False, SUCCESS),
    (Code.PERMISSION_DENIED, ANSWERED, False, SUCCESS),
    (Code.RESOURCE_EXHAUSTED, DECLINED, True, IGNORED),
    (Code.FAILED_PRECONDITION, ANSWERED, False, SUCCESS),
    (Code.ABORTED, ANSWERED, False, SUCCESS),
    (Code.OUT_OF_RANGE, ANSWERED, False, SUCCESS),
    (Code.UNIMPLEMENTED, ANSWERED, False, SUCCESS),
    (Code.INTERNAL, ANSWERED, False, FAILURE),
    (Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    (Code.DATA_LOSS, ANSWERED, False, FAILURE),
    (Code.UNAUTHENTICATED, ANSWERED, False, SUCCESS),
]


def test_the_table_has_every_status_that_is_an_error() -> None:
    assert {code for code, *_ in STATUSES} == set(Code) - {Code.OK}


def evidence_of(mode: str, port: int, **given: Any) -> BaseException:
    with Client(mode, port, **given) as client, pytest.raises(grpc.RpcError) as raised:
        client("Place")
    return raised.value


@both
@pytest.mark.parametrize(("code", "evidence", "again", "verdict"), STATUSES)
def test_a_status(mode: str, code: Code, evidence: Evidence, again: bool, verdict: Verdict) -> None:
    with Server() as server:
        server.steps["Place"] = [code, code]
        breaker = CircuitBreaker(consecutive=1)
        error: Any = evidence_of(mode, server.port, policies=policies(breaker, attempts=1))
        assert error.code() is code
        found = report(error)
        assert (found.evidence, found.transient, found.verdict) == (evidence, again, verdict)
        assert isinstance(error, OutcomeUnknown) == (evidence is UNKNOWN)
        assert (breaker.state == "open") == (verdict is FAILURE)


@both
@pytest.mark.parametrize(("code", "evidence", "again", "verdict"), STATUSES)
def test_a_method_that_may_be_repeated_is_tried_again_where_that_may_help(
    mode: str, code: Code, evidence: Evidence, again: bool, verdict: Verdict
) -> None:
    with Server() as server, Client(mode, server.port, idempotent={"/shop.unary_unary/Get"}) as client:
        server.steps["Get"] = [code]
        if again:
            assert client("Get") == b"x"
        else:
            with pytest.raises(grpc.RpcError) as raised:
                client("Get")
            assert not isinstance(raised.value, OutcomeUnknown)
            assert report(raised.value).why_not_retried == "not_transient"
        assert server.count("Get") == 1 + again


@both
@pytest.mark.parametrize(("code", "evidence", "again", "verdict"), STATUSES)
def test_any_other_is_tried_again_only_where_nothing_happened(
    mode: str, code: Code, evidence: Evidence, again: bool, verdict: Verdict
) -> None:
    with Server() as server, Client(mode, server.port) as client:
        server.steps["Place"] = [code]
        if evidence is DECLINED:
            client("Place")
        else:
            with pytest.raises(grpc.RpcError):
                client("Place")
        assert server.count("Place") == 1 + (evidence is DECLINED)


BREAKS: list[tuple[str, Fault, Code, Evidence, bool, Verdict]] = [
    ("closed", close, Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("reset", reset, Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("closed after the head", head_then(close), Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("REFUSED_STREAM after the head", head_then(reset_stream(7)), Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("INTERNAL_ERROR after the head", head_then(reset_stream(2)), Code.INTERNAL, UNKNOWN, True, FAILURE),
    ("NO_ERROR", reset_stream(0), Code.INTERNAL, UNKNOWN, True, FAILURE),
    ("INTERNAL_ERROR", reset_stream(2), Code.INTERNAL, UNKNOWN, True, FAILURE),
    ("REFUSED_STREAM", reset_stream(7), Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("CANCEL", reset_stream(8), Code.CANCELLED, UNKNOWN, False, IGNORED),
    ("ENHANCE_YOUR_CALM", reset_stream(11), Code.RESOURCE_EXHAUSTED, UNKNOWN, True, IGNORED),
    ("goaway", goaway(1), Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("503", no_grpc, Code.UNAVAILABLE, UNKNOWN, True, FAILURE),
    ("overloaded", trailers(("x-envoy-overloaded", "true")), Code.UNAVAILABLE, DECLINED, True, FAILURE),
    ("not processed", trailers(("resilient-not-processed", "1")), Code.UNAVAILABLE, DECLINED, True, FAILURE),
    ("a status nobody knows", trailers(status=99), Code.UNKNOWN, ANSWERED, False, FAILURE),
    ("with a word", trailers(("x-why", "maintenance")), Code.UNAVAILABLE, ANSWERED, True, FAILURE),
]


@both
@pytest.mark.parametrize(
    ("fault", "code", "evidence", "again", "verdict"), [pytest.param(*row[1:], id=row[0]) for row in BREAKS]
)
def test_a_break(
    mode: str, fault: Fault, code: Code, evidence: Evidence, again: bool, verdict: Verdict
) -> None:
    with faulty(fault) as (port, did):
        error: Any = evidence_of(mode, port, policies=policies(attempts=1))
        found = report(error)
        assert error.code() is code
        assert (found.evidence, found.transient, found.verdict) == (evidence, again, verdict)
        assert len(did) == 1


@both
def test_what_grpc_knows_not_to_have_been_processed_it_repeats_itself(mode: str) -> None:
    with faulty(goaway(0), answer) as (port, did), Client(mode, port) as client:
        assert client("Place") == b"ok"
        assert len(did) == 2


@both
def test_nobody_listens(mode: str) -> None:
    with nobody() as port:
        error: Any = evidence_of(mode, port)
    assert error.code() is Code.UNAVAILABLE
    assert "no connection" in error.details()
    assert not isinstance(error, OutcomeUnknown)
    found = report(error)
    assert (found.evidence, found.attempts, found.why_not_retried) == (NOT_SENT, 3, "attempts")


@both
def test_that_nobody_listens_is_told_in_grpcs_words_where_repeating_is_safe(mode: str) -> None:
    names = {"/shop.unary_unary/Get"}
    with (
        nobody() as port,
        Client(mode, port, idempotent=names) as client,
        pytest.raises(grpc.RpcError, match="refused"),
    ):
        client("Get")


@both
def test_a_server_that_hands_on_that_another_could_not_be_reached_has_not_done_nothing(mode: str) -> None:
    def hand_on(context: grpc.ServicerContext) -> None:
        server.effects["half"] += 1
        context.abort(
            Code.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:50051: Failed to connect to remote "
            "host: Connection refused",
        )

    with Server() as server, Client(mode, server.port) as client:
        server.steps["Place"] = [hand_on]
        with pytest.raises(OutcomeUnknown):
            client("Place")
        assert server.effects["half"] == 1
        assert server.count("Place") == 1


@both
def test_an_answer_that_is_too_large_has_happened(mode: str) -> None:
    options = [("grpc.max_receive_message_length", 10)]
    with Server() as server, Client(mode, server.port, options=options) as client:
        with pytest.raises(OutcomeUnknown) as raised:
            client("Place", b"x" * 100)
        assert raised.value.code() is Code.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]  # it is gRPC's too
        assert report(raised.value).evidence is UNKNOWN
        assert server.count("Place") == 1


@both
def test_whoever_has_begun_to_answer_has_not_declined(mode: str) -> None:
    def begin(context: grpc.ServicerContext) -> None:
        context.send_initial_metadata((("x-begun", "1"),))
        context.abort(Code.RESOURCE_EXHAUSTED, "the disk is full")

    with Server() as server, Client(mode, server.port) as client:
        server.steps["Place"] = [begin]
        with pytest.raises(OutcomeUnknown):
            client("Place")
        assert server.count("Place") == 1


@both
@pytest.mark.parametrize(
    ("pushback", "count", "why"), [("1", 2, None), ("0", 2, None), ("-1", 1, "server"), ("soon", 1, "server")]
)
def test_pushback(mode: str, pushback: str, count: int, why: str | None) -> None:
    def push(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
        context.abort(Code.RESOURCE_EXHAUSTED, "later")

    with Server() as server, Client(mode, server.port) as client:
        server.steps["Place"] = [push]
        if why is None:
            client("Place")
        else:
            with pytest.raises(grpc.RpcError) as raised:
                client("Place")
            assert report(raised.value).why_not_retried == why
        assert server.count("Place") == count


@both
def test_pushback_beyond_the_ceiling_is_not_waited_for(mode: str) -> None:
    with faulty(trailers(("grpc-retry-pushback-ms", "60000"), status=8)) as (port, did):
        error = evidence_of(mode, port)
        assert report(error).why_not_retried == "retry_after"
        assert report(error).retry_after == 60.0
        assert len(did) == 1


@both
def test_what_a_proxy_has_tried_again_is_not_tried_again(mode: str) -> None:
    given = {"idempotent": {"/shop.unary_unary/Place"}}
    with faulty(trailers(("x-envoy-attempt-count", "3"))) as (port, did):
        assert report(evidence_of(mode, port, **given)).why_not_retried == "nested"
        assert len(did) == 1


def test_a_message_that_cannot_be_made_is_nobodys_failure() -> None:
    # grpc.aio sends an empty message in its place.
    def broken(message: object) -> bytes:
        raise ValueError("no such field")

    breaker = CircuitBreaker(consecutive=1)
    with Server() as server, Client("sync", server.port, policies=policies(breaker)) as client:
        place = client.channel.unary_unary("/shop.unary_unary/Place", request_serializer=broken)
        with pytest.raises(grpc.RpcError) as raised:
            place(b"x")
        assert not isinstance(raised.value, OutcomeUnknown)
        assert (report(raised.value).evidence, report(raised.value).transient) == (NOT_SENT, False)
        assert breaker.state == "closed"
        assert server.count("Place") == 0


@both
def test_a_channel_that_is_closed_says_so_itself(mode: str) -> None:
    breaker = CircuitBreaker(consecutive=1)
    with Server() as server:
        with Client(mode, server.port, policies=policies(breaker)) as client:
            client("Place")
            if mode == "sync":
                client.channel.close()
                with pytest.raises(ValueError, match="closed"):
                    client("Place")
            else:

                async def call(channel: Any) -> None:
                    place = channel.unary_unary("/shop.unary_unary/Place")
                    await channel.close(None)
                    await place(b"x")

                with pytest.raises(grpc.aio.UsageError, match="closed"):
                    client.run(call)
        assert breaker.state == "closed"
