"""The player: carries out the story over HTTP, act by act, on a clock that it sets.

It stands for everybody outside the till: Stripe, which signs its events; the app, which meters the AI provider's
responses; the admin; the worker. What is no route (the trial, the app's own plan, the worker's jobs) goes through the
library. An answer that the story does not expect
is a `Surprise`, and ends the demo.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2

from tokentill.demo.acts import (
    Act,
    AdminAdjusts,
    AppStartsPlan,
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
    moment,
)
from tokentill.demo.stage import StoryClock
from tokentill.errors import TillError
from tokentill.samples import llm_shapes, stripe
from tokentill.services.jobs import working
from tokentill.till import Till

BETWEEN_CALLS = timedelta(minutes=7)


class Surprise(Exception):
    """The till answered otherwise than the story says it must."""


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one act: the till's answer in a few words, and what it did to the member's balance."""

    act: Act
    answer: str
    change_tokens: int
    balance: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request that may be sent again, byte for byte."""

    path: str
    content: bytes
    headers: dict[str, str]


class Player:
    """Plays acts in the order given. `secret` signs Stripe's events; the client carries the admin's key."""

    def __init__(
        self, client: httpx2.Client, till: Till, *, clock: StoryClock, first_day: datetime, secret: str
    ) -> None:
        self._client = client
        self._till = till
        self._clock = clock
        self._first_day = first_day
        self._secret = secret
        self._balances: dict[str, int] = {}
        self._last_event: bytes = b""
        self._last_usage: _Sent | None = None
        self._last_answer: object = None
        self._calls_count = 0
        self.requests_count = 0

    def play(self, acts: Sequence[Act]) -> Iterator[Line]:
        """Carry out the acts, yielding a line after each. Raises: Surprise."""
        for act in acts:
            self._clock.set(act.happens_at(self._first_day))
            before = self._balances.get(act.who.user_id, 0)
            answer = self._carry_out(act)
            balance = self._balances[act.who.user_id] = self.balance(act.who)
            yield Line(act, answer, balance - before, balance)

    def balance(self, member: Member) -> int:
        """Ask the till for a member's balance."""
        response = self._send("GET", f"/v1/users/{quote(member.user_id, safe='')}/balance")
        if response.status_code != 200:
            raise Surprise(f"GET balance of {member.name}: {response.status_code} {response.text}")
        return int(response.json()["balance"])

    def _carry_out(self, act: Act) -> str:
        match act.deed:
            case (
                SubscribesAtCheckout() | TriesPlan() | SubscriptionTold() | InvoicePaid() | BuysPack()
                | PaymentArrives() | Refunded() | Disputed()
            ):  # fmt: skip
                event = _event(act, self._first_day)
                self._last_event = json.dumps(event, separators=(",", ":")).encode()
                return self._deliver(act)
            case SentAgain():
                return f"{self._deliver(act)} before"
            case CallsAi():
                return self._call(act, act.deed)
            case RequestedAgain():
                return self._repeat(act)
            case AdminAdjusts(tokens=tokens, reason=reason):
                body = {"user_id": act.who.user_id, "tokens": tokens, "reason": reason}
                return self._post(act, _Sent("/api/admin/users/adjust-tokens", _json(body), _JSON))
            case TrialBegins():
                return _granted(act, lambda: self._till.grant_trial_tokens(act.who.user_id))
            case AppStartsPlan(subscription_id=name):
                return _granted(
                    act, lambda: self._till.drip_tokens_28day(act.who.user_id, name, driven_by="clock")
                )  # fmt: skip
            case WorkerRuns():
                return self._work(act)
            case LooksAtBalance():
                return "200"

    def _work(self, act: Act) -> str:
        """Do what `till worker --once` does; say how many drips it gave. Raises: Surprise when a job fails."""
        done = {job.name: working.run(self._till.context, job, at=self._clock()) for job in working.JOBS}
        for run in done.values():
            if run.error is not None:
                raise Surprise(f"{act.says}: job {run.job}: {run.error}")
        return f"drips: {done['drips'].counts['drips']}, swept: {done['sweep'].counts['accounts']}"

    def _deliver(self, act: Act) -> str:
        """Deliver Stripe's last event, signed now."""
        signature = stripe.sign(self._last_event, self._secret, self._clock())
        return self._post(act, _Sent("/api/stripe/webhook", self._last_event, {**_JSON, "Stripe-Signature": signature}))

    def _call(self, act: Act, deed: CallsAi) -> str:
        answer = ""
        for number in range(deed.count):
            self._clock.set(act.happens_at(self._first_day) + number * BETWEEN_CALLS)
            self._calls_count += 1
            body = self._metered(act.who, deed, self._calls_count)
            key = {"Idempotency-Key": f"demo-call-{self._calls_count}"}
            self._last_usage = _Sent("/v1/usage", _json(body), {**_JSON, **key})
            answer = self._post(act, self._last_usage)
        return answer if deed.count == 1 else f"{answer} × {deed.count}"

    def _repeat(self, act: Act) -> str:
        """Send the last usage once more. Raises: Surprise unless the answer is the first one, word for word."""
        assert self._last_usage is not None, act
        first = self._last_answer
        said = self._post(act, self._last_usage)
        if self._last_answer != first:
            raise Surprise(f"{act.says}: answered {self._last_answer} after {first}")
        return f"{said}, its first answer"

    def _metered(self, member: Member, deed: CallsAi, call: int) -> dict[str, Any]:
        """Let the provider answer, and send its answer on: what it used and what that costs, the till finds out."""
        body: dict[str, Any] = {
            "user_id": member.user_id,
            "action_type": deed.action,
            "model_used": deed.model,
            "provider": "anthropic" if deed.shape == "messages" else "openai",
            "response": _RESPONSES[deed.shape](deed, call),
        }
        return body if deed.error is None else {**body, "success": False, "error_message": deed.error}

    def _post(self, act: Act, sent: _Sent) -> str:
        """Send it; return the till's answer in a few words. Raises: Surprise when it is not what the story expects."""
        response = self._send("POST", sent.path, content=sent.content, headers=sent.headers)
        if (response.status_code != 402) if act.refused else (response.status_code not in (200, 201)):
            raise Surprise(f"{act.who.name}, {act.says}: the till answered {response.status_code} {response.text}")
        told = self._last_answer = response.json()
        word = told.get("code") if act.refused else told.get("state")
        return f"{response.status_code} {word}" if isinstance(word, str) else str(response.status_code)

    def _send(self, method: str, path: str, **about: Any) -> httpx2.Response:
        self.requests_count += 1
        return self._client.request(method, path, **about)


