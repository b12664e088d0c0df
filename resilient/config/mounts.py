"""Mounts that can never change.

What is mounted by ``subPath`` is one generation of a ConfigMap, bound once when the container starts: the kubelet
writes later ones beside it, where nobody looks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of ``mountinfo``.

    Attributes:
        root: what of its file system is mounted.
        point: where.
    """

    root: str
    point: str


def by_subpath(paths: Collection[str], /) -> bool:
    """Whether one of these is a file that is mounted alone, or a directory of one generation.

    Args:
        paths: absolute, without links.

    Where no such table is, nothing is known: False.
    """
    try:
        table = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return False
    return any(mount.point in paths and _never_changes(mount) for mount in read_mounts(table))


def read_mounts(table: str, /) -> Iterator[Mount]:
    """What is mounted, from the text of ``/proc/self/mountinfo``; see `man 5 proc_pid_mountinfo`."""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            yield Mount(*(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), each) for each in fields[3:5]))


def _never_changes(mount: Mount) -> bool:
    # The directory of a generation begins with two dots. A directory that is mounted whole may well change: a disk.
    return Path(mount.point).is_file() or any(each.startswith("..") for each in mount.root.split("/"))
