"""Idempotency keys: one per logical call, derived the same way in every process.

UUIDs by RFC 9562: version 5 where the key comes from business data (an order's number), so that a redelivered
job or a restarted worker sends the key that it sent before; version 4 where it is made up."""

from __future__ import annotations

import os
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:resilient:idempotency-key")


def new_key() -> str:
    """A key that was never used before."""
    return str(uuid.UUID(bytes=os.urandom(16), version=4))


def business_key(dependency: str, operation: str, value: str, /) -> str:
    """The key of a business intent: the same dependency, operation and value give the same key everywhere.

    A *new* intent needs a new value: charge order 7 a second time as ``"7:second"``. Never mix in an attempt
    number, a host name or the time."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join((dependency, operation, value))))


def child_key(parent: str, operation: str, *label: str) -> str:
    """The key of a call made inside another one. A label that was given has one part; one that was counted has two."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join((parent, operation, *label))))


def shown(key: str, /) -> str:
    """What logs and spans show of a key: enough to find its requests, and not enough to ask with it."""
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()[:16]
