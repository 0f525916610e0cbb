-- Generated from the migrations by `make schema`; do not edit. It is read by people, never executed.

CREATE SCHEMA till_jobs;

CREATE SCHEMA unified;

CREATE TYPE till_jobs.procrastinate_job_event_type AS ENUM (
    'deferred',
    'started',
    'deferred_for_retry',
    'failed',
    'succeeded',
    'cancelled',
    'abort_requested',
    'aborted',
    'scheduled',
    'retried'
);

CREATE TYPE till_jobs.procrastinate_job_status AS ENUM (
    'todo',
    'doing',
    'succeeded',
    'failed',
    'cancelled',
    'aborting',
    'aborted'
);

CREATE TYPE till_jobs.procrastinate_job_to_defer_v1 AS (
	queue_name character varying,
	task_name character varying,
	priority integer,
	lock text,
	queueing_lock text,
	args jsonb,
	scheduled_at timestamp with time zone
);

CREATE FUNCTION public.till_make_usage_partition(a_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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

CREATE FUNCTION public.till_user_id(who text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
    SELECT CASE
        WHEN who ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$' THEN who::uuid
        ELSE (SELECT encode(set_byte(set_byte(digest, 6, get_byte(digest, 6) & 15 | 128),
                                     8, get_byte(digest, 8) & 63 | 128), 'hex')::uuid
                FROM (SELECT substring(sha256(convert_to(who, 'UTF8')) FOR 16) AS digest) hashed)
    END
$_$;

CREATE FUNCTION till_jobs.procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;

BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO _job_id;

    END IF;

    IF _job_id IS NULL THEN
        IF abort THEN
            UPDATE procrastinate_jobs
            SET abort_requested = true,
                status = CASE status
                    WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status
                END
            WHERE id = job_id AND status IN ('todo', 'doing')
            RETURNING id INTO _job_id;

        ELSE
            UPDATE procrastinate_jobs
            SET status = 'cancelled'::procrastinate_job_status
            WHERE id = job_id AND status = 'todo'
            RETURNING id INTO _job_id;

        END IF;

    END IF;

    RETURN _job_id;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_defer_jobs_v1(jobs till_jobs.procrastinate_job_to_defer_v1[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    job_ids bigint[];

BEGIN
    WITH inserted_jobs AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT (job).queue_name,
               (job).task_name,
               (job).priority,
               (job).lock,
               (job).queueing_lock,
               (job).args,
               (job).scheduled_at
        FROM unnest(jobs) AS job
        RETURNING id
    )
    SELECT array_agg(id) FROM inserted_jobs INTO job_ids;

    RETURN job_ids;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_defer_periodic_job_v2(_queue_name character varying, _lock character varying, _queueing_lock character varying, _task_name character varying, _priority integer, _periodic_id character varying, _defer_timestamp bigint, _args jsonb) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
	_job_id bigint;

	_defer_id bigint;

BEGIN
    INSERT
        INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES (_task_name, _periodic_id, _defer_timestamp)
        ON CONFLICT DO NOTHING
        RETURNING id into _defer_id;

    IF _defer_id IS NULL THEN
        RETURN NULL;

    END IF;

    UPDATE procrastinate_periodic_defers
        SET job_id = (
            SELECT COALESCE((
                SELECT unnest(procrastinate_defer_jobs_v1(
                    ARRAY[
                        ROW(
                            _queue_name,
                            _task_name,
                            _priority,
                            _lock,
                            _queueing_lock,
                            _args,
                            NULL::timestamptz
                        )
                    ]::procrastinate_job_to_defer_v1[]
                ))
            ), NULL)
        )
        WHERE id = _defer_id
        RETURNING job_id INTO _job_id;

    DELETE
        FROM procrastinate_periodic_defers
        USING (
            SELECT id
            FROM procrastinate_periodic_defers
            WHERE procrastinate_periodic_defers.task_name = _task_name
            AND procrastinate_periodic_defers.periodic_id = _periodic_id
            AND procrastinate_periodic_defers.defer_timestamp < _defer_timestamp
            ORDER BY id
            FOR UPDATE
        ) to_delete
        WHERE procrastinate_periodic_defers.id = to_delete.id;

    RETURN _job_id;

END;

$$;

CREATE TABLE till_jobs.procrastinate_jobs (
    id bigint NOT NULL,
    queue_name character varying(128) NOT NULL,
    task_name character varying(128) NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    lock text,
    queueing_lock text,
    args jsonb DEFAULT '{}'::jsonb NOT NULL,
    status till_jobs.procrastinate_job_status DEFAULT 'todo'::till_jobs.procrastinate_job_status NOT NULL,
    scheduled_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    abort_requested boolean DEFAULT false NOT NULL,
    worker_id bigint,
    CONSTRAINT check_not_todo_abort_requested CHECK ((NOT ((status = 'todo'::till_jobs.procrastinate_job_status) AND (abort_requested = true))))
);

CREATE FUNCTION till_jobs.procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint) RETURNS till_jobs.procrastinate_jobs
    LANGUAGE plpgsql
    AS $$
DECLARE
	found_jobs procrastinate_jobs;

BEGIN
    WITH candidate AS (
        SELECT jobs.*
            FROM procrastinate_jobs AS jobs
            WHERE
                -- reject the job if its lock has earlier or higher priority jobs
                NOT EXISTS (
                    SELECT 1
                        FROM procrastinate_jobs AS other_jobs
                        WHERE
                            jobs.lock IS NOT NULL
                            AND other_jobs.lock = jobs.lock
                            AND (
                                -- job with same lock is already running
                                other_jobs.status = 'doing'
                                OR
                                -- job with same lock is waiting and has higher priority (or same priority but was queued first)
                                (
                                    other_jobs.status = 'todo'
                                    AND (
                                        other_jobs.priority > jobs.priority
                                        OR (
                                        other_jobs.priority = jobs.priority
                                        AND other_jobs.id < jobs.id
                                        )
                                    )
                                )
                            )
                )
                AND jobs.status = 'todo'
                AND (target_queue_names IS NULL OR jobs.queue_name = ANY( target_queue_names ))
                AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            ORDER BY jobs.priority DESC, jobs.id ASC LIMIT 1
            FOR UPDATE OF jobs SKIP LOCKED
    )
    UPDATE procrastinate_jobs
        SET status = 'doing', worker_id = p_worker_id
        FROM candidate
        WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.* INTO found_jobs;

 RETURN found_jobs;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_finish_job_v1(job_id bigint, end_status till_jobs.procrastinate_job_status, delete_job boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;

BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;

    END IF;

    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;

    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status
                WHEN 'doing' THEN attempts + 1 ELSE attempts
            END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;

    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;

    END IF;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_notify_queue_abort_job_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;

BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;

	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);

	PERFORM pg_notify('procrastinate_any_queue_v1', payload);

	RETURN NEW;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_notify_queue_job_inserted_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;

BEGIN
    SELECT json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text INTO payload;

	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);

	PERFORM pg_notify('procrastinate_any_queue_v1', payload);

	RETURN NEW;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision) RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    DELETE FROM procrastinate_workers
    WHERE last_heartbeat < NOW() - (seconds_since_heartbeat || 'SECOND')::INTERVAL
    RETURNING procrastinate_workers.id;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_register_worker_v1() RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_retry_job_v1(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;

    _abort_requested boolean;

BEGIN
    SELECT abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status = 'doing'
    FOR UPDATE
    INTO _abort_requested;

    IF _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;

    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;

    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" status (job id: %)', job_id;

    END IF;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_retry_job_v2(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;

    _abort_requested boolean;

    _current_status procrastinate_job_status;

BEGIN
    SELECT status, abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status IN ('doing', 'failed')
    FOR UPDATE
    INTO _current_status, _abort_requested;

    IF _current_status = 'doing' AND _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;

    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status IN ('doing', 'failed')
        RETURNING id INTO _job_id;

    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;

    END IF;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_trigger_abort_requested_events_procedure_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'abort_requested'::procrastinate_job_event_type);

    RETURN NEW;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_trigger_function_scheduled_events_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type, at)
        VALUES (NEW.id, 'scheduled'::procrastinate_job_event_type, NEW.scheduled_at);

	RETURN NEW;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_trigger_function_status_events_insert_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'deferred'::procrastinate_job_event_type);

	RETURN NEW;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_trigger_function_status_events_update_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    WITH t AS (
        SELECT CASE
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND NEW.status = 'doing'::procrastinate_job_status
                THEN 'started'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'deferred_for_retry'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'failed'::procrastinate_job_status
                THEN 'failed'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'succeeded'::procrastinate_job_status
                THEN 'succeeded'::procrastinate_job_event_type
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND (
                    NEW.status = 'cancelled'::procrastinate_job_status
                    OR NEW.status = 'failed'::procrastinate_job_status
                    OR NEW.status = 'succeeded'::procrastinate_job_status
                )
                THEN 'cancelled'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'aborted'::procrastinate_job_status
                THEN 'aborted'::procrastinate_job_event_type
            WHEN OLD.status = 'failed'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'retried'::procrastinate_job_event_type
            ELSE NULL
        END as event_type
    )
    INSERT INTO procrastinate_events(job_id, type)
        SELECT NEW.id, t.event_type
        FROM t
        WHERE t.event_type IS NOT NULL;

	RETURN NEW;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_unlink_periodic_defers_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_periodic_defers
    SET job_id = NULL
    WHERE job_id = OLD.id;

    RETURN OLD;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_unregister_worker_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM procrastinate_workers
    WHERE id = worker_id;

