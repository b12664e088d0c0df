"""A policy in pipelines of two names followed one in some pods, and the other in others.

Where the document was there before the pipelines it was the one that was made first, else the one whose name comes
first in the alphabet: it hung on which of two threads was quicker."""

from __future__ import annotations

import json

import pytest

from resilient import CircuitBreaker, Pipeline
from resilient.config.live import Live
from resilient.config.snapshot import snapshot_of
from resilient.config.source import Files
from resilient.core.registry import Registry


@pytest.mark.parametrize("document_first", [False, True])
def test_it_follows_the_one_that_was_made_first(document_first: bool) -> None:
    text = json.dumps(
        {"resiliency": {"targets": {"a": {"breaker": {"probes": 2}}, "b": {"breaker": {"probes": 7}}}}}
    )
    snapshot = snapshot_of(Files({"a.json": text.encode()}, ""), ())
    registry = Registry()
    live = Live(registry)
    registry.follow(live.follow)
    if document_first:
        live.apply(snapshot)
    shared = CircuitBreaker()
    kept = []
    for name in ("b", "a"):
        kept.append(Pipeline(shared, name=name))
        registry.add(kept[-1])
    if not document_first:
        live.check(snapshot)
        live.apply(snapshot)
    assert shared.options.probes == 7
    assert live.explain("b.breaker.probes").value == 7
