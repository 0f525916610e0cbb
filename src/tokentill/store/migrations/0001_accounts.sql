-- Accounts and their lots: what each user holds now. Both are projections of the journals (0002), written in the same
-- transaction; `till reconcile` proves that they agree.
--
-- Updates stay HOT (fillfactor 50): no index, and no index predicate, may mention balance, version or remaining.

-- A caller's own id as the UUID of its account, the same as tokentill.core.users.User.of: a UUID is itself, any other
-- text is the first 128 bits of its SHA-256 marked as version 8 (RFC 9562).
CREATE FUNCTION till_user_id(who text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN who ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$' THEN who::uuid
        ELSE (SELECT encode(set_byte(set_byte(digest, 6, get_byte(digest, 6) & 15 | 128),
                                     8, get_byte(digest, 8) & 63 | 128), 'hex')::uuid
                FROM (SELECT substring(sha256(convert_to(who, 'UTF8')) FOR 16) AS digest) hashed)
    END
$$;

CREATE TABLE token_accounts (
    user_id                 uuid        NOT NULL,
    external_id             text        CONSTRAINT token_accounts_external_id_length
                                        CHECK (length(external_id) BETWEEN 1 AND 255),  -- null: user_id itself
    email                   text,
    display_name            text,
    balance                 bigint      NOT NULL,
    debt                    bigint      NOT NULL,
    seq                     bigint      NOT NULL,  -- of the last journal row
    version                 bigint      NOT NULL,  -- compare-and-set: every write adds one
    last_at                 timestamptz NOT NULL,  -- the moment its last decision was made for
    lifetime_tokens_granted bigint      NOT NULL DEFAULT 0,
    lifetime_tokens_used    bigint      NOT NULL DEFAULT 0,
    lifetime_cost           numeric     NOT NULL DEFAULT 0,  -- cents
    overdraft_limit         bigint      NOT NULL DEFAULT 0,
    low_balance_threshold   bigint,
    frozen_at               timestamptz,
    created_at              timestamptz NOT NULL,
    CONSTRAINT token_accounts_pkey PRIMARY KEY (user_id),
    CONSTRAINT token_accounts_debt_not_negative CHECK (debt >= 0),
    CONSTRAINT token_accounts_debt_is_negative_balance CHECK (debt = 0 OR balance = -debt),
    CONSTRAINT token_accounts_balance_covered CHECK (balance >= -debt),
    CONSTRAINT token_accounts_seq_not_negative CHECK (seq >= 0),
    CONSTRAINT token_accounts_overdraft_limit_not_negative CHECK (overdraft_limit >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE token_lots (
    user_id         uuid        NOT NULL CONSTRAINT token_lots_account_fkey REFERENCES token_accounts,
    lot             bigint      NOT NULL,  -- seq of the journal row that opened it
    kind            text        NOT NULL CONSTRAINT token_lots_kind CHECK (kind IN (
        'purchase', 'subscription', 'drip', 'trial', 'admin', 'transfer', 'refund', 'opening')),
    granted         bigint      NOT NULL CONSTRAINT token_lots_granted_positive CHECK (granted > 0),
    remaining       bigint      NOT NULL,
    priority        smallint    NOT NULL DEFAULT 50,  -- lower burns first
    effective_at    timestamptz NOT NULL,
    expires_at      timestamptz,  -- exclusive; null: never
    paid_cents      bigint      CONSTRAINT token_lots_paid_not_negative CHECK (paid_cents >= 0),
    currency        text,
    payment_id      text,
    subscription_id text,
    cycle_number    integer,
    CONSTRAINT token_lots_pkey PRIMARY KEY (user_id, lot),
    CONSTRAINT token_lots_lifetime_positive CHECK (effective_at < expires_at),
    CONSTRAINT token_lots_remaining_in_range CHECK (remaining BETWEEN 0 AND granted)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
