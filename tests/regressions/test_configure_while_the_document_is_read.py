"""A document was put in force after ``configure()`` had said to follow nothing, and stayed so.

A look that was under way ended after all had gone back to the code, and nobody looked at that directory ever again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import ConfigError, configure, features, standard
from resilient.config import Status, explain, load, status
from resilient.config.center import CENTER, Center
from resilient.config.followed import Followed
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.testing import KubeletVolume

DOCUMENT = """{
 "resiliency": {"targets": {"payments": {"retry": {"attempts": 7}}}},
 "flags": {"search": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}}
}"""


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    KubeletVolume(tmp_path).write({"resilience.json": DOCUMENT})
    yield tmp_path
    configure()


@pytest.mark.parametrize("step", ["check", "apply"])
@pytest.mark.parametrize("after", [False, True])
def test_nothing_is_followed_any_more(
    mount: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    pipeline = standard("payments")
    real = getattr(Live, step)

    def met(live: Live, snapshot: Any, /, **how: Any) -> Any:
        monkeypatch.setattr(Live, step, real)
        found = real(live, snapshot, **how) if after else None
        other = threading.Thread(target=configure)
        other.start()
        other.join()
        return found if after else real(live, snapshot, **how)

    over, finish = threading.Event(), Loader.finish

    def finished(loader: Loader, answer: Any, /) -> None:
        finish(loader, answer)
        over.set()

    configure(mount)
    monkeypatch.setattr(Live, step, met)
    monkeypatch.setattr(Loader, "finish", finished)
    with pytest.raises(ConfigError, match="is not followed any more"):
        load()
    assert over.wait(10)
    assert pipeline["retry"].options.attempts == 3
    assert explain("payments.retry.attempts").layer == "code"
    assert features.enabled("search", default=True)
    assert status() == Status()
    configure(mount)
    load()
    assert pipeline["retry"].options.attempts == 7
    assert not features.enabled("search", default=True)


def test_who_waits_for_a_look_that_will_not_come_is_told(mount: Path) -> None:
    loader = Loader(mount, lambda: pytest.fail("nothing is read"))
    waited_for = loader.look_now()
    loader.drop()
    assert waited_for.is_set()


def test_a_first_call_that_meets_another_configure(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, other = [], threading.Thread(target=configure)
    real = vars(Center)["followed"]

    def followed(center: Center) -> Followed:
        found: Followed = real.fget(center)
        asked.append(found)
        if len(asked) == 1:
            other.start()
            other.join()
        return found

    configure(mount)
    monkeypatch.setattr(Center, "followed", property(followed))
    CENTER.start()
    monkeypatch.undo()
    assert asked[0].directory == mount
    assert CENTER._loader is None
