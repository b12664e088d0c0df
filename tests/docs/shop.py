"""The gRPC server of the samples: it echoes, and fails as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True)
class Call:
    """One that came: its method, its metadata, and the seconds that its caller gave it."""

    method: str
    metadata: dict[str, Any]
    timeout: float | None


class Shop(grpc.GenericRpcHandler):  # type: ignore[misc]  # the stubs know it as untyped
    """Methods named ``Watch`` answer with three messages, ``Import`` takes many; all others take one and echo it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._script: list[tuple[grpc.StatusCode, dict[str, str]]] = []

    def script(self, *statuses: grpc.StatusCode, trailing: dict[str, str] | None = None) -> None:
        """What becomes of the next calls; with this metadata at their end."""
        self._script += [(status, trailing or {}) for status in statuses]

    def _begin(self, method: str, context: Any) -> None:
        self.calls.append(Call(method, dict(context.invocation_metadata()), context.time_remaining()))
        if self._script:
            status, trailing = self._script.pop(0)
            context.set_trailing_metadata(tuple(trailing.items()))
            context.abort(status, "as told")

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        def echo(request: bytes, context: Any) -> bytes:
            self._begin(method, context)
            return request

        def watch(request: bytes, context: Any) -> Iterator[bytes]:
            self._begin(method, context)
            yield from (b"ordered", b"packed", b"sent")

        def join(requests: Iterator[bytes], context: Any) -> bytes:
            rows = b"".join(requests)
            self._begin(method, context)
            return rows

        if method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(watch)
        if method.endswith("/Import"):
            return grpc.stream_unary_rpc_method_handler(join)
        return grpc.unary_unary_rpc_method_handler(echo)


@contextmanager
def running() -> Iterator[tuple[Shop, str]]:
    """A shop, and where it is."""
    shop, server = Shop(), grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((shop,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield shop, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
