-- Holds: tokens set aside for spends whose size is not known yet. How much is held is the sum of the open ones, a table
-- that one can list, and never a counter. A write of a hold goes with the compare-and-set on token_accounts.version.
--
-- Capturing and voiding stay HOT (fillfactor 50): no index, and no index predicate, may mention state.

CREATE TABLE token_holds (
    user_id      uuid        NOT NULL,  -- of an account: its version is compared in the same transaction
    hold_id      uuid        NOT NULL,  -- also the idempotency key of placing it: the row answers "seen before?"
    request_hash uuid        NOT NULL,
    tokens       bigint      NOT NULL CONSTRAINT token_holds_tokens_positive CHECK (tokens > 0),
    state        text        NOT NULL CONSTRAINT token_holds_state CHECK (state IN (
        'placed',     -- tokens set aside until expires_at; from then on expired, which nobody has to write
        'captured',   -- placed -> captured: what the call took is spent, the rest is free; also after its expiry
        'voided')),   -- placed -> voided: all of it is free, by request
    action_type  text        NOT NULL,
    model        text,
    metadata     jsonb       NOT NULL,
    placed_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,  -- exclusive; renewing moves it on
    closed_at    timestamptz,
    captured_seq bigint,  -- of the token_usage row that captured it
    created_at   timestamptz NOT NULL,
    CONSTRAINT token_holds_pkey PRIMARY KEY (hold_id, user_id),
    CONSTRAINT token_holds_lifetime_positive CHECK (placed_at < expires_at),
    CONSTRAINT token_holds_closed_when_ended CHECK ((state = 'placed') = (closed_at IS NULL)),
    CONSTRAINT token_holds_captured_by_a_row CHECK ((state = 'captured') = (captured_seq IS NOT NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX token_holds_user_id_expires_at_idx ON token_holds (user_id, expires_at);  -- an account's open ones

CREATE VIEW token_holds_now AS  -- as people want to see them: expired ones are called so
    SELECT user_id, hold_id, tokens,
           CASE WHEN state = 'placed' AND expires_at <= statement_timestamp() THEN 'expired' ELSE state END AS state,
           action_type, model, metadata, placed_at, expires_at, closed_at, captured_seq
      FROM token_holds;

GRANT SELECT, INSERT, UPDATE ON token_holds TO till_service;
GRANT SELECT ON token_holds_now TO till_service;
