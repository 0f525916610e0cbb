-- What is sold, versioned: an edit writes new rows, and the newest version of each key is in force. Nothing that was
-- granted refers to these tables; a row is never changed, so one can see what was sold for how much at any time.
--
-- A version is the number of the edit that wrote it. Each edit takes the number after the one it has read: of two at
-- the same moment one finds its number taken, and has to look again.

CREATE TABLE catalog_revisions (
    revision   bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    CONSTRAINT catalog_revisions_pkey PRIMARY KEY (revision)
);

CREATE TABLE catalog_plans (
    key                 text        NOT NULL CONSTRAINT catalog_plans_key CHECK (key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    version             bigint      NOT NULL CONSTRAINT catalog_plans_version_fkey REFERENCES catalog_revisions,
    name                text        NOT NULL,
    kind                text        NOT NULL CONSTRAINT catalog_plans_kind CHECK (kind IN (
        'annual',  -- all tokens at once, for a year
        'drip')),  -- tokens every 28 days
    price_cents         bigint      NOT NULL CONSTRAINT catalog_plans_price_not_negative CHECK (price_cents >= 0),
    currency            text        NOT NULL CONSTRAINT catalog_plans_currency CHECK (currency ~ '^[a-z]{3}$'),
    tokens              bigint      NOT NULL CONSTRAINT catalog_plans_tokens_positive CHECK (tokens > 0),
    rollover_cycles     integer     NOT NULL CONSTRAINT catalog_plans_rollover_not_negative CHECK (rollover_cycles >= 0),
    rollover_cap_tokens bigint      CONSTRAINT catalog_plans_rollover_cap_positive CHECK (rollover_cap_tokens > 0),
    price_ids           text[]      NOT NULL,  -- Stripe prices that name it, in renewals too
    stripe_price_id     text        CONSTRAINT catalog_plans_price_id_is_named  -- the one that sells it
                                    CHECK (stripe_price_id IS NULL OR stripe_price_id = ANY (price_ids)),
    is_active           boolean     NOT NULL,  -- false: retired; what was sold goes on
    created_at          timestamptz NOT NULL,
    created_by          text        NOT NULL,
    CONSTRAINT catalog_plans_pkey PRIMARY KEY (key, version)
);

CREATE TABLE catalog_packs (
    key             text        NOT NULL CONSTRAINT catalog_packs_key CHECK (key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    version         bigint      NOT NULL CONSTRAINT catalog_packs_version_fkey REFERENCES catalog_revisions,
    name            text        NOT NULL,
    price_cents     bigint      NOT NULL CONSTRAINT catalog_packs_price_not_negative CHECK (price_cents >= 0),
    currency        text        NOT NULL CONSTRAINT catalog_packs_currency CHECK (currency ~ '^[a-z]{3}$'),
    tokens          bigint      NOT NULL CONSTRAINT catalog_packs_tokens_positive CHECK (tokens > 0),
    price_ids       text[]      NOT NULL,
    stripe_price_id text        CONSTRAINT catalog_packs_price_id_is_named
                                CHECK (stripe_price_id IS NULL OR stripe_price_id = ANY (price_ids)),
    is_active       boolean     NOT NULL,
    created_at      timestamptz NOT NULL,
    created_by      text        NOT NULL,
    CONSTRAINT catalog_packs_pkey PRIMARY KEY (key, version)
);

CREATE TABLE catalog_trials (  -- what a subscription gives that starts with a trial
    version    bigint      NOT NULL CONSTRAINT catalog_trials_version_fkey REFERENCES catalog_revisions,
    tokens     bigint      NOT NULL CONSTRAINT catalog_trials_tokens_positive CHECK (tokens > 0),
    days       integer     NOT NULL CONSTRAINT catalog_trials_days_positive CHECK (days > 0),
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    CONSTRAINT catalog_trials_pkey PRIMARY KEY (version)
);

INSERT INTO catalog_revisions VALUES (1, statement_timestamp(), 'tokentill');  -- the example, core.catalog.EXAMPLE
INSERT INTO catalog_plans VALUES
    ('vision_pro_annual', 1, 'Vision Pro Annual', 'annual', 99900, 'usd', 5000000, 3, NULL, '{}', NULL, true,
     statement_timestamp(), 'tokentill'),
    ('vision_pro_28day', 1, 'Vision Pro 28-Day', 'drip', 9900, 'usd', 375000, 3, NULL, '{}', NULL, true,
     statement_timestamp(), 'tokentill');
INSERT INTO catalog_packs VALUES
    ('power', 1, 'Power Pack', 9900, 'usd', 2000000, '{}', NULL, true, statement_timestamp(), 'tokentill'),
    ('mega', 1, 'Mega Pack', 19900, 'usd', 5000000, '{}', NULL, true, statement_timestamp(), 'tokentill'),
    ('ultra', 1, 'Ultra Pack', 39900, 'usd', 12000000, '{}', NULL, true, statement_timestamp(), 'tokentill');
INSERT INTO catalog_trials VALUES (1, 1000000, 56, statement_timestamp(), 'tokentill');

-- What a buyer was sent to Stripe with. Written before Stripe is asked, with all that it will be asked, so that asking
-- again after a crash asks the same.
CREATE TABLE checkouts (
    user_id      uuid        NOT NULL,  -- may have no account yet
    checkout_id  uuid        NOT NULL,  -- of the user and the caller's idempotency key
    request_hash uuid        NOT NULL,
    offer_key    text        NOT NULL,
    quantity     integer     NOT NULL CONSTRAINT checkouts_quantity_positive CHECK (quantity > 0),
    params       jsonb       NOT NULL,  -- what Stripe is asked
    attempt      integer     NOT NULL,  -- part of Stripe's idempotency key: Stripe remembers its refusals, too
    state        text        NOT NULL CONSTRAINT checkouts_state CHECK (state IN (
        'asked',     -- Stripe may or may not have made the session
        'open',      -- asked -> open: the buyer can pay at `url`
        'refused')), -- asked -> refused: Stripe will not make it; refused -> asked: the caller asks again
    detail       text,  -- why it was refused
    session_id   text,
    url          text,
    expires_at   timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT checkouts_pkey PRIMARY KEY (checkout_id, user_id),
    CONSTRAINT checkouts_open_has_a_session CHECK ((state = 'open') = (session_id IS NOT NULL))
);
CREATE INDEX checkouts_user_id_idx ON checkouts (user_id);
CREATE INDEX checkouts_session_id_idx ON checkouts (session_id);

CREATE INDEX stripe_customers_user_id_idx ON stripe_customers (user_id);  -- which customer is this user?

GRANT SELECT, INSERT ON catalog_revisions, catalog_plans, catalog_packs, catalog_trials TO till_service;
GRANT SELECT, INSERT, UPDATE ON checkouts TO till_service;
