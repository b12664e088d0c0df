"""Features are taken at once and given back slowly. Pure; the time is handed in.

After an incident caches are cold and queues are long; a fleet that gives everything back in one moment makes the next
one. So nothing is given back until a while after the last thing was taken, and then each feature in each pod at a time
of its own, spread by a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from .snapshot import Flag, FlagDetails, Flags, Held

RESTORING = "restoring"


def share_of(pod: str, feature: str, /) -> float:
    """Where in the ramp a feature of a pod is given back, 0 to 1: always the same, and evenly spread."""
    digest = hashlib.blake2b(f"{pod}\0{feature}".encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


class Restoring:
    """What a process is to give back, and when.

    Args:
        share: where in the ramp a feature is given back, 0 to 1.

    Attributes:
        until: when each is given back.
    """

    def __init__(self, share: Callable[[str], float]) -> None:
        self.until: dict[str, float] = {}
        self._share = share
        self._taken = float("-inf")  # when something was taken last

    def look(self, before: Flags, after: Flags, now: float, /) -> dict[str, Held]:
        """What is to stay as it is ``before``, of what ``after`` would give back."""
        held: dict[str, Held] = {}
        until = dict[str, float]()
        given = list[str]()
        for key, new in after.table.items():
            old = before.table.get(key)
            if old is None or old is new or old == new:
                continue
            flag = after.flags[key]
            if gives_back(flag, old, new):
                given.append(key)
            elif new.degraded:
                self._taken = now
        steering = after.steering
        if steering.restore_ramp > 0:
            from_ = self._taken + steering.restore_after
            for key in given:
                at = self.until.get(key)
                if at is None or at < from_:  # something was taken since that was planned
                    at = max(now, from_) + self._share(key) * steering.restore_ramp
                if now < at:
                    until[key] = at
                    held[key] = Held(_held(before.table[key]), key not in before.fixed)
        self.until = until
        return held


def gives_back(flag: Flag, old: FlagDetails[object], new: FlagDetails[object], /) -> bool:
    """Whether a feature would get something back that a level or a plan took. What a person set for a time ends as
    that person says, and what the document has changed itself is not what was taken."""
    if not old.degraded or old.cause == "override" or flag.protected or flag.disabled:
        return False
    if old.variant is None or flag.variants.get(old.variant) != old.value:
        return False
    was, is_ = flag.depth(old.variant), flag.depth(new.variant)
    if was is None or is_ is None:
        return not new.degraded
    return is_ < was


def _held(old: FlagDetails[object]) -> FlagDetails[object]:
    if old.cause == RESTORING:
        return old
    return FlagDetails(
        old.key,
        old.value,
        old.variant,
        old.enabled,
        old.reason,
        RESTORING,
        old.level,
        metadata=old.metadata,
        degraded=True,
    )
