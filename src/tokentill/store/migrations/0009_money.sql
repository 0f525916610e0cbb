-- The whole money side: payments under every name Stripe gives them, refunds, disputes; what the till could not make
-- fit; and an inbox that is tried again.
--
-- These tables are Stripe's facts, not accounts: a refund may be known before anybody knows whose payment it was.

ALTER TABLE payments DROP CONSTRAINT payments_pkey;
ALTER TABLE payments ADD CONSTRAINT payments_pkey PRIMARY KEY (payment_id);
ALTER TABLE payments ALTER COLUMN user_id DROP NOT NULL,  -- null: nobody has been granted anything for it
    ALTER COLUMN amount_cents DROP NOT NULL,
    ALTER COLUMN currency DROP NOT NULL,
    ALTER COLUMN paid_at DROP NOT NULL,
    ADD COLUMN period_start timestamptz,  -- of an invoice: what it paid for is in the books
    ADD COLUMN refunded_cents bigint CONSTRAINT payments_refunded_not_negative CHECK (refunded_cents >= 0),  -- as the
                                     -- charge says; payment_refunds outrank it
    ADD COLUMN refunded_seen_at timestamptz,
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,  -- grows with all that is learnt of its refunds and disputes
    ADD COLUMN settled_revision bigint NOT NULL DEFAULT 0,  -- as far as the books have followed
    ADD COLUMN asked_at timestamptz;  -- when Stripe was asked for its other names, nobody having been granted anything
UPDATE payments SET period_start = paid_at WHERE invoice_id IS NOT NULL AND session_id IS NULL;
CREATE INDEX payments_user_id_idx ON payments (user_id);
CREATE INDEX payments_invoice_id_idx ON payments (invoice_id);
CREATE INDEX payments_unsettled_idx ON payments (payment_id) WHERE revision > settled_revision;

