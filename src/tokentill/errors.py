"""Every error a caller can meet.

* TillError
  x InvalidRequest           the request can never work; do not retry
    + InvalidAmount
    + InvalidUserId
    + InvalidTime
    + InvalidText
    + UnknownAction
    + UnknownModel
    + UnknownPlan
    + UnknownPack
    + InvalidCatalog
    + StripeRefused
  x BadSignature             the webhook's sender cannot be believed
  x BodyTooLarge
  x BodyTooSlow
  x MalformedBody
  x Unauthorized
  x NotFound
    + AccountNotFound
    + HoldNotFound
    + CustomerNotFound
    + PaymentNotFound
    + SubscriptionNotFound
    + EventNotFound
    + FindingNotFound
    + ActionNotFound
    + ModelNotFound
    + PriceNotFound
  x Conflict                 the request contradicts what is already recorded
    + IdempotencyConflict
    + AccountFrozen
    + HoldClosed
    + PriceChangeTooLarge
  x Insufficient
    + InsufficientTokens
  x Unavailable              try again later; nothing was written
    + Overloaded
    + DatabaseUnavailable
    + StripeUnavailable
    + SwitchedOff
  x Misconfigured            an operator must act; nothing was written
    + BadSetting
    + EmbeddedPostgresError
    + UnsafePostgres
    + SchemaMissing
    + SchemaNewer
    + SchemaChanged
    + LegacyTables

`code` is part of the API: it never changes and never gets reused. The branch says which kind of answer it is
(`http.problems` maps branches to statuses); the leaf says what happened.
"""

from collections.abc import Mapping


class TillError(Exception):
    """Anything tokentill refuses or cannot do. `fields` are the facts of the case, for programs."""

    code = "till_error"
    retryable = False

    def __init__(self, detail: str, **fields: object) -> None:
        self.detail = detail
        self.fields: Mapping[str, object] = fields
        super().__init__(detail)

    def __reduce__(self) -> tuple[object, ...]:
        # As it is: to be made anew from its message, an error would need all that it was made from.
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[TillError], args: tuple[object, ...]) -> TillError:
    error = kind.__new__(kind)
    error.args = args
    return error


class InvalidRequest(TillError):
    """The request can never work. Nothing was written."""

    code = "invalid_request"


class InvalidAmount(InvalidRequest):
    """A number of tokens or cents that is not a whole number in range. Nothing was written."""

    code = "invalid_amount"


class InvalidUserId(InvalidRequest):
    """A user id is a text of 1 to 255 characters. Nothing was written."""

    code = "invalid_user_id"


class InvalidTime(InvalidRequest):
    """A time without a zone, or in an impossible order. Nothing was written."""

    code = "invalid_time"


class InvalidText(InvalidRequest):
    """A text that PostgreSQL cannot hold or that is too long. Nothing was written."""

    code = "invalid_text"


class UnknownAction(InvalidRequest):
    """No AI action of that name is configured. Nothing was written."""

    code = "unknown_action"


class UnknownModel(InvalidRequest):
    """The price book has no such model, and calls without a price are refused. Nothing was written."""

    code = "unknown_model"


class UnknownPlan(InvalidRequest):
    """The catalog has no such plan. Nothing was written."""

    code = "unknown_plan"


class UnknownPack(InvalidRequest):
    """The catalog has no such token pack. Nothing was written."""

    code = "unknown_pack"


class InvalidCatalog(InvalidRequest):
    """The price list cannot be a catalog; the message says what is wrong, and where. Nothing was written."""

    code = "invalid_catalog"


class StripeRefused(InvalidRequest):
    """Stripe will not do this; the message is Stripe's. Nothing was sold, and the key may be used again."""

    code = "stripe_refused"


class BadSignature(TillError):
    """The webhook's signature is missing, forged, too old or from the future. Nothing was stored."""

    code = "bad_signature"


class BodyTooLarge(TillError):
    """The body is larger than this endpoint takes. Nothing was stored."""

    code = "body_too_large"


class BodyTooSlow(TillError):
    """The body did not arrive in time. Nothing was stored."""

    code = "body_too_slow"


class MalformedBody(TillError):
    """The body is not the JSON this endpoint takes. Nothing was stored."""

    code = "malformed_body"


class Unauthorized(TillError):
    """The request carries no valid key. Nothing was written."""

    code = "unauthorized"


class NotFound(TillError):
    """What the request is about does not exist. Nothing was written."""

    code = "not_found"


