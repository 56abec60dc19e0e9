-- What the journal comes to: conversations, their members and their logs.
-- Times are milliseconds since 1970; keys are small integers, for they stand in every row and index.

-- One row.
CREATE TABLE meta (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    folder  BLOB NOT NULL,           -- the data folder's random tag, the same in all its files
    settled INTEGER NOT NULL         -- the newest commit that is in here, with all before it
) STRICT;

-- One row for every time the folder was opened: a position is a tag and a number, so that one from a
-- future that a restored backup has not seen is not taken for one of ours.
CREATE TABLE epochs (
    number       INTEGER PRIMARY KEY,
    tag          INTEGER NOT NULL UNIQUE,
    first_commit INTEGER NOT NULL
) STRICT;

-- Users and devices.
CREATE TABLE ids (
    key INTEGER PRIMARY KEY,
    id  BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE conversations (
    key              INTEGER PRIMARY KEY,
    id               BLOB NOT NULL UNIQUE,
    kind             INTEGER NOT NULL,           -- 0 direct, 1 group
    title            TEXT,
    about            TEXT NOT NULL DEFAULT '',
    posting          INTEGER NOT NULL DEFAULT 0, -- 0 all, 1 admins
    history          INTEGER NOT NULL,           -- 0 since joined, 1 all
    created_at       INTEGER NOT NULL,
    member_count     INTEGER NOT NULL,
    last_joined_no   INTEGER NOT NULL,           -- how many times somebody joined
    last_seq         INTEGER NOT NULL,
    last_ts          INTEGER NOT NULL,           -- of the newest entry
    last_message_no  INTEGER NOT NULL,           -- how many messages there are
    last_message_seq INTEGER NOT NULL,           -- the newest message; 0: none
    last_change_seq  INTEGER NOT NULL,           -- the newest entry that is no message
    last_commit      INTEGER NOT NULL,           -- when anything at all changed, watermarks and own settings too
    shared_commit    INTEGER NOT NULL DEFAULT 0  -- when title or policies changed
) STRICT;

-- Members, and those who were.
CREATE TABLE participants (
    convo         INTEGER NOT NULL,
    user          INTEGER NOT NULL,
    role          INTEGER NOT NULL,              -- 0 member, 1 admin, 2 owner
    joined_no     INTEGER NOT NULL,              -- his place in the order of joining
    joined_seq    INTEGER NOT NULL,
    joined_at     INTEGER NOT NULL,
    joined_commit INTEGER NOT NULL,
    visible_from  INTEGER NOT NULL,
    delivered_seq INTEGER NOT NULL,
    read_seq      INTEGER NOT NULL,
    read_no       INTEGER NOT NULL,              -- how many messages there are up to read_seq
    marked_at     INTEGER NOT NULL,              -- when a watermark last moved
    marked_commit INTEGER NOT NULL DEFAULT 0,
    muted         INTEGER NOT NULL DEFAULT 0,
    muted_until   INTEGER,
    pinned        INTEGER NOT NULL DEFAULT 0,
    archived      INTEGER NOT NULL DEFAULT 0,
    own_commit    INTEGER NOT NULL DEFAULT 0,    -- when his own settings changed
    blocks        INTEGER NOT NULL DEFAULT 0,    -- keeps a direct conversation closed for sends
    left_seq      INTEGER,                       -- null while he is in it
    left_commit   INTEGER,
    PRIMARY KEY (convo, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX participants_by_user ON participants (user, convo) WHERE left_commit IS NULL;
CREATE INDEX participants_gone ON participants (user, left_commit) WHERE left_commit IS NOT NULL;
CREATE INDEX participants_by_joining ON participants (convo, joined_no) WHERE left_commit IS NULL;

-- The logs. A page of a conversation's history is a few pages of this file.
CREATE TABLE messages (
    convo      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    kind       INTEGER NOT NULL,                 -- 0 text, 1 a change
    sender     INTEGER NOT NULL,
    device     INTEGER,                          -- text: where it came from
    client_seq INTEGER,                          -- text: the device's number of it
    ts         INTEGER NOT NULL,
    commit_no  INTEGER NOT NULL,
    message_no INTEGER NOT NULL,                 -- how many messages there are up to this entry
    reply_to   INTEGER,
    body       TEXT NOT NULL,                    -- of a change: what it records, as JSON
    PRIMARY KEY (convo, seq)
) STRICT, WITHOUT ROWID;

-- One number of one device is one message for as long as the message lives: which one. A row a run of messages whose
-- numbers and places both go up by one; who says several things in a row takes one row for them.
CREATE TABLE sends (
    convo      INTEGER NOT NULL,
    device     INTEGER NOT NULL,
    client_seq INTEGER NOT NULL,                 -- of the first message of the run
    seq        INTEGER NOT NULL,                 -- its place
    count      INTEGER NOT NULL,
    PRIMARY KEY (convo, device, client_seq)
) STRICT, WITHOUT ROWID;

-- One row a place that a member's watermarks reached. A message was delivered, or seen, at the first row at or
-- above its seq that has the time of it.
CREATE TABLE receipts (
    convo        INTEGER NOT NULL,
    user         INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    delivered_at INTEGER,
    seen_at      INTEGER,
    PRIMARY KEY (convo, user, seq)
) STRICT, WITHOUT ROWID;
