"""What each recipe ends with: a list of promises, and whether they were kept."""

from __future__ import annotations


class Promises:
    """Promises as they are kept or broken, printed line by line.

    Example:
        >>> promises = Promises("a recipe")
        a recipe
        >>> promises.check("one charge for each order", 1 == 1, "1 charge for 1 order")
          kept    one charge for each order: 1 charge for 1 order
        >>> promises.status
        0
    """

    def __init__(self, title: str) -> None:
        self.broken: list[str] = []
        print(title)

    def check(self, promise: str, kept: bool, seen: str) -> None:
        """Print whether a promise was kept, and what was seen."""
        if not kept:
            self.broken.append(promise)
        print(f"  {'kept  ' if kept else 'BROKEN'}  {promise}: {seen}")

    @property
    def status(self) -> int:
        """What the program is to exit with."""
        return 1 if self.broken else 0
