"""A certificate for an origin, made on the spot."""

from __future__ import annotations

import ssl


def make_contexts(*names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS context for ``names``, and a client's that trusts it and nothing else.

    Args:
        names: host names or addresses.

    Raises:
        RuntimeError: where trustme is not installed.
    """
    try:
        import trustme
    except ImportError as exc:
        raise RuntimeError(
            "Origin(tls=True) makes its certificate with trustme: pip install trustme"
        ) from exc
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client
