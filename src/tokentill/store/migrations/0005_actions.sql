-- What the app uses AI for. A new action is a row, not a migration.

CREATE TABLE ai_actions (
    action_type  text        NOT NULL CONSTRAINT ai_actions_name CHECK (action_type ~ '^[a-z][a-z0-9_]{0,62}$'),
    charge       text        NOT NULL CONSTRAINT ai_actions_charge CHECK (charge IN (
        'metered',  -- input and output tokens × multiplier, rounded up
        'fixed')),  -- fixed_tokens a call
    fixed_tokens bigint      CONSTRAINT ai_actions_fixed_positive CHECK (fixed_tokens > 0),
    multiplier   numeric     NOT NULL DEFAULT 1 CONSTRAINT ai_actions_multiplier_not_negative CHECK (multiplier >= 0),
    is_active    boolean     NOT NULL DEFAULT true,
    CONSTRAINT ai_actions_pkey PRIMARY KEY (action_type),
    CONSTRAINT ai_actions_fixed_has_tokens CHECK ((charge = 'fixed') = (fixed_tokens IS NOT NULL))
);

INSERT INTO ai_actions (action_type, charge, fixed_tokens) VALUES
    ('assessment_scoring', 'metered', NULL),
    ('vision_generation', 'metered', NULL),
    ('vision_refinement', 'metered', NULL),
    ('blueprint_generation', 'metered', NULL),
    ('chat_conversation', 'metered', NULL),
    ('audio_generation', 'fixed', 1),
    ('image_generation', 'fixed', 25),
    ('transcription', 'fixed', 60),
    ('life_vision_category_summary', 'metered', NULL),
    ('life_vision_master_assembly', 'metered', NULL),
    ('prompt_suggestions', 'metered', NULL),
    ('frequency_flip', 'metered', NULL);
