"""Two threads that called `Origin.refuse` at the same time bound the port twice; one of the sockets was left open."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resilient.testing import Origin


def test_the_port_is_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Origin() as origin:
        bound, rings, ring, bind = [], 0, origin._ring, origin._bind

        def together() -> None:
            nonlocal rings
            rings += 1
            if rings > 1:  # both wait now
                ring()

        def binding(port: int) -> Any:
            bound.append(port)
            return bind(port)

        monkeypatch.setattr(origin, "_ring", together)
        monkeypatch.setattr(origin, "_bind", binding)
        threads = [threading.Thread(target=origin.refuse) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bound == [origin.port]
        origin.reopen()
        assert "listening" in repr(origin)
