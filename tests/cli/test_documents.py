"""`resilient check` and `resilient explain`: the real command on real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resilient.cli import documents
from resilient.testing import KubeletVolume
from tests.cli.commands import run

GOOD = """\
flags:
  recommendations:
    state: ENABLED
    variants: {"full": full, "off": "off"}
    defaultVariant: full
    metadata: {degrade: "1:off", owner: growth}
degradation:
  levels: [normal, sale]
  level: sale
resiliency:
  targets:
    payments:
      retry: {attempts: 2}
      ratelimit: {rate: 80/second}
...
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "resilience.yaml"
    file.write_text(GOOD)
    return file


def test_a_good_document(good: Path) -> None:
    done = run("check", str(good), str(good.parent))
    assert (done.status, done.err) == (0, "")
    worst = "     payments: at worst 6.025 s a call, attempts: 2, requests for each call in an outage: 1.2"
    assert done.lines == [
        line for path in (good, good.parent) for line in (f"ok   {path}: dependencies: 1, features: 1", worst)
    ]


def test_a_mounted_volume(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "mount")
    volume.write({"a.yaml": GOOD, "b.json": '{"metadata": {"version": "7"}}'})
    assert run("check", str(tmp_path / "mount")).status == 0


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            "attempts: 2",
            "atempts: 2",
            13,
            "/resiliency/targets/payments/retry/atempts: no such key; write attempts",
        ),
        ("attempts: 2", "attempts: 0", 13, "attempts"),
        ("level: sale", "level: sales", 9, "sale"),
        ("...\n", "", None, "add one at its end"),
        ("metadata: {degrade", "metadata: {protected: true, degrade", 6, "protected"),
    ],
)
def test_what_is_wrong_is_shown_with_its_place(
    good: Path, old: str, new: str, line: int | None, says: str
) -> None:
    good.write_text(GOOD.replace(old, new))
    done = run("check", str(good))
    assert done.status == 1
    first, second = done.lines
    assert first == f"BAD  {good}: would be refused"
    assert second.startswith("BAD  resilience.yaml:")
    assert line is None or f"resilience.yaml:{line}: " in second
    assert says in second
    told = run("check", "--json", str(good)).json
    assert told["ok"] is False
    assert told["documents"][0]["problems"][0]["file"] == "resilience.yaml"


def test_a_document_that_would_take_away_what_is_in_force(good: Path) -> None:
    new = good.parent / "new.json"
    flags = {"recommendations": {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}}
    new.write_text(json.dumps({"flags": flags}))
    assert run("check", str(new)).status == 0
    done = run("check", str(new), "--after", str(good))
    assert done.status == 1
    assert done.lines == [
        f"BAD  {new}: would be refused",
        "BAD  new.json:1: /resiliency/targets: it would take away all of resiliency.targets; if that is meant, write "
        'metadata: {allowMassChange: "CHG-4711"}',
    ]
    new.write_text(json.dumps({"flags": flags, "metadata": {"allowMassChange": "CHG-9"}}))
    assert run("check", str(new), "--after", str(good)).status == 0


def test_a_protected_feature_that_would_go(good: Path) -> None:
    new = good.parent / "new.yaml"
    new.write_text(GOOD)
    good.write_text(GOOD.replace('{degrade: "1:off", owner: growth}', "{protected: true}"))
    assert run("check", str(new), "--after", str(new)).status == 0
    done = run("check", str(new), "--after", str(good))
    assert done.status == 1
    assert "'recommendations' is protected, and here it is not, and has a ladder" in done.out


def test_a_document_in_force_that_is_none(good: Path) -> None:
    done = run("check", str(good), "--after", str(good.parent / "gone.json"))
    assert done.status == 2
    assert "--after: " in done.err


def test_an_emergency_document_that_fits(good: Path) -> None:
    emergency = good.parent / "emergency.json"
    emergency.write_text(
        '{"degradation": {"level": "normal"}, "resiliency": {"targets": {"payments": {"retry": {"attempts": 1}}}}}'
    )
    done = run("check", str(good), "--emergency", str(emergency))
    assert done.status == 0
    assert done.lines[:2] == [
        f"ok   {emergency}: dependencies: 1, features: 0",
        f"ok   {good}: dependencies: 1, features: 1",
    ]
    assert "attempts: 1," in done.lines[2], "what it may cost is told with the emergency"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        (
            "degradation: {level: sales}\n...\n",
            "resilience.yaml",
            "emergency.yaml:1: /degradation/level: the emergency document does not fit the config document: "
            "there is no level 'sales'; write 0 (normal) or 1 (sale)",
        ),
        ("flags: {}\n...\n", "emergency.yaml", "emergency.yaml:1: /flags: must not stand in the emergency document"),
        ("{}\n", "emergency.yaml", "add one at its end"),
        (None, "emergency.yaml", "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_an_emergency_document_that_would_be_refused(
    good: Path, text: str | None, path: str, says: str
) -> None:
    emergency = good.parent / "emergency.yaml"
    if text is not None:
        emergency.write_text(text)
    done = run("check", str(good), "--emergency", str(emergency))
    assert done.status == 1
    (bad,) = [line for line in done.lines if "would be refused" in line]
    assert bad == f"BAD  {good.parent / path}: would be refused"
    assert says in done.out


