"""`python -m examples.llm`: both SDKs on resilient clients, and everything that an API of this kind does to them.

Nothing is waited for: server and clients are on a clock that jumps."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import sys
from collections.abc import Callable
from typing import Any, Self

import anthropic
import openai

from examples.promises import Promises
from resilient import CircuitOpen, Pipeline
from resilient.testing import ManualClock, Origin, answer, reset_mid_body, retry_later, truncated

from . import clients
from .clients import BETWEEN_TOKENS, Cut, create, text_of
from .server import TEXT, WORDS, breaks, ends_early, speaks

Make = Callable[[str, str, Pipeline], Any]

FACES: dict[str, Make] = {
    "OpenAI on resilient.httpx": clients.openai_on_httpx,
    "OpenAI on resilient.httpx2": clients.openai_on_httpx2,
    "Anthropic on resilient.httpx2": clients.anthropic_on_httpx2,
    "OpenAI on resilient.httpx, async": clients.async_openai_on_httpx,
    "OpenAI on resilient.httpx2, async": clients.async_openai_on_httpx2,
    "Anthropic on resilient.httpx2, async": clients.async_anthropic_on_httpx2,
}
_number = itertools.count()


class Caller:
    """An SDK of either kind, sync or async, and the server that it calls; a context manager.

    Args:
        make: one of `FACES`.
        max_retries: the SDK's own; 0 is right.
    """

    def __init__(self, make: Make, *, max_retries: int = 0) -> None:
        self.make = make
        self.max_retries = max_retries
        self.clock = ManualClock()
        self.origin = Origin(speaks(), clock=self.clock)
        self.pipeline = clients.policies(f"llm-{next(_number)}", self.clock)  # a name has one retry budget

    def __enter__(self) -> Self:
        self.origin.__enter__()
        sdk = self.make(f"{self.origin.url}/v1", "key", self.pipeline)
        self.sdk = sdk.with_options(max_retries=self.max_retries)
        self.loop = asyncio.Runner(loop_factory=self.clock.loop)
        self.is_async = isinstance(sdk, openai.AsyncOpenAI | anthropic.AsyncAnthropic)
        return self

    def __exit__(self, *_: object) -> None:
        self.result(self.sdk.close())
        self.loop.close()
        self.origin.close()

    def ask(self, **options: Any) -> str:
        """A whole answer."""
        asked = create(self.sdk, "Tell me a story.", **options)
        return text_of(self.result(asked))

    def tell(self) -> list[str]:
        """A stream, read to its end."""
        asked = create(self.sdk, "Tell me a story.", stream=True, timeout=BETWEEN_TOKENS)
        if not self.is_async:
            return list(clients.whole(asked))

        async def read() -> list[str]:
            return [piece async for piece in clients.awhole(await asked)]

        return list(self.result(read()))

    def result(self, made: Any) -> Any:
        """What an SDK's method gave, waited for where it is async; in the caller's context, deadlines and all."""
        return self.loop.run(made, context=contextvars.copy_context()) if self.is_async else made

    @property
    def requests(self) -> int:
        """How many the server saw."""
        return len(self.origin.requests)


def main() -> int:
    """Run all of it; the exit status."""
    promises = Promises("What an LLM API does, and what its caller sees")
    for name, make in FACES.items():
        print(f"\n{name}")
        faults(promises, make)
        streams(promises, make)
        outage(promises, make)
        limits(promises, make)
    print("\nThe SDK's own retries left on, as a warning")
    multiplied(promises)
    return promises.status


def faults(promises: Promises, make: Make) -> None:
    """Failures before the answer."""
    with Caller(make) as caller:
        caller.origin.script(retry_later(2, 429))
        kept = caller.ask() == TEXT and caller.requests == 2 and caller.clock.monotonic() >= 2.0
        promises.check("a 429 is waited for as long as it asks", kept, f"requests: {caller.requests}")
    for what, step in {
        "503, then 529": (503, 529),
        "a reset after the request": ("reset_after_effect",),
        "a reset before it": ("reset_on_accept",),
    }.items():
        with Caller(make) as caller:
            caller.origin.script(*step)
            kept = caller.ask() == TEXT
            promises.check(f"{what}: answered all the same", kept, f"requests: {caller.requests}")


def streams(promises: Promises, make: Make) -> None:
    """A stream that comes late, breaks, or ends too early."""
    with Caller(make) as caller:
        kept = caller.tell() == list(WORDS) and caller.requests == 1
        promises.check("a stream is read to its end", kept, f"{len(WORDS)} pieces")
    for what, step in {
        "breaks": breaks(truncated),
        "is reset": breaks(reset_mid_body),
        "ends in order, without its end": ends_early(),
    }.items():
        with Caller(make) as caller:
            caller.origin.script(step)
            try:
                seen = f"taken for whole: {caller.tell()}"
                kept = False
            except Cut as cut:
                seen, kept = str(cut), TEXT.startswith(cut.text) and caller.requests == 1
            promises.check(f"a stream that {what} is told, and not repeated", kept, seen)
    with Caller(make) as caller:
        if caller.is_async:  # in sync code the wait would be a real one
            caller.origin.script("hang")
            before = caller.clock.monotonic()
            kept = caller.tell() == list(WORDS) and caller.requests == 2
            took = caller.clock.monotonic() - before
            kept = kept and BETWEEN_TOKENS <= took < BETWEEN_TOKENS + 1.0
            promises.check("a first token that does not come is not waited for", kept, f"{took:.1f} s")


def outage(promises: Promises, make: Make) -> None:
    """The breaker: 20 calls while the API is down."""
    with Caller(make) as caller:
        caller.origin.always(503)
        refused = 0
        for _ in range(20):
            try:
                caller.ask()
            except (openai.APIConnectionError, anthropic.APIConnectionError) as error:
                refused += isinstance(error.__cause__, CircuitOpen)  # it says when to come back: retry_after
            except (openai.APIStatusError, anthropic.APIStatusError):
                pass
        kept = refused > 0 and caller.requests == 10
        promises.check("an API that is down is left alone", kept, f"{caller.requests} requests for 20 calls")


def limits(promises: Promises, make: Make) -> None:
    """Requests and tokens a minute: what is too much waits, and the API sees no more than it allows."""
    with Caller(make) as caller:
        before = caller.clock.monotonic()
        for _ in range(2):
            caller.ask(max_tokens=30_000, timeout=45.0)
        took = caller.clock.monotonic() - before
        kept = caller.requests == 2 and 5.5 < took < 7.0  # 20,000 tokens of 3,333 a second
        promises.check("tokens a minute are waited for", kept, f"{took:.1f} s for 60,000 of them")


def multiplied(promises: Promises) -> None:
    """What three attempts of ours become with three of the SDK's around them."""
    soon = answer(503, headers={"Retry-After": "0.001"})  # the SDK sleeps in real time
    for retries, wanted in ((0, 3), (2, 9)):
        with Caller(clients.openai_on_httpx, max_retries=retries) as caller:
            caller.origin.always(soon)
            try:
                caller.ask()
            except openai.InternalServerError:
                pass
            promises.check(
                f"one call, 503 throughout, max_retries={retries}",
                caller.requests == wanted,
                f"{caller.requests} requests",
            )


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # one line for each retry
    sys.exit(main())
