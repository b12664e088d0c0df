"""Every error: what it is, what it says, and that it survives a pickle whole."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import resilient
from resilient import (
    BulkheadFull,
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    DocumentError,
    Evidence,
    FeatureDisabled,
    IdempotencyError,
    InProgress,
    KeyRequired,
    KeyReused,
    NoEndpoints,
    OutcomeUnknown,
    PolicyError,
    RateLimited,
    Rejected,
    Report,
    ResilientError,
    Retry,
    TimedOut,
    WindowExceeded,
    report_of,
)
from resilient.core.outcome import attach

TREE: dict[type[Exception], tuple[type[BaseException], ...]] = {
    ResilientError: (Exception,),
    Rejected: (ResilientError,),
    CircuitOpen: (Rejected,),
    RateLimited: (Rejected,),
    BulkheadFull: (Rejected,),
    FeatureDisabled: (Rejected,),
    NoEndpoints: (Rejected,),
    TimedOut: (ResilientError, TimeoutError),
    DeadlineExceeded: (TimedOut,),
    OutcomeUnknown: (ResilientError,),
    IdempotencyError: (ResilientError,),
    InProgress: (IdempotencyError,),
    KeyReused: (IdempotencyError,),
    KeyRequired: (IdempotencyError,),
    WindowExceeded: (IdempotencyError,),
    ConfigError: (ResilientError,),
    PolicyError: (ConfigError,),
    DocumentError: (ConfigError,),
}
FIELDS: dict[type[Exception], dict[str, Any]] = {
    ResilientError: {"dependency": "payments", "operation": "charge"},
    Rejected: {"policy": "own", "reason": "night", "retry_after": 1.5},
    CircuitOpen: {
        "state": "half_open",
        "last_failure": "OSError",
        "last_failure_age": 2.5,
        "retry_after": 1.0,
    },
    RateLimited: {"limit": "9/second", "remaining": 3, "reason": "empty", "retry_after": 0.5},
    BulkheadFull: {"reason": "queue full", "dependency": "db"},
    FeatureDisabled: {"reason": "level:2", "feature": "search", "variant": "off"},
    NoEndpoints: {"reason": "empty", "service": "payments.shop.svc.cluster.local."},
    TimedOut: {"timeout": 0.5, "dependency": "db"},
    DeadlineExceeded: {"timeout": 2.0},
    OutcomeUnknown: {"idempotency_key": "k-7", "attempts": 3, "first_sent": 1_767_225_600.0},
    IdempotencyError: {"idempotency_key": "k-7", "attempts": 2, "dependency": "bank"},
    InProgress: {"idempotency_key": "k-7", "attempts": 3, "retry_after": 1.0},
    KeyReused: {"idempotency_key": "k-7", "attempts": 1},
    KeyRequired: {"attempts": 1},
    WindowExceeded: {"idempotency_key": "k-7", "first_sent": 1_767_225_600.0},
    ConfigError: {},
    PolicyError: {"operation": "charge"},
    DocumentError: {
        "pointer": ("flags", "search", 0),
        "file": "a.json",
        "line": 7,
        "reason": "size",
        "suggestion": "variants",
    },
}


def test_the_table_is_whole() -> None:
    public = {getattr(resilient, name) for name in resilient.__all__}
    errors = {each for each in public if isinstance(each, type) and issubclass(each, Exception)}
    assert errors - {resilient.PolicyWarning} == {*TREE} == {*FIELDS}


@pytest.mark.parametrize("cls", TREE)
def test_the_tree(cls: type[Exception]) -> None:
    for base in TREE[cls]:
        assert issubclass(cls, base)
    related = {other for other in TREE if issubclass(cls, other)}
    expected, todo = {cls}, [cls]
    while todo:
        for base in TREE.get(todo.pop(), ()):
            if base in TREE and base not in expected:
                expected.add(base)
                todo.append(base)  # type: ignore[arg-type]
    assert related == expected, "of nothing else"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", TREE)
def test_it_survives_a_pickle_and_a_copy_with_all_that_it_says(cls: Any, protocol: int) -> None:
    error = cls("what happened", **FIELDS[cls])
    attach(error, evidence=Evidence.NOT_SENT, attempts=2, endpoint="10.0.0.7:80", retry_after=1.5)
    error.add_note("a note")
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert twin.args == ("what happened",)
        for name, value in FIELDS[cls].items():
            assert getattr(twin, name) == value
        assert twin.__notes__ == ["a note"]
        assert report_of(twin) == Report(Evidence.NOT_SENT, 2, "10.0.0.7:80", 1.5)
        twin.add_note("of its own")
        twin.dependency = "other"
        assert error.dependency != "other"


def test_an_error_that_a_retry_gave_up_on_survives_too() -> None:
    def fail() -> None:
        raise ConnectionError("down")

    with pytest.raises(ConnectionError) as caught:
        Retry(1).call(fail)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert report_of(twin) == report_of(caught.value)
    assert twin.__notes__ == caught.value.__notes__


@pytest.mark.parametrize("cls", TREE)
def test_what_it_did_not_hear_has_a_default(cls: Any) -> None:
    error = cls("what happened")
    assert (error.dependency, error.operation) == (None, None)
    for name in FIELDS[cls]:
        assert getattr(error, name) in (None, "", 0, 1, (), "open", "structure", cls.__dict__.get("policy"))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "it failed"),
        ({"dependency": "payments"}, "payments: it failed"),
        ({"operation": "charge"}, "charge: it failed"),
        ({"dependency": "payments", "operation": "charge"}, "payments.charge: it failed"),
    ],
)
def test_it_says_where(fields: dict[str, str], text: str) -> None:
    assert str(ResilientError("it failed", **fields)) == text


def test_each_rejection_names_its_policy() -> None:
    names = [cls("no").policy for cls in (Rejected, CircuitOpen, RateLimited, BulkheadFull)]
    assert names == ["", "breaker", "ratelimit", "bulkhead"]
    assert Rejected("no", policy="own").policy == "own"


def test_a_document_error_tells_the_place_and_all_that_is_wrong() -> None:
    one = DocumentError("is no number", pointer=("flags", "search", 0), file="shop.yaml", line=7)
    assert str(one) == "shop.yaml:7: flags.search.0: is no number"
    assert str(DocumentError("is empty", file="shop.yaml")) == "shop.yaml: is empty"
    both = DocumentError(
        "2 things are wrong", problems=(one, DocumentError("unknown key", pointer=("flag",)))
    )
    assert str(both).splitlines() == ["2 things are wrong", str(one), "flag: unknown key"]
    assert pickle.loads(pickle.dumps(both)).problems[0].line == 7
