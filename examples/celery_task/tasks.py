"""The part to copy: tasks that are delivered again after a crash, and send the key that they sent before.

A broker delivers at least once. So the key of a request follows from the message, and never from the run."""

from __future__ import annotations

import os
from typing import Any

import httpx
from celery import Celery

import resilient.httpx
from resilient import KeyReused, backoff

app = Celery("shop", broker=os.environ.get("BROKER_URL", "redis://localhost"))
app.conf.update(
    task_acks_late=True,  # done is told when it is done: what a worker that dies was at comes back
    task_reject_on_worker_lost=True,  # also where one process of its pool dies
    worker_prefetch_multiplier=1,  # a worker that dies has few messages that nobody else can have until then
    broker_transport_options={"visibility_timeout": int(os.environ.get("VISIBILITY_TIMEOUT", "3600"))},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
)

bank = resilient.httpx.client(
    "bank", base_url=os.environ.get("BANK_URL", "http://bank.shop.svc"), profile="supported"
)
LONGEST = 1800.0
"""Seconds until the next try, at most: what waits for longer than the visibility time-out is delivered again."""
LATER = backoff(5.0, cap=600.0, jitter="equal")
"""Between two tries of a task: minutes, where the attempts of the client take seconds."""


@app.task(bind=True, max_retries=20)
def charge(self: Any, order: str, cents: int) -> str:
    """The order names the intent: two messages for one order are one charge."""
    return post(self, f"charge:{order}", {"order": order, "cents": cents})


@app.task(bind=True, max_retries=20)
def tip(self: Any, order: str, cents: int) -> str:
    """Each message is an intent of its own. Its id stays what it is when it is delivered again, and over `retry()`."""
    return post(self, f"tip:{self.request.id}", {"order": order, "cents": cents})


def post(task: Any, key: str, body: dict[str, Any]) -> str:
    """One request under one key, tried again later for as long as nobody knows."""
    try:
        response = bank.post("/charges", json=body, extensions={"resilient": {"idempotency_key": key}})
        if response.status_code == 402:
            return "refused"
        response.raise_for_status()
    except KeyReused:
        raise  # the same key and another body: a mistake of ours, which no retry mends
    except httpx.HTTPError as error:  # OutcomeUnknown, CircuitOpen, a 5xx: all of them are asked again
        asked = getattr(error, "retry_after", None) or 0.0  # an open breaker says for how long
        countdown = max(LATER.delay(task.request.retries + 1), asked)
        raise task.retry(exc=error, countdown=min(countdown, LONGEST)) from error
    return str(response.json()["receipt"])
