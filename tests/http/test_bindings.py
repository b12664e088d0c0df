"""Both bindings are one: what one has the other has, by the same words, for its own SDK."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import resilient.httpx
import resilient.httpx2
from resilient.http.environment import environment_proxies
from tests.http.sdk import SDKS, bound, httpx

once = pytest.mark.parametrize("sdk", ["httpx"], indirect=True)


def as_httpx(text: str | None) -> str:
    return (text or "").replace("httpx2", "httpx").replace("httpcore2", "httpcore")


@once
def test_the_bindings_say_the_same() -> None:
    assert resilient.httpx.__all__ == resilient.httpx2.__all__
    assert as_httpx(resilient.httpx2.__doc__) == resilient.httpx.__doc__
    for name in resilient.httpx.__all__:
        one, two = getattr(resilient.httpx, name), getattr(resilient.httpx2, name)
        assert as_httpx(two.__doc__) == one.__doc__, name
        assert as_httpx(str(inspect.signature(two))) == str(inspect.signature(one)), name


@once
def test_each_is_imported_alone() -> None:
    for name, other in (("httpx", "httpx2"), ("httpx2", "httpx")):
        code = f"import sys, resilient; resilient.{name}.client; print({other!r} in sys.modules)"
        assert said(code) == "False\n"


@once
def test_without_the_extra() -> None:
    code = """
import sys
sys.modules["httpcore2"] = None
try:
    import resilient.httpx2
except ModuleNotFoundError as exc:
    print(exc)
"""
    assert said(code) == "resilient.httpx2 needs httpx2: pip install 'resilient-client[httpx2]'\n"


@once
def test_where_httpx_is_an_alias_of_httpx2() -> None:
    # An application may have `import httpx` mean httpx2: then that is what `resilient.httpx` gives.
    code = """
import httpx2
httpx2.alias_httpx()
import resilient.httpx
from resilient.testing import Origin
with Origin() as origin, resilient.httpx.client("svc", base_url=origin.url) as client:
    origin.script("reset_before_effect")
    print(type(client) is httpx2.Client, client.get("/").extensions["resilient"].attempts)
"""
    assert said(code) == "True 2\n"


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------- the environment
NO_PROXY = [
    "",
    "*",
    "a.example, *",
    "localhost,LOCALHOST",
    "google.com,.google.com,*.google.com",
    "10.0.0.7,10.0.0.0/8,::1,fe80::/10,[::1]",
    "10.0.0.0/33,10.0.0.0/x,fe80::/200,a/b,*./x",
    "http://plain.example,https://secure.example:8443",
    "svc:8080, .cluster.local:80,10.0.0.7:80",
    "bad host,a.example,,",
    "http://[nonsense,10.0.0.0/8/8,all://10.1.0.0/16,all://10.1.0.0/x,a@b,%",
]


@pytest.mark.parametrize("given", NO_PROXY)
@pytest.mark.parametrize(
    "proxies", [{}, {"http_proxy": "p:1"}, {"all_proxy": "http://p:1", "https_proxy": "q:2"}]
)
def test_the_environment_is_read_as_the_sdk_reads_it(
    given: str, proxies: dict[str, str], sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in (*proxies.items(), ("no_proxy", given)):
        monkeypatch.setenv(name, value)
    module, binding, _ = SDKS[sdk]
    theirs: dict[str, str | None] = module._utils.get_environment_proxies()
    assert environment_proxies(binding.BINDING) == theirs


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("10.0.0.0/8", "http://10.1.2.3/", {"httpx2"}),
        ("10.1.2.3", "http://10.1.2.3/", {"httpx", "httpx2"}),
        (".svc", "http://a.svc/", {"httpx", "httpx2"}),
        ("a.svc:81", "http://a.svc/", set()),
        ("a.svc:81", "http://a.svc:81/", {"httpx", "httpx2"}),
        ("*.svc", "http://a.svc/", {"httpx2"}),
    ],
)
def test_which_urls_go_past_the_proxy(
    no_proxy: str, url: str, direct: set[str], sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    with bound.client("svc", base_url=url) as ours, httpx.Client() as bare:
        goes = ours._transport_for_url(httpx.URL(url))
        assert (goes is ours._transport) == (sdk in direct)
        assert (bare._transport_for_url(httpx.URL(url)) is bare._transport) == (sdk in direct)
