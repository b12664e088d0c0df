"""OpenTelemetry's event of a flag evaluation, where it is wanted."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import ConfigError
from ..core.options import Rule
from ..flags.evaluations import EVALUATIONS

_SHARE = Rule(low=0, high=1)


def flag_evaluations(*, sample: float = 0.01) -> Callable[[], None]:
    """Have evaluations of flags told, as events ``feature_flag.evaluation``; returns the function that ends it.

    Args:
        sample: the share, 0 to 1, that is told of results which were told before. Each result of a flag, its variant
            and what decided, is told when it is first met after a document came into force.

    Raises:
        ConfigError: that is no share.

    Their attributes are those of OpenTelemetry's release candidate (``feature_flag.key``,
    ``feature_flag.result.variant``, ``feature_flag.result.reason``, ...); `instrument` makes log records and span
    events of them. Values, and who asked, are not in them. Thread-safe.

    Example:
        >>> stop = flag_evaluations(sample=0.001)
        >>> stop()
    """
    if not _SHARE.allows(sample):
        raise ConfigError(
            f"flag_evaluations: sample={sample!r} must be {_SHARE}; write flag_evaluations(sample=0.01)"
        )
    EVALUATIONS.begin(sample)
    return EVALUATIONS.end
