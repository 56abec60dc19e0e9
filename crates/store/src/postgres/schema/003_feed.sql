-- How much of the journal is forgotten: those who follow the logs from before it begin anew.

CREATE TABLE journal_forgotten (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    before bigint NOT NULL                       -- rows of commits below it may be gone
);

INSERT INTO journal_forgotten (before) VALUES (0);
