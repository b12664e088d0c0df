"""`resilient import`: what a mesh's manifests come to, and that nothing of them is left out in silence."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilient.cli import dapr, documents, imported, istio
from resilient.core.errors import ConfigError
from tests.cli.commands import run

DAPR = """\
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: shop}
scopes: [checkout]
spec:
  policies:
    timeouts: {general: 5s, slow: 1m, DefaultAppTimeoutPolicy: 3s}
    retries:
      important: {policy: constant, duration: 200ms, maxRetries: 4, matching: {httpStatusCodes: "429,500-599"}}
      forever: {policy: exponential, maxInterval: 15s, maxRetries: -1}
      DefaultRetryPolicy: {policy: constant, duration: 1s, maxRetries: 500}
    circuitBreakers:
      simple: {maxRequests: 1, interval: 8s, timeout: 45s, trip: consecutiveFailures > 8}
      clever: {maxRequests: 2, timeout: 30s, trip: "requests >= 20 && totalFailures * 2 >= requests"}
  targets:
    apps:
      payments: {timeout: general, retry: important, circuitBreaker: simple}
      search: {timeout: slow, retry: forever, circuitBreaker: clever}
      mail: {timeout: none}
      stock: {}
    actors:
      cart: {timeout: general, circuitBreakerScope: both}
"""

ISTIO = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payments, namespace: shop}
spec:
  host: payments.shop.svc.cluster.local
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    connectionPool:
      tcp: {maxConnections: 50, connectTimeout: 250ms}
      http: {http1MaxPendingRequests: 20, http2MaxRequests: 100, maxRetries: 3}
    outlierDetection:
      {consecutive5xxErrors: 7, consecutiveGatewayErrors: 5, interval: 10s, baseEjectionTime: 400s}
    retryBudget: {percent: 20, minRetryConcurrency: 3}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payments}
spec:
  hosts: [payments, "*"]
  http:
    - match: [{uri: {prefix: /slow}}]
      timeout: 30s
      route: [{destination: {host: payments}}]
    - timeout: 2s
      retries: {attempts: 2, perTryTimeout: 500ms, retryOn: gateway-error, backoff: 50ms}
      fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}}
      route: [{destination: {host: payments}}]
"""

SAMPLES = {"dapr": (DAPR, dapr.READERS), "istio": (ISTIO, istio.READERS)}


def made(tmp_path: Path, mesh: str, text: str) -> imported.Made:
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    return imported.read([file], SAMPLES[mesh][1])


def test_dapr(tmp_path: Path) -> None:
    found = made(tmp_path, "dapr", DAPR).targets
    assert found["payments"] == {
        "timeout": {"attempt": "5s", "total": "27s"},  # five attempts, four waits, and one second
        "retry": {"attempts": 5, "wait": {"base": "200ms", "cap": "200ms", "factor": 1.0, "jitter": "none"}},
        "breaker": {
            "probes": 1,
            "open_for": "45s",
            "max_open": "45s",
            "consecutive": 9,
            "failure_ratio": 1.0,
        },
    }
    assert found["search"]["retry"] == {
        "attempts": 3,
        "wait": {"cap": "15s", "base": "500ms", "factor": 1.5, "jitter": "equal"},
    }
    assert "consecutive" not in found["search"]["breaker"]
    assert found["stock"]["timeout"]["attempt"] == "3s", "that of Dapr for apps without one of their own"
    assert "timeout" not in found["mail"], "it names another"


def test_istio(tmp_path: Path) -> None:
    assert made(tmp_path, "istio", ISTIO).targets == {
        "payments": {
            "bulkhead": {"limit": 100, "queue": 20, "max_wait": "1s"},
            "breaker": {"consecutive": 5, "open_for": "400s", "max_open": "400s"},
            "retry": {
                "budget": {"ratio": 0.2},
                "attempts": 3,
                "wait": {"base": "50ms", "cap": "1s"},
            },
            "timeout": {"total": "2s", "attempt": "500ms"},
        }
    }


