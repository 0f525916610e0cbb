"""Tables on a terminal of 80 columns, and the sentence that stands where there would be an empty one."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import START
from tests.selling import sell_packs
from tokentill import Till
from tokentill.cli.app import run
from tokentill.core.stripe.meanings import Doubt, PackPaid, Who
from tokentill.core.users import User
from tokentill.samples.stripe import checkout_pack

USER = "auth0|" + "5f7c8ec7c33c6c004bbafe82" * 3
SUBSCRIPTION = "sub_1OqTVf2eZvKYlo2C" + "x" * 40
SESSION = "cs_live_" + "a1b2c3d4e5" * 6
EVENT = "evt_1OqTVf2eZvKYlo2C" + "y" * 20


class Terminal:
    """A terminal of 80 columns as `till`'s stdout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def shown(self, *args: str) -> list[str]:
        """The lines that a command prints, as a person sees them."""
        ours, theirs = os.openpty()
        chunks: list[bytes] = []
        with self.monkeypatch.context() as patch, os.fdopen(theirs, "w", encoding="utf-8") as stdout:
            patch.setenv("COLUMNS", "80")
            patch.setenv("TERM", "xterm")
            patch.setattr("sys.stdout", _Draining(stdout, ours, chunks))
            run(args)
        os.close(ours)
        text = b"".join(chunks).decode()
        return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n").splitlines()


class _Draining:
    """A stream to a terminal whose other end is read at once: its buffer is small."""

    def __init__(self, stream: object, ours: int, chunks: list[bytes]) -> None:
        self._stream, self._ours, self._chunks = stream, ours, chunks

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        for start in range(0, len(text), 500):
            self._stream.write(text[start : start + 500])  # type: ignore[attr-defined]
            self.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()  # type: ignore[attr-defined]
        os.set_blocking(self._ours, False)
        try:
            while chunk := os.read(self._ours, 65536):
                self._chunks.append(chunk)
        except BlockingIOError:
            pass


