"""Calling Stripe's API, through Stripe's own library: what goes in and comes out is plain JSON, and errors are ours.

Made from the settings (`StripeApi.of`) and handed to the services, which know nothing of the network.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import stripe

from tokentill.errors import BadSetting, StripeRefused, StripeUnavailable
from tokentill.settings import Settings

TIMEOUT_SECONDS = 20.0
RETRIES_MAX = 2  # By the library, with the same idempotency key and a growing pause.
PAGE_SIZE = 100

Json = Mapping[str, Any]


class StripeApi:
    """Stripe's API with one secret key. Threads may share it."""

    def __init__(
        self,
        api_key: str,
        *,
        api_base: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries_max: int = RETRIES_MAX,
    ) -> None:
        client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base} if api_base else {},
            max_network_retries=retries_max,
            http_client=stripe.RequestsClient(timeout=timeout_seconds),
        )
        # The library's older versions have the services on the client itself.
        self._services: Any = getattr(client, "v1", client)

    @classmethod
    def of(cls, settings: Settings) -> "StripeApi | None":
        """Return the API that the settings name; None: they name no key."""
        if settings.stripe_api_key is None:
            return None
        return cls(settings.stripe_api_key, api_base=settings.stripe_api_base)

    def create(self, what: str, params: Json, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Create an object; `what` is its place in the library, such as "checkout.sessions".

        Raises: StripeUnavailable, StripeRefused, BadSetting.
        """
        options = {} if idempotency_key is None else {"idempotency_key": idempotency_key}
        with translated():
            return plain(attrgetter(what)(self._services).create(params=dict(params), options=options))

    def retrieve(self, what: str, stripe_id: str, params: Json | None = None) -> dict[str, Any]:
        """Return one object. Raises: StripeUnavailable, StripeRefused, BadSetting."""
        with translated():
            return plain(attrgetter(what)(self._services).retrieve(stripe_id, params=dict(params or {})))

    def list_all(self, what: str, params: Json | None = None, *, of: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield every object of a list, page by page; `of`: the object that a list belongs to, such as a session.

        Raises: StripeUnavailable, StripeRefused, BadSetting.
        """
        with translated():
            owner = () if of is None else (of,)
            page = attrgetter(what)(self._services).list(*owner, params={"limit": PAGE_SIZE, **(params or {})})
            for found in page.auto_paging_iter():
                yield plain(found)


def plain(found: object) -> dict[str, Any]:
    """Return one of the library's objects as the JSON that it came as: it is no dict, and looks like one."""
    read: dict[str, Any] = json.loads(str(found))
    return read


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise BadSetting(f"Stripe does not accept TILL_STRIPE_API_KEY: {_said(error)}") from error
    except stripe.APIConnectionError as error:
        raise StripeUnavailable(f"Stripe cannot be reached: {_said(error)}") from error
    except stripe.StripeError as error:
        status = error.http_status
        fields = {"stripe_code": error.code, "stripe_request_id": error.request_id}
        known = {name: value for name, value in fields.items() if value is not None}
        # 409: another request with this idempotency key is still on its way.
        if status is None or status >= 500 or status in (409, 429) or status < 400:
            raise StripeUnavailable(f"Stripe cannot do it now: {_said(error)}", **known) from error
        raise StripeRefused(f"Stripe refuses it: {_said(error)}", **known) from error


def _said(error: stripe.StripeError) -> str:
    # The first sentence of the library's own messages: two spaces and advice about networks come after it.
    return re.split(r"\s{2,}|\n", (error.user_message or type(error).__name__).strip())[0]
