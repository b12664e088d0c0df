"""What a service does with idempotency keys: the one setting where a wrong default moves money.

A key makes a call repeatable after it may have happened only if the server is known to honour it; sending a
header to a server that ignores it is no safety. So by default a key is sent and the gate stays shut."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..core.errors import PolicyError

_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,128}")  # a token of RFC 9110 5.6.2

METHODS_WITH_KEY = frozenset({"POST", "PATCH"})
"""Methods that are neither safe nor idempotent (RFC 9110 9.2): the ones that a key is made for."""
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be repeated by definition (RFC 9110 9.2.2)."""


@dataclass(frozen=True)
class Profile:
    """How a service takes idempotency keys.

    Attributes:
        sends: whether a key is made and sent on POST and PATCH.
        honours: whether the server is known to execute a key once, so that repeating is safe.
        header: the header's name; others in use are ``PayPal-Request-Id``, ``X-Idempotency-Key``.
        quoted: whether the key is sent as a structured-field string, in quotes, as the IETF draft has it;
            most deployed APIs take it raw.

    Example:
        >>> Profile(sends=True, honours=True, header="PayPal-Request-Id").honours
        True
    """

    sends: bool = True
    honours: bool = False
    header: str = "Idempotency-Key"
    quoted: bool = False

    def __post_init__(self) -> None:
        for name in ("sends", "honours", "quoted"):
            if not isinstance(getattr(self, name), bool):
                raise PolicyError(
                    f"Profile: {name}={getattr(self, name)!r} must be True or False; write {name}=True"
                )
        if not isinstance(self.header, str) or not _HEADER.fullmatch(self.header):
            raise PolicyError(
                f"Profile: header={self.header!r} must be the name of a header; write header='Idempotency-Key'"
            )
        if self.honours and not self.sends:
            raise PolicyError("Profile: honours=True with sends=False makes no sense; write sends=True")

    def on_the_wire(self, key: str, /) -> str:
        """The header's value."""
        return f'"{key}"' if self.quoted else key


PROFILES = {
    "none": Profile(sends=False),
    "unknown": Profile(),
    "supported": Profile(honours=True),
    "required": Profile(honours=True),
}


def profile_of(value: Profile | str, /) -> Profile:
    """A profile by name, or as given.

    Raises:
        PolicyError: there is none of that name.
    """
    if isinstance(value, Profile):
        return value
    if not isinstance(value, str) or value not in PROFILES:
        names = ", ".join(map(repr, PROFILES))
        raise PolicyError(
            f"client: profile={value!r} must be a Profile or one of {names}; write profile='unknown'"
        )
    return PROFILES[value]
