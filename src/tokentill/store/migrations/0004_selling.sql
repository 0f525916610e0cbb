-- The money side: what Stripe told us, who its customers are, what was paid, which subscriptions run.

CREATE TABLE stripe_events (  -- the inbox: each event as received, once
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    api_version text,
    livemode    boolean     NOT NULL,
    payload     jsonb       NOT NULL,
    state       text        NOT NULL CONSTRAINT stripe_events_state CHECK (state IN (
        'received',  -- stored, not acted on yet
        'handled',   -- received, failed -> handled: what it asked for is in the books
        'ignored',   -- received, failed -> ignored: nothing to do, `detail` says why
        'failed')),  -- received -> failed: to be tried again, `detail` says why
    attempts    integer     NOT NULL,
    detail      text,
    user_id     uuid,
    seq         bigint,  -- the journal row that it caused
    occurred_at timestamptz NOT NULL,  -- when Stripe made it
    received_at timestamptz NOT NULL,
    handled_at  timestamptz,
    CONSTRAINT stripe_events_pkey PRIMARY KEY (event_id)
);
CREATE INDEX stripe_events_open_idx ON stripe_events (received_at) WHERE state IN ('received', 'failed');

CREATE TABLE stripe_customers (  -- which user a customer is
    customer_id text        NOT NULL,
    user_id     uuid        NOT NULL,
    created_at  timestamptz NOT NULL,
    CONSTRAINT stripe_customers_pkey PRIMARY KEY (customer_id)
);

CREATE TABLE payments (  -- one row per payment object
    user_id      uuid        NOT NULL,
    payment_id   text        NOT NULL,  -- a payment intent, else the session or invoice that stands for it
    amount_cents bigint      NOT NULL CONSTRAINT payments_amount_not_negative CHECK (amount_cents >= 0),
    currency     text        NOT NULL,
    customer_id  text,
    session_id   text,
    invoice_id   text,
    paid_at      timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    CONSTRAINT payments_pkey PRIMARY KEY (user_id, payment_id)
);

CREATE TABLE token_subscriptions (
    user_id            uuid        NOT NULL,
    external_id        text,  -- as in token_accounts: the first cycle may open the account
    subscription_id    text        NOT NULL,
    plan_key           text        NOT NULL,
    status             text        NOT NULL CONSTRAINT token_subscriptions_status CHECK (status IN (
        'active', 'past_due', 'paused', 'canceled')),
    billed_by          text        NOT NULL CONSTRAINT token_subscriptions_billed_by CHECK (billed_by IN (
        'stripe',   -- a cycle begins when its invoice is paid
        'clock')),  -- a cycle begins when its time has come
    anchor             timestamptz NOT NULL,  -- where cycle anchor_cycle begins
    anchor_cycle       integer     NOT NULL,
    is_anchor_known    boolean     NOT NULL,  -- false: a checkout's time stands in for the first period's
    cycle_number       integer,  -- the latest one granted
    next_drip_at       timestamptz,  -- for 'clock': when the next one falls due
    stripe_customer_id text,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    CONSTRAINT token_subscriptions_pkey PRIMARY KEY (user_id, subscription_id)
);
CREATE INDEX token_subscriptions_subscription_idx ON token_subscriptions (subscription_id);  -- whose is this invoice?
CREATE INDEX token_subscriptions_due_idx ON token_subscriptions (next_drip_at) WHERE billed_by = 'clock';

CREATE TABLE audit_log (  -- every act of an admin, and every correction of a date
    id         uuid        NOT NULL,
    user_id    uuid,  -- whom it was about
    actor      text        NOT NULL,
    act        text        NOT NULL,
    seq        bigint,  -- the journal row it caused
    detail     jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);
