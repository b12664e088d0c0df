"""From bytes to one plain tree, and back from a place in the tree to file and line.

JSON, and of YAML what says the same as JSON: no anchors, aliases, tags, merge keys or directives; keys are texts; only
``true`` and ``false`` are booleans, only decimals are numbers (YAML 1.2), so that no reader in another language reads
something else. A key that is there twice is refused.

No beginning of a document is one: JSON has its closing bracket, and YAML must end with a line ``...``. Without
that line 93 of the 118 beginnings of a YAML document of two flags parse, and 48 of them have lost flags."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from ..core.errors import DocumentError
from .source import Files

Pointer = tuple[str | int, ...]
Lines = Callable[[], Iterable[tuple[Pointer, int]]]

DEEPEST = 64
MOST_YAML = 128 * 1024
"""Bytes of one file. YAML takes 50 times as long as JSON, and holds up the event loop even from another thread."""

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s{}\[\],:"]+')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TWO_WAYS = re.compile(r"[-+]?0[0-9xo][0-9a-fA-F_.]*|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Place(NamedTuple):
    """Where something is written; lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Sources:
    """What tells where everything of a document is written. It keeps the texts, and looks into them when asked.

    Args:
        files: the name of each, and what gives the place of every key and item in it, with its line.
    """

    def __init__(self, files: Sequence[tuple[str, Lines]]) -> None:
        self._files = files

    def before(self, other: Sources, /) -> Sources:
        """These, and where they have nothing those others."""
        return Sources([*self._files, *other._files])

    def places(self, pointers: Collection[Pointer], /) -> dict[Pointer, Place]:
        """Where the values at these pointers are; of what they would stand in, where they are not there."""
        wanted = {pointer[:n] for pointer in pointers for n in range(1, len(pointer) + 1)}
        found: dict[Pointer, Place] = {}
        for name, lines in self._files if wanted else ():
            for pointer, line in lines():
                if pointer in wanted:
                    found.setdefault(pointer, Place(name, line))
        top = Place(self._files[0][0], 1)
        return {
            pointer: next(
                (found[pointer[:n]] for n in range(len(pointer), 0, -1) if pointer[:n] in found), top
            )
            for pointer in pointers
        }

    def place(self, pointer: Pointer, /) -> Place:
        """As `places`, for one."""
        return self.places([pointer])[pointer]


NOWHERE = Sources([("", tuple)])
"""Of no document."""


class Document(NamedTuple):
    """All files of one generation.

    Attributes:
        tree: as one; plain: dicts, lists, texts, numbers, booleans, None.
        digest: of the content that it was made of.
        sources: tells files and lines.
    """

    tree: dict[str, Any]
    digest: str
    sources: Sources


def parse(files: Files, /, *, most_yaml: int = MOST_YAML) -> Document:
    """The document that the files are together.

    Args:
        most_yaml: bytes of YAML in one file; a command may take more than a service.

    Raises:
        DocumentError: with file, and line where it is known.
    """
    tree: dict[str, Any] = {}
    read: list[tuple[str, Lines]] = []
    for name, content in files.content.items():
        part, lines = _part(name, content, most_yaml)
        twice = _add(part, tree, ())
        if twice is not None:
            there, here = Sources(read).place(twice), Sources([(name, lines)]).place(twice)
            raise DocumentError(
                f"stands in {there.file} too; write it once", pointer=twice, file=name, line=here.line
            )
        read.append((name, lines))
    return Document(tree, files.digest, Sources(read))


def _add(new: dict[str, Any], tree: dict[str, Any], at: Pointer) -> Pointer | None:
    """Put one tree into another; where they meet, if that is a value."""
    for key, value in new.items():
        if key not in tree:
            tree[key] = value
            continue
        old = tree[key]
        both = isinstance(value, dict) and isinstance(old, dict)
        twice = _add(value, old, (*at, key)) if both else (*at, key)
        if twice is not None:
            return twice
    return None


def _part(name: str, content: bytes, most_yaml: int) -> tuple[dict[str, Any], Lines]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise DocumentError("is not UTF-8", file=name, line=line, reason="encoding") from exc
    tree, lines = _json(name, text) if name.endswith(".json") else _yaml(name, text, most_yaml)
    if not isinstance(tree, dict):
        raise DocumentError("must be a mapping: {...}", file=name, line=1)
    return tree, lines


