"""The core speaks to a SOCKS proxy without time-outs: one that never answered held a sync call for ever."""

from __future__ import annotations

import httpx
import pytest

import resilient.httpx
from resilient import Pipeline, Timeout
from resilient.core.outcome import Evidence, report_of
from tests.http.relays import Socks, proxy


def test_the_deadline_holds() -> None:
    with proxy(Socks) as way:
        way.hangs = True
        policies = Pipeline(Timeout(0.1), name="svc")
        with resilient.httpx.client(
            "svc", base_url="http://svc.example", proxy=way.url, policies=policies, timeout=None
        ) as client:
            with pytest.raises(httpx.TimeoutException) as caught:
                client.post("/x")
            report = report_of(caught.value)
            assert report is not None
            assert report.evidence is Evidence.NOT_SENT
