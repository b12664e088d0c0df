"""`degradable`: which function runs, in sync and async code, and what is told of it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    Fallback,
    FeatureDisabled,
    Pipeline,
    PolicyError,
    Rejected,
    Retry,
    degradable,
    features,
    set_active,
)
from resilient.testing import ManualClock, capture_events, feature_flags
from tests.flags.documents import document, flag, switch

SHOP = document(
    0,
    recommendations=flag("full", "cached", "small", "off", degrade="1:cached,2:small,3:off"),
    search=switch(degrade="2:off"),
    launch=switch() | {"defaultVariant": "off"},
    payment=switch(protected=True),
    dark=switch(degrade="1:off") | {"state": "DISABLED"},
)


def cached(user: str) -> str:
    return f"cached for {user}"


async def cached_later(user: str) -> str:
    await asyncio.sleep(0)
    return f"cached for {user}"


def runs(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """The function, or an async one that does the same and is run at once."""
    return function if mode == "sync" else lambda *args, **kwargs: asyncio.run(function(*args, **kwargs))


def made(mode: str, feature: str = "recommendations", **options: Any) -> Callable[..., Any]:
    if mode == "sync":

        @degradable(feature, **options)
        def work(user: str) -> str:
            return f"for {user}"
    else:

        @degradable(feature, **options)
        async def work(user: str) -> str:
            await asyncio.sleep(0)
            return f"for {user}"

    return runs(work, mode)


MODES = pytest.mark.parametrize("mode", ["sync", "async"])


@MODES
def test_each_level_has_its_function(mode: str) -> None:
    work = made(mode, variants={"cached": cached}, fallback=lambda user: f"best for {user}")
    got = []
    for level in range(4):
        with feature_flags(SHOP, level=level):
            got.append(work("ann"))
            assert work(user="ann") == got[-1], "by name too"
    assert got == ["for ann", "cached for ann", "best for ann", "best for ann"]
    assert work("ann") == "for ann", "nothing is published"


def test_async_calls_take_async_and_sync_variants() -> None:
    work = made("async", variants={"cached": cached_later, "small": cached}, fallback=cached_later)
    for level in (1, 2, 3):
        with feature_flags(SHOP, level=level):
            assert work("ann") == "cached for ann"


@MODES
@pytest.mark.parametrize("fallback", [None, [], "text", 0])
def test_a_fallback_may_be_any_value(mode: str, fallback: object) -> None:
    work = made(mode, fallback=fallback)
    with feature_flags(SHOP, level=3):
        assert work("ann") is fallback


@MODES
def test_a_fallback_that_asks_is_told_why(mode: str) -> None:
    def told(user: str, *, error: FeatureDisabled) -> tuple[str, str, str]:
        return user, error.variant, error.reason

    work = made(mode, fallback=told)
    with feature_flags(SHOP, level=2):
        assert work("ann") == ("ann", "small", "level:2")


@MODES
def test_without_a_fallback_off_is_a_rejection(mode: str) -> None:
    work = made(mode, "search", variants={"cached": cached})
    with feature_flags(SHOP, level=2), capture_events() as seen, pytest.raises(FeatureDisabled) as caught:
        work("ann")
    error = caught.value
    assert isinstance(error, Rejected)
    assert (error.policy, error.reason, error.feature, error.variant) == (
        "degradation",
        "level:2",
        "search",
        "off",
    )
    assert str(error) == (
        "search.made.<locals>.work: the feature is off at level 2; give @degradable a fallback= to answer all the same"
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    (event,) = seen.named("resilient.rejected")
    assert event.fields() == {
        "dependency": "search",
        "operation": "made.<locals>.work",
        "by": "degradation",
        "reason": "level:2",
    }


@MODES
def test_a_feature_that_the_document_has_off_is_off_at_every_level(mode: str) -> None:
    with feature_flags(SHOP), features.collecting() as degraded:
        assert made(mode, "launch", fallback="later")("ann") == "later"
        with pytest.raises(FeatureDisabled, match="the feature is off by the document"):
            made(mode, "launch")("ann")
    assert degraded == {}, "off is what it is, not what it was degraded to"


@MODES
@pytest.mark.parametrize("feature", ["payment", "dark", "unknown"])
def test_the_function_itself_runs_where_the_document_has_no_say(mode: str, feature: str) -> None:
    work = made(mode, feature, fallback="instead")
    with feature_flags(SHOP, level=3):
        assert work("ann") == "for ann"


@MODES
def test_a_variant_that_the_code_does_not_know_runs_in_full_and_is_logged_once(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = made(mode, variants={"cached": cached})
    with feature_flags(SHOP, level=2), features.collecting() as degraded:
        caplog.clear()
        assert [work("ann"), work("ann")] == ["for ann"] * 2
        assert [record.getMessage() for record in caplog.records] == [
            "feature 'recommendations' is degraded to 'small', for which made.<locals>.work has neither a function nor "
            "a fallback: it runs in full"
        ]
        assert degraded == {}


@MODES
def test_what_ran_is_told_and_collected(mode: str) -> None:
    def broken(user: str) -> str:
        raise LookupError(user)

    work = made(mode, variants={"cached": cached, "small": broken}, fallback="none")
    with capture_events() as seen:
        for level in (0, 1, 3):
            with feature_flags(SHOP, level=level), features.collecting() as degraded:
                work("ann")
            shown = {0: {}, 1: {"recommendations": "cached"}, 3: {"recommendations": "off"}}
            assert degraded == shown[level]
        with feature_flags(SHOP, level=2), pytest.raises(LookupError):
            work("ann")
        work("nothing is published")
    told = [event.fields() for event in seen.named("resilient.degradation.executed")]
    assert [(each["path"], each["variant"], each["cause"]) for each in told] == [
        ("normal", "full", "default"),
        ("degraded", "cached", "level:1"),
        ("degraded", "off", "level:3"),
        ("fallback_error", "small", "level:2"),
        ("normal", None, "code_default"),
    ]
    assert {(each["dependency"], each["operation"]) for each in told} == {
        ("recommendations", "made.<locals>.work")
    }


def test_what_the_function_itself_raises_is_its_own_affair() -> None:
    @degradable("search", fallback="instead")
    def work() -> str:
        raise LookupError

    with feature_flags(SHOP), capture_events() as seen, pytest.raises(LookupError):
        work()
    assert [event.fields()["path"] for event in seen.named("resilient.degradation.executed")] == ["normal"]


def test_a_call_that_is_cancelled_is_no_failed_fallback() -> None:
    async def stuck(user: str) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    @degradable("recommendations", variants={"cached": stuck})
    async def work(user: str) -> str:
        return user

    async def main() -> None:
        task = asyncio.create_task(work("ann"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with feature_flags(SHOP, level=1), capture_events() as seen:
        asyncio.run(main())
        assert seen.named("resilient.degradation.executed") == []


def test_one_document_holds_for_all_of_a_call() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(user: str) -> str:
        began.set()
        await go_on.wait()
        return "cached"

    @degradable("recommendations", variants={"cached": slow}, fallback="off")
    async def work(user: str) -> str:
        return "full"

    async def main() -> tuple[str, str]:
        with feature_flags(SHOP, level=1):
            task = asyncio.create_task(work("ann"))
            await began.wait()
            with feature_flags(SHOP, level=3):
                after = await work("ben")
                go_on.set()
                return await task, after

    assert asyncio.run(main()) == ("cached", "off")


def test_a_degradable_function_of_a_pipeline_is_never_retried_and_never_blamed() -> None:
    pipeline = Pipeline(Retry(3), name="search", clock=ManualClock())

    @pipeline
    @degradable("search")
    def work() -> str:
        return "found"

    with feature_flags(SHOP, level=2), capture_events() as seen:
        with pytest.raises(FeatureDisabled):
            work()
        assert seen.named("resilient.retry.scheduled") == []
        assert Fallback("none", on=Rejected)(work)() == "none"
    assert work() == "found"


def test_outside_a_pipeline_it_keeps_that_within_reach() -> None:
    pipeline = Pipeline(Retry(3), name="found")

    @degradable("search")
    @pipeline
    def work() -> str:
        return "found"

    assert work.pipeline is pipeline  # type: ignore[attr-defined]


def test_functions_of_every_kind_keep_their_names_and_signatures() -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def small(self, sku: str) -> str:
            return f"small {self.name} {sku}"

        @degradable("recommendations", variants={"cached": small}, fallback="none")
        def shelf(self, sku: str) -> str:
            """A shelf."""
            return f"{self.name} {sku}"

        @degradable("recommendations", fallback="none")
        @classmethod
        def kind(cls, sku: str) -> str:
            return f"{cls.__name__} {sku}"

        @degradable("recommendations", fallback="none")
        @staticmethod
        def plain(sku: str) -> str:
            return sku

    shop = Shop("corner")
    part = degradable("recommendations", fallback="none")(functools.partial(cached, "ann"))
    assert [shop.shelf("a"), shop.kind("a"), Shop.plain("a"), part()] == [
        "corner a",
        "Shop a",
        "a",
        "cached for ann",
    ]
    with feature_flags(SHOP, level=1):
        assert shop.shelf("a") == "small corner a"
    with feature_flags(SHOP, level=3):
        assert {shop.shelf("a"), shop.kind("a"), Shop.plain("a"), part()} == {"none"}
    with capture_events() as seen:
        part()
        degradable("recommendations")(Callee())()
    assert [event.operation for event in seen.named("resilient.degradation.executed")] == ["cached", "Callee"]
    assert (Shop.shelf.__name__, Shop.shelf.__doc__) == ("shelf", "A shelf.")
    assert str(inspect.signature(Shop.shelf)) == "(self, sku: 'str') -> 'str'"
    assert inspect.iscoroutinefunction(degradable("a")(cached_later))


def test_policies_that_step_aside_for_tests_take_it_along() -> None:
    work = made("sync", fallback="none")
    with feature_flags(SHOP, level=3):
        set_active(False)
        try:
            assert work("ann") == work(user="ann") == "for ann"
            assert made("async", fallback="none")("ann") == "for ann"
            assert made("async", fallback="none")(user="ann") == "for ann"
        finally:
            set_active(True)
        assert work("ann") == "none"


class Callee:
    def __call__(self) -> str:
        return "called"


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: degradable(""), r"feature='' must be a text.*write @degradable\('recommendations'\)"),
        (lambda: degradable(cached), r"feature=<function cached .*write @degradable\('recommendations'\)"),
        (lambda: degradable("a", variants=[cached]), r"variants=\[.*\] must be a dict.*write variants=\{"),
        (lambda: degradable("a", variants={"cached": []}), r"variants has 'cached': \[\].*as fallback="),
        (lambda: degradable("a", variants={1: cached}), r"variants has 1: "),
        (lambda: degradable("a")("no function"), r"'no function' is no function; .*@degradable\("),
        (lambda: degradable("a")(generator), r"generator is a generator function"),
        (lambda: degradable("a", variants={"b": cached_later})(cached), r"cached is sync and its b is async"),
        (lambda: degradable("a", fallback=cached_later)(cached), r"cached is sync and its fallback is async"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_decorated(build: Callable[[], object], text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        build()
