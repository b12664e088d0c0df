"""Where a dependency's addresses come from: the seam between discovery and balancing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.errors import NoEndpoints
from .address import Address


class Listener(Protocol):
    """Who is told of new addresses; held weakly."""

    def changed(self) -> None:
        """The addresses are others now. Called from any thread, outside all locks."""
        ...


class Source(Protocol):
    """What a set of endpoints takes its addresses from. Safe to use from many threads."""

    addresses: tuple[Address, ...]
    """The addresses now; replaced as a whole."""
    asleep: bool
    """Whether nobody keeps the addresses up to date: `start` is to be called."""
    answered: bool
    """Whether anything is known yet."""

    def start(self) -> None:
        """Keep the addresses up to date from now on; again it does nothing."""
        ...

    def listen(self, listener: Listener, /) -> None:
        """Tell ``listener`` of new addresses, for as long as it is alive."""
        ...

    def leave(self, listener: Listener, /) -> None:
        """Do not tell it any more; without anybody to tell, the addresses are not kept up to date."""
        ...

    def arm(self, wake: Callable[[], None], /) -> bool:
        """Call ``wake``, from any thread, when anything is known; False where it is."""
        ...

    def connect_failed(self, address: Address, /) -> None:
        """A connection could not be made."""
        ...

    def hurry(self) -> None:
        """There is a reason to look again soon."""
        ...

    def nothing(self) -> NoEndpoints:
        """The error for a call that found no address."""
        ...


class Static:
    """A fixed list.

    Example:
        >>> from resilient.discovery.address import Address
        >>> Static([Address("10.0.0.7", 8080)]).addresses
        (Address(host='10.0.0.7', port=8080),)
    """

    asleep = False
    answered = True

    def __init__(self, addresses: list[Address] | tuple[Address, ...]) -> None:
        self.addresses = tuple(dict.fromkeys(addresses))

    def start(self) -> None:
        """Nothing has to be kept up to date."""

    def listen(self, listener: Listener, /) -> None:
        """Nothing ever changes."""

    def leave(self, listener: Listener, /) -> None:
        """Nothing ever changes."""

    def arm(self, wake: Callable[[], None], /) -> bool:
        return False

    def connect_failed(self, address: Address, /) -> None:
        """The list stays as it is."""

    def hurry(self) -> None:
        """There is nothing to look at."""

    def nothing(self) -> NoEndpoints:
        return NoEndpoints("the list of endpoints is empty", reason="empty")
