"""Whatever a document is changed to: it is in force as a whole, or nothing of it; no crash, and a refusal says where.

Each mutation is made by a seed, which a failure names: `Case(directory).check(seed, kind)` makes the same one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilient import CircuitBreaker, DocumentError, Pipeline, RateLimit, Retry, Timeout
from resilient.config.document import parse
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.config.sections import SECTIONS
from resilient.config.snapshot import Snapshot, snapshot_of
from resilient.config.source import Files
from resilient.core.registry import Registry
from resilient.flags.state import NOTHING, STATE, publish
from resilient.testing import ManualClock

from ..flags.documents import LEVELS, flag, switch
from .samples import document

TREE: dict[str, Any] = {
    "metadata": {"version": "2026-11-10.3", "changedBy": "alice", "ticket": "CHG-4711"},
    "flags": {
        "search": flag("full", "short", "off", degrade="1:short,2:off", owner="search team"),
        "payment": switch(protected=True),
        "banner": {
            **switch(degrade="1:off"),
            "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, "on", None]},
        },
    },
    "degradation": {"levels": LEVELS, "level": 0},
    "resiliency": {
        "policies": {"retry": {"careful": {"attempts": 2, "wait": {"base": "50ms", "cap": "2s"}}}},
        "targets": {
            "payments": {
                "timeout": {"total": "4s", "attempt": "1.5s"},
                "retry": "careful",
                "breaker": {"failure_ratio": 0.25, "slow_after": "800ms"},
                "ratelimit": {"rate": "450/second", "burst": 90},
            },
            "search.index": {"breaker": {"state": "forced_open"}},
        },
    },
}
TEXTS = {"a.json": json.dumps(TREE, indent=1), "a.yaml": yaml.safe_dump(TREE, sort_keys=False) + "...\n"}

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    1e308,
    -1e-9,
    10**30,
    "",
    " ",
    "0",
    "-1s",
    "1e9s",
    "yes",
    "off",
    "\x00",
    "\u202e",
    "é" * 300,
    [],
    {},
    [[]],
    {"": {}},
    {"a": {"b": []}},
    [1, "2", None],
    "450/second",
    "0/second",
    "1:off,2:short",
    {"use": "careful"},
]
TOKENS = [
    "null",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "\n",
    "...",
    "---",
    "&a ",
    "*a",
    "!!python/object:os.system ",
    "<<: ",
    "#",
    "\t",
    "\x00",
    "\ufeff",
    "1_000",
    "0x1f",
    ".inf",
    "NaN",
    "1e999",
    "\\ud800",
    "9" * 5000,
    "{" * 80,
    "- " * 80,
]


def _said(snapshot: Snapshot) -> Any:
    return {
        name: {kind: said.values for kind, said in kinds.items()} for name, kinds in snapshot.targets.items()
    }


def _leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in it, but to itself."""
    for key, value in (
        tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    ):
        yield (*path, key)
        yield from _leaves(value, (*path, key))


def _in_the_tree(chance: random.Random, name: str) -> bytes:
    tree = json.loads(TEXTS["a.json"])
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        path = chance.choice(list(_leaves(tree)))
        inside = tree
        for key in path[:-1]:
            inside = inside[key]
        how = chance.randrange(4)
        if how == 0:
            inside[path[-1]] = chance.choice(ODD)
        elif how == 1:
            del inside[path[-1]]
        elif how == 2 and isinstance(inside, dict):
            inside[chance.choice(["x", f"{path[-1]}s", "", "use", "$ref", "level"])] = inside.pop(path[-1])
        else:
            other = chance.choice(list(_leaves(tree)))
            value: Any = tree
            for key in other:
                value = value[key]
            inside[path[-1]] = json.loads(json.dumps(value))
    return (json.dumps(tree) if name == "a.json" else yaml.safe_dump(tree) + "...\n").encode()


