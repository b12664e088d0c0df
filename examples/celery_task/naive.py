"""For comparison: a task whose key is made up in each run. The worker of the program runs it beside the others."""

from __future__ import annotations

import uuid
from typing import Any

from .tasks import app, post


@app.task(bind=True, max_retries=20)
def made_up(self: Any, order: str, cents: int) -> str:
    """The same on every attempt of the client, and another one when the task is delivered again."""
    return post(self, f"charge:{uuid.uuid4()}", {"order": order, "cents": cents})
