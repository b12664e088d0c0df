"""What operators wrote for a mesh or a sidecar, as a config document, and a report of all that it cannot say.

Read is a manifest as `kubectl` takes it. Each value in it is taken or reported: nothing is left out in silence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..config.leaves import flat_leaves, value_of
from ..core.errors import ConfigError
from ..core.options import parse_duration

MOST_BYTES = 4 * 1024 * 1024
MOST_VALUES = 50_000
_DEEPEST = 32
_WHOLE = re.compile(r"-?[0-9]{1,12}")

Steps = tuple[str, ...]


@dataclass(frozen=True)
class Remark:
    """Something that the document does not say, or says otherwise.

    Attributes:
        file: where it was written.
        at: the keys that lead there, below the name of the object: ``spec.http.0.fault``.
        said: what became of it.
    """

    file: str
    at: str
    said: str


class Given:
    """A mapping of a manifest, which remembers what was taken of it.

    Args:
        tree: the mapping.
        remark: is told what is to be said of a value.
        at: the keys that lead to it.
    """

    def __init__(
        self, tree: Any, remark: Callable[[Steps, str], None], at: Steps = (), taken: set[Steps] | None = None
    ) -> None:
        self._tree = tree if isinstance(tree, dict) else {}
        self._remark = remark
        self._at = at
        self._taken: set[Steps] = set() if taken is None else taken

    def __contains__(self, key: str) -> bool:
        return key in self._tree

    def __iter__(self) -> Iterator[str]:
        return (str(key) for key in self._tree)

    def open(self, key: str) -> Given:
        """A mapping in it; an empty one where there is none."""
        return Given(self._tree.get(key), self._remark, (*self._at, key), self._taken)

    def each(self, key: str) -> list[Given]:
        """The mappings of a list in it."""
        found = self._tree.get(key)
        of = found if isinstance(found, list) else []
        return [
            Given(value, self._remark, (*self._at, key, str(n)), self._taken) for n, value in enumerate(of)
        ]

    def take(self, key: str) -> Any:
        """A value; None where there is none."""
        self._taken.add((*self._at, key))
        return self._tree.get(key)

    def text(self, key: str) -> str | None:
        """A text; one of another kind is reported, like a value that nobody took."""
        value = self._tree.get(key)
        return self.take(key) if isinstance(value, str) else None

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        value = self._tree.get(key)
        good = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return list(self.take(key)) if good else []

    def whole(self, key: str) -> int | None:
        """A whole number, or a text of one."""
        value = self._tree.get(key)
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        self.take(key)
        return value

    def number(self, key: str) -> float | None:
        """A number."""
        value = self._tree.get(key)
        return self.take(key) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def duration(self, key: str) -> str | None:
        """A duration as the config document writes it too."""
        try:
            parse_duration(self._tree.get(key))
        except ValueError:
            return None
        return self.text(key)

    def remark(self, key: str, said: str) -> None:
        """Say something of a value, which is taken by that."""
        self.take(key)
        self._remark((*self._at, key), said)

    def left(self) -> Iterator[Steps]:
        """What nobody took."""
        yield from (at for at in _values(self._tree, self._at) if not self._is_taken(at))

    def _is_taken(self, at: Steps) -> bool:
        return any(at[:n] in self._taken for n in range(1, len(at) + 1))


def _values(tree: Any, at: Steps) -> Iterator[Steps]:
    if not isinstance(tree, (dict, list)) or not tree or len(at) > _DEEPEST:
        yield at
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _values(value, (*at, str(key)))


class Made:
    """The document, as it is put together.

    Attributes:
        targets: what is said of each dependency, by kind of policy and leaf.
        remarks: what it does not say.
    """

    def __init__(self) -> None:
        self.targets: dict[str, dict[str, dict[str, Any]]] = {}
        self.remarks: list[Remark] = []
        self._namespaces: dict[str, str] = {}

    def document(self) -> dict[str, Any]:
        """As a service reads it."""
        return {"resiliency": {"targets": self.targets}}

    def begin(self, name: str, namespace: str = "") -> str | None:
        """A dependency of that name; the other namespace, where there is one of another already.

        Args:
            namespace: empty where it is not said.
        """
        other = self._namespaces.get(name, "")
        if other and namespace and other != namespace:
            return other
        self._namespaces[name] = other or namespace
        self.targets.setdefault(name, {})
        return None

    def say(self, name: str, leaf: str, value: Any) -> str | None:
        """Write a value; why it cannot be."""
        if value is None:
            return None
        kind, _, rest = leaf.partition(".")
        try:
            value_of(flat_leaves()[leaf], value)
        except ValueError as exc:
            return f"left out: {exc}"
        tree = self.targets[name].setdefault(kind, {})
        *outer, last = rest.split(".")
        for step in outer:
            tree = tree.setdefault(step, {})
        tree[last] = value
        return None

    def give_time(self) -> None:
        """Where only an attempt has a time-out, give the call one that all attempts fit into: here it always has."""
        for name, target in self.targets.items():
            timeout, retry = target.get("timeout", {}), target.get("retry", {})
            if "attempt" in timeout and "total" not in timeout:
                attempts = retry.get("attempts", 3)
                wait = parse_duration(retry.get("wait", {}).get("cap", "1s"))
                total = attempts * parse_duration(timeout["attempt"]) + (attempts - 1) * wait
                timeout["total"] = f"{min(math.ceil(total) + 1, 86_400)}s"
                said = f"is {timeout['total']}: there was no time-out of the whole call, and here it always has one"
                self.remarks.append(Remark(f"resiliency.targets.{name}", "timeout.total", said))


def text(made: Made) -> str:
    """The document as YAML."""
    return yaml.safe_dump(made.document(), sort_keys=False, explicit_end=True)


Reader = Callable[[Given, Made], None]
"""Takes from one object what the document can say."""

IGNORED = ("apiVersion", "kind", "metadata", "status")
"""Keys of a manifest that say nothing of how calls are made."""


def read(paths: list[Path], readers: Mapping[str, Reader]) -> Made:
    """The document that manifests come to.

    Args:
        readers: by the ``kind`` of the object.

    Raises:
        ConfigError: a file cannot be read, or has nothing of these kinds.
    """
    made = Made()
    found = 0
    for path in paths:
        for number, tree in enumerate(_objects(path)):
            kind = tree.get("kind")
            name = tree["metadata"].get("name") if isinstance(tree.get("metadata"), dict) else None
            where = f"{path.name}: {kind} {name or number}"
            reader = readers.get(kind) if isinstance(kind, str) else None
            if reader is None:
                made.remarks.append(Remark(where, "kind", f"is passed over; read are {', '.join(readers)}"))
                continue
            found += 1

            def remark(at: Steps, said: str, where: str = where) -> None:
                made.remarks.append(Remark(where, ".".join(at), said))

            given = Given({key: value for key, value in tree.items() if key not in IGNORED}, remark)
            reader(given, made)
            for at in given.left():
                remark(at, "not expressed")
    made.give_time()
    made.remarks = list(dict.fromkeys(made.remarks))  # a policy that two refer to is read twice
    if not found:
        raise ConfigError(f"there is no {' or '.join(readers)} in {', '.join(map(str, paths))}")
    return made


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path} has more than {MOST_BYTES:,} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # One event after the other first: a few aliases are enough for more values than there is memory.
        for event in yaml.parse(content, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                line = "" if event.start_mark is None else f":{event.start_mark.line + 1}"
                raise ConfigError(f"{path}{line}: an alias ('*'): write the value itself")
        trees = list(yaml.load_all(content, Loader=loader))
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path} is no YAML: {exc}") from exc
    except (RecursionError, ValueError) as exc:
        raise ConfigError(f"{path} cannot be read: {type(exc).__name__}") from exc
    for tree in _listed(trees):
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: an object must be a mapping: kind: ...")
        for number, at in enumerate(_values(tree, ())):
            if number >= MOST_VALUES or len(at) > _DEEPEST:
                raise ConfigError(f"{path}: more than {MOST_VALUES:,} values, or deeper than {_DEEPEST}")
        yield tree


def _listed(trees: list[Any]) -> Iterator[Any]:
    """The objects, also of a list, as ``kubectl get -o yaml`` gives it."""
    for tree in trees:
        if isinstance(tree, dict) and tree.get("kind") == "List" and isinstance(tree.get("items"), list):
            yield from tree["items"]
        elif tree is not None:
            yield tree
