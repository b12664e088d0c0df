"""What a fallback gives."""

from __future__ import annotations

from typing import Any

import pytest

from resilient.policies.fallback.state import maker

ERROR = ConnectionError("down")


def with_error(*args: Any, error: Exception, **kwargs: Any) -> Any:
    return args, kwargs, error


def with_optional_error(a: int, *, error: Exception | None = None) -> Any:
    return a, error


def positional_error(error: Any) -> Any:
    return error


class Shop:
    def cached(self, sku: str, *, error: Exception) -> Any:
        return sku, error

    def __call__(self, sku: str) -> str:
        return f"cached {sku}"


@pytest.mark.parametrize(
    ("fallback", "args", "kwargs", "result"),
    [
        ("a value", (1,), {"b": 2}, "a value"),
        (None, (), {}, None),
        ([], (), {}, []),
        (lambda a, b=0: a + b, (1,), {"b": 2}, 3),
        (with_error, (1,), {"b": 2}, ((1,), {"b": 2}, ERROR)),
        (with_optional_error, (1,), {}, (1, ERROR)),
        (positional_error, ("the argument",), {}, "the argument"),
        (Shop().cached, ("a-7",), {}, ("a-7", ERROR)),
        (Shop(), ("a-7",), {}, "cached a-7"),
        (dict, (), {"a": 1}, {"a": 1}),
        (max, (1, 2), {}, 2),
    ],
    ids=[
        "value",
        "None",
        "list",
        "function",
        "with error",
        "optional error",
        "positional error",
        "method",
        "object",
        "class",
        "builtin",
    ],
)
def test_what_it_gives(fallback: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    assert maker(fallback)(args, kwargs, ERROR) == result


def test_a_value_is_given_itself() -> None:
    value = object()
    assert maker(value)((), {}, ERROR) is value
