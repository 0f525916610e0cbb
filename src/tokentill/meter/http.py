"""HTTP clients that meter: what the SDKs of the providers send goes through one of these on its way.

An SDK takes an HTTP client of one's own; that is the seam. Whatever entry point a caller uses, parsed or raw, streamed
or not, with options of its own or a copy of the client, it ends in one `send`, and every `send` of an AI call is one
metered call. The SDK's own retries are calls of their own, too: one that failed is recorded and costs nothing.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx2

from tokentill.meter.context import About, about_now
from tokentill.meter.endpoints import Api, Call, Watched, call_of
from tokentill.meter.hosts import provider_at
from tokentill.meter.metered import Meter
from tokentill.meter.tills import AnyTill

_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id")

log = logging.getLogger("tokentill.meter")


class Metering:
    """What a metering client knows: whose calls these are, and how one is metered."""

    def __init__(self, till: AnyTill, api: Api, about: About, *, provider: str | None) -> None:
        self.till, self.api, self.about = till, api, about
        self.provider = provider  # None: whoever answers at the address of each request.

    def call_of(self, request: httpx2.Request) -> Call | None:
        return call_of(
            self.api, request.method, request.url.path, lambda: request.content,
            content_type=request.headers.get("content-type", ""), api_version=request.url.params.get("api-version"),
            provider=self.provider or provider_at(request.url.host),
        )  # fmt: skip

    def meter(self, call: Call) -> Meter:
        """Raises: InvalidUserId, UnknownAction when nobody has said whose call it is."""
        about = about_now(self.about)
        user, action = about.named()
        return Meter(
            self.till, user, action, model=call.model, provider=call.provider, estimate=call.prompt_tokens,
            max_output=call.max_output, minimum=about.minimum, metadata=about.metadata, raises=False,
        )  # fmt: skip

    def is_metered(self, request: httpx2.Request) -> bool:
        return call_of(self.api, request.method, request.url.path, lambda: b"") is not None


class MeteredHttp(httpx2.Client):
    """Sends through `inner`, which stays the one with the connections, proxies and certificates."""

    def __init__(self, inner: httpx2.Client, metering: Metering) -> None:
        # Nothing goes by this transport: one of its own would read all certificates again, which takes 30 ms.
        super().__init__(timeout=inner.timeout, transport=httpx2.BaseTransport(), trust_env=False)
        self._inner, self._metering = inner, metering

    def build_request(self, *args: Any, **kwargs: Any) -> httpx2.Request:
        return self._inner.build_request(*args, **kwargs)

    def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> httpx2.Response:
        if not self._metering.is_metered(request):
            return self._inner.send(request, stream=stream, **kwargs)
        request.read()
        call = self._metering.call_of(request)
        assert call is not None, request.url
        meter = self._metering.meter(call).open()
        try:
            response = self._inner.send(_asking_for_usage(request, call), stream=stream, **kwargs)
        except BaseException as error:
            meter.failed(error)
            meter.settle()
            raise
        if not response.is_success:
            meter.failed(f"HTTP {response.status_code}")
            meter.settle()
            return response
        if not stream:
            _read(call, meter, response)
            meter.settle()
            return response
        return _passing_on(response, _Passing(response, meter, _watched(call, meter, response)))

    def close(self) -> None:
        super().close()
        self._inner.close()


class AsyncMeteredHttp(httpx2.AsyncClient):
    """The same for async code."""

    def __init__(self, inner: httpx2.AsyncClient, metering: Metering) -> None:
        super().__init__(timeout=inner.timeout, transport=httpx2.AsyncBaseTransport(), trust_env=False)
        self._inner, self._metering = inner, metering

    def build_request(self, *args: Any, **kwargs: Any) -> httpx2.Request:
        return self._inner.build_request(*args, **kwargs)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> httpx2.Response:
        if not self._metering.is_metered(request):
            return await self._inner.send(request, stream=stream, **kwargs)
        await request.aread()
        call = self._metering.call_of(request)
        assert call is not None, request.url
        meter = await self._metering.meter(call).aopen()
        try:
            response = await self._inner.send(_asking_for_usage(request, call), stream=stream, **kwargs)
        except BaseException as error:
            meter.failed(error)
            await meter.asettle()
            raise
        if not response.is_success:
            meter.failed(f"HTTP {response.status_code}")
            await meter.asettle()
            return response
        if not stream:
            _read(call, meter, response)
            await meter.asettle()
            return response
        return _passing_on(response, _AsyncPassing(response, meter, _watched(call, meter, response)))

    async def aclose(self) -> None:
        await super().aclose()
        await self._inner.aclose()


def _asking_for_usage(request: httpx2.Request, call: Call) -> httpx2.Request:
    if not call.hides_usage:
        return request
    headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() != "content-length"]
    return httpx2.Request(
        request.method, request.url, headers=headers, content=call.with_usage(), extensions=request.extensions
    )


def _read(call: Call, meter: Meter, response: httpx2.Response) -> None:
    """Take note of what a whole answer says. The caller's answer is there: no fault of ours may take it away."""
    try:
        if _is_events(response):
            # Speech comes so to a caller who takes it whole.
            watched = _watched(call, meter, response)
            watched.pass_on(response.content)
            watched.over()
        else:
            call.read(response.content, meter, request_id=_request_id(response))
    except Exception as error:
        log.exception("The usage of a call could not be read.")
        meter.used(None, model=call.model, note=f"unreadable: {type(error).__name__}")


