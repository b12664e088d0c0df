"""What a server says is left of a quota: ``RateLimit`` and ``RateLimit-Policy``, and the older ``X-RateLimit-*``.

Only "nothing is left, for so long" is believed, and acted on. More than nothing is no promise (the quota may be shared
with other processes), and no header makes anything faster. Sources: draft-ietf-httpapi-ratelimit-headers, RFC 9651."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

STRUCTURED = "RateLimit"
"""The fields of the draft, in whichever case they are written."""

_LONGEST = 1024
"""Characters of a field that are looked at."""
_EPOCH = 1e9
"""A reset of more seconds than this (31 years) is a date: seconds since the epoch."""
_EPOCH_MILLISECONDS = 1e12
"""And of more than this, milliseconds."""


def empty_for(
    headers: Mapping[str, str], now: Callable[[], float], prefix: str = STRUCTURED, *, refused: bool = False
) -> float | None:
    """Seconds for which nothing is left of the quota; None where something is, or nobody says.

    Args:
        now: the server's time in seconds since the epoch.
        prefix: of the headers: ``"RateLimit"``, or such as ``"X-RateLimit"`` for ``-Remaining`` and ``-Reset``.
        refused: whether the request was turned away (429): then nothing is left where that is not said.
    """
    if headers.get("age", "0") != "0":
        return None  # out of a cache: what is left now is not known
    if prefix.lower() == "ratelimit":
        return _structured(headers)
    remaining = _number(headers.get(f"{prefix}-remaining"))
    if remaining is None and not refused:
        return None
    reset = _number(headers.get(f"{prefix}-reset"))
    if remaining or reset is None:
        return None
    if reset >= _EPOCH:
        reset = (reset / 1000 if reset >= _EPOCH_MILLISECONDS else reset) - now()
    return max(0.0, reset)


def _structured(headers: Mapping[str, str]) -> float | None:
    found = headers.get("ratelimit")
    if found is None:
        return None
    policies: dict[str, Mapping[str, Any]] | None = None
    longest: float | None = None
    for name, said in _items(found):
        if _whole(said.get("r")) != 0:
            continue
        if policies is None:
            policies = dict(_items(headers.get("ratelimit-policy", "")))
        policy = policies.get(name, {})
        if policy.get("qu") == "concurrent-requests":
            continue  # there is room as soon as one of them ends
        seconds = _whole(said.get("t"))
        if seconds is None:
            seconds = _whole(policy.get("w"))  # it is full again within its window
        if seconds is not None and (longest is None or seconds > longest):
            longest = float(seconds)
    return longest


def _items(value: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The names and parameters of a structured list; none where the field breaks the rules: it is ignored then."""
    if not value or len(value) > _LONGEST or not value.isascii():
        return
    import http_sf  # 12 ms, for those alone whose servers send it

    try:
        items: Any = http_sf.parse(value.encode("ascii"), tltype="list")
    except ValueError:
        return
    for item in items:
        name, said = item
        if isinstance(name, str):
            yield name, said


def _whole(value: Any) -> int | None:
    return value if value.__class__ is int and value >= 0 else None


def _number(value: str | None) -> float | None:
    if value is None or len(value) > 32:
        return None
    value = value.strip()
    return float(value) if value.isascii() and value.replace(".", "", 1).isdigit() else None
