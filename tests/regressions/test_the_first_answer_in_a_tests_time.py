"""Under a clock of a test's a call did not wait for the first answer of a real nameserver: time jumped over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import resilient.httpx
from resilient import NoEndpoints, configure
from resilient.testing import ManualClock, Nameserver, Origin
from tests.http.calls import PLAIN


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver() as nameserver:
        nameserver.delay(0.05)
        configure(dns=nameserver.dns())
        try:
            yield nameserver
        finally:
            configure()


def test_sync(nameserver: Nameserver, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin:
        nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
        with resilient.httpx.client(
            "payments", base_url="http://payments.shop.svc", port="http", clock=manual_clock, verify=PLAIN
        ) as client:
            assert client.get("/").status_code == 200
    assert manual_clock.monotonic() == 0.0


def test_async(nameserver: Nameserver, manual_clock: ManualClock) -> None:
    async def main() -> int:
        async with resilient.httpx.async_client(
            "payments", base_url="http://payments.shop.svc", port="http", clock=manual_clock, verify=PLAIN
        ) as client:
            response = await client.get("/")
            return response.status_code

    with Origin(clock=manual_clock) as origin:
        nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
        assert manual_clock.run(main()) == 200
    assert manual_clock.monotonic() == 0.0


def test_a_silent_one_is_given_up_in_real_time(nameserver: Nameserver, manual_clock: ManualClock) -> None:
    nameserver.fail("SERVFAIL")

    async def main() -> None:
        async with resilient.httpx.async_client(
            "payments", base_url="http://payments.shop.svc", port="http", clock=manual_clock, verify=PLAIN
        ) as client:
            await client.get("/")

    with pytest.raises(NoEndpoints, match="SERVFAIL"):
        manual_clock.run(main())
