"""Reading a flag, and a call of a degradable function, at the normal level.

The flag bears the name of the argument that every contender is called with: reading it is the call. Beside it a client
of OpenFeature with its provider in memory: the flag is as static there.
"""

from __future__ import annotations

from typing import Any

from openfeature import api
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from benchmarks.measure import ARGUMENT, Contender, Outcome, Settings, Spread, looped, race
from resilient import degradable, features
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
    values = {
        "flags.read": _microseconds(reads.seconds("resilient: enabled")),
        "flags.call": _microseconds(calls.seconds("resilient: degradable")),
        "flags.openfeature": reads.ratio("OpenFeature, in memory", "resilient: enabled"),
    }
    return Outcome(values, {"flags: a read": reads, "flags: a degradable function": calls})


def _microseconds(value: Spread) -> Spread:
    return Spread(value.median * 1e6, value.low * 1e6, value.high * 1e6)
