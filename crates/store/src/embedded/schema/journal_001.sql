-- What was promised and is not settled yet: one row a commit, in the order of commits, without holes.
CREATE TABLE journal (
    commit_no INTEGER PRIMARY KEY,
    batch     BLOB NOT NULL          -- version, checksum, records: see record.rs
) STRICT;

-- One row.
CREATE TABLE meta (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    folder  BLOB NOT NULL,           -- the data folder's random tag, the same in all its files
    trimmed INTEGER NOT NULL         -- the newest commit whose row was removed because it is settled for good
) STRICT;
