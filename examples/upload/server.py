"""What stands in for the store: the part of tus 1.0 that an upload needs, in memory."""

from __future__ import annotations

import itertools
import threading

from resilient.testing import Behaviour, Exchange, Request, answer
from resilient.testing.behaviours import Stepish, as_behaviour

TUS = {"Tus-Resumable": "1.0.0"}


class Store:
    """Uploads, by their path.

    Attributes:
        files: what was received of each.
        sizes: how large each is to be.
        sent: bytes that came in requests, those that were not kept included.

    Safe from all threads of an `Origin`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.files: dict[str, bytearray] = {}  # guarded by _lock, as all of it
        self.sizes: dict[str, int] = {}
        self.sent = 0

    def serves(self) -> Behaviour:
        """Do what is asked, and answer."""
        return Behaviour("serves()", lambda exchange: self.handle(exchange.read())(exchange))

    def breaks(self, after: int) -> Behaviour:
        """Keep the first ``after`` bytes of a piece, then reset; other requests are answered."""

        def run(exchange: Exchange) -> None:
            if exchange.read_head().method == "PATCH":
                self.handle(exchange.read(up_to=after))
                exchange.reset()
            else:
                self.serves()(exchange)

        return Behaviour(f"breaks({after})", run)

    def then(self, step: Stepish) -> Behaviour:
        """Keep a piece, and then do ``step`` in place of the answer; other requests are answered."""

        def run(exchange: Exchange) -> None:
            if exchange.read_head().method == "PATCH":
                self.handle(exchange.read())
                exchange.effect()
                as_behaviour(step)(exchange)
            else:
                self.serves()(exchange)

        return Behaviour(f"kept, then {step}", run)

    def handle(self, request: Request) -> Behaviour:
        """Do what is asked; what is to be answered."""
        with self._lock:
            if request.method == "POST":
                path = f"/files/{next(self._numbers)}"
                self.files[path] = bytearray()
                self.sizes[path] = int(request.header("upload-length") or "")
                return answer(201, headers={**TUS, "Location": path})
            self.sent += len(request.body)
            data = self.files.get(request.target)
            if data is None:
                return answer(404, headers=TUS)
            if request.method == "PATCH":
                if int(request.header("upload-offset") or "") != len(data):
                    return answer(409, headers=TUS)
                data += request.body
            there = {**TUS, "Upload-Offset": str(len(data)), "Upload-Length": str(self.sizes[request.target])}
            return answer(204 if request.method == "PATCH" else 200, headers=there)
