"""Config documents as they change: made canonical, compared, and followed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config.degrading import DEGRADING
from ..config.document import parse
from ..config.live import Live
from ..config.loader import Loader
from ..config.numbers import shown
from ..config.records import Change, Difference, History, differences
from ..config.sections import SECTIONS
from ..config.selftest import try_out
from ..config.snapshot import Snapshot, snapshot_of
from ..config.source import MOST_BYTES
from ..core.errors import ConfigError, DocumentError
from ..core.registry import Registry
from .documents import files_at, live_for


def build(path: Path, /) -> str:
    """A document as canonical JSON: keys in order, one form for each value. Of YAML, however long, too.

    Raises:
        ConfigError: there is none, or no service would take it.
    """
    files = files_at(path)
    snapshot = snapshot_of(files, SECTIONS, most_yaml=MOST_BYTES)
    try_out(snapshot, lambda _: None)
    tree = parse(files, most_yaml=MOST_BYTES).tree
    made = json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    size = len(made.encode())
    if size > MOST_BYTES:
        raise ConfigError(f"{path}: as JSON it has {size:,} bytes, and a service reads {MOST_BYTES:,}")
    return made


def compared(before: Path, after: Path, /) -> tuple[Difference, ...]:
    """What another document changes of what is in force: features at the level that each says, and all numbers of
    policies, those too that follow from others in `standard`.

    Raises:
        ConfigError: one of them is no good document.
    """
    old, new = (snapshot_of(files_at(path), SECTIONS, most_yaml=MOST_BYTES) for path in (before, after))
    names = dict.fromkeys([*old.targets, *new.targets])
    numbers = [each for name in names for each in _numbers(name, old, new)]
    return tuple(sorted(differences(old, new, numbers)))


def _numbers(name: str, old: Snapshot, new: Snapshot) -> Iterator[Difference]:
    was, is_ = _values(name, old), _values(name, new)
    for leaf in dict.fromkeys([*was, *is_]):
        before, after = was.get(leaf), is_.get(leaf)
        if before != after:
            yield Difference(f"{name}.{leaf}", before, after)


def _values(name: str, snapshot: Snapshot) -> dict[str, Any]:
    """All numbers of a dependency, as `standard` has them under a document."""
    live, pipeline = live_for(name, snapshot)
    try:
        live.check(snapshot)
    except DocumentError:  # the service's own code may go together with it: what it says itself is told
        said = snapshot.targets.get(name, {})
        return {f"{kind}.{leaf}": each for kind, of in said.items() for leaf, each in of.values.items()}
    live.apply(snapshot)
    return {leaf: value.value for leaf, value in live.values_of(pipeline).items()}


def said(difference: Difference, /) -> str:
    """A line about one thing that changed, values as the document writes them."""
    leaf = difference.path.partition(".")[2]
    texts = (_text(leaf, value) for value in (difference.before, difference.after))
    return f"{difference.path}: {' -> '.join(texts)}"


def _text(leaf: str, value: Any) -> str:
    if value is None:
        return "(nothing)"
    try:
        return shown(leaf, value)
    except KeyError:  # a feature, the level, a plan
        return str(value)


def followed(path: Path, emergency: Path | None, seconds: float, /) -> Iterator[Change]:
    """What becomes of a document in a process that follows it: each change, as it happens.

    Args:
        emergency: where the emergency document is, if there is one.
        seconds: how long.
    """
    history = History()
    live = Live(Registry())
    DEGRADING.follow(live.use_plans, history)
    loader = Loader(path, lambda: (live, SECTIONS), emergency=emergency, history=history)
    until = time.monotonic() + seconds
    told: tuple[Change, ...] = ()
    while True:
        loader.look_here()
        changes = history.changes()
        new = changes[changes.index(told[-1]) + 1 :] if told and told[-1] in changes else changes
        yield from new
        told = changes
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(1.0, left))
