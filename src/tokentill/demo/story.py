"""The demo's story: 200 days of seven members, day by day. Read it like a diary; `player` carries it out.

Ids and amounts never change; only the calendar moves, so that the last day is yesterday.
"""

from collections.abc import Mapping
from datetime import timedelta

from tokentill.demo.acts import (
    Act,
    AdminAdjusts,
    AppStartsPlan,
    Billing,
    BuysPack,
    CallsAi,
    Disputed,
    InvoicePaid,
    LooksAtBalance,
    Member,
    PaymentArrives,
    Refunded,
    RequestedAgain,
    SentAgain,
    SubscribesAtCheckout,
    SubscriptionTold,
    TrialBegins,
    TriesPlan,
    WorkerRuns,
)
from tokentill.samples.stripe import NEW, OLD

DAYS = 200

DANA = Member(user_id="dana", name="Dana", about="28-day subscriber who saves, and owns a pack")
YUSUF = Member(user_id="auth0|yusuf", name="Yusuf", about="annual subscriber, with a pack beside the plan")
MIRA = Member(user_id="mira", name="Mira", about="buys packs, and uses them up")
THEO = Member(user_id="7f6c2a9e-0c1e-4d58-9b5e-3f2b8a41d6c0", name="Theo", about="on trial, with an admin's help")
LEO = Member(user_id="leo", name="Leo", about="buys packs, and wants his money back")
INES = Member(user_id="ines", name="Ines", about="tries a plan, then pays for it")
OMAR = Member(user_id="omar", name="Omar", about="on the app's own plan, while the worker is away")
MEMBERS = (DANA, YUSUF, MIRA, THEO, LEO, INES, OMAR)

# Whose answer is shown where one of the app's queries is asked about every member.
SHOWN_ABOUT: Mapping[str, Member] = {
    "public/all_financial_transactions": LEO,
    "public/subscription_drips": DANA,
    "public/ai_usage": MIRA,
    "public/everything_together": DANA,
    "unified/complete_token_history": THEO,
}

EVERY_28_DAYS = Billing(
    subscription_id="sub_demo_dana", plan_key="vision_pro_28day", price_id="price_demo_28day", cents=9_900,
    interval=("day", 28), period=timedelta(days=28), begins=(1, "09:01"),
)  # fmt: skip
# The first year began long before the till did: Stripe sends its events again when the till opens.
YEARLY = Billing(
    subscription_id="sub_demo_yusuf", plan_key="vision_pro_annual", price_id="price_demo_annual", cents=99_900,
    interval=("year", 1), period=timedelta(days=365), begins=(-245, "14:00"),
)  # fmt: skip

# After 14 days on trial.
AFTER_TRIAL = Billing(
    subscription_id="sub_demo_ines", plan_key="vision_pro_28day", price_id="price_demo_28day", cents=9_900,
    interval=("day", 28), period=timedelta(days=28), begins=(144, "12:00"),
)  # fmt: skip

# A launch price that is in no catalog: only the metadata says which pack it was.
LAUNCH_PACK = BuysPack(session_id="cs_test_demo_mira_1", cents=4_900, named="power", api_version=OLD)
DEBIT_PACK = BuysPack(
    session_id="cs_test_demo_mira_2", cents=19_900, named="mega", api_version=NEW, is_paid=False
)  # fmt: skip
# A payment link without any metadata: only the amount says it.
LINK_PACK = BuysPack(session_id="cs_test_demo_mira_3", cents=9_900, named=None, api_version=NEW)

# Leo's, each a power pack: one is refunded in half, two are disputed, the last one is left alone.
REFUNDED_PACK, WON_PACK, LOST_PACK, LAST_PACK = (
    BuysPack(session_id=f"cs_test_demo_leo_{number}", cents=9_900, named="power", api_version=NEW)
    for number in range(1, 5)
)

GPT_4O, GPT_41, GPT_5 = "gpt-4o-2024-08-06", "gpt-4.1-2025-04-14", "gpt-5-2025-08-07"
SONNET, HAIKU = "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"


def _chats(count: int, *, tokens_in: int, tokens_out: int, cached: int = 0) -> CallsAi:
    return CallsAi(
        action="chat_conversation", shape="chat", model=GPT_4O, count=count, tokens_in=tokens_in, cached=cached,
        tokens_out=tokens_out,
    )  # fmt: skip


