"""The OpenAI client, metered.

    openai = meter_openai(OpenAI(), till, user="alice", action="chat_conversation")
    openai.chat.completions.create(model="gpt-5", messages=[…])

Chat completions, responses, embeddings, images, speech, transcriptions and translations; sync and async, streamed,
parsed or raw. Any client of that SDK will do: Azure's, or one for a provider that speaks the same.
"""

from typing import TypeVar
from uuid import UUID

import httpx2
from openai import AsyncOpenAI, OpenAI

from tokentill.core.usage.reading import provider_named
from tokentill.meter.context import About
from tokentill.meter.hosts import provider_of_client
from tokentill.meter.http import AsyncMeteredHttp, MeteredHttp, Metering
from tokentill.meter.tills import AnyTill

Client = TypeVar("Client", OpenAI, AsyncOpenAI)


def meter_openai(
    client: Client, till: AnyTill, *, user: str | UUID | None = None, action: str | None = None,
    minimum: int | None = None, provider: str | None = None,
) -> Client:  # fmt: skip
    """Return a copy of the client whose every AI call is metered; the one given stays as it was.

    `user` and `action` count where no `metering(…)` block says otherwise. A call is refused with InsufficientTokens,
    before it is made, when the user has less than `minimum` (without it: less than the prompt takes).

    `provider` is who answers (deepseek, groq, vllm, …), where neither the address nor the client's class shows it.

    Raises: TypeError for a client whose HTTP client is not httpx2's.
    """
    served = None if provider is None else provider_named(provider) or provider
    about = About(user=user, action=action, minimum=minimum)
    metering = Metering(till, "openai", about, provider=served or provider_of_client(client))
    inner: object = client._client  # noqa: SLF001 - the SDK takes an HTTP client and gives none back
    if isinstance(inner, httpx2.Client) and isinstance(client, OpenAI):
        return client.copy(http_client=MeteredHttp(inner, metering))
    if isinstance(inner, httpx2.AsyncClient) and isinstance(client, AsyncOpenAI):
        return client.copy(http_client=AsyncMeteredHttp(inner, metering))
    raise TypeError(f"The client's HTTP client is a {type(inner).__module__} one; give it one of httpx2.")
