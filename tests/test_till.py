"""The library as its users hold it: the requirements' functions, from threads and from async code."""

import asyncio
import inspect
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import START, Clock
from tokentill import AccountNotFound, IdempotencyConflict, InsufficientTokens, InvalidRequest, Till, TillError
from tokentill.core.plans.catalog import CYCLE
from tokentill.errors import (
    Conflict,
    HoldNotFound,
    InvalidAmount,
    InvalidTime,
    InvalidUserId,
    UnknownAction,
    UnknownPack,
    UnknownPlan,
)
from tokentill.meter import Meter
from tokentill.till.tokens import MeterOptions


def test_each_function_of_the_requirements_writes_its_table(till: Till) -> None:
    till.grant_tokens("ann", 1_000, reason="welcome", created_by="admin:eve")
    till.record_admin_deduction("ann", 100, reason="mistake", created_by="admin:eve")
    till.record_token_pack_purchase("ann", "power", payment_intent_id="pi_1", amount_paid_cents=9_900)
    till.grant_annual_tokens("ann", "sub_year")
    till.grant_trial_tokens("ann")
    till.drip_tokens_28day("ann", "sub_28")
    till.track_token_usage("ann", "chat_conversation", model_used="gpt-5", input_tokens=900, output_tokens=100)

    rows = {(row.kind, row.type, row.detail.get("source")): row.tokens for row in till.history("ann")}
    assert rows == {
        ("transaction", "grant", "admin"): 1_000,
        ("transaction", "deduction", "admin"): -100,
        ("transaction", "purchase", "token_pack"): 2_000_000,
        ("transaction", "grant", "subscription"): 5_000_000,
        ("transaction", "grant", "trial"): 1_000_000,
        ("drip", "drip", None): 375_000,
        ("usage", "chat_conversation", None): -1_000,
    }
    expiries = {lot.kind: lot.expires_at for lot in till.lots("ann")}
    assert expiries == {
        "admin": None,
        "purchase": None,
        "subscription": START + timedelta(days=365),
        "trial": START + timedelta(days=56),
        "drip": START + CYCLE * 4,
    }
    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT actor, act FROM audit_log ORDER BY id").fetchall() == [
            ("admin:eve", "grant"),
            ("admin:eve", "deduct"),
        ]


def test_a_year_and_a_cycle_are_given_once_however_often_they_are_asked_for(till: Till, clock: Clock) -> None:
    first = till.drip_tokens_28day("ann", "sub_28")
    assert till.drip_tokens_28day("ann", "sub_28") == first
    clock.now = START + CYCLE
    assert till.drip_tokens_28day("ann", "sub_28").seq == 2
    with pytest.raises(InvalidTime, match="Cycle 3 begins"):
        till.drip_tokens_28day("ann", "sub_28", cycle_number=3)

    year = till.grant_annual_tokens("ann", "sub_year")
    assert till.grant_annual_tokens("ann", "sub_year") == year


def test_a_subscription_that_our_clock_drives_catches_up(till: Till, clock: Clock) -> None:
    till.drip_tokens_28day("ann", "sub_28", driven_by="clock")
    till.drip_tokens_28day("bob", "sub_by_caller")
    clock.now = START + CYCLE * 6

    run = till.drip_due()

    assert [receipt.effective_at for receipt in run.receipts] == [START + CYCLE * n for n in range(1, 7)]
    assert till.drip_due().receipts == ()
    assert till.balance("ann").balance == 4 * 375_000
    assert till.balance("bob").balance == 0, "its one cycle has died, and nobody paid for another"


def test_usage_that_has_happened_is_recorded_into_debt_and_repaid_by_the_next_grant(till: Till) -> None:
    till.grant_tokens("ann", 100)
    till.track_token_usage("ann", "chat_conversation", 250)
    assert (till.balance("ann").balance, till.balance("ann").debt) == (-150, 150)

    till.grant_tokens("ann", 200)

    assert (till.balance("ann").balance, till.balance("ann").debt) == (50, 0)
    assert till.explain("ann").adds_up


