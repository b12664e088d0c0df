"""A signal handler that raised while code left a ``with`` block by a jump out of an ``except`` left its lock taken.

CPython 3.12 looks for signals after such a jump, when it stands at the first instruction of the block's end, and then
takes the exception for one of the instruction before, which may lie outside of what the block protects. Whether a
function has such a jump is seen in its byte code."""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import resilient

LIBRARY = Path(resilient.__file__).parent


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes(const)


def unprotected(code: CodeType) -> list[str]:
    """The lines from which a jump leads to where a ``with`` block does not hear of an exception any more."""
    steps = list(dis.get_instructions(code))
    ends = {
        step.offset
        for step, following in itertools.pairwise(steps)
        if step.opname == "PUSH_EXC_INFO" and following.opname == "WITH_EXCEPT_START"
    }
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def heard_by(offset: int) -> set[int]:
        found: set[int] = set()
        todo = [offset]
        while todo:
            at = todo.pop()
            more = {each.target for each in table if each.start <= at < each.end} - found
            found |= more
            todo += more
        return found & ends

    return [
        f"{code.co_qualname}, line {step.positions and step.positions.lineno}"
        for step in steps
        if step.opname == "JUMP_BACKWARD" and heard_by(step.offset) - heard_by(step.argval - 2)
    ]


def test_no_block_is_left_so() -> None:
    found = [
        f"{path.name}: {each}"
        for path in LIBRARY.rglob("*.py")
        for code in codes(compile(path.read_text(), str(path), "exec"))
        for each in unprotected(code)
    ]
    assert found == []


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="other interpreters do it otherwise")
def test_one_would_be_seen() -> None:
    source = """
def serve(lock, free, waiting):
    with lock:
        while waiting:
            try:
                free.pop()
            except IndexError:
                break
    return free
"""
    (_, code) = codes(compile(source, "serve.py", "exec"))
    assert unprotected(code) == ["serve, line 8"]