def test_what_the_preset_could_not_take_is_a_warning(good: Path) -> None:
    good.write_text(GOOD.replace("retry: {attempts: 2}", "breaker: {open_for: 90s}"))
    done = run("check", str(good))
    assert done.status == 0, "the service's own code may go with it"
    assert done.lines[1].startswith(
        "warn resilience.yaml:12: /resiliency/targets/payments: standard() cannot take it"
    )
    assert "max_open" in done.lines[1]


@pytest.mark.parametrize(
    ("name", "says"),
    [("none.yaml", "cannot be read: No such file"), ("notes.txt", "does not end in .json, .yaml, .yml")],
)
def test_what_is_no_document(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "notes.txt").touch()
    done = run("check", str(tmp_path / name))
    assert done.status == 1
    assert says in done.out


@pytest.mark.parametrize(
    ("key", "value", "layer", "place"),
    [
        ("payments.retry.attempts", "2", "document", "resilience.yaml:13"),
        ("payments.ratelimit.rate", "80/second", "document", "resilience.yaml:14"),
        ("payments.bulkhead.limit", "100", "code", None),
        ("ledger.timeout.total", "10.0", "code", None),
        ("flags.recommendations", "off", "document", "resilience.yaml:6"),
    ],
)
def test_why_a_value_is_what_it_is(good: Path, key: str, value: str, layer: str, place: str | None) -> None:
    done = run("explain", key, "--document", str(good))
    where = f" at {place}" if place else ""
    assert (done.status, done.err) == (0, "")
    assert done.lines[0] == f"{key} = {value} (from the {layer}{where})"
    found = documents.explain(key, good, {})
    assert (str(found.value), found.layer, found.place) == (value, layer, place)


def test_a_number_that_follows_from_others(good: Path) -> None:
    good.write_text(GOOD.replace("retry: {attempts: 2}", "timeout: {total: 2s}"))
    assert documents.explain("payments.timeout.attempt", good, {}).layer == "preset"


def test_the_directory_of_the_environment(good: Path) -> None:
    done = run("explain", "payments.retry.attempts", "--json", RESILIENT_CONFIG_DIR=str(good.parent))
    assert (done.status, done.json["value"]) == (0, 2)
    done = run("explain", "payments.retry.attempts")
    assert done.status == 2
    assert "write" in done.err or "such as --document /etc/resilient" in done.err


def test_what_an_emergency_says_is_explained(good: Path, tmp_path: Path) -> None:
    """In a pod it would else tell what the document says, and not what is in force."""
    volume = KubeletVolume(tmp_path / "emergency")
    where = {"RESILIENT_CONFIG_DIR": str(good), "RESILIENT_EMERGENCY_DIR": str(tmp_path / "emergency")}
    volume.write({})
    done = run("explain", "degradation.level", **where)
    assert done.lines[0] == "degradation.level = 1 (sale) (from the document at resilience.yaml:9)"
    targets = (
        '{"targets": {"payments": {"retry": {"attempts": 1}}, "ledger": {"breaker": {"state": "observe"}}}}'
    )
    volume.write({"e.json": f'{{"degradation": {{"level": 0}},\n"resiliency": {targets}}}'})
    done = run("explain", "degradation.level", **where)
    assert done.lines == [
        "degradation.level = 0 (normal) (from the emergency document at e.json:1)",
        "the emergency document stands above all else",
    ]
    done = run("explain", "payments.retry.attempts", "--json", **where)
    assert done.json["value"] == 1
    assert (done.json["layer"], done.json["place"]) == ("emergency", "e.json:2")
    assert (
        run("explain", "flags.recommendations", **where)
        .lines[0]
        .startswith("flags.recommendations = full (from")
    )
    assert "says nothing of" not in run("explain", "ledger.breaker.state", **where).out
    done = run(
        "explain",
        "payments.retry.attempts",
        "--document",
        str(good),
        "--emergency",
        str(tmp_path / "none.json"),
    )
    assert (done.status, done.out) == (2, "")
    assert "none.json cannot be read" in done.err


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("recommendations", "a feature such as flags.recommendations, or degradation.level"),
        ("flags.recommendation", "is no feature of the flags in force; did you mean flags.recommendations?"),
        ("plans.sale.active", "'sale' is no plan of the document; it has no plan"),
        ("payments.retry.atempts", "write 'payments.retry.attempts'"),
    ],
)
def test_what_there_is_not(good: Path, key: str, says: str) -> None:
    done = run("explain", key, "--document", str(good))
    assert (done.status, done.out) == (2, "")
    assert says in done.err