def test_a_failed_operation_is_recorded_and_free(till: Till) -> None:
    till.grant_tokens("ann", 100)

    till.track_token_usage("ann", "chat_conversation", input_tokens=50, output_tokens=0, success=False,
                           error_message="the model was overloaded", cost_estimate=Decimal("0.0125"))  # fmt: skip

    [row, _] = till.history("ann")
    assert row.tokens == 0
    assert (row.detail["input_tokens"], row.detail["success"]) == (50, False)
    assert Decimal(str(row.detail["cost_estimate"])) == Decimal("0.0125")


def test_pools_are_kept_and_are_the_counts_where_none_are_given(till: Till) -> None:
    till.grant_tokens("ann", 10_000)

    till.spend("ann", None, "chat_conversation", pools={"input_uncached": 700, "cache_read": 200, "output_text": 100})
    till.spend("ann", None, "transcription", pools={"seconds": 30})

    transcription, chat = till.history("ann", limit=2)
    assert chat.tokens == -1_000
    assert (chat.detail["input_tokens"], chat.detail["output_tokens"]) == (900, 100)
    assert chat.detail["pools"] == {"input_uncached": 700, "cache_read": 200, "output_text": 100}
    assert transcription.tokens == -60
    with pytest.raises(InvalidAmount):  # Seconds alone do not say how many tokens: never silently 0.
        till.spend("ann", None, "chat_conversation", pools={"seconds": 30})


def test_fixed_actions_cost_their_fixed_tokens(till: Till) -> None:
    till.grant_tokens("ann", 100)
    for action in ("image_generation", "audio_generation", "transcription"):
        till.track_token_usage("ann", action)
    assert till.balance("ann").balance == 100 - 25 - 1 - 60


def test_what_has_expired_is_not_shown_and_not_spendable_before_any_sweep(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 100, expires_at=START + timedelta(days=1))
    till.grant_tokens("ann", 7)
    clock.advance(days=1)

    assert till.balance("ann").balance == 7
    assert [lot.remaining for lot in till.lots("ann")] == [7]
    with pytest.raises(InsufficientTokens) as caught:
        till.spend("ann", 8, "chat_conversation")
    assert (caught.value.requested_tokens, caught.value.available_tokens, caught.value.shortfall_tokens) == (8, 7, 1)
    assert till.sweep("ann") is not None
    assert till.sweep("ann") is None
    assert till.balance("ann").balance == 7


def test_an_async_caller_awaits(till: Till) -> None:
    till.grant_tokens("ann", 1_000)

    async def spend_many() -> list[int]:
        answers = [till.submit(till.asking.spend("ann", 10, "chat_conversation")) for _ in range(100)]
        receipts = await asyncio.gather(*answers)
        return [receipt.seq for receipt in receipts if receipt is not None]

    assert sorted(asyncio.run(spend_many())) == list(range(2, 102))
    with pytest.raises(InsufficientTokens):
        asyncio.run(_await_one(till))


async def _await_one(till: Till) -> None:
    await till.submit(till.asking.spend("ann", 10, "chat_conversation"))


@pytest.mark.parametrize(
    "name", ["x", "auth0|42", "ann@example.com", "ÄÖ 日本 🦊", " ", "x" * 255, "../../etc", "'; --"]
)
def test_any_text_up_to_255_characters_names_a_user(till: Till, name: str) -> None:
    till.grant_tokens(name, 5)
    assert till.balance(name).name == name


def test_a_uuid_names_itself_however_it_is_written(till: Till) -> None:
    user = UUID("a9f0e61a-137d-42aa-9db9-465c0db59a29")
    till.grant_tokens(str(user).upper(), 5)
    assert till.balance(user).user_id == user
    till.grant_tokens("a9f0e61a-137d-42aa-9db9-465c0db59a2", 1)  # One digit short: a text like any other.
    assert till.balance("a9f0e61a-137d-42aa-9db9-465c0db59a2").balance == 1


