"""The seam to tracing."""

from __future__ import annotations

import subprocess
import sys


def test_nobody_traces_unless_asked() -> None:
    program = (
        "import sys, resilient; from resilient.core import tracing; resilient.Retry(); "
        "assert tracing.TRACER is None; assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
