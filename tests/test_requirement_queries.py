"""Every SQL query of the requirements, unchanged but for its placeholder, gives the right rows.

The queries ran in the demo's database. What they must return is worked out here from the members' histories in the
demo's document, in Python: the same SQL would only agree with itself.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.run import Json, demo
from tokentill.demo import queries

REQUIREMENTS = Path(__file__).resolve().parents[1] / "../shared/requirements"

Row = dict[str, Any]


def blocks() -> Iterator[tuple[str, str]]:
    """Yield each document's number and each of its blocks of SQL; without the documents, our copies of them."""
    if not REQUIREMENTS.is_dir():
        yield from copies()
        return
    for document in sorted(REQUIREMENTS.glob("*.txt")):
        for block in re.findall(r"```sql\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
            yield document.name.partition("_")[0], block


def copies() -> Iterator[tuple[str, str]]:
    folder = Path(queries.__file__).parent / "queries"
    for path in sorted(folder.glob("public/*.sql")):
        yield "000", path.read_text("utf-8")
    for path in sorted(folder.glob("unified/*.sql")):
        yield "004" if "current_state" in path.name else "002", path.read_text("utf-8")


def numbered() -> Iterator[tuple[str, str]]:
    """Yield each statement, named by its document and its place in it."""
    seen: Counter[str] = Counter()
    for document, block in blocks():
        for statement in (part.strip() for part in block.split(";")):
            if statement:
                seen[document] += 1
                yield f"{document}.{seen[document]}", statement


STATEMENTS = dict(numbered())


# -- What they must return: all rows, and the column they are ordered by (newest or largest first) --------------------


def transactions(member: Json) -> list[Row]:
    told = ("source", "reason", "created_by", "token_pack_id", "subscription_id", "amount_paid_cents", "currency",
            "stripe_payment_intent_id", "stripe_session_id", "stripe_invoice_id")  # fmt: skip
    return [
        {
            "user_id": member["uuid"],
            "seq": row["seq"],
            "transaction_type": row["type"],
            "token_amount": row["tokens"],
            "balance_before": row["balance_before"],
            "balance_after": row["balance_after"],
            "created_at": row["created_at"],
            "effective_at": row["effective_at"],
            **{name: row["detail"].get(name) for name in told},
        }
        for row in of_kind(member, "transaction")
    ]


def drips(member: Json) -> list[Row]:
    told = ("subscription_id", "cycle_number", "rollover_from_previous", "rollover_cycles_count", "expired_tokens",
            "billing_period_start", "billing_period_end")  # fmt: skip
    return [
        {
            "user_id": member["uuid"],
            "seq": row["seq"],
            "drip_date": row["detail"]["billing_period_start"],
            "drip_amount": row["tokens"],
            "balance_before": row["balance_before"],
            "balance_after": row["balance_after"],
            **{name: row["detail"][name] for name in told},
        }
        for row in of_kind(member, "drip")
    ]


def usage(member: Json) -> list[Row]:
    told = ("model_used", "input_tokens", "output_tokens", "cost_estimate", "success", "error_message")
    return [
        {
            "user_id": member["uuid"],
            "seq": row["seq"],
            "action_type": row["type"],
            "tokens_used": -row["tokens"],
            "balance_before": row["balance_before"],
            "balance_after": row["balance_after"],
            "created_at": row["created_at"],
            **{name: row["detail"].get(name) for name in told},
        }
        for row in of_kind(member, "usage")
    ]


def everything(member: Json) -> list[Row]:
    return [
        {
            "type": row["kind"],
            "created_at": row["detail"]["billing_period_start"] if row["kind"] == "drip" else row["created_at"],
            "token_amount": row["tokens"],
            "transaction_type": row["type"],
        }
        for row in member["history"]
    ]


GRANTS = ("admin_grant", "subscription_grant", "trial_grant", "token_pack_purchase")


def old_action(row: Json) -> str:
    """What a row was called when everything was kept in one table."""
    if row["kind"] == "usage":
        return str(row["type"])
    if row["type"] == "purchase":
        return "token_pack_purchase"
    if row["type"] == "expiration":
        return "expiration"
    if row["type"] == "refund":  # A word of its own: no admin did it, and the old tables knew no money that moves back.
        return "refund"
    if row["type"] == "deduction" or row["tokens"] < 0:
        return "admin_deduct"
    source = "subscription" if row["kind"] == "drip" else row["detail"]["source"]
    return {"subscription": "subscription_grant", "trial": "trial_grant", "admin": "admin_grant"}[source]


def old_history(member: Json) -> list[Row]:
    return [
        {
            "created_at": row["created_at"],
            "action_type": old_action(row),
            "tokens_used": abs(row["tokens"]),
            "change": ("+" if old_action(row) in GRANTS else "-") + str(abs(row["tokens"])),
            "metadata": row["detail"].get("metadata", {}),
        }
        for row in member["history"]
    ]


def all_grants() -> list[Row]:
    found = []
    for action in GRANTS:
        rows = [row for row in every_row() if old_action(row) == action]
        dates = sorted(row["created_at"] for row in rows)
        found.append({
            "action_type": action,
            "grant_count": len(rows),
            "total_tokens_granted": str(sum(row["tokens"] for row in rows)),
            "first_grant": dates[0],
            "last_grant": dates[-1],
        })  # fmt: skip
    return found


def financial_state() -> list[Row]:
    """Grants are negative in the old `token_transactions`, so it is they that its query adds up."""
    rows = [row for row in every_row() if row["kind"] != "usage"]
    return [
        {
            "action_type": action,
            "count": len(alike),
            "total_grants": str(sum(row["tokens"] for row in alike if row["tokens"] > 0)),
        }
        for action in {old_action(row) for row in rows}
        if (alike := [row for row in rows if old_action(row) == action])
    ]


def admin_state() -> list[Row]:
    found = []
    for action in ("admin_grant", "admin_deduct"):
        alike = [row for row in every_row() if old_action(row) == action]
        found.append({
            "action_type": action, "count": len(alike), "total_tokens": str(sum(abs(row["tokens"]) for row in alike)),
        })  # fmt: skip
    return found


def without_admin_grant() -> list[Row]:
    return [
        {"user_id": member["uuid"]}
        for member in demo()["members"]
        if any(row["kind"] != "usage" for row in member["history"])
        and all(old_action(row) != "admin_grant" for row in member["history"])
    ]


def of_kind(member: Json, kind: str) -> list[Json]:
    return [row for row in member["history"] if row["kind"] == kind]


def every_row() -> list[Json]:
    return [row for member in demo()["members"] for row in member["history"]]


ABOUT_A_MEMBER: dict[str, tuple[Callable[[Json], list[Row]], str]] = {
    "000.1": (transactions, "created_at"),
    "000.2": (drips, "drip_date"),
    "000.3": (usage, "created_at"),
    "000.4": (everything, "created_at"),
    "002.2": (old_history, "created_at"),
}
ABOUT_ALL: dict[str, tuple[Callable[[], list[Row]], str | None]] = {
    "002.1": (all_grants, "total_tokens_granted"),
    "004.1": (financial_state, None),
    "004.2": (admin_state, None),
    "004.3": (without_admin_grant, None),
}


# -- The tests ---------------------------------------------------------------------------------------------------------


def test_every_query_of_the_requirements_is_held_to_something() -> None:
    assert STATEMENTS.keys() == {*ABOUT_A_MEMBER, *ABOUT_ALL}


def test_our_copies_are_the_requirements_own_words() -> None:
    assert sorted(copies()) == sorted(blocks())


@pytest.mark.parametrize("name", ["Dana", "Yusuf", "Mira", "Theo", "Leo", "Ines", "Omar"])
@pytest.mark.parametrize("number", ABOUT_A_MEMBER)
def test_a_query_about_a_member_returns_their_rows(number: str, name: str) -> None:
    expected, ordered_by = ABOUT_A_MEMBER[number]
    member = next(one for one in demo()["members"] if one["name"] == name)
    placeholder = "'USER_ID_HERE'" if number.startswith("002") else "'USER_ID'"

    check(STATEMENTS[number].replace(placeholder, f"'{member['uuid']}'"), expected(member), ordered_by)


@pytest.mark.parametrize("number", ABOUT_ALL)
def test_a_query_about_all_returns_the_right_sums(number: str) -> None:
    expected, ordered_by = ABOUT_ALL[number]

    check(STATEMENTS[number], expected(), ordered_by)


def check(sql: str, expected: list[Row], ordered_by: str | None) -> None:
    """The query that reads exactly so returned these rows, in its order; rows of one moment in any."""
    (query,) = [query for query in demo()["queries"] if query["sql"] == sql]
    found = [dict(zip(query["columns"], row, strict=True)) for row in query["rows"]]
    assert query["error"] is None
    assert all(len(set(query["columns"])) == len(row) for row in query["rows"])

    compared = list(expected[0]) if expected else []
    assert sorted((shown(row, compared) for row in found), key=repr) == sorted(
        (shown(row, compared) for row in expected), key=repr
    )
    if ordered_by == "total_tokens_granted":
        assert [int(row[ordered_by]) for row in found] == sorted((int(row[ordered_by]) for row in found), reverse=True)
    elif ordered_by:
        moments = [row[ordered_by] for row in found]
        assert moments == sorted(moments, reverse=True)


def shown(row: Row, columns: list[str]) -> list[Any]:
    return [row[column] for column in columns]
