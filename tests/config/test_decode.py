"""The tree becomes settings of policies, or every mistake in it is told with its place and what to write instead."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import DocumentError
from resilient.config.decode import MOST_PROBLEMS, decode, placed
from resilient.config.leaves import Leaf, leaves
from resilient.config.section import Section
from resilient.core.backoff import Backoff
from resilient.core.budget import BudgetOptions
from resilient.core.options import parse_duration
from resilient.policies.breaker import CircuitBreakerOptions
from resilient.policies.bulkhead import BulkheadOptions
from resilient.policies.ratelimit import RateLimitOptions
from resilient.policies.retry import RetryOptions

from .samples import JSON, YAML, document


def values(tree: dict[str, Any], sections: tuple[Section, ...] = ()) -> dict[str, Any]:
    """What is decoded, without where it stands."""
    found = decode(document(a_json=json.dumps(tree)), sections).targets
    return {
        target: {kind: dict(said.values) for kind, said in kinds.items()} for target, kinds in found.items()
    }


def target(kind: str, given: Any, **policies: Any) -> Any:
    tree = {"resiliency": {"policies": policies, "targets": {"payments": {kind: given}}}}
    return values(tree)["payments"][kind]


def refused(tree: Any, sections: tuple[Section, ...] = ()) -> DocumentError:
    text = tree if isinstance(tree, str) else json.dumps(tree, indent=1)
    with pytest.raises(DocumentError) as caught:
        decode(document(a_json=text), sections)
    return caught.value


AT = ("resiliency", "targets", "p")

SAMPLE = {
    "payments": {
        "timeout": {"total": 4.0, "attempt": 1.5},
        "retry": {
            "attempts": 2,
            "wait.base": 0.05,
            "wait.cap": 2.0,
            "wait.jitter": "full",
            "budget.ratio": 0.1,
        },
        "breaker": {"failure_ratio": 0.25, "open_for": 2.0, "slow_after": 0.8, "count": None},
        "ratelimit": {"rate": "450/second", "burst": 90},
        "bulkhead": {"limit": 60, "queue": 20, "max_wait": 0.1},
    },
    "search.index": {"breaker": {"state": "forced_open"}},
}


def test_the_sample_is_understood_with_the_place_of_each_value() -> None:
    assert values(json.loads(JSON)) == SAMPLE
    text = document(a_yaml=YAML)
    found = decode(text).targets["payments"]["breaker"]
    assert text.sources.place(found.pointer("open_for")) == ("a.yaml", 10), "where the named policy says it"
    assert text.sources.place(found.pointer("slow_after")) == ("a.yaml", 15)


def test_the_options_are_the_only_definition() -> None:
    known = leaves()
    nested = {"wait": Backoff, "budget": BudgetOptions}
    for kind, options in [
        ("retry", RetryOptions),
        ("breaker", CircuitBreakerOptions),
        ("ratelimit", RateLimitOptions),
        ("bulkhead", BulkheadOptions),
    ]:
        numbers = {each.name for each in fields(options) if "rule" in each.metadata}
        assert numbers - set(known[kind]) == set(), "each number of the code is one of the document"
        assert set(known[kind]) - numbers <= {"wait", "budget", "state", "rate"}
    for name, options in nested.items():
        assert {e.name for e in fields(options) if "rule" in e.metadata} <= set(known["retry"][name])  # type: ignore[arg-type]


def test_an_own_value_wins_over_the_named_policy() -> None:
    named = {"quick": {"open_for": "2s", "probes": 1}}
    assert target("breaker", "quick", breaker=named) == {"open_for": 2.0, "probes": 1}
    own = {"use": "quick", "probes": 5, "window": "1m"}
    assert target("breaker", own, breaker=named) == {"open_for": 2.0, "probes": 5, "window": 60.0}
    assert target("breaker", {}) == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("250ms", 0.25),
        ("1m30s", 90.0),
        ("1h2m3.5s", 3_723.5),
        ("0s", 0.0),
        ("1.5h", 5_400.0),
        ("7us", 7e-6),
        ("1s1ms", 1.001),
        ("100ms", 0.1),
    ],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 s", "s", "-5s", "5S", "1s1h", "1e3s", ".5s", "5sec", "٥s\u0000", 5, None]
)
def test_what_has_none_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_a_duration_in_milliseconds_is_the_float_that_the_code_would_write(n: int) -> None:
    assert parse_duration(f"{n}ms") == n / 1_000


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (
            "breaker",
            {"open_for": 5},
            "5 must be a duration with its unit, such as 250ms or 1m30s, more than 0",
        ),
        ("breaker", {"open_for": "0s"}, "write open_for: 5s"),
        ("breaker", {"open_for": None}, "null must be a duration"),
        (
            "breaker",
            {"failure_ratio": 1.5},
            "1.5 must be a number (share of calls), more than 0 and at most 1",
        ),
        ("breaker", {"failure_ratio": "0.5"}, '"0.5" must be a number'),
        ("breaker", {"probes": 2.5}, "2.5 must be a whole number (successes that close it)"),
        ("breaker", {"probes": True}, "true must be a whole number"),
        ("breaker", {"count": 0}, "at least 1 and at most 100,000, or null"),
        ("breaker", {"state": "open"}, '"open" must be one of forced_open, disabled, observe, or null'),
        ("retry", {"wait": {"jitter": "some"}}, '"some" must be one of full, equal'),
        ("retry", {"wait": "50ms"}, '"50ms" must be a mapping'),
        ("ratelimit", {"rate": "9 per fortnight"}, "is not a rate; write '200/second'"),
        ("ratelimit", {"rate": 200}, "200 must be a rate, such as 200/second"),
        ("ratelimit", {"rate": "0/second"}, "must allow 1 to 1000000000 calls per second"),
        ("timeout", {"total": "25h"}, "at most 86,400"),
        ("bulkhead", {"limit": ["x" * 100]}, '["xxx'),
        ("bulkhead", [], "[] must be a mapping"),
        ("bulkhead", 7, "7 must be a mapping"),
        ("bulkhead", None, "null must be a mapping"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_rule(kind: str, value: Any, said: str) -> None:
    error = refused({"resiliency": {"targets": {"payments": {kind: value}}}})
    assert said in str(error)
    assert error.pointer[:4] == ("resiliency", "targets", "payments", kind)
    assert error.file == "a.json"
    assert error.line


@pytest.mark.parametrize(
    ("tree", "pointer", "suggestion"),
    [
        ({"resilency": {}}, ("resilency",), "resiliency"),
        ({"resiliency": {"target": {}}}, ("resiliency", "target"), "targets"),
        (
            {"resiliency": {"targets": {"p": {"braker": {}}}}},
            ("resiliency", "targets", "p", "braker"),
            "breaker",
        ),
        (
            {"resiliency": {"policies": {"breaker": {"b": {"open_fr": "1s"}}}}},
            ("resiliency", "policies", "breaker", "b", "open_fr"),
            "open_for",
        ),
        (
            {"resiliency": {"targets": {"p": {"retry": {"wait": {"bas": "1s"}}}}}},
            ("resiliency", "targets", "p", "retry", "wait", "bas"),
            "base",
        ),
        (
            {"resiliency": {"targets": {"p": {"deadline": "1s"}}}},
            (*AT, "deadline"),
            "timeout.total",
        ),
        (
            {"resiliency": {"targets": {"p": {"attempts": 1}}}},
            (*AT, "attempts"),
            "retry.attempts",
        ),
        (
            {"resiliency": {"targets": {"p": {"fallback": {}}}}},
            (*AT, "fallback"),
            None,
        ),
        ({"zzz": 1}, ("zzz",), None),
    ],
)
def test_a_key_that_nobody_knows_is_refused_with_what_was_meant(
    tree: Any, pointer: tuple[str, ...], suggestion: str | None
) -> None:
    error = refused(tree)
    assert (error.pointer, error.suggestion, error.reason) == (pointer, suggestion, "structure")
    assert "no such key" in str(error)
    assert suggestion is None or f"write {suggestion}" in str(error)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("retry", "on"),
        ("retry", "idempotent"),
        ("breaker", "ignore"),
        ("ratelimit", "key"),
        ("timeout", "walk_away"),
    ],
)
def test_what_says_what_a_call_is_stays_in_code(kind: str, key: str) -> None:
    assert "is said in code" in str(refused({"resiliency": {"targets": {"p": {kind: {key: 1}}}}}))


@pytest.mark.parametrize("part", ["plans", "flags", "degradation", "$evaluators"])
def test_a_part_that_is_not_there_is_refused_by_name(part: str) -> None:
    error = refused({part: {}})
    assert error.pointer == (part,)
    assert "not supported by this version; remove it" in str(error)


def test_a_part_that_others_understand_is_left_to_them() -> None:
    section = Section(frozenset({"flags", "degradation"}), dict, lambda _: None)
    assert values({"flags": {"anything": 1}, "degradation": 7}, (section,)) == {}
    assert refused({"plans": {}}, (section,)).pointer == ("plans",)


@pytest.mark.parametrize(("name", "suggestion"), [("carful", "careful"), ("zzz", None), (7, None)])
def test_a_name_that_is_not_there_is_refused(name: Any, suggestion: str | None) -> None:
    policies = {"retry": {"careful": {"attempts": 2}}}
    for given_, at in ((name, ()), ({"use": name}, ("use",))):
        if given_ == 7:
            continue  # not a name at all: a mapping is wanted
        error = refused({"resiliency": {"policies": policies, "targets": {"p": {"retry": given_}}}})
        assert error.pointer == ("resiliency", "targets", "p", "retry", *at)
        assert (error.reason, error.suggestion) == ("reference", suggestion)
    assert "there is none" in str(refused({"resiliency": {"targets": {"p": {"retry": "careful"}}}}))


@pytest.mark.parametrize(
    "tree", [{"resiliency": None}, {"resiliency": 5}, {"resiliency": {"targets": []}}, {"metadata": 1}]
)
def test_what_is_no_mapping_is_refused_once(tree: Any) -> None:
    error = refused(tree)
    assert error.problems == ()
    assert "must be a mapping" in str(error)


def test_all_that_is_wrong_is_told_at_once_up_to_a_number() -> None:
    bad = {f"p{n}": {"retry": {"attempts": 0}, "breaker": {"probes": 0}} for n in range(40)}
    error = refused({"resiliency": {"targets": bad}})
    assert len(error.problems) == MOST_PROBLEMS
    assert len(str(error).splitlines()) == MOST_PROBLEMS + 1
    assert [each.line for each in error.problems] == sorted(each.line or 0 for each in error.problems)


def test_an_error_of_another_part_is_told_its_place() -> None:
    text = document(a_yaml="flags:\n  search: {}\n  index: {}\n...\n")
    inner = DocumentError("no default", pointer=("flags", "index", "defaultVariant"), suggestion="on")
    error = placed(DocumentError("2 things", problems=(inner,)), text)
    assert (error.problems[0].file, error.problems[0].line) == ("a.yaml", 3)
    assert error.problems[0].suggestion == "on"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resiliency", "policies", "targets", "p", "retry", "wait", "base", "use", "state", "rate"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["policies", "targets"]), anything))
def test_whatever_stands_there_is_decoded_or_refused_with_its_place(tree: dict[str, Any]) -> None:
    try:
        decode(document(a_json=json.dumps({"resiliency": tree})))
    except DocumentError as error:
        problems = error.problems or (error,)
        assert all(each.pointer[0] == "resiliency" and each.line == 1 for each in problems)


def test_every_leaf_has_a_type_and_says_what_it_wants() -> None:
    def walk(known: Any) -> None:
        for each in known.values():
            if isinstance(each, Leaf):
                assert each.wanted
            else:
                walk(each)

    walk(leaves())


@pytest.mark.parametrize("version", ["2026-11-10.1", "v1 \u00e4", 7, 1.5, None])
def test_a_version_is_a_word_or_a_number(version: Any) -> None:
    assert decode(document(a_json=json.dumps({"metadata": {"version": version}}))).targets == {}


@pytest.mark.parametrize("version", [{"a": 1}, [1], True, "x" * 101, "a\nb", "\x1b[31m"])
def test_what_is_no_word_is_no_version(version: Any) -> None:
    with pytest.raises(
        DocumentError, match=r"^a\.json:1: metadata\.version: .* must be a printable text of at most"
    ):
        decode(document(a_json=json.dumps({"metadata": {"version": version}})))
