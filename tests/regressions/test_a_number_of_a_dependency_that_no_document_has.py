"""`resilient explain paymnts.retry.attempts` told what `standard()` has, and nothing said that the document knows no
such dependency: in an incident a typing error reads as "my change is not in force"."""

from __future__ import annotations

from pathlib import Path

from resilient.cli import documents

DOCUMENT = """\
resiliency:
  targets:
    payments:
      retry: {attempts: 2}
...
"""


def test_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "resilience.yaml"
    file.write_text(DOCUMENT)
    why = documents.explain("paymnts.retry.attempts", file, {}).why
    assert why.endswith("; the document says nothing of 'paymnts'; it has 'payments'")
    assert documents.explain("ledger.retry.attempts", file, {}).why.endswith(
        "; the document says nothing of 'ledger'"
    )
    assert "says nothing" not in documents.explain("payments.timeout.total", file, {}).why
