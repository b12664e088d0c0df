"""The transports: one logical call under its policies, sync and async side by side.

Both drivers are the same but for ``await``. What they decide stands in `logical`, how they send in
`exchange`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..balance.endpoints import Endpoints
from ..core.call import CURRENT, put_back
from ..policies.retry.steps import DRAIN_SECONDS
from .logical import STATE, Answered, Logical
from .steps import Base


class SyncTransport(Base):
    """The sync driver; a binding mixes it with its SDK's ``BaseTransport``."""

    def handle_request(self, request: Any) -> Any:
        dependency = self.dependency
        logical, call, owned = dependency.begin(request)
        if not owned:
            dependency.strip_key(request, logical)
            logical.busy = True
            attempt = self._elsewhere(request, call, logical)
            try:
                response = self.outside.send(request, attempt)
            except BaseException as exc:
                error = self._failed_elsewhere(exc, attempt, request, logical)
                if error is exc:
                    raise
                raise error from exc
            finally:
                logical.busy = False
            return self._answered_elsewhere(response, attempt, request, logical)
        prepared = dependency.prepare(request, logical, call)
        token = None if prepared is CURRENT.get() else CURRENT.set(prepared)
        logical.busy = True
        try:
            operation = request.method if logical.options is None else dependency.operation(request, logical)
            return self._returned(request, self._run(operation)(request), logical)
        except Answered as answered:
            given = self._gave_answer(request, answered, logical)
            if isinstance(given, Exception):
                answered.discard(DRAIN_SECONDS)
                raise given from None
            return given
        except BaseException as exc:
            self._left(logical.attempt)
            if not isinstance(exc, Exception):
                raise
            error = dependency.ended(exc, request, logical)
            if error is exc:
                raise
            raise error from exc
        finally:
            logical.busy = False
            if token is not None:
                put_back(token)

    def _run(self, operation: str) -> Callable[[Any], Any]:
        run = self._runs.get(operation)
        return self._bound(operation, self.pipeline.bind, self._send) if run is None else run

    def _send(self, request: Any) -> Any:
        """One attempt, as the policies see it; a move to another endpoint is part of it."""
        logical: Logical = request.extensions[STATE]
        call = CURRENT.get()
        endpoints = self.endpoints
        if endpoints.unknown and isinstance(endpoints, Endpoints):
            endpoints.wait(self._patience(call))
        while True:
            try:
                attempt = self._try(request, logical, call, endpoints)
                try:
                    response = attempt.endpoint.exchange.send(request, attempt)
                except BaseException as exc:
                    if self._failed(exc, attempt, request, logical):
                        continue
                    raise
                return self._answered(request, response, attempt, logical)
            except Answered:
                raise
            except BaseException:
                self._left(logical.attempt)
                raise

    def close(self) -> None:
        """Close every connection that is idle; the others when they come back."""
        if isinstance(self._places, Endpoints):
            self._places.close()
        for leaf in self._leaves():
            leaf.close()


class AsyncTransport(Base):
    """The async driver; a binding mixes it with its SDK's ``AsyncBaseTransport``."""

    async def handle_async_request(self, request: Any) -> Any:
        dependency = self.dependency
        logical, call, owned = dependency.begin(request)
        if not owned:
            dependency.strip_key(request, logical)
            logical.busy = True
            attempt = self._elsewhere(request, call, logical)
            try:
                response = await self.outside.send(request, attempt)
            except BaseException as exc:
                error = self._failed_elsewhere(exc, attempt, request, logical)
                if error is exc:
                    raise
                raise error from exc
            finally:
                logical.busy = False
            return self._answered_elsewhere(response, attempt, request, logical)
        prepared = dependency.prepare(request, logical, call)
        token = None if prepared is CURRENT.get() else CURRENT.set(prepared)
        logical.busy = True
        try:
            operation = request.method if logical.options is None else dependency.operation(request, logical)
            return self._returned(request, await self._run(operation)(request), logical)
        except Answered as answered:
            given = self._gave_answer(request, answered, logical)
            if isinstance(given, Exception):
                await answered.adiscard(DRAIN_SECONDS)
                raise given from None
            return given
        except BaseException as exc:
            self._left(logical.attempt)
            if not isinstance(exc, Exception):
                raise
            error = dependency.ended(exc, request, logical)
            if error is exc:
                raise
            raise error from exc
        finally:
            logical.busy = False
            if token is not None:
                put_back(token)

    def _run(self, operation: str) -> Callable[[Any], Any]:
        run = self._runs.get(operation)
        return self._bound(operation, self.pipeline.abind, self._send) if run is None else run

    async def _send(self, request: Any) -> Any:
        """As `SyncTransport._send`."""
        logical: Logical = request.extensions[STATE]
        call = CURRENT.get()
        endpoints = self.endpoints
        if endpoints.unknown and isinstance(endpoints, Endpoints):
            await endpoints.await_(self._patience(call))
        while True:
            try:
                attempt = self._try(request, logical, call, endpoints)
                try:
                    response = await attempt.endpoint.exchange.send(request, attempt)
                except BaseException as exc:
                    if self._failed(exc, attempt, request, logical):
                        continue
                    raise
                return self._answered(request, response, attempt, logical)
            except Answered:
                raise
            except BaseException:
                self._left(logical.attempt)
                raise

    async def aclose(self) -> None:
        """Close every connection that is idle; the others when they come back."""
        if isinstance(self._places, Endpoints):
            self._places.close()
        for leaf in self._leaves():
            await leaf.aclose()
