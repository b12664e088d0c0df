"""What a service does with idempotency keys: the one setting where a wrong default moves money.

A key makes a call repeatable after it may have happened only if the server is known to honour it; sending a
header to a server that ignores it is no safety. So by default a key is sent and the gate stays shut."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import PolicyError

_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,128}")  # a token of RFC 9110 5.6.2

_MOST_JSON = 1_048_576
"""Bytes of an unpacked answer in which a text is looked for."""

Content = Callable[[], bytes | None]
"""Gives the body of an answer, unpacked; None where it was not read."""

METHODS_WITH_KEY = frozenset({"POST", "PATCH"})
"""Methods that are neither safe nor idempotent (RFC 9110 9.2): the ones that a key is made for."""
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be repeated by definition (RFC 9110 9.2.2)."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that do nothing (RFC 9110 9.2.1), and take no key."""


@dataclass(frozen=True)
class Signal:
    """How a service says one thing about a key: by a status, or by a status and a text in the JSON of its answer.

    Attributes:
        status: of the answer, 400 to 599.
        text: what stands in the answer's JSON; None: the status says it all.
        at: the names that lead there. Problem documents (RFC 9457) have it in ``type``.

    An answer of more than 64 KiB, or without ``Content-Length``, is not read for it.

    Example:
        >>> Signal(400, "idempotency_error", at=("error", "type")).status
        400
    """

    status: int
    text: str | None = None
    at: tuple[str, ...] = ("type",)

    def __post_init__(self) -> None:
        if self.status.__class__ is not int or not 400 <= self.status <= 599:
            raise PolicyError(f"Signal: status={self.status!r} must be 400 to 599; write Signal(409)")
        if self.text is not None and (not isinstance(self.text, str) or not self.text):
            raise PolicyError(
                f"Signal: text={self.text!r} must be a text in the answer, or None; write "
                "Signal(422, 'https://example.com/problems/key-reused')"
            )
        if not isinstance(self.at, tuple) or not self.at or not all(isinstance(n, str) for n in self.at):
            raise PolicyError(
                f"Signal: at={self.at!r} must be a tuple of names in the answer's JSON; write at=('error', 'type')"
            )

    def matches(self, status: int, content: Content, /) -> bool:
        """Whether an answer says it."""
        if status != self.status:
            return False
        return self.text is None or _found(content(), self.at) == self.text


def _found(content: bytes | None, names: tuple[str, ...]) -> Any:
    if content is None or len(content) > _MOST_JSON:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


