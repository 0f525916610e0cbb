-- "Seen before?" One row per request that was carried out; a refusal leaves none. The primary key is the truth of law 3,
-- for every process at once. Key first: time-ordered keys then append at the index's right edge.

CREATE TABLE token_keys (  -- everything financial, for ever
    user_id      uuid        NOT NULL,
    key          uuid        NOT NULL,
    request_hash uuid        NOT NULL,
    kind         text        NOT NULL CONSTRAINT token_keys_kind CHECK (kind IN ('transaction', 'drip')),
    seq          bigint      NOT NULL,  -- of the journal row that answers it
    created_at   timestamptz NOT NULL,
    CONSTRAINT token_keys_pkey PRIMARY KEY (key, user_id)
);

CREATE TABLE usage_keys (  -- usage, for a window
    user_id      uuid        NOT NULL,
    key          uuid        NOT NULL,
    request_hash uuid        NOT NULL,
    seq          bigint      NOT NULL,
    created_at   timestamptz NOT NULL,  -- with it the answer's partition is found at once
    CONSTRAINT usage_keys_pkey PRIMARY KEY (key, user_id)
);
CREATE INDEX usage_keys_created_at_idx ON usage_keys USING brin (created_at);  -- for pruning
