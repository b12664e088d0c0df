"""The last good document on a disk of the pod: for a start at which what is followed is gone, or broken.

One file, put there by one rename, with a digest: what is not whole, or not ours, counts as absent. It is written by a
thread of its own, because a disk may hang and the thread that looks for documents must not."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from ..core.forks import tell_after_fork
from .log import INFO, write
from .source import MOST_BYTES, Files, digest_of

NAME = "resilient-last-good.json"
_MOST = 8 * MOST_BYTES  # JSON writes some bytes as six
_BEGUN = (".resilient-", ".tmp")
_ABANDONED = 3600.0  # seconds after which nobody writes at it any more


class Cache:
    """Keeps the last good document in a directory. Thread-safe; raises nothing.

    Args:
        directory: writable, of this service alone; made where it is missing.

    Readable by nobody but the user of the process (0600). What another user could have written is not read: whoever
    writes it steers the service.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / NAME
        self._lock = threading.RLock()
        self._next: Files | None = None  # guarded by _lock
        self._thread: threading.Thread | None = None  # guarded by _lock
        self._told = ""
        tell_after_fork(self)

    def __str__(self) -> str:
        return str(self._file)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._next = self._thread = None

    def read(self) -> Files | None:
        """What was kept; None where there is nothing, or nothing that is whole."""
        try:
            kept = json.loads(self._content())
            content = {name: text.encode() for name, text in kept["files"].items()}
            if not content or digest_of(content) != kept["digest"]:
                raise ValueError("it is not what was written")
            return Files(content, kept["digest"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as exc:
            self._tell(f"{self} is not used: {type(exc).__name__}: {exc}")
            return None

    def _content(self) -> bytes:
        descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is no file")
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ValueError("another user may have written it")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(_MOST)
        finally:
            os.close(descriptor)

    def keep(self, files: Files) -> None:
        """Write it, in a thread that ends when it has; of several that come meanwhile, the last."""
        with self._lock:
            self._next = files
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="resilient-cache", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:
                why = str(exc)
            else:
                self._thread = thread
                return
        self._tell(f"{self} is not written: {why}")

    def _run(self) -> None:
        while True:
            with self._lock:
                files, self._next = self._next, None
                if files is None:
                    self._thread = None
                    return
            try:
                self._write(files)
            except Exception as exc:  # a thread that ended would never write again
                self._tell(f"{self} is not written, and a start without a document will not have it: {exc!r}")

    def _write(self, files: Files) -> None:
        texts = {name: content.decode() for name, content in files.content.items()}
        text = json.dumps({"digest": files.digest, "files": texts}).encode()
        with suppress(OSError, ValueError):
            if self._content() == text:  # by another worker, as a rule: a server may have dozens
                return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        before, after = _BEGUN
        descriptor, made = tempfile.mkstemp(after, before, self._file.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(made, self._file)  # noqa: PTH105 - as the line below, by its plain name
        except BaseException:
            os.unlink(made)  # noqa: PTH108
            raise

    def _sweep(self) -> None:
        """What processes have left that were killed while they wrote: on a volume it would add up."""
        before, after = _BEGUN
        for each in self._file.parent.glob(f"{before}*{after}"):
            with suppress(OSError):  # another process does the same
                if time.time() - each.lstat().st_mtime > _ABANDONED:
                    each.unlink()

    def _tell(self, text: str) -> None:
        """Each thing once, until there is another."""
        if text != self._told:
            self._told = text
            write(INFO, f"config: {text}")
