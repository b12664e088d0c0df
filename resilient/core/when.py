"""Which failures a policy reacts to: one shared classification."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable
from typing import Any

from .errors import DeadlineExceeded, PolicyError, Rejected, ResilientError, TimedOut
from .outcome import report_of

Predicate = Callable[[Any], bool]


class When:
    """A set of outcomes: exceptions by class or predicate, and results by predicate.

    Immutable, safe to share. Only `Exception` is ever asked about: cancellation, ``KeyboardInterrupt`` and
    ``SystemExit`` are nobody's failure.

    Args:
        *errors: exception classes, and predicates that take the exception.
        result: a predicate that takes the result; True means that it counts as a failure.
        unless: classes and predicates that are left out, even where ``errors`` has them.

    Example:
        >>> When(ConnectionError, result=lambda page: page is None, unless=[ConnectionRefusedError])
        When(ConnectionError, result=..., unless ConnectionRefusedError)
    """

    __slots__ = ("_classes", "_predicates", "_unless_classes", "_unless_predicates", "judges_result")

    def __init__(
        self,
        *errors: type[Exception] | Predicate,
        result: Predicate | None = None,
        unless: tuple[type[Exception] | Predicate, ...] | list[type[Exception] | Predicate] = (),
    ) -> None:
        self._classes, self._predicates = _sorted(errors)
        self._unless_classes, self._unless_predicates = _sorted(unless)
        if result is not None and (not callable(result) or inspect.iscoroutinefunction(result)):
            raise PolicyError(
                f"When: result={result!r} must be a plain function of the result; write "
                "result=lambda page: page is None"
            )
        self.judges_result = result

    def covers(self, exc: BaseException, /) -> bool:
        """Whether ``exc`` is one of these."""
        if not isinstance(exc, Exception):
            return False
        if not isinstance(exc, self._classes) and not _one_of(self._predicates, exc):
            return False
        for unless in self._unless_predicates:
            if unless(exc):
                return False
        return not isinstance(exc, self._unless_classes)

    @property
    def is_all(self) -> bool:
        """Whether it names every failure there is."""
        return Exception in self._classes and not self._unless_classes and not self._unless_predicates

    def overlaps(self, other: When, /) -> bool:
        """Whether both name related exception classes; predicates are not looked into."""
        return any(issubclass(a, b) or issubclass(b, a) for a in self._classes for b in other._classes)

    def __repr__(self) -> str:
        names = [cls.__name__ for cls in self._classes] + [_name(each) for each in self._predicates]
        if self.judges_result is not None:
            names.append("result=...")
        unless = [cls.__name__ for cls in self._unless_classes] + [
            _name(each) for each in self._unless_predicates
        ]
        return f"When({', '.join(names)}{', unless ' + ', '.join(unless) if unless else ''})"

    @classmethod
    def of(cls, value: Any, /, *, policy: str, field: str, example: str = "", results: bool = False) -> When:
        """What a user may write for a set of failures: a `When`, a class, a predicate, or a tuple of
        these; ``results``: whether results are looked at too."""
        if isinstance(value, When):
            if value.judges_result is not None and not results:
                raise PolicyError(
                    f"{policy}: {field}={value!r} has result=, and results are not looked at here; leave it out, or "
                    "put Retry(on=When(result=...)) around the call"
                )
            return value
        try:
            return cls(*value) if isinstance(value, (tuple, list, set, frozenset)) else cls(value)
        except PolicyError:
            raise PolicyError(
                f"{policy}: {field}={value!r} must be exception classes or predicates (plain functions, not async); "
                f"write {example or f'{field}=(ConnectionError, TimeoutError) or {field}=TRANSIENT'}"
            ) from None


def _sorted(errors: Any) -> tuple[tuple[type[Exception], ...], tuple[Predicate, ...]]:
    classes: list[type[Exception]] = []
    predicates: list[Predicate] = []
    for each in errors:
        if isinstance(each, type):
            if not issubclass(each, Exception):
                raise PolicyError(
                    f"When: {each.__name__} is not a subclass of Exception; cancellation, KeyboardInterrupt "
                    "and "
                    "SystemExit are never classified; write Exception or a subclass of it"
                )
            classes.append(each)
        elif callable(each) and not inspect.iscoroutinefunction(each):
            predicates.append(each)
        else:
            raise PolicyError(
                f"When: {each!r} is neither an exception class nor a plain function that says yes or no (an async one "
                "always says yes); write one of these"
            )
    return tuple(classes), tuple(predicates)


def _one_of(predicates: tuple[Predicate, ...], exc: Exception) -> bool:
    for asks in predicates:  # noqa: SIM110 - any() makes a generator, on every failure
        if asks(exc):
            return True
    return False


def _name(predicate: Predicate) -> str:
    return getattr(predicate, "__name__", repr(predicate))


def reported_transient(exc: BaseException, /) -> bool:
    """Whether a client binding has classified the failure as one that trying again may help."""
    report = report_of(exc)
    return report is not None and report.transient is True


def _final(exc: Exception) -> bool:
    # OSError subclasses that TRANSIENT names may still have been classified as final (a bad certificate).
    if "resilient" in exc.__dict__:
        report = report_of(exc)
        if report is not None and report.transient is False:
            return True
    return isinstance(exc, ResilientError) and (
        not isinstance(exc, TimedOut) or isinstance(exc, DeadlineExceeded)
    )


TRANSIENT = When(
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    socket.herror,
    reported_transient,
    unless=[Rejected, _final],
)
"""Failures that another attempt may not meet: connection and name-resolution errors, time-outs, and whatever
a client binding has classified so. Never ``TypeError``, ``ValueError``, ``LookupError`` and the like: those
are bugs or answers."""

ANY_ERROR = When(Exception)
"""Every `Exception`."""
