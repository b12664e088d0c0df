"""What became of an order."""

from __future__ import annotations

from typing import NamedTuple

OK, FAILED, REJECTED, UNFINISHED = "ok", "failed", "rejected", "unfinished"


class Order(NamedTuple):
    """One order, as checkout saw it.

    Attributes:
        id: of the order.
        arrived: seconds from the start of the run, as planned.
        took: seconds from its arrival to the answer; for an unfinished one, until checkout gave up on it.
        outcome: ``ok``: charged, with a receipt; ``failed``: an error; ``rejected``: a local no, nothing was sent
            for it at the end; ``unfinished``: no answer until the end of the run.
        error: the class of the error, or the status.
        requests: how often a request was sent for it, or a connection tried in vain.
        receipt: what payments answered with.
    """

    id: str
    arrived: float
    took: float
    outcome: str
    error: str = ""
    requests: int = 1
    receipt: str = ""

    def served(self, deadline: float) -> bool:
        """Whether it was answered 2xx within its deadline."""
        return self.outcome == OK and self.took <= deadline
