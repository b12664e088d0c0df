"""`resilient resolve` of a whole URL showed the password in it, and advised to look the user up, with the password as
port; of an IPv6 address it advised "["."""

from __future__ import annotations

import pytest

from tests.cli.commands import run


@pytest.mark.parametrize(
    ("url", "instead"),
    [
        ("https://ann:s3cret@payments.svc:8443/p?token=s3cret", "payments.svc --port 8443"),
        ("https://ann:s3cret@payments.svc", "payments.svc"),
        ("http://payments.svc?token=s3cret@x/y:z", "payments.svc"),
        ("http://[fd00::7]:8080/", "fd00::7 --port 8080"),
        ("http://[fd00::7]", "fd00::7"),
    ],
)
def test_it_is_advised_what_to_write(url: str, instead: str) -> None:
    done = run("resolve", url)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"resilient: NAME: this is not a host alone; write resilient resolve {instead}\n"
