-- The journals are the truth and append-only: a correction is a new row (0007 takes UPDATE and DELETE away).
--
-- Per account, seq counts 1, 2, 3 … over all three tables without gaps. The compare-and-set on token_accounts.version
-- is what keeps it so: two writers of one account cannot both commit.
--
-- lot_moves is flat: {lot, signed tokens, lot, signed tokens, …}.
-- balance_after − balance_before = sum of its tokens − debt_change.

CREATE TABLE token_transactions (
    user_id                  uuid        NOT NULL CONSTRAINT token_transactions_account_fkey REFERENCES token_accounts,
    seq                      bigint      NOT NULL CONSTRAINT token_transactions_seq_positive CHECK (seq > 0),
    id                       uuid        NOT NULL,
    transaction_type         text        NOT NULL CONSTRAINT token_transactions_type CHECK (transaction_type IN (
        'grant', 'purchase', 'deduction', 'refund', 'transfer', 'expiration', 'opening')),
    source                   text        NOT NULL CONSTRAINT token_transactions_source CHECK (source IN (
        'admin', 'subscription', 'trial', 'token_pack', 'stripe', 'refund', 'transfer', 'usage', 'legacy')),
    token_amount             bigint      NOT NULL,  -- signed
    balance_before           bigint      NOT NULL,
    balance_after            bigint      NOT NULL,
    amount_paid_cents        bigint      CONSTRAINT token_transactions_paid_not_negative CHECK (amount_paid_cents >= 0),
    currency                 text,
    stripe_payment_intent_id text,
    stripe_session_id        text,
    stripe_invoice_id        text,
    subscription_id          text,
    token_pack_id            text,
    lot                      bigint,  -- the lot it opened: its own seq
    lot_moves                bigint[]    NOT NULL,
    debt_change              bigint      NOT NULL,
    related_user_id          uuid,
    reverses_seq             bigint,
    reason                   text,
    metadata                 jsonb       NOT NULL,
    created_by               text,
    idempotency_key          uuid,
    effective_at             timestamptz NOT NULL,
    created_at               timestamptz NOT NULL,
    CONSTRAINT token_transactions_pkey PRIMARY KEY (user_id, seq),
    CONSTRAINT token_transactions_adds_up CHECK (balance_after = balance_before + token_amount),
    CONSTRAINT token_transactions_lot_is_seq CHECK (lot = seq),
    CONSTRAINT token_transactions_lot_moves_paired CHECK (cardinality(lot_moves) % 2 = 0),
    CONSTRAINT token_transactions_sign CHECK (CASE transaction_type
        WHEN 'grant' THEN token_amount > 0
        WHEN 'purchase' THEN token_amount > 0
        WHEN 'deduction' THEN token_amount < 0
        WHEN 'expiration' THEN token_amount < 0
        ELSE true END)
);

CREATE TABLE token_drips (
    user_id                uuid        NOT NULL CONSTRAINT token_drips_account_fkey REFERENCES token_accounts,
    seq                    bigint      NOT NULL CONSTRAINT token_drips_seq_positive CHECK (seq > 0),
    id                     uuid        NOT NULL,
    subscription_id        text        NOT NULL,
    drip_date              timestamptz NOT NULL,  -- when the cycle began
    drip_amount            bigint      NOT NULL CONSTRAINT token_drips_amount_positive CHECK (drip_amount > 0),
    cycle_number           integer     NOT NULL,
    rollover_from_previous bigint      NOT NULL,
    rollover_cycles_count  integer     NOT NULL,
    expired_tokens         bigint      NOT NULL,
    balance_before         bigint      NOT NULL,
    balance_after          bigint      NOT NULL,
    billing_period_start   timestamptz NOT NULL,
    billing_period_end     timestamptz NOT NULL,
    lot                    bigint      NOT NULL,
    lot_moves              bigint[]    NOT NULL,
    debt_change            bigint      NOT NULL,
    metadata               jsonb       NOT NULL,
    idempotency_key        uuid,
    effective_at           timestamptz NOT NULL,
    created_at             timestamptz NOT NULL,
    CONSTRAINT token_drips_pkey PRIMARY KEY (user_id, seq),
    CONSTRAINT token_drips_once_per_cycle UNIQUE (user_id, subscription_id, cycle_number),
    CONSTRAINT token_drips_adds_up CHECK (balance_after = balance_before + drip_amount),
    CONSTRAINT token_drips_lot_is_seq CHECK (lot = seq),
    CONSTRAINT token_drips_lot_moves_paired CHECK (cardinality(lot_moves) % 2 = 0),
    CONSTRAINT token_drips_period CHECK (billing_period_start < billing_period_end)
);

