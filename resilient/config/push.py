"""A config centre that pushes: etcd, Consul, Nacos, Apollo, or a service of your own, behind two calls that may block.

They are made by a thread of their own, because whatever they wait for must not hold up the thread that looks after all
else. What came last lies here, and is looked at like a mounted file."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from copy import copy
from typing import NamedTuple, Protocol

from ..core.errors import DocumentError
from ..core.forks import tell_after_fork
from .log import WARNING, write
from .source import MOST_BYTES, Changing, Files, Mark, digest_of

LONGEST_WAIT = 60.0
"""Seconds that `Source.wait` is asked to wait; then the document is read all the same, in case a notice was lost."""
LEAST = 1.0
"""Seconds between two reads at least, a tenth more or less at random."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries while it cannot be read, at most."""


class Source(Protocol):
    """Where a config document is pushed from, for `configure(source=...)`. Its two methods are called in turn by one
    thread of ours, and may block it; whatever they raise is told in the log and in `status`: put no credential in it.

    After another `configure` a call that is under way is left to end, and what it gives is dropped. A forked child goes
    on with the same object in a thread of its own: connections that the parent opened are not its own. Give the calls
    time-outs, TLS and a credential: whoever can answer in its place steers the service.
    """

    def read(self) -> tuple[bytes, str]:
        """The document, as a file would have it (JSON if it begins with ``{``, else YAML), and its revision."""
        ...

    def wait(self, revision: str, timeout: float, /) -> object:
        """Return when there may be another revision than this one, or after about ``timeout`` seconds."""
        ...


class Heard(NamedTuple):
    """What came last.

    Attributes:
        number: another one for each answer that differs.
        answer: the document, or why there is none; None before the first.
    """

    number: int = 0
    answer: Files | DocumentError | None = None


class Pushed:
    """What a source says, to who follows it. `begin`, `end` and `step` are for one thread each; the rest for all.

    Args:
        source: is asked.
        nudge: called when it said something else.

    Attributes:
        answered: set once it has said anything, or failed.
    """

    def __init__(self, source: Source, nudge: Callable[[], None] = lambda: None) -> None:
        self._source = source
        self._nudge = nudge
        self._heard = Heard()  # replaced as a whole, by the thread that asks
        self._revision: str | None = None
        self._failures = 0  # in a row
        self._told = ""
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self.answered = threading.Event()
        tell_after_fork(self)

    def __str__(self) -> str:
        return name_of(self._source)

    def after_fork(self) -> None:
        self._thread = None
        self._over = threading.Event()
        self.answered = threading.Event()
        if self._heard.answer is not None:
            self.answered.set()

    # ---------------------------------------------------------------------------------------- for who follows it
    def mark(self) -> Mark:
        return Mark(self._heard.number, True)

    def read(self) -> Files:
        answer = self._heard.answer
        if answer is None:
            raise Changing(f"{self} has not answered yet")
        if isinstance(answer, DocumentError):
            raise copy(answer)
        return answer

    def begin(self) -> None:
        """Ask from now on, in a thread; where that ended, in another."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(
                target=self._run, args=(self._over,), name="resilient-source", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:
                self._hear(DocumentError(f"there is no thread to ask for it: {exc}", reason="read"))
            else:
                self._thread = thread

    def end(self) -> None:
        """Ask no more, once a call that is under way has returned."""
        self._over.set()

    # ------------------------------------------------------------------------------------------------ for the thread
    def _run(self, over: threading.Event) -> None:
        while not over.is_set():
            over.wait(self.step())

    def step(self) -> float:
        """Wait for another revision, where one is known, and read it; seconds until the next step."""
        began = time.monotonic()
        if self._revision is not None and not self._failures:
            try:
                self._source.wait(self._revision, LONGEST_WAIT)
            except Exception as exc:
                # As a rule the centre restarts, and all processes are told so at once: they must not come back at once.
                return self._failed(f"wait() raised {_shown(exc)}; it is read instead")
            if self._over.is_set():
                return 0.0
        try:
            content, revision = self._source.read()
            files = _files(content, revision)
        except DocumentError as exc:
            self._hear(exc)
            return self._failed()
        except Exception as exc:
            self._hear(DocumentError(f"cannot be read: {_shown(exc)}", reason="read"))
            return self._failed()
        self._failures, self._revision = 0, revision
        self._hear(files)
        return max(0.0, LEAST * (0.9 + 0.2 * random.random()) - (time.monotonic() - began))

    def _failed(self, why: str = "") -> float:
        if why and why != self._told:
            self._told = why
            write(WARNING, f"config: {self}: {why}")
        self._failures += 1
        return min(LONGEST_PAUSE, LEAST * 2.0 ** min(self._failures, 10)) * random.random()

    def _hear(self, answer: Files | DocumentError) -> None:
        number, before = self._heard
        if _same(answer, before):
            return
        self._heard = Heard(number + 1, answer)
        self.answered.set()
        self._nudge()


def name_of(source: object, /) -> str:
    """What it is called, for people: as it says itself, else its class."""
    kind = type(source)
    return kind.__name__ if kind.__str__ is object.__str__ else str(source)


def _files(content: object, revision: object) -> Files:
    if not isinstance(content, bytes) or not isinstance(revision, str):
        given = f"({type(content).__name__}, {type(revision).__name__})"
        raise DocumentError(
            f"read() returned {given}; return the document as bytes and its revision as str", reason="read"
        )
    if len(content) > MOST_BYTES:
        raise DocumentError(f"more than {MOST_BYTES:,} bytes", reason="size")
    is_json = content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    files = {"document.json" if is_json else "document.yaml": content}
    return Files(files, digest_of(files))


def _shown(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


def _same(answer: Files | DocumentError, before: Files | DocumentError | None) -> bool:
    if isinstance(answer, DocumentError):
        return isinstance(before, DocumentError) and str(before) == str(answer)
    return isinstance(before, Files) and before.digest == answer.digest
