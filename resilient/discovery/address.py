"""Where one endpoint listens."""

from __future__ import annotations

from typing import NamedTuple

from ..core.errors import PolicyError


class Address(NamedTuple):
    """An IP address or a host name, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, /, *, field: str = "endpoints") -> Address:
    """An address from ``host:port``; an IPv6 address in brackets.

    Raises:
        PolicyError: it is none.
    """
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host == f"[{bare}]"
    if not colon or not bare or (":" in bare) != bracketed or not port.isascii() or not port.isdigit():
        raise PolicyError(f"{field}: {text!r} is not host:port; write '10.0.0.7:8080' or '[fd00::7]:8080'")
    if not 0 < int(port) < 65_536:
        raise PolicyError(f"{field}: {text!r} has port {port}; a port is 1 to 65535")
    return Address(bare, int(port))
