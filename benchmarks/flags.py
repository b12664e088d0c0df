"""Reading a flag, static and by caller, and a call of a degradable function, at the normal level.

The flag bears the name of the argument that every contender is called with: reading it is the call. Beside it a client
of OpenFeature with its provider in memory: the flag is as static there. Flags by caller stand beside the evaluator that
is behind both.
"""

from __future__ import annotations

import json
from typing import Any

from openfeature import api
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider, Metadata
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from benchmarks.measure import ARGUMENT, Contender, Outcome, Race, Settings, Spread, looped, race
from resilient import degradable, features
from resilient.openfeature import Provider
from resilient.testing import feature_flags

DOCUMENT = {
    "flags": {
        ARGUMENT: {
            "state": "ENABLED",
            "variants": {"on": True, "off": False},
            "defaultVariant": "on",
            "metadata": {"degrade": "1:off"},
        }
    },
    "degradation": {"levels": ["normal", "light"]},
}


RULES = {
    "rule": {"if": [{"in": [{"var": "tier"}, ["gold", "platinum"]]}, "off", None]},
    "fractional": {"fractional": [["on", 50], ["off", 50]]},
}
CALLER = {"targetingKey": "account-7", "tier": "gold"}


def work(sku: str) -> str:
    return sku


def openfeature() -> Any:
    """A client that knows the flag."""
    flag = InMemoryFlag("on", {"on": True, "off": False})
    api.set_provider(InMemoryProvider({ARGUMENT: flag}))
    client = api.get_client()

    def read(key: str) -> bool:
        return client.get_boolean_value(key, False)

    return read


class InProcess(AbstractProvider):
    """flagd's evaluator behind OpenFeature's client, as its providers have it: without what fetches the flags."""

    def __init__(self, core: FlagdCore) -> None:
        super().__init__()
        self._core = core

    def get_metadata(self) -> Metadata:
        return Metadata("flagd-core")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def _none(self, *_: object) -> Any:
        raise NotImplementedError("the flag is a boolean")

    resolve_string_details = resolve_integer_details = _none
    resolve_float_details = resolve_object_details = _none


def by_caller(name: str, settings: Settings) -> tuple[Race, Spread]:
    """Reading the flag with a rule, by us and by FlagdCore alone, and what the first takes over the second."""
    flag = DOCUMENT["flags"][ARGUMENT] | {"targeting": RULES[name]}
    core = FlagdCore()
    core.set_flags(json.dumps({"flags": {ARGUMENT: flag}}))
    who = EvaluationContext(CALLER["targetingKey"], {**CALLER, "degradation": {"level": 0}})

    def alone(key: str) -> bool:
        return core.resolve_boolean_value(key, True, who).value

    with feature_flags({**DOCUMENT, "flags": {ARGUMENT: flag}}), features.context(CALLER):
        clients = []
        for domain, provider in (("core", InProcess(core)), ("ours", Provider())):
            api.set_provider_and_wait(provider, domain)
            clients.append(api.get_client(domain))

        def theirs(key: str) -> bool:
            return clients[0].get_boolean_value(key, True, who)

        def ours(key: str) -> bool:
            return clients[1].get_boolean_value(key, True, who)

        for each in (theirs, ours, features.enabled):
            assert each(ARGUMENT) is alone(ARGUMENT), "all give the caller the same"
        reads = race(
            [
                Contender("FlagdCore", "the evaluator alone", looped(alone)),
                Contender("resilient: enabled", "the same rule", looped(features.enabled)),
                Contender(
                    "OpenFeature, FlagdCore", "its client, the evaluator in the process", looped(theirs)
                ),
                Contender("OpenFeature, resilient", "its client, our provider", looped(ours)),
            ],
            settings,
            bare="FlagdCore",
        )
    api.clear_providers()
    return reads, _microseconds(reads.seconds("resilient: enabled"))


def measure(settings: Settings) -> Outcome:
    read = openfeature()
    with feature_flags(DOCUMENT):
        assert read(ARGUMENT) is features.enabled(ARGUMENT) is True, "both know the flag"
        reads = race(
            [
                Contender("resilient: enabled", "a boolean flag", looped(features.enabled)),
                Contender("resilient: details", "the same, and why", looped(features.details)),
                Contender("OpenFeature, in memory", "a boolean flag", looped(read)),
            ],
            settings,
        )
        calls = race(
            [
                Contender("bare call", "nothing", looped(work)),
                Contender(
                    "resilient: degradable", "the function itself runs", looped(degradable(ARGUMENT)(work))
                ),
            ],
            settings,
            bare="bare call",
        )
    tables = {"flags: a read": reads, "flags: a degradable function": calls}
    over: dict[str, Spread] = {}
    for name in RULES:
        tables[f"flags: a read, {name}"], over[name] = by_caller(name, settings)
    values = {
        "flags.read": _microseconds(reads.seconds("resilient: enabled")),
        "flags.call": _microseconds(calls.seconds("resilient: degradable")),
        "flags.rule": over["rule"],
        "flags.fractional": over["fractional"],
        "flags.openfeature": reads.ratio("OpenFeature, in memory", "resilient: enabled"),
    }
    return Outcome(values, tables)


def _microseconds(value: Spread) -> Spread:
    return Spread(value.median * 1e6, value.low * 1e6, value.high * 1e6)
