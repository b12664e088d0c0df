"""A config centre that pushes: etcd, Consul, Nacos, Apollo, or a service of your own, behind two calls that may block.

They are made by a thread of their own, because whatever they wait for must not hold up the thread that looks after all
else. What came last lies here, and is looked at like a mounted file."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from copy import copy
from typing import NamedTuple, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import DocumentError
from ..core.forks import tell_after_fork
from .log import WARNING, write
from .source import MOST_BYTES, Changing, Files, Mark, digest_of

LONGEST_WAIT = 60.0
"""Seconds that `Source.wait` is asked to wait; then the document is read all the same, in case a notice was lost."""
LONGEST_CALL = 150.0
"""Seconds after which a call that has not returned is told as a centre that does not answer."""
LEAST = 1.0
"""Seconds between two reads at least, a tenth more or less at random."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries while it cannot be read, at most."""

_LONGEST = 300  # characters of what a call raised: an answer's whole body may be in it


class Source(Protocol):
    """Where a config document is pushed from, for `configure(source=...)`. Its two methods are called in turn by one
    thread of ours, and may block it; whatever they raise is told in the log and in `status`: put no credential in it.
    One that has not returned after 150 seconds is told too, and waited for.

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
        clock: where time comes from.

    Attributes:
        answered: set once it has said anything, or failed.
    """

    def __init__(
        self, source: Source, nudge: Callable[[], None] = lambda: None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._source = source
        self._nudge = nudge
        self._clock = clock
        self._heard = Heard()  # replaced as a whole, by the thread that asks
        self._revision: str | None = None
        self._failures = 0  # in a row
        self._told: type[BaseException] | None = None  # what wait() raised last
        self._asked_at: float | None = None  # since when a call is under way; None: none is
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self.answered = threading.Event()
        tell_after_fork(self)

    def __str__(self) -> str:
        return name_of(self._source)

    def after_fork(self) -> None:
        self._thread = self._asked_at = None
        self._over = threading.Event()
        self.answered = threading.Event()
        if self._heard.answer is not None:
            self.answered.set()

    # ---------------------------------------------------------------------------------------- for who follows it
    @property
    def _silent(self) -> bool:
        """Whether a call takes so long that nobody knows what the centre says now."""
        asked_at = self._asked_at
        return asked_at is not None and self._clock.monotonic() - asked_at > LONGEST_CALL

    def mark(self) -> Mark:
        return Mark((self._heard.number, self._silent), True)

    def read(self) -> Files:
        if self._silent:
            raise DocumentError(f"has not answered for {LONGEST_CALL:g} s", reason="read")
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
        began = self._asked_at = self._clock.monotonic()
        try:
            return self._step(began)
        finally:
            self._asked_at = None

    def _step(self, began: float) -> float:
        # Whatever is raised, SystemExit too: nobody else is there to take it, and the thread has to go on.
        if self._revision is not None and not self._failures:
            try:
                self._source.wait(self._revision, LONGEST_WAIT)
            except BaseException as exc:
                # As a rule the centre restarts, and all processes are told so at once: they must not come back at once.
                if type(exc) is not self._told:
                    self._told = type(exc)
                    write(WARNING, f"config: {self}: wait() raised {_shown(exc)}; it is read instead")
                return self._failed()
            if self._over.is_set():
                return 0.0
            self._asked_at = self._clock.monotonic()
        try:
            content, revision = self._source.read()
            files = _files(content, revision)
        except DocumentError as exc:
            self._hear(exc)
            return self._failed()
        except BaseException as exc:
            self._hear(DocumentError(f"cannot be read: {_shown(exc)}", reason="read"))
            return self._failed()
        self._failures, self._revision = 0, revision
        self._hear(files)
        return max(0.0, LEAST * (0.9 + 0.2 * random.random()) - (self._clock.monotonic() - began))

    def _failed(self) -> float:
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
    """What it is called, for people: as it says itself, else its class. Its `repr` may have a credential."""
    kind = type(source)
    if kind.__str__ is not object.__str__:
        try:
            return str(source)[:_LONGEST]
        except Exception:  # it is somebody else's, and a name for the log is not worth a failure
            return kind.__name__
    return kind.__name__


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


def _shown(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception as other:
        text = f"and its text {type(other).__name__}"
    text = " ".join(text.split())  # one line of the log
    return f"{type(exc).__name__}: {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"


def _same(answer: Files | DocumentError, before: Files | DocumentError | None) -> bool:
    if isinstance(answer, DocumentError):
        return isinstance(before, DocumentError) and str(before) == str(answer)
    return isinstance(before, Files) and before.digest == answer.digest