BAD: list[tuple[str, type[TillError]]] = [
    ("till.grant_tokens('ann', -5)", InvalidAmount),
    ("till.grant_tokens('ann', 0)", InvalidAmount),
    ("till.grant_tokens('ann', 1.5)", InvalidAmount),
    ("till.grant_tokens('ann', 1.0)", InvalidAmount),
    ("till.grant_tokens('ann', True)", InvalidAmount),
    ("till.grant_tokens('ann', '5')", InvalidAmount),
    ("till.grant_tokens('ann', 2**53)", InvalidAmount),
    ("till.grant_tokens('ann', 10**40)", InvalidAmount),
    ("till.grant_tokens('ann', 2**53 - 1)", InvalidAmount),  # The balance would pass the bound.
    ("till.grant_tokens('', 5)", InvalidUserId),
    ("till.grant_tokens('x' * 256, 5)", InvalidUserId),
    ("till.grant_tokens('a\\x00b', 5)", InvalidUserId),
    ("till.grant_tokens('\\ud800', 5)", InvalidUserId),
    ("till.grant_tokens(None, 5)", InvalidUserId),
    ("till.grant_tokens('ann', 5, reason='a\\x00b')", InvalidRequest),
    ("till.grant_tokens('ann', 5, metadata={'a': float('nan')})", InvalidRequest),
    ("till.grant_tokens('ann', 5, metadata={'a': 'x' * 20000})", InvalidRequest),
    ("till.grant_tokens('ann', 5, metadata={'a': 'nul \\x00'})", InvalidRequest),
    ("till.grant_tokens('ann', 5, metadata={'a': '\\ud800'})", InvalidRequest),
    ("till.grant_tokens('ann', 5, expires_at=START)", InvalidTime),
    ("till.grant_tokens('ann', 5, expires_at=START.replace(tzinfo=None))", InvalidTime),
    ("till.grant_tokens('ann', 5, idempotency_key='')", InvalidRequest),
    ("till.grant_tokens('ann', 5, idempotency_key='k' * 256)", InvalidRequest),
    ("till.record_admin_deduction('ann', 11)", InsufficientTokens),
    ("till.record_admin_deduction('nobody', 1)", AccountNotFound),
    ("till.record_admin_deduction('ann', -1)", InvalidAmount),
    ("till.record_token_pack_purchase('ann', 'gigantic')", UnknownPack),
    ("till.record_token_pack_purchase('ann', 'power', quantity=0)", InvalidAmount),
    ("till.record_token_pack_purchase('ann', 'power', amount_paid_cents=-1)", InvalidAmount),
    ("till.drip_tokens_28day('ann', 'sub', plan='monthly')", UnknownPlan),
    ("till.drip_tokens_28day('ann', '')", InvalidRequest),
    ("till.drip_tokens_28day('ann', 'sub', cycle_number=0)", InvalidAmount),
    ("till.spend('ann', 11, 'chat_conversation')", InsufficientTokens),
    ("till.spend('ann', -1, 'chat_conversation')", InvalidAmount),
    ("till.spend('ann', 1, 'mind_reading')", UnknownAction),
    ("till.spend('ann', 1, None)", UnknownAction),
    ("till.spend('ann', None, 'chat_conversation')", InvalidAmount),
    ("till.spend('nobody', 1, 'chat_conversation')", AccountNotFound),
    ("till.spend('ann', 1, 'chat_conversation', model_used='m' * 300)", InvalidRequest),
    ("till.spend('ann', 1, 'chat_conversation', cost_estimate=-1)", InvalidAmount),
    ("till.spend('ann', 1, 'chat_conversation', cost_estimate=float('inf'))", InvalidAmount),
    ("till.spend('ann', 1, 'chat_conversation', on_insufficient='maybe')", InvalidRequest),
    ("till.spend('ann', 1, 'chat_conversation', pools={'thoughts': 5})", InvalidRequest),
    ("till.spend('ann', 1, 'chat_conversation', pools={'reasoning': -5})", InvalidRequest),
    ("till.spend('ann', 1, 'chat_conversation', occurred_at=START.replace(year=2030))", InvalidTime),
    ("till.balance('nobody')", AccountNotFound),
    ("till.history('nobody')", AccountNotFound),
    ("till.history('ann', limit=0)", InvalidAmount),
    ("till.explain('nobody')", AccountNotFound),
]


@pytest.mark.parametrize(("call", "error"), BAD)
def test_bad_input_gets_a_clear_error_and_changes_nothing(till: Till, call: str, error: type[TillError]) -> None:
    till.grant_tokens("ann", 10)
    before = till.history("ann")

    with pytest.raises(error) as caught:
        eval(call, {"till": till, "START": START})  # noqa: S307  # The table's own text.

    assert caught.value.detail.endswith((".", ")"))
    assert till.history("ann") == before