-- One payment has several names (its intent, its charge, the invoice it paid, the checkout it came from, the cycle of
-- a subscription it bought: sub_…#3), and each event tells some of them. Both directions are here; what hangs together
-- is one payment, in whatever order its names were learnt.
CREATE TABLE payment_links (
    name       text        NOT NULL,
    other      text        NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT payment_links_pkey PRIMARY KEY (name, other)
);

CREATE TABLE payment_refunds (  -- each Refund object as its newest snapshot says
    refund_id    text        NOT NULL,
    payment_id   text        NOT NULL,
    amount_cents bigint      NOT NULL CONSTRAINT payment_refunds_amount_not_negative CHECK (amount_cents >= 0),
    currency     text        NOT NULL,
    status       text        NOT NULL CONSTRAINT payment_refunds_status CHECK (status IN (
        'pending', 'requires_action', 'succeeded', 'failed', 'canceled')),
    seen_at      timestamptz NOT NULL,  -- when Stripe made that snapshot
    created_at   timestamptz NOT NULL,
    CONSTRAINT payment_refunds_pkey PRIMARY KEY (refund_id)
);
CREATE INDEX payment_refunds_payment_id_idx ON payment_refunds (payment_id);

CREATE TABLE payment_disputes (
    dispute_id       text        NOT NULL,
    payment_id       text        NOT NULL,
    amount_cents     bigint      NOT NULL CONSTRAINT payment_disputes_amount_not_negative CHECK (amount_cents >= 0),
    currency         text        NOT NULL,
    status           text        NOT NULL CONSTRAINT payment_disputes_status CHECK (status IN (
        'open',       -- the money is withdrawn, or about to be
        'won',        -- open -> won: it has come back, or is about to
        'lost',       -- open -> lost: it is gone
        'harmless')), -- an inquiry: no money moved
    withdrawn_cents  bigint      NOT NULL,  -- in all, so far
    reinstated_cents bigint      NOT NULL,
    seen_at          timestamptz NOT NULL,
    created_at       timestamptz NOT NULL,
    CONSTRAINT payment_disputes_pkey PRIMARY KEY (dispute_id)
);
CREATE INDEX payment_disputes_payment_id_idx ON payment_disputes (payment_id);

CREATE TABLE findings (  -- what does not fit and somebody should look at, each once
    id         uuid        NOT NULL,
    kind       text        NOT NULL,
    subject    text        NOT NULL,  -- the object in Stripe, or the event
    user_id    uuid,
    expected   text        NOT NULL,
    found      text        NOT NULL,
    created_at timestamptz NOT NULL,
    closed_at  timestamptz,
    closed_by  text,
    CONSTRAINT findings_pkey PRIMARY KEY (id),
    CONSTRAINT findings_once UNIQUE (kind, subject)
);
CREATE INDEX findings_open_idx ON findings (created_at) WHERE closed_at IS NULL;

ALTER TABLE stripe_events ADD COLUMN next_attempt_at timestamptz;  -- of a failed one; null: nobody tries by itself
CREATE INDEX stripe_events_received_at_idx ON stripe_events (received_at);
CREATE INDEX stripe_events_next_attempt_at_idx ON stripe_events (next_attempt_at) WHERE state = 'failed';

CREATE TABLE stripe_mode (  -- at most one row: test and live never mix
    is_only    boolean     NOT NULL DEFAULT true CONSTRAINT stripe_mode_is_only CHECK (is_only),
    livemode   boolean     NOT NULL,
    decided_at timestamptz NOT NULL,  -- when the first event was acted on
    CONSTRAINT stripe_mode_pkey PRIMARY KEY (is_only)
);

ALTER TABLE token_accounts ADD COLUMN frozen_for text CONSTRAINT token_accounts_frozen_for CHECK (frozen_for IN (
    'admin',      -- until an admin releases it
    'dispute'));  -- while a dispute is open
ALTER TABLE token_accounts ADD CONSTRAINT token_accounts_frozen_for_a_reason
    CHECK ((frozen_at IS NULL) = (frozen_for IS NULL)) NOT VALID;
UPDATE token_accounts SET frozen_for = 'admin' WHERE frozen_at IS NOT NULL;
ALTER TABLE token_accounts VALIDATE CONSTRAINT token_accounts_frozen_for_a_reason;

-- As in 0006, but that money which moved back has a word of its own: no admin took or gave those tokens.
CREATE OR REPLACE VIEW unified.token_usage AS
    SELECT user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, cost_estimate,
           success, error_message, metadata, created_at
      FROM public.token_usage
    UNION ALL
    SELECT user_id, seq,
           CASE WHEN transaction_type = 'purchase' THEN 'token_pack_purchase'
                WHEN transaction_type IN ('expiration', 'refund') THEN transaction_type
                WHEN token_amount < 0 THEN 'admin_deduct'
                WHEN source = 'subscription' THEN 'subscription_grant'
                WHEN source = 'trial' THEN 'trial_grant'
                ELSE 'admin_grant' END,
           NULL, abs(token_amount), NULL, NULL, NULL, true, NULL, metadata, created_at
      FROM public.token_transactions
    UNION ALL
    SELECT user_id, seq, 'subscription_grant', NULL, drip_amount, NULL, NULL, NULL, true, NULL, metadata, created_at
      FROM public.token_drips;

CREATE OR REPLACE VIEW unified.token_transactions AS  -- grants negative, as the first system wrote them
    SELECT user_id, seq,
           CASE WHEN transaction_type = 'purchase' THEN 'token_pack_purchase'
                WHEN transaction_type IN ('expiration', 'refund') THEN transaction_type
                WHEN token_amount < 0 THEN 'admin_deduct'
                WHEN source = 'subscription' THEN 'subscription_grant'
                WHEN source = 'trial' THEN 'trial_grant'
                ELSE 'admin_grant' END AS action_type,
           -token_amount AS tokens_used, balance_after AS tokens_remaining, metadata, created_at
      FROM public.token_transactions
    UNION ALL
    SELECT user_id, seq, 'subscription_grant', -drip_amount, balance_after, metadata, created_at
      FROM public.token_drips;

GRANT SELECT, INSERT, UPDATE ON payment_refunds, payment_disputes, findings, stripe_mode TO till_service;
GRANT SELECT, INSERT ON payment_links TO till_service;
