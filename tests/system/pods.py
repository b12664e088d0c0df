"""Run as a program: so many HTTP servers on loopback, in one process, which stand for pods.

Prints their ports as JSON. Each answers with its own port. A line ``stop PORT`` on standard input ends one as a killed
process would: its connections and its listening socket are gone at once."""

from __future__ import annotations

import asyncio
import json
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


class Pod:
    """One server."""

    def __init__(self) -> None:
        self.open: set[asyncio.StreamWriter] = set()
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=512)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        text = str(self.port).encode()
        answer = ANSWER % (len(text), text)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.005)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in list(self.open):
            writer.transport.abort()


async def main(count: int) -> None:
    pods = [Pod() for _ in range(count)]
    for pod in pods:
        await pod.start()
    by_port = {pod.port: pod for pod in pods}
    print(json.dumps(list(by_port)), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        by_port[int(line.split()[1])].stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