@dataclass(frozen=True)
class Profile:
    """How a service takes idempotency keys, and how it says what it does with them.

    Attributes:
        sends: whether a key is made and sent on POST and PATCH.
        honours: whether the server is known to execute a key once, so that repeating is safe.
        header: the header's name; others in use are ``PayPal-Request-Id``, ``X-Idempotency-Key``.
        quoted: whether the key is sent as a structured-field string, in quotes, as the IETF draft has it;
            most deployed APIs take it raw.
        in_progress: how it says that the first request with the key still runs: asked again, and `InProgress` after the
            last attempt. ``Idempotency-Key-Status: in-progress`` beside 409 is understood of all that honour keys.
        reused: how it says that the key was used for another request: `KeyReused`.
        missing: how it says that it wants a key: `KeyRequired`.
        window: seconds for which it keeps keys; more than the call may take in all. A call under a key that was first
            sent before that is not sent: `WindowExceeded`. None: nobody knows.
        replayed: the header with which it marks an answer that it gave before.
        quota: prefix of the headers that tell what is left of a quota, on all answers: ``"RateLimit"`` (the IETF's), or
            such as ``"X-RateLimit"`` (``-Remaining``, and ``-Reset`` in seconds or as a date). None: ``RateLimit`` is
            read on a 429 or 503 alone.

    Example:
        >>> Profile(sends=True, honours=True, header="PayPal-Request-Id").honours
        True
    """

    sends: bool = True
    honours: bool = False
    header: str = "Idempotency-Key"
    quoted: bool = False
    in_progress: Signal | None = None
    reused: Signal | None = None
    missing: Signal | None = None
    window: float | None = None
    replayed: str = "Idempotent-Replayed"
    quota: str | None = None

    def __post_init__(self) -> None:
        for name in ("sends", "honours", "quoted"):
            if not isinstance(getattr(self, name), bool):
                raise PolicyError(
                    f"Profile: {name}={getattr(self, name)!r} must be True or False; write {name}=True"
                )
        for name, usual in (("header", "Idempotency-Key"), ("replayed", "Idempotent-Replayed")):
            if not isinstance(getattr(self, name), str) or not _HEADER.fullmatch(getattr(self, name)):
                raise PolicyError(
                    f"Profile: {name}={getattr(self, name)!r} must be the name of a header; write {name}={usual!r}"
                )
        if self.quota is not None and (
            not isinstance(self.quota, str) or not _HEADER.fullmatch(self.quota) or self.quota.endswith("-")
        ):
            raise PolicyError(
                f"Profile: quota={self.quota!r} must be what the headers' names begin with; write quota='X-RateLimit' "
                "for X-RateLimit-Remaining and X-RateLimit-Reset"
            )
        for name in ("in_progress", "reused", "missing"):
            if not isinstance(getattr(self, name), Signal | None):
                raise PolicyError(
                    f"Profile: {name}={getattr(self, name)!r} must be a Signal, or None; write {name}=Signal(409)"
                )
        window = self.window
        if window is not None and (
            isinstance(window, bool) or not isinstance(window, (int, float)) or not 0 < window < float("inf")
        ):
            raise PolicyError(
                f"Profile: window={window!r} must be seconds, more than 0, or None; write window=86_400.0 for a day"
            )
        if self.honours and not self.sends:
            raise PolicyError("Profile: honours=True with sends=False makes no sense; write sends=True")
        for name in ("in_progress", "window"):
            if getattr(self, name) is not None and not self.honours:
                raise PolicyError(
                    f"Profile: {name}= is what a server says that honours keys; write honours=True, or leave it out"
                )

    def on_the_wire(self, key: str, /) -> str:
        """The header's value."""
        return f'"{key}"' if self.quoted else key

    def outcome(
        self, status: int, headers: Mapping[str, str], content: Content, /, *, keyed: bool, safe: bool = False
    ) -> str | None:
        """What an error answer says of the key that the request had, or lacked (``keyed``; a ``safe`` one needs none):
        ``in_progress``, ``reused``, ``missing``, ``unknown`` (it will never be known what became of it), or None."""
        if not safe and self.missing is not None and self.missing.matches(status, content):
            return "missing"
        if not keyed:
            return None
        if self.reused is not None and self.reused.matches(status, content):
            return "reused"
        if self.honours:
            if self.in_progress is not None and self.in_progress.matches(status, content):
                return "in_progress"
            said = headers.get("idempotency-key-status", "")[:64]
            if said == "in-progress" and status == 409:
                return "in_progress"
            if said == "outcome-unknown" and status >= 500:
                return "unknown"
        return None

    def is_replay(self, headers: Mapping[str, str], /) -> bool:
        """Whether an answer is marked as one that was given before."""
        return self.honours and headers.get(self.replayed, "")[:64].strip().lower() in ("true", "?1", "1")


PROFILES = {
    "none": Profile(sends=False),
    "unknown": Profile(),
    "supported": Profile(honours=True),
    "required": Profile(honours=True),
}


def profile_of(value: Profile | str, /) -> Profile:
    """A profile by name, or as given.

    Raises:
        PolicyError: there is none of that name.
    """
    if isinstance(value, Profile):
        return value
    if not isinstance(value, str) or value not in PROFILES:
        names = ", ".join(map(repr, PROFILES))
        raise PolicyError(
            f"client: profile={value!r} must be a Profile or one of {names}; write profile='unknown'"
        )
    return PROFILES[value]