def _blueprints(count: int) -> CallsAi:
    return CallsAi(
        action="blueprint_generation", shape="messages", model=SONNET, count=count, tokens_in=92_000, cached=80_000,
        tokens_out=8_000,
    )  # fmt: skip


# Every cycle gives Dana 375,000 tokens, which live for that cycle and three more. She leaves most of them, so from the
# fifth cycle on some expire; her pack never does.
_DANA = (
    Act(1, "09:00", DANA, "subscribes to the 28-day plan", SubscribesAtCheckout(EVERY_28_DAYS, OLD)),
    Act(1, "09:02", DANA, "first invoice: the cycle she has", InvoicePaid(EVERY_28_DAYS, 1, OLD)),
    Act(1, "09:03", DANA, "Stripe sends that event again", SentAgain()),
    Act(4, "18:00", DANA, "10 chats", _chats(10, tokens_in=6_200, tokens_out=1_300)),
    Act(29, "10:02", DANA, "cycle 2 is paid", InvoicePaid(EVERY_28_DAYS, 2, OLD)),
    Act(33, "18:00", DANA, "8 prompt suggestions", CallsAi(
        action="prompt_suggestions", shape="responses", model=GPT_41, count=8, tokens_in=4_000, tokens_out=1_000)),
    Act(57, "10:02", DANA, "cycle 3 is paid", InvoicePaid(EVERY_28_DAYS, 3, OLD)),
    Act(61, "18:00", DANA, "8 visions, with reasoning", CallsAi(
        action="vision_generation", shape="responses", model=GPT_5, count=8, tokens_in=14_000, tokens_out=6_000,
        reasoning=4_500)),
    Act(85, "10:02", DANA, "cycle 4 is paid (new API version)", InvoicePaid(EVERY_28_DAYS, 4, NEW)),
    Act(90, "12:00", DANA, "buys a power pack", BuysPack(
        session_id="cs_test_demo_dana_1", cents=9_900, named="power", api_version=NEW)),
    Act(96, "18:00", DANA, "6 chats", _chats(6, tokens_in=4_000, tokens_out=1_000)),
    Act(113, "10:02", DANA, "cycle 5 is paid; cycle 1's rest dies", InvoicePaid(EVERY_28_DAYS, 5, NEW)),
    Act(120, "18:00", DANA, "13 blueprints", CallsAi(
        action="blueprint_generation", shape="messages", model=SONNET, count=13, tokens_in=31_000, cached=24_000,
        tokens_out=4_000)),
    Act(142, "18:00", DANA, "4 chats, while the card is refused", _chats(4, tokens_in=4_000, tokens_out=1_000)),
    Act(143, "11:00", DANA, "cycle 6 is paid, two days late", InvoicePaid(EVERY_28_DAYS, 6, NEW)),
    Act(150, "18:00", DANA, "10 chats", _chats(10, tokens_in=6_200, tokens_out=1_300, cached=2_048)),
    Act(169, "10:02", DANA, "cycle 7 is paid; cycle 3's rest dies", InvoicePaid(EVERY_28_DAYS, 7, NEW)),
    Act(175, "18:00", DANA, "5 chats", _chats(5, tokens_in=4_000, tokens_out=1_000)),
    Act(197, "10:02", DANA, "cycle 8 is paid; cycle 4's rest dies", InvoicePaid(EVERY_28_DAYS, 8, NEW)),
    Act(198, "18:00", DANA, "2 chats", _chats(2, tokens_in=4_000, tokens_out=1_000)),
)  # fmt: skip

