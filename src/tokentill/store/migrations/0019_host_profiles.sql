-- Where the host's own table shows its members what they have; none: the view user_profiles does. Written by
-- `till migrate`; the till keeps the named columns in step in the transaction that changes an account.

CREATE TABLE host_profiles (
    is_only        boolean NOT NULL DEFAULT true CONSTRAINT host_profiles_is_only CHECK (is_only),
    table_schema   text    NOT NULL,
    table_name     text    NOT NULL,
    user_column    text    NOT NULL,
    balance_column text    NOT NULL,
    used_column    text,  -- null: the table has none
    cost_column    text,  -- the same
    is_text        boolean NOT NULL,  -- whether user_column holds ids as the app knows them
    CONSTRAINT host_profiles_pkey PRIMARY KEY (is_only)
);

GRANT SELECT ON host_profiles TO till_service;
