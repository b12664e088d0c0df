"""Settings of the process: what `configure` was told, else the environment, else what can be found out."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ..core.errors import ConfigError
from ..core.forks import tell_after_fork
from ..discovery.options import Dns, detect
from .center import CENTER


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


def configure(directory: str | os.PathLike[str] | None = None, *, dns: Dns | None = None) -> None:
    """Say what the library cannot find out by itself. Starts nothing; call it once, before the first request.

    Args:
        directory: with the config document, mounted from a ConfigMap; or one file of it, by a name that ends in
            ``.json``, ``.yaml`` or ``.yml``. It is followed from the first call of a pipeline on, and may come later.
            None: ``RESILIENT_CONFIG_DIR``, else no document.
        dns: whom to ask for names of the cluster's. None: ``RESILIENT_DNS_NAMESERVERS``, ``RESILIENT_DNS_ZONE`` and
            ``RESILIENT_DNS_NAMESPACE``, else what a pod knows of its cluster.

    Raises:
        ConfigError: something of the wrong kind.

    Clients look at ``dns`` with their first request, and keep to that. Whatever is wrong with the document, the last
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
    path = os.fspath(directory) if isinstance(directory, os.PathLike) else directory
    if path is not None and (not isinstance(path, str) or not path or "\0" in path):
        raise ConfigError(
            f"configure: directory={directory!r} must be a path; write configure(directory='/etc/resilient')"
        )
    SETTINGS.set_dns(dns)
    # As it is meant now: a process may change its working directory.
    CENTER.use(None if path is None else Path(path).absolute())