@pytest.mark.parametrize(
    ("mesh", "at", "said"),
    [
        ("dapr", "spec.policies.retries.forever.maxRetries", "retries without end"),
        ("dapr", "spec.policies.retries.DefaultRetryPolicy.maxRetries", "501 must be"),
        ("dapr", "spec.policies.retries.important.matching.httpStatusCodes", "not expressed"),
        ("dapr", "spec.policies.circuitBreakers.simple.interval", "does not age"),
        ("dapr", "spec.policies.circuitBreakers.clever.trip", "expressions"),
        ("dapr", "spec.targets.apps.mail.timeout", "there is no policy 'none'"),
        ("dapr", "spec.targets.actors.cart.timeout", "not expressed"),
        ("dapr", "spec.targets.actors.cart.circuitBreakerScope", "not expressed"),
        ("istio", "spec.trafficPolicy.connectionPool.tcp.connectTimeout", "said in code"),
        ("istio", "spec.trafficPolicy.connectionPool.tcp.maxConnections", "not expressed"),
        ("istio", "spec.trafficPolicy.connectionPool.http.maxRetries", "not expressed"),
        ("istio", "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests", "max_wait 1s"),
        ("istio", "spec.trafficPolicy.outlierDetection.consecutive5xxErrors", "one count"),
        ("istio", "spec.trafficPolicy.outlierDetection.interval", "not expressed"),
        ("istio", "spec.trafficPolicy.retryBudget.minRetryConcurrency", "not expressed"),
        ("istio", "spec.trafficPolicy.loadBalancer.simple", "not expressed"),
        ("istio", "spec.http.1.retries.retryOn", "evidence"),
        ("istio", "spec.http.1.fault.delay.fixedDelay", "not expressed"),
        ("istio", "spec.http.0.timeout", "not expressed"),
        ("istio", "spec.http.0.match.0.uri.prefix", "not expressed"),
        ("istio", "spec.hosts", "'*'"),
    ],
)
def test_what_cannot_be_said_is_reported(tmp_path: Path, mesh: str, at: str, said: str) -> None:
    remarks = [each for each in made(tmp_path, mesh, SAMPLES[mesh][0]).remarks if each.at == at]
    assert [said in each.said for each in remarks] == [True]


def test_two_namespaces_are_two_services(tmp_path: Path) -> None:
    rule = (
        "kind: DestinationRule\nspec: {host: %s, trafficPolicy: {outlierDetection: {baseEjectionTime: %s}}}\n"
    )
    found = made(tmp_path, "istio", rule % ("pay.a.svc", "1s") + "---\n" + rule % ("pay.b.svc", "2s"))
    assert found.targets["pay"]["breaker"]["open_for"] == "1s"
    assert [each.said for each in found.remarks if each.at == "spec.host"] == [
        "'pay.b.svc' is not expressed: pay is that of the namespace a; write it by hand, by another name"
    ]


def test_a_time_out_of_an_attempt_that_is_the_calls(tmp_path: Path) -> None:
    service = (
        "kind: VirtualService\nspec: {hosts: [a], http: [{timeout: 1s, retries: {perTryTimeout: 2s}}]}\n"
    )
    found = made(tmp_path, "istio", service)
    assert found.targets["a"]["timeout"] == {"total": "1s"}
    assert "left out" in found.remarks[0].said


@pytest.mark.parametrize(
    ("mesh", "old", "new", "at"),
    [
        ("dapr", "maxRetries: 4", 'maxRetries: "--4"', "spec.policies.retries.important.maxRetries"),
        (
            "dapr",
            "maxRequests: 2",
            'maxRequests: "1234567890123"',
            "spec.policies.circuitBreakers.clever.maxRequests",
        ),
        ("istio", "percent: 20", 'percent: "20"', "spec.trafficPolicy.retryBudget.percent"),
        ("istio", "percent: 20", "percent: true", "spec.trafficPolicy.retryBudget.percent"),
        ("istio", 'hosts: [payments, "*"]', "hosts: payments", "spec.hosts"),
        (
            "istio",
            "consecutiveGatewayErrors: 5",
            "consecutiveGatewayErrors: 0",
            "spec.trafficPolicy.outlierDetection.consecutiveGatewayErrors",
        ),
    ],
)
def test_a_value_of_another_kind_is_reported(tmp_path: Path, mesh: str, old: str, new: str, at: str) -> None:
    assert old in SAMPLES[mesh][0]
    found = made(tmp_path, mesh, SAMPLES[mesh][0].replace(old, new))
    assert [each.at for each in found.remarks].count(at) >= 1


