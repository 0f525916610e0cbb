-- What an app needs to make the calls of an action, and two more ways to charge them: by model, and by cost.
--
-- A row is changed in place. By which rule a call was charged is in the audit log: every edit writes the whole action
-- before and after it there, which the service can add to and not change.

ALTER TABLE ai_actions DROP CONSTRAINT ai_actions_charge;
ALTER TABLE ai_actions
    ADD CONSTRAINT ai_actions_charge CHECK (charge IN (
        'metered',     -- input and output tokens × multiplier, rounded up
        'fixed',       -- fixed_tokens a call
        'cost_plus')), -- what the call cost × markup ÷ the price of a token, rounded up
    ADD CONSTRAINT ai_actions_multiplier_is_a_number CHECK (multiplier <> 'NaN'),
    ADD COLUMN model             text CONSTRAINT ai_actions_model CHECK (length(model) BETWEEN 1 AND 255),
    ADD COLUMN provider          text CONSTRAINT ai_actions_provider CHECK (length(provider) BETWEEN 1 AND 63),
    ADD COLUMN temperature       double precision CONSTRAINT ai_actions_temperature CHECK (temperature BETWEEN 0 AND 2),
    ADD COLUMN max_tokens        bigint CONSTRAINT ai_actions_max_tokens_positive CHECK (max_tokens > 0),
    ADD COLUMN system_prompt     text
        CONSTRAINT ai_actions_system_prompt_bytes CHECK (octet_length(system_prompt) <= 100000),
    ADD COLUMN model_multipliers jsonb NOT NULL DEFAULT '{}'  -- by model; `multiplier` is for the others
        CONSTRAINT ai_actions_model_multipliers CHECK (jsonb_typeof(model_multipliers) = 'object' AND NOT
            jsonb_path_exists(model_multipliers, '$.* ? (@.type() != "number" || @ < 0)')),
    ADD COLUMN markup            numeric CONSTRAINT ai_actions_markup_positive CHECK (markup > 0 AND markup <> 'NaN'),
    ADD COLUMN cents_per_million_tokens numeric  -- what the account's tokens are worth
        CONSTRAINT ai_actions_token_price_positive
            CHECK (cents_per_million_tokens > 0 AND cents_per_million_tokens <> 'NaN'),
    ADD COLUMN revision          bigint NOT NULL DEFAULT 1,  -- the edit (`ai_edits`) that changed it last
    ADD COLUMN updated_at        timestamptz,  -- null: as it was shipped, or written by hand
    ADD COLUMN updated_by        text,
    ADD CONSTRAINT ai_actions_cost_plus_has_its_factors CHECK (
        CASE charge WHEN 'cost_plus' THEN markup IS NOT NULL AND cents_per_million_tokens IS NOT NULL
                    ELSE markup IS NULL AND cents_per_million_tokens IS NULL END);

-- For `store.actions.in_force_at`: by which rule was this row charged?
CREATE INDEX audit_log_action_edits_idx ON audit_log ((detail ->> 'action'), created_at) WHERE act = 'edit action';
