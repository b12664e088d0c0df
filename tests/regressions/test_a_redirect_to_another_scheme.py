"""A URL that is neither http nor https, asked for or redirected to, was a KeyError in place of UnsupportedProtocol."""

from __future__ import annotations

import httpx
import pytest

import resilient.httpx
from resilient.testing import Origin, answer


@pytest.mark.parametrize("url", ["ftp://files.example/a", "/moved"])
def test_it_is_the_sdks_error(url: str) -> None:
    with (
        Origin(answer(302, headers={"Location": "ftp://files.example/a"})) as origin,
        resilient.httpx.client("svc", base_url=origin.url, follow_redirects=True) as client,
    ):
        with pytest.raises(httpx.UnsupportedProtocol, match="ftp://") as caught:
            client.get(url)
        assert str(caught.value.request.url) == "ftp://files.example/a"
