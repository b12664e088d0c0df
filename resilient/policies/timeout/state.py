"""What a time-out comes to. No I/O; the time is passed in."""

from __future__ import annotations

from ...core.errors import DeadlineExceeded, TimedOut
from ...core.options import seconds
from ...core.outcome import report_of
from ...core.policy import Site


def overdue(
    limit: float, total: bool, inherited: bool, site: Site, cause: BaseException | None = None
) -> TimedOut:
    """The error for a call whose time is over.

    Args:
        limit: the policy's seconds.
        total: whether it bounds the whole call (it stands outside the retry), not an attempt.
        inherited: whether the time that ran out is that of an outer deadline.
        cause: what ended the attempt; its report, where it has one, is kept.
    """
    if inherited:
        error: TimedOut = DeadlineExceeded("the deadline that the caller set is over", timeout=limit)
    elif total:
        error = DeadlineExceeded(f"the whole call took longer than {seconds(limit)}", timeout=limit)
    else:
        error = TimedOut(f"the attempt took longer than {seconds(limit)}", timeout=limit)
    error.dependency, error.operation = site.dependency, site.operation
    report = None if cause is None else report_of(cause)
    if report is not None:
        error.__dict__["resilient"] = report
    return error


def was_cut(exc: TimedOut, deadline: float, now: float) -> bool:
    """Whether an attempt was cut at the deadline of the whole call: then it is that time which ran out.

    What waits for the network is cut by its own streams, which know the deadline and not whose it is."""
    return now >= deadline and exc.__class__ is not DeadlineExceeded
