"""Commands that move tokens: grant, deduct, spend, drip."""

from collections.abc import Callable
from typing import Annotated, Literal, TypedDict

import typer

from tokentill.cli import show
from tokentill.cli.given import (
    By,
    KeyOption,
    Reason,
    TokensArg,
    UserArg,
    actor,
    moment_of,
    number_of,
    object_of,
    tokens_of,
)
from tokentill.cli.show import AsJson
from tokentill.core.users import User
from tokentill.errors import InvalidRequest
from tokentill.store.journal import Receipt
from tokentill.till import Till

ActionArg = Annotated[
    str, typer.Argument(metavar="ACTION", help="What for: the AI action, like chat_conversation.")
]  # fmt: skip
Model = Annotated[str | None, typer.Option("--model", "--model-used", help="The model that served it.")]
InputTokens = Annotated[
    str | None, typer.Option("--input-tokens", metavar="TOKENS", help="What the model read.")
]  # fmt: skip
OutputTokens = Annotated[
    str | None, typer.Option("--output-tokens", metavar="TOKENS", help="What the model wrote.")
]  # fmt: skip
OnInsufficient = Annotated[
    Literal["refuse", "record"],
    typer.Option("--on-insufficient", help="record: it has happened already, so write it even into debt."),
]


def grant(
    user: UserArg,
    tokens: TokensArg,
    reason: Reason = None,
    by: By = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="When they expire: a date or time, in UTC unless it says otherwise.")
    ] = None,
    key: KeyOption = None,
    json: AsJson = False,
) -> None:
    """Give tokens to a user; opens the account if need be."""
    count, expires_at = tokens_of(tokens), moment_of(expires, "--expires")
    with Till.connect() as till:
        receipt = till.grant_tokens(
            user, count, reason=reason, created_by=actor(by), expires_at=expires_at, idempotency_key=key
        )
    answer(receipt, user, "Granted", json)


def deduct(
    user: UserArg,
    tokens: TokensArg,
    reason: Reason = None,
    by: By = None,
    force: Annotated[bool, typer.Option("--force", help="Take even what is not there, into debt.")] = False,
    key: KeyOption = None,
    json: AsJson = False,
) -> None:
    """Take tokens away from a user."""
    count = tokens_of(tokens)
    with Till.connect() as till:
        receipt = till.record_admin_deduction(
            user, count, reason=reason, created_by=actor(by), force=force, idempotency_key=key
        )
    answer(receipt, user, "Deducted", json)


def spend(
    user: UserArg,
    tokens: Annotated[
        str, typer.Argument(metavar="TOKENS", help="How many, a whole number, or -: the action's rule decides.")
    ],
    action: ActionArg,
    model: Model = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    pools: Annotated[
        str | None, typer.Option("--pools", metavar="JSON", help="The exclusive parts of the call's usage.")
    ] = None,
    cost: Annotated[str | None, typer.Option("--cost", help="What it cost you, in cents, with fractions.")] = None,
    error: Annotated[
        str | None, typer.Option("--error", help="The call failed, and why: recorded, and takes no tokens.")
    ] = None,
    estimated: Annotated[bool, typer.Option("--estimated", help="The usage is a guess.")] = False,
    provider: Annotated[str | None, typer.Option("--provider", help="Who served it.")] = None,
    service_tier: Annotated[str | None, typer.Option("--service-tier", help="If not the usual: batch, flex.")] = None,
    request_id: Annotated[str | None, typer.Option("--request-id", help="The provider's name of the call.")] = None,
    occurred_at: Annotated[str | None, typer.Option("--occurred-at", help="When it happened. [default: now]")] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", metavar="JSON", help="Yours, kept with it.")] = None,
    on_insufficient: OnInsufficient = "refuse",
    key: KeyOption = None,
    json: AsJson = False,
) -> None:
    """Spend a user's tokens on an AI action."""
    count = None if tokens == "-" else tokens_of(tokens)
    with Till.connect() as till:
        receipt = till.spend(
            user, count, action, model_used=model, **counts(input_tokens, output_tokens),
            pools=object_of(pools, "--pools"), cost_estimate=number_of(cost, "--cost"),
            success=error is None, error_message=error, estimated=estimated, provider=provider,
            service_tier=service_tier, provider_request_id=request_id,
            occurred_at=moment_of(occurred_at, "--occurred-at"), metadata=object_of(metadata, "--metadata"),
            on_insufficient=on_insufficient, idempotency_key=key,
        )  # fmt: skip
    answer(receipt, user, "Spent", json, as_usage)


