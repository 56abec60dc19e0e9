-- Times are milliseconds since 1970, ids the 16 bytes of their UUID.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id BLOB PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    display_name_folded TEXT NOT NULL,
    about TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    last_seen_hidden INTEGER NOT NULL,
    read_receipts_hidden INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER
) STRICT, WITHOUT ROWID;

-- With the username in it, a search reads nothing else until it knows its page.
CREATE INDEX users_by_display_name ON users (display_name_folded, username);

CREATE TABLE devices (
    id BLOB PRIMARY KEY,
    user BLOB NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    platform TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    refresh_hash BLOB NOT NULL,
    refresh_generation INTEGER NOT NULL,
    refresh_expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_by_user ON devices (user, created_at);
CREATE INDEX devices_by_end ON devices (refresh_expires_at);

CREATE TABLE access_tokens (
    hash BLOB PRIMARY KEY,
    device BLOB NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX access_tokens_by_device ON access_tokens (device, expires_at);

CREATE TABLE blocks (
    blocker BLOB NOT NULL REFERENCES users (id),
    blocked BLOB NOT NULL REFERENCES users (id),
    PRIMARY KEY (blocker, blocked)
) STRICT, WITHOUT ROWID;
