"""The double's HTTP: forms in, JSON out, in Stripe's manner: pages, `expand`, errors, idempotency keys, versions.

The standard library's server rather than an ASGI one, because it must be able to be rude: to answer late, or to cut the
connection when the work is done but the answer is not yet sent.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from tests.stripe_double.shapes import NEW, Object, listed
from tests.stripe_double.world import StripeError, World

Mood = Literal[
    "error",         # 500, nothing done
    "rate_limit",    # 429, nothing done
    "cut",           # the connection ends, nothing done
    "cut_after",     # the connection ends when all is done
    "silence",       # no answer, nothing done
    "silence_after", # no answer when all is done
]  # fmt: skip
Params = dict[str, Any]
LIMIT_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it arrived, whatever became of it."""

    method: str
    path: str
    params: Params
    key: str | None  # Its Idempotency-Key.
    version: str | None  # Its Stripe-Version.
    api_key: str | None


@dataclass(slots=True)
class Moods:
    """What the next requests meet instead of service."""

    waiting: list[tuple[Mood, str]] = field(default_factory=list)

    def next(self, path: str) -> Mood | None:
        for place, (mood, prefix) in enumerate(self.waiting):
            if path.startswith(prefix):
                del self.waiting[place]
                return mood
        return None


class Server:
    """Serves one world on loopback until it is closed."""

    def __init__(self, world: World, api_key: str) -> None:
        self.world = world
        self.api_key = api_key
        self.moods = Moods()
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._answers: dict[str, tuple[tuple[str, str, str], int, bytes, str]] = {}
        outer = self

        class Handler(_Handler):
            server_of = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="stripe-double", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> tuple[int, bytes, dict[str, str]]:
        """Do what is asked, or say again what was answered under this key."""
        request_id = f"req_double{len(self.asked):06d}"
        headers = {"Request-Id": request_id, "Stripe-Version": asked.version or NEW}
        if asked.key:
            headers["Idempotency-Key"] = asked.key
        if asked.api_key != self.api_key:
            told = "Invalid API Key provided" if asked.api_key else "You did not provide an API key."
            return 401, _json(StripeError(401, told).body), headers
        request = (asked.method, asked.path, json.dumps(asked.params, sort_keys=True))
        with self.world.lock:
            if asked.key in self._answers and asked.method == "POST":
                known, status, body, original = self._answers[asked.key]
                if known != request:
                    message = (
                        "Keys for idempotent requests can only be used with the same parameters they were first used "
                        f"with. Try using a key other than '{asked.key}' if you meant to execute a different request."
                    )
                    error = StripeError(400, message, error_type="idempotency_error")
                    return 400, _json(error.body), headers
                return status, body, headers | {"Idempotent-Replayed": "true", "Original-Request": original}
            self.world.by_request = (request_id, asked.key)
            try:
                status, found = 200, self._route(asked)
            except StripeError as error:
                status, found = error.status, error.body
            finally:
                self.world.by_request = (None, None)
            body = _json(found)
            # What was refused before anything was done keeps no key, as with Stripe.
            if asked.key and asked.method == "POST" and status == 200:
                self._answers[asked.key] = (request, status, body, request_id)
        return status, body, headers

    def _route(self, asked: Asked) -> Object:
        for method, pattern, act, allowed in _ROUTES:
            found = re.fullmatch(pattern, asked.path)
            if method != asked.method or found is None:
                continue
            _refuse_unknown(asked.params, allowed)
            shown = act(self.world, asked.params, *found.groups())
            version = asked.version or NEW
            answer: Object = self.world.shown(shown, version)
            for path in asked.params.get("expand", []):
                _expand(self.world, answer, path.split("."), version)
            return answer
        message = f"Unrecognized request URL ({asked.method}: {asked.path})."
        raise StripeError(404, message)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        pass

    def _serve(self) -> None:
        server, target = self.server_of, urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = Asked(
            method=self.command,
            path=target.path,
            params=parse_form(target.query) | parse_form(sent),
            key=self.headers.get("Idempotency-Key"),
            version=self.headers.get("Stripe-Version"),
            api_key=(self.headers.get("Authorization") or "").removeprefix("Bearer ") or None,
        )
        with server.world.lock:
            server.asked.append(asked)
            mood = server.moods.next(asked.path)
        match mood:
            case "error":
                error = StripeError(500, "An unknown error occurred", error_type="api_error")
                self._send(500, _json(error.body), {})
            case "rate_limit":
                error = StripeError(429, "Too many requests.", code="rate_limit")
                self._send(429, _json(error.body), {})
            case "cut" | "silence":
                self._end(mood)
            case "cut_after" | "silence_after":
                server.answer(asked)
                self._end(mood)
            case None:
                self._send(*server.answer(asked))

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _end(self, mood: Mood) -> None:
        self.close_connection = True
        if mood.startswith("silence"):
            # Until the client has had enough: its end of the connection closes, and reading sees that.
            self.connection.settimeout(0.1)
            while not self.server_of.closing.is_set():
                try:
                    if not self.connection.recv(1):
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


