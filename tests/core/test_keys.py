"""Idempotency keys: derived the same way in every process, for ever."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from resilient.core.keys import business_key, child_key, new_key

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def test_a_key_of_business_data_never_changes() -> None:
    """A key that a release derives in another way charges a card twice: these are the bytes of the first release."""
    assert business_key("payments", "charge", "order-7") == "7ac53b79-c007-5505-a6cb-69f0588a225c"
    assert child_key("order-7", "notify", "1") == "e7deaa44-f51c-57f2-bd38-2f08a2b8bfc0"


@given(st.lists(st.tuples(text, text, text), min_size=2, max_size=8, unique=True))
def test_different_intents_have_different_keys(intents: list[tuple[str, str, str]]) -> None:
    for make in (business_key, child_key):
        keys = [make(*each) for each in intents]
        assert len({*keys}) == len(intents)
        assert keys == [make(*each) for each in intents]
        assert all(uuid.UUID(key).version == 5 for key in keys)


def test_the_parts_do_not_run_into_each_other() -> None:
    keys = [business_key(*parts) for parts in (("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"))]
    assert len({*keys}) == 3


def test_a_new_key_is_new() -> None:
    keys = {new_key() for _ in range(1_000)}
    assert len(keys) == 1_000
    assert {uuid.UUID(key).version for key in keys} == {4}
