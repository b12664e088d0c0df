"""What enters an endpoint, in tests: a call."""

from __future__ import annotations

from typing import Any


class Call:
    """One call."""

    endpoint: Any = None
