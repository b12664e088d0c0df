"""Numbers from variables: below the document, above the code."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import Bulkhead, ConfigError, Pipeline, Retry, configure, outbound, standard
from resilient.config import explain, load
from resilient.config.environment import Setting, read_environment, spelt
from resilient.config.leaves import flat_leaves
from resilient.testing import KubeletVolume

pytestmark = pytest.mark.usefixtures("center")

ATTEMPTS = "RESILIENT__PAYMENTS__RETRY__ATTEMPTS"


def document(attempts: int) -> dict[str, str]:
    return {
        "r.json": f'{{"resiliency": {{"targets": {{"payments": {{"retry": {{"attempts": {attempts}}}}}}}}}}}'
    }


# --------------------------------------------------------------------------------------------------- what is read
@pytest.mark.parametrize(
    ("variable", "text", "target", "leaf", "value"),
    [
        (ATTEMPTS, "2", "PAYMENTS", "retry.attempts", 2),
        ("RESILIENT__LEDGER_0_SHOP__RETRY__WAIT__BASE", "50ms", "LEDGER_0_SHOP", "retry.wait.base", 0.05),
        ("RESILIENT__payments__breaker__slow_after", "null", "PAYMENTS", "breaker.slow_after", None),
        ("RESILIENT__PAYMENTS__BREAKER__FAILURE_RATIO", "0.25", "PAYMENTS", "breaker.failure_ratio", 0.25),
        ("RESILIENT__PAYMENTS__BREAKER__STATE", "forced_open", "PAYMENTS", "breaker.state", "forced_open"),
        ("RESILIENT__PAYMENTS__RATELIMIT__RATE", "9/minute", "PAYMENTS", "ratelimit.rate", "9/minute"),
    ],
)
def test_what_a_variable_says(variable: str, text: str, target: str, leaf: str, value: object) -> None:
    assert read_environment({variable: text, "PATH": "/bin"}) == {target: {leaf: Setting(value, variable)}}


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("RESILIENT__PAYMENTS__RETRY__ATTEMPS", "2", f"write {ATTEMPTS}"),
        ("RESILIENT__RETRY__ATTEMPTS", "2", f"write {ATTEMPTS}"),
        ("RESILIENT__", "2", f"write {ATTEMPTS}"),
        ("RESILIENT__PAYMENTS", "2", f"write {ATTEMPTS}"),
        ("RESILIENT____RETRY__ATTEMPTS", "2", f"write {ATTEMPTS}"),
        (
            ATTEMPTS,
            "0",
            '"0" must be a whole number (in all, the first included), at least 1 and at most 100',
        ),
        (ATTEMPTS, "", f"write {ATTEMPTS}=3"),
        (ATTEMPTS, "null", "must be a whole number"),
        ("RESILIENT__PAYMENTS__TIMEOUT__TOTAL", "4", "a duration with its unit, such as 250ms or 1m30s"),
        ("RESILIENT__PAYMENTS__BREAKER__FAILURE_RATIO", "nan", "more than 0 and at most 1"),
        ("RESILIENT__PAYMENTS__RATELIMIT__RATE", "fast", "'200/second'"),
    ],
)
def test_what_is_no_number_is_refused_by_its_name(variable: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_environment({variable: text})
    assert str(caught.value).startswith(variable)
    assert said in str(caught.value)


@given(
    st.dictionaries(
        st.text("RESILNT_payments 0", max_size=40).map("RESILIENT__".__add__), st.text(max_size=20)
    )
)
def test_any_variables_are_read_or_refused(environ: dict[str, str]) -> None:
    try:
        found = read_environment(environ)
    except ConfigError:
        return
    assert {leaf for each in found.values() for leaf in each} <= flat_leaves().keys()


@pytest.mark.parametrize("name", ["payments", "Payments", "PAYMENTS", "payments-", "-payments"])
def test_names_that_are_spelt_alike(name: str) -> None:
    assert spelt(name) == "PAYMENTS"


# ------------------------------------------------------------------------------------------------- what is in force
def test_it_stands_above_code_and_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    before = standard("invoices", attempts=5)
    monkeypatch.setenv("RESILIENT__INVOICES__RETRY__ATTEMPTS", "2")
    monkeypatch.setenv("RESILIENT__INVOICES__TIMEOUT__TOTAL", "4s")
    configure()
    after, other = standard("invoices"), standard("search")
    for pipeline in (before, after):
        assert pipeline["retry"].options.attempts == 2
        assert pipeline["timeout"].options.seconds == 4.0
    assert other["retry"].options.attempts == 3
    told = "invoices.retry.attempts = 2 (from the environment at RESILIENT__INVOICES__RETRY__ATTEMPTS)"
    assert str(explain("invoices.retry.attempts")) == told
    assert str(explain("invoices.timeout.attempt")) == "invoices.timeout.attempt = 1.9875 (from the preset)"
    monkeypatch.undo()
    configure()
    assert (before["retry"].options.attempts, after["retry"].options.attempts) == (5, 3)


def test_the_document_stands_above_it_and_says_so(
    monkeypatch: pytest.MonkeyPatch, volume: KubeletVolume, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ATTEMPTS, "2")
    volume.write(document(4))
    configure(volume.directory)
    pipeline = standard("payments")
    assert pipeline["retry"].options.attempts == 2, "nothing was read yet"
    load()
    assert pipeline["retry"].options.attempts == 4
    assert f"payments: {ATTEMPTS} is without effect: the document stands above it at r.json:1" in caplog.text
    assert explain("payments.retry.attempts").layer == "document"
    volume.write({"r.json": '{"metadata": {"allowMassChange": "CHG-1"}}'})
    load()
    assert pipeline["retry"].options.attempts == 2
    volume.write(document(4))
    load()
    configure()
    assert pipeline["retry"].options.attempts == 2


def test_functions_and_pipelines_of_that_name_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ATTEMPTS, "7")
    configure()

    @outbound("payments")
    def charge() -> None: ...

    by_hand = Pipeline(Retry(2), Bulkhead(4), name="payments")
    assert charge.pipeline["retry"].options.attempts == by_hand["retry"].options.attempts == 7  # type: ignore[attr-defined]  # of what outbound made


def test_a_number_of_a_policy_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ATTEMPTS, "7")
    configure()
    pipelines = [Pipeline(Bulkhead(4), name="payments") for _ in range(3)]
    assert caplog.messages == [f"payments: {ATTEMPTS} is without effect: it has no such policy"]
    assert len(pipelines) == 3


def test_numbers_that_do_not_go_together_leave_those_of_the_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RESILIENT__PAYMENTS__TIMEOUT__ATTEMPT", "1m")
    configure()
    pipeline = standard("payments")
    assert "attempt 3 s" in str(pipeline)
    assert (
        "payments: the configuration is not applied to it: timeout.attempt of 60 s is not below"
        in caplog.text
    )


@pytest.mark.parametrize("make", [lambda: standard("payments"), lambda: outbound("payments"), configure])
def test_a_bad_variable_stops_whoever_begins(monkeypatch: pytest.MonkeyPatch, make: object) -> None:
    monkeypatch.setenv(ATTEMPTS, "0")
    assert callable(make)
    with pytest.raises(ConfigError, match=ATTEMPTS):
        configure()
    # and again, at the first thing that would follow it, in a process that has not read any
    monkeypatch.setattr("resilient.config.center.CENTER._variables", None)
    for _ in range(2):
        with pytest.raises(ConfigError, match=ATTEMPTS):
            make()


def test_a_change_is_logged_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resilient")
    monkeypatch.setenv(ATTEMPTS, "2")
    configure()
    pipeline = standard("payments")
    assert f"payments: retry.attempts 3 -> 2 ({ATTEMPTS})" in caplog.messages
    monkeypatch.delenv(ATTEMPTS)
    configure()
    assert "payments: retry.attempts 2 -> 3 (not set any more)" in caplog.messages
    assert pipeline["retry"].options.attempts == 3


def test_a_number_of_nobody_here_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENT__LEDGER_0__RETRY__ATTEMPTS", "7")
    configure()
    found = explain("ledger-0.retry.attempts")
    assert (found.value, found.layer, found.lives) == (7, "environment", False)
