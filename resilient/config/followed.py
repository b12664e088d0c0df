"""Which documents are followed, as `configure` or the environment says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .push import Source


class Followed(NamedTuple):
    """Which documents are followed; all may be None.

    Attributes:
        directory: where the config document is, or the one file that it is.
        emergency: where the emergency document is, the same.
        bundled: a config document in the image.
        cache: a directory for the last good one.
        source: pushes the config document, in place of a directory.
    """

    directory: Path | None = None
    emergency: Path | None = None
    bundled: Path | None = None
    cache: Path | None = None
    source: Source | None = None

    @property
    def document(self) -> Source | Path | None:
        """Where the config document comes from; None: from nowhere."""
        return next((each for each in (self.source, self.directory, self.bundled) if each is not None), None)

    @property
    def anything(self) -> bool:
        """Whether there is a document to look for."""
        return self.document is not None or self.emergency is not None

    def else_environment(self) -> Followed:
        """With what the environment says, where this says nothing."""
        return self._replace(
            directory=self.directory or (None if self.source else _path("RESILIENT_CONFIG_DIR")),
            emergency=self.emergency or _path("RESILIENT_EMERGENCY_DIR"),
        )


def _path(variable: str) -> Path | None:
    given = os.environ.get(variable)
    return Path(given) if given else None
