"""Commands about holds: hold, renew, capture, void, holds."""

from functools import partial
from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import KeyOption, TokensArg, UserArg, tokens_of
from tokentill.cli.moving import ActionArg, InputTokens, Model, OnInsufficient, OutputTokens, answer, counts
from tokentill.cli.show import AsJson
from tokentill.core.ledger.holds import TTL_DEFAULT, HoldReceipt
from tokentill.core.users import User
from tokentill.store.journal import Receipt
from tokentill.till import Till

HoldArg = Annotated[str, typer.Argument(metavar="HOLD", help="The hold, by the id that `till hold` answered.")]
Provider = Annotated[str | None, typer.Option("--provider", help="Who serves that model.")]
TtlOption = Annotated[int, typer.Option("--ttl", help="How many seconds it lives from now: 1 to 86,400.")]
_TTL = int(TTL_DEFAULT.total_seconds())


def hold(
    user: UserArg,
    tokens: TokensArg,
    action: ActionArg,
    ttl: TtlOption = _TTL,
    model: Model = None,
    provider: Provider = None,
    key: KeyOption = None,
    json: AsJson = False,
) -> None:
    """Set a user's tokens aside for an AI call whose size is not known yet."""
    count = tokens_of(tokens)
    with Till.connect() as till:
        placed = till.hold(user, count, action, ttl=ttl, model=model, provider=provider, idempotency_key=key)
    _answer(placed, json)


def renew(user: UserArg, hold: HoldArg, ttl: TtlOption = _TTL, json: AsJson = False) -> None:
    """Give an open hold more time."""
    with Till.connect() as till:
        renewed = till.renew(user, hold, ttl=ttl)
    _answer(renewed, json)


def capture(
    user: UserArg,
    hold: HoldArg,
    tokens: Annotated[
        str | None, typer.Argument(metavar="TOKENS", help="What the call took. [default: all that was held]")
    ] = None,
    model: Model = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    on_insufficient: OnInsufficient = "record",
    key: KeyOption = None,
    json: AsJson = False,
) -> None:
    """Spend what a hold was placed for, and free the rest. A hold is captured once, however often this runs."""
    count = None if tokens is None else tokens_of(tokens)
    with Till.connect() as till:
        receipt = till.capture(
            user, hold, count, model_used=model, **counts(input_tokens, output_tokens),
            on_insufficient=on_insufficient, idempotency_key=key,
        )  # fmt: skip
    answer(receipt, user, "Captured", json, partial(_as_capture, hold))


def void(user: UserArg, hold: HoldArg, json: AsJson = False) -> None:
    """Free a hold's tokens."""
    with Till.connect() as till:
        voided = till.void(user, hold)
    _answer(voided, json)


def holds(
    user: UserArg,
    all_of_them: Annotated[bool, typer.Option("--all", help="Those that are open no more, too.")] = False,
    json: AsJson = False,
) -> None:
    """Show a user's open holds, oldest first."""
    with Till.connect() as till:
        report, found = till.balance(user), till.holds(user, include_closed=all_of_them)
    if json:
        from tokentill.http.hot.answered import HoldsView

        show.as_json({**show.view(HoldsView.of(found, user)), "held": report.held})
        return
    columns = {"hold": "left", "state": "left", "tokens": "right", "action": "left", "placed": "left",
               "expires": "left"}  # fmt: skip
    word = "has no holds" if all_of_them else "has no open holds"
    first = f"{report.name} {word}: `till hold USER TOKENS ACTION` places one."
    show.table(report.name, columns, [_row(each) for each in found], empty=first)
    show.line(f"Held: {show.tokens(report.held)} tokens; available: {show.tokens(report.available)}.")


def _answer(hold: HoldReceipt, json: bool) -> None:
    if json:
        from tokentill.http.hot.answered import HoldView

        show.as_json({**show.view(HoldView.of(hold)), "replayed": hold.is_replay})
        return
    shown = f"{hold.name}: {show.tokens(hold.tokens)} tokens {hold.state}"
    until = f" until {show.moment(hold.expires_at)}" if hold.state == "placed" else ""
    show.line(f"{shown}{until}{'; nothing was written now' if hold.is_replay else ''}. {hold.id}")


def _as_capture(hold_id: str, receipt: Receipt, user: str) -> dict[str, object]:
    from tokentill.http.hot.answered import CaptureView

    return {**show.view(CaptureView.of(receipt, hold_id)), "user_id": User.of(user).name}


def _row(hold: HoldReceipt) -> list[object]:
    placed, expires = show.moment(hold.placed_at), show.moment(hold.expires_at)
    return [hold.id, hold.state, show.tokens(hold.tokens), hold.action_type, placed, expires]
