"""Settings of the process: what `configure` was told, else the environment, else what can be found out."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ConfigError
from ..core.forks import tell_after_fork
from ..discovery.options import Dns, detect
from .center import CENTER
from .followed import Followed

if TYPE_CHECKING:
    from .push import Source

_STARTUP = 10.0
"""Seconds that a start may take which requires a document."""


class Settings:
    """What holds in this process. Thread-safe; nothing is looked at before it is asked for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._dns: Dns | None = None  # guarded by _lock
        self._looked = False  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    @property
    def dns(self) -> Dns | None:
        """Whom to ask for names of the cluster's; None outside of one."""
        with self._lock:
            if not self._looked:
                self._dns = detect()
                self._looked = True  # only now: what is wrong in the environment is said each time
            return self._dns

    def set_dns(self, dns: Dns | None) -> None:
        """Use ``dns`` from now on; None: look again."""
        with self._lock:
            self._dns, self._looked = dns, dns is not None


SETTINGS = Settings()


def configure(
    directory: str | os.PathLike[str] | None = None,
    *,
    source: Source | None = None,
    emergency: str | os.PathLike[str] | None = None,
    bundled: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    required: bool = False,
    dns: Dns | None = None,
) -> None:
    """Say what the library cannot find out by itself. Starts nothing; call it once, before the first request.

    Args:
        directory: with the config document, mounted from a ConfigMap; or one file of it, by a name that ends in
            ``.json``, ``.yaml`` or ``.yml``. It is followed from the first call of a pipeline on, and may come later.
            None: ``RESILIENT_CONFIG_DIR``, else no document.
        source: pushes the config document, in place of a directory.
        emergency: with the emergency document, whose few values stand above the config document's. None:
            ``RESILIENT_EMERGENCY_DIR``, else none.
        bundled: a config document that comes with the service, in force until a better one is good.
        cache: a directory of this service on a writable disk, where the last good config document is kept: it is in
            force at a start where what is followed is gone or broken.
        required: whether the service must not run without a document: then it is read now, which takes up to ten
            seconds and blocks the calling thread, and where none is good, nor one that stands in, that is raised.
        dns: whom to ask for names of the cluster's. None: ``RESILIENT_DNS_NAMESERVERS``, ``RESILIENT_DNS_ZONE`` and
            ``RESILIENT_DNS_NAMESPACE``, else what a pod knows of its cluster.

    Raises:
        ConfigError: something of the wrong kind; with ``required``, no document.

    Clients look at ``dns`` with their first request, and keep to that. Whatever is wrong with a document, the last
    good one stays in force, and no call sees it. Thread-safe.

    Example:
        >>> from resilient import Dns, configure
        >>> configure(dns=Dns(nameservers=["127.0.0.1:5353"], namespace="shop"))
        >>> configure()
    """
    if dns is not None and not isinstance(dns, Dns):
        raise ConfigError(
            f"configure: dns={dns!r} must be a Dns; write configure(dns=Dns(nameservers=['10.96.0.10']))"
        )
    if not isinstance(required, bool):
        raise ConfigError(f"configure: required={required!r} must be True or False; write required=True")
    if source is not None and not all(callable(getattr(source, each, None)) for each in ("read", "wait")):
        raise ConfigError(
            f"configure: the source {_class(source)} must have read() and wait(revision, timeout), "
            "as resilient.config.Source"
        )
    if source is not None and directory is not None:
        raise ConfigError(f"configure: directory={directory!r} and source={_class(source)}; name one of them")
    followed = Followed(
        _path("directory", directory, "/etc/resilient"),
        _path("emergency", emergency, "/etc/resilient-emergency"),
        _path("bundled", bundled, "/app/resilience.json"),
        _path("cache", cache, "/var/cache/resilient"),
        source,
    )
    SETTINGS.set_dns(dns)
    CENTER.use(followed)
    if required:
        CENTER.require(_STARTUP)


def _class(source: object) -> str:
    """All that is said of it: its `repr` may have a credential."""
    return source.__qualname__ if isinstance(source, type) else type(source).__qualname__


def _path(field: str, given: str | os.PathLike[str] | None, example: str) -> Path | None:
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if path is None:
        return None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(
            f"configure: {field}={given!r} must be a path; write configure({field}={example!r})"
        )
    # As it is meant now: a process may change its working directory.
    return Path(path).absolute()