def _in_the_text(chance: random.Random, name: str) -> bytes:
    text = TEXTS[name]
    at = chance.randrange(len(text))
    to = min(len(text), at + chance.choice((1, 1, 3, 20, 200)))
    how = chance.randrange(5)
    if how == 0:
        text = text[:at] + text[to:]
    elif how == 1:
        text = text[:to] + text[at:]
    elif how == 2:
        text = text[:at] + chance.choice(TOKENS) + text[at:]
    elif how == 3:
        lines = text.splitlines(keepends=True)
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        text = "".join(lines)
    data = bytearray(text.encode())
    if how == 4:
        data[at] = chance.randrange(256)
    return bytes(data)


KINDS: dict[str, Callable[[random.Random, str], bytes]] = {"tree": _in_the_tree, "text": _in_the_text}


class Case:
    """A service that has the sample in force, and what the sample is changed to.

    Args:
        directory: where its document is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()
        registry = Registry()
        self.pipelines = [
            Pipeline(
                Timeout(2.0),
                Retry(3),
                CircuitBreaker(),
                RateLimit("100/second"),
                name="payments",
                clock=self.clock,
            ),
            Pipeline(CircuitBreaker(), name="search.index", clock=self.clock),
        ]
        for pipeline in self.pipelines:
            registry.add(pipeline)
        self.live = Live(registry)
        self.loader = Loader(directory, lambda: (self.live, SECTIONS), self.clock)

    def say(self, name: str, content: bytes) -> DocumentError | None:
        """What a service makes of it: why it is refused, or None."""
        (self.directory / name).write_bytes(content)
        for _ in range(2):  # a directory without ..data has to be quiet for one look
            assert list(self.loader.begin()) == []
            self.loader.finish(None)
            self.clock.advance(30.0)
        problem = self.loader.status.problem
        assert problem is None or isinstance(problem, DocumentError), problem
        return problem

    def in_force(self) -> Any:
        return self.loader.snapshot, [str(each) for each in self.pipelines], STATE.flags

    def check(self, seed: int, kind: str) -> bool:
        """Change it and look; whether it was taken."""
        chance = random.Random(f"{kind} {seed}")
        name = chance.choice([*TEXTS])
        assert self.say(name, TEXTS[name].encode()) is None
        before = self.in_force()
        content = KINDS[kind](chance, name)
        problem = self.say(name, content)
        if problem is not None:
            assert self.in_force() == before
            assert problem.file == name, problem
            assert problem.line or problem.reason in ("encoding", "size", "guard"), problem
            assert str(problem).startswith(f"{name}:{problem.line}: " if problem.line else f"{name}: ")
            return False
        # All of it is in force, as a process that saw nothing before would have it.
        files = Files({name: content}, "")
        tree = parse(files).tree
        assert STATE.flags.flags.keys() == tree["flags"].keys()
        assert "payment" in STATE.flags.flags, (
            "what is protected does not go in the change that ends its protection"
        )
        held = STATE.flags
        anew = snapshot_of(files, SECTIONS)
        now = self.loader.snapshot
        assert now is not None
        assert _said(now) == _said(anew)
        ((_, flags),) = anew.parts
        assert held.table == flags.table
        return True


def _all(directory: Path, kind: str, seeds: range) -> None:
    taken = 0
    for seed in seeds:
        for file in directory.iterdir():
            file.unlink()
        try:
            taken += Case(directory).check(seed, kind)
        except Exception as exc:
            exc.add_note(f"seed {seed} of {kind}")
            raise
        finally:
            publish(NOTHING)
    # They are neither all refused nor all harmless.
    assert len(seeds) * 0.02 < taken < len(seeds) * 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutation_is_in_force_as_a_whole_or_not_at_all(tmp_path: Path, kind: str) -> None:
    _all(tmp_path, kind, range(200))


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_mutations(tmp_path: Path, kind: str) -> None:
    _all(tmp_path, kind, range(1_000, 6_000))


def test_the_samples_say_the_same() -> None:
    assert document(a_json=TEXTS["a.json"]).tree == document(a_yaml=TEXTS["a.yaml"]).tree == TREE
