"""Dapr's ``kind: Resiliency``: named policies, and targets that refer to them."""

from __future__ import annotations

import re

from .imported import Given, Made, Reader

FOR_EVER = 3
"""Attempts in place of Dapr's retries without end, which are its default."""

_IN_A_ROW = re.compile(r"\s*consecutiveFailures\s*(>=?)\s*([0-9]{1,6})\s*")


def resiliency(given: Given, made: Made) -> None:
    """One object: its ``targets.apps``, each with the policies that it refers to."""
    spec = given.open("spec")
    policies = spec.open("policies")
    apps = spec.open("targets").open("apps")
    given.take("scopes")  # which sidecars read it: here that is who mounts the document
    for app in apps:
        refers = apps.open(app)
        made.begin(app)
        for word, plural, default, apply in (
            ("timeout", "timeouts", "TimeoutPolicy", _timeout),
            ("retry", "retries", "RetryPolicy", _retry),
            ("circuitBreaker", "circuitBreakers", "CircuitBreakerPolicy", _breaker),
        ):
            of_kind, own = policies.open(plural), refers.text(word)
            if own is not None and own not in of_kind:
                refers.remark(word, f"there is no policy {own!r}")
                continue
            for name in (own, f"DefaultApp{default}", f"Default{default}"):
                if name is not None and name in of_kind:
                    apply(of_kind, name, app, made)
                    break


def _say(given: Given, key: str, made: Made, app: str, leaf: str, value: object) -> None:
    why = made.say(app, leaf, value)
    if why is not None:
        given.remark(key, why)


def _timeout(of_kind: Given, name: str, app: str, made: Made) -> None:
    # Dapr puts it around each attempt.
    _say(of_kind, name, made, app, "timeout.attempt", of_kind.duration(name))


def _retry(of_kind: Given, name: str, app: str, made: Made) -> None:
    given = of_kind.open(name)
    retries = given.whole("maxRetries")
    if retries is None or retries < 0:
        given.remark("maxRetries", f"retries without end are not expressed; attempts: {FOR_EVER} is written")
        retries = FOR_EVER - 1
    _say(given, "maxRetries", made, app, "retry.attempts", retries + 1)
    if given.text("policy") == "exponential":
        # Its initial interval and growth are fixed: half a second, 1.5 times, with a jitter of a half.
        cap = given.duration("maxInterval") or "60s"
        _say(given, "maxInterval", made, app, "retry.wait.cap", cap)
        for leaf, value in (("base", "500ms"), ("factor", 1.5), ("jitter", "equal")):
            made.say(app, f"retry.wait.{leaf}", value)
        return
    delay = given.duration("duration") or "5s"
    for leaf, value in (("base", delay), ("cap", delay), ("factor", 1.0), ("jitter", "none")):
        _say(given, "duration", made, app, f"retry.wait.{leaf}", value)


def _breaker(of_kind: Given, name: str, app: str, made: Made) -> None:
    given = of_kind.open(name)
    _say(given, "maxRequests", made, app, "breaker.probes", given.whole("maxRequests") or 1)
    if "interval" in given:
        given.remark("interval", "not expressed: a failure in a row does not age")
    open_for = given.duration("timeout") or "60s"
    for leaf in ("open_for", "max_open"):  # it does not grow
        _say(given, "timeout", made, app, f"breaker.{leaf}", open_for)
    trip = given.text("trip") or "consecutiveFailures > 5"
    match = _IN_A_ROW.fullmatch(trip)
    if match is None:
        given.remark(
            "trip", "expressions are not expressed; write failure_ratio and minimum_calls, or consecutive"
        )
        return
    _say(given, "trip", made, app, "breaker.consecutive", int(match[2]) + (match[1] == ">"))
    made.say(app, "breaker.failure_ratio", 1.0)  # nothing else trips it


READERS: dict[str, Reader] = {"Resiliency": resiliency}