def _granted(act: Act, grant: Callable[[], object]) -> str:
    try:
        grant()
    except TillError as error:
        raise Surprise(f"{act.says}: {error}") from error
    return "granted (library)"


_JSON = {"Content-Type": "application/json"}


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def _event(act: Act, first_day: datetime) -> stripe.Payload:
    """Build the event that Stripe sends about this act."""
    who, at = act.who, act.happens_at(first_day)
    match act.deed:
        case SubscribesAtCheckout(billing=billing, api_version=version, session_day=day):
            return stripe.checkout_subscription(
                session_id=f"cs_test_{billing.subscription_id}", subscription_id=billing.subscription_id,
                at=at if day is None else moment(first_day, day, act.at), user_id=who.user_id,
                invoice_id=f"in_{billing.subscription_id}_1", plan_key=billing.plan_key, amount_cents=billing.cents,
                customer_id=who.customer_id, email=who.email, api_version=version,
            )  # fmt: skip
        case TriesPlan(billing=billing, api_version=version):
            return stripe.checkout_subscription(
                session_id=f"cs_test_{billing.subscription_id}", subscription_id=billing.subscription_id, at=at,
                user_id=who.user_id, invoice_id=f"in_{billing.subscription_id}_0", plan_key=billing.plan_key,
                amount_cents=0, payment_status="no_payment_required", customer_id=who.customer_id, email=who.email,
                api_version=version,
            )  # fmt: skip
        case SubscriptionTold(billing=billing, trial=trial, api_version=version):
            ends_at = billing.starts_at(first_day, 1)
            return stripe.subscription(
                subscription_id=billing.subscription_id, at=at, period_start=ends_at - trial, period_end=ends_at,
                user_id=who.user_id, status="trialing", price_id=billing.price_id, interval=billing.interval,
                unit_cents=billing.cents, trial_start=ends_at - trial, trial_end=ends_at, customer_id=who.customer_id,
                api_version=version, event_type="customer.subscription.created",
            )  # fmt: skip
        case InvoicePaid(billing=billing, number=number, api_version=version, ends_trial=ends_trial):
            starts_at = billing.starts_at(first_day, number)
            return stripe.invoice_paid(
                invoice_id=f"in_{billing.subscription_id}_{number}", subscription_id=billing.subscription_id, at=at,
                period_start=starts_at, period_end=starts_at + billing.period, user_id=who.user_id,
                billing_reason="subscription_create" if number == 1 and not ends_trial else "subscription_cycle",
                price_id=billing.price_id, interval=billing.interval, unit_cents=billing.cents,
                customer_id=who.customer_id, email=who.email, api_version=version,
            )  # fmt: skip
        case BuysPack() as purchase:
            return _checkout(who, purchase, at, is_paid=purchase.is_paid)
        case PaymentArrives(purchase=purchase):
            event_type = "checkout.session.async_payment_succeeded"
            return _checkout(who, purchase, at, is_paid=True, event_type=event_type)
        case Refunded(purchase=purchase, cents=cents):
            return stripe.refund(
                refund_id=f"re_{purchase.name}", payment_intent_id=f"pi_{purchase.name}", at=at, amount_cents=cents,
                api_version=purchase.api_version,
            )  # fmt: skip
        case Disputed(purchase=purchase, state=state):
            return stripe.dispute(
                dispute_id=f"du_{purchase.name}", payment_intent_id=f"pi_{purchase.name}", at=at,
                amount_cents=purchase.cents, status="needs_response" if state == "open" else state,
                moved_cents=(-purchase.cents, purchase.cents) if state == "won" else (-purchase.cents,),
                api_version=purchase.api_version,
                event_type="charge.dispute.created" if state == "open" else "charge.dispute.closed",
            )  # fmt: skip
    raise AssertionError(act)


