"""A call as it is told of by keywords, and that its tables are whole."""

from collections.abc import Callable

import pytest

from tokentill import InvalidRequest, Till
from tokentill.core.calls import _ALWAYS, _LEFT_OUT, _SINCE_METERING, FIELDS, KEYWORDS, Call, call_of

CHAT = "chat_conversation"


def test_every_field_of_a_call_has_its_keyword() -> None:
    assert KEYWORDS - {"model"} == set(FIELDS) - {"action_type", "tokens"}


def test_every_field_has_its_place_in_a_requests_hash() -> None:
    named = (*_ALWAYS, *_SINCE_METERING, *_LEFT_OUT)

    assert len(set(named)) == len(named)
    assert set(named) <= set(FIELDS)


def test_a_keyword_that_there_is_not_is_named_with_its_neighbour(till: Till) -> None:
    wrong: tuple[Callable[[], object], ...] = (
        lambda: till.spend("ann", 1, CHAT, modl_used="gpt-5"),  # type: ignore[call-arg]
        lambda: till.track_token_usage("ann", CHAT, 1, modl_used="gpt-5"),  # type: ignore[call-arg]
        lambda: till.capture("ann", "hold", 1, modl_used="gpt-5"),  # type: ignore[call-arg]
    )
    for ask in wrong:
        with pytest.raises(TypeError, match=r"A call has no 'modl_used'\. Did you mean 'model_used'"):
            ask()
    with pytest.raises(TypeError, match="There are cost_estimate, "):
        till.spend("ann", 1, CHAT, xyzzy=1)  # type: ignore[call-arg]


def test_a_model_has_two_names_and_is_one_model(till: Till) -> None:
    till.grant_tokens("ann", 10)

    till.spend("ann", 1, CHAT, model="gpt-5")
    till.capture("ann", till.hold("ann", 1, CHAT).hold_id, model="gpt-5", model_used="gpt-5")

    assert [entry.detail["model_used"] for entry in till.history("ann")[:2]] == ["gpt-5", "gpt-5"]
    with pytest.raises(InvalidRequest, match="model says 'gpt-5' and model_used 'o3'"):
        till.spend("ann", 1, CHAT, model="gpt-5", model_used="o3")


def test_what_is_not_said_is_none() -> None:
    assert call_of({}, tokens=None, action_type=CHAT) == Call(action_type=CHAT)
