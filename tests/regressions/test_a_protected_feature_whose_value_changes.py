"""The edit that removes the protection of a feature could switch it off all the same: by another value of the variant
that it has."""

from __future__ import annotations

import pytest

from resilient import DocumentError
from resilient.flags.document import parse_flags
from tests.flags.documents import document, switch


@pytest.mark.parametrize(
    ("variants", "changed"),
    [
        ({"on": True, "off": False}, {"on": False, "off": False}),
        ({"on": 48, "off": 0}, {"on": 0, "off": 0}),
        ({"on": {"sizes": [1, 2]}}, {"on": {"sizes": []}}),
    ],
)
def test_it_is_refused(variants: dict[str, object], changed: dict[str, object]) -> None:
    before = parse_flags(document(payment={**switch(protected=True), "variants": variants}))
    with pytest.raises(DocumentError, match="here it is not, and its 'on' has another value") as told:
        parse_flags(document(payment={**switch(), "variants": changed}), before=before)
    assert told.value.pointer == ("flags", "payment", "variants", "on")


def test_other_variants_are_nobodys_business() -> None:
    before = parse_flags(document(payment={**switch(protected=True), "variants": {"on": 48, "off": 0}}))
    edit = document(payment={**switch(), "variants": {"on": 48, "less": 12}})
    assert parse_flags(edit, before=before).table["payment"].value == 48
