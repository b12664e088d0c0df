"""Which versions of HTTP a client may speak."""

from __future__ import annotations

from ..core.errors import PolicyError


def check_protocols(http1: bool, http2: bool, *, asynchronous: bool) -> None:
    """Refuse what cannot be spoken.

    Raises:
        PolicyError: no version is left, or HTTP/2 in sync code.
        ImportError: the package that speaks HTTP/2 is missing.
    """
    if not http2:
        if not http1:
            raise PolicyError(
                "client: http1=False leaves no protocol; leave it out, or write "
                "async_client(..., http2=True, http1=False)"
            )
        return
    if not asynchronous:
        raise PolicyError(
            "client: http2=True is for async clients: a blocking read that ends at a deadline would end the requests "
            "beside it too; write async_client(..., http2=True), or leave it out"
        )
    try:
        import h2  # noqa: F401  (the core imports it when it connects)
    except ImportError as exc:
        raise ImportError(
            "client: http2=True needs the package h2; write: pip install 'resilient-client[http2]'"
        ) from exc