def test_a_closed_till_says_so(database: str) -> None:
    till = Till(database)
    till.close()
    till.close()
    with pytest.raises(TillError, match="closed"):
        till.grant_tokens("ann", 1)


def test_a_call_for_todays_cycle_leaves_none_before_it_out(till: Till, clock: Clock) -> None:
    assert not till.drip_tokens_28day("ann", "sub", driven_by="clock").is_replay
    assert till.drip_tokens_28day("ann", "sub").is_replay
    clock.now = START + CYCLE * 2 + timedelta(days=1)

    today = till.drip_tokens_28day("ann", "sub", driven_by="clock")
    assert (today.is_replay, today.effective_at) == (False, START + CYCLE * 2)

    drips = [row.detail["cycle_number"] for row in till.history("ann") if row.kind == "drip"]
    assert drips == [3, 2, 1]
    assert till.drip_due().receipts == ()


def test_a_cycle_that_is_refused_starts_nothing(till: Till, clock: Clock) -> None:
    with pytest.raises(InvalidTime):
        till.drip_tokens_28day("ann", "sub", cycle_number=2, driven_by="clock")
    clock.advance(days=100)

    assert till.drip_due().receipts == ()
    with pytest.raises(AccountNotFound):
        till.balance("ann")


def test_a_plan_is_given_by_the_function_of_its_kind(till: Till) -> None:
    with pytest.raises(UnknownPlan):
        till.drip_tokens_28day("ann", "sub", plan="vision_pro_annual")
    with pytest.raises(UnknownPlan):
        till.grant_annual_tokens("ann", "sub", plan="vision_pro_28day")


def test_a_subscription_is_driven_one_way(till: Till) -> None:
    till.drip_tokens_28day("ann", "sub")
    with pytest.raises(Conflict, match="driven by"):
        till.drip_tokens_28day("ann", "sub", driven_by="clock")


def test_one_subscription_that_cannot_be_served_keeps_nobody_waiting(till: Till, clock: Clock) -> None:
    for user in ("ann", "bob", "cyd"):
        till.drip_tokens_28day(user, "sub", driven_by="clock")
    with psycopg.connect(till.url) as conn:
        conn.execute("UPDATE token_subscriptions SET plan_key = 'gone' WHERE user_id = till_user_id('bob')")
    clock.now = START + CYCLE

    run = till.drip_due()

    assert len(run.receipts) == 2
    assert [(subscription.external_id, error.code) for subscription, error in run.failures] == [("bob", "unknown_plan")]


def test_one_payment_is_one_purchase_by_whichever_of_its_names(till: Till) -> None:
    first = till.record_token_pack_purchase("ann", "power", payment_intent_id="pi_1", session_id="cs_1")
    assert till.record_token_pack_purchase("ann", "power", payment_intent_id="pi_1") == first
    assert till.record_token_pack_purchase("ann", "power", session_id="cs_1", idempotency_key="mine") == first
    with pytest.raises(IdempotencyConflict):
        till.record_token_pack_purchase("ann", "power", session_id="cs_2", idempotency_key="mine")

    assert till.record_token_pack_purchase("ann", "mega", session_id="cs_1").tokens == 5_000_000


def test_one_subscription_has_one_trial(till: Till) -> None:
    first = till.grant_trial_tokens("ann", subscription_id="sub", idempotency_key="a")
    assert till.grant_trial_tokens("ann", subscription_id="sub", idempotency_key="b") == first
    assert till.grant_trial_tokens("ann", subscription_id="sub") == first


def test_a_grant_is_repeated_when_its_tokens_have_long_expired(till: Till, clock: Clock) -> None:
    tomorrow = START + timedelta(days=1)
    first = till.grant_tokens("ann", 5, expires_at=tomorrow, idempotency_key="gift")
    clock.advance(days=2)

    assert till.grant_tokens("ann", 5, expires_at=tomorrow, idempotency_key="gift") == first


def test_an_explanation_shows_nothing_that_is_due(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 5, expires_at=START + timedelta(days=1))
    till.grant_tokens("ann", 7)
    then = clock.now
    clock.advance(days=2)

    now = till.explain("ann")
    assert (now.balance, now.due_tokens, now.adds_up) == (7, 5, True)
    before = till.explain("ann", at=then)
    assert (before.balance, before.due_tokens, before.adds_up) == (12, 0, True)


