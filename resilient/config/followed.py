"""Which documents are followed, as `configure` or the environment says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Followed(NamedTuple):
    """Which documents are followed; all may be None.

    Attributes:
        directory: where the config document is, or the one file that it is.
        emergency: where the emergency document is, the same.
        bundled: a config document in the image.
        cache: a directory for the last good one.
    """

    directory: Path | None = None
    emergency: Path | None = None
    bundled: Path | None = None
    cache: Path | None = None

    @property
    def anything(self) -> bool:
        """Whether there is a document to look for."""
        return not (self.directory is self.emergency is self.bundled is None)

    def else_environment(self) -> Followed:
        """With what the environment says, where this says nothing."""
        return self._replace(
            directory=self.directory or _path("RESILIENT_CONFIG_DIR"),
            emergency=self.emergency or _path("RESILIENT_EMERGENCY_DIR"),
        )


def _path(variable: str) -> Path | None:
    given = os.environ.get(variable)
    return Path(given) if given else None
