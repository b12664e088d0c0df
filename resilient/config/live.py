"""Named pipelines that follow the document: what their numbers become, and where each one is from.

A pipeline's numbers are those of the code with those of the document laid over them, one by one. So what leaves the
document goes back to what the code says. Policies keep what they learnt (`Policy.retune`)."""

from __future__ import annotations

import difflib
import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.errors import ConfigError, DocumentError, PolicyError
from ..core.forks import tell_after_fork
from ..core.log import ERROR, INFO, WARNING, write
from ..core.options import seconds
from ..core.pipeline import Pipeline
from ..core.policy import Policy
from ..core.registry import REGISTRY, Registry
from ..flags.state import STATE
from .decode import TARGETS
from .document import NOWHERE, Place, Pointer
from .environment import Environment, spelt
from .explanation import Explanation
from .numbers import (
    CODE,
    DOCUMENT,
    EMERGENCY,
    ENVIRONMENT,
    OVERRIDE,
    PLAN,
    PRESET,
    TIMES,
    Path,
    Value,
    Values,
    find_leaf,
    numbers,
    shown,
    targets_of,
    with_numbers,
)
from .records import Difference
from .snapshot import Noted, Snapshot
from .switches import explain_switch, is_switch

NOTHING = Snapshot(0, "", Noted(), NOWHERE, {})
"""What is in force while there is no document."""

_MOST_TOLD = 1_000


class Note(NamedTuple):
    """What is to be logged: a change of a number, else a warning. The place of ``pointer`` stands in the middle."""

    head: str
    pointer: Pointer | None = None
    tail: str = ""
    change: Difference | None = None


Notes = dict[Note, None]
"""In their order, each once: the clients of one name say the same."""


Laid = Mapping[str, Mapping[str, tuple[Any, str]]]
"""What persons set, by dependency and leaf, each with why and until when."""


class World(NamedTuple):
    """All that is said from outside, replaced as a whole."""

    snapshot: Snapshot
    environment: Environment
    laid: Laid
    plans: tuple[str, ...] = ()


class Tuning(NamedTuple):
    """What a pipeline is to become: its numbers, and the options of each policy or budget that has them."""

    values: Values
    options: list[tuple[Any, Any]]
    warnings: list[Note]