def test_a_process_whose_clock_is_behind_explains_the_same(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("ann", 5)
    with Till(database, clock=Clock(clock.now - timedelta(minutes=1))) as behind:
        behind.spend("ann", 1, "chat_conversation")
        assert behind.explain("ann").balance == 4
        assert behind.explain("ann", at=behind.clock()).adds_up


def test_a_sweep_here_does_not_believe_that_nothing_came_from_there(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("ann", 5)
    with Till(database, clock=clock) as other:
        other.grant_tokens("ann", 50, expires_at=START + timedelta(days=1))
    clock.advance(days=2)

    receipt = till.sweep("ann")
    assert receipt is not None
    assert receipt.tokens == -50


def test_a_callback_that_waits_for_another_answer_is_told_so(till: Till) -> None:
    till.grant_tokens("ann", 5)
    said: list[BaseException] = []

    def again(_: object) -> None:
        try:
            till.spend("ann", 1, "chat_conversation")
        except RuntimeError as error:
            said.append(error)

    with till.context.engine._inbox._lock:  # No lane can take it before the callback is in place.
        answer = till.submit(till.asking.spend("ann", 1, "chat_conversation"))
        answer.add_done_callback(again)
    answer.result()
    till.spend("ann", 1, "chat_conversation")  # Answered by a later batch: the callback is over.

    assert ["callback" in str(error) for error in said] == [True]


def test_one_purchase_told_by_several_names_at_once_is_one(till: Till) -> None:
    """All in one batch, and then each name alone."""
    asked = [("pi_1", "cs_1"), ("pi_1", None), ("pi_2", "cs_1")]
    with till.context.engine._inbox._lock:  # So that one batch takes them all.
        answers = [
            till.submit(till.asking.purchase("ann", "power", payment_intent_id=intent, session_id=session))
            for intent, session in asked
        ]
    assert len({answer.result() for answer in answers}) == 1
    for intent, session in asked:
        till.record_token_pack_purchase("ann", "power", payment_intent_id=intent)
        till.record_token_pack_purchase("ann", "power", payment_intent_id=intent, session_id=session)

    assert till.balance("ann").balance == 2_000_000


def test_a_name_that_a_repeat_teaches_is_known_to_its_neighbours(till: Till) -> None:
    till.record_token_pack_purchase("ann", "power", session_id="cs_1")
    with till.context.engine._inbox._lock:  # So that one batch takes them all.
        answers = [
            till.submit(till.asking.purchase("ann", "power", payment_intent_id="pi_1", session_id="cs_1")),
            till.submit(till.asking.purchase("ann", "power", payment_intent_id="pi_1")),
        ]

    assert len({answer.result() for answer in answers}) == 1
    assert till.balance("ann").balance == 2_000_000


# -- holds -------------------------------------------------------------------------------------------------------------


def test_tokens_are_set_aside_and_captured(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 1_000)

    hold = till.hold("ann", 400, "chat_conversation", ttl=timedelta(minutes=1), model="gpt-5", metadata={"chat": 7})
    assert (hold.state, hold.expires_at) == ("placed", START + timedelta(minutes=1))
    assert till.holds("ann") == [hold]
    explained = till.explain("ann")
    assert (explained.balance, explained.held) == (1_000, 400)
    clock.advance(seconds=30)
    receipt = till.capture("ann", hold.hold_id, 250, input_tokens=200, output_tokens=50, cost_estimate="0.5")

    assert (receipt.type, receipt.tokens, receipt.balance_after) == ("chat_conversation", -250, 750)
    detail = till.history("ann")[0].detail
    assert (detail["hold_id"], detail["model_used"]) == (str(hold.hold_id), "gpt-5")
    assert till.holds("ann") == []
    (closed,) = till.holds("ann", include_closed=True)
    assert (closed.state, closed.captured_seq, closed.closed_at) == ("captured", 2, clock.now)
    assert closed.metadata == {"chat": 7}
    assert (till.explain("ann").held, till.explain("ann", at=START).held) == (0, 400)


def test_a_hold_is_named_by_its_id_in_any_form(till: Till) -> None:
    till.grant_tokens("ann", 1_000)
    hold = till.hold("ann", 1, "chat_conversation")

    found = [till.find_hold("ann", which) for which in (hold.hold_id, str(hold.hold_id), hold.hold_id.hex, hold.id)]

    assert found == [hold] * 4
    for which in ("", "nonsense", hold.id.replace("hold_", "hold_f"), "hold_" + "0" * 64, 7, None, UUID(int=7)):
        with pytest.raises(HoldNotFound):
            till.find_hold("ann", which)  # type: ignore[arg-type]  # the world sends anything


def test_a_callers_uuid7_is_the_holds_id(till: Till) -> None:
    till.grant_tokens("ann", 1_000)
    key = "0198c9f0-6c1e-7a4b-9d39-3f0f6f1f5a11"

    assert till.hold("ann", 1, "chat_conversation", idempotency_key=key).hold_id == UUID(key)


@pytest.mark.parametrize("ttl", [0, -1, 86_401, True, 1.5, "60", None, timedelta(0), timedelta(hours=25)])
def test_a_hold_lives_from_a_second_to_a_day(till: Till, ttl: object) -> None:
    till.grant_tokens("ann", 1_000)

    with pytest.raises(InvalidTime):
        till.hold("ann", 1, "chat_conversation", ttl=ttl)  # type: ignore[arg-type]  # the world sends anything
    for lives in (1, 86_400, timedelta(seconds=1.5)):
        till.hold("ann", 1, "chat_conversation", ttl=lives)


def test_a_capture_is_charged_as_told_or_by_the_actions_rule_or_in_full(till: Till) -> None:
    till.grant_tokens("ann", 10_000)

    def captured(action: str = "chat_conversation", tokens: int | None = None, **details: Any) -> int:
        return -till.capture("ann", till.hold("ann", 400, action).hold_id, tokens, **details).tokens

    assert captured() == 400
    assert captured(tokens=7) == 7
    assert captured(tokens=0) == 0
    assert captured(input_tokens=100, output_tokens=20) == 120
    assert captured(pools={"input_uncached": 90, "output_text": 9}) == 99
    assert captured(pools={"input_uncached": 90, "output_text": 9}, tokens=7) == 7
    assert captured("image_generation", input_tokens=100) == 25
    assert captured("image_generation") == 400
    assert captured("image_generation", input_tokens=100, action_type="chat_conversation") == 100
    assert captured(success=False, input_tokens=100) == 0
    with pytest.raises(HoldNotFound):
        till.capture("ann", UUID(int=7), input_tokens=1)
    with pytest.raises(InvalidRequest):
        captured(on_insufficient="ignore")
    with pytest.raises(TypeError):
        captured(colour="red")


def test_the_tills_options_of_a_meter_are_the_meters() -> None:
    taken = inspect.signature(Meter).parameters.keys() - {"till", "user", "action"}

    assert MeterOptions.__annotations__.keys() == taken


def test_a_model_may_be_named_either_way_wherever_one_is_named(till: Till) -> None:
    till.grant_tokens("ann", 10_000)

    assert till.hold("ann", 10, "chat_conversation", model_used="gpt-5").model == "gpt-5"
    assert till.meter("ann", "chat_conversation", model_used="gpt-5").model == "gpt-5"
    assert till.tokens_for("chat_conversation", 10, 20, model_used="gpt-5") == 30
    for asked in (
        lambda: till.hold("ann", 10, "chat_conversation", model="gpt-5", model_used="gpt-4"),
        lambda: till.meter("ann", "chat_conversation", model="gpt-5", model_used="gpt-4"),
        lambda: till.tokens_for("chat_conversation", 10, 20, model="gpt-5", model_used="gpt-4"),
    ):
        with pytest.raises(InvalidRequest, match="they are one thing, so give one"):
            asked()


@pytest.mark.parametrize("reading", ["balance", "history", "holds", "explain", "lots"])
def test_a_closed_till_says_so_of_reads_too(database: str, reading: str) -> None:
    till = Till(database)
    till.grant_tokens("ann", 1)
    till.close()

    with pytest.raises(TillError, match="The till is closed"):
        getattr(till, reading)("ann")
