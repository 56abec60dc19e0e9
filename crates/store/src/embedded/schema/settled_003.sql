-- The logs, a few neighbours in a row: a row costs as much whether it holds one entry or sixteen.
CREATE TABLE log (
    convo   INTEGER NOT NULL,
    first   INTEGER NOT NULL,         -- the number of its first entry; the others follow on it
    entries BLOB NOT NULL,
    PRIMARY KEY (convo, first)
) STRICT, WITHOUT ROWID;

-- Entries are dense from 1: each that begins a block, and those up to the next such one.
INSERT INTO log (convo, first, entries)
SELECT b.convo, b.seq, (
    SELECT pack(m.seq, m.kind, s.id, m.client_seq, m.ts, m.commit_no, m.message_no, m.reply_to, m.body)
    FROM messages m JOIN ids s ON s.key = m.sender
    WHERE m.convo = b.convo AND m.seq BETWEEN b.seq AND b.seq | 15
)
FROM messages b WHERE b.seq = 1 OR b.seq % 16 = 0;

DROP TABLE messages;
