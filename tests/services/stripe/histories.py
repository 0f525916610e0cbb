"""Random histories of members' money, told to a till that breaks: the tokens end as the closed form says.

Events come in any order, twice, and once more under other ids; the till breaks between any two steps, and workers take
up what was left lying.

More of them, by hand:

    python -m tests.services.stripe.histories --seeds 1000
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.conftest import Clock
from tests.services.breaking import Fault, Killed, open_breakable
from tests.services.stripe.payments_at_stripe import Gone, History, Object
from tokentill.core.ledger.reversals import Policies
from tokentill.errors import Unavailable
from tokentill.services.jobs import working
from tokentill.store import embedded
from tokentill.store.migrate import migrate

GIFT = 300_000
AFTER_A_WHILE, DAY = 10, 24 * 60  # Minutes: what was left lying is taken up by then.

ALL_POLICIES = [
    Policies(refund=refund, dispute=dispute, freezes=freezes)
    for refund in ("forgive", "debt")
    for dispute in ("forgive", "debt")
    for freezes in (False, True)
]


class Play:
    """Tells histories to one till that breaks now and then."""

    def __init__(self, database: str, clock: Clock, policies: Policies) -> None:
        self.clock = clock
        self.policies = policies
        self.fault = Fault()
        self.till = open_breakable(database, self.fault, clock=clock, policies=policies)

    def close(self) -> None:
        self.till.close()

    def tell(self, history: History, letters: Sequence[Object], *, spends: int = 0, days_max: int = 0) -> int:
        """Deliver all, some between spends, some into a breaking till; return what was spent."""
        chance, spent = history.chance, 0
        waiting = list(letters)
        while waiting:
            letter = waiting.pop(0)
            if chance.random() < 0.25:
                how = chance.choice(("before", "rolled back", "after"))
                self.fault.arm(chance.randint(1, 8), how, kills=chance.random() < 0.5)  # type: ignore[arg-type]
            try:
                self.till.receive_stripe_event(letter)
            except (Killed, Unavailable):
                waiting.insert(chance.randint(0, len(waiting)), letter)  # Stripe got no answer: it comes again.
            if spends and chance.random() < 0.2:
                self.fault.disarm()
                spent += self.spend(history.name, chance.randint(1, spends))
            if chance.random() < 0.05:
                self.clock.advance(minutes=AFTER_A_WHILE)
                self.work()  # May break as well.
            self.fault.disarm()
            if days_max and chance.random() < 0.05:
                self.clock.advance(days=chance.randint(1, days_max))
        return spent

    def spend(self, name: str, tokens: int) -> int:
        self.till.track_token_usage(name, "chat_conversation", tokens)
        return tokens

    def work(self) -> None:
        """What a worker does every minute, as far as it is about money."""
        for work in (working.retry_events, working.settle_money):
            try:
                work(self.till.context, self.clock())
            except (Killed, Unavailable):
                continue

    def come_to_rest(self) -> None:
        """Whatever was left lying is done, as workers do it in the end."""
        for wait in (AFTER_A_WHILE, AFTER_A_WHILE, DAY):  # What failed often is tried again ever more seldom.
            self.clock.advance(minutes=wait)
            self.work()
            unfinished = self.rows("SELECT event_id, detail FROM stripe_events WHERE state IN ('received', 'failed')")
            if not unfinished:
                break
        assert unfinished == [], unfinished
        proof = self.till.reconcile()
        assert proof.findings == (), proof.findings

    def rows(self, sql: str, *given: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.till.url) as conn:
            return conn.execute(sql.encode(), given).fetchall()


def begin(play: Play, seed: int) -> History:
    """A new member, named after the seed."""
    return History(random.Random(seed), play.clock, f"m{seed}")


def all_is_owed(play: Play, seed: int) -> None:
    """Where everything spent is owed, tokens end as the closed form says, whatever was spent before or after what.

    Several payments at once, spends anywhere.
    """
    history = begin(play, seed)
    play.till.grant_tokens(history.name, GIFT)
    for _ in range(history.chance.randint(1, 3)):
        history.buy_something()
    history.move_money(decides_all=True)
    events = history.events()
    spent = play.tell(history, history.letters(events), spends=1_500_000)
    play.come_to_rest()

    granted = gone = 0
    for bought in history.bought:
        money = history.money(bought.charge_id)
        granted += sum(bought.lots)
        gone += sum(money.share(lot, money.refunded + money.lost) for lot in bought.lots)
    balance = GIFT + granted - spent - gone
    found = play.till.balance(history.name)
    assert (found.balance, found.debt) == (balance, max(-balance, 0)), (seed, found.balance - balance)
    nothing_changes_by_replaying(play, history, events)


def one_payment(play: Play, seed: int) -> None:
    """What was spent is known before the money moves: then every policy's closed form says each token.

    One payment, of one or more lots; all that moved its money in any order.
    """
    history = begin(play, seed)
    chance = history.chance
    play.till.grant_tokens(history.name, GIFT, expires_at=play.clock.now.replace(year=2999))
    history.chance.choice((history.buy_packs, history.buy_packs, history.buy_by_intent))()
    events = history.events()
    play.tell(history, history.letters(events))
    play.come_to_rest()
    lots = history.bought[0].lots if history.bought else ()
    assert play.till.balance(history.name).balance == GIFT + sum(lots), seed
    owned = GIFT + sum(lots)
    spent = chance.choice((0, chance.randint(1, owned), owned, owned + chance.randint(1, GIFT)))
    if spent:
        play.spend(history.name, spent)
    for _ in range(2):
        history.move_money(decides_all=False)
        more = history.events()
        play.tell(history, history.letters(more))
        events += more
        if chance.random() < 0.5:
            break
    play.come_to_rest()

    gone, left = 0, max(spent - GIFT, 0)  # The gift expires, and burns first.
    for granted in lots:
        of_lot = min(left, granted)
        left -= of_lot
        should = Gone.of(granted, of_lot, history.money(history.bought[0].charge_id), play.policies)
        gone += should.from_lot + should.owed
    balance = owned - spent - gone
    found = play.till.balance(history.name)
    assert (found.balance, found.debt) == (balance, max(-balance, 0)), (seed, found.balance - balance)
    [(frozen_at,)] = play.rows("SELECT frozen_at FROM token_accounts WHERE external_id = %s", history.name)
    assert (frozen_at is not None) == (play.policies.freezes and history.has_open_dispute), seed
    nothing_changes_by_replaying(play, history, events)


def nothing_changes_by_replaying(play: Play, history: History, events: Sequence[Object]) -> None:
    """All again, in another order, as it was and under other ids."""
    before = play.till.balance(history.name), play.till.lots(history.name)
    again = [*events, *({**event, "id": f"{event['id']}_replayed"} for event in events)]
    history.chance.shuffle(again)
    for event in again:
        play.till.receive_stripe_event(event)
    play.work()
    assert (play.till.balance(history.name), play.till.lots(history.name)) == before


def anything(play: Play, seed: int) -> None:
    """Everything together: several payments, spends anywhere, lots that die meanwhile, news that come months late.

    What was spent of which lot depends on the order then, and the books say it; what should be gone of each lot for
    that is the closed form's again.
    """
    history = begin(play, seed)
    play.till.grant_tokens(history.name, GIFT)
    for _ in range(history.chance.randint(1, 3)):
        history.buy_something()
    history.move_money(decides_all=False)
    events = history.events()
    play.tell(history, history.letters(events), spends=2_500_000, days_max=40)
    play.come_to_rest()
    for lot in books(play, history):
        should = Gone.of(lot.granted, lot.granted - lot.unspent, history.money(lot.charge_id), play.policies)
        if lot.is_given_back:
            continue
        assert lot.owed == should.owed, (seed, lot, should)
        assert should.from_lot - lot.expired <= lot.from_lot <= should.from_lot, (seed, lot, should)
    nothing_changes_by_replaying(play, history, events)


@dataclass(frozen=True, slots=True, kw_only=True)
class LotInBooks:
    charge_id: str
    granted: int
    unspent: int  # Left, taken back or expired.
    from_lot: int
    owed: int
    expired: int  # Or over, and not written off yet.
    is_given_back: bool  # What another payment had owed, and had been taken from here: spent at its time.


def books(play: Play, history: History) -> list[LotInBooks]:
    """What the books say of each lot that was paid for."""
    names: dict[str, str] = {}
    for bought in history.bought:
        charge = history.world.objects[bought.charge_id]
        own = {bought.charge_id, charge["payment_intent"], charge["_invoice"]} - {None}
        for session in history.world.of_kind("checkout.session"):
            if own & {session["payment_intent"], session["invoice"]}:
                own |= {session["id"]}
        names |= dict.fromkeys(own, bought.charge_id)
    lots = play.rows(
        """
        SELECT l.lot, l.granted, l.remaining, l.payment_id, coalesce(l.expires_at <= %s, false)
          FROM token_lots l JOIN token_accounts USING (user_id)
         WHERE external_id = %s AND l.payment_id IS NOT NULL
        """, play.clock(), history.name,
    )  # fmt: skip
    assert sorted(granted for _, granted, *_ in lots) == sorted(lot for one in history.bought for lot in one.lots)
    rows = play.rows(
        """
        SELECT transaction_type, reverses_seq, lot_moves, metadata
          FROM token_transactions JOIN token_accounts USING (user_id)
         WHERE external_id = %s AND transaction_type IN ('expiration', 'refund')
        """, history.name,
    )  # fmt: skip
    found = []
    for lot, granted, remaining, payment_id, is_over in lots:
        expired = sum(-moves[1] for kind, _, moves, _ in rows if kind == "expiration" and moves[0] == lot)
        posted = [said for kind, reversed_, _, said in rows if kind == "refund" and reversed_ == lot]
        from_lot = sum(said["from_lot_tokens"] for said in posted)
        others = [said for kind, reversed_, _, said in rows if kind == "refund" and reversed_ != lot]
        found.append(LotInBooks(
            charge_id=names[payment_id], granted=granted, unspent=remaining + from_lot + expired, from_lot=from_lot,
            owed=sum(tokens for said in posted for _, tokens in said["owed"]),
            expired=expired + remaining * is_over,
            is_given_back=any(source == lot and tokens < 0 for said in others for source, tokens in said["owed"]),
        ))  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="till-histories-", dir="/tmp"))
    home.chmod(0o755)
    owing = Policies(refund="debt", dispute="debt")
    kinds = [(all_is_owed, owing), *((play, one) for play in (one_payment, anything) for one in ALL_POLICIES)]
    with embedded.start(home) as server:
        for number, (kind, policies) in enumerate(kinds):
            with psycopg.connect(server.url, autocommit=True) as conn:
                conn.execute(f"CREATE DATABASE histories_{number}".encode())
            url = server.url.replace(f"/{embedded.DATABASE}?", f"/histories_{number}?")
            migrate(url)
            begun = time.monotonic()
            play = Play(url, Clock(), policies)
            for seed in range(asked.first, asked.first + asked.seeds):
                kind(play, seed)
            events = play.rows("SELECT count(*) FROM stripe_events")[0][0]
            play.close()
            sys.stdout.write(
                f"{kind.__name__}, {policies}: {asked.seeds} histories, {events:,} events, broken "
                f"{play.fault.broken_count} times, all as the closed form says, {time.monotonic() - begun:.0f} s\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