def _checkout(
    who: Member, purchase: BuysPack, at: datetime, *, is_paid: bool, event_type: str = "checkout.session.completed"
) -> stripe.Payload:
    return stripe.checkout_pack(
        session_id=purchase.session_id, at=at, user_id=who.user_id, pack_key=purchase.named,
        amount_cents=purchase.cents, customer_id=who.customer_id, email=who.email,
        payment_status="paid" if is_paid else "unpaid", api_version=purchase.api_version, event_type=event_type,
    )  # fmt: skip


# The provider's answer to one call. A call that failed reports the input that was read, and no output.
_RESPONSES: dict[str, Callable[[CallsAi, int], dict[str, Any]]] = {
    "chat": lambda deed, call: llm_shapes.openai_chat(
        model=deed.model, prompt_tokens=deed.tokens_in, cached_tokens=deed.cached, completion_tokens=deed.tokens_out,
        reasoning_tokens=deed.reasoning, call=call),
    "responses": lambda deed, call: llm_shapes.openai_responses(
        model=deed.model, input_tokens=deed.tokens_in, cached_tokens=deed.cached, output_tokens=deed.tokens_out,
        reasoning_tokens=deed.reasoning, call=call),
    "image": lambda deed, call: llm_shapes.openai_image(text_tokens=deed.tokens_in, output_tokens=deed.tokens_out),
    "transcription": lambda deed, call: llm_shapes.openai_transcription(seconds=deed.seconds),
    "messages": lambda deed, call: llm_shapes.anthropic_message(
        model=deed.model, input_tokens=deed.tokens_in - deed.cached, cache_read_tokens=deed.cached,
        output_tokens=deed.tokens_out, call=call),
}  # fmt: skip
