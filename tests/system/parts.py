"""Parts of a cluster that apt brings: knot as its nameserver, and dnsdist in front of it, which makes the faults."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.query
import dns.update

from resilient import Dns

ZONE = """$ORIGIN cluster.local.
$TTL 1
@ IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 1
@ IN NS ns.dns.cluster.local.
ns.dns IN A 127.0.0.1
"""
KNOT = """
server:
    rundir: "{dir}/run"
    listen: [ 127.0.0.1@{port} ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: error
database:
    storage: "{dir}/db"
acl:
  - id: upd
    address: [127.0.0.1]
    action: [update]
template:
  - id: default
    storage: "{dir}"
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    serial-policy: increment
zone:
  - domain: cluster.local
    file: "cluster.local.zone"
    acl: upd
"""
DNSDIST = """
setLocal("127.0.0.1:{port}") setACL("127.0.0.0/8")
newServer({{address="127.0.0.1:{knot}", checkName="cluster.local.", checkType="SOA", mustResolve=false}})
setKey("{key}") controlSocket("127.0.0.1:{control}") setConsoleACL("127.0.0.1/32") setSecurityPollSuffix("")
"""
FAULTS = {
    "SERVFAIL": 'addAction(AllRule(), RCodeAction(DNSRCode.SERVFAIL), {name="f"})',
    "silence": 'addAction(AllRule(), DropAction(), {name="f"})',
    "half lost": 'addAction(ProbaRule(0.5), DropAction(), {name="f"})',
    "late": 'addAction(AllRule(), DelayAction(300), {name="f"})',
    "truncation": 'addAction(AndRule({TCPRule(false)}), TCAction(), {name="f"})',
}


def find(program: str, package: str) -> str:
    """Where a program is.

    Raises:
        RuntimeError: it is missing, with the command that brings it.
    """
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"{program} is missing: apt-get install {package}")
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, for TCP and UDP."""
    held: list[socket.socket] = []
    ports: list[int] = []
    while len(ports) < count:
        tcp = socket.create_server(("127.0.0.1", 0))
        held.append(tcp)
        port = tcp.getsockname()[1]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        held.append(udp)
        try:
            udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        ports.append(port)
    for sock in held:
        sock.close()
    return ports


class Cluster:
    """The DNS of a cluster: records are changed by DNS UPDATE, as CoreDNS would follow the API server.

    Args:
        directory: an empty one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._knot, self._dnsdist, self._control = free_ports(3)
        self._running: list[subprocess.Popen[bytes]] = []

    def dns(self) -> Dns:
        """Whom to ask."""
        return Dns(nameservers=(f"127.0.0.1:{self._dnsdist}",))

    def __enter__(self) -> Self:
        here = self._directory
        (here / "run").mkdir()
        (here / "db").mkdir()
        (here / "cluster.local.zone").write_text(ZONE)
        (here / "knot.conf").write_text(KNOT.format(dir=here, port=self._knot))
        key = base64.b64encode(os.urandom(32)).decode()
        (here / "dnsdist.conf").write_text(
            DNSDIST.format(port=self._dnsdist, knot=self._knot, control=self._control, key=key)
        )
        self._start([find("knotd", "knot"), "-c", str(here / "knot.conf")])
        self._start([find("dnsdist", "dnsdist"), "--supervised", "-C", str(here / "dnsdist.conf")])
        for port in (self._knot, self._dnsdist):
            self._wait_for(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            process.terminate()
            process.wait(10)

    def _start(self, command: list[str]) -> None:
        with (self._directory / "log").open("ab") as log:
            self._running.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def _wait_for(self, port: int) -> None:
        query = dns.message.make_query("cluster.local.", "SOA")
        until = time.monotonic() + 10
        while True:
            try:
                if dns.query.udp(query, "127.0.0.1", port=port, timeout=0.2).answer:
                    return
            except (dns.exception.DNSException, OSError):
                time.sleep(0.02)
            if time.monotonic() > until:
                raise RuntimeError(f"no nameserver on port {port}: {(self._directory / 'log').read_text()}")

    def set(self, service: str, ports: Iterable[int]) -> None:
        """The ready pods of a headless Service with the named port ``http``, all on 127.0.0.1."""
        update = dns.update.Update("cluster.local.")
        update.delete(f"_http._tcp.{service}.svc")
        update.delete(f"{service}.svc")
        for port in ports:
            pod = f"pod-{port}.{service}.svc"
            update.add(f"{service}.svc", 1, "A", "127.0.0.1")
            update.add(pod, 1, "A", "127.0.0.1")
            update.add(f"_http._tcp.{service}.svc", 1, "SRV", f"0 1 {port} {pod}.cluster.local.")
        response = dns.query.tcp(update, "127.0.0.1", port=self._knot, timeout=5)
        assert response.rcode() == 0, response

    def fail(self, fault: str) -> None:
        """One of `FAULTS` from now on."""
        self._tell(FAULTS[fault])

    def heal(self) -> None:
        """No fault any more."""
        self._tell('rmRule("f")')

    def _tell(self, rule: str) -> None:
        subprocess.run(
            [
                find("dnsdist", "dnsdist"),
                "-C",
                str(self._directory / "dnsdist.conf"),
                "-c",
                f"127.0.0.1:{self._control}",
                "-e",
                rule,
            ],
            check=True,
            capture_output=True,
            timeout=10,
        )
