"""A ConfigMap as the kubelet mounts it: written into a new directory, and swapped in by one rename."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..core.errors import PolicyError

ORDERS = ("new", "old")


class KubeletVolume:
    """A directory that is written as the kubelet writes a volume of a ConfigMap.

    Args:
        directory: the mount; made where it is missing.
        order: when the links that users see are made: ``"new"``, after the swap, as recent kubelets do;
            ``"old"``, before it.

    Raises:
        PolicyError: an order that no kubelet has; a key that no ConfigMap may have.

    Each key is a link to ``..data/<key>``, and ``..data`` a link to the directory of one generation; a write makes a
    new directory and renames a new ``..data`` over the old one. A write of the same content touches nothing. One
    writer at a time.

    Source: ``pkg/volume/util/atomic_writer.go`` of Kubernetes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as mount:
        ...     volume = KubeletVolume(mount)
        ...     volume.write({"resilience.json": "{}"})
        ...     Path(mount, "resilience.json").read_text()
        '{}'
    """

    def __init__(self, directory: str | Path, *, order: Literal["new", "old"] = "new") -> None:
        if order not in ORDERS:
            raise PolicyError(f"KubeletVolume: order={order!r} must be 'new' or 'old'; write order='old'")
        self.directory = Path(directory)
        self.order = order

    def write(self, payload: Mapping[str, str | bytes], /) -> None:
        """Make ``payload`` the content, by key. ``{}`` is what an optional ConfigMap leaves when it is deleted."""
        for _ in self.steps(payload):
            pass

    def steps(self, payload: Mapping[str, str | bytes], /) -> Iterator[str]:
        """As `write`, one step at a time: yields the name of each step that was made.

        They are ``directory``, ``file`` for each key, ``links``, ``swap``, ``stale links``, ``removal``.
        """
        for key in payload:
            if not key or key.startswith("..") or "/" in key:
                raise PolicyError(
                    f"KubeletVolume: {key!r} is no key of a ConfigMap; write one without '/' and not with '..' first"
                )
        content = {k: v.encode() if isinstance(v, str) else v for k, v in payload.items()}
        self.directory.mkdir(parents=True, exist_ok=True)
        data = self.directory / "..data"
        old = self.directory / data.readlink() if data.is_symlink() else None
        if old is not None and {each.name: each.read_bytes() for each in old.iterdir()} == content:
            return
        stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S")
        new = self.directory / f"{stamp}.{random.randrange(10**9)}"
        new.mkdir(mode=0o755)
        yield "directory"
        for key, value in content.items():
            (new / key).write_bytes(value)
            yield "file"
        if self.order == "old":
            self._link(content)
            yield "links"
        self._swap(new)
        yield "swap"
        if self.order == "new":
            self._link(content)
            yield "links"
        for each in self.directory.iterdir():
            if each.is_symlink() and not each.name.startswith("..") and each.name not in content:
                each.unlink()
        yield "stale links"
        if old is not None:
            shutil.rmtree(old)
            yield "removal"

    def _link(self, keys: Mapping[str, bytes]) -> None:
        for key in keys:
            link = self.directory / key
            if not link.is_symlink():
                link.symlink_to(f"..data/{key}")

    def _swap(self, new: Path) -> None:
        fresh = self.directory / "..data_tmp"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(new.name)
        os.rename(fresh, self.directory / "..data")  # noqa: PTH104 - the call that kubelet makes
