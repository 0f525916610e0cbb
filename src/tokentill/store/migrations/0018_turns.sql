-- One row for each subscription whose history is being added to: whoever adds takes its turn here first, and the next
-- waits for the end of that transaction. A row and not an advisory lock: what is right must not rest on one server.
CREATE TABLE subscription_turns (
    subscription_id text   NOT NULL,
    turn            bigint NOT NULL,
    CONSTRAINT subscription_turns_pkey PRIMARY KEY (subscription_id)
);

GRANT SELECT, INSERT, UPDATE ON subscription_turns TO till_service;
