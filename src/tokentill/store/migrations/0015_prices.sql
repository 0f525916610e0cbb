-- The price book: what calls cost us. Append-only: an edit writes new rows, so one can see which price a usage row was
-- reckoned with. `core.prices` says which row counts.
--
-- A revision is the number of the edit (`ai_edits`) that wrote the row. No foreign key says so: checking it row by row
-- would take half of the time that a new database needs for the first book.

CREATE TABLE ai_models (
    provider   text        NOT NULL CONSTRAINT ai_models_provider CHECK (provider = lower(provider) AND provider <> ''),
    model      text        NOT NULL CONSTRAINT ai_models_model CHECK (length(model) BETWEEN 1 AND 255),
    revision   bigint      NOT NULL,
    aliases    text[]      NOT NULL,  -- other names that mean it, whole
    match      jsonb,                 -- a rule for names that are not listed, in genai-prices' words
    position   integer     NOT NULL,  -- names are tried in this order
    is_active  boolean     NOT NULL,  -- false: retired; what was called all the same is priced
    source     text        NOT NULL CONSTRAINT ai_models_source CHECK (source IN ('genai-prices', 'own')),
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    CONSTRAINT ai_models_pkey PRIMARY KEY (provider, model, revision)  -- the newest revision is in force
);

CREATE TABLE ai_prices (
    price_id       bigint      NOT NULL,  -- to 1,000,000: of the first book; later ones by order of writing
    provider       text        NOT NULL,
    model          text        NOT NULL,
    service_tier   text        CONSTRAINT ai_prices_tier CHECK (service_tier ~ '^[a-z0-9_]{1,63}$'),  -- null: the usual
    effective_from timestamptz,           -- null: since ever
    daily_from     time,                  -- in UTC, half-open, may pass midnight; null: all day
    daily_until    time,
    prices         jsonb       CONSTRAINT ai_prices_prices_are_named CHECK (jsonb_typeof(prices) = 'object'),
                               -- pool → cents per million, as text, or steps by size of the input; null: withdrawn
    source         text        NOT NULL CONSTRAINT ai_prices_source CHECK (source IN ('genai-prices', 'override')),
    note           text,
    revision       bigint      NOT NULL,
    created_at     timestamptz NOT NULL,
    created_by     text        NOT NULL,
    CONSTRAINT ai_prices_pkey PRIMARY KEY (price_id),
    CONSTRAINT ai_prices_window_is_whole CHECK ((daily_from IS NULL) = (daily_until IS NULL)),
    CONSTRAINT ai_prices_only_overrides_are_withdrawn CHECK (prices IS NOT NULL OR source = 'override')
);

GRANT SELECT, INSERT ON ai_models, ai_prices TO till_service;
