"""The catalog in the database: seeded, versioned, followed by every process, and no business of what was granted."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from tests.conftest import Clock
from tests.stripe_double import StripeDouble
from tokentill import Till
from tokentill.core.plans.catalog import EXAMPLE, Catalog
from tokentill.core.plans.price_lists import as_json
from tokentill.errors import Conflict, SchemaMissing, UnknownPack
from tokentill.store.db import connect


def price_list(**packs: Any) -> dict[str, Any]:
    """The example with these packs changed; None: left out."""
    raw: dict[str, Any] = as_json(EXAMPLE)
    for key, changes in packs.items():
        if changes is None:
            del raw["packs"][key]
        else:
            raw["packs"][key] = raw["packs"].get(key, {}) | changes
    return raw


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(sql.encode()).fetchall()


def test_a_new_database_sells_the_example(till: Till) -> None:
    assert till.read_catalog() == (1, EXAMPLE)
    assert till.catalog == EXAMPLE


def test_an_edit_is_a_new_version_of_what_it_changes_and_of_nothing_else(till: Till) -> None:
    edit = till.edit_catalog(price_list(mega={"price_cents": 24_900}), created_by="ann")

    assert (edit.revision, till.catalog.pack("mega").price_cents) == (2, 24_900)
    found = rows(till.url, "SELECT key, version, price_cents, created_by FROM catalog_packs ORDER BY key, version")
    assert found == [
        ("mega", 1, 19_900, "tokentill"), ("mega", 2, 24_900, "ann"), ("power", 1, 9_900, "tokentill"),
        ("ultra", 1, 39_900, "tokentill"),
    ]  # fmt: skip
    assert rows(till.url, "SELECT count(*) FROM catalog_plans") == [(2,)]
    [(actor, act, detail)] = rows(till.url, "SELECT actor, act, detail FROM audit_log")
    assert (actor, act) == ("ann", "edit catalog")
    change = {"what": "pack mega", "field": "price_cents", "before": 19_900, "after": 24_900}
    assert detail == {"revision": 2, "changes": [change]}


def test_every_field_comes_back_as_it_was_written(till: Till) -> None:
    raw: dict[str, Any] = {
        "trial": {"tokens": 7, "days": 3},
        "plans": {"weekly": {
            "name": "Weekly", "kind": "drip", "price_cents": 0, "currency": "eur", "tokens": 5, "rollover_cycles": 1,
            "rollover_cap_tokens": 9, "price_ids": ["price_2", "price_1"], "stripe_price_id": "price_1",
            "is_active": False,
        }},
        "packs": {"tiny": {"name": "Tiny", "price_cents": 1, "currency": "jpy", "tokens": 1, "price_ids": ["price_3"]}},
    }  # fmt: skip

    edit = till.edit_catalog(raw, created_by="ann")

    assert till.catalog == edit.catalog
    written: Any = as_json(till.catalog)
    assert written["plans"]["weekly"] == raw["plans"]["weekly"]
    assert written["packs"]["tiny"] == raw["packs"]["tiny"] | {"stripe_price_id": None, "is_active": True}
    assert (till.catalog.trial_tokens, till.catalog.trial_days) == (7, 3)


def test_saying_the_same_again_writes_nothing(till: Till) -> None:
    edited = price_list(mega={"price_cents": 24_900})
    till.edit_catalog(edited, created_by="ann")

    again = till.edit_catalog(edited, created_by="ann")

    assert (again.revision, again.changes) == (2, ())
    assert rows(till.url, "SELECT count(*) FROM audit_log") == [(1,)]


def test_a_dry_run_says_what_would_change_and_changes_nothing(till: Till) -> None:
    planned = till.edit_catalog(price_list(mega=None), created_by="ann", dry_run=True)

    assert [(change.what, change.field) for change in planned.changes] == [("pack mega", "is_active")]
    assert till.read_catalog() == (1, EXAMPLE)


def test_a_running_till_follows_what_another_process_edits(till: Till, clock: Clock) -> None:
    assert "tiny" not in till.catalog.packs
    with Till(till.url, clock=clock) as other:
        other.edit_catalog(price_list(tiny={"name": "Tiny", "price_cents": 1, "tokens": 1}), created_by="ann")

    assert till.record_token_pack_purchase("bob", "tiny", session_id="cs_1").tokens == 1


def test_asking_for_the_catalog_waits_for_no_other_connection(till: Till) -> None:
    """Whoever asks may hold one of the pool's already: eight who did could wait for each other for ever."""
    with ExitStack() as held:
        for _ in range(till.context.pool.max_size):
            held.enter_context(till.context.connection())

        assert till.catalog == EXAMPLE


def test_the_catalog_is_found_again_when_the_connection_was_lost(till: Till) -> None:
    assert till.catalog == EXAMPLE
    with psycopg.connect(till.url, autocommit=True) as conn:
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
        conn.execute(sql, [conn.info.backend_pid])

    assert till.catalog == EXAMPLE


def test_a_spend_never_asks_for_the_catalog(till: Till) -> None:
    till.grant_tokens("bob", 10)
    with psycopg.connect(till.url) as conn:
        conn.execute("DROP TABLE catalog_revisions CASCADE")

    assert till.spend("bob", 4, "chat_conversation").balance_after == 6
    assert till.hold("bob", 4, "chat_conversation").tokens == 4
    with pytest.raises(SchemaMissing, match="catalog_revisions"):
        till.record_token_pack_purchase("bob", "mega", session_id="cs_1")