def test_a_feature_with_a_rule_is_explained_as_what_it_is_without(good: Path) -> None:
    rule = "    targeting: {if: [{var: vip}, full]}\n"
    good.write_text(GOOD.replace("    metadata: {degrade", f"{rule}    metadata: {{degrade"))
    assert documents.check(good).good
    found = documents.explain("flags.recommendations", good, {})
    assert found.why.endswith("level 1 (sale)"), "at the last level it has no say"
    good.write_text(good.read_text().replace("level: sale", "level: normal"))
    found = documents.explain("flags.recommendations", good, {})
    assert found.value == "full"
    assert "its targeting above that, for each caller" in found.why


def test_a_document_that_is_wrong_explains_nothing(good: Path) -> None:
    good.write_text(GOOD.replace("attempts", "atempts"))
    done = run("explain", "payments.retry.attempts", "--document", str(good))
    assert done.status == 2
    assert "resilience.yaml:13" in done.err


def test_a_number_of_the_environment_is_explained(good: Path) -> None:
    variable = "RESILIENT__SEARCH__RETRY__ATTEMPTS"
    found = documents.explain("search.retry.attempts", good, {variable: "7"})
    assert (found.value, found.layer, found.place) == (7, "environment", variable)


PLANS = """\
plans:
  double11:
    kind: scheduled
    window: {start: "2026-11-10T23:50:00+08:00", end: "2026-11-11T02:00:00+08:00"}
    set: {level: sale, targets: {payments: {retry: {attempts: 1}}}}
  meltdown: {kind: emergency, owner: sre, active: true, set: {flags: {recommendations: "off"}}}
...
"""


def test_what_a_plan_will_do_is_explained_beforehand(good: Path) -> None:
    good.write_text(GOOD.replace("level: sale", "level: normal").replace("...\n", PLANS))

    def at(key: str, moment: str) -> list[str]:
        done = run("explain", key, "--document", str(good), "--at", moment)
        assert (done.status, done.err) == (0, "")
        return done.lines

    before, during = "2026-11-10T15:49:59Z", "2026-11-11T00:00:00+08:00"
    assert (
        at("payments.retry.attempts", before)[0]
        == "payments.retry.attempts = 2 (from the document at resilience.yaml:13)"
    )
    assert at("payments.retry.attempts", during) == [
        "payments.retry.attempts = 1 (from the plan at resilience.yaml:19)",
        "a plan that holds stands above the rest of the document",
    ]
    assert (
        at("degradation.level", before)[0]
        == "degradation.level = 0 (normal) (from the document at resilience.yaml:9)"
    )
    assert (
        at("degradation.level", during)[0]
        == "degradation.level = 1 (sale) (from the plan at resilience.yaml:19)"
    )
    assert at("flags.recommendations", during) == [
        "flags.recommendations = off (from the document at resilience.yaml:6)",
        "level:1, at level 1 (sale)",
    ], "at the last level a ladder stands above plans"
    assert at("flags.recommendations", before)[1] == "plan:meltdown, at level 0 (normal)"
    assert at("plans.meltdown.active", before) == [
        "plans.meltdown.active = True (from the document at resilience.yaml:20)",
        "it holds now",
    ]
    assert at("plans.double11.active", before)[1] == "it does not hold now"
    done = run("explain", "degradation.level", "--document", str(good), "--at", "2026-11-11")
    assert done.status == 2
    assert (
        "--at: '2026-11-11' must be a moment with its offset; write --at 2026-11-11T00:00:00+08:00"
        in done.err
    )


def test_the_schema_is_printed() -> None:
    done = run("schema")
    assert (done.status, done.err) == (0, "")
    assert done.json["properties"].keys() >= {"resiliency", "flags", "degradation"}
