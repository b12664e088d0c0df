"""Where the config document comes from: a directory or one file of it, mounted from a ConfigMap or plain.

The kubelet writes each generation into a directory of its own, and renames the link ``..data`` over the old one. So all
files are read through one descriptor of the directory behind that link: nothing else gives files of one generation.
Change is seen by what ``..data`` points to, never by times: a node's clock may go back."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple, Protocol

from ..core.errors import ConfigError, DocumentError
from .mounts import by_subpath

SUFFIXES = (".json", ".yaml", ".yml")
MOST_BYTES = 4 * 1024 * 1024
"""Of all files together; a ConfigMap holds 1 MiB."""

MOST_FILES = 100
_TRIES = 10
"""Reads in a row that may meet a swap; then it is the next look's turn."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)  # opening a pipe must not wait for its writer


class Missing(ConfigError):
    """There is no document: no directory, or no file in it."""


class Changing(ConfigError):
    """The directory changes faster than it can be read; look again later."""


class Files(NamedTuple):
    """All documents of one generation.

    Attributes:
        content: by the file's name, in its order.
        digest: of names and content: two that are equal say the same.
    """

    content: dict[str, bytes]
    digest: str


class Mark(NamedTuple):
    """What differs when the content may have changed.

    Attributes:
        value: None where nothing is there.
        atomic: whether all that it stands for was put there in one step, as the kubelet does.
    """

    value: object
    atomic: bool


class Origin(Protocol):
    """Where documents come from, to who follows them. Its text is its name, for people."""

    def mark(self) -> Mark:
        """To look whether there is something new; a fraction of what reading costs."""
        ...

    def read(self) -> Files:
        """The documents of one generation.

        Raises:
            ConfigError: there is none, or it cannot be read; `Changing`: not now.
        """
        ...


class Directory:
    """A directory with documents: files that end in ``.json``, ``.yaml`` or ``.yml``.

    Args:
        path: need not be there yet.
        only: the name of the one file that counts; None: all do.
    """

    def __init__(self, path: Path, only: str | None = None) -> None:
        self.path = path
        self._only = only

    def __str__(self) -> str:
        return str(self.path if self._only is None else self.path / self._only)

    def stuck(self, files: Files, /) -> bool:
        """Whether it was mounted so that what was read can never change (`mounts.by_subpath`)."""
        paths = [self.path, *(self.path / name for name in files.content)]
        return not self.mark().atomic and by_subpath([os.path.realpath(each) for each in paths])

    def _counts(self, name: str) -> bool:
        return name.endswith(SUFFIXES) and self._only in (None, name)

    def mark(self) -> Mark:
        try:
            return Mark(os.readlink(self.path / "..data"), True)  # noqa: PTH115 - a Path costs more than the call
        except OSError:
            return Mark(self._stats(), False)

    def _stats(self) -> object:
        try:
            with os.scandir(self.path) as entries:
                stats = [
                    (each.name, each.stat(follow_symlinks=False))
                    for each in entries
                    if self._counts(each.name)
                ]
        except OSError:
            return None
        return tuple(
            sorted((n, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in stats)
        )

    def read(self) -> Files:
        """The documents of one generation.

        Raises:
            Missing: there is none.
            Changing: it was swapped again and again meanwhile.
            DocumentError: too much, or a file that is none.
        """
        for _ in range(_TRIES):
            mark = self.mark()
            try:
                content = self._read()
            except FileNotFoundError:
                if self.mark() == mark:
                    raise Missing(f"there is no directory {self.path}") from None
                continue
            except NotADirectoryError:
                instead = f"one that ends in {', '.join(SUFFIXES)}, or the one that the file is in"
                raise Missing(f"{self.path} is no directory; name {instead}") from None
            except OSError as exc:
                raise DocumentError(f"{self.path} cannot be read: {exc}", reason="read") from exc
            # The kubelet removes the old directory after the swap: while the mark stands, nothing was missing.
            if self.mark() == mark:
                if not content:
                    wanted = self._only or f"*{', *'.join(SUFFIXES)}"
                    raise Missing(f"there is no file {wanted} in {self.path}")
                return Files(content, digest_of(content))
        raise Changing(f"{self.path} changes faster than it can be read")

    def _read(self) -> dict[str, bytes]:
        base = os.open(self.path, _FOLDER)
        try:
            try:
                generation = os.readlink("..data", dir_fd=base)
            except OSError as exc:
                if exc.errno not in (errno.ENOENT, errno.EINVAL):
                    raise
                return self._files(base)  # plain: no such link; or it is none, as in a copy of a mount
            if "/" in generation or generation in (".", ".."):
                raise DocumentError(
                    f"..data points out of {self.path}, to {generation}; the kubelet's never does",
                    reason="read",
                )
            folder = os.open(generation, _FOLDER | os.O_NOFOLLOW, dir_fd=base)
            try:
                return self._files(folder)
            finally:
                os.close(folder)
        finally:
            os.close(base)

    def _files(self, folder: int) -> dict[str, bytes]:
        names = sorted(name for name in os.listdir(folder) if self._counts(name) and not name.startswith("."))
        if len(names) > MOST_FILES:
            raise DocumentError(f"{len(names)} files; at most {MOST_FILES}", reason="size")
        content, left = dict[str, bytes](), MOST_BYTES
        for name in names:
            if not name.isprintable():
                shown = name.encode("ascii", "backslashreplace").decode()
                raise DocumentError("a file name that is no text; rename it", file=shown, reason="encoding")
            content[name] = _file(folder, name, left)
            left -= len(content[name])
        return content


class Nowhere:
    """Where there is no document, and none will come."""

    def __str__(self) -> str:
        return "no config document"

    def mark(self) -> Mark:
        return Mark(None, True)

    def read(self) -> Files:
        raise Changing("there is nothing to read")


def named(path: Path, /) -> Directory:
    """What a path stands for: a directory, or one file, which is looked for in its directory."""
    return Directory(path.parent, path.name) if path.suffix in SUFFIXES else Directory(path)


def _file(folder: int, name: str, most: int) -> bytes:
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as exc:
        if exc.errno != errno.ELOOP:
            raise
        raise DocumentError(
            "is a link, and links may lead anywhere; put the file itself here", file=name, reason="read"
        ) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DocumentError("is no ordinary file", file=name, reason="read")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DocumentError(f"more than {MOST_BYTES:,} bytes in all files together", file=name, reason="size")
    return content


def digest_of(content: dict[str, bytes], /) -> str:
    """Of names and content; the order of the names counts."""
    digest = hashlib.sha256()
    for name, value in content.items():
        digest.update(f"{len(name)}:{name}:{len(value)}:".encode())
        digest.update(value)
    return digest.hexdigest()
