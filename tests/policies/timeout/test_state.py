"""The error for a call whose time is over."""

from __future__ import annotations

import pytest

from resilient import DeadlineExceeded, Evidence, Report, Site, TimedOut, report_of
from resilient.core.outcome import attach
from resilient.policies.timeout.state import overdue
from resilient.testing import ManualClock

SITE = Site("payments", "charge", ManualClock(), len)


@pytest.mark.parametrize(
    ("total", "inherited", "error", "text"),
    [
        (False, False, TimedOut, "payments.charge: the attempt took longer than 0.25 s"),
        (True, False, DeadlineExceeded, "payments.charge: the whole call took longer than 0.25 s"),
        (False, True, DeadlineExceeded, "payments.charge: the deadline that the caller set is over"),
        (True, True, DeadlineExceeded, "payments.charge: the deadline that the caller set is over"),
    ],
)
def test_whose_time_it_was(total: bool, inherited: bool, error: type[TimedOut], text: str) -> None:
    made = overdue(0.25, total, inherited, SITE)
    assert type(made) is error
    assert str(made) == text
    assert (made.timeout, made.dependency, made.operation) == (0.25, "payments", "charge")
    assert isinstance(made, TimeoutError), "who catches the standard one catches it"
    assert report_of(made) is None


def test_what_was_known_of_the_attempt_is_kept() -> None:
    cause = ConnectionError()
    attach(cause, evidence=Evidence.NOT_SENT, endpoint="10.0.0.7:80")
    assert report_of(overdue(1.0, False, False, SITE, cause)) == Report(
        Evidence.NOT_SENT, endpoint="10.0.0.7:80"
    )
    assert report_of(overdue(1.0, False, False, SITE, ConnectionError())) is None
