-- Users, their devices and tokens, and whom they block.
-- Times are milliseconds since 1970. Texts that are searched by their beginnings are compared byte by byte.

CREATE TABLE meta (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE users (
    id                   uuid PRIMARY KEY,
    username             text COLLATE "C" NOT NULL UNIQUE,
    display_name         text NOT NULL,
    display_name_folded  text COLLATE "C" NOT NULL,
    about                text NOT NULL,
    password_hash        text NOT NULL,
    last_seen_hidden     boolean NOT NULL,
    read_receipts_hidden boolean NOT NULL,
    created_at           bigint NOT NULL,
    last_seen_at         bigint
);

-- With the username in it, a search reads nothing else until it knows its page.
CREATE INDEX users_by_display_name ON users (display_name_folded, username);

CREATE TABLE devices (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL REFERENCES users,
    name               text NOT NULL,
    platform           text NOT NULL,
    created_at         bigint NOT NULL,
    last_seen_at       bigint NOT NULL,
    refresh_hash       bytea NOT NULL,
    refresh_generation bigint NOT NULL,
    refresh_expires_at bigint NOT NULL
);

CREATE INDEX devices_by_user ON devices (user_id, created_at);
CREATE INDEX devices_by_end ON devices (refresh_expires_at);

CREATE TABLE access_tokens (
    hash       bytea PRIMARY KEY,
    device     uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    expires_at bigint NOT NULL
);

CREATE INDEX access_tokens_by_device ON access_tokens (device, expires_at);

CREATE TABLE blocks (
    blocker uuid NOT NULL REFERENCES users,
    blocked uuid NOT NULL REFERENCES users,
    PRIMARY KEY (blocker, blocked)
);
