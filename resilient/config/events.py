"""What happened to the config document, told to listeners."""

from __future__ import annotations

from ..core.events import Event


class ConfigApplied(Event):
    """A config document is in force.

    ``operation`` is the directory or file that it is from; ``generation`` counts from 1; ``digest`` the first twelve
    digits of the content's, ``previous`` those of what was in force before; ``version``, ``changed_by`` and ``ticket``
    as the document says; ``changes`` how many values of live policies changed; ``differences`` all that changed, the
    first fifty; ``rollback_of`` the generation that had this content before; ``latency`` seconds since it was read;
    ``pinned`` why a person went back to it."""

    name = "resilient.config.applied"
    __slots__ = (
        "changed_by",
        "changes",
        "differences",
        "digest",
        "generation",
        "latency",
        "pinned",
        "previous",
        "rollback_of",
        "ticket",
        "version",
    )
    generation: int
    digest: str
    previous: str | None
    version: str | None
    changed_by: str | None
    ticket: str | None
    changes: int
    differences: tuple[str, ...]
    rollback_of: int | None
    latency: float
    pinned: str | None


class ConfigRejected(Event):
    """What is in the directory is refused, or gone; ``generation`` stays in force.

    ``reason`` as in `DocumentError`, or ``missing``. Told once for the same content."""

    name = "resilient.config.rejected"
    __slots__ = ("generation", "reason")
    reason: str
    generation: int


class ConfigRecovered(Event):
    """What is in the directory is what is in force, after something else was refused."""

    name = "resilient.config.recovered"
    __slots__ = ("generation",)
    generation: int


class ConfigFlapping(Event):
    """Documents come too fast, so that one in ten seconds is applied; or (``on`` is False) not any more.

    ``operation`` is the directory or file; ``generation`` is in force."""

    name = "resilient.config.flapping"
    __slots__ = ("generation", "on")
    generation: int
    on: bool


class ConfigOverridden(Event):
    """A person set a number of ``dependency`` in this process, for ``ttl`` seconds; or (``ended``) it is over.

    ``operation`` is the number, such as ``retry.attempts``."""

    name = "resilient.config.overridden"
    __slots__ = ("ended", "reason", "ttl", "value")
    value: str
    reason: str
    ttl: float
    ended: bool


class PlanChanged(Event):
    """A plan of the document, ``dependency``, holds from now on (``active``), or does not any more.

    ``kind`` is scheduled or emergency; ``owner`` as the document says; ``differences`` what changed with it."""

    name = "resilient.degradation.plan_changed"
    __slots__ = ("active", "differences", "kind", "owner")
    active: bool
    kind: str
    owner: str
    differences: tuple[str, ...]


class AutoLevelMoved(Event):
    """Signals moved the level from ``old`` to ``new``, or (``shadow``) would have.

    ``signals`` are the readings, for people."""

    name = "resilient.degradation.auto_level_moved"
    __slots__ = ("new", "old", "shadow", "signals")
    old: int
    new: int
    shadow: bool
    signals: str
