"""Repricing: the cost of calls that have happened, looked at again with today's price book.

A row is never changed. Where the price that was in force when a call happened is another one now (it was learnt late,
or was wrong), a row of 0 tokens is written that holds the difference and names the row which it corrects. What the
caller of a spend said it cost stays as it is.

Where a call was charged by its cost and the caller asks for it, tokens follow: more are spent, even into debt; fewer
come back as a grant. They follow the cost and nothing else: the rule is the one by which the call was charged, whatever
the action's is now, and a charge that is not of that rule's making stays.

Safe to repeat and to stop at any point: what was corrected is looked at together with its corrections.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice

from tokentill.core.calls import Call
from tokentill.core.companions import Audited
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Charge, Grant, Spend
from tokentill.core.prices.actions import AiAction, tokens_to_charge
from tokentill.core.prices.book import EXACT
from tokentill.core.usage.pools import Pools
from tokentill.core.users import User
from tokentill.errors import InvalidTime
from tokentill.services.calls.rates import Rates
from tokentill.services.context import Context
from tokentill.store import actions, companions, repricing
from tokentill.store.repricing import Recorded

BATCH = 1_000  # Corrections asked for at once.
_ZERO = Decimal(0)


@dataclass(slots=True, kw_only=True)
class Repriced:
    """What repricing did with the calls of one model and action, or would do. Costs in cents."""

    model: str
    action_type: str
    calls: int = 0
    corrected: int = 0
    still_unpriced: int = 0  # No price is known of them yet; nothing was done.
    stated: int = 0  # Their cost was said by whoever recorded them; nothing was done.
    cost_before: Decimal = _ZERO
    cost_after: Decimal = _ZERO
    tokens_more: int = 0  # Charged beside what was,
    tokens_fewer: int = 0  # and given back.


@dataclass(frozen=True, slots=True)
class _Correction:
    """The difference between what is recorded of a call and what it costs now."""

    call: Recorded
    cost: Decimal
    price_id: int
    tokens_before: int
    tokens_after: int

    @property
    def _names(self) -> tuple[str, str]:
        # The state that it corrects: whoever else corrects the same at this moment asks for the same thing.
        return str(self.call.seq), str(self.call.corrected_seq or 0)

    @property
    def user(self) -> User:
        return User(self.call.user_id, self.call.external_id)

    def spend(self) -> Spend:
        is_charged = self.tokens_after != self.call.tokens_used or self.call.corrected_tokens is not None
        difference = Call(
            action_type=self.call.action_type, model_used=self.call.model_used, provider=self.call.provider,
            service_tier=self.call.service_tier, cost_estimate=self.cost, occurred_at=self.call.occurred_at,
            metadata={"tokens_charged": self.tokens_after} if is_charged else {},
        )  # fmt: skip
        return Spend(
            self.user, Key.of_fact("reprice", *self._names), difference,
            Charge(max(0, self.tokens_after - self.tokens_before), self.price_id),
            on_insufficient="record", corrects_seq=self.call.seq,
        )  # fmt: skip

    def grant(self, actor: str) -> Grant | None:
        tokens = self.tokens_before - self.tokens_after
        if tokens <= 0:
            return None
        return Grant(
            user=self.user, key=Key.of_fact("repriced_tokens", *self._names), tokens=tokens, kind="admin",
            source="admin", created_by=actor, reason=f"Usage {self.call.seq} cost less than it was charged for",
            metadata={"corrects_seq": self.call.seq},
        )  # fmt: skip


@dataclass(slots=True)
class _Sums:
    by_name: dict[tuple[str, str], Repriced] = field(default_factory=dict)

    def of(self, call: Recorded) -> Repriced:
        name = (call.model_used, call.action_type)
        found = self.by_name.get(name)
        if found is None:
            found = self.by_name[name] = Repriced(model=call.model_used, action_type=call.action_type)
        return found


def reprice(
    context: Context,
    rates: Rates,
    *,
    since: datetime,
    until: datetime | None = None,
    model: str | None = None,
    action_type: str | None = None,
    charges: bool = False,
    is_dry_run: bool = False,
    actor: str,
) -> list[Repriced]:
    """Look again at the calls that happened in [since, until), and correct what they cost.

    With `charges`, the tokens of actions that charge by cost follow. Returns what was done, or would be, for each model
    and action. Raises: InvalidTime, DatabaseUnavailable.
    """
    until = until or context.clock()
    if since >= until:
        raise InvalidTime("The calls to look at must begin before they end.", field="from")
    sums = _Sums()
    with context.connection() as conn:
        rules = _Rules(rates.actions, actions.edits(conn)) if charges else None
        found = repricing.calls(conn, since=since, until=until, model=model, action_type=action_type)
        corrections = _corrections(found, rates, sums, rules)
        while batch := list(islice(corrections, BATCH)):
            if not is_dry_run:
                _write(context, batch, actor)
    report = sorted(sums.by_name.values(), key=lambda one: (one.model, one.action_type))
    if not is_dry_run and any(one.corrected for one in report):
        detail = {
            "since": since.isoformat(), "until": until.isoformat(), "model": model, "action_type": action_type,
            "charges": charges, "corrected": sum(one.corrected for one in report),
        }  # fmt: skip
        with context.connection() as conn:
            audited = Audited(id=context.new_id(), actor=actor, act="reprice", detail=detail)
            companions.write_audit(conn, None, audited, None, context.clock())
    return report


def _corrections(
    found: Iterator[Recorded], rates: Rates, sums: _Sums, rules: "_Rules | None"
) -> Iterator[_Correction]:  # fmt: skip
    """Yield what is to be corrected; with `rules`, of tokens, too."""
    for call in found:
        said = sums.of(call)
        said.calls += 1
        before = call.cost_estimate if call.corrected_cost is None else call.corrected_cost
        if call.cost_estimate is not None and call.corrected_cost is not None:
            before = EXACT.add(call.cost_estimate, call.corrected_cost)
        said.cost_before = EXACT.add(said.cost_before, before or _ZERO)
        if call.cost_estimate is not None and call.price_id is None:
            said.stated += 1
            said.cost_after = EXACT.add(said.cost_after, before or _ZERO)
            continue
        pools = Pools(**call.pools) if call.pools else Pools.of_counts(call.input_tokens, call.output_tokens)
        priced = rates.book.price(
            pools, provider=call.provider, model=call.model_used, service_tier=call.service_tier,
            occurred_at=call.occurred_at,
        )  # fmt: skip
        if priced.cost_cents is None or priced.price_id is None:
            said.still_unpriced += 1
            said.cost_after = EXACT.add(said.cost_after, before or _ZERO)
            continue
        said.cost_after = EXACT.add(said.cost_after, priced.cost_cents)
        charged = call.tokens_used if call.corrected_tokens is None else call.corrected_tokens
        owed = charged
        if rules is not None and (rule := rules.of(call)) is not None:
            owed = _tokens(rule, call, priced.cost_cents)
        if before == priced.cost_cents and owed == charged:
            continue
        said.corrected += 1
        said.tokens_more += max(0, owed - charged)
        said.tokens_fewer += max(0, charged - owed)
        yield _Correction(call, EXACT.subtract(priced.cost_cents, before or _ZERO), priced.price_id, charged, owed)


class _Rules:
    """By which rule each call was charged."""

    def __init__(
        self, now: Mapping[str, AiAction], edits: list[tuple[datetime, AiAction | None, AiAction]]
    ) -> None:  # fmt: skip
        self._now = now
        self._edited: dict[str, tuple[list[datetime], list[AiAction | None]]] = {}
        for at, before, after in edits:
            times, rules = self._edited.setdefault(after.key, ([], [before]))
            times.append(at)
            rules.append(after)

    def of(self, call: Recorded) -> AiAction | None:
        """Return the rule that made a call's charge of its cost; None: its charge is not of its cost."""
        times, rules = self._edited.get(call.action_type, ((), (self._now.get(call.action_type),)))
        rule = rules[bisect_right(times, call.created_at)]
        if rule is None or rule.charge != "cost_plus" or not call.success:
            return None
        return rule if _tokens(rule, call, call.cost_estimate) == call.tokens_used else None


def _tokens(action: AiAction, call: Recorded, cost_cents: Decimal | None) -> int:
    return tokens_to_charge(
        action, input_tokens=call.input_tokens, output_tokens=call.output_tokens, tokens_used=call.tokens_used,
        success=True, model=call.model_used, cost_cents=cost_cents,
    )  # fmt: skip


def _write(context: Context, corrections: list[_Correction], actor: str) -> None:
    """What comes back first: where we stop between the two, the next time gives it back by the same name.

    It came back as the prices were then, so the correction says what was given and not what would be now.
    """
    grants = {place: grant for place, each in enumerate(corrections) if (grant := each.grant(actor)) is not None}
    for place, answer in zip(grants, context.engine.submit_many(list(grants.values())), strict=True):
        given = answer.result().tokens
        corrections[place] = replace(corrections[place], tokens_after=corrections[place].tokens_before - given)
    for answer in context.engine.submit_many([correction.spend() for correction in corrections]):
        answer.result()
