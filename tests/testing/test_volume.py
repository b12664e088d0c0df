"""A ConfigMap's volume is written as the kubelet writes it, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resilient import PolicyError
from resilient.testing import KubeletVolume


def seen(directory: Path) -> dict[str, str]:
    """What a user of the mount reads, by key."""
    return {each.name: each.read_text() for each in directory.iterdir() if not each.name.startswith("..")}


@pytest.mark.parametrize("order", ["new", "old"])
def test_a_write_makes_one_generation_and_removes_the_one_before(tmp_path: Path, order: Any) -> None:
    volume = KubeletVolume(tmp_path / "mount", order=order)
    for payload in ({"a": "1", "b": b"2"}, {"a": "3"}, {}, {"b": "4"}):
        volume.write(payload)
        assert seen(volume.directory) == {
            k: v if isinstance(v, str) else v.decode() for k, v in payload.items()
        }
        generations = [each for each in volume.directory.iterdir() if each.is_dir() and not each.is_symlink()]
        assert [each.name for each in generations] == [str((volume.directory / "..data").readlink())]


def test_the_order_of_links_and_swap_is_the_kubelets_of_its_time(tmp_path: Path) -> None:
    steps = {}
    for order in ("new", "old"):
        volume = KubeletVolume(tmp_path / order, order=order)  # type: ignore[arg-type]
        volume.write({"a": "1"})
        steps[order] = list(volume.steps({"a": "2", "b": "3"}))
    head, tail = ["directory", "file", "file"], ["stale links", "removal"]
    assert steps["new"] == [*head, "swap", "links", *tail]
    assert steps["old"] == [*head, "links", "swap", *tail]


def test_before_the_swap_the_old_content_is_seen_and_after_it_the_new(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path)
    volume.write({"a": "1"})
    for step in volume.steps({"a": "2"}):
        assert seen(tmp_path) == {"a": "1" if step in ("directory", "file") else "2"}


def test_the_same_content_touches_nothing(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path)
    volume.write({"a": "1"})
    before = (tmp_path / "..data").readlink()
    assert list(volume.steps({"a": b"1"})) == []
    assert (tmp_path / "..data").readlink() == before


@pytest.mark.parametrize("key", ["", "..data", "a/b"])
def test_a_key_that_no_configmap_may_have_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(PolicyError, match="is no key of a ConfigMap"):
        KubeletVolume(tmp_path).write({key: "1"})


def test_an_order_that_no_kubelet_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="order='first' must be 'new' or 'old'"):
        KubeletVolume(tmp_path, order="first")  # type: ignore[arg-type]
