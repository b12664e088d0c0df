"""Documents that were refused took seconds, or memory, for as long as they were there; and some were not refused.

Each of thousands of wrong references looked through all named policies for a similar name, in the thread that looks
after discovery too. What was wrong was kept with all that it had been raised from: a document of 2 MiB was 49 MiB. A
whole number of thousands of digits was told as a fault of the library, and a rate over as many years was taken, and
broke its bucket in the middle of a change; a window of a breaker that no clock can tell broke every call."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest

from resilient import CircuitBreaker, DocumentError, PolicyError, RateLimit, Retry
from resilient.config.decode import MOST_PROBLEMS, decode
from resilient.config.document import Document, parse
from resilient.config.loader import Loader
from resilient.config.source import Files
from resilient.testing import KubeletVolume


def document(tree: Any) -> Document:
    return parse(Files({"a.json": json.dumps(tree).encode()}, ""))


@pytest.mark.parametrize(("names", "looks"), [(100, MOST_PROBLEMS), (3_000, 0)])
def test_similar_names_are_looked_for_a_few_times_among_a_few(
    monkeypatch: pytest.MonkeyPatch, names: int, looks: int
) -> None:
    asked: list[str] = []

    def look(word: str, *_: Any) -> list[str]:
        asked.append(word)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", look)
    named = {f"policy-{n}": {"attempts": 2} for n in range(names)}
    targets = {f"service-{n}": {"retry": f"polity-{n}"} for n in range(500)}
    with pytest.raises(DocumentError) as caught:
        decode(document({"resiliency": {"policies": {"retry": named}, "targets": targets}}))
    assert len(asked) == looks
    assert len(caught.value.problems) == MOST_PROBLEMS
    assert f" and {names - 20} more" in str(caught.value.problems[0])
    assert len(str(caught.value.problems[0])) < 500


def test_nothing_of_the_document_is_kept_with_what_is_wrong_with_it(volume: KubeletVolume) -> None:
    class Nobody:
        def check(self, snapshot: object, /) -> None:
            raise KeyError("of ours")

        def apply(self, snapshot: object, /) -> tuple[()]:
            return ()

    loader = Loader(volume.directory, lambda: (Nobody(), ()))
    for text in ("{", "{}", '{"resilience": {}}', '{"resiliency": {"targets": {"a": {"retry": "b"}}}}'):
        volume.write({"a.json": text})
        assert list(loader.begin()) == []
        problem = loader.status.problem
        assert problem is not None
        assert (problem.__traceback__, problem.__cause__, problem.__context__) == (None, None, None)


@pytest.fixture
def volume(tmp_path: Any) -> KubeletVolume:
    return KubeletVolume(tmp_path)


def test_a_number_of_thousands_of_digits_is_a_mistake_in_the_document() -> None:
    with pytest.raises(DocumentError, match=r"retry\.attempts: 9+\.\.\. must be a whole number"):
        decode(document({"resiliency": {"targets": {"a": {"retry": {"attempts": int("9" * 4_000)}}}}}))
    with pytest.raises(PolicyError, match="must be a whole number"):
        Retry(10**400)


@pytest.mark.parametrize("rate", [f"1 per {'9' * 400} years", f"{'9' * 5_000}/second", "\u0662\u0660/second"])
def test_what_is_no_rate(rate: str) -> None:
    with pytest.raises(DocumentError, match="is not a rate; write '200/second'"):
        decode(document({"resiliency": {"targets": {"a": {"ratelimit": {"rate": rate}}}}}))
    with pytest.raises(PolicyError, match="is not a rate; write '200/second'"):
        RateLimit(rate)


def test_digits_of_other_scripts_are_no_duration() -> None:
    with pytest.raises(DocumentError, match="must be a duration with its unit"):
        decode(document({"resiliency": {"targets": {"a": {"timeout": {"total": "\u0663s"}}}}}))


@pytest.mark.parametrize("window", [1e-317, 5e-324, 0.0])
def test_a_window_that_is_shorter_than_a_clock_can_tell(window: float) -> None:
    with pytest.raises(PolicyError, match=r"window=.* must be a number \(seconds\), at least 0\.001"):
        CircuitBreaker(window=window)
    text = f"0.{'0' * 316}1s"
    with pytest.raises(DocumentError, match=r"such as 250ms or 1m30s, at least 0\.001"):
        decode(document({"resiliency": {"targets": {"a": {"breaker": {"window": text}}}}}))
