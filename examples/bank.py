"""What stands in for a payment API: it charges once per idempotency key, and answers a repeat by the first receipt."""

from __future__ import annotations

import json
import threading
from collections import Counter

from resilient.testing import Behaviour, Exchange, Request, answer, by_handler
from resilient.testing.behaviours import Stepish, as_behaviour


class Bank:
    """The books of it.

    Attributes:
        charges: how many times each order was charged.
        keys: the keys that each order came with; None for a request without one.

    Safe from all threads of an `Origin`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[bytes, str]] = {}  # guarded by _lock, as all of it
        self.charges: Counter[str] = Counter()
        self.keys: dict[str, set[str | None]] = {}

    def charge(self, request: Request) -> Behaviour:
        """Charge the order of a request, unless its key was seen; what is to be answered."""
        posted = json.loads(request.body)
        order, key = posted["order"], request.header("idempotency-key")
        with self._lock:
            self.keys.setdefault(order, set()).add(key)
            body, receipt = self._answers.get(key or "", (b"", ""))
            if receipt and body != request.body:
                return answer(422, '{"type": "idempotency_error"}')
            if receipt:
                return answer(201, receipt, {"Idempotent-Replayed": "true"})
            self.charges[order] += 1
            receipt = json.dumps({"receipt": f"{order}/{self.charges[order]}"})
            if key is not None:
                self._answers[key] = (request.body, receipt)
            return answer(201, receipt)

    def charged_once(self, order: str) -> bool:
        """Whether an order was charged once, and came with one key and no other."""
        return self.charges[order] == 1 and len(self.keys[order]) == 1 and None not in self.keys[order]

    def serve(self) -> Behaviour:
        """Charge and answer."""
        return by_handler(self.charge)

    def then(self, step: Stepish) -> Behaviour:
        """Charge, and then do ``step`` in place of the answer."""

        def run(exchange: Exchange) -> None:
            self.charge(exchange.read())
            exchange.effect()
            as_behaviour(step)(exchange)

        return Behaviour(f"charged, then {step}", run)
