"""Which methods may be repeated after they may have happened."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from typing import Any

from ..core.errors import PolicyError

Idempotent = Collection[str] | Callable[[str], bool]

_METHOD = re.compile(r"/[^/\s]+/[^/\s]+")
_NO_SIDE_EFFECTS, _IDEMPOTENT = 1, 2  # of google.protobuf.MethodOptions.IdempotencyLevel


def reader_of(idempotent: Any, /) -> Callable[[str], bool]:
    """Tells of a method, by its full name, whether it may be repeated: by the caller's word or by that of its proto.

    Raises:
        PolicyError: that is neither names of methods nor a function.
    """
    if callable(idempotent):
        return lambda method: bool(idempotent(method)) or _says_proto(method)
    if isinstance(idempotent, str) or not isinstance(idempotent, Collection):
        raise PolicyError(
            f"interceptor: idempotent={idempotent!r} must be the full names of methods, or a function of such a name; "
            "write idempotent={'/shop.Catalog/Get'}"
        )
    for method in idempotent:
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise PolicyError(
                f"interceptor: idempotent= has {method!r}, which is no full name of a method; write "
                "'/package.Service/Method'"
            )
    names = frozenset(idempotent)
    return lambda method: method in names or _says_proto(method)


def _says_proto(method: str) -> bool:
    """``option idempotency_level`` of a method whose generated code is loaded."""
    pool: Any = sys.modules.get("google.protobuf.descriptor_pool")
    if pool is None:
        return False
    try:
        found = pool.Default().FindMethodByName(method[1:].replace("/", "."))
    except KeyError:
        return False
    return found.GetOptions().idempotency_level in (_NO_SIDE_EFFECTS, _IDEMPOTENT)