# Yusuf's year ends on day 120: the old year's rest dies, the new year's tokens come, his pack stays.
_YUSUF = (
    Act(2, "10:00", YUSUF, "last year's invoice, sent once more", InvoicePaid(YEARLY, 1, NEW)),
    Act(2, "10:01", YUSUF, "last year's checkout, after its invoice",
        SubscribesAtCheckout(YEARLY, NEW, session_day=-245)),
    Act(15, "11:00", YUSUF, "20 long messages, mostly from cache", CallsAi(
        action="life_vision_master_assembly", shape="messages", model=SONNET, count=20, tokens_in=84_000,
        cached=80_000, tokens_out=6_000)),
    Act(40, "16:00", YUSUF, "buys a mega pack", BuysPack(
        session_id="cs_test_demo_yusuf_1", cents=19_900, named="mega", api_version=NEW)),
    Act(60, "11:00", YUSUF, "12 category summaries", CallsAi(
        action="life_vision_category_summary", shape="messages", model=HAIKU, count=12, tokens_in=94_000,
        tokens_out=6_000)),
    Act(120, "15:00", YUSUF, "renews: the old year's rest dies", InvoicePaid(YEARLY, 2, NEW)),
    Act(130, "11:00", YUSUF, "4 images at 25 tokens each", CallsAi(
        action="image_generation", shape="image", model="gpt-image-1", count=4, tokens_in=60, tokens_out=4_160)),
    Act(150, "11:00", YUSUF, "10 frequency flips", CallsAi(
        action="frequency_flip", shape="responses", model=GPT_41, count=10, tokens_in=46_000, cached=30_000,
        tokens_out=4_000)),
)  # fmt: skip

# Mira buys 9 million tokens in three ways, and works them down to almost nothing.
_MIRA = (
    Act(5, "13:00", MIRA, "power pack at $49: metadata names it", LAUNCH_PACK),
    Act(6, "09:00", MIRA, "20 chats", _chats(20, tokens_in=8_000, tokens_out=1_000, cached=6_016)),
    Act(9, "09:00", MIRA, "6 images at 25 tokens each", CallsAi(
        action="image_generation", shape="image", model="gpt-image-1", count=6, tokens_in=40, tokens_out=1_056)),
    Act(10, "09:00", MIRA, "3 transcriptions at 60 tokens each", CallsAi(
        action="transcription", shape="transcription", model="whisper-1", count=3, seconds=95)),
    Act(20, "09:00", MIRA, "an AI call fails: kept, and free", CallsAi(
        action="vision_refinement", shape="messages", model=SONNET, tokens_in=7_400,
        error="the stream broke off")),
    Act(21, "09:00", MIRA, "a vision is refined", CallsAi(
        action="vision_refinement", shape="messages", model=SONNET, tokens_in=7_400, tokens_out=600)),
    Act(21, "09:01", MIRA, "the same request again, same key", RequestedAgain()),
    Act(33, "13:00", MIRA, "mega pack by bank debit: not paid yet", DEBIT_PACK),
    Act(37, "06:30", MIRA, "the debit arrives", PaymentArrives(DEBIT_PACK)),
    Act(45, "09:00", MIRA, "25 blueprints, from cache", CallsAi(
        action="blueprint_generation", shape="messages", model=SONNET, count=25, tokens_in=112_000, cached=90_000,
        tokens_out=8_000)),
    Act(75, "09:00", MIRA, "30 visions, with reasoning", CallsAi(
        action="vision_generation", shape="responses", model=GPT_5, count=30, tokens_in=48_000, tokens_out=12_000,
        reasoning=9_000)),
    Act(100, "13:00", MIRA, "power pack by link: its amount tells", LINK_PACK),
    Act(110, "09:00", MIRA, "24 master assemblies", CallsAi(
        action="life_vision_master_assembly", shape="messages", model=SONNET, count=24, tokens_in=117_000,
        cached=60_000, tokens_out=8_000)),
    Act(155, "09:00", MIRA, "12 assessments", CallsAi(
        action="assessment_scoring", shape="responses", model=GPT_41, count=12, tokens_in=80_000, tokens_out=4_000)),
    Act(160, "09:00", MIRA, "one more asks for more than is left", refused=True, deed=CallsAi(
        action="assessment_scoring", shape="responses", model=GPT_41, tokens_in=18_000, tokens_out=2_000)),
    Act(161, "09:00", MIRA, "a small one still goes through", CallsAi(
        action="prompt_suggestions", shape="responses", model=GPT_41, tokens_in=900, tokens_out=300)),
)  # fmt: skip

# Theo tries the app; most of his trial expires unspent, and what the admin gave him does not.
_THEO = (
    Act(10, "08:00", THEO, "trial: 1,000,000 tokens for 56 days", TrialBegins()),
    Act(12, "20:00", THEO, "8 chats", _chats(8, tokens_in=13_000, tokens_out=2_000)),
    Act(20, "10:00", THEO, "admin adds 50,000", AdminAdjusts(50_000, "Sorry for last night's outage")),
    Act(66, "12:00", THEO, "the trial is over: a look shows it", LooksAtBalance()),
    Act(70, "20:00", THEO, "2 chats, from the admin's gift", _chats(2, tokens_in=4_000, tokens_out=1_000)),
    Act(101, "10:00", THEO, "admin deducts 15,000", AdminAdjusts(-15_000, "Outage was credited twice")),
    Act(102, "10:00", THEO, "admin tries to deduct 90,000", AdminAdjusts(-90_000, "Typing error"), refused=True),
)  # fmt: skip

