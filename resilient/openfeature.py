"""The document's features for OpenFeature: whoever asks by its API gets what `features` gives.

Example:
    >>> from openfeature import api
    >>> from resilient.openfeature import Provider
    >>> api.set_provider(Provider())
    >>> api.get_client().get_boolean_value("search-suggestions", True)
    True
    >>> api.shutdown()
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

try:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.event import ProviderEventDetails
    from openfeature.exception import ErrorCode, ProviderNotReadyError
    from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
    from openfeature.provider import AbstractProvider, Metadata
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        "resilient.openfeature needs openfeature-sdk: pip install 'resilient-client[flags]'", name=exc.name
    ) from exc

from .config.center import CENTER
from .config.features import features
from .config.push import name_of
from .core.errors import ConfigError
from .core.forks import tell_after_fork
from .core.options import Rule
from .flags.evaluation import TARGETING_KEY
from .flags.following import FOLLOWING
from .flags.state import STATE, in_force

__all__ = ["Provider"]

T = TypeVar("T")
Structure = Sequence[FlagValueType] | Mapping[str, FlagValueType]

_TIMEOUT = Rule(low=0, high=86_400, unit="seconds")
_WHY = {
    "FLAG_NOT_FOUND": "no document has this flag",
    "PROVIDER_NOT_READY": "no document is in force yet",
    "GENERAL": "its targeting failed; see the log",
}
_KINDS: dict[type, tuple[type, ...]] = {float: (int, float), dict: (dict, list)}


class Provider(AbstractProvider):
    """Serves the features of the config document to the OpenFeature SDK.

    Args:
        timeout: seconds, from 0, that `set_provider_and_wait` waits for the first document; then the provider is in
            error until one is there. The document is followed either way.

    Raises:
        ConfigError: that is no time.

    Evaluations never wait and never raise: sync and async ones are the same. They see what `features.context` says of
    the caller, under what the SDK's own contexts say. Events come in the order in which documents do:
    ``PROVIDER_READY``, ``PROVIDER_CONFIGURATION_CHANGED`` with the flags whose value changed, or is by caller and
    defined otherwise, ``PROVIDER_STALE`` while a document is refused, ``PROVIDER_ERROR`` where there is none; the SDK
    runs handlers in threads of its own, at the same time. Tracking does nothing. Thread-safe.

    Example:
        >>> from openfeature import api
        >>> from resilient.testing import feature_flags
        >>> switch = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
        >>> with feature_flags({"flags": {"search": switch}}):
        ...     api.set_provider_and_wait(Provider())
        ...     api.get_client().get_boolean_details("search", False).variant
        'on'
        >>> api.shutdown()
    """

    def __init__(self, *, timeout: float = 10.0) -> None:
        super().__init__()
        if not _TIMEOUT.allows(timeout):
            raise ConfigError(
                f"Provider: timeout={timeout!r} must be {_TIMEOUT}; write Provider(timeout=10.0)"
            )
        self._timeout = timeout
        self._lock = threading.RLock()
        self._state = ""  # guarded by _lock; empty: the SDK initializes, and says itself what comes of it
        self._problem = ""  # guarded by _lock
        self._heard = threading.Event()
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def get_metadata(self) -> Metadata:
        return Metadata("resilient")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Follow the document, and wait for the first.

        Raises:
            ProviderNotReadyError: there is none in time, or it is refused.
        """
        with self._lock:
            self._state = self._problem = ""
            self._heard.clear()
        FOLLOWING.add(self)
        in_force()  # the first read starts the looking
        if not STATE.ready and CENTER.followed.document is not None:
            self._heard.wait(self._timeout)
        with self._lock:
            self._state = "ready" if STATE.ready else "error"
            problem = self._problem
        if not STATE.ready:
            raise ProviderNotReadyError(problem or self._nothing())

    def _nothing(self) -> str:
        document = CENTER.followed.document
        if document is None:
            return "there is no document: set RESILIENT_CONFIG_DIR, or write configure(directory='/etc/resilient')"
        return f"no document was read from {name_of(document)} within {self._timeout:g} s"

    def shutdown(self) -> None:
        """Follow no more. The document stays in force for everybody else."""
        FOLLOWING.remove(self)
        self._heard.set()

    # ------------------------------------------------------------------------------------------ what is told to us
    def published(self, changed: Sequence[str], /) -> None:
        # While something is refused, an emergency or a stand-in may be published: that is still stale.
        if self._becomes("ready", unless="stale"):
            self.emit_provider_ready(ProviderEventDetails())
        self._heard.set()
        if changed and self._told:
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=[*changed]))

    def withdrawn(self, changed: Sequence[str], /) -> None:
        if self._becomes("error"):
            self.emit_provider_error(
                ProviderEventDetails(
                    flags_changed=[*changed], message=self._nothing(), error_code=ErrorCode.PROVIDER_NOT_READY
                )
            )

    def refused(self, problem: str, /) -> None:
        with self._lock:
            self._problem = problem
        if STATE.ready and self._becomes("stale", again=True):
            self.emit_provider_stale(ProviderEventDetails(message=problem))
        self._heard.set()

    def recovered(self) -> None:
        if STATE.ready and self._becomes("ready"):
            self.emit_provider_ready(ProviderEventDetails())

    @property
    def _told(self) -> bool:
        with self._lock:
            return self._state != ""

    def _becomes(self, state: str, *, again: bool = False, unless: str = "") -> bool:
        """Whether that is to be said."""
        with self._lock:
            if self._state in ("", unless) or (self._state == state and not again):
                return False
            self._state = state
            return True

    # -------------------------------------------------------------------------------------------------- evaluation
    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return _resolve(flag_key, default_value, evaluation_context, bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return _resolve(flag_key, default_value, evaluation_context, str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return _resolve(flag_key, default_value, evaluation_context, int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        found = _resolve(flag_key, default_value, evaluation_context, float)
        found.value = float(found.value)
        return found

    def resolve_object_details(
        self, flag_key: str, default_value: Structure, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[Structure]:
        return _resolve(flag_key, default_value, evaluation_context, dict)


def _resolve(key: str, default: T, who: EvaluationContext | None, kind: type) -> FlagResolutionDetails[T]:
    found = features.details(key, context=None if who is None else _attributes(who))
    if found.error is not None:
        return FlagResolutionDetails(
            default, ErrorCode(found.error), _WHY[found.error], Reason.ERROR, flag_metadata=found.metadata
        )
    if found.variant is None:
        return FlagResolutionDetails(default, reason=Reason(found.reason), flag_metadata=found.metadata)
    value: Any = found.value
    if not isinstance(value, _KINDS.get(kind, kind)) or (isinstance(value, bool) and kind is not bool):
        return FlagResolutionDetails(
            default,
            ErrorCode.TYPE_MISMATCH,
            f"variant {found.variant!r} is a {type(value).__name__}, and a {kind.__name__} was asked for",
            Reason.ERROR,
            flag_metadata=found.metadata,
        )
    return FlagResolutionDetails(found.value, None, None, Reason(found.reason), found.variant, found.metadata)


def _attributes(who: EvaluationContext) -> Mapping[str, Any]:
    if who.targeting_key is None:
        return who.attributes
    return {**who.attributes, TARGETING_KEY: who.targeting_key}
