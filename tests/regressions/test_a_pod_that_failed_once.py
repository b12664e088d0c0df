"""A pod that failed once, or was hit by a pause once, had no call for a minute: nobody called it because it looked
bad, and it looked bad because nobody called it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from resilient.balance.endpoint import OUTDATED, Endpoint
from resilient.balance.endpoints import ASK_AGAIN, Endpoints
from resilient.core.outcome import FAILURE, SUCCESS
from resilient.discovery.address import Address
from resilient.discovery.source import Static
from resilient.testing import ManualClock


class Call:
    endpoint: Endpoint[Address]


def run(
    endpoints: Endpoints[Address], clock: ManualClock, seconds: float, rate: float, sick: Address | None
) -> Counter[Address]:
    """Calls one after the other; whoever is sick fails at once, the others take 5 ms."""
    seen: Counter[Address] = Counter()
    for _ in range(int(seconds * rate)):
        now, call = clock.monotonic(), Call()
        permit = endpoints.pick((), now, call)
        endpoint = call.endpoint
        seen[endpoint.address] += 1
        failed = endpoint.address == sick
        endpoint.heard(permit, FAILURE if failed else SUCCESS, 0.001 if failed else 0.005, now)
        endpoint.leave(call)
        clock.advance(1.0 / rate)
    return seen


@pytest.mark.parametrize("rate", [40.0, 400.0])
@pytest.mark.parametrize("many", [3, 12])
def test_it_has_its_share_again(many: int, rate: float, manual_clock: ManualClock) -> None:
    random.seed(7)
    addresses = [Address(f"10.0.0.{n}", 80) for n in range(1, many + 1)]
    endpoints: Endpoints[Address] = Endpoints(
        "svc", Static(addresses), lambda address: address, retire=lambda _: None, clock=manual_clock
    )
    first = addresses[0]
    assert min(run(endpoints, manual_clock, 20.0, rate, None).values()) > 0
    sick = run(endpoints, manual_clock, 6.0, rate, first)
    assert sick[first] <= 2 + 0.02 * sum(sick.values()), "while it fails it is left alone"
    run(
        endpoints, manual_clock, OUTDATED + 4 * ASK_AGAIN * many / rate, rate, None
    )  # until it is asked again
    well = run(endpoints, manual_clock, 5.0, rate, None)
    assert well[first] >= 0.5 * sum(well.values()) / many
