"""`Retry(idempotency_key=...).attempts()` made no key, and repeated as if there were one.

A key is made of a function's arguments, and a block has none: what may have happened was sent again, unkeyed."""

from __future__ import annotations

import pytest

from resilient import PolicyError, Retry


def test_a_block_refuses_an_option_that_it_cannot_keep() -> None:
    with pytest.raises(
        PolicyError, match=r"Retry: idempotency_key=.* a block has none; write Retry\(idempotent=True\)"
    ):
        Retry(3, idempotency_key=lambda order: str(order)).attempts()