# ------------------------------------------------------------------------------------------------------------ JSON
class _Twice(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number that JSON has")
    return number


def _json(name: str, text: str) -> tuple[Any, Lines]:
    try:
        tree = json.loads(text, object_pairs_hook=_pairs, parse_constant=_finite, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(tree, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        raise DocumentError(f"is no JSON: {exc.msg}", file=name, line=exc.lineno, reason="syntax") from exc
    except _Twice:
        raise _twice(name, text) from None
    except RecursionError:
        raise _deep(name) from None
    except UnicodeEncodeError as exc:
        raise DocumentError("has half of a surrogate pair", file=name, reason="encoding") from exc
    except ValueError as exc:
        line = _line_of_no_number(text)
        raise DocumentError(f"is no JSON: {exc}", file=name, line=line, reason="syntax") from exc
    if _deeper(tree, DEEPEST):
        raise _deep(name)
    return tree, lambda: _places(text)


def _line_of_no_number(text: str) -> int | None:
    """Where the first one is that is no number, or one of too many digits."""
    for match in _WORD.finditer(text):
        if match[0][0] not in '"{}[],':
            try:
                json.loads(match[0], parse_constant=_finite, parse_float=_finite)
            except ValueError:
                return text.count("\n", 0, match.start()) + 1
    return None


def _places(text: str) -> Iterator[tuple[Pointer, int]]:
    """Every key and every item of a JSON text that is one, with its line."""
    path: list[str | int] = []
    key_next = False
    line, at = 1, 0
    for match in _WORD.finditer(text):
        word = match[0]
        line, at = line + text.count("\n", at, match.start()), match.start()
        if word == ",":
            if isinstance(path[-1], int):
                path[-1] += 1
            else:
                key_next = True
        elif word in "}]":
            path.pop()
            key_next = False
        elif key_next:
            path[-1] = json.loads(word)
            key_next = False
            yield tuple(path), line
        else:
            if path and isinstance(path[-1], int):
                yield tuple(path), line
            if word == "{":
                path.append("")
                key_next = True
            elif word == "[":
                path.append(0)


def _twice(name: str, text: str) -> DocumentError:
    seen: set[Pointer] = set()
    for pointer, line in _places(text):
        if pointer in seen:
            return _is_twice(name, pointer, line)
        seen.add(pointer)
    raise AssertionError("the parser saw a key twice")


def _deeper(tree: Any, depth: int) -> bool:
    if not isinstance(tree, (dict, list)):
        return False
    if depth == 0:
        return True
    return any(_deeper(each, depth - 1) for each in (tree.values() if isinstance(tree, dict) else tree))


def _deep(name: str, line: int | None = None) -> DocumentError:
    return DocumentError(f"nests deeper than {DEEPEST}", file=name, line=line, reason="size")


def _is_twice(name: str, pointer: Pointer, line: int) -> DocumentError:
    return DocumentError(
        "stands here twice; write it once", pointer=pointer, file=name, line=line, reason="syntax"
    )


# ------------------------------------------------------------------------------------------------------------ YAML
def _yaml(name: str, text: str, most: int) -> tuple[Any, Lines]:
    size = len(text.encode())
    if size > most:
        raise DocumentError(
            f"{size:,} bytes of YAML, at most {most:,}: more would hold up the service; run `resilient build` and "
            "mount the JSON that it prints",
            file=name,
            reason="size",
        )
    try:
        return _Composer(name).compose(text)
    except yaml.YAMLError as exc:
        mark, position = getattr(exc, "problem_mark", None), getattr(exc, "position", None)
        said = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc)
        line = None if mark is None else mark.line + 1
        if position is not None:  # of a character that YAML does not have; libyaml counts bytes
            before = text.encode()[:position] if hasattr(yaml, "CBaseLoader") else text[:position].encode()
            line = before.count(b"\n") + 1
        raise DocumentError(f"is no YAML: {said}", file=name, line=line, reason="syntax") from exc


class _Composer:
    """Makes the tree of what the YAML parser sees, one event after the other.

    Args:
        name: of the file.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: dict[Pointer, int] = {}

    def compose(self, text: str) -> tuple[Any, Lines]:
        events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        next(events)
        start = next(events)
        if isinstance(start, yaml.StreamEndEvent):
            raise DocumentError("is empty", file=self._name)
        if start.version is not None or start.tags:
            raise self._refuse(start, "a directive: leave it out")
        tree = self._value(next(events), events, ())
        end = next(events)
        if not end.explicit:
            raise self._refuse(
                end, "does not end with a line '...', so it may be half of a file; add one at its end"
            )
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._refuse(after, "a second document; write one, or two files")
        return tree, self._lines.items

    def _refuse(self, event: Any, message: str, pointer: Pointer = ()) -> DocumentError:
        return DocumentError(message, pointer=pointer, file=self._name, line=_line(event), reason="syntax")

    def _value(self, event: Any, events: Iterator[Any], at: Pointer) -> Any:
        if len(at) > DEEPEST:
            raise _deep(self._name, _line(event))
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._refuse(event, "an anchor or alias ('&', '*'): write the value where it is meant", at)
        if event.tag is not None:
            raise self._refuse(event, f"a tag ({event.tag}): leave it out", at)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, at)
        if isinstance(event, yaml.SequenceStartEvent):
            found = list[Any]()
            while not isinstance(each := next(events), yaml.SequenceEndEvent):
                pointer = (*at, len(found))
                self._lines[pointer] = _line(each)
                found.append(self._value(each, events, pointer))
            return found
        return event.value if event.style else self._plain(event, at)

    def _mapping(self, events: Iterator[Any], at: Pointer) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or not (key.value or key.style):
                raise self._refuse(key, "a key must be a text", at)
            if key.anchor is not None or key.tag is not None:
                raise self._refuse(key, "a key with an anchor or a tag: leave that out", at)
            pointer = (*at, key.value)
            if key.value == "<<" and not key.style:
                raise self._refuse(key, "a merge key: write the values where they are meant", at)
            if key.value in found:
                raise _is_twice(self._name, pointer, _line(key))
            self._lines[pointer] = _line(key)
            found[key.value] = self._value(next(events), events, pointer)
        return found

    def _plain(self, event: Any, at: Pointer) -> Any:
        """A scalar without quotes, as YAML 1.2 reads it."""
        text = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _TWO_WAYS.fullmatch(text):
            raise self._refuse(
                event,
                f"{text} is read in two ways; write a decimal number, or a text in quotes: '{text}'",
                at,
            )
        if _INTEGER.fullmatch(text):
            try:
                return int(text)
            except ValueError as exc:  # more digits than the interpreter converts
                raise self._refuse(event, "a number of that many digits", at) from exc
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self._refuse(event, f"{text[:20]} is more than a number can be", at)
            return number
        return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
