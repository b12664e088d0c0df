"""The last good document on a disk of the pod: for a start at which what is followed is gone, or broken.

One file, put there by one rename, with a digest: what is not whole, or not ours, counts as absent. It is written by a
thread of its own, because a disk may hang and the thread that looks for documents must not."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from pathlib import Path

from ..core.forks import tell_after_fork
from .log import INFO, write
from .source import MOST_BYTES, Files, digest_of

NAME = "resilient-last-good.json"
_MOST = 8 * MOST_BYTES  # JSON writes some bytes as six


class Cache:
    """Keeps the last good document in a directory. Thread-safe; raises nothing.

    Args:
        directory: writable, of this service alone; made where it is missing.

    Readable by nobody but the user of the process (0600).
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
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                kept = json.loads(file.read(_MOST))
            content = {name: text.encode() for name, text in kept["files"].items()}
            if not content or digest_of(content) != kept["digest"]:
                raise ValueError("it is not what was written")
            return Files(content, kept["digest"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as exc:
            self._tell(f"{self} is not used: {type(exc).__name__}: {exc}")
            return None

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
            except OSError as exc:
                self._tell(f"{self} is not written, and a start without a document will not have it: {exc}")

    def _write(self, files: Files) -> None:
        texts = {name: content.decode() for name, content in files.content.items()}
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(".tmp", ".resilient-", self._file.parent)  # 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"digest": files.digest, "files": texts}, file)
                file.flush()
                os.fsync(descriptor)
            os.replace(made, self._file)  # noqa: PTH105 - as the line below, by its plain name
        except BaseException:
            os.unlink(made)  # noqa: PTH108
            raise

    def _tell(self, text: str) -> None:
        """Each thing once, until there is another."""
        if text != self._told:
            self._told = text
            write(INFO, f"config: {text}")
