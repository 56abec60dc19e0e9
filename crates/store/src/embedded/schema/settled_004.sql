-- Some conversations are settled before their turn: nothing in here is newer than this commit.
ALTER TABLE meta ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0;
