-- What messages are found by. Derived from the logs: whoever deletes this file gets it back.

-- One row.
CREATE TABLE meta (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    cursor TEXT                          -- up to where the logs are in here
) STRICT;
INSERT INTO meta VALUES (1, NULL);

-- Conversations and users.
CREATE TABLE names (
    key INTEGER PRIMARY KEY,
    id  BLOB NOT NULL UNIQUE
) STRICT;

-- Messages. The id is the time in milliseconds, and a number within it: what is newer has a higher one, and a message
-- is found by its time without an index of its own.
CREATE TABLE documents (
    id    INTEGER PRIMARY KEY,
    convo INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    words INTEGER NOT NULL               -- how many
) STRICT;

-- Their words, by the same id; in front of them the conversation as ~cKEY and the sender as ~uKEY, so that who is in a
-- hundred conversations seeks in those alone. The words come folded and parted: the tokenizer only sees the spaces.
CREATE VIRTUAL TABLE texts USING fts5(
    text, content = '', contentless_delete = 1, detail = 'full', tokenize = "ascii tokenchars '~'"
);
-- A batch is one segment, not one for every megabyte of it.
INSERT INTO texts (texts, rank) VALUES ('hashsize', 67108864);