def drip(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="The user.")] = None,
    subscription: Annotated[str | None, typer.Argument(metavar="SUBSCRIPTION", help="Its subscription.")] = None,
    cycle: Annotated[int | None, typer.Option("--cycle", help="Which cycle. [default: the one that runs]")] = None,
    clock: Annotated[
        bool, typer.Option("--clock", help="From now on let its cycles fall due by themselves, for --due to give.")
    ] = False,
    due: Annotated[bool, typer.Option("--due", help="Give every cycle that our own clock owes, to everybody.")] = False,
    json: AsJson = False,
) -> None:
    """Give the tokens of a 28-day cycle: of one subscription, or with --due of all that are owed.

    Each cycle is given once, however often this runs.
    """
    if due:
        if user is not None or cycle is not None:
            raise InvalidRequest("--due is for everybody: it takes no USER, SUBSCRIPTION or --cycle.")
        _drip_due(json)
        return
    if user is None or subscription is None:
        raise InvalidRequest("Name a USER and a SUBSCRIPTION, or say --due.")
    with Till.connect() as till:
        driven_by: Literal["clock"] | None = "clock" if clock else None
        receipt = till.drip_tokens_28day(user, subscription, cycle_number=cycle, driven_by=driven_by)
    answer(receipt, user, "Dripped", json)


def _drip_due(json: bool) -> None:
    with Till.connect() as till:
        run = till.drip_due()
    failures = [
        {"user_id": owed.external_id or str(owed.user_id), "subscription_id": owed.subscription_id, "error": error.code,
         "detail": error.detail}
        for owed, error in run.failures
    ]  # fmt: skip
    if json:
        receipts = [{"id": receipt.id, **show.plain(receipt)} for receipt in run.receipts]
        show.as_json({"cycles": len(receipts), "tokens": run.tokens, "receipts": receipts, "failures": failures})
    elif run.receipts:
        show.line(f"Dripped {show.tokens(run.tokens)} tokens in {show.counted(len(run.receipts), 'cycle')}.")
    else:
        show.line("No cycle is due.")
    if failures and not json:
        for failure in failures:
            show.line(f"{failure['user_id']}, {failure['subscription_id']}: {failure['detail']}")
    if failures:
        raise typer.Exit(1)


class Counts(TypedDict):
    input_tokens: int | None
    output_tokens: int | None


def counts(input_tokens: str | None, output_tokens: str | None) -> Counts:
    """Return what a model read and wrote, by the names that the till knows them by. Raises: InvalidAmount."""
    return {
        "input_tokens": None if input_tokens is None else tokens_of(input_tokens, "--input-tokens"),
        "output_tokens": None if output_tokens is None else tokens_of(output_tokens, "--output-tokens"),
    }


def as_receipt(receipt: Receipt, user: str) -> dict[str, object]:
    from tokentill.http.bodies import ReceiptView

    return show.view(ReceiptView.of(receipt, user))


def as_usage(receipt: Receipt, user: str) -> dict[str, object]:
    from tokentill.http.hot.answered import UsageView

    return show.view(UsageView.of(receipt, User.of(user).name))


Shown = Callable[[Receipt, str], dict[str, object]]


def answer(receipt: Receipt, user: str, did: str, json: bool, shown: Shown = as_receipt) -> None:
    """Say what was done. As JSON: what the API answers, and whether it was done before."""
    if json:
        show.as_json({**shown(receipt, user), "replayed": receipt.is_replay})
        return
    before, after = show.tokens(receipt.balance_before), show.tokens(receipt.balance_after)
    when = f" on {show.moment(receipt.created_at)}; nothing was written now" if receipt.is_replay else ""
    show.line(f"{did} {show.tokens(abs(receipt.tokens))} tokens{when}. {user}: {before} → {after} (row {receipt.seq}).")