END;

$$;

CREATE FUNCTION till_jobs.procrastinate_update_heartbeat_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_workers
    SET last_heartbeat = NOW()
    WHERE id = worker_id;

END;

$$;

CREATE TABLE public.ai_actions (
    action_type text NOT NULL,
    charge text NOT NULL,
    fixed_tokens bigint,
    multiplier numeric DEFAULT 1 NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    model text,
    provider text,
    temperature double precision,
    max_tokens bigint,
    system_prompt text,
    model_multipliers jsonb DEFAULT '{}'::jsonb NOT NULL,
    markup numeric,
    cents_per_million_tokens numeric,
    revision bigint DEFAULT 1 NOT NULL,
    updated_at timestamp with time zone,
    updated_by text,
    CONSTRAINT ai_actions_charge CHECK ((charge = ANY (ARRAY['metered'::text, 'fixed'::text, 'cost_plus'::text]))),
    CONSTRAINT ai_actions_cost_plus_has_its_factors CHECK (
CASE charge
    WHEN 'cost_plus'::text THEN ((markup IS NOT NULL) AND (cents_per_million_tokens IS NOT NULL))
    ELSE ((markup IS NULL) AND (cents_per_million_tokens IS NULL))
END),
    CONSTRAINT ai_actions_fixed_has_tokens CHECK (((charge = 'fixed'::text) = (fixed_tokens IS NOT NULL))),
    CONSTRAINT ai_actions_fixed_positive CHECK ((fixed_tokens > 0)),
    CONSTRAINT ai_actions_markup_positive CHECK (((markup > (0)::numeric) AND (markup <> 'NaN'::numeric))),
    CONSTRAINT ai_actions_max_tokens_positive CHECK ((max_tokens > 0)),
    CONSTRAINT ai_actions_model CHECK (((length(model) >= 1) AND (length(model) <= 255))),
    CONSTRAINT ai_actions_model_multipliers CHECK (((jsonb_typeof(model_multipliers) = 'object'::text) AND (NOT jsonb_path_exists(model_multipliers, '$.*?(@.type() != "number" || @ < 0)'::jsonpath)))),
    CONSTRAINT ai_actions_multiplier_is_a_number CHECK ((multiplier <> 'NaN'::numeric)),
    CONSTRAINT ai_actions_multiplier_not_negative CHECK ((multiplier >= (0)::numeric)),
    CONSTRAINT ai_actions_name CHECK ((action_type ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT ai_actions_provider CHECK (((length(provider) >= 1) AND (length(provider) <= 63))),
    CONSTRAINT ai_actions_system_prompt_bytes CHECK ((octet_length(system_prompt) <= 100000)),
    CONSTRAINT ai_actions_temperature CHECK (((temperature >= (0)::double precision) AND (temperature <= (2)::double precision))),
    CONSTRAINT ai_actions_token_price_positive CHECK (((cents_per_million_tokens > (0)::numeric) AND (cents_per_million_tokens <> 'NaN'::numeric)))
);

CREATE TABLE public.ai_edits (
    revision bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE public.ai_models (
    provider text NOT NULL,
    model text NOT NULL,
    revision bigint NOT NULL,
    aliases text[] NOT NULL,
    match jsonb,
    "position" integer NOT NULL,
    is_active boolean NOT NULL,
    source text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT ai_models_model CHECK (((length(model) >= 1) AND (length(model) <= 255))),
    CONSTRAINT ai_models_provider CHECK (((provider = lower(provider)) AND (provider <> ''::text))),
    CONSTRAINT ai_models_source CHECK ((source = ANY (ARRAY['genai-prices'::text, 'own'::text])))
);

CREATE TABLE public.ai_prices (
    price_id bigint NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    service_tier text,
    effective_from timestamp with time zone,
    daily_from time without time zone,
    daily_until time without time zone,
    prices jsonb,
    source text NOT NULL,
    note text,
    revision bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT ai_prices_only_overrides_are_withdrawn CHECK (((prices IS NOT NULL) OR (source = 'override'::text))),
    CONSTRAINT ai_prices_prices_are_named CHECK ((jsonb_typeof(prices) = 'object'::text)),
    CONSTRAINT ai_prices_source CHECK ((source = ANY (ARRAY['genai-prices'::text, 'override'::text]))),
    CONSTRAINT ai_prices_tier CHECK ((service_tier ~ '^[a-z0-9_]{1,63}$'::text)),
    CONSTRAINT ai_prices_window_is_whole CHECK (((daily_from IS NULL) = (daily_until IS NULL)))
);

CREATE TABLE public.audit_log (
    id uuid NOT NULL,
    user_id uuid,
    actor text NOT NULL,
    act text NOT NULL,
    seq bigint,
    detail jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.catalog_packs (
    key text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    price_cents bigint NOT NULL,
    currency text NOT NULL,
    tokens bigint NOT NULL,
    price_ids text[] NOT NULL,
    stripe_price_id text,
    is_active boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT catalog_packs_currency CHECK ((currency ~ '^[a-z]{3}$'::text)),
    CONSTRAINT catalog_packs_key CHECK ((key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text)),
    CONSTRAINT catalog_packs_price_id_is_named CHECK (((stripe_price_id IS NULL) OR (stripe_price_id = ANY (price_ids)))),
    CONSTRAINT catalog_packs_price_not_negative CHECK ((price_cents >= 0)),
    CONSTRAINT catalog_packs_tokens_positive CHECK ((tokens > 0))
);

CREATE TABLE public.catalog_plans (
    key text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    price_cents bigint NOT NULL,
    currency text NOT NULL,
    tokens bigint NOT NULL,
    rollover_cycles integer NOT NULL,
    rollover_cap_tokens bigint,
    price_ids text[] NOT NULL,
    stripe_price_id text,
    is_active boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT catalog_plans_currency CHECK ((currency ~ '^[a-z]{3}$'::text)),
    CONSTRAINT catalog_plans_key CHECK ((key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text)),
    CONSTRAINT catalog_plans_kind CHECK ((kind = ANY (ARRAY['annual'::text, 'drip'::text]))),
    CONSTRAINT catalog_plans_price_id_is_named CHECK (((stripe_price_id IS NULL) OR (stripe_price_id = ANY (price_ids)))),
    CONSTRAINT catalog_plans_price_not_negative CHECK ((price_cents >= 0)),
    CONSTRAINT catalog_plans_rollover_cap_positive CHECK ((rollover_cap_tokens > 0)),
    CONSTRAINT catalog_plans_rollover_not_negative CHECK ((rollover_cycles >= 0)),
    CONSTRAINT catalog_plans_tokens_positive CHECK ((tokens > 0))
);

CREATE TABLE public.catalog_revisions (
    revision bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE public.catalog_trials (
    version bigint NOT NULL,
    tokens bigint NOT NULL,
    days integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT catalog_trials_days_positive CHECK ((days > 0)),
    CONSTRAINT catalog_trials_tokens_positive CHECK ((tokens > 0))
);

CREATE TABLE public.checkouts (
    user_id uuid NOT NULL,
    checkout_id uuid NOT NULL,
    request_hash uuid NOT NULL,
    offer_key text NOT NULL,
    quantity integer NOT NULL,
    params jsonb NOT NULL,
    attempt integer NOT NULL,
    state text NOT NULL,
    detail text,
    session_id text,
    url text,
    expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT checkouts_open_has_a_session CHECK (((state = 'open'::text) = (session_id IS NOT NULL))),
    CONSTRAINT checkouts_quantity_positive CHECK ((quantity > 0)),
    CONSTRAINT checkouts_state CHECK ((state = ANY (ARRAY['asked'::text, 'open'::text, 'refused'::text])))
);

CREATE TABLE public.findings (
    id uuid NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    user_id uuid,
    expected text NOT NULL,
    found text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    closed_by text
);

CREATE TABLE public.host_profiles (
    is_only boolean DEFAULT true NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    user_column text NOT NULL,
    balance_column text NOT NULL,
    used_column text,
    cost_column text,
    is_text boolean NOT NULL,
    CONSTRAINT host_profiles_is_only CHECK (is_only)
);

CREATE TABLE public.job_runs (
    job text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    counts jsonb NOT NULL,
    error text,
    done_at timestamp with time zone
);

CREATE TABLE public.payment_disputes (
    dispute_id text NOT NULL,
    payment_id text NOT NULL,
    amount_cents bigint NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    withdrawn_cents bigint NOT NULL,
    reinstated_cents bigint NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT payment_disputes_amount_not_negative CHECK ((amount_cents >= 0)),
    CONSTRAINT payment_disputes_status CHECK ((status = ANY (ARRAY['open'::text, 'won'::text, 'lost'::text, 'harmless'::text])))
);

CREATE TABLE public.payment_links (
    name text NOT NULL,
    other text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.payment_refunds (
    refund_id text NOT NULL,
    payment_id text NOT NULL,
    amount_cents bigint NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT payment_refunds_amount_not_negative CHECK ((amount_cents >= 0)),
    CONSTRAINT payment_refunds_status CHECK ((status = ANY (ARRAY['pending'::text, 'requires_action'::text, 'succeeded'::text, 'failed'::text, 'canceled'::text])))
);

CREATE TABLE public.payments (
    user_id uuid,
    payment_id text NOT NULL,
    amount_cents bigint,
    currency text,
    customer_id text,
    session_id text,
    invoice_id text,
    paid_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    period_start timestamp with time zone,
    refunded_cents bigint,
    refunded_seen_at timestamp with time zone,
    revision bigint DEFAULT 0 NOT NULL,
    settled_revision bigint DEFAULT 0 NOT NULL,
    asked_at timestamp with time zone,
    CONSTRAINT payments_amount_not_negative CHECK ((amount_cents >= 0)),
    CONSTRAINT payments_refunded_not_negative CHECK ((refunded_cents >= 0))
);

CREATE TABLE public.stripe_customers (
    customer_id text NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    external_id text
);

CREATE TABLE public.stripe_events (
    event_id text NOT NULL,
    type text NOT NULL,
    api_version text,
    livemode boolean NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    detail text,
    user_id uuid,
    seq bigint,
    occurred_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    handled_at timestamp with time zone,
    next_attempt_at timestamp with time zone,
    customer_id text,
    CONSTRAINT stripe_events_state CHECK ((state = ANY (ARRAY['received'::text, 'handled'::text, 'ignored'::text, 'failed'::text])))
);

CREATE TABLE public.stripe_mode (
    is_only boolean DEFAULT true NOT NULL,
    livemode boolean NOT NULL,
    decided_at timestamp with time zone NOT NULL,
    CONSTRAINT stripe_mode_is_only CHECK (is_only)
);

CREATE TABLE public.subscription_periods (
    user_id uuid NOT NULL,
    subscription_id text NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    plan_key text NOT NULL,
    first_cycle integer NOT NULL,
    cycles_count integer NOT NULL,
    invoice_id text NOT NULL,
    payment_id text NOT NULL,
    amount_paid_cents bigint NOT NULL,
    currency text NOT NULL,
    paid_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT subscription_periods_has_cycles CHECK ((cycles_count > 0)),
    CONSTRAINT subscription_periods_paid_not_negative CHECK ((amount_paid_cents >= 0)),
    CONSTRAINT subscription_periods_span_positive CHECK ((starts_at < ends_at))
);

CREATE TABLE public.subscription_states (
    subscription_id text NOT NULL,
    at timestamp with time zone NOT NULL,
    told_by text NOT NULL,
    user_id uuid,
    status text,
    stripe_status text,
    plan_key text,
    is_trial boolean NOT NULL,
    trial_starts_at timestamp with time zone,
    trial_ends_at timestamp with time zone,
    cancel_at timestamp with time zone,
    occurred_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT subscription_states_status CHECK ((status = ANY (ARRAY['active'::text, 'past_due'::text, 'paused'::text, 'canceled'::text])))
);

CREATE TABLE public.subscription_turns (
    subscription_id text NOT NULL,
    turn bigint NOT NULL
);

CREATE TABLE public.till_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL
);

CREATE TABLE public.token_accounts (
    user_id uuid NOT NULL,
    external_id text,
    email text,
    display_name text,
    balance bigint NOT NULL,
    debt bigint NOT NULL,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    last_at timestamp with time zone NOT NULL,
    lifetime_tokens_granted bigint DEFAULT 0 NOT NULL,
    lifetime_tokens_used bigint DEFAULT 0 NOT NULL,
    lifetime_cost numeric DEFAULT 0 NOT NULL,
    overdraft_limit bigint DEFAULT 0 NOT NULL,
    low_balance_threshold bigint,
    frozen_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    frozen_for text,
    CONSTRAINT token_accounts_balance_covered CHECK ((balance >= (- debt))),
    CONSTRAINT token_accounts_debt_is_negative_balance CHECK (((debt = 0) OR (balance = (- debt)))),
    CONSTRAINT token_accounts_debt_not_negative CHECK ((debt >= 0)),
    CONSTRAINT token_accounts_external_id_length CHECK (((length(external_id) >= 1) AND (length(external_id) <= 255))),
    CONSTRAINT token_accounts_frozen_for CHECK ((frozen_for = ANY (ARRAY['admin'::text, 'dispute'::text]))),
    CONSTRAINT token_accounts_frozen_for_a_reason CHECK (((frozen_at IS NULL) = (frozen_for IS NULL))),
    CONSTRAINT token_accounts_overdraft_limit_not_negative CHECK ((overdraft_limit >= 0)),
    CONSTRAINT token_accounts_seq_not_negative CHECK ((seq >= 0))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.token_drips (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    subscription_id text NOT NULL,
    drip_date timestamp with time zone NOT NULL,
    drip_amount bigint NOT NULL,
    cycle_number integer NOT NULL,
    rollover_from_previous bigint NOT NULL,
    rollover_cycles_count integer NOT NULL,
    expired_tokens bigint NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    billing_period_start timestamp with time zone NOT NULL,
    billing_period_end timestamp with time zone NOT NULL,
    lot bigint NOT NULL,
    lot_moves bigint[] NOT NULL,
    debt_change bigint NOT NULL,
    metadata jsonb NOT NULL,
    idempotency_key uuid,
    effective_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_drips_adds_up CHECK ((balance_after = (balance_before + drip_amount))),
    CONSTRAINT token_drips_amount_positive CHECK ((drip_amount > 0)),
    CONSTRAINT token_drips_lot_is_seq CHECK ((lot = seq)),
    CONSTRAINT token_drips_lot_moves_paired CHECK (((cardinality(lot_moves) % 2) = 0)),
    CONSTRAINT token_drips_period CHECK ((billing_period_start < billing_period_end)),
    CONSTRAINT token_drips_seq_positive CHECK ((seq > 0))
);

CREATE TABLE public.token_transactions (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    transaction_type text NOT NULL,
    source text NOT NULL,
    token_amount bigint NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    amount_paid_cents bigint,
    currency text,
    stripe_payment_intent_id text,
    stripe_session_id text,
    stripe_invoice_id text,
    subscription_id text,
    token_pack_id text,
    lot bigint,
    lot_moves bigint[] NOT NULL,
    debt_change bigint NOT NULL,
    related_user_id uuid,
    reverses_seq bigint,
    reason text,
    metadata jsonb NOT NULL,
    created_by text,
    idempotency_key uuid,
    effective_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_transactions_adds_up CHECK ((balance_after = (balance_before + token_amount))),
    CONSTRAINT token_transactions_lot_is_seq CHECK ((lot = seq)),
    CONSTRAINT token_transactions_lot_moves_paired CHECK (((cardinality(lot_moves) % 2) = 0)),
    CONSTRAINT token_transactions_paid_not_negative CHECK ((amount_paid_cents >= 0)),
    CONSTRAINT token_transactions_seq_positive CHECK ((seq > 0)),
    CONSTRAINT token_transactions_sign CHECK (
CASE transaction_type
    WHEN 'grant'::text THEN (token_amount > 0)
    WHEN 'purchase'::text THEN (token_amount > 0)
    WHEN 'deduction'::text THEN (token_amount < 0)
    WHEN 'expiration'::text THEN (token_amount < 0)
    ELSE true
END),
    CONSTRAINT token_transactions_source CHECK ((source = ANY (ARRAY['admin'::text, 'subscription'::text, 'trial'::text, 'token_pack'::text, 'stripe'::text, 'refund'::text, 'transfer'::text, 'usage'::text, 'legacy'::text]))),
    CONSTRAINT token_transactions_type CHECK ((transaction_type = ANY (ARRAY['grant'::text, 'purchase'::text, 'deduction'::text, 'refund'::text, 'transfer'::text, 'expiration'::text, 'opening'::text])))
);

CREATE TABLE public.token_usage (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    action_type text NOT NULL,
    model_used text,
    tokens_used bigint NOT NULL,
    input_tokens bigint,
    output_tokens bigint,
    pools jsonb,
    cost_estimate numeric,
    price_id bigint,
    success boolean NOT NULL,
    error_message text,
    estimated boolean NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    lot_moves bigint[] NOT NULL,
    debt_change bigint NOT NULL,
    hold_id uuid,
    corrects_seq bigint,
    provider_request_id text,
    idempotency_key uuid,
    metadata jsonb NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    provider text,
    service_tier text,
    CONSTRAINT token_usage_adds_up CHECK ((balance_after = (balance_before - tokens_used))),
    CONSTRAINT token_usage_failure_is_free CHECK ((success OR (tokens_used = 0))),
    CONSTRAINT token_usage_input_not_negative CHECK ((input_tokens >= 0)),
    CONSTRAINT token_usage_lot_moves_paired CHECK (((cardinality(lot_moves) % 2) = 0)),
    CONSTRAINT token_usage_output_not_negative CHECK ((output_tokens >= 0)),
    CONSTRAINT token_usage_seq_positive CHECK ((seq > 0)),
    CONSTRAINT token_usage_tokens_not_negative CHECK ((tokens_used >= 0))
)
PARTITION BY RANGE (created_at);

CREATE VIEW public.token_history AS
 SELECT token_transactions.user_id,
    token_transactions.seq,
    'transaction'::text AS type,
    token_transactions.created_at,
    token_transactions.token_amount,
    token_transactions.transaction_type,
    token_transactions.balance_before,
    token_transactions.balance_after,
    token_transactions.effective_at
   FROM public.token_transactions
UNION ALL
 SELECT token_drips.user_id,
    token_drips.seq,
    'drip'::text AS type,
    token_drips.drip_date AS created_at,
    token_drips.drip_amount AS token_amount,
    'drip'::text AS transaction_type,
    token_drips.balance_before,
    token_drips.balance_after,
    token_drips.effective_at
   FROM public.token_drips
UNION ALL
 SELECT token_usage.user_id,
    token_usage.seq,
    'usage'::text AS type,
    token_usage.created_at,
    (- token_usage.tokens_used) AS token_amount,
    token_usage.action_type AS transaction_type,
    token_usage.balance_before,
    token_usage.balance_after,
    token_usage.occurred_at AS effective_at
   FROM public.token_usage;

CREATE TABLE public.token_holds (
    user_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    request_hash uuid NOT NULL,
    tokens bigint NOT NULL,
    state text NOT NULL,
    action_type text NOT NULL,
    model text,
    metadata jsonb NOT NULL,
    placed_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    captured_seq bigint,
    created_at timestamp with time zone NOT NULL,
    provider text,
    CONSTRAINT token_holds_captured_by_a_row CHECK (((state = 'captured'::text) = (captured_seq IS NOT NULL))),
    CONSTRAINT token_holds_closed_when_ended CHECK (((state = 'placed'::text) = (closed_at IS NULL))),
    CONSTRAINT token_holds_lifetime_positive CHECK ((placed_at < expires_at)),
    CONSTRAINT token_holds_state CHECK ((state = ANY (ARRAY['placed'::text, 'captured'::text, 'voided'::text]))),
    CONSTRAINT token_holds_tokens_positive CHECK ((tokens > 0))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE VIEW public.token_holds_now AS
 SELECT user_id,
    hold_id,
    tokens,
        CASE
            WHEN ((state = 'placed'::text) AND (expires_at <= statement_timestamp())) THEN 'expired'::text
            ELSE state
        END AS state,
    action_type,
    model,
    metadata,
    placed_at,
    expires_at,
    closed_at,
    captured_seq
   FROM public.token_holds;

CREATE TABLE public.token_keys (
    user_id uuid NOT NULL,
    key uuid NOT NULL,
    request_hash uuid NOT NULL,
    kind text NOT NULL,
    seq bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_keys_kind CHECK ((kind = ANY (ARRAY['transaction'::text, 'drip'::text])))
);

CREATE TABLE public.token_lots (
    user_id uuid NOT NULL,
    lot bigint NOT NULL,
    kind text NOT NULL,
    granted bigint NOT NULL,
    remaining bigint NOT NULL,
    priority smallint DEFAULT 50 NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    paid_cents bigint,
    currency text,
    payment_id text,
    subscription_id text,
    cycle_number integer,
    CONSTRAINT token_lots_granted_positive CHECK ((granted > 0)),
    CONSTRAINT token_lots_kind CHECK ((kind = ANY (ARRAY['purchase'::text, 'subscription'::text, 'drip'::text, 'trial'::text, 'admin'::text, 'transfer'::text, 'refund'::text, 'opening'::text]))),
    CONSTRAINT token_lots_lifetime_positive CHECK ((effective_at < expires_at)),
    CONSTRAINT token_lots_paid_not_negative CHECK ((paid_cents >= 0)),
    CONSTRAINT token_lots_remaining_in_range CHECK (((remaining >= 0) AND (remaining <= granted)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.token_subscriptions (
    user_id uuid NOT NULL,
    external_id text,
    subscription_id text NOT NULL,
    plan_key text NOT NULL,
    status text NOT NULL,
    billed_by text NOT NULL,
    anchor timestamp with time zone NOT NULL,
    anchor_cycle integer NOT NULL,
    is_anchor_known boolean NOT NULL,
    cycle_number integer,
    next_drip_at timestamp with time zone,
    stripe_customer_id text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    stripe_status text,
    status_at timestamp with time zone,
    paid_until timestamp with time zone,
    trial_starts_at timestamp with time zone,
    trial_ends_at timestamp with time zone,
    cancel_at timestamp with time zone,
    announced_plan_key text,
    revision bigint DEFAULT 0 NOT NULL,
    CONSTRAINT token_subscriptions_billed_by CHECK ((billed_by = ANY (ARRAY['stripe'::text, 'clock'::text]))),
    CONSTRAINT token_subscriptions_status CHECK ((status = ANY (ARRAY['active'::text, 'past_due'::text, 'paused'::text, 'canceled'::text])))
);

CREATE TABLE public.usage_keys (
    user_id uuid NOT NULL,
    key uuid NOT NULL,
    request_hash uuid NOT NULL,
    seq bigint NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE VIEW public.user_profiles AS
 SELECT user_id,
    email,
    display_name,
    (balance - (COALESCE(( SELECT sum(l.remaining) AS sum
           FROM public.token_lots l
          WHERE ((l.user_id = a.user_id) AND (l.expires_at <= statement_timestamp()))), (0)::numeric))::bigint) AS vibe_assistant_tokens_remaining,
    lifetime_tokens_used AS vibe_assistant_tokens_used,
    lifetime_cost AS vibe_assistant_total_cost
   FROM public.token_accounts a;

CREATE TABLE till_jobs.procrastinate_events (
    id bigint NOT NULL,
    job_id bigint NOT NULL,
    type till_jobs.procrastinate_job_event_type,
    at timestamp with time zone DEFAULT now()
);

CREATE SEQUENCE till_jobs.procrastinate_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE till_jobs.procrastinate_events_id_seq OWNED BY till_jobs.procrastinate_events.id;

CREATE SEQUENCE till_jobs.procrastinate_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE till_jobs.procrastinate_jobs_id_seq OWNED BY till_jobs.procrastinate_jobs.id;

CREATE TABLE till_jobs.procrastinate_periodic_defers (
    id bigint NOT NULL,
    task_name character varying(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint,
    periodic_id character varying(128) DEFAULT ''::character varying NOT NULL
);

CREATE SEQUENCE till_jobs.procrastinate_periodic_defers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE till_jobs.procrastinate_periodic_defers_id_seq OWNED BY till_jobs.procrastinate_periodic_defers.id;

CREATE TABLE till_jobs.procrastinate_workers (
    id bigint NOT NULL,
    last_heartbeat timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE till_jobs.procrastinate_workers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME till_jobs.procrastinate_workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW unified.token_transactions AS
 SELECT token_transactions.user_id,
    token_transactions.seq,
        CASE
            WHEN (token_transactions.transaction_type = 'purchase'::text) THEN 'token_pack_purchase'::text
            WHEN (token_transactions.transaction_type = ANY (ARRAY['expiration'::text, 'refund'::text])) THEN token_transactions.transaction_type
            WHEN (token_transactions.token_amount < 0) THEN 'admin_deduct'::text
            WHEN (token_transactions.source = 'subscription'::text) THEN 'subscription_grant'::text
            WHEN (token_transactions.source = 'trial'::text) THEN 'trial_grant'::text
            ELSE 'admin_grant'::text
        END AS action_type,
    (- token_transactions.token_amount) AS tokens_used,
    token_transactions.balance_after AS tokens_remaining,
    token_transactions.metadata,
    token_transactions.created_at
   FROM public.token_transactions
UNION ALL
 SELECT token_drips.user_id,
    token_drips.seq,
    'subscription_grant'::text AS action_type,
    (- token_drips.drip_amount) AS tokens_used,
    token_drips.balance_after AS tokens_remaining,
    token_drips.metadata,
    token_drips.created_at
   FROM public.token_drips;

CREATE VIEW unified.token_usage AS
 SELECT token_usage.user_id,
    token_usage.seq,
        CASE
            WHEN (token_usage.corrects_seq IS NULL) THEN token_usage.action_type
            ELSE 'cost_correction'::text
        END AS action_type,
    token_usage.model_used,
    token_usage.tokens_used,
    token_usage.input_tokens,
    token_usage.output_tokens,
    token_usage.cost_estimate,
    token_usage.success,
    token_usage.error_message,
    token_usage.metadata,
    token_usage.created_at
   FROM public.token_usage
UNION ALL
 SELECT token_transactions.user_id,
    token_transactions.seq,
        CASE
            WHEN (token_transactions.transaction_type = 'purchase'::text) THEN 'token_pack_purchase'::text
            WHEN (token_transactions.transaction_type = ANY (ARRAY['expiration'::text, 'refund'::text])) THEN token_transactions.transaction_type
            WHEN (token_transactions.token_amount < 0) THEN 'admin_deduct'::text
            WHEN (token_transactions.source = 'subscription'::text) THEN 'subscription_grant'::text
            WHEN (token_transactions.source = 'trial'::text) THEN 'trial_grant'::text
            ELSE 'admin_grant'::text
        END AS action_type,
    NULL::text AS model_used,
    abs(token_transactions.token_amount) AS tokens_used,
    NULL::bigint AS input_tokens,
    NULL::bigint AS output_tokens,
    NULL::numeric AS cost_estimate,
    true AS success,
    NULL::text AS error_message,
    token_transactions.metadata,
    token_transactions.created_at
   FROM public.token_transactions
UNION ALL
 SELECT token_drips.user_id,
    token_drips.seq,
    'subscription_grant'::text AS action_type,
    NULL::text AS model_used,
    token_drips.drip_amount AS tokens_used,
    NULL::bigint AS input_tokens,
    NULL::bigint AS output_tokens,
    NULL::numeric AS cost_estimate,
    true AS success,
    NULL::text AS error_message,
    token_drips.metadata,
    token_drips.created_at
   FROM public.token_drips;

ALTER TABLE ONLY till_jobs.procrastinate_events ALTER COLUMN id SET DEFAULT nextval('till_jobs.procrastinate_events_id_seq'::regclass);

ALTER TABLE ONLY till_jobs.procrastinate_jobs ALTER COLUMN id SET DEFAULT nextval('till_jobs.procrastinate_jobs_id_seq'::regclass);

ALTER TABLE ONLY till_jobs.procrastinate_periodic_defers ALTER COLUMN id SET DEFAULT nextval('till_jobs.procrastinate_periodic_defers_id_seq'::regclass);

ALTER TABLE ONLY public.ai_actions
    ADD CONSTRAINT ai_actions_pkey PRIMARY KEY (action_type);

ALTER TABLE ONLY public.ai_edits
    ADD CONSTRAINT ai_edits_pkey PRIMARY KEY (revision);

ALTER TABLE ONLY public.ai_models
    ADD CONSTRAINT ai_models_pkey PRIMARY KEY (provider, model, revision);

ALTER TABLE ONLY public.ai_prices
    ADD CONSTRAINT ai_prices_pkey PRIMARY KEY (price_id);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.catalog_packs
    ADD CONSTRAINT catalog_packs_pkey PRIMARY KEY (key, version);

ALTER TABLE ONLY public.catalog_plans
    ADD CONSTRAINT catalog_plans_pkey PRIMARY KEY (key, version);

ALTER TABLE ONLY public.catalog_revisions
    ADD CONSTRAINT catalog_revisions_pkey PRIMARY KEY (revision);

ALTER TABLE ONLY public.catalog_trials
    ADD CONSTRAINT catalog_trials_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.checkouts
    ADD CONSTRAINT checkouts_pkey PRIMARY KEY (checkout_id, user_id);

ALTER TABLE ONLY public.findings
    ADD CONSTRAINT findings_once UNIQUE (kind, subject);

ALTER TABLE ONLY public.findings
    ADD CONSTRAINT findings_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.host_profiles
    ADD CONSTRAINT host_profiles_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.job_runs
    ADD CONSTRAINT job_runs_pkey PRIMARY KEY (job);

ALTER TABLE ONLY public.payment_disputes
    ADD CONSTRAINT payment_disputes_pkey PRIMARY KEY (dispute_id);

ALTER TABLE ONLY public.payment_links
    ADD CONSTRAINT payment_links_pkey PRIMARY KEY (name, other);

ALTER TABLE ONLY public.payment_refunds
    ADD CONSTRAINT payment_refunds_pkey PRIMARY KEY (refund_id);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (payment_id);

ALTER TABLE ONLY public.stripe_customers
    ADD CONSTRAINT stripe_customers_pkey PRIMARY KEY (customer_id);

ALTER TABLE ONLY public.stripe_events
    ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.stripe_mode
    ADD CONSTRAINT stripe_mode_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.subscription_periods
    ADD CONSTRAINT subscription_periods_cycle_once UNIQUE (user_id, subscription_id, first_cycle);

ALTER TABLE ONLY public.subscription_periods
    ADD CONSTRAINT subscription_periods_pkey PRIMARY KEY (user_id, subscription_id, starts_at);

ALTER TABLE ONLY public.subscription_states
    ADD CONSTRAINT subscription_states_pkey PRIMARY KEY (subscription_id, at, told_by);

ALTER TABLE ONLY public.subscription_turns
    ADD CONSTRAINT subscription_turns_pkey PRIMARY KEY (subscription_id);

ALTER TABLE ONLY public.till_migrations
    ADD CONSTRAINT till_migrations_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.token_accounts
    ADD CONSTRAINT token_accounts_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.token_drips
    ADD CONSTRAINT token_drips_once_per_cycle UNIQUE (user_id, subscription_id, cycle_number);

ALTER TABLE ONLY public.token_drips
    ADD CONSTRAINT token_drips_pkey PRIMARY KEY (user_id, seq);

ALTER TABLE ONLY public.token_holds
    ADD CONSTRAINT token_holds_pkey PRIMARY KEY (hold_id, user_id);

ALTER TABLE ONLY public.token_keys
    ADD CONSTRAINT token_keys_pkey PRIMARY KEY (key, user_id);

ALTER TABLE ONLY public.token_lots
    ADD CONSTRAINT token_lots_pkey PRIMARY KEY (user_id, lot);

ALTER TABLE ONLY public.token_subscriptions
    ADD CONSTRAINT token_subscriptions_pkey PRIMARY KEY (user_id, subscription_id);

ALTER TABLE ONLY public.token_transactions
    ADD CONSTRAINT token_transactions_pkey PRIMARY KEY (user_id, seq);

ALTER TABLE ONLY public.token_usage
    ADD CONSTRAINT token_usage_pkey PRIMARY KEY (user_id, seq, created_at);

ALTER TABLE ONLY public.usage_keys
    ADD CONSTRAINT usage_keys_pkey PRIMARY KEY (key, user_id);

ALTER TABLE ONLY till_jobs.procrastinate_events
    ADD CONSTRAINT procrastinate_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY till_jobs.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY till_jobs.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY till_jobs.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp);

ALTER TABLE ONLY till_jobs.procrastinate_workers
    ADD CONSTRAINT procrastinate_workers_pkey PRIMARY KEY (id);

CREATE INDEX audit_log_action_edits_idx ON public.audit_log USING btree (((detail ->> 'action'::text)), created_at) WHERE (act = 'edit action'::text);

CREATE INDEX checkouts_session_id_idx ON public.checkouts USING btree (session_id);

CREATE INDEX checkouts_user_id_idx ON public.checkouts USING btree (user_id);

CREATE INDEX findings_open_idx ON public.findings USING btree (created_at) WHERE (closed_at IS NULL);

CREATE INDEX payment_disputes_payment_id_idx ON public.payment_disputes USING btree (payment_id);

CREATE INDEX payment_refunds_payment_id_idx ON public.payment_refunds USING btree (payment_id);

CREATE INDEX payments_invoice_id_idx ON public.payments USING btree (invoice_id);

CREATE INDEX payments_unsettled_idx ON public.payments USING btree (payment_id) WHERE (revision > settled_revision);

CREATE INDEX payments_user_id_idx ON public.payments USING btree (user_id);

CREATE INDEX stripe_customers_user_id_idx ON public.stripe_customers USING btree (user_id);

CREATE INDEX stripe_events_customer_id_idx ON public.stripe_events USING btree (customer_id, received_at);

CREATE INDEX stripe_events_next_attempt_at_idx ON public.stripe_events USING btree (next_attempt_at) WHERE (state = 'failed'::text);

CREATE INDEX stripe_events_open_idx ON public.stripe_events USING btree (received_at) WHERE (state = ANY (ARRAY['received'::text, 'failed'::text]));

CREATE INDEX stripe_events_received_at_idx ON public.stripe_events USING btree (received_at);

CREATE INDEX stripe_events_user_id_idx ON public.stripe_events USING btree (user_id, received_at) WHERE (user_id IS NOT NULL);

CREATE INDEX token_holds_user_id_expires_at_idx ON public.token_holds USING btree (user_id, expires_at);

CREATE INDEX token_lots_expires_at_idx ON public.token_lots USING btree (expires_at, user_id) WHERE (expires_at IS NOT NULL);

CREATE INDEX token_subscriptions_due_idx ON public.token_subscriptions USING btree (next_drip_at) WHERE (next_drip_at IS NOT NULL);

CREATE INDEX token_subscriptions_subscription_idx ON public.token_subscriptions USING btree (subscription_id);

CREATE INDEX token_usage_created_at_idx ON ONLY public.token_usage USING brin (created_at);

CREATE INDEX usage_keys_created_at_idx ON public.usage_keys USING brin (created_at);

CREATE INDEX idx_procrastinate_jobs_worker_not_null ON till_jobs.procrastinate_jobs USING btree (worker_id) WHERE ((worker_id IS NOT NULL) AND (status = 'doing'::till_jobs.procrastinate_job_status));

CREATE INDEX idx_procrastinate_workers_last_heartbeat ON till_jobs.procrastinate_workers USING btree (last_heartbeat);

CREATE INDEX procrastinate_events_job_id_fkey_v1 ON till_jobs.procrastinate_events USING btree (job_id);

CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON till_jobs.procrastinate_jobs USING btree (id, lock) WHERE (status = ANY (ARRAY['todo'::till_jobs.procrastinate_job_status, 'doing'::till_jobs.procrastinate_job_status]));

CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON till_jobs.procrastinate_jobs USING btree (lock) WHERE (status = 'doing'::till_jobs.procrastinate_job_status);

CREATE INDEX procrastinate_jobs_priority_idx_v1 ON till_jobs.procrastinate_jobs USING btree (priority DESC, id) WHERE (status = 'todo'::till_jobs.procrastinate_job_status);

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON till_jobs.procrastinate_jobs USING btree (queue_name);

CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON till_jobs.procrastinate_jobs USING btree (queueing_lock) WHERE (status = 'todo'::till_jobs.procrastinate_job_status);

CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON till_jobs.procrastinate_periodic_defers USING btree (job_id);

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1 AFTER UPDATE OF abort_requested ON till_jobs.procrastinate_jobs FOR EACH ROW WHEN (((old.abort_requested = false) AND (new.abort_requested = true) AND (new.status = 'doing'::till_jobs.procrastinate_job_status))) EXECUTE FUNCTION till_jobs.procrastinate_notify_queue_abort_job_v1();

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 AFTER INSERT ON till_jobs.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::till_jobs.procrastinate_job_status)) EXECUTE FUNCTION till_jobs.procrastinate_notify_queue_job_inserted_v1();

CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1 AFTER UPDATE OF abort_requested ON till_jobs.procrastinate_jobs FOR EACH ROW WHEN ((new.abort_requested = true)) EXECUTE FUNCTION till_jobs.procrastinate_trigger_abort_requested_events_procedure_v1();

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1 BEFORE DELETE ON till_jobs.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION till_jobs.procrastinate_unlink_periodic_defers_v1();

CREATE TRIGGER procrastinate_trigger_scheduled_events_v1 AFTER INSERT OR UPDATE ON till_jobs.procrastinate_jobs FOR EACH ROW WHEN (((new.scheduled_at IS NOT NULL) AND (new.status = 'todo'::till_jobs.procrastinate_job_status))) EXECUTE FUNCTION till_jobs.procrastinate_trigger_function_scheduled_events_v1();

CREATE TRIGGER procrastinate_trigger_status_events_insert_v1 AFTER INSERT ON till_jobs.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::till_jobs.procrastinate_job_status)) EXECUTE FUNCTION till_jobs.procrastinate_trigger_function_status_events_insert_v1();

CREATE TRIGGER procrastinate_trigger_status_events_update_v1 AFTER UPDATE OF status ON till_jobs.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION till_jobs.procrastinate_trigger_function_status_events_update_v1();

ALTER TABLE ONLY public.catalog_packs
    ADD CONSTRAINT catalog_packs_version_fkey FOREIGN KEY (version) REFERENCES public.catalog_revisions(revision);

ALTER TABLE ONLY public.catalog_plans
    ADD CONSTRAINT catalog_plans_version_fkey FOREIGN KEY (version) REFERENCES public.catalog_revisions(revision);

ALTER TABLE ONLY public.catalog_trials
    ADD CONSTRAINT catalog_trials_version_fkey FOREIGN KEY (version) REFERENCES public.catalog_revisions(revision);

ALTER TABLE ONLY public.token_drips
    ADD CONSTRAINT token_drips_account_fkey FOREIGN KEY (user_id) REFERENCES public.token_accounts(user_id);

ALTER TABLE ONLY public.token_lots
    ADD CONSTRAINT token_lots_account_fkey FOREIGN KEY (user_id) REFERENCES public.token_accounts(user_id);

ALTER TABLE ONLY public.token_transactions
    ADD CONSTRAINT token_transactions_account_fkey FOREIGN KEY (user_id) REFERENCES public.token_accounts(user_id);

ALTER TABLE ONLY till_jobs.procrastinate_events
    ADD CONSTRAINT procrastinate_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES till_jobs.procrastinate_jobs(id) ON DELETE CASCADE;

ALTER TABLE ONLY till_jobs.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES till_jobs.procrastinate_workers(id) ON DELETE SET NULL;

ALTER TABLE ONLY till_jobs.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_job_id_fkey FOREIGN KEY (job_id) REFERENCES till_jobs.procrastinate_jobs(id);

GRANT ALL ON SCHEMA public TO till_owner;

GRANT USAGE ON SCHEMA till_jobs TO till_service;

GRANT USAGE ON SCHEMA unified TO till_service;

REVOKE ALL ON FUNCTION public.till_make_usage_partition(a_day date) FROM PUBLIC;

GRANT ALL ON FUNCTION public.till_make_usage_partition(a_day date) TO till_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE till_jobs.procrastinate_jobs TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.ai_actions TO till_service;

GRANT SELECT,INSERT ON TABLE public.ai_edits TO till_service;

GRANT SELECT,INSERT ON TABLE public.ai_models TO till_service;

GRANT SELECT,INSERT ON TABLE public.ai_prices TO till_service;

GRANT SELECT,INSERT ON TABLE public.audit_log TO till_service;

GRANT SELECT,INSERT ON TABLE public.catalog_packs TO till_service;

GRANT SELECT,INSERT ON TABLE public.catalog_plans TO till_service;

GRANT SELECT,INSERT ON TABLE public.catalog_revisions TO till_service;

GRANT SELECT,INSERT ON TABLE public.catalog_trials TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.checkouts TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.findings TO till_service;

GRANT SELECT ON TABLE public.host_profiles TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.job_runs TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payment_disputes TO till_service;

GRANT SELECT,INSERT ON TABLE public.payment_links TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payment_refunds TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payments TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.stripe_customers TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.stripe_events TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.stripe_mode TO till_service;

GRANT SELECT,INSERT ON TABLE public.subscription_periods TO till_service;

GRANT SELECT,INSERT ON TABLE public.subscription_states TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.subscription_turns TO till_service;

GRANT SELECT ON TABLE public.till_migrations TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_accounts TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_drips TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_transactions TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_usage TO till_service;

GRANT SELECT ON TABLE public.token_history TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_holds TO till_service;

GRANT SELECT ON TABLE public.token_holds_now TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_keys TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_lots TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_subscriptions TO till_service;

GRANT SELECT,INSERT,DELETE ON TABLE public.usage_keys TO till_service;

GRANT SELECT ON TABLE public.user_profiles TO till_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE till_jobs.procrastinate_events TO till_service;

GRANT USAGE ON SEQUENCE till_jobs.procrastinate_events_id_seq TO till_service;

GRANT USAGE ON SEQUENCE till_jobs.procrastinate_jobs_id_seq TO till_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE till_jobs.procrastinate_periodic_defers TO till_service;

GRANT USAGE ON SEQUENCE till_jobs.procrastinate_periodic_defers_id_seq TO till_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE till_jobs.procrastinate_workers TO till_service;

GRANT USAGE ON SEQUENCE till_jobs.procrastinate_workers_id_seq TO till_service;

GRANT SELECT ON TABLE unified.token_transactions TO till_service;

GRANT SELECT ON TABLE unified.token_usage TO till_service;