# --- Forms ---


def parse_form(text: str) -> Params:
    """Return a form as Stripe reads it: `items[0][price]=x` is {"items": [{"price": "x"}]}."""
    params: Params = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
        place: Any = params
        *steps, last = first, *rest
        for step in steps:
            place = place.setdefault(step or str(len(place)), {})
        place[last or str(len(place))] = value
    listed_params: Params = _lists(params)
    return listed_params


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(item) for key, item in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _refuse_unknown(params: Params, allowed: str) -> None:
    for name in params.keys() - {*allowed.split(), "expand"}:
        message = f"Received unknown parameter: {name}"
        raise StripeError(400, message, code="parameter_unknown", param=name)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


def _expand(world: World, answer: Any, path: list[str], version: str) -> None:
    """Put objects in the place of ids: `data.latest_charge`, `line_items`, `payments.data.payment.payment_intent`."""
    if isinstance(answer, list):
        for one in answer:
            _expand(world, one, path, version)
        return
    if not isinstance(answer, dict):
        return
    name, *rest = path
    if name not in answer:
        # What only `expand` shows.
        kept = world.find(answer.get("id", "")) or {}
        if name not in kept:
            raise StripeError(400, f"This property cannot be expanded ({name}).")
        answer[name] = world.shown(kept[name], version)
    found = answer[name]
    if isinstance(found, str) and (kept_object := world.find(found)) is not None:
        answer[name] = world.shown(kept_object, version)
    if rest:
        _expand(world, answer[name], rest, version)


# --- Routes ---

Act = Callable[..., Object]


def _page(world: World, params: Params, found: list[Object], url: str) -> Object:
    limit = int(params.get("limit", 10))
    if not 1 <= limit <= LIMIT_MAX:
        message = f"Invalid limit: must be between 1 and {LIMIT_MAX}"
        raise StripeError(400, message, param="limit")
    created = params.get("created")
    for bound, limit_at in created.items() if isinstance(created, dict) else ():
        compare = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}[bound]
        found = [one for one in found if compare(one["created"], int(limit_at))]
    ids = [one["id"] for one in found]
    for name in ("starting_after", "ending_before"):
        if name in params and params[name] not in ids:
            raise StripeError(400, f"No such object: '{params[name]}'", code="resource_missing", param=name)
    if "starting_after" in params:
        found = found[ids.index(params["starting_after"]) + 1 :]
    elif "ending_before" in params:
        found = found[: ids.index(params["ending_before"])]
        return listed(found[-limit:], url, has_more=len(found) > limit)
    return listed(found[:limit], url, has_more=len(found) > limit)


def _lister(kind: str, url: str, filters: str) -> Act:
    names = [name for name in filters.split() if name not in ("created", "lookup_keys", "type", "types", "payment")]

    def act(world: World, params: Params) -> Object:
        found = world.of_kind(kind)
        for name in names:
            if name in params:
                wanted = params[name] == "true" if params[name] in ("true", "false") else params[name]
                found = [one for one in found if _value(one, name) == wanted]
        if "lookup_keys" in params:
            found = [one for one in found if one["lookup_key"] in params["lookup_keys"]]
        if "ids" in params:
            found = [one for one in found if one["id"] in params["ids"]]
        types = params.get("types") or ([params["type"]] if "type" in params else None)
        if types:
            found = [one for one in found if one["type"] in types]
        if payment := params.get("payment"):
            found = [one for one in found if one["payment"] == {key: payment[key] for key in one["payment"]}]
        if kind == "subscription" and params.get("status") is None:
            found = [one for one in found if one["status"] != "canceled"]
        return _page(world, params, found, url)

    return act


def _value(kept: Object, name: str) -> Any:
    if name == "subscription" and kept["object"] == "invoice":
        return kept["parent"]["subscription_details"]["subscription"]
    return kept.get(name)


def _getter(kind: str) -> Act:
    return lambda world, params, object_id: world.get(object_id, kind, is_path=True)


def _updater(kind: str, method: Callable[[World, Object, Params], Object]) -> Act:
    return lambda world, params, object_id: method(world, world.get(object_id, kind, is_path=True), params)


