"""The OpenFeature provider, under the real SDK."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent, ProviderEventDetails
from openfeature.exception import ErrorCode, OpenFeatureError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagEvaluationOptions, Reason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import ProviderStatus
from openfeature.transaction_context import (
    ContextVarsTransactionContextPropagator,
    set_transaction_context,
    set_transaction_context_propagator,
)

from resilient import ConfigError, DocumentError, configure, features
from resilient.config import load
from resilient.flags.document import parse_flags
from resilient.flags.following import FOLLOWING
from resilient.flags.state import NOTHING, publish
from resilient.openfeature import Provider
from resilient.testing import KubeletVolume, capture_events, feature_flags
from tests.contracts.test_flagd import CALLERS, DEFAULT_OF, SAMPLES, as_theirs
from tests.flags.documents import document, flag, switch

PATIENCE = 20.0
KINDS = {bool: "boolean", str: "string", int: "integer", float: "float", dict: "object"}
VIP = {"in": [{"var": "tier"}, ["gold", "platinum"]]}
SHOP = document(
    0,
    search=switch(degrade="light:off", owner="search"),
    page=flag("a", "b") | {"targeting": {"if": [VIP, "b", {"==": [{"var": "targetingKey"}, "me"]}, "b"]}},
    payment=switch(protected=True),
    left=switch() | {"defaultVariant": None},
    dark=switch() | {"state": "DISABLED"},
    size={"state": "ENABLED", "variants": {"one": 1, "half": 0.5}, "defaultVariant": "one"},
    thing={"state": "ENABLED", "variants": {"a": {"sizes": [1]}}, "defaultVariant": "a"},
) | {"metadata": {"flagSetId": "shop", "version": "7"}}  # fmt: skip


@pytest.fixture
def client() -> Iterator[OpenFeatureClient]:
    with feature_flags(SHOP):
        api.set_provider_and_wait(Provider())
        yield api.get_client()
        api.shutdown()


@pytest.fixture(autouse=True)
def nobody_follows_afterwards() -> Iterator[None]:
    yield
    api.shutdown()
    left, FOLLOWING._followers = FOLLOWING._followers, ()
    assert left == ()


def details(
    client: OpenFeatureClient, key: str, default: Any, *, asynchronous: bool = False, **of: Any
) -> Any:
    name = f"get_{KINDS[type(default)]}_details"
    if asynchronous:
        return asyncio.run(getattr(client, f"{name}_async")(key, default, **of))
    return getattr(client, name)(key, default, **of)


# ------------------------------------------------------------------------------------------------------ evaluation
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("caller", CALLERS)
def test_rows_37_38_every_sample_is_the_same_by_the_sdk_by_features_and_by_flagd(
    caller: str, asynchronous: bool
) -> None:
    who = {name: value for name, value in CALLERS[caller].items() if name != "targetingKey"}
    context = EvaluationContext(CALLERS[caller].get("targetingKey"), who)
    with feature_flags(SAMPLES):
        api.set_provider_and_wait(Provider())
        client = api.get_client()
        for key, raw in SAMPLES["flags"].items():
            default = DEFAULT_OF[type(next(iter(raw["variants"].values())))]
            found = details(client, key, default, asynchronous=asynchronous, evaluation_context=context)
            assert (found.value, found.variant, found.reason.value) == as_theirs(
                SAMPLES, key, default, CALLERS[caller]
            )[:3]
            ours = features.details(key, default, context=CALLERS[caller])
            assert (found.value, found.variant, found.reason.value) == (ours.value, ours.variant, ours.reason)
            assert found.flag_metadata == {**SAMPLES["metadata"], **raw.get("metadata", {})}


def test_a_level_holds_for_everybody() -> None:
    with feature_flags(SHOP, level="light"):
        api.set_provider_and_wait(Provider())
        found = api.get_client().get_boolean_details("search", True)
        assert (found.value, found.variant, found.reason) == (False, "off", Reason.TARGETING_MATCH)
        assert found.flag_metadata["owner"] == "search"
        with features.collecting() as degraded:
            api.get_client().get_boolean_value("search", True)
        assert degraded == {"search": "off"}


@pytest.mark.parametrize(
    ("key", "default", "reason", "error"),
    [
        ("serach", True, Reason.ERROR, ErrorCode.FLAG_NOT_FOUND),
        ("left", True, Reason.DEFAULT, None),
        ("dark", False, Reason.DISABLED, None),
        ("search", "text", Reason.ERROR, ErrorCode.TYPE_MISMATCH),
        ("search", 1, Reason.ERROR, ErrorCode.TYPE_MISMATCH),
        ("search", 1.5, Reason.ERROR, ErrorCode.TYPE_MISMATCH),
        ("size", True, Reason.ERROR, ErrorCode.TYPE_MISMATCH),
        ("thing", "text", Reason.ERROR, ErrorCode.TYPE_MISMATCH),
        ("page", {"a": 1}, Reason.ERROR, ErrorCode.TYPE_MISMATCH),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_where_there_is_no_value_the_default_holds(
    client: OpenFeatureClient, key: str, default: Any, reason: Reason, error: Any, asynchronous: bool
) -> None:
    found = details(client, key, default, asynchronous=asynchronous)
    assert (found.value, found.variant, found.reason, found.error_code) == (default, None, reason, error)
    assert (found.error_message is None) == (error is None)


def test_numbers(client: OpenFeatureClient) -> None:
    assert client.get_integer_value("size", 7) == 1
    whole = client.get_float_value("size", 7.0)
    assert (whole, type(whole)) == (1.0, float)
    with feature_flags(document(size=SHOP["flags"]["size"] | {"defaultVariant": "half"})):
        assert client.get_float_value("size", 7.0) == 0.5
        assert client.get_integer_details("size", 7).error_code == ErrorCode.TYPE_MISMATCH


def test_an_object_is_the_callers_own(client: OpenFeatureClient) -> None:
    value: Any = client.get_object_value("thing", {})
    value["sizes"].append(2)
    assert client.get_object_value("thing", {}) == {"sizes": [1]}


def test_a_rule_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    rule = {"if": [{"/": [1, {"var": ["age", 1]}]}, "b"]}
    with feature_flags(document(a=flag("a", "b") | {"targeting": rule})):
        api.set_provider_and_wait(Provider())
        found = api.get_client().get_string_details("a", "mine", EvaluationContext(attributes={"age": 0}))
    assert (found.value, found.reason, found.error_code) == ("mine", Reason.ERROR, ErrorCode.GENERAL)
    assert "its targeting failed (ZeroDivisionError" in caplog.text


# --------------------------------------------------------------------------------------------- contexts and hooks
def test_the_contexts_of_the_sdk_stand_above_ours(client: OpenFeatureClient) -> None:
    assert client.get_string_value("page", "") == "a"
    with features.context(tier="gold"):
        assert client.get_string_value("page", "") == "b"
        api.set_evaluation_context(EvaluationContext(attributes={"tier": "basic"}))
        assert client.get_string_value("page", "") == "a"
        assert client.get_string_value("page", "", EvaluationContext("me")) == "b"


def test_a_targeting_key_of_ours_holds_where_the_sdk_has_none(client: OpenFeatureClient) -> None:
    with features.context(targetingKey="me"):
        assert client.get_string_value("page", "") == "b"
        assert client.get_string_value("page", "", EvaluationContext("you")) == "a"


def test_the_transaction_context(client: OpenFeatureClient) -> None:
    set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    set_transaction_context(EvaluationContext("me"))
    assert client.get_string_value("page", "") == "b"
    set_transaction_context(EvaluationContext())


class Recorder(Hook):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def before(self, hook_context: HookContext, hints: HookHints) -> EvaluationContext:
        self.seen.append(("before", hook_context.provider_metadata and hook_context.provider_metadata.name))
        return EvaluationContext("me")

    def after(self, hook_context: HookContext, details: FlagEvaluationDetails[Any], hints: HookHints) -> None:
        self.seen.append(("after", details.variant, details.flag_metadata["version"]))

    def error(self, hook_context: HookContext, exception: Exception, hints: HookHints) -> None:
        assert isinstance(exception, OpenFeatureError)
        self.seen.append(("error", exception.error_code))


def test_hooks_run_around_it_and_may_say_who_asks(client: OpenFeatureClient) -> None:
    hook = Recorder()
    options = FlagEvaluationOptions(hooks=[hook])
    assert client.get_string_value("page", "", flag_evaluation_options=options) == "b"
    assert client.get_string_value("serach", "x", flag_evaluation_options=options) == "x"
    assert hook.seen == [
        ("before", "resilient"),
        ("after", "b", "7"),
        ("before", "resilient"),
        ("error", ErrorCode.FLAG_NOT_FOUND),
    ]


def test_tracking_does_nothing(client: OpenFeatureClient) -> None:
    client.track("bought")


# --------------------------------------------------------------------------------------------------------- events
class Told:
    """A provider as the SDK holds one, and what it told, in order."""

    def __init__(self, **options: Any) -> None:
        self.events: list[tuple[str, list[str] | None]] = []
        self.messages: list[str | None] = []
        self.provider = Provider(**options)
        self.provider.attach(self._tell)

    def _tell(self, provider: Any, event: ProviderEvent, details: ProviderEventDetails) -> None:
        self.events.append((event.value.removeprefix("PROVIDER_"), details.flags_changed))
        self.messages.append(details.message)

    def initialize(self) -> Told:
        self.provider.initialize(EvaluationContext())
        return self

    def new(self) -> list[tuple[str, list[str] | None]]:
        events, self.events = self.events, []
        return events


@pytest.fixture
def told() -> Iterator[Told]:
    found = Told(timeout=PATIENCE)
    yield found
    found.provider.shutdown()


def test_what_changed_is_told_in_order(told: Told) -> None:
    with feature_flags(SHOP):
        told.initialize()
        assert told.new() == [], "the SDK says itself that it is ready"
        publish(parse_flags(SHOP))
        assert told.new() == [], "nothing changed"
        publish(parse_flags(SHOP | {"degradation": {**SHOP["degradation"], "level": 1}}))
        assert told.new() == [("CONFIGURATION_CHANGED", ["search"])]
        rule = {"if": [VIP, "b"]}
        publish(
            parse_flags(SHOP | {"flags": {**SHOP["flags"], "page": flag("a", "b") | {"targeting": rule}}})
        )
        assert told.new() == [("CONFIGURATION_CHANGED", ["search", "page"])]
        publish(parse_flags({"flags": {"page": flag("a", "b") | {"targeting": rule}, "new": switch()}}))
        assert told.new() == [
            ("CONFIGURATION_CHANGED", ["search", "payment", "left", "dark", "size", "thing", "new"])
        ]
        publish(
            parse_flags(
                {"flags": {"page": flag("a", "c") | {"targeting": {"if": [VIP, "c"]}}, "new": switch()}}
            )
        )
        assert told.new() == [("CONFIGURATION_CHANGED", ["page"])], (
            "only those whom a rule names get another value"
        )


def test_a_note_on_a_feature_is_no_change(told: Told) -> None:
    with feature_flags(document(a=switch(owner="x"))):
        told.initialize()
        publish(parse_flags(document(a=switch(owner="y"))))
        assert told.new() == []
        assert features.details("a").metadata == {"owner": "y"}


@pytest.mark.usefixtures("center")
def test_without_a_document_it_is_in_error_until_there_is_one(told: Told) -> None:
    with pytest.raises(ProviderNotReadyError, match="there is no document: set RESILIENT_CONFIG_DIR"):
        told.initialize()
    assert told.new() == []
    with feature_flags(SHOP):
        assert told.new() == [("READY", None), ("CONFIGURATION_CHANGED", [*SHOP["flags"]])]
    assert told.new() == [("ERROR", [*SHOP["flags"]])]


@pytest.mark.usefixtures("center")
def test_a_document_that_does_not_come_in_time(volume: KubeletVolume) -> None:
    configure(volume.directory)
    told = Told(timeout=0)
    # That of a thread that was quick enough to look is the second.
    nothing = r"no document was read from .*mount within 0 s|there is no directory .*mount"
    with pytest.raises(ProviderNotReadyError, match=nothing):
        told.initialize()
    volume.write({"a.json": json.dumps(SHOP)})
    load()
    assert told.new() == [("READY", None), ("CONFIGURATION_CHANGED", [*SHOP["flags"]])]
    told.provider.shutdown()
    publish(NOTHING)
    assert told.new() == [], "it does not follow any more"


@pytest.mark.usefixtures("center")
def test_a_document_is_waited_for_refused_and_good_again(volume: KubeletVolume, told: Told) -> None:
    volume.write({"a.json": json.dumps(SHOP)})
    configure(volume.directory)
    told.initialize()
    assert features.enabled("search"), "it is there when the SDK is told that it is ready"
    assert told.new() == []

    volume.write({"a.json": "{"})
    for _ in range(2):
        with pytest.raises(DocumentError):
            load()
    assert told.new() == [("STALE", None)], "once for one content"
    assert "a.json:1: is no JSON" in str(told.messages[-1])
    volume.write({"a.json": "{}["})
    with pytest.raises(DocumentError):
        load()
    assert told.new() == [("STALE", None)], "and once for another"

    volume.write({"a.json": json.dumps(SHOP)})
    load()
    assert told.new() == [("READY", None)]
    volume.write({"a.json": "{"})
    with pytest.raises(DocumentError):
        load()
    volume.write({"a.json": json.dumps(SHOP | {"degradation": {**SHOP["degradation"], "level": 1}})})
    load()
    assert told.new() == [("STALE", None), ("CONFIGURATION_CHANGED", ["search"]), ("READY", None)]


@pytest.mark.usefixtures("center")
def test_a_document_that_is_refused_at_the_start_is_not_waited_for(volume: KubeletVolume, told: Told) -> None:
    volume.write({"a.json": json.dumps({"flags": {"a": switch() | {"defaultVariant": "onn"}}})})
    configure(volume.directory)
    with pytest.raises(ProviderNotReadyError, match="has no variant 'onn'; write on"):
        told.initialize()


@pytest.mark.usefixtures("center")
def test_what_an_emergency_says_does_not_make_a_refused_document_good(
    volume: KubeletVolume, tmp_path: Path, told: Told
) -> None:
    emergency = KubeletVolume(tmp_path / "emergency")
    emergency.write({"a.json": "{}"})
    volume.write({"a.json": json.dumps(SHOP)})
    configure(volume.directory, emergency=emergency.directory)
    told.initialize()
    volume.write({"a.json": "{"})
    with pytest.raises(DocumentError):
        load()
    assert told.new() == [("STALE", None)]
    emergency.write({"a.json": '{"degradation": {"level": 1}}'})
    with pytest.raises(DocumentError):
        load()
    assert told.new() == [("CONFIGURATION_CHANGED", ["search"])]
    volume.write({"a.json": json.dumps(SHOP)})
    load()
    assert told.new() == [("READY", None)]


@pytest.mark.usefixtures("center")
def test_what_stands_in_for_a_refused_document_is_stale(
    volume: KubeletVolume, tmp_path: Path, told: Told
) -> None:
    bundled = tmp_path / "bundled.json"
    bundled.write_text(json.dumps(SHOP))
    volume.write({"a.json": "{"})
    with pytest.raises(ProviderNotReadyError):
        told.initialize()
    configure(volume.directory, bundled=bundled)
    with pytest.raises(DocumentError):
        load()
    assert features.enabled("search"), "the bundled document is in force"
    assert told.new() == [("READY", None), ("CONFIGURATION_CHANGED", [*SHOP["flags"]]), ("STALE", None)]
    volume.write({"a.json": json.dumps(SHOP)})
    load()
    assert told.new() == [("READY", None)]


@pytest.mark.usefixtures("center")
def test_a_bundled_document_alone_is_waited_for(tmp_path: Path, told: Told) -> None:
    bundled = tmp_path / "bundled.json"
    bundled.write_text(json.dumps(SHOP))
    configure(bundled=bundled)
    told.initialize()
    assert features.enabled("search")
    assert told.new() == []


@pytest.mark.usefixtures("center")
def test_another_directory_ends_what_was_wrong_with_the_one_before(
    volume: KubeletVolume, tmp_path: Path, told: Told
) -> None:
    volume.write({"a.json": json.dumps(SHOP)})
    configure(volume.directory)
    told.initialize()
    volume.write({"a.json": "{"})
    with pytest.raises(DocumentError):
        load()
    assert told.new() == [("STALE", None)]
    other = KubeletVolume(tmp_path / "other")
    other.write({"a.json": json.dumps(SHOP)})
    configure(other.directory)
    load()
    assert told.new() == [("READY", None)]


def test_the_sdk_has_its_status_and_calls_its_handlers() -> None:
    heard: queue.SimpleQueue[tuple[ProviderEvent, EventDetails]] = queue.SimpleQueue()
    for event in ProviderEvent:
        api.add_handler(event, lambda found, event=event: heard.put((event, found)))  # type: ignore[misc]

    def told() -> tuple[ProviderEvent, EventDetails]:
        while True:
            event, found = heard.get(timeout=PATIENCE)
            if found.provider_name == "resilient":
                return event, found

    with feature_flags(SHOP):
        provider = Provider()
        api.set_provider_and_wait(provider)
        client = api.get_client()
        assert told()[0] is ProviderEvent.PROVIDER_READY
        assert client.get_provider_status() is ProviderStatus.READY
        provider.refused("half a document")
        event, found = told()
        assert (event, found.message) == (ProviderEvent.PROVIDER_STALE, "half a document")
        assert client.get_provider_status() is ProviderStatus.STALE
        assert client.get_boolean_value("search", False), "the last good document is in force"
        provider.recovered()
        assert told()[0] is ProviderEvent.PROVIDER_READY
        publish(parse_flags(SHOP | {"degradation": {**SHOP["degradation"], "level": 1}}))
        event, found = told()
        assert (event, found.flags_changed) == (ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ["search"])
        api.clear_providers()
        assert FOLLOWING._followers == (), "shutdown"


def test_a_handler_of_somebodys_that_raises_hides_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, told = Provider(), Told()

    def tell(*args: Any) -> None:
        raise OSError("no more threads")

    broken.attach(tell)
    with feature_flags(SHOP):
        broken.initialize(EvaluationContext())
        told.initialize()
        publish(parse_flags(document(a=switch())))
    assert told.events[0][0] == "CONFIGURATION_CHANGED"
    assert "no more threads" in caplog.text
    broken.shutdown()
    told.provider.shutdown()


def test_it_makes_no_call_slower() -> None:
    """Who follows does not listen: calls take the watched path while somebody does."""
    from resilient.core.events import RUNTIME

    with feature_flags(SHOP):
        api.set_provider_and_wait(Provider())
        assert RUNTIME.listeners == ()
        assert not RUNTIME.attention


def test_an_unknown_flag_is_told_as_by_features(client: OpenFeatureClient) -> None:
    with capture_events() as seen:
        client.get_boolean_value("serach", True)
    assert [event.dependency for event in seen.named("resilient.degradation.unknown")] == ["serach"]


@pytest.mark.parametrize("timeout", [-1, "5", None, float("inf")])
def test_a_time_out_that_is_none(timeout: Any) -> None:
    with pytest.raises(ConfigError, match=r"Provider: timeout=.* must be .*; write Provider\(timeout=10.0\)"):
        Provider(timeout=timeout)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['openfeature'] = None; import resilient.openfeature"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "resilient.openfeature needs openfeature-sdk: pip install 'resilient-client[flags]'" in done.stderr
