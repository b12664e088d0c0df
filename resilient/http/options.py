"""What a caller may say of one request, in ``extensions={"resilient": ...}``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..core.call import Criticality
from ..core.errors import PolicyError
from ..core.options import Options, number

_KEY = re.compile(r"[!#-\[\]-~]{1,255}")  # what is the same raw and as a structured-field string


@dataclass(frozen=True)
class RequestOptions(Options):
    """What is said of one request, beside what client, policies and profile say of all. Whatever is None is as ever.

    Attributes:
        deadline: seconds for the whole call, redirects, auth flows and body included; more than 0. An earlier deadline
            (the policies', or one already in force) holds.
        idempotent: whether the request may be repeated after it may have happened, whatever its method: True for a
            POST that only searches, False for a GET that does something.
        idempotency_key: sent as it is, in the header of the client's profile; also with PUT and DELETE. 1 to 255
            visible ASCII characters but ``"`` and backslash.
        first_sent: when the key was sent first, in seconds since the epoch: what an `OutcomeUnknown` of an earlier
            process says. Needs the key; with a profile that has ``window=`` a call that comes too late is not sent.
        operation: what events, metrics and errors call it, in place of the method: a name from code, never a URL.
        criticality: how much it matters, as of `criticality`.

    A request of another ``client.send()``, or another client, is another one. Redirects and auth flows keep it.

    Example:
        >>> import httpx, resilient.httpx
        >>> bank = httpx.MockTransport(lambda request: httpx.Response(200))
        >>> once = resilient.httpx.RequestOptions(deadline=0.5, operation="search", idempotent=True)
        >>> with resilient.httpx.client("bank", base_url="http://bank.svc", transport=bank) as client:
        ...     client.post("/search", json={}, extensions={"resilient": once}).status_code
        200
    """

    policy: ClassVar[str] = "request"
    deadline: float | None = number(
        None, above=0, high=86_400, optional=True, unit="seconds", hint="deadline=1.5"
    )
    idempotent: bool | None = None
    idempotency_key: str | None = None
    first_sent: float | None = number(
        None, low=0, high=10**11, optional=True, unit="seconds since the epoch", hint="first_sent=time.time()"
    )
    operation: str | None = None
    criticality: Criticality | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.idempotent, bool | None):
            self.refuse("idempotent", "must be True, False or None", "idempotent=True")
        key = self.idempotency_key
        if key is not None and (not isinstance(key, str) or not _KEY.fullmatch(key)):
            # Keys are no business of logs.
            raise PolicyError(
                "request: idempotency_key= must be 1 to 255 visible ASCII characters but quotation mark and backslash; "
                "write idempotency_key=str(uuid.uuid4()), made once and stored"
            )
        if self.first_sent is not None and key is None:
            self.refuse("first_sent", "is the time of a key, and there is none", "idempotency_key= beside it")
        if self.operation is not None and (not isinstance(self.operation, str) or not self.operation):
            self.refuse("operation", "must be a name from code, or None", "operation='search'")
        if self.criticality is not None:
            try:
                object.__setattr__(self, "criticality", Criticality(self.criticality))
            except ValueError:
                names = ", ".join(repr(each.value) for each in Criticality)
                self.refuse("criticality", f"is not a level; one of {names}", "criticality='sheddable'")


_NAMES = tuple(each.name for each in fields(RequestOptions))


def options_of(given: Any, /) -> RequestOptions:
    """What stood in the request's extensions.

    Raises:
        PolicyError: it says something that cannot be.
    """
    if isinstance(given, RequestOptions):
        return given
    if not isinstance(given, Mapping):
        raise PolicyError(
            f"request: extensions['resilient'] is a {type(given).__name__}; give a RequestOptions, or a dict such as "
            "{'deadline': 1.5}"
        )
    for name in given:
        if name not in _NAMES:
            near = difflib.get_close_matches(str(name), _NAMES, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise PolicyError(
                f"request: extensions['resilient'] has no {name!r}; it takes {', '.join(_NAMES)}.{meant}"
            )
    return RequestOptions(**given)


_SAID: ContextVar[list[RequestOptions]] = ContextVar("resilient_request_options")
"""What is said of the next request in this context, for clients whose requests carry nothing of ours."""


@contextmanager
def options(**said: Any) -> Iterator[None]:
    """Say something of one request: the one that is made inside.

    Args:
        **said: as `RequestOptions`.

    Raises:
        PolicyError: it says something that cannot be; or a second request is made inside, and a key or a deadline of
            the first must not pass to it.

    Example:
        >>> import resilient.requests
        >>> with resilient.requests.options(operation="search", idempotent=True):
        ...     pass  # session.post(...)
    """
    token = _SAID.set([options_of(said)])
    try:
        yield
    finally:
        _SAID.reset(token)


def said() -> RequestOptions | None:
    """What is said of the request that is made now."""
    waiting = _SAID.get(None)
    if waiting is None:
        return None
    if not waiting:
        raise PolicyError(
            "request: options(...) is for one request, and this is the second inside it; write a block for each"
        )
    return waiting.pop()
