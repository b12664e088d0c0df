"""A rule, asked by flagd's own evaluator, so that a caller gets here what he gets in every other language.

Imported where a document has ``targeting``: it needs the extra ``flags``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openfeature.contrib.tools.flagd.core.targeting import targeting
from openfeature.evaluation_context import EvaluationContext

from .rules import variant_named
from .state import STATE

TARGETING_KEY = "targetingKey"


@dataclass(frozen=True, slots=True)
class FlagdRule:
    """The rule of one flag.

    Args:
        key: the flag.
        logic: of JSONLogic, as it was checked, with what it refers to in its place.
    """

    key: str
    logic: dict[str, Any]

    def variant(self, attributes: Mapping[str, Any], level: int, /, *, tried: bool = False) -> str | None:
        """The variant that a caller gets; None: the rule leaves that to what follows it.

        Args:
            attributes: what is known of him; ``targetingKey`` is who he is.
            level: the one in force, ``degradation.level`` in the rule.
            tried: nobody asked; what the evaluator has to say of it is of no interest.

        Raises:
            Exception: whatever the evaluator does.
        """
        context = EvaluationContext(
            attributes.get(TARGETING_KEY), {**attributes, "degradation": {"level": level}}
        )
        before = _ASKED.key  # a handler of the log may ask for a feature
        _ASKED.key = "" if tried else self.key
        try:
            return variant_named(targeting(self.key, self.logic, context))
        finally:
            _ASKED.key = before


class _Asked(threading.local):
    """The flag that this thread asks for; None: it asks for none; empty: only to try it."""

    key: str | None = None


_ASKED = _Asked()


class _Once(logging.Filter):
    """What the evaluator says of a flag goes into the log once for each document. It says it at each read, with a
    traceback where a version is missing, and a feature may be read a thousand times a second."""

    def filter(self, record: logging.LogRecord) -> bool:
        key = _ASKED.key
        if key is None:  # it is somebody else's
            return True
        if key and record.levelno >= logging.WARNING:
            # A text is the evaluator's own; what was raised has in it what the caller brought along.
            said = record.msg
            if not isinstance(said, str):
                said = f"{type(said).__name__} in {record.funcName}"
            STATE.complain(f"{key}: targeting", "feature %r: its targeting says: %s", key, said)
        return False


logging.getLogger("openfeature.contrib").addFilter(_Once())
