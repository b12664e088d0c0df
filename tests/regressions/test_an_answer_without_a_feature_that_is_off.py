"""A feature that was off and had no fallback was not collected: whoever caught `FeatureDisabled` and answered without
it did not know that the answer was degraded, and a shared cache kept it."""

from __future__ import annotations

import asyncio

import pytest

from resilient import Fallback, FeatureDisabled, Pipeline, degradable, features
from resilient.testing import feature_flags
from tests.flags.documents import document, switch

DOCUMENT = document("heavy", search=switch(degrade="heavy:off"))


def test_it_is_collected() -> None:
    @degradable("search")
    def search() -> str:
        return "found"

    @degradable("search")
    async def asearch() -> str:
        return "found"

    with feature_flags(DOCUMENT):
        with features.collecting() as degraded, pytest.raises(FeatureDisabled):
            search()
        assert degraded == {"search": "off"}
        with features.collecting() as degraded, pytest.raises(FeatureDisabled):
            asyncio.run(asearch())
        assert degraded == {"search": "off"}
        with features.collecting() as degraded:
            assert Pipeline(Fallback("nothing"))(search)() == "nothing"
        assert degraded == {"search": "off"}


def test_what_the_document_has_off_at_every_level_is_not_degraded() -> None:
    off = {**switch(), "defaultVariant": "off"}
    with (
        feature_flags(document(search=off)),
        features.collecting() as degraded,
        pytest.raises(FeatureDisabled),
    ):
        degradable("search")(lambda: "found")()
    assert degraded == {}
