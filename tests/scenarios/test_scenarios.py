"""Plays the stories in this folder against PostgreSQL, one account each, and proves the books after every one.

A story's line is one request, and what comes after `->` is its answer (several, one below the other).
`pytest tests/scenarios --rewrite` writes the answers anew. Comments and empty lines stay.

    at TIME                                the clock stands at TIME (UTC); it never moves by itself
    plan drip TOKENS [rollover N] [cap N]  the 28-day plan of this story instead of the catalog's; goes first
    grant NAME TOKENS [until TIME]         an admin's gift; its lot is called NAME from here on
    pack NAME PACK                         a token pack that was paid for
    trial NAME TOKENS [for DAYS]           a trial
    annual NAME                            a year of the annual plan; its lots are called NAME-1, NAME-2, …
    drip NAME [CYCLE] [by clock]           a cycle of the 28-day plan, by default the one that runs; lots as above
    run drips                              what a late or early worker does: every cycle that the clock owes
    pause NAME, resume NAME, cancel NAME   what is done to a subscription of our own clock
    preview NAME CYCLES                    what is coming if nothing is spent until then
    policies [refund debt|forgive] [dispute debt|forgive] [freeze]
                                           what becomes of spent tokens whose money moves back; goes first
    buy NAME PACK|plan [COUNT]             a checkout at Stripe, paid; its lot is called NAME from here on
    refund NAME DOLLARS|all [pending]      money given back; a pending refund may still fail
    refund NAME arrives|fails              how the last refund of NAME went on
    dispute NAME [DOLLARS]                 the buyer's bank takes the money back for now
    dispute NAME won|lost                  how the bank decided
    … kept back                            after one of these: Stripe tells nobody of it yet
    late news                              and now it tells all that it kept back, the last first
    repeat news                            Stripe tells all that it ever told once more, the last first
    preview refund NAME DOLLARS            what a refund would take
    spend KEY TOKENS                       an AI call that is asked for first: refused if there are too few
    track KEY TOKENS [failed]              an AI call that has been made: it is recorded in any case
    deduct KEY TOKENS [forced]             an admin takes tokens away
    hold KEY TOKENS [for MINUTES]          tokens set aside for an AI call, by default for 10 minutes
    renew KEY [for MINUTES]                the hold lives longer
    capture KEY [TOKENS] [or nothing]      the call is over and took so many; `or nothing`: refuse what is not there
    void KEY                               the call is off
    holds                                  the holds that are open
    sweep                                  write off what is due; reads never show it, so nobody has to
    restart                                the process ends and another one starts
    balance, lots                          what a member sees
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from tests.conftest import Clock
from tests.scenarios.at_stripe import AtStripe, Event
from tokentill import Till, TillError
from tokentill.core.ledger.holds import TTL_DEFAULT, HoldReceipt
from tokentill.core.ledger.reversals import Policies
from tokentill.core.plans.catalog import EXAMPLE, Catalog
from tokentill.errors import AccountNotFound, InsufficientTokens
from tokentill.services.plans.previewing import ComingCycle
from tokentill.store.journal import Receipt
from tokentill.store.reports import Entry

STORIES = sorted(Path(__file__).parent.glob("*.till"))
WHO = "member"
ANSWERS_AT = 30  # The column in which answers begin.


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path, database: str, clock: Clock, request: pytest.FixtureRequest) -> None:
    story = path.read_text(encoding="utf-8")
    with _player(database, clock) as player:
        played = "".join(f"{line}\n" for asked in story.splitlines() for line in player.play(asked))
    if request.config.getoption("--rewrite"):
        path.write_text(played, encoding="utf-8")
    else:
        assert played == story


@contextmanager
def _player(database: str, clock: Clock) -> Iterator["Player"]:
    player = Player(database, clock)
    try:
        yield player
        assert player.till.reconcile().findings == ()
    finally:
        player.till.close()


class Player:
    """Plays one story's lines, one after the other."""

    def __init__(self, database: str, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.catalog = EXAMPLE
        self.policies = Policies()
        self.stripe = AtStripe(WHO, clock)
        self.told: list[Event] = []  # By Stripe, so far.
        self.till = self._open()
        self.lots: dict[int, str] = {}
        self.holds: dict[str, UUID] = {}
        self.bought: list[str] = []  # Names of what was bought at Stripe, and waits for its lot.
        self.seen = 0  # The last journal row that the story has been told of.

    def _open(self) -> Till:
        return Till(self.database, catalog=self.catalog, policies=self.policies, clock=self.clock)

    def play(self, line: str) -> list[str]:
        """Carry out one line and return it with its answers, one to a line."""
        asked = line.partition("->")[0].rstrip()
        if not asked or asked.startswith("#"):
            return [] if "->" in line and not asked else [line.rstrip()]
        try:
            answer = self._ask(asked)
        except InsufficientTokens as error:
            answer = f"{error.code}, short {error.shortfall_tokens:,}"
        except TillError as error:
            answer = error.code
        first, *more = (f"-> {one}" for one in answer.split("; "))
        return [f"{asked:<{ANSWERS_AT}} {first}" if answer else asked, *(" " * (ANSWERS_AT + 1) + one for one in more)]

    def _ask(self, line: str) -> str:
        till, words = self.till, re.sub(r"(?<=\d),(?=\d)", "", line).split()
        match words:
            case ["at", *when]:
                self.clock.now = _moment(when)
                return ""
            case ["plan", "drip", tokens, *limits]:
                self.catalog = _with_drip_plan(int(tokens), {word: int(n) for word, n in _pairs(limits)})
                return self._restart()
            case ["restart"]:
                return self._restart()
            case ["grant", name, tokens, *until]:
                expires_at = _moment(until[1:]) if until else None
                return self._given(name, till.grant_tokens(WHO, int(tokens), expires_at=expires_at))
            case ["pack", name, pack]:
                return self._given(name, till.record_token_pack_purchase(WHO, pack, session_id=f"cs_{name}"))
            case ["trial", name, tokens, *days]:
                length = int(days[1]) if days else None
                return self._given(name, till.grant_trial_tokens(WHO, int(tokens), days=length))
            case ["annual", name]:
                return self._given(name, till.grant_annual_tokens(WHO, name))
            case ["drip", name, "by", "clock"]:
                return self._given(name, till.drip_tokens_28day(WHO, name, driven_by="clock"))
            case ["drip", name, *cycle]:
                number = int(cycle[0]) if cycle else None
                return self._given(name, till.drip_tokens_28day(WHO, name, cycle_number=number))
            case ["run", "drips"]:
                return "; ".join(self._given("", receipt) for receipt in till.drip_due().receipts) or "none due"
            case ["pause" | "resume" | "cancel" as act, name]:
                acts = {"pause": till.pause_subscription, "resume": till.resume_subscription,
                        "cancel": till.cancel_subscription}  # fmt: skip
                return acts[act](WHO, name).status
            case ["policies", *said]:
                self.policies = _policies(said)
                return self._restart()
            case ["buy" | "refund" | "dispute", *_, "kept", "back"]:
                self._act_at_stripe(words[:-2])
                self.stripe.keep_back()
                return ""
            case ["buy" | "refund" | "dispute", *_]:
                self._act_at_stripe(words)
                return self._hear(self.stripe.news())
            case ["late", "news"]:
                return self._hear(self.stripe.late_news()[::-1])
            case ["repeat", "news"]:
                return self._hear(self.told[::-1])
            case ["preview", "refund", name, dollars]:
                return till.preview_refund(self.stripe.payment(name), _cents(dollars)).sentence
            case ["preview", name, cycles]:
                return "; ".join(_foreseen(one) for one in till.preview(WHO, name, cycles=int(cycles))) or "nothing"
            case ["spend", key, tokens]:
                return self._told(till.spend(WHO, int(tokens), "chat_conversation", idempotency_key=key))
            case ["track", key, tokens, *failed]:
                return self._told(
                    till.track_token_usage(
                        WHO, "chat_conversation", int(tokens), success=not failed, idempotency_key=key
                    )
                )
            case ["deduct", key, tokens, *forced]:
                return self._told(
                    till.record_admin_deduction(WHO, int(tokens), force=bool(forced), idempotency_key=key)
                )
            case ["hold", key, tokens, *length]:
                hold = till.hold(WHO, int(tokens), "chat_conversation", ttl=_ttl(length), idempotency_key=key)
                self.holds[key] = hold.hold_id
                return "" if not hold.is_replay else self._shown(hold)
            case ["renew", key, *length]:
                return self._shown(till.renew(WHO, self.holds[key], ttl=_ttl(length)))
            case ["capture", key, "or", "nothing"]:
                return self._told(till.capture(WHO, self.holds[key], on_insufficient="refuse"))
            case ["capture", key, tokens, "or", "nothing"]:
                return self._told(till.capture(WHO, self.holds[key], int(tokens), on_insufficient="refuse"))
            case ["capture", key, *tokens]:
                return self._told(till.capture(WHO, self.holds[key], int(tokens[0]) if tokens else None))
            case ["void", key]:
                return self._shown(till.void(WHO, self.holds[key]))
            case ["holds"]:
                return "; ".join(self._shown(hold) for hold in till.holds(WHO)) or "none"
            case ["sweep"]:
                swept = till.sweep(WHO)
                return self._deaths(swept) if swept else "nothing was due"
            case ["balance"]:
                return f"{till.balance(WHO).available:,}"
            case ["lots"]:
                return ", ".join(f"{self.lots[lot.lot]} {lot.remaining:,}" for lot in till.lots(WHO)) or "none"
        pytest.fail(f"No such line in a story: {line}")

    def _restart(self) -> str:
        self.till.close()
        self.till = self._open()
        return ""

    def _act_at_stripe(self, words: list[str]) -> None:
        match words:
            case ["buy", name, what, *count]:
                self.stripe.buy(name, what, int(count[0]) if count else 1)
                self.bought.append(name)
            case ["refund", name, "arrives" | "fails" as end]:
                self.stripe.end_refund(name, arrives=end == "arrives")
            case ["refund", name, dollars, *pending]:
                cents = None if dollars == "all" else _cents(dollars)
                self.stripe.refund(name, cents, is_pending=bool(pending))
            case ["dispute", name, "won" | "lost" as end]:
                self.stripe.end_dispute(name, is_won=end == "won")
            case ["dispute", name, *dollars]:
                self.stripe.dispute(name, _cents(dollars[0]) if dollars else None)
            case _:
                pytest.fail(f"No such act at Stripe: {words}")

    def _hear(self, events: list[Event]) -> str:
        """Let the till hear what Stripe tells; say which rows that made, one below the other."""
        for event in events:
            self.till.receive_stripe_event(event)
        # Who a customer is may be told after what they did.
        assert [kept for state in ("received", "failed") for kept in self.till.stripe_events(state=state)] == []
        self.told += [event for event in events if event not in self.told]
        try:
            fresh = [entry for entry in self.till.history(WHO, limit=500)[::-1] if entry.seq > self.seen]
        except AccountNotFound:
            fresh = []
        told = []
        for entry in fresh:
            self.seen = entry.seq
            if entry.type in ("purchase", "drip"):
                self.lots[entry.seq] = self.bought.pop(0)
            elif entry.seq in dict(entry.lot_moves):
                self.lots[entry.seq] = "returned"
            told.append(self._moved(entry))
        return "; ".join(told) or "nothing moves"

    def _moved(self, entry: Entry) -> str:
        """Say what a row moved: + into a lot or into debt, - out of it; and what of a loss is forgiven or pending."""
        moves = [f"{self.lots[lot]} {tokens:+,}" for lot, tokens in entry.lot_moves]
        moves += [f"debt {entry.debt_change:+,}"] if entry.debt_change else []
        if entry.type == "expiration":
            return f"{moves[0]} expired"
        said = entry.detail.get("metadata", {})
        assert isinstance(said, dict)
        for word in ("forgiven", "pending"):
            moves += [f"{word} {tokens:,}"] if (tokens := said.get(f"{word}_tokens")) else []
        return ", ".join(moves) or "nothing is forgiven or pending any more"

    def _given(self, name: str, receipt: Receipt) -> str:
        """Name the lot. A gift needs no answer, unless it repaid a debt; a drip says what it followed."""
        entry = self._entry(receipt)
        if entry.kind == "drip":
            name = f"{entry.detail['subscription_id']}-{entry.detail['cycle_number']}"
            self.lots[receipt.seq] = name
            return f"{self._told(receipt)}, {_report(entry)}"
        if "subscription_id" in entry.detail:
            name = f"{name}-{1 + sum(known.startswith(f'{name}-') for known in self.lots.values())}"
        self.lots.setdefault(receipt.seq, name)
        told = self._told(receipt)
        return told if told != f"{self.lots[receipt.seq]} {receipt.tokens:,}" else ""

    def _shown(self, hold: HoldReceipt) -> str:
        name = next(key for key, hold_id in self.holds.items() if hold_id == hold.hold_id)
        until = f" until {hold.expires_at:%H:%M:%S}" if hold.state == "placed" else ""
        return f"{name} {hold.tokens:,} {hold.state}{until}"

    def _told(self, receipt: Receipt) -> str:
        """Say which lots the row moved, and by the way who died before it."""
        entry = self._entry(receipt)
        moves = [f"{self.lots[lot]} {abs(tokens):,}" for lot, tokens in entry.lot_moves]
        moves += [f"debt {entry.debt_change:+,}"] if entry.debt_change else []
        deaths = self._deaths(receipt)
        return (", ".join(moves) or "nothing") + (f" ({deaths})" if deaths else "")

    def _deaths(self, receipt: Receipt) -> str:
        """Say what expired since the story last heard of a row, up to this one."""
        fresh = [entry for entry in self.till.history(WHO, limit=500)[::-1] if self.seen < entry.seq <= receipt.seq]
        self.seen = max(self.seen, receipt.seq)
        dead = [entry for entry in fresh if entry.type == "expiration"]
        return ", ".join(f"{self.lots[entry.lot_moves[0][0]]} {-entry.tokens:,} expired" for entry in dead)

    def _entry(self, receipt: Receipt) -> Entry:
        (entry,) = self.till.history(WHO, limit=1, before_seq=receipt.seq + 1)
        return entry


def _foreseen(one: ComingCycle) -> str:
    name = f"{one.subscription_id}-{one.cycle_number}"
    owed = f"{name} {one.tokens:,} on {one.owed_at:%Y-%m-%d}" + (" if paid" if one.waits_for == "payment" else "")
    return f"{owed}, rolled over {one.rollover_from_previous:,}, expired {one.expired_tokens:,}"


def _policies(words: list[str]) -> Policies:
    said = dict(_pairs([word for word in words if word != "freeze"]))
    refund, dispute = said.get("refund", "forgive"), said.get("dispute", "debt")
    return Policies(
        refund="debt" if refund == "debt" else "forgive",
        dispute="forgive" if dispute == "forgive" else "debt",
        freezes="freeze" in words,
    )


def _cents(dollars: str) -> int:
    return int(Decimal(dollars) * 100)


def _moment(words: list[str]) -> datetime:
    return datetime.fromisoformat(" ".join(words)).replace(tzinfo=UTC)


def _ttl(words: list[str]) -> timedelta:
    return timedelta(minutes=int(words[1])) if words else TTL_DEFAULT


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


def _with_drip_plan(tokens: int, limits: dict[str, int]) -> Catalog:
    sold = EXAMPLE.only_plan("drip")
    rollover_cycles = limits.get("rollover", sold.rollover_cycles)
    plan = replace(sold, tokens=tokens, rollover_cycles=rollover_cycles, rollover_cap_tokens=limits.get("cap"))
    return replace(EXAMPLE, plans={**EXAMPLE.plans, plan.key: plan})


def _report(drip: Entry) -> str:
    rolled, cycles_count, expired = (
        drip.detail[name] for name in ("rollover_from_previous", "rollover_cycles_count", "expired_tokens")
    )
    return f"rolled over {rolled:,} from {cycles_count}, expired {expired:,}"
