"""With ``Profile(missing=Signal(400))`` every 400 that a GET was answered by was a KeyRequired; a GET takes no key."""

from __future__ import annotations

import pytest

from resilient import KeyRequired
from resilient.http.profiles import Profile, Signal
from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import Caller, both


@both
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_its_answer_is_an_answer(mode: str, method: str, manual_clock: ManualClock) -> None:
    wants = Profile(missing=Signal(400))
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=wants) as caller,
    ):
        origin.script(answer(400), answer(400))
        assert caller.send(method).status_code == 400
        assert isinstance(caller.fails("PUT"), KeyRequired)