def test_a_catalog_given_to_a_till_outranks_the_databases(database: str, clock: Clock) -> None:
    with Till(database, clock=clock, catalog=Catalog()) as till:
        till.edit_catalog(price_list(mega={"tokens": 1}), created_by="ann")
        with pytest.raises(UnknownPack):
            till.record_token_pack_purchase("bob", "mega", session_id="cs_1")


def test_an_edit_touches_nothing_that_was_granted(till: Till) -> None:
    till.record_token_pack_purchase("bob", "mega", session_id="cs_1")
    till.drip_tokens_28day("bob", "sub_1")
    before, lots = till.balance("bob"), till.lots("bob")

    changed = price_list(mega={"tokens": 1})
    changed["plans"]["vision_pro_28day"] |= {"tokens": 1, "rollover_cycles": 0}
    till.edit_catalog(changed, created_by="ann")
    till.edit_catalog({}, created_by="ann")

    assert (till.balance("bob"), till.lots("bob")) == (before, lots)


def test_what_was_retired_while_somebody_paid_is_granted_all_the_same(till: Till, clock: Clock) -> None:
    with StripeDouble(clock=clock) as double:
        session = double.make_session({
            "mode": "payment", "success_url": "https://app.example", "client_reference_id": "bob",
            "customer_creation": "always", "metadata": {"pack_id": "mega"},
            "line_items": [{"price_data": {"currency": "usd", "unit_amount": 19_900,
                                           "product_data": {"name": "Mega"}}}],
        })  # fmt: skip
        till.edit_catalog(price_list(mega=None), created_by="ann")
        double.pay(session["id"])
        double.hand(till.receive_stripe_event)

    assert till.balance("bob").balance == EXAMPLE.pack("mega").tokens


def test_a_successor_at_the_same_price_is_what_an_amount_means(till: Till, clock: Clock) -> None:
    """Where nothing but the amount says what was sold, the retired pack of that price is not in the way."""
    till.edit_catalog(
        price_list(mega=None, giga={"name": "Giga", "price_cents": 19_900, "tokens": 6_000_000}), created_by="ann"
    )
    with StripeDouble(clock=clock) as double:
        session = double.make_session({
            "mode": "payment", "success_url": "https://app.example", "client_reference_id": "bob",
            "customer_creation": "always",
            "line_items": [{"price_data": {"currency": "usd", "unit_amount": 19_900,
                                           "product_data": {"name": "?"}}}],
        })  # fmt: skip
        double.pay(session["id"])
        double.hand(till.receive_stripe_event)

    assert till.balance("bob").balance == 6_000_000


def test_whoever_edits_an_older_revision_is_told(till: Till) -> None:
    till.edit_catalog(price_list(mega={"tokens": 1}), created_by="ann", revision=1)

    with pytest.raises(Conflict, match="it is at revision 2"):
        till.edit_catalog(price_list(power={"tokens": 1}), created_by="bob", revision=1)
    assert till.catalog.pack("power") == EXAMPLE.pack("power")


def test_edits_at_the_same_moment_come_one_after_the_other(till: Till) -> None:
    """Each is a whole catalog: the last one counts, and every one is a revision of its own."""
    edits = [price_list(mega={"tokens": number}) for number in range(1, 17)]

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda raw: till.edit_catalog(raw, created_by="ann"), edits))

    assert sorted(edit.revision for edit in done) == list(range(2, 18))
    last = max(done, key=lambda edit: edit.revision)
    assert till.read_catalog() == (17, last.catalog)


@pytest.mark.parametrize("table", ["catalog_revisions", "catalog_plans", "catalog_packs", "catalog_trials"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET created_by = 'x'"])
def test_the_service_may_not_change_what_was_sold(till: Till, table: str, statement: str) -> None:
    with connect(till.url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.format(table).encode())


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE catalog_packs SET tokens = 0", "catalog_packs_tokens_positive"),
        ("UPDATE catalog_packs SET price_cents = -1", "catalog_packs_price_not_negative"),
        ("UPDATE catalog_packs SET stripe_price_id = 'price_1'", "catalog_packs_price_id_is_named"),
        ("UPDATE catalog_packs SET currency = 'USD'", "catalog_packs_currency"),
        ("UPDATE catalog_packs SET key = 'A b'", "catalog_packs_key"),
        ("UPDATE catalog_plans SET tokens = 0", "catalog_plans_tokens_positive"),
        ("UPDATE catalog_plans SET price_cents = -1", "catalog_plans_price_not_negative"),
        ("UPDATE catalog_plans SET stripe_price_id = 'price_1'", "catalog_plans_price_id_is_named"),
        ("UPDATE catalog_plans SET currency = 'USD'", "catalog_plans_currency"),
        ("UPDATE catalog_plans SET key = 'A b'", "catalog_plans_key"),
        ("UPDATE catalog_plans SET kind = 'weekly'", "catalog_plans_kind"),
        ("UPDATE catalog_plans SET rollover_cycles = -1", "catalog_plans_rollover_not_negative"),
        ("UPDATE catalog_plans SET rollover_cap_tokens = 0", "catalog_plans_rollover_cap_positive"),
        ("UPDATE catalog_trials SET tokens = 0", "catalog_trials_tokens_positive"),
        ("UPDATE catalog_trials SET days = 0", "catalog_trials_days_positive"),
    ],
)
def test_the_tables_refuse_a_catalog_that_makes_no_sense(till: Till, statement: str, constraint: str) -> None:
    with psycopg.connect(till.url) as conn, pytest.raises(psycopg.errors.CheckViolation) as caught:
        conn.execute(statement.encode())
    assert caught.value.diag.constraint_name == constraint
