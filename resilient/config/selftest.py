"""Using a good document once, before any call does: what would crash at its first use keeps it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..core.backoff import Backoff
from ..core.budget import BudgetOptions
from ..core.errors import DocumentError, PolicyError
from ..core.log import ERROR, write
from ..policies.breaker import CircuitBreakerOptions
from ..policies.bulkhead import BulkheadOptions
from ..policies.ratelimit import RateLimitOptions
from ..policies.retry import RetryOptions
from ..policies.timeout import TimeoutOptions
from .snapshot import Snapshot


def try_out(snapshot: Snapshot, check: Callable[[Snapshot], None], /) -> None:
    """Make every policy of the document, ask every part of it, and have ``check`` look at what lives here.

    Raises:
        DocumentError: something crashed, or ``check`` refuses it.
    """
    emergency = {} if snapshot.emergency is None else snapshot.emergency.targets
    try:
        for section, part in snapshot.parts:
            section.test(part)
        for kinds in (*snapshot.targets.values(), *emergency.values()):
            for kind, said in kinds.items():
                _make(kind, said.values)
        check(snapshot)
    except DocumentError:
        raise
    except Exception as exc:
        write(ERROR, "config: the document crashed in its self-test", exc_info=True)
        file, line = snapshot.sources.place(())
        said_ = f"it crashed in its self-test: {exc!r}; the traceback is in the log"
        raise DocumentError(said_, file=file, line=line, reason="selftest") from exc


def _make(kind: str, values: Mapping[str, Any]) -> None:
    """The options of one policy. Whether they go together with what the code says, only a pipeline knows."""
    flat = {name: value for name, value in values.items() if "." not in name}
    with suppress(PolicyError):
        if kind == "timeout":
            for seconds in flat.values():
                TimeoutOptions(seconds)
            return
        for name, nested in _NESTED.items():
            inner = {k.removeprefix(f"{name}."): v for k, v in values.items() if k.startswith(f"{name}.")}
            if inner:
                nested(**inner)
        _OPTIONS[kind](**flat)


_NESTED: Mapping[str, Callable[..., Any]] = {"wait": Backoff, "budget": BudgetOptions}
_OPTIONS: Mapping[str, Callable[..., Any]] = {
    "retry": RetryOptions,
    "breaker": CircuitBreakerOptions,
    "ratelimit": lambda rate="1/second", **others: RateLimitOptions(rate, **others),
    "bulkhead": BulkheadOptions,
}