def _watched(call: Call, meter: Meter, response: httpx2.Response) -> Watched:
    is_events = _is_events(response)
    return Watched(
        call, meter, is_events=is_events, hides=is_events and call.hides_usage, request_id=_request_id(response)
    )


def _is_events(response: httpx2.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.startswith("text/event-stream")


def _request_id(response: httpx2.Response) -> str | None:
    return next((response.headers[name] for name in _REQUEST_IDS if name in response.headers), None)


def _passing_on(response: httpx2.Response, stream: "_Passing | _AsyncPassing") -> httpx2.Response:
    """Return the response with its body passing by the meter, decoded: what it was packed in says nothing any more."""
    packed = {"content-encoding", "content-length"}
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in packed]
    return httpx2.Response(
        response.status_code, headers=headers, stream=stream, request=response.request,
        extensions=response.extensions, history=response.history,
    )  # fmt: skip


class _Passing(httpx2.SyncByteStream):
    """The body of an answer on its way to the caller. When it ends, whoever ends it, the call is settled."""

    def __init__(self, response: httpx2.Response, meter: Meter, watched: Watched) -> None:
        self._response, self._meter, self._watched = response, meter, watched
        self._pieces = response.iter_bytes()
        self._is_closed = False

    @property
    def elapsed(self) -> timedelta:
        return self._response.elapsed

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._pieces:
                if passed := self._watched.pass_on(piece):
                    yield passed
            if rest := self._watched.over():
                yield rest
        except Exception as error:
            self._watched.broke_off(error)
            raise

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._watched.wants_rest:
                self._read_rest()
            self._watched.broke_off("The caller read no further.")
            self._response.close()
        finally:
            self._meter.settle()

    def _read_rest(self) -> None:
        try:
            for piece in self._pieces:
                self._watched.pass_on(piece)
                if not self._watched.wants_rest:
                    break
            else:
                self._watched.over()
        except Exception as error:  # noqa: BLE001 - the caller has what it wanted; only our own count is less exact
            log.info("The end of an answer could not be read: %s", error)

    def __del__(self) -> None:
        if not self._is_closed:
            self._watched.broke_off("The caller forgot the answer.")
            self._meter.settle_soon()


class _AsyncPassing(httpx2.AsyncByteStream):
    """The same for async code."""

    def __init__(self, response: httpx2.Response, meter: Meter, watched: Watched) -> None:
        self._response, self._meter, self._watched = response, meter, watched
        self._pieces = response.aiter_bytes()
        self._is_closed = False

    @property
    def elapsed(self) -> timedelta:
        return self._response.elapsed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._pieces:
                if passed := self._watched.pass_on(piece):
                    yield passed
            if rest := self._watched.over():
                yield rest
        except Exception as error:
            self._watched.broke_off(error)
            raise

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._watched.wants_rest:
                await self._read_rest()
            self._watched.broke_off("The caller read no further.")
            await self._response.aclose()
        finally:
            await self._meter.asettle()

    async def _read_rest(self) -> None:
        try:
            async for piece in self._pieces:
                self._watched.pass_on(piece)
                if not self._watched.wants_rest:
                    break
            else:
                self._watched.over()
        except Exception as error:  # noqa: BLE001 - as above
            log.info("The end of an answer could not be read: %s", error)

    def __del__(self) -> None:
        if not self._is_closed:
            self._watched.broke_off("The caller forgot the answer.")
            self._meter.settle_soon()