-- One row per AI operation, the hot table: monthly partitions, one btree, no foreign key (it costs 40 % of COPY).
CREATE TABLE token_usage (
    user_id             uuid        NOT NULL,
    seq                 bigint      NOT NULL CONSTRAINT token_usage_seq_positive CHECK (seq > 0),
    action_type         text        NOT NULL,
    model_used          text,
    tokens_used         bigint      NOT NULL CONSTRAINT token_usage_tokens_not_negative CHECK (tokens_used >= 0),
    input_tokens        bigint      CONSTRAINT token_usage_input_not_negative CHECK (input_tokens >= 0),
    output_tokens       bigint      CONSTRAINT token_usage_output_not_negative CHECK (output_tokens >= 0),
    pools               jsonb,
    cost_estimate       numeric,  -- cents, with fractions; null: no price was known
    price_id            bigint,
    success             boolean     NOT NULL,
    error_message       text,
    estimated           boolean     NOT NULL,
    balance_before      bigint      NOT NULL,
    balance_after       bigint      NOT NULL,
    lot_moves           bigint[]    NOT NULL,
    debt_change         bigint      NOT NULL,
    hold_id             uuid,
    corrects_seq        bigint,
    provider_request_id text,
    idempotency_key     uuid,
    metadata            jsonb       NOT NULL,
    occurred_at         timestamptz NOT NULL,
    created_at          timestamptz NOT NULL,
    CONSTRAINT token_usage_pkey PRIMARY KEY (user_id, seq, created_at),
    CONSTRAINT token_usage_adds_up CHECK (balance_after = balance_before - tokens_used),
    CONSTRAINT token_usage_lot_moves_paired CHECK (cardinality(lot_moves) % 2 = 0),
    CONSTRAINT token_usage_failure_is_free CHECK (success OR tokens_used = 0)
) PARTITION BY RANGE (created_at);
CREATE INDEX token_usage_created_at_idx ON token_usage USING brin (created_at);  -- for reports over a time

-- Makes the partition of one month (any day of it, in UTC). The service may not create tables; this it may.
CREATE FUNCTION till_make_usage_partition(a_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first_day date := date_trunc('month', a_day::timestamp)::date;
    partition_name text := 'token_usage_' || to_char(first_day, 'YYYY_MM');
BEGIN
    IF a_day NOT BETWEEN '2000-01-01' AND '2199-12-31' THEN
        RAISE EXCEPTION 'no usage is written on %', a_day USING ERRCODE = 'datetime_field_overflow';
    END IF;
    IF to_regclass(partition_name) IS NULL THEN
        -- Made apart and then attached: CREATE … PARTITION OF would wait for every reader, and hold up every writer.
        EXECUTE format('CREATE TABLE %I (LIKE token_usage INCLUDING ALL)', partition_name);
        EXECUTE format('ALTER TABLE token_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition_name,
                       first_day::timestamptz, (first_day + interval '1 month')::date::timestamptz);
    END IF;
EXCEPTION WHEN duplicate_table OR duplicate_object OR unique_violation THEN  -- another process was faster
    NULL;
END
$$;
