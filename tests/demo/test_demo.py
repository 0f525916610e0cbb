"""The demo's numbers, computed by hand from its story: what a till that is right must come to."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.demo.run import Json, demo, member, pages
from tokentill.store import demo_database

NAMES = ("Dana", "Yusuf", "Mira", "Theo", "Leo", "Ines", "Omar")

# 375,000 tokens a cycle, alive for their own cycle and three more; the soonest to expire burn first. So:
# spent in cycle 1: 75,000 (of lot 1), 2: 40,000 (1), 3: 160,000 (1), 4: 30,000 (1), 5: 375,000 (2) + 80,000 (3),
# 6: 95,000 (3), 20,000 of them before its invoice came two days late, 7: 25,000 (4), 8: 10,000 (5).
DRIPS = {  # cycle: (rollover_from_previous, rollover_cycles_count, expired_tokens, balance_after)
    1: (0, 0, 0, 375_000),
    2: (300_000, 1, 0, 675_000),
    3: (260_000 + 375_000, 2, 0, 1_010_000),
    4: (100_000 + 2 * 375_000, 3, 0, 1_225_000),
    5: (3 * 375_000, 3, 70_000, 1_500_000 + 2_000_000),
    6: (275_000 + 2 * 375_000, 3, 0, 1_400_000 + 2_000_000),
    7: (3 * 375_000, 3, 200_000, 1_500_000 + 2_000_000),
    8: (3 * 375_000, 3, 350_000, 1_500_000 + 2_000_000),
}


def rows(name: str, *, kind: str | None = None, type_: str | None = None) -> list[Json]:
    found = member(name)["history"]
    return [row for row in found if kind in (None, row["kind"]) and type_ in (None, row["type"])]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_document_says_all_it_promises() -> None:
    document = demo()

    assert [one["name"] for one in document["members"]] == list(NAMES)
    assert {"queries", "findings", "proof", "requests", "seconds"} <= document.keys()
    assert document["requests"] > 250


def test_the_books_are_proved() -> None:
    document = demo()

    assert document["findings"] == []
    journal = sum(document["proof"][name] for name in ("transactions", "drips", "usage"))
    assert document["proof"]["accounts"] == len(NAMES)
    assert journal == sum(len(one["history"]) for one in document["members"])


def test_every_balance_is_what_the_story_leaves() -> None:
    assert {name: member(name)["balance"] for name in NAMES} == {
        "Dana": 365_000 + 3 * 375_000 + 2_000_000,
        "Yusuf": 5_000_000 - 4 * 25 - 500_000 + 5_000_000,
        "Mira": 9_000_000 - 180_000 - 6 * 25 - 3 * 60 - 8_000 - 3_000_000 - 1_800_000 - 3_000_000 - 1_008_000 - 1_200,
        "Theo": 50_000 - 10_000 - 15_000,
        "Leo": 2_000_000 - 1_200_000,  # The fourth pack, less what he owed of the third.
        "Ines": 2 * 375_000,
        "Omar": 4 * 375_000,
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_token_is_accounted_for_by_the_history_alone(name: str) -> None:
    balance, left = 0, dict[int, int]()
    for number, row in enumerate(rows(name), start=1):
        assert row["seq"] == number
        assert row["balance_before"] == balance
        balance = row["balance_after"]
        assert balance - row["balance_before"] == row["tokens"]
        assert sum(tokens for _, tokens in row["lot_moves"]) - row["debt_change"] == row["tokens"]
        for lot, tokens in row["lot_moves"]:
            left[lot] = left.get(lot, 0) + tokens
            assert left[lot] >= 0

    assert balance == member(name)["balance"]
    assert {lot: tokens for lot, tokens in left.items() if tokens} == {
        lot["lot"]: lot["remaining"] for lot in member(name)["lots"]
    }


@pytest.mark.parametrize("cycle", DRIPS)
def test_unspent_tokens_roll_over_three_times_and_then_expire(cycle: int) -> None:
    drips = {row["detail"]["cycle_number"]: row for row in rows("Dana", kind="drip")}
    drip, detail = drips[cycle], drips[cycle]["detail"]

    assert drip["tokens"] == 375_000
    assert (
        detail["rollover_from_previous"], detail["rollover_cycles_count"], detail["expired_tokens"],
        drip["balance_after"],
    ) == DRIPS[cycle]  # fmt: skip


def test_each_death_has_its_own_row() -> None:
    deaths = [(row["detail"]["metadata"]["cycle_number"], row["tokens"]) for row in rows("Dana", type_="expiration")]

    assert deaths == [(1, -70_000), (3, -200_000), (4, -350_000)]  # Of cycle 2 nothing was left.


def test_cycles_follow_each_other_every_28_days_even_if_the_invoice_is_late() -> None:
    drips = rows("Dana", kind="drip")
    starts = [moment(row["detail"]["billing_period_start"]) for row in drips]

    # The first was granted by the checkout, a minute before its invoice told when the period begins.
    assert [later - earlier for earlier, later in pairwise(starts[1:])] == [timedelta(days=28)] * 6
    assert starts[1] - starts[0] == timedelta(days=28, minutes=1)
    waits = [moment(row["created_at"]) - start for row, start in zip(drips, starts, strict=True)]
    assert [number for number, wait in enumerate(waits, start=1) if wait > timedelta(days=1)] == [6]


def test_what_stripe_tells_twice_is_granted_once() -> None:
    assert [row["detail"]["cycle_number"] for row in rows("Dana", kind="drip")] == list(range(1, 9))
    first_year = [row for row in rows("Yusuf", type_="grant") if moment(row["created_at"]) - moment(row["effective_at"])
                  > timedelta(days=200)]  # fmt: skip
    assert len(first_year) == 1


@pytest.mark.parametrize(("name", "pack_tokens"), [("Dana", 2_000_000), ("Yusuf", 5_000_000)])
def test_no_renewal_and_no_expiry_touches_a_pack(name: str, pack_tokens: int) -> None:
    (pack,) = [lot for lot in member(name)["lots"] if lot["kind"] == "purchase"]

    assert (pack["granted"], pack["remaining"], pack["expires_at"]) == (pack_tokens, pack_tokens, None)
    assert [row["type"] for row in rows(name) if pack["lot"] in dict(row["lot_moves"])] == ["purchase"]


def test_a_year_that_ends_takes_only_its_own_rest_along() -> None:
    last_year, this_year = rows("Yusuf", type_="grant")
    (ended,) = rows("Yusuf", type_="expiration")

    assert ended["lot_moves"] == [[last_year["seq"], -(5_000_000 - 1_800_000 - 1_200_000)]]
    assert moment(ended["effective_at"]) == moment(last_year["effective_at"]) + timedelta(days=365)
    assert (this_year["tokens"], this_year["seq"]) == (5_000_000, ended["seq"] + 1)


def test_a_pack_is_known_by_its_name_or_by_its_amount_and_granted_when_paid() -> None:
    bought = [
        (row["detail"]["token_pack_id"], row["tokens"], row["detail"]["amount_paid_cents"])
        for row in rows("Mira", type_="purchase")
    ]
    assert bought == [("power", 2_000_000, 4_900), ("mega", 5_000_000, 19_900), ("power", 2_000_000, 9_900)]

    by_link = rows("Mira", type_="purchase")[2]
    by_debit = rows("Mira", type_="purchase")[1]
    assert moment(by_link["created_at"]) - moment(by_debit["created_at"]) == timedelta(days=63, hours=6, minutes=30)


def test_a_refused_spend_leaves_no_row() -> None:
    spent = rows("Mira", type_="assessment_scoring")

    assert [row["tokens"] for row in spent] == [-84_000] * 12
    assert rows("Mira")[-1]["tokens"] == -1_200
    assert [row["tokens"] for row in rows("Theo", type_="deduction")] == [-15_000]


def test_a_failed_call_is_kept_and_free() -> None:
    failed = [row for row in rows("Mira", kind="usage") if not row["detail"]["success"]]

    assert [(row["type"], row["tokens"], row["lot_moves"]) for row in failed] == [("vision_refinement", 0, [])]
    assert failed[0]["detail"]["input_tokens"] == 7_400
    assert failed[0]["detail"]["error_message"] == "the stream broke off"


def test_a_request_repeated_with_its_key_happens_once() -> None:
    refined = [row for row in rows("Mira", type_="vision_refinement") if row["detail"]["success"]]

    assert [row["tokens"] for row in refined] == [-8_000]


def test_the_action_decides_what_a_call_takes() -> None:
    assert {row["tokens"] for row in rows("Mira", type_="image_generation")} == {-25}
    assert {row["tokens"] for row in rows("Mira", type_="transcription")} == {-60}
    assert {row["tokens"] for row in rows("Mira", type_="chat_conversation")} == {-(8_000 + 1_000)}


def test_calls_cost_what_the_provider_asks_for_them() -> None:
    def cents(name: str, action: str) -> Decimal:
        return Decimal(rows(name, type_=action)[0]["detail"]["cost_estimate"])

    # gpt-4o: $2.50 and $10 a million. claude-sonnet-4-5: $3, $0.30 from cache, $15.
    assert cents("Dana", "chat_conversation") == Decimal("0.00025") * 6_200 + Decimal("0.001") * 1_300
    assert cents("Yusuf", "life_vision_master_assembly") == (
        Decimal("0.0003") * 4_000 + Decimal("0.00003") * 80_000 + Decimal("0.0015") * 6_000
    )


def test_a_trial_ends_after_56_days_and_a_gift_does_not() -> None:
    trial, gift = rows("Theo", type_="grant")
    (ended,) = rows("Theo", type_="expiration")

    assert (trial["tokens"], gift["tokens"], ended["tokens"]) == (1_000_000, 50_000, -880_000)
    assert moment(ended["effective_at"]) - moment(trial["effective_at"]) == timedelta(days=56)
    assert gift["detail"]["reason"] == "Sorry for last night's outage"
    assert [lot["kind"] for lot in member("Theo")["lots"]] == ["admin"]


def test_a_partial_refund_takes_what_is_unspent_of_its_part_once_and_forgives_the_rest() -> None:
    (refunded,) = [row for row in rows("Leo", type_="refund") if row["detail"]["metadata"]["refunded_cents"]]
    facts = refunded["detail"]["metadata"]

    assert (facts["refunded_cents"], facts["target_tokens"]) == (4_950, 1_000_000)
    assert (refunded["tokens"], facts["forgiven_tokens"], refunded["debt_change"]) == (-800_000, 200_000, 0)


def test_a_dispute_that_is_won_gives_back_what_it_took() -> None:
    opened, won = rows("Leo", type_="refund")[1:3]

    assert (opened["tokens"], opened["detail"]["metadata"]["pending_tokens"]) == (-1_500_000, 500_000)
    assert (won["tokens"], won["lot_moves"]) == (1_500_000, [[lot, -taken] for lot, taken in opened["lot_moves"]])


def test_a_dispute_that_is_lost_becomes_a_debt_which_the_next_pack_pays() -> None:
    opened, lost = rows("Leo", type_="refund")[3:]
    *_, bought = rows("Leo", type_="purchase")

    assert (opened["tokens"], opened["debt_change"]) == (-800_000, 0)
    assert (lost["tokens"], lost["debt_change"], lost["balance_after"]) == (-1_200_000, 1_200_000, -1_200_000)
    assert (bought["tokens"], bought["debt_change"], bought["balance_after"]) == (2_000_000, -1_200_000, 800_000)


def test_a_trial_lives_on_beside_the_plan_that_it_became() -> None:
    (trial,) = rows("Ines", type_="grant")
    first, second = rows("Ines", kind="drip")
    (ended,) = rows("Ines", type_="expiration")

    assert (trial["tokens"], ended["tokens"]) == (1_000_000, -(1_000_000 - 200_000 - 300_000))
    assert moment(ended["effective_at"]) - moment(trial["effective_at"]) == timedelta(days=56)
    assert [row["detail"]["cycle_number"] for row in (first, second)] == [1, 2]
    assert moment(first["effective_at"]) - moment(trial["effective_at"]) == timedelta(days=14)


def test_a_worker_that_comes_late_gives_every_cycle_as_of_its_own_time() -> None:
    drips = rows("Omar", kind="drip")
    starts = [moment(row["effective_at"]) for row in drips]
    late = [(moment(row["created_at"]) - start).days for row, start in zip(drips, starts, strict=True)]

    assert [row["detail"]["cycle_number"] for row in drips] == list(range(1, 8))
    assert [later - earlier for earlier, later in pairwise(starts)] == [timedelta(days=28)] * 6
    assert late == [0, 0, 140 - 72, 140 - 100, 140 - 128, 0, 0]
    assert [row["tokens"] for row in rows("Omar", type_="expiration")] == [-275_000, -375_000, -375_000]


def test_every_query_of_the_app_is_answered() -> None:
    assert [query["error"] for query in demo()["queries"] if query["error"]] == []


def test_run_again_it_shows_the_same_to_people() -> None:
    printed = pages()

    assert "books proved: 7 accounts, 405 journal rows, 0 findings" in printed
    for one in demo()["members"]:
        assert f"Balance {one['balance']:,}" in printed
    assert "402 insufficient_tokens" in printed


def test_its_pages_fit_100_columns() -> None:
    assert [line for line in pages().splitlines() if len(line) > 100] == []


def test_a_demo_that_is_running_is_left_alone(server_url: str) -> None:
    first = demo_database.make(server_url)
    names = [conninfo_to_dict(first)["dbname"]]
    try:
        with psycopg.connect(first) as conn:
            names.append(conninfo_to_dict(demo_database.make(server_url))["dbname"])
            assert conn.execute("SELECT 1").fetchone() == (1,)
        assert names[0] != names[1]
    finally:
        with psycopg.connect(make_conninfo(server_url, dbname="postgres"), autocommit=True) as conn:
            for name in names:
                conn.execute(f"DROP DATABASE IF EXISTS {name}".encode())
