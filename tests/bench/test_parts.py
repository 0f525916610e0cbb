"""The parts of a bench: believable books, who spends, meters, and baselines that write what the till writes."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.bench.conftest import TINY
from tokentill import Till
from tokentill.bench import ground, load, meters
from tokentill.bench.baselines import running
from tokentill.bench.filling import GRANTED, fill, member
from tokentill.bench.options import Options
from tokentill.ids import utc_now
from tokentill.store import embedded


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(("accounts", "rows", "lots"), [(7, 1000, 3), (50, 20, 1), (3, 0, 2)])
def test_the_history_is_right_and_the_till_goes_on_from_it(database: str, accounts: int, rows: int, lots: int) -> None:
    fill(database, accounts=accounts, lots=lots, rows=rows, tell=quiet)

    with Till(database) as till:
        proof = till.reconcile()
        assert proof.findings == ()
        assert proof.counts == {
            "accounts": accounts, "lots": accounts * lots, "transactions": accounts * lots, "drips": 0, "usage": rows,
            "holds": 0,
        }  # fmt: skip
        before = till.balance(member(0))
        receipt = till.spend(member(0), 10, load.ACTION)
        assert (receipt.seq, receipt.balance_before) == (before.seq + 1, before.balance)
        assert before.balance + before.lifetime_tokens_used == lots * GRANTED
        assert till.reconcile().findings == ()


def test_the_history_has_time_ordered_keys_each_of_its_row(database: str) -> None:
    fill(database, accounts=7, lots=1, rows=500, tell=quiet)

    with psycopg.connect(database) as conn:
        sql = """
            SELECT k.key, k.seq = u.seq FROM usage_keys k JOIN token_usage u ON u.idempotency_key = k.key
             WHERE u.user_id = k.user_id AND u.created_at = k.created_at
        """
        found = conn.execute(sql).fetchall()
    assert len({key for key, _ in found}) == 500
    assert all(is_same and key.version == 7 for key, is_same in found)


def test_the_whole_cost_of_the_history_is_in_the_accounts(database: str) -> None:
    fill(database, accounts=7, lots=1, rows=1500, tell=quiet)

    with psycopg.connect(database) as conn:
        sql = """
            SELECT (SELECT (sum(lifetime_cost), sum(lifetime_tokens_used)) FROM token_accounts)
                   = (SELECT (sum(cost_estimate), sum(tokens_used)) FROM token_usage)
        """
        assert conn.execute(sql).fetchone() == (True,)


@pytest.fixture
def here(server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ground.Ground]:
    monkeypatch.setattr(running, "HAND_CONNECTIONS", (2,))
    monkeypatch.setattr(running, "PGBENCH_CLIENTS", (2,))
    with ground.opened(server_url) as opened:
        yield opened


def test_baselines_write_rows_with_the_columns_of_the_tills(here: ground.Ground) -> None:
    options = Options(**TINY)
    url = here.make()
    fill(url, accounts=options.accounts, lots=1, rows=options.rows, tell=quiet)
    since = utc_now()

    measured = running.Baselines(here, url, options).measure()

    assert set(measured) == {"by_hand", "pgbench", "copy", "bare"}
    assert "ops_per_s" in measured["pgbench"], "there is a pgbench in the wheel"
    shapes = Counter(shape(row) for row in rows_since(url, since))
    till_url = here.make()
    fill(till_url, accounts=options.accounts, lots=1, rows=0, tell=quiet)
    with Till(till_url) as till:
        load.Spends(till, load.choose(options.accounts, "uniform"), "given").once_blocking()
    (own,) = rows_since(till_url, since)
    assert set(shapes) == {shape(own)}
    assert shapes.total() > 4


def rows_since(url: str, since: object) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as conn:
        return conn.execute("SELECT * FROM token_usage WHERE created_at >= %s", [since]).fetchall()


def shape(row: dict[str, Any]) -> tuple[object, ...]:
    """Which columns a row fills, which pools it has, and how many lots it moves."""
    return (
        *sorted(name for name, value in row.items() if value is not None),
        *sorted(row["pools"]),
        len(row["lot_moves"]),
    )


def test_each_distribution_chooses_as_it_says() -> None:
    uniform = Counter(load.choose(100, "uniform"))
    zipf = Counter(load.choose(100, "zipf"))

    assert len(uniform) == 100 and max(uniform.values()) < 2 * min(uniform.values())
    assert zipf.most_common(1)[0][0] == member(0)
    assert 8 < zipf[member(0)] / zipf[member(9)] < 12
    assert set(load.choose(100, "hot")) == {member(0)}


def test_parts_of_the_members_have_nobody_in_common() -> None:
    first, second = (set(load.choose(100, "uniform", part=part, parts=2)) for part in (0, 1))

    assert first.isdisjoint(second)
    assert len(first | second) == 100


def test_work_of_the_server_and_of_ourselves_shows_on_the_meters(database: str) -> None:
    with meters.Meter(database) as meter, psycopg.connect(database, autocommit=True) as conn:
        before = meter.read()
        conn.execute("CREATE TABLE more AS SELECT md5(n::text) FROM generate_series(1, 300000) AS n")
        sum(n * n for n in range(1_000_000))
        after = meter.read()

    cost = meters.per_op(before, after, 1)
    assert cost["wal_bytes_per_op"] > 300_000 * 32
    assert cost["cpu_us_per_op"]["postgres"] > 0 and cost["cpu_us_per_op"]["python"] > 0


def test_a_server_process_that_ended_is_counted_too(database: str) -> None:
    with meters.Meter(database) as meter:
        before = meter.read()
        with psycopg.connect(database) as conn:
            pid = conn.info.backend_pid
            conn.execute("SELECT count(md5(n::text)) FROM generate_series(1, 1000000) AS n")
        while Path(f"/proc/{pid}").exists():  # It ends soon after its connection; the test's timeout guards this.
            pass
        after = meter.read()

    assert meters.per_op(before, after, 1)["cpu_us_per_op"]["postgres"] >= 50_000


def test_the_median_of_several_runs_is_taken_figure_by_figure() -> None:
    runs = [{"a": 1, "b": {"c": 3.0}}, {"a": 9, "b": {"c": 1.0}}, {"a": 2, "b": {"c": 2.0}}]

    assert meters.middle(runs) == {"a": 2, "b": {"c": 2.0}}


def test_a_baseline_far_below_the_reading_is_explained() -> None:
    busy = {"server": 1.5, "clients": 0.45}
    measured: dict[str, Any] = {
        "by_hand": {"ops_per_s": 1000.0, "cores": busy}, "pgbench": {"ops_per_s": 7000.0, "cores": busy},
        "copy": {"ops_per_s": 10_000.0, "cores": busy}, "bare": {"p50_ms": 0.5, "cores": busy},
    }  # fmt: skip

    found = running.compared({"ops_per_s": 20_000.0, "lone": {"p50_ms": 0.6}}, measured)

    assert found["ratios"] == {"by_hand": 20.0, "pgbench": 2.857, "copy": 2.0, "bare": 1.2}
    assert [note.split()[0] for note in found["notes"]] == ["copy"]


def test_settings_for_a_server_cannot_make_it_forgetful() -> None:
    home = Path(tempfile.mkdtemp(prefix="till-tests-", dir="/tmp"))
    home.chmod(0o755)
    with (
        embedded.start(home / "home", server_settings={"fsync": "off", "work_mem": "5MB"}) as server,
        psycopg.connect(server.url) as conn,
    ):  # fmt: skip
        assert conn.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert conn.execute("SHOW fsync").fetchone() == ("on",)