@pytest.mark.parametrize("mesh", SAMPLES)
def test_the_command(tmp_path: Path, mesh: str) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(SAMPLES[mesh][0])
    done = run("import", mesh, str(file))
    assert done.status == 0
    written = tmp_path / "resilience.yaml"
    written.write_text(done.out)
    checked = documents.check(written)
    assert checked.problems == (), "and standard() can take it too"
    assert "not expressed" in done.err
    as_json = json.loads(run("import", mesh, str(file), "--json").out)
    assert as_json["document"] == imported.read([file], SAMPLES[mesh][1]).document()
    assert len(as_json["remarks"]) == len(done.err.splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Deployment\n", "no Resiliency"),
        ("- 1\n", "an object must be a mapping"),
        ("kind: [\n", "is no YAML"),
        ("a: &x 1\nb: *x\n", "an alias"),
        ("kind: !!python/object/apply:os.system [true]\n", "is no YAML"),
        ("x: " + "[" * 60 + "]" * 60, "deeper than"),
        ("", "no Resiliency"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    done = run("import", "dapr", str(file))
    assert (done.status, done.out) == (2, "")
    assert said in done.err


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        imported.read([tmp_path / "none.yaml"], dapr.READERS)


def test_a_list_and_other_objects(tmp_path: Path) -> None:
    items = [yaml.safe_load(DAPR), {"kind": "Component", "metadata": {"name": "state"}}]
    found = made(tmp_path, "dapr", yaml.safe_dump({"kind": "List", "items": items}))
    assert "payments" in found.targets
    passed_over = imported.Remark(
        "manifest.yaml: Component state", "kind", "is passed over; read are Resiliency"
    )
    assert passed_over in found.remarks


# --------------------------------------------------------------------------------------- whatever stands there
ODD: list[Any] = [None, True, -1, 0, 1.5, 10**30, "", "5s", "-1s", "x" * 300, [], {}, [1], {"a": {"b": 1}}]


def _leaves(tree: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inside = (
        list(tree.items())
        if isinstance(tree, dict)
        else list(enumerate(tree))
        if isinstance(tree, list)
        else []
    )
    return [leaf for key, value in inside for leaf in _leaves(value, (*at, str(key)))] if inside else [at]


def _put(tree: Any, at: tuple[str, ...], value: Any) -> None:
    for step in at[:-1]:
        tree = tree[int(step) if isinstance(tree, list) else step]
    tree[int(at[-1]) if isinstance(tree, list) else at[-1]] = value


@pytest.mark.parametrize("mesh", SAMPLES)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_stands_there_a_service_could_read_what_comes_of_it(
    tmp_path: Path, mesh: str, seed: int
) -> None:
    """Values of every kind in every place: a document that is taken, or an error that says what is wrong."""
    rand = random.Random(seed)
    text, readers = SAMPLES[mesh]
    file = tmp_path / "manifest.json"
    written = tmp_path / "resilience.yaml"
    for tree in yaml.safe_load_all(text):
        for at in _leaves(tree):
            changed = json.loads(json.dumps(tree))
            place = at[: rand.randint(2, len(at))] if len(at) > 2 else at
            _put(changed, place, rand.choice(ODD))
            file.write_text(json.dumps(changed))
            try:
                found = imported.read([file], readers)
            except ConfigError:
                continue
            written.write_text(imported.text(found))
            documents.explain("degradation.level", written, {})
