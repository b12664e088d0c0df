"""A document that uses all there is, as YAML and as JSON."""

from __future__ import annotations

from resilient.config.document import Document, parse
from resilient.config.source import Files

YAML = """\
# what the on-call engineer edits
metadata: {version: "2026-11-10.3", changedBy: alice, ticket: CHG-4711}
resiliency:
  policies:
    retry:
      careful: {attempts: 2, wait: {base: 50ms, cap: 2s, jitter: full}, budget: {ratio: 0.1}}
    breaker:
      quick:
        failure_ratio: 0.25
        open_for: 2s
  targets:
    payments:
      timeout: {total: 4s, attempt: 1.5s}
      retry: careful
      breaker: {use: quick, slow_after: 800ms, count: null}
      ratelimit: {rate: 450/second, burst: 90}
      bulkhead: {limit: 60, queue: 20, max_wait: 100ms}
    search.index:
      breaker: {state: forced_open}
...
"""

JSON = """\
{
  "metadata": {"version": "2026-11-10.3", "changedBy": "alice", "ticket": "CHG-4711"},
  "resiliency": {
    "policies": {
      "retry": {
        "careful": {"attempts": 2, "wait": {"base": "50ms", "cap": "2s", "jitter": "full"}, "budget": {"ratio": 0.1}}
      },
      "breaker": {
        "quick": {
          "failure_ratio": 0.25,
          "open_for": "2s"
        }
      }
    },
    "targets": {
      "payments": {
        "timeout": {"total": "4s", "attempt": "1.5s"},
        "retry": "careful",
        "breaker": {"use": "quick", "slow_after": "800ms", "count": null},
        "ratelimit": {"rate": "450/second", "burst": 90},
        "bulkhead": {"limit": 60, "queue": 20, "max_wait": "100ms"}
      },
      "search.index": {
        "breaker": {"state": "forced_open"}
      }
    }
  }
}
"""


def document(**files: str | bytes) -> Document:
    """The document of some files, by name with ``_`` for the dot."""
    content = {
        name.replace("_", "."): text.encode() if isinstance(text, str) else text
        for name, text in files.items()
    }
    return parse(Files(content, ""))