class AccountNotFound(NotFound):
    """This user has no account yet: a grant, a purchase or a drip opens one. Nothing was written."""

    code = "account_not_found"


class HoldNotFound(NotFound):
    """This account has no such hold. Nothing was written."""

    code = "hold_not_found"


class CustomerNotFound(NotFound):
    """This user is no customer in Stripe that we know of. Nothing was written."""

    code = "customer_not_found"


class PaymentNotFound(NotFound):
    """Nothing was granted for this payment, by any of its names."""

    code = "payment_not_found"


class SubscriptionNotFound(NotFound):
    """This user has no such subscription. Nothing was written."""

    code = "subscription_not_found"


class EventNotFound(NotFound):
    """The inbox has no Stripe event of that id. Nothing was written."""

    code = "event_not_found"


class FindingNotFound(NotFound):
    """There is no finding of that id. Nothing was written."""

    code = "finding_not_found"


class ActionNotFound(NotFound):
    """There is no AI action of that name. Nothing was written."""

    code = "action_not_found"


class ModelNotFound(NotFound):
    """The price book has no such model of that provider. Nothing was written."""

    code = "model_not_found"


class PriceNotFound(NotFound):
    """The price book has no such price. Nothing was written."""

    code = "price_not_found"


class Conflict(TillError):
    """The request contradicts what is already recorded. Nothing was written."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """The key was used before for another request. Nothing was written."""

    code = "idempotency_conflict"


class AccountFrozen(Conflict):
    """The account is frozen: it refuses spends and holds until it is released. Nothing was written."""

    code = "account_frozen"


class HoldClosed(Conflict):
    """The hold has ended in another way than the request wants: captured, voided or expired. Nothing was written."""

    code = "hold_closed"


class PriceChangeTooLarge(Conflict):
    """An update would change a price by more than was allowed. Nothing was written."""

    code = "price_change_too_large"


class Insufficient(TillError):
    """The account cannot cover it. Nothing was written."""

    code = "insufficient"


class InsufficientTokens(Insufficient):
    """The account cannot cover the spend. Nothing was written, and the key may be used again."""

    code = "insufficient_tokens"

    def __init__(self, *, requested_tokens: int, available_tokens: int, overdraft_limit: int = 0) -> None:
        self.requested_tokens = requested_tokens
        self.available_tokens = available_tokens
        self.shortfall_tokens = requested_tokens - available_tokens - overdraft_limit
        super().__init__(
            f"Asked for {requested_tokens:,} tokens; {available_tokens:,} are available, "
            f"{self.shortfall_tokens:,} too few.",
            requested_tokens=requested_tokens,
            available_tokens=available_tokens,
            shortfall_tokens=self.shortfall_tokens,
        )


class Unavailable(TillError):
    """Not now. Nothing was written; try again later with the same idempotency key."""

    code = "unavailable"
    retryable = True


class Overloaded(Unavailable):
    """More work waits than the till takes on. Nothing was written."""

    code = "overloaded"


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be reached. If the answer to a write was lost, repeat it with the same idempotency key."""

    code = "database_unavailable"


class StripeUnavailable(Unavailable):
    """Stripe cannot be reached or cannot do it now. If its answer was lost, repeat with the same idempotency key."""

    code = "stripe_unavailable"


class SwitchedOff(Unavailable):
    """This endpoint is off until a setting is made. Nothing was stored."""

    code = "switched_off"
    retryable = False


class Misconfigured(TillError):
    """The till cannot work as it is set up; the message says what to do. Nothing was written."""

    code = "misconfigured"


class BadSetting(Misconfigured):
    """A setting (an environment variable) has a value that cannot be used."""

    code = "bad_setting"


class EmbeddedPostgresError(Misconfigured):
    """The embedded PostgreSQL cannot be started; the message says what to do."""

    code = "embedded_postgres"


class UnsafePostgres(Misconfigured):
    """The server would lose acknowledged writes in a crash (fsync, full_page_writes or synchronous_commit is off)."""

    code = "unsafe_postgres"


class SchemaMissing(Misconfigured):
    """The database has no tokentill schema, or an older one: run `till migrate`."""

    code = "schema_missing"


class SchemaNewer(Misconfigured):
    """The database was migrated by a newer tokentill: upgrade this one."""

    code = "schema_newer"


class SchemaChanged(Misconfigured):
    """A migration that was applied differs from the one shipped."""

    code = "schema_changed"


class LegacyTables(Misconfigured):
    """The database already holds token tables that tokentill did not make: `till import-legacy` is the way in."""

    code = "legacy_tables"
