"""Runs the Python blocks of a page, one after the other, as a reader would who pastes them into one session."""

from __future__ import annotations

import contextlib
import doctest
import gc
import io
import re
import subprocess
import sys
import tempfile
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resilient.core.events import RUNTIME
from resilient.core.registry import REGISTRY
from resilient.flags.state import NOTHING, publish
from resilient.testing import ManualClock, Origin
from tests.docs.pages import Block, Page
from tests.docs.shop import running

Names = dict[str, Any]
Fixture = Callable[[Names], contextlib.AbstractContextManager[Names]]

_FLAGS = doctest.ELLIPSIS
_MODULE = "a_page_of_the_docs"


@contextlib.contextmanager
def _origin(given: Names) -> Iterator[Names]:
    """A new `Origin`; on `clock`, if the page has asked for that before."""
    with Origin(clock=given.get("clock")) as origin:
        yield {"origin": origin, "url": origin.url}


@contextlib.contextmanager
def _clock(given: Names) -> Iterator[Names]:
    yield {"clock": ManualClock()}


@contextlib.contextmanager
def _shop(given: Names) -> Iterator[Names]:
    """A new gRPC server, and its address."""
    with running() as (shop, target):
        yield {"shop": shop, "target": target}


class Unlucky:
    """A callee that raises the errors and returns the values that it is given, in turn; then the last one again."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@contextlib.contextmanager
def _unlucky(given: Names) -> Iterator[Names]:
    yield {"unlucky": Unlucky}


FIXTURES: dict[str, Fixture] = {"origin": _origin, "clock": _clock, "unlucky": _unlucky, "shop": _shop}
"""What a block may ask for. It stays until the page ends, or until a later block asks for a new one."""


class Wrong(AssertionError):
    """A block does not do what the page says."""


def run(page: Page) -> int:
    """Run all Python blocks of a page; how many there were.

    Raises:
        Wrong: an output that is not the one shown, or a fixture that does not exist.
        Exception: whatever a block raises, with its place in the page in the traceback.
    """
    module = types.ModuleType(_MODULE)
    listeners = RUNTIME.listeners
    sys.modules[_MODULE] = module  # dataclasses, pickle and the like look a class's module up
    count = 0
    gc.collect()
    others, REGISTRY._pipelines = (
        REGISTRY._pipelines,
        weakref.WeakKeyDictionary(),
    )  # of other tests, under the same names
    try:
        with contextlib.ExitStack() as stack:
            for block in page.blocks:
                if block.language == "python":
                    if block.fresh:
                        module.__dict__.clear()
                        module.__dict__["__name__"] = _MODULE
                    _provide(block, page, module.__dict__, stack)
                    _run(block, page, module.__dict__)
                    count += 1
    finally:
        del sys.modules[_MODULE]
        # What a page made must be gone: a retry budget is shared by all that bear one name, on whatever clock.
        module.__dict__.clear()
        publish(NOTHING)
        gc.collect()
        REGISTRY._pipelines = others
    if not RUNTIME.active or listeners != RUNTIME.listeners:
        raise Wrong(f"{page.name} leaves listeners behind, or the policies inactive")
    return count


def _provide(block: Block, page: Page, names: Names, stack: contextlib.ExitStack) -> None:
    for name in block.needs:
        if name not in FIXTURES:
            known = ", ".join(sorted([*FIXTURES, "fresh"]))
            raise Wrong(
                f"{page.name}:{block.line - 1}: there is no fixture {name!r}; there are {known} (running.py)"
            )
        names.update(stack.enter_context(FIXTURES[name](names)))


def _run(block: Block, page: Page, names: Names) -> None:
    if re.search(r"^(async )?def test_", block.code, re.MULTILINE):
        _tests(block, page)
        return
    if any(line.lstrip().startswith(">>> ") for line in block.code.splitlines()):
        _session(block, page, names)
        return
    # Empty lines in front, so that a traceback shows the page's own line.
    code = compile("\n" * (block.line - 1) + block.code, page.name, "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    got, shown = printed.getvalue().rstrip() + "\n", (block.output or "").rstrip() + "\n"
    if not doctest.OutputChecker().check_output(shown, got, _FLAGS):
        raise Wrong(f"{page.name}:{block.line} prints\n{got}\nand the page shows\n{shown}")


def _tests(block: Block, page: Page) -> None:
    """Tests are run by pytest, in a process of their own: they show the fixtures that it loads by itself."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "test_of_the_docs.py")
        file.write_text(block.code, encoding="utf-8")
        Path(directory, "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if done.returncode != 0:
        raise Wrong(f"{page.name}:{block.line}\n{done.stdout}{done.stderr}")


def _session(block: Block, page: Page, names: Names) -> None:
    session = doctest.DocTestParser().get_doctest(
        block.code + "\n", names, page.name, page.name, block.line - 1
    )
    session.globs = names  # not a copy: the blocks of a page share their names
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=_FLAGS, verbose=False).run(session, out=said.write, clear_globs=False)
    if said.getvalue():
        raise Wrong(said.getvalue())
