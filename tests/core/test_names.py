"""The public names."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import resilient


def test_every_name_is_there_and_of_its_home() -> None:
    for name in resilient.__all__:
        value = getattr(resilient, name)
        assert value is getattr(resilient, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__name__ == name
            assert value.__module__.startswith("resilient.")
    assert dir(resilient) == sorted(
        [*resilient.__all__, "aiohttp", "grpc", "httpx", "httpx2", "openfeature", "requests"]
    )
    assert resilient.__all__ == sorted({*resilient.__all__})


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(resilient.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "without `as` a checker takes it for private"
            seen[alias.name] = node.module or ""
    assert {*seen} == {*resilient.__all__, "aiohttp", "grpc", "httpx", "httpx2", "openfeature", "requests"}
    for name, module in seen.items():
        if module:
            assert getattr(resilient, name) is getattr(importlib.import_module(f"resilient.{module}"), name)


def test_star_import_and_unknown_names() -> None:
    namespace: dict[str, object] = {}
    exec("from resilient import *", namespace)
    assert {*resilient.__all__} <= {*namespace}
    assert not {"aiohttp", "grpc", "httpx", "httpx2", "openfeature", "requests"} & {*namespace}, (
        "it would hide the SDK of that name"
    )
    with pytest.raises(AttributeError, match="module 'resilient' has no attribute 'CircuitBraker'"):
        resilient.CircuitBraker  # noqa: B018
    assert not hasattr(resilient, "hedge")


def test_every_public_class_and_function_says_what_it_is() -> None:
    for name in resilient.__all__:
        value = getattr(resilient, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
