"""What the routes of AI actions take and answer. What is in range is the till's to say (`core.prices.action_edits`)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from tokentill.core.prices.action_edits import as_json
from tokentill.core.prices.actions import AiAction
from tokentill.http.bodies import Body, ExactNumber, UtcMoment

Charge = Literal["metered", "fixed", "cost_plus"]
CountQuery = Annotated[int, Field(ge=0, le=2**53 - 1)]


class ActionBody(Body):
    """What is to change: what is left out stays, and null empties a field."""

    revision: StrictInt | None = Field(
        None, description="The one that was edited: 409 when the action is at another by now. 0: there must be none."
    )
    model: StrictStr | None = None
    provider: StrictStr | None = None
    temperature: StrictInt | StrictFloat | None = None
    max_tokens: StrictInt | None = Field(None, description="Of the answer, as the model counts.")
    system_prompt: StrictStr | None = None
    charge: Charge = "metered"
    fixed_tokens: StrictInt | None = Field(None, description="What each call takes, where the charge is fixed.")
    multiplier: ExactNumber | None = Field(None, description="On input and output tokens, where the charge is metered.")
    model_multipliers: dict[str, ExactNumber] | None = Field(None, description="The same by model.")
    markup: ExactNumber | None = Field(None, description="On what a call costs, where the charge is cost_plus.")
    cents_per_million_tokens: ExactNumber | None = Field(None, description="What the account's tokens are worth, then.")
    is_active: StrictBool = Field(True, description="false: spends and holds are refused.")

    def fields(self) -> dict[str, Any]:
        return self.model_dump(exclude={"revision"}, exclude_unset=True)


class ActionView(BaseModel):
    """What an app needs to make the call, and how its users pay for it. Exact numbers are texts."""

    key: str
    model: str | None
    provider: str | None
    temperature: float | None
    max_tokens: int | None
    system_prompt: str | None
    charge: Charge
    fixed_tokens: int | None
    multiplier: str
    model_multipliers: dict[str, str]
    markup: str | None
    cents_per_million_tokens: str | None
    is_active: bool
    revision: int = Field(description="The edit that changed it last, counted over all actions, models and prices.")
    updated_at: UtcMoment | None
    updated_by: str | None

    @classmethod
    def of(cls, action: AiAction) -> "ActionView":
        return cls(
            key=action.key, **as_json(action), revision=action.revision, updated_at=action.updated_at,
            updated_by=action.updated_by,
        )  # fmt: skip


class ActionsView(BaseModel):
    actions: list[ActionView]


class ChargeView(BaseModel):
    """What a call of this size would take."""

    key: str
    model: str | None
    input_tokens: int
    output_tokens: int
    tokens: int
