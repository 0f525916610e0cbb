"""The golden cases of `golden.py`, each through the real SDK, sync and async, over loopback, and into the journal."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.conftest import migrated
from tests.meter.conftest import ACTION
from tests.meter.golden import CASES, HELLO, Golden
from tests.meter.providers import Provider, serving
from tokentill import Till
from tokentill.meter.anthropic import meter_anthropic
from tokentill.meter.openai import meter_openai

GRANTED = 1_000_000

# Everybody under their own address: the double is the proxy through which all of them are reached.
_OPENAI = {
    "openai": "http://api.openai.com/v1",
    "google": "http://generativelanguage.googleapis.com/v1beta/openai",
    "anthropic-chat": "http://api.anthropic.com/v1",
    "deepseek": "http://api.deepseek.com",
    "x-ai": "http://api.x.ai/v1",
    "groq": "http://api.groq.com/openai/v1",
    "mistral": "http://api.mistral.ai/v1",
    "openrouter": "http://openrouter.ai/api/v1",
    "together": "http://api.together.xyz/v1",
    "fireworks": "http://api.fireworks.ai/inference/v1",
    "moonshotai": "http://api.moonshot.ai/v1",
    "perplexity": "http://api.perplexity.ai",
    "cerebras": "http://api.cerebras.ai/v1",
    "vllm": "http://gpu-7.internal:8000/v1",
    "litellm": "http://litellm.internal:4000",
    "gateway": "http://ai.example.com/v1",
}
_ANTHROPIC = {"anthropic": "http://api.anthropic.com", "deepseek-messages": "http://api.deepseek.com/anthropic"}
_SAID = {"vllm": "vllm", "litellm": "litellm"}  # Who cannot be told by an address is named.


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def shared(server_url: str, template: str) -> Iterator[Till]:
    """One till for all cases, each of which has an account of its own."""
    for url in migrated(server_url, template):
        with Till(url) as till:
            yield till
            assert till.reconcile().findings == ()


@pytest.fixture(scope="module")
def http(provider: Provider) -> Iterator[httpx2.Client]:
    with httpx2.Client(proxy=provider.url, verify=False) as http:
        yield http


def client_of(case: Golden, http: Any, till: Till, user: str) -> Any:
    """Return the SDK's client that such a provider is called with, metered."""
    is_async = isinstance(http, httpx2.AsyncClient)
    told: dict[str, Any] = {"user": user, "action": ACTION, "provider": _SAID.get(case.at)}
    options: dict[str, Any] = {"http_client": http, "max_retries": 0}
    plain: Any
    if case.at in _OPENAI:
        plain = (openai.AsyncOpenAI if is_async else openai.OpenAI)(api_key="k", base_url=_OPENAI[case.at], **options)
    elif case.at in _ANTHROPIC:
        plain = (anthropic.AsyncAnthropic if is_async else anthropic.Anthropic)(
            api_key="k", base_url=_ANTHROPIC[case.at], **options
        )
    elif case.at.startswith("azure"):
        version = "2024-02-01" if case.at == "azure-old" else "2025-01-01-preview"
        plain = (openai.AsyncAzureOpenAI if is_async else openai.AzureOpenAI)(
            api_key="k", azure_endpoint="http://mine.openai.azure.com", api_version=version, **options
        )
    elif case.at == "vertex":
        plain = (anthropic.AsyncAnthropicVertex if is_async else anthropic.AnthropicVertex)(
            region="us-east5", project_id="p", access_token="t", base_url="http://vertex.internal/v1", **options
        )
    else:
        plain = (anthropic.AsyncAnthropicFoundry if is_async else anthropic.AnthropicFoundry)(
            api_key="k", base_url="http://mine.services.ai.azure.com/anthropic", **options
        )
    meter: Any = meter_openai if isinstance(plain, openai.OpenAI | openai.AsyncOpenAI) else meter_anthropic
    return meter(plain, till, **told)


_MODELS = {
    "messages": "claude-next", "embeddings": "text-embedding-3-small", "decisions": "gpt-5.6", "responses": "gpt-5",
    "completions": "gpt-3.5-turbo-instruct",
}  # fmt: skip


def asked(case: Golden) -> dict[str, Any]:
    """Return the arguments of the call."""
    area = case.path.removeprefix("beta.").partition(".")[0]
    model = case.model if area in ("images", "audio") else _MODELS.get(area, "gpt-4o")
    if case.at == "azure":
        model = "my-gpt"
    kwargs: dict[str, Any] = {"model": model, **case.kwargs}
    if area == "chat":
        kwargs.setdefault("messages", HELLO)
    elif area == "responses":
        kwargs.setdefault("input", "a house")
    elif area == "images":
        kwargs.setdefault("prompt", "a house")
    elif area == "messages":
        kwargs = {"messages": HELLO, "max_tokens": 500, **kwargs}
    if case.mode in ("stream", "left"):
        kwargs["stream"] = True
    return kwargs