# Each pack is 2,000,000 tokens. A refund takes what is unspent of its part, and forgives the rest. An open dispute
# takes what is unspent, too; won, it gives that back, and lost, Leo owes what he has spent.
_LEO = (
    Act(7, "13:00", LEO, "buys a power pack", REFUNDED_PACK),
    Act(8, "09:00", LEO, "12 blueprints", _blueprints(12)),
    Act(11, "15:00", LEO, "half of it is refunded: $49.50", Refunded(REFUNDED_PACK, 4_950)),
    Act(11, "15:01", LEO, "Stripe sends that event again", SentAgain()),
    Act(30, "13:00", LEO, "buys another power pack", WON_PACK),
    Act(31, "09:00", LEO, "5 blueprints", _blueprints(5)),
    Act(41, "16:00", LEO, "his bank disputes that payment", Disputed(WON_PACK, "open")),
    Act(42, "09:00", LEO, "a chat: his tokens are gone for now", _chats(1, tokens_in=4_000, tokens_out=1_000),
        refused=True),
    Act(77, "10:00", LEO, "the dispute is won: they come back", Disputed(WON_PACK, "won")),
    Act(80, "13:00", LEO, "buys a third power pack", LOST_PACK),
    Act(82, "09:00", LEO, "27 blueprints", _blueprints(27)),
    Act(95, "16:00", LEO, "that payment is disputed, too", Disputed(LOST_PACK, "open")),
    Act(133, "10:00", LEO, "the dispute is lost: a debt", Disputed(LOST_PACK, "lost")),
    Act(134, "13:00", LEO, "buys a fourth: it pays the debt first", LAST_PACK),
)  # fmt: skip

# Ines's trial gives 1,000,000 tokens for 56 days, whatever she pays for meanwhile.
_INES = (
    Act(130, "12:00", INES, "starts the 28-day plan with a trial", TriesPlan(AFTER_TRIAL, NEW)),
    Act(130, "12:01", INES, "Stripe tells that subscription", SubscriptionTold(
        billing=AFTER_TRIAL, trial=timedelta(days=14), api_version=NEW)),
    Act(135, "20:00", INES, "20 chats", _chats(20, tokens_in=8_000, tokens_out=2_000)),
    Act(144, "13:00", INES, "the trial becomes a paid plan", InvoicePaid(AFTER_TRIAL, 1, NEW, ends_trial=True)),
    Act(150, "20:00", INES, "30 chats, from what expires first", _chats(30, tokens_in=8_000, tokens_out=2_000)),
    Act(172, "13:00", INES, "cycle 2 is paid", InvoicePaid(AFTER_TRIAL, 2, NEW)),
    Act(187, "03:00", INES, "the worker sweeps the trial's rest", WorkerRuns()),
)  # fmt: skip

# Nobody bills Omar: his cycles fall due on days 44, 72, 100, 128, 156 and 184, and the worker gives them.
_OMAR = (
    Act(16, "00:00", OMAR, "the app starts a plan of its own", AppStartsPlan("friend-of-the-house")),
    Act(20, "20:00", OMAR, "20 chats", _chats(20, tokens_in=4_000, tokens_out=1_000)),
    Act(44, "00:01", OMAR, "the worker gives cycle 2", WorkerRuns()),
    Act(140, "08:00", OMAR, "10 weeks late: cycles 3, 4, 5 at once", WorkerRuns()),
    Act(156, "00:01", OMAR, "on time again: cycle 6; 2's rest dies", WorkerRuns()),
    Act(184, "00:01", OMAR, "cycle 7; cycle 3's rest dies", WorkerRuns()),
)  # fmt: skip

STORY = tuple(sorted((*_DANA, *_YUSUF, *_MIRA, *_THEO, *_LEO, *_INES, *_OMAR), key=lambda act: (act.day, act.at)))
