-- Which entries came with which commits, for those who follow the logs: the search index, and whoever comes after it.
-- A row a bite of the settler, so that it costs a row for thousands of messages. Rows go when all have passed them.
CREATE TABLE touched (
    commit_no INTEGER PRIMARY KEY,    -- the newest commit of the bite
    ranges    BLOB NOT NULL           -- conversations, each with the first and the last of its new entries
) STRICT;

-- The first commit that the table knows of; what came before is in the logs alone.
ALTER TABLE meta ADD COLUMN touched_from INTEGER NOT NULL DEFAULT 0;
UPDATE meta SET touched_from = settled + 1;
