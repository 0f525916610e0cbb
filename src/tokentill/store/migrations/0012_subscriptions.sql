-- How subscriptions stood, as it was told, and which periods were paid. What `token_subscriptions` says of both is a
-- projection: the order in which news came in leaves no trace in it.

CREATE TABLE subscription_states (  -- append-only
    subscription_id text        NOT NULL,
    at              timestamptz NOT NULL,  -- when Stripe made the event, or somebody acted
    told_by         text        NOT NULL,  -- the event, or till:… for an act of ours
    user_id         uuid,  -- whose, if it is ours alone; null: told by Stripe, and perhaps nobody knows yet whose it is
    status          text CONSTRAINT subscription_states_status CHECK (status IN (
        'active', 'past_due', 'paused', 'canceled')),  -- null: it did not say
    stripe_status   text,
    plan_key        text,
    is_trial        boolean     NOT NULL,
    trial_starts_at timestamptz,
    trial_ends_at   timestamptz,
    cancel_at       timestamptz,
    occurred_at     timestamptz,  -- when the subscription began, as far as was known
    created_at      timestamptz NOT NULL,
    CONSTRAINT subscription_states_pkey PRIMARY KEY (subscription_id, at, told_by)
);

CREATE TABLE subscription_periods (  -- append-only
    user_id           uuid        NOT NULL,
    subscription_id   text        NOT NULL,
    starts_at         timestamptz NOT NULL,
    ends_at           timestamptz NOT NULL,
    plan_key          text        NOT NULL,
    first_cycle       integer     NOT NULL,  -- given when the invoice is paid; our clock gives the others
    cycles_count      integer     NOT NULL CONSTRAINT subscription_periods_has_cycles CHECK (cycles_count > 0),
    invoice_id        text        NOT NULL,
    payment_id        text        NOT NULL,
    amount_paid_cents bigint      NOT NULL CONSTRAINT subscription_periods_paid_not_negative
                                  CHECK (amount_paid_cents >= 0),
    currency          text        NOT NULL,
    paid_at           timestamptz NOT NULL,
    created_at        timestamptz NOT NULL,
    CONSTRAINT subscription_periods_pkey PRIMARY KEY (user_id, subscription_id, starts_at),
    CONSTRAINT subscription_periods_cycle_once UNIQUE (user_id, subscription_id, first_cycle),
    CONSTRAINT subscription_periods_span_positive CHECK (starts_at < ends_at)
);

ALTER TABLE token_subscriptions
    ADD COLUMN stripe_status      text,  -- as Stripe calls it
    ADD COLUMN status_at          timestamptz,  -- since when it stands like this; null: since it began
    ADD COLUMN paid_until         timestamptz,
    ADD COLUMN trial_starts_at    timestamptz,
    ADD COLUMN trial_ends_at      timestamptz,
    ADD COLUMN cancel_at          timestamptz,  -- when it will end, if that is known
    ADD COLUMN announced_plan_key text,  -- the plan that the next paid period will be of, as far as Stripe has told
    ADD COLUMN revision           bigint NOT NULL DEFAULT 0;  -- grows with all news: guards next_drip_at

-- next_drip_at only saves work: nothing is due before it. Null: nothing will be, unless there is news.
DROP INDEX token_subscriptions_due_idx;
CREATE INDEX token_subscriptions_due_idx ON token_subscriptions (next_drip_at) WHERE next_drip_at IS NOT NULL;

GRANT SELECT, INSERT ON subscription_states, subscription_periods TO till_service;
