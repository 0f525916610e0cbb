"""`/v1/ai/actions`: what the app uses AI for, what serves it, and how it is charged."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import Moment
from tokentill.http.deps import Actor, TillDep
from tokentill.http.problems import problems
from tokentill.http.routes.action_bodies import ActionBody, ActionsView, ActionView, ChargeView, CountQuery

router = APIRouter(prefix="/v1/ai/actions", tags=["AI actions"], dependencies=[AdminOnly])

Key = Annotated[str, Path(description="The action's name, like chat_conversation.")]


@router.get("", responses=problems(401, 408, 413, 500, 503), summary="Every AI action")
def list_actions(till: TillDep) -> ActionsView:
    """By name, those that are switched off among them."""
    return ActionsView(actions=[ActionView.of(action) for action in till.actions()])


@router.get("/{key}", responses=problems(401, 404, 408, 413, 422, 500, 503), summary="One AI action")
def read_action(
    key: Key,
    till: TillDep,
    at: Annotated[Moment | None, Query(description="As it was then: by which rule was a call charged?")] = None,
) -> ActionView:
    """What an app needs to make the call. An action that is switched off is shown, too."""
    return ActionView.of(till.action(key, at=at))


@router.put("/{key}", responses=problems(400, 401, 408, 409, 413, 422, 500, 503), summary="Change or make an AI action")
def set_action(key: Key, body: ActionBody, till: TillDep, actor: Actor = None) -> ActionView:
    """Grants and takes nothing: what was charged stays so. Put again, it changes nothing."""
    edit = till.set_action(key, created_by=actor or "admin", revision=body.revision, **body.fields())
    return ActionView.of(edit.action)


@router.get("/{key}/charge", responses=problems(401, 408, 413, 422, 500, 503), summary="What a call would take")
def charge_of(
    key: Key,
    till: TillDep,
    input_tokens: Annotated[CountQuery, Query(description="What the model reads, at most.")] = 0,
    output_tokens: Annotated[CountQuery, Query(description="What the model writes, at most.")] = 0,
    model: Annotated[str | None, Query(max_length=255, description="The action's, unless given.")] = None,
    provider: Annotated[str | None, Query(max_length=63, description="Who serves the model.")] = None,
) -> ChargeView:
    """How many tokens to hold for a call of this size, by the action's rule and the prices of now."""
    tokens = till.tokens_for(key, input_tokens, output_tokens, model=model, provider=provider)
    return ChargeView(key=key, model=model, input_tokens=input_tokens, output_tokens=output_tokens, tokens=tokens)
