-- What the nodes share of what follows the logs.

-- What one node does at a time, until when, and how far it has come.
CREATE TABLE leases (
    name   text PRIMARY KEY,
    holder text NOT NULL,                        -- which node; for people
    term   bigint NOT NULL,                      -- which time it is that somebody took it
    until  timestamptz NOT NULL,
    note   text
);

-- Entries that somebody who follows the logs could not take.
CREATE TABLE dead_letters (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer    text NOT NULL,
    convo       uuid NOT NULL,
    seq         bigint NOT NULL,
    why         text NOT NULL,                   -- as it was refused last
    tries       integer NOT NULL,
    first_at    bigint NOT NULL,                 -- milliseconds since 1970
    last_at     bigint NOT NULL,
    again       boolean NOT NULL DEFAULT false,  -- whether somebody asked to try it again
    tried_until timestamptz,                     -- until when a node does
    UNIQUE (consumer, convo, seq)
);

CREATE INDEX dead_letters_again ON dead_letters (consumer, id) WHERE again;