def _make_refund(world: World, params: Params) -> Object:
    payment = params.get("charge") or params.get("payment_intent")
    if payment is None or world.find(payment) is None:
        raise StripeError(400, f"No such payment_intent: '{payment}'", code="resource_missing", param="payment_intent")
    amount = int(params["amount"]) if "amount" in params else None
    return world.refund(payment, amount, metadata=params.get("metadata"), reason=params.get("reason"))


def _line_items(world: World, params: Params, session_id: str) -> Object:
    session = world.get(session_id, "checkout.session", is_path=True)
    items = session["line_items"]
    return _page(world, params, deepcopy(items["data"]), items["url"])


def _expire_session(world: World, params: Params, session_id: str) -> Object:
    session = world.get(session_id, "checkout.session", is_path=True)
    if session["status"] != "open":
        message = f'Only Checkout Sessions with a status in ["open"] can be expired, not {session["status"]}.'
        raise StripeError(400, message)
    return world.expire(session_id)


_PAGE = "limit starting_after ending_before"
_PRODUCT = "name description metadata active url unit_label tax_code images"
_PRICE = "active metadata lookup_key nickname transfer_lookup_key tax_behavior"
_SESSION = (
    "mode line_items success_url cancel_url return_url client_reference_id customer customer_email customer_creation "
    "metadata payment_intent_data subscription_data allow_promotion_codes expires_at locale ui_mode automatic_tax "
    "discounts payment_method_types payment_method_collection billing_address_collection tax_id_collection submit_type "
    "consent_collection customer_update invoice_creation phone_number_collection"
)
_ID = r"([\w%]+)"

# (method, path, what it does, the parameters it takes beside `expand`)
_ROUTES: list[tuple[str, str, Act, str]] = [
    ("POST", "/v1/products", lambda w, p: w.make_product(p), f"id default_price_data {_PRODUCT}"),
    ("POST", "/v1/prices", lambda w, p: w.make_price(p),
     f"currency unit_amount product product_data recurring {_PRICE}"),
    ("POST", "/v1/customers", lambda w, p: w.make_customer(p), "email name description phone metadata"),
    ("POST", "/v1/checkout/sessions", lambda w, p: w.make_session(p), _SESSION),
    ("POST", "/v1/billing_portal/sessions", lambda w, p: w.make_portal(p),
     "customer return_url configuration locale flow_data"),
    ("POST", "/v1/refunds", _make_refund, "charge payment_intent amount metadata reason"),
    ("GET", f"/v1/checkout/sessions/{_ID}/line_items", _line_items, _PAGE),
    ("POST", f"/v1/checkout/sessions/{_ID}/expire", _expire_session, ""),
    ("POST", f"/v1/products/{_ID}", _updater("product", World.update_product), f"default_price {_PRODUCT}"),
    ("POST", f"/v1/prices/{_ID}", _updater("price", World.update_price), _PRICE),
    ("POST", f"/v1/customers/{_ID}", _updater("customer", World.update_customer),
     "email name description phone metadata"),
    ("POST", f"/v1/subscriptions/{_ID}", _updater("subscription", World.update_subscription),
     "cancel_at_period_end items metadata description proration_behavior"),
    ("DELETE", f"/v1/subscriptions/{_ID}",
     lambda w, p, name: w.end(w.get(name, "subscription", is_path=True)["id"]), "invoice_now prorate"),
]  # fmt: skip

for _kind, _path, _filters in (
    ("product", "products", "active ids created url"),
    ("price", "prices", "active product currency type created lookup_keys"),
    ("customer", "customers", "email created"),
    ("checkout.session", "checkout/sessions", "payment_intent subscription customer status created"),
    ("payment_intent", "payment_intents", "customer created"),
    ("charge", "charges", "customer payment_intent created"),
    ("refund", "refunds", "charge payment_intent created"),
    ("dispute", "disputes", "charge payment_intent created"),
    ("invoice", "invoices", "customer subscription status collection_method created"),
    ("invoice_payment", "invoice_payments", "invoice status payment"),
    ("subscription", "subscriptions", "customer price status created"),
    ("event", "events", "type types created"),
    ("balance_transaction", "balance_transactions", "source type currency created"),
):
    _ROUTES.append(("GET", f"/v1/{_path}", _lister(_kind, f"/v1/{_path}", _filters), f"{_filters} {_PAGE}"))
    _ROUTES.append(("GET", f"/v1/{_path}/{_ID}", _getter(_kind), ""))