class Live:
    """Keeps the pipelines of a registry at what the snapshot in force says. Thread-safe.

    Args:
        registry: where the pipelines are.
        environment: what variables say, where the snapshot says nothing.
    """

    def __init__(self, registry: Registry = REGISTRY, environment: Environment | None = None) -> None:
        self._registry = registry
        self._lock = threading.RLock()
        self._world = World(NOTHING, environment or {}, {})  # replaced under _lock
        # What the code gave a policy or budget, and the name of the pipeline that it follows; guarded by _lock
        self._given: weakref.WeakKeyDictionary[Any, tuple[Any, str]] = weakref.WeakKeyDictionary()
        self._values: weakref.WeakKeyDictionary[Pipeline, Values] = (
            weakref.WeakKeyDictionary()
        )  # guarded by _lock
        self._told: set[Note] = set()  # of this snapshot, while pipelines were made; guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def check(self, snapshot: Snapshot, /) -> None:
        """Raise where a pipeline that lives here cannot take it; change nothing.

        Raises:
            DocumentError: numbers that its policies refuse together.
        """
        # What a person set is no fault of the document.
        world = self._world._replace(snapshot=snapshot, laid={}, plans=())
        for pipeline in self._registry.pipelines():
            name = str(pipeline.name)
            plans = [plan for plan, targets in snapshot.plans.items() if name in targets]
            for active in ((), *((plan,) for plan in plans)):
                pointer: Pointer = ("plans", *active, "set", "targets", name) if active else (*TARGETS, name)
                try:
                    self._tuning(pipeline, world._replace(plans=active))
                except PolicyError as exc:
                    file, line = snapshot.sources.place(pointer)
                    urgent = snapshot.emergency is not None and name in snapshot.emergency.targets
                    both = "the two documents together" if urgent else f"plan {active[0]}" if active else "it"
                    said = f"a pipeline of this process cannot take {both}: {exc}"
                    raise DocumentError(
                        said, pointer=pointer, file=file, line=line, reason="policies"
                    ) from exc

    def apply(self, snapshot: Snapshot, /, *, surely: bool = False) -> tuple[Difference, ...]:
        """Bring every pipeline to it; the numbers that changed.

        Args:
            surely: also where nothing seems to differ: another thread may be in the middle of older numbers.
        """
        with self._lock:
            self._world = self._world._replace(snapshot=snapshot)
            self._told.clear()
        return self.refresh(surely=surely)

    def refresh(self, *, surely: bool = False) -> tuple[Difference, ...]:
        """Bring every pipeline to what is said now; the numbers that changed."""
        notes: Notes = {}
        places: dict[Pointer, Place] = {}
        tuned: World | None = None
        # Somebody else may change it meanwhile, and may have met older numbers on their way.
        while tuned is not (world := self._world):
            surely, tuned = surely or tuned is not None, world
            new: Notes = {}
            for pipeline in self._registry.pipelines():
                new |= self._tune(pipeline, world, surely=surely)
            notes |= new
            places |= world.snapshot.sources.places(
                [each.pointer for each in new if each.pointer is not None]
            )
        _log(notes, places)
        changed = {note.change.path: note.change for note in notes if note.change is not None}
        return tuple(changed.values())

    def follow(self, pipeline: Pipeline, /) -> None:
        """Bring a new pipeline to what is in force."""
        world, surely = self._world, False
        while surely or world.snapshot is not NOTHING or world.environment or world.laid:
            notes = self._tune(pipeline, world, surely=surely)
            with self._lock:
                # Who makes pipelines by the thousand is told once of each thing.
                room = len(self._told) < _MOST_TOLD
                new = dict.fromkeys(note for note in notes if room and note not in self._told)
                self._told.update(new)
            _log(new, {})
            tuned, world, surely = world, self._world, True
            # Else the loader was here in between, and may have met older numbers on their way.
            if world is tuned:
                return

    def release(self) -> None:
        """No document is followed any more: all goes back to what the environment and the code say."""
        self.apply(NOTHING, surely=True)

    def heed(self, environment: Environment, /) -> None:
        """Bring every pipeline to what the variables say now."""
        with self._lock:
            self._world = self._world._replace(environment=environment)
            self._told.clear()
        self.refresh()

    def lay_over(self, laid: Laid, /) -> None:
        """Have what persons set hold above all else, from the next `refresh` on."""
        with self._lock:
            self._world = self._world._replace(laid=laid)
            self._told.clear()

    def use_plans(self, names: tuple[str, ...], /) -> tuple[Difference, ...]:
        """Have what these plans of the document set hold above it; the numbers that changed."""
        with self._lock:
            self._world = self._world._replace(plans=names)
            self._told.clear()
        return self.refresh()

    def try_override(self, name: str, leaf: str, value: Any, /) -> None:
        """Raise where no pipeline that lives here has such a number, or one of them cannot take it.

        Raises:
            ConfigError: that is so.
        """
        world = self._world
        laid = {**world.laid, name: {**world.laid.get(name, {}), leaf: (value, "")}}
        found = False
        for pipeline in self._registry.pipelines(name):
            try:
                tuning = self._tuning(pipeline, world._replace(laid=laid))
            except PolicyError as exc:
                raise ConfigError(f"override: {name} cannot take {leaf}={value!r}: {exc}") from exc
            found = found or leaf in tuning.values
        if not found:
            names = sorted({str(each.name) for each in self._registry.pipelines()})
            close = difflib.get_close_matches(name, [each for each in names if each != name], 1)
            there = ", ".join(names[:20]) or "none"
            instead = f"did you mean {close[0]!r}?" if close else f"there are {there}"
            raise ConfigError(
                f"override: no pipeline named {name!r} that has {leaf} lives in this process; {instead}"
            )

    def explain(self, key: str, /) -> Explanation:
        """Why a number is what it is.

        Raises:
            ConfigError: there is no such number.
        """
        world = self._world
        snapshot = world.snapshot
        if is_switch(key):
            return explain_switch(key, snapshot, STATE.flags)
        name, leaf = find_leaf(key)
        for pipeline in self._registry.pipelines(name):
            values = self.values_of(pipeline)
            if leaf in values:
                return _explained(key, values[leaf], snapshot, lives=True)
        value = {**_set_for(name, world), **_said_of(name, world), **_laid_for(name, world)}.get(leaf)
        if value is None:
            raise ConfigError(
                f"explain: no pipeline named {name!r} that has {leaf} lives in this process, and neither document nor "
                "environment says it"
            )
        return _explained(key, value, snapshot, lives=False)

    def values_of(self, pipeline: Pipeline, /) -> Values:
        """All numbers of a pipeline, as they are in force."""
        with self._lock:
            values = self._values.get(pipeline)
        return numbers(self._parts(pipeline)) if values is None else values

    # -------------------------------------------------------------------------------------------------- applying
    def _tune(self, pipeline: Pipeline, world: World, *, surely: bool) -> Notes:
        """Bring one pipeline to it. Raises nothing."""
        name = pipeline.name
        notes: Notes = {}
        try:
            tuning, without = self._fitting(pipeline, world)
            notes |= dict.fromkeys(without)
            with self._lock:
                before = self._values.get(pipeline) or numbers(self._parts(pipeline))
                self._values[pipeline] = tuning.values
            now = pipeline.clock.monotonic()
            for target, options in tuning.options:
                if surely or target.options != options:
                    if isinstance(target, Policy):
                        # It may tell of itself before it is put on a function.
                        target.name = target.name or name
                    forgotten = target.retune(options, now)
                    if forgotten:
                        notes[Note(f"{name}: {target.kind} forgets {forgotten}")] = None
        except PolicyError as exc:
            return {Note(f"{name}: the configuration is not applied to it: {exc}"): None}
        except Exception:
            write(ERROR, f"{name}: the configuration could not be applied to it", exc_info=True)
            return {}
        notes |= dict.fromkeys(tuning.warnings)
        for leaf, value in tuning.values.items():
            old = before[leaf].value
            if value.value != old:
                whose = {EMERGENCY: "emergency ", PLAN: "plan ", OVERRIDE: "override: "}.get(value.layer, "")
                head = f"{name}: {leaf} {shown(leaf, old)} -> {shown(leaf, value.value)} ({whose}"
                tail = ")" if value.pointer is not None else f"{value.variable or _WHY[value.layer]})"
                notes[Note(head, value.pointer, tail, Difference(f"{name}.{leaf}", old, value.value))] = None
        return notes

    def _fitting(self, pipeline: Pipeline, world: World) -> tuple[Tuning, list[Note]]:
        """What it is to become; without what persons set, or plans, where it does not go together with that.

        Raises:
            PolicyError: not without them either.
        """
        notes: list[Note] = []
        for what in ("laid", "plans"):
            try:
                return self._tuning(pipeline, world), notes
            except PolicyError as exc:
                said = {"laid": "the override is", "plans": "the plans are"}[what]
                if getattr(world, what):
                    notes.append(Note(f"{pipeline.name}: {said} not applied to it: {exc}"))
            world = world._replace(laid={}) if what == "laid" else world._replace(plans=())
        return self._tuning(pipeline, world), notes

    def _tuning(self, pipeline: Pipeline, world: World) -> Tuning:
        """What it is to become.

        Raises:
            PolicyError: its policies refuse the numbers.
        """
        name = str(pipeline.name)
        said, set_, laid = _said_of(name, world), _set_for(name, world), _laid_for(name, world)
        parts = self._parts(pipeline)
        values = numbers(parts)
        warnings = _without_effect(name, said, set_, values)
        said = {leaf: value for leaf, value in {**set_, **said, **laid}.items() if leaf in values}
        values |= said
        for leaf, number in pipeline.derived({k: v.value for k, v in values.items()}, said.keys()).items():
            if leaf not in said and number != values[leaf].value:
                values[leaf] = Value(number, PRESET)
        total, attempt = (values[leaf].value if leaf in values else None for leaf in TIMES)
        if total is not None and attempt is not None and attempt >= total:
            raise PolicyError(
                f"timeout.attempt of {seconds(attempt)} is not below timeout.total of {seconds(total)}; "
                "write both in the document"
            )
        options = [(target, with_numbers(given, paths, values)) for target, given, paths in parts]
        return Tuning(values, options, warnings)

    def _parts(self, pipeline: Pipeline) -> list[tuple[Any, Any, Mapping[str, Path]]]:
        """What of a pipeline has numbers, with what the code gave it, and where each number is in that.

        A policy that stands in pipelines of two names follows the one that was made first."""
        found = []
        for target, paths in targets_of(pipeline):
            with self._lock:
                given, name = self._given.setdefault(target, (target.options, str(pipeline.name)))
            if name == pipeline.name:
                found.append((target, given, paths))
        return found