@pytest.fixture
def terminal(till: Run, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


@pytest.fixture
def world(till: Run, database: str, tmp_path: Path) -> None:
    """Everything has a long name, and something is wrong."""
    with Till(database) as opened:
        opened.receive_stripe_event(checkout_pack(session_id=SESSION, event_id=EVENT, at=START, user_id=USER))
        sale = PackPaid(
            who=Who(), session_id="cs_2", payment_id="pi_" + "9" * 40, items=(("power", 1),), amount_paid_cents=1,
            currency="usd", occurred_at=START, doubts=(Doubt(expected="9,900 usd", found="1 usd"),),
        )  # fmt: skip
        sell_packs(opened, opened.receive_stripe_event({"id": "evt_2", "type": "moon.risen"}), User.of(USER), sale)
        for number in range(3):
            opened.hold(USER, 70_000, "chat_conversation", model="gpt-5", idempotency_key=f"h{number}")
        opened.spend(USER, 500_000, "vision_generation", model_used="nonesuch-" + "m" * 60, input_tokens=5)
        opened.spend(USER, 5, "chat_conversation", model_used="gpt-5", input_tokens=5)
        opened.grant_tokens(USER, 10**12, reason="a long reason, " * 12)
        opened.drip_tokens_28day(USER, SUBSCRIPTION, driven_by="clock")
    prices = '[plans.a_very_long_key_of_a_plan]\nname = "A Very Long Name Of A Plan"\nkind = "drip"\n'
    prices += 'price_cents = 9_900\ntokens = 375_000\nprice_ids = ["price_' + "1" * 50 + '"]\n'
    (tmp_path / "prices.toml").write_text(prices, "utf-8")
    till("prices", "set", "gpt-5", "--provider", "openai", "--input", "1,000", "--note", "a long note, " * 12)


TABLES = [
    "balance USER", "history USER", "holds USER --all", "subscription list USER", "subscription show USER SUBSCRIPTION",
    "preview USER --cycles 2", "stripe list", "stripe show EVENT", "stripe payment SESSION", "findings", "catalog show",
    "catalog load FILE --dry-run", "actions list", "actions show chat_conversation",
    "actions set chat_conversation --model-multiplier gpt-5-a-long-name=2.5 --dry-run", "prices list",
    "prices show gpt-5",
    "prices check", "reprice --from 2020-01-01 --dry-run", "worker --once", "doctor",
]  # fmt: skip


@pytest.mark.parametrize("line", TABLES)
def test_a_table_fits_80_columns(terminal: Terminal, world: None, tmp_path: Path, line: str) -> None:
    words = {"USER": USER, "SUBSCRIPTION": SUBSCRIPTION, "EVENT": EVENT, "SESSION": SESSION,
             "FILE": str(tmp_path / "prices.toml")}  # fmt: skip

    shown = terminal.shown(*(words.get(word, word) for word in line.split()))

    if line.startswith("stripe show"):  # Its end is what Stripe said, in JSON.
        shown = shown[: shown.index("{")]
    assert len(shown) > 3, shown
    # A sentence is the terminal's to wrap; a table is ours.
    sentences = [each for each in shown if re.match(r"(Held|New|No more in genai-prices)\b.*[.]$", each)]
    wide = [each for each in shown if len(each) > 80 and each not in sentences]
    assert wide == [], "\n".join(shown)
    for number in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d(?! UTC)", "\n".join(shown)):
        raise AssertionError(f"broken: {number}")


def test_numbers_and_times_are_never_broken(terminal: Terminal, world: None) -> None:
    shown = "\n".join(terminal.shown("history", USER))

    assert "+1,000,000,000,000" in shown
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", shown)) >= 6


def test_no_letter_of_an_id_is_lost(terminal: Terminal, world: None) -> None:
    assert SUBSCRIPTION in re.sub(r"\s", "", "".join(terminal.shown("subscription", "show", USER, SUBSCRIPTION)))
    assert EVENT in "".join(terminal.shown("stripe", "show", EVENT))


EMPTY = [
    ("holds ann", "ann has no open holds: `till hold USER TOKENS ACTION` places one.\nHeld: 0 tokens; available: 0.\n"),
    ("subscription list ann",
     "ann has no subscription: one begins with `till drip USER SUBSCRIPTION`, or when Stripe tells of it.\n"),
    ("stripe list", "Stripe has sent nothing yet: its webhook goes to /v1/stripe/webhook of `till serve`.\n"),
    ("stripe list --state failed", "No event is like that.\n"),
    ("findings", "There are no open findings; --all shows closed ones, too.\n"),
    ("findings --all", "There are no findings.\n"),
    ("prices list --model nonesuch",
     "No model is like that: `till prices list` has them all, and `till prices add` adds your own.\n"),
    ("reprice --from 2020-01-01", "No call of that time is like that: nothing to correct.\n"),
    ("preview ann", "No cycle of ann is coming: `till subscription list USER` says how the subscriptions stand.\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), EMPTY, ids=[line for line, _ in EMPTY])
def test_where_there_is_nothing_a_sentence_says_so(till: Run, line: str, said: str) -> None:
    till("grant", "ann", 5)
    till("deduct", "ann", 5)

    ran = till(*line.split())

    assert (ran.status, ran.out) == (0, said)
    assert json.loads(till(*line.split(), "--json").out) is not None


def test_nothing_on_sale_says_what_to_do(till: Run, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("[trial]\ntokens = 1\ndays = 1\n", "utf-8")
    assert "on sale" not in till("catalog", "show").out
    till("catalog", "load", tmp_path / "prices.toml")

    assert "\nNothing is on sale: `till catalog load FILE` brings a price list.\n" in till("catalog", "show").out


def test_what_does_not_fit_becomes_a_block_of_lines_for_each_row(till: Run, terminal: Terminal, world: None) -> None:
    """An id that is broken over five lines cannot be copied."""
    shown = terminal.shown("holds", USER)

    for hold in till("holds", USER, "--json").json["holds"]:
        assert any(each.split() == ["hold", hold["id"]] for each in shown), shown