def method(client: Any, case: Golden) -> Callable[..., Any]:
    *areas, name = case.path.split(".")
    found = client
    for area in areas:
        found = getattr(found, area)
    if case.mode in ("raw", "streaming"):
        found = getattr(found, f"with_{case.mode}_response")
    call: Callable[..., Any] = getattr(found, name)
    return call


def make(client: Any, case: Golden) -> int:
    """Call, and do with the answer what the case says. Returns how many chunks the caller saw."""
    call, kwargs = method(client, case), asked(case)
    if case.mode == "helper":
        with call(**kwargs) as stream:
            return sum(1 for _ in stream)
    if case.mode == "streaming":
        with call(**kwargs) as response:
            response.read()
        return 0
    answer = call(**kwargs)
    if case.mode == "raw":
        answer.parse()
    elif case.mode == "left":
        [next(answer) for _ in range(3)]
        answer.close()
    elif case.mode == "stream":
        return sum(1 for _ in answer)
    return 0


async def amake(client: Any, case: Golden) -> int:
    call, kwargs = method(client, case), asked(case)
    if case.mode == "helper":
        async with call(**kwargs) as stream:
            return len([chunk async for chunk in stream])
    if case.mode == "streaming":
        async with call(**kwargs) as response:
            await response.read()
        return 0
    answer = await call(**kwargs)
    if case.mode == "raw":
        parsed = answer.parse()
        if asyncio.iscoroutine(parsed):
            await parsed
    elif case.mode == "left":
        [await anext(answer) for _ in range(3)]
        await answer.close()
    elif case.mode == "stream":
        return len([chunk async for chunk in answer])
    return 0


def by_sync(case: Golden, provider: Provider, http: httpx2.Client, till: Till, user: str) -> int:
    return make(client_of(case, http, till, user), case)


def by_async(case: Golden, provider: Provider, http: httpx2.Client, till: Till, user: str) -> int:
    async def run() -> int:
        async with httpx2.AsyncClient(proxy=provider.url, verify=False) as ahttp:
            return await amake(client_of(case, ahttp, till, user), case)

    return asyncio.run(run())


def contains(said: object, expected: str | None) -> bool:
    return said is None if expected is None else isinstance(said, str) and re.search(expected, said) is not None


# What is read at once takes the same way through both kinds of client: every other case by each. Streams by both.
WAYS = [
    pytest.param(case, way, id=f"{case.name}, {way.__name__}")
    for number, case in enumerate(CASES)
    for at, way in enumerate((by_sync, by_async))
    if case.mode != "plain" or number % 2 == at
]


# Translations end one day, and are metered till then.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize(("case", "way"), WAYS)
def test_what_is_written_of_a_call_is_what_it_used(
    provider: Provider, http: httpx2.Client, shared: Till, case: Golden, way: Callable[..., int]
) -> None:
    user = f"{way.__name__} {case.name}"
    shared.grant_tokens(user, GRANTED)
    provider.asked.clear()
    provider.next_answers = list(case.answers)

    seen, raised = None, None
    try:
        seen = way(case, provider, http, shared, user)
    except Exception as error:  # noqa: BLE001 - which one it should be is what the case says
        raised = error

    assert contains(None if raised is None else repr(raised), case.raises), raised
    entries = [entry for entry in reversed(shared.history(user)) if entry.kind == "usage"]
    entry, row = entries[0], entries[0].detail
    metadata: Any = row.get("metadata", {})
    written = {
        "provider": row.get("provider"), "model": row.get("model_used"), "tier": row.get("service_tier"),
        "pools": row.get("pools"), "tokens": -entry.tokens, "estimated": row.get("estimated", False),
        "success": row["success"],
    }  # fmt: skip
    differs = {name: (said, getattr(case, name)) for name, said in written.items() if said != getattr(case, name)}
    assert differs == {}
    assert (entry.balance_before, entry.balance_after, entry.type) == (GRANTED, GRANTED - case.tokens, ACTION)
    assert contains(row.get("error_message"), case.error)
    assert {name: metadata.get(name) for name in case.metadata or {}} == dict(case.metadata or {})
    assert ("usage_note" in metadata) is case.estimated
    assert case.sees in (None, seen)
    beside = [(each.detail.get("model_used"), each.detail["pools"], -each.tokens) for each in entries[1:]]
    assert beside == ([] if case.beside is None else [case.beside])
    assert shared.balance(user).held == 0
    (request,) = provider.asked
    if case.asks_usage is not None:
        assert ("stream_options" in request.body) is case.asks_usage


def test_counting_tokens_is_no_call(provider: Provider, http: httpx2.Client, shared: Till) -> None:
    shared.grant_tokens("counting", GRANTED)
    case = next(case for case in CASES if case.at == "anthropic")

    client_of(case, http, shared, "counting").messages.count_tokens(model="claude-next", messages=HELLO)

    assert [entry.kind for entry in shared.history("counting")] == ["transaction"]


def test_the_cases_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
