"""Config documents, read as a service would read them."""

from __future__ import annotations

import datetime
import difflib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..config.decode import placed
from ..config.degrading import active_at, overlay_of
from ..config.document import Document, Pointer, parse
from ..config.emergency import read_emergency
from ..config.environment import Environment, read_environment
from ..config.explanation import Explanation
from ..config.guard import guard
from ..config.live import Live
from ..config.numbers import find_leaf
from ..config.sections import SECTIONS
from ..config.selftest import try_out
from ..config.snapshot import Snapshot, snapshot_of
from ..config.source import MOST_BYTES, SUFFIXES, Directory, Files, Missing, digest_of
from ..config.switches import FLAGS, LEVEL_KEY, explain_switch, is_switch
from ..core.errors import ConfigError, DocumentError
from ..core.pipeline import Pipeline
from ..core.registry import Registry
from ..flags.document import parse_flags
from ..flags.snapshot import Flags
from ..presets import standard
from .lint import Worst, of_document

_ANY_RATE = "1/second"  # of a limit that only the document has
_WHY = {
    "emergency": "the emergency document stands above all else",
    "plan": "a plan that holds stands above the rest of the document",
    "document": "the document stands above environment, code and presets",
    "environment": "the environment stands above code and presets, below the document",
    "preset": "standard() makes it of the numbers above it; what the service's code says stands above that",
    "code": "standard() as it comes; what the service's code says stands above that",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or may be.

    Attributes:
        file, line: where; the line is None where it is not known.
        pointer: the keys that lead there, ``/resiliency/targets/payments``.
        said: what is wrong, and what to write instead.
        warning: whether a service would take the document all the same.
    """

    file: str
    line: int | None
    pointer: str
    said: str
    warning: bool = False


@dataclass(frozen=True)
class Checked:
    """What a document says.

    Attributes:
        path: as it was given.
        dependencies, features: how many it speaks of.
        problems: what is wrong, or may be.
        worst: what each dependency may cost at worst.
    """

    path: str
    dependencies: int
    features: int
    problems: tuple[Problem, ...]
    worst: tuple[Worst, ...] = ()

    @property
    def good(self) -> bool:
        """Whether a service would take it."""
        return all(problem.warning for problem in self.problems)


@dataclass(frozen=True)
class Explained:
    """Why a number or a feature is what the document makes it.

    Attributes:
        key: as it was asked for.
        value: seconds as a float; of a feature, the variant.
        layer: ``emergency``, ``plan``, ``document`` or ``environment``; else, of `standard` as it comes, ``preset`` or
            ``code``.
        place: ``file:line``, where a document decides; the variable, where the environment does.
        why: in words.
    """

    key: str
    value: Any
    layer: str
    place: str | None
    why: str


def files_at(path: Path) -> Files:
    """The files of a document, unread.

    Raises:
        ConfigError: there is none that a service would read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return Directory(path).read()
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path} does not end in {', '.join(SUFFIXES)}: no service would read it")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
            raise ConfigError(f"{path} is no ordinary file: no service would read it")
        content = {path.name: _content(path)}
        return Files(content, digest_of(content))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path} has more than {MOST_BYTES:,} bytes: no service would read it")
    return content


def check_emergency(path: Path) -> tuple[Checked, Files | None]:
    """Whether a service would take an emergency document, whatever stands below it; and its files, if it is good."""
    try:
        files = files_at(path)
        said = read_emergency(files)
    except ConfigError as exc:
        return refused(exc, path), None
    return Checked(str(path), len(said.targets), 0, ()), files


def _guard(before: Snapshot, after: Snapshot, document: Document) -> None:
    try:
        parse_flags(document.tree, before=_flags(before))
    except DocumentError as exc:
        raise placed(exc, document) from exc
    guard(before, after, ())


def in_force(path: Path) -> Snapshot:
    """A document that services have.

    Raises:
        ConfigError: it is none, or no good one.
    """
    return snapshot_of(files_at(path), SECTIONS)


def refused(exc: ConfigError, path: Path) -> Checked:
    """A document that no service would take."""
    if isinstance(exc, DocumentError):
        return Checked(str(path), 0, 0, tuple(_problem(each, path) for each in exc.problems or (exc,)))
    return Checked(str(path), 0, 0, (Problem(str(path), None, "", str(exc)),))


