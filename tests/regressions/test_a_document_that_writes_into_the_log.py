"""A key of a document went into the log as it was: as long as it was, and with what a terminal obeys.

A refused document with a key of a megabyte was a line of a megabyte, and escape codes could hide the lines above it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from resilient import DocumentError
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.flags.document import parse_flags
from resilient.flags.state import NOTHING, publish
from resilient.testing import KubeletVolume


def test_the_name_of_a_feature_that_changed_makes_no_long_line(caplog: pytest.LogCaptureFixture) -> None:
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
    name = "k" * 100_000
    caplog.set_level(logging.INFO)
    try:
        publish(parse_flags({"flags": {name: flag}}))
        publish(parse_flags({"flags": {name: flag | {"defaultVariant": "off"}}}))
    finally:
        publish(NOTHING)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert all(len(line) < 9_000 for line in lines)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("k" * 1_000_000, "kkk... (1,000,"),
        ("\x1b[2J\r\u2028", r"targets.\x1b[2J\r\u2028.retry.attempts: 0 must be a whole number"),
        ("\u00e4", "targets.\u00e4.retry"),
    ],
)
def test_a_line_is_one_and_not_too_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, shown: str
) -> None:
    text = json.dumps({"resiliency": {"targets": {name: {"retry": {"attempts": 0}}}}})
    KubeletVolume(tmp_path).write({"a.json": text})
    loader = Loader(tmp_path, lambda: (Live(), ()))
    assert list(loader.begin()) == []
    assert isinstance(loader.status.problem, DocumentError)
    (record,) = caplog.records
    assert shown in record.message
    assert record.message.isprintable()
    assert len(record.message) < 9_000