def _set_for(name: str, world: World) -> Values:
    """What variables say of a dependency."""
    found = world.environment.get(spelt(name), {}) if world.environment else {}
    return {leaf: Value(each.value, ENVIRONMENT, variable=each.variable) for leaf, each in found.items()}


def _laid_for(name: str, world: World) -> Values:
    """What persons set of a dependency."""
    found = world.laid.get(name, {})
    return {leaf: Value(value, OVERRIDE, variable=why) for leaf, (value, why) in found.items()}


def _said_of(name: str, world: World) -> Values:
    """What the documents say of a dependency: plans above the rest, and the emergency's above that."""
    snapshot = world.snapshot
    layers = [(DOCUMENT, snapshot.targets)]
    layers += [(PLAN, snapshot.plans[plan]) for plan in world.plans if plan in snapshot.plans]
    if snapshot.emergency is not None:
        layers.append((EMERGENCY, snapshot.emergency.targets))
    return {
        f"{kind}.{leaf}": Value(value, layer, each.pointer(leaf))
        for layer, targets in layers
        for kind, each in targets.get(name, {}).items()
        for leaf, value in each.values.items()
    }


def _without_effect(name: str, said: Values, set_: Values, values: Values) -> list[Note]:
    """What the document and the variables say in vain."""
    found = [
        Note(f"{name}: {leaf} at ", value.pointer, " is without effect: it has no such policy")
        for leaf, value in said.items()
        if leaf not in values
    ]
    for leaf, value in set_.items():
        if leaf not in values:
            found.append(Note(f"{name}: {value.variable} is without effect: it has no such policy"))
        elif leaf in said:
            vain = f"{name}: {value.variable} is without effect: the document stands above it at "
            found.append(Note(vain, said[leaf].pointer))
    return found


def _explained(key: str, value: Value, snapshot: Snapshot, *, lives: bool) -> Explanation:
    place = value.variable
    if value.pointer is not None:
        place = str(snapshot.sources.place(value.pointer))
    return Explanation(key, value.value, value.layer, place, lives)


def _log(notes: Notes, places: Mapping[Pointer, Place]) -> None:
    """Where it stands is not looked up for a pipeline that is just made: that takes time."""
    for note in notes:
        place = "" if note.pointer is None else places.get(note.pointer, "the document")
        write(WARNING if note.change is None else INFO, f"{note.head}{place}{note.tail}")


_WHY = {PRESET: "follows from the others", CODE: "not set any more"}
