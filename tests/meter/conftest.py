"""A provider on this machine, a till with an account, and what was written of a call."""

from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from tests.meter.providers import Provider, serving
from tokentill import Till

USER, ACTION = "alice", "chat_conversation"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as provider:
        yield provider
        for client in provider.clients:
            client.close()


@pytest.fixture
def rich(till: Till) -> Till:
    """A till whose user can pay for anything here."""
    till.grant_tokens(USER, 1_000_000)
    return till


def openai_of(provider: Provider, **options: Any) -> OpenAI:
    client = OpenAI(api_key="sk-test", base_url=f"{provider.url}/v1", max_retries=0, **options)
    provider.clients.append(client)
    return client


def async_openai_of(provider: Provider, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(api_key="sk-test", base_url=f"{provider.url}/v1", max_retries=0, **options)


def anthropic_of(provider: Provider, **options: Any) -> Anthropic:
    client = Anthropic(api_key="sk-ant-test", base_url=provider.url, max_retries=0, **options)
    provider.clients.append(client)
    return client


def async_anthropic_of(provider: Provider, **options: Any) -> AsyncAnthropic:
    return AsyncAnthropic(api_key="sk-ant-test", base_url=provider.url, max_retries=0, **options)


def calls(till: Till, user: str = USER) -> list[dict[str, Any]]:
    """What was written of the user's calls, oldest first: the tokens they took and the details of the row."""
    entries = [entry for entry in till.history(user) if entry.kind == "usage"]
    return [{"tokens": -entry.tokens, "action_type": entry.type, **entry.detail} for entry in reversed(entries)]


def only_call(till: Till, user: str = USER) -> dict[str, Any]:
    """The one call that was written; nothing is held any more."""
    (call,) = calls(till, user)
    assert till.balance(user).held == 0
    return call