def check(
    path: Path,
    utilisation: Mapping[str, float] = MappingProxyType({}),
    today: datetime.date | None = None,
    emergency: Files | None = None,
    after: Snapshot | None = None,
) -> Checked:
    """Whether a service would take a document, and what is doubtful in it; raises nothing.

    Args:
        utilisation: of the callees in a usual hour, 0 to 1, by dependency; ``*`` is all others.
        today: None: by the clock.
        emergency: a good emergency document that stands above it.
        after: what it is to follow, in a service that has that in force.
    """
    try:
        files = files_at(path)
        snapshot, document = snapshot_of(files, SECTIONS, emergency=emergency), parse(files)
        try_out(snapshot, lambda _: None)
        if after is not None:
            _guard(after, snapshot, document)
    except ConfigError as exc:
        return refused(exc, path)
    unfit = {name: problem for name in snapshot.targets if (problem := _unfit(name, snapshot, path))}
    fit = {name: said for name, said in snapshot.targets.items() if name not in unfit}
    today = datetime.datetime.now(tz=datetime.UTC).date() if today is None else today
    worst, doubts = of_document(
        snapshot, fit, document.tree, utilisation, today, _flags(snapshot).plans, live_for
    )
    places = snapshot.sources.places([doubt.pointer for doubt in doubts])
    problems = [
        *unfit.values(),
        *(Problem(*places[each.pointer], _slashed(each.pointer), each.said, warning=True) for each in doubts),
    ]
    features = len(_flags(snapshot).table)
    return Checked(str(path), len(snapshot.targets), features, tuple(problems), tuple(worst))


def _problem(error: DocumentError, path: Path, *, warning: bool = False) -> Problem:
    said = str(error.args[0]) if error.args else ""
    if warning:
        said = said.replace("a pipeline of this process", "standard()")
    return Problem(error.file or str(path), error.line, _slashed(error.pointer), said, warning)


def _slashed(pointer: Pointer) -> str:
    return "".join(f"/{each}" for each in pointer)


def _unfit(name: str, snapshot: Snapshot, path: Path) -> Problem | None:
    """Where `standard` could not take it: the service's own code may, so that is a warning."""
    live, _pipeline = live_for(name, snapshot)
    try:
        live.check(snapshot)
    except DocumentError as exc:
        return _problem(exc, path, warning=True)
    return None


def live_for(name: str, snapshot: Snapshot, environment: Environment | None = None) -> tuple[Live, Pipeline]:
    """What would follow the document, and the pipeline that it would be: the former holds it weakly."""
    registry = Registry()
    rate = _ANY_RATE if "ratelimit" in snapshot.targets.get(name, ()) else None
    pipeline = standard(name, rate=rate)
    registry.add(pipeline)
    return Live(registry, environment), pipeline


def _unknown(name: str, targets: list[str]) -> str:
    said = f"the document says nothing of {name!r}"
    near = difflib.get_close_matches(name, targets, 1)
    return f"{said}; it has {near[0]!r}" if near else said


def _flags(snapshot: Snapshot) -> Flags:
    return next(part for _, part in snapshot.parts if isinstance(part, Flags))


def _emergency_at(path: Path | None) -> Files | None:
    try:
        return None if path is None else files_at(path)
    except Missing:  # there is none, as a rule
        return None


def _why(found: Explanation, flags: Flags) -> str:
    """Why a feature, or the level, is what it is."""
    if found.cause is None or found.key == LEVEL_KEY:
        return _WHY[found.layer]
    return (
        f"{found.cause}, at level {flags.shown(flags.level)}" if found.key.startswith(FLAGS) else found.cause
    )


def explain(
    key: str, path: Path, environ: Mapping[str, str], emergency: Path | None = None, *, at: float = 0.0
) -> Explained:
    """What a document makes of a number such as ``payments.retry.attempts``, of a feature, or of the level.

    Args:
        at: when, in seconds since the epoch: windows of plans go by it.
        environ: what stands below the document.
        emergency: where the emergency document is, if there is one.

    Raises:
        ConfigError: there is no such thing, or no good document.
    """
    snapshot = snapshot_of(files_at(path), SECTIONS, emergency=_emergency_at(emergency))
    above = snapshot.emergency
    flags = _flags(snapshot)
    active = active_at(flags, at)
    flags = flags.under(overlay_of(flags, active))
    if is_switch(key):
        found = explain_switch(key, snapshot, flags)
        value = flags.shown(found.value) if key == LEVEL_KEY else found.value
        return Explained(key, value, found.layer, found.place, _why(found, flags))
    if "." not in key:
        raise ConfigError(
            f"{key!r} is no number; write one such as payments.retry.attempts, a feature such as flags.{key}, or "
            "degradation.level"
        )
    name, _ = find_leaf(key)
    live, _pipeline = live_for(name, snapshot, read_environment(environ))
    live.apply(snapshot)
    live.use_plans(tuple(active))
    found = live.explain(key)
    why = _WHY[found.layer]
    if name not in snapshot.targets and (above is None or name not in above.targets):
        why = f"{why}; {_unknown(name, list(snapshot.targets))}"
    return Explained(key, found.value, found.layer, found.place, why)
