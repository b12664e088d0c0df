"""A key that the caller had set went along to another authority, and to what a 303 pointed at."""

from __future__ import annotations

import pytest

from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import Caller, both, seen_keys

MINE = {"Idempotency-Key": "mine"}


@both
@pytest.mark.parametrize("headers", [MINE, {}], ids=["the caller's", "ours"])
def test_it_stays_with_the_request_that_it_was_made_for(
    headers: dict[str, str], mode: str, manual_clock: ManualClock
) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Origin(clock=manual_clock) as elsewhere,
        Caller(mode, origin.url, manual_clock, follow_redirects=True) as caller,
    ):
        elsewhere.script(answer(307, headers={"Location": origin.url + "/back"}))
        origin.script(
            answer(307, headers={"Location": elsewhere.url + "/there"}),
            answer(303, headers={"Location": "/seen"}),
        )
        caller.post("/here", headers=headers)
        first, back, seen = seen_keys(origin.requests)
        assert first == back is not None, "the same call comes back to the service that it was made for"
        assert seen is None
        assert seen_keys(elsewhere.requests) == [None]


@both
def test_who_sends_one_elsewhere_at_once_means_it(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as elsewhere,
        Caller(mode, "http://svc.example", manual_clock) as caller,
    ):
        caller.post(elsewhere.url + "/there", headers=MINE)
        assert seen_keys(elsewhere.requests) == ["mine"]
