"""The Anthropic client, metered.

    anthropic = meter_anthropic(Anthropic(), till, user="alice", action="chat_conversation")
    anthropic.messages.create(model="claude-sonnet-4-5", max_tokens=1_024, messages=[…])

Messages, beta ones included; sync and async, streamed, parsed or raw, by a tool runner or by hand. What a batch of
messages used is known when it has ended, and is not metered here.
"""

from typing import Any, TypeVar
from uuid import UUID

import httpx2
from anthropic import APIConnectionError

from tokentill.core.usage.reading import provider_named
from tokentill.meter.context import About
from tokentill.meter.hosts import provider_of_client
from tokentill.meter.http import AsyncMeteredHttp, MeteredHttp, Metering
from tokentill.meter.tills import AnyTill, code_of

Client = TypeVar("Client")  # Anthropic or AsyncAnthropic, or one of Vertex or Foundry, which are no kinds of these.


def meter_anthropic(
    client: Client, till: AnyTill, *, user: str | UUID | None = None, action: str | None = None,
    minimum: int | None = None, provider: str | None = None,
) -> Client:  # fmt: skip
    """Return a copy of the client whose every AI call is metered; the one given stays as it was.

    `user` and `action` count where no `metering(…)` block says otherwise. A call is refused with InsufficientTokens,
    before it is made, when the user has less than `minimum` (without it: less than the prompt takes).

    `provider` is who answers (deepseek, groq, vllm, …), where neither the address nor the client's class shows it.

    Raises: TypeError for a client whose HTTP client is not httpx2's, and for AnthropicBedrock, whose streams come in
    frames that are not read here: put a `Meter` around its calls, or use AnthropicBedrockMantle.
    """
    if any(kind.__name__.endswith("AnthropicBedrock") for kind in type(client).__mro__):
        raise TypeError("AnthropicBedrock's streams are not read here; use AnthropicBedrockMantle or a Meter.")
    served = None if provider is None else provider_named(provider) or provider
    about = About(user=user, action=action, minimum=minimum)
    metering = Metering(till, "anthropic", about, provider=served or provider_of_client(client))
    given: Any = client
    inner: object = given._client  # noqa: SLF001 - the SDK takes an HTTP client and gives none back
    if isinstance(inner, httpx2.Client):
        options: dict[str, Any] = {"http_client": MeteredHttp(inner, metering), "middleware": [_as_it_was_raised]}
    elif isinstance(inner, httpx2.AsyncClient):
        options = {"http_client": AsyncMeteredHttp(inner, metering), "middleware": [_as_it_was_raised_async]}
    else:
        raise TypeError(f"The client's HTTP client is a {type(inner).__module__} one; give it one of httpx2.")
    options["middleware"] = [*given.middleware, *options["middleware"]]
    metered: Client = given.copy(**options)
    return metered


# The SDK takes whatever its HTTP client raises for a lost connection, wraps it and tries again. A refusal is none.


def _as_it_was_raised(request: Any, call_next: Any) -> Any:
    try:
        return call_next(request)
    except APIConnectionError as error:
        if error.__cause__ is not None and code_of(error.__cause__) is not None:
            raise error.__cause__ from None
        raise


async def _as_it_was_raised_async(request: Any, call_next: Any) -> Any:
    try:
        return await call_next(request)
    except APIConnectionError as error:
        if error.__cause__ is not None and code_of(error.__cause__) is not None:
            raise error.__cause__ from None
        raise
