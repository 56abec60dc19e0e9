-- What messages are found by. Derived from the logs: it can be emptied, and is filled again.

-- One row.
CREATE TABLE search_meta (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,                    -- of these tables
    cursor  text                                 -- up to where the logs are in here
);

INSERT INTO search_meta (version) VALUES (2);

-- Messages. The id is the time in milliseconds, and a number within it: what is newer has a higher one.
CREATE TABLE search_documents (
    id    bigint PRIMARY KEY,
    convo uuid NOT NULL,
    seq   bigint NOT NULL,
    rank  bigint NOT NULL,
    text  tsvector NOT NULL,                     -- the words, ~cCONVERSATION and ~uSENDER
    UNIQUE (convo, seq)
);

-- Every search reads all of the list of what is not sorted in yet: it is kept short.
CREATE INDEX search_documents_by_text ON search_documents USING gin (text) WITH (gin_pending_list_limit = 512);

-- Writes a batch, each message once at most: the texts (null: the message is gone), and the cursor
-- (null: it stays where it is).
CREATE FUNCTION search_apply_1(
    p_convo uuid[], p_seq bigint[], p_first bigint[], p_rank bigint[], p_text text[], p_cursor text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- One at a time: two would give a message's place within its moment twice.
    PERFORM pg_advisory_xact_lock(1952806516, 2);

    DELETE FROM search_documents d USING unnest(p_convo, p_seq, p_text) AS b(convo, seq, text)
    WHERE d.convo = b.convo AND d.seq = b.seq AND b.text IS NULL;

    UPDATE search_documents d SET rank = b.rank, text = b.text::tsvector
    FROM unnest(p_convo, p_seq, p_rank, p_text) AS b(convo, seq, rank, text)
    WHERE d.convo = b.convo AND d.seq = b.seq AND b.text IS NOT NULL;

    INSERT INTO search_documents (id, convo, seq, rank, text)
    SELECT b.first + coalesce((SELECT max(u.id) - b.first + 1 FROM search_documents u
                WHERE u.id >= b.first AND u.id < b.first + 1048576), 0)
            + row_number() OVER (PARTITION BY b.first ORDER BY b.place) - 1,
        b.convo, b.seq, b.rank, b.text::tsvector
    FROM unnest(p_convo, p_seq, p_first, p_rank, p_text) WITH ORDINALITY AS b(convo, seq, first, rank, text, place)
    WHERE b.text IS NOT NULL
        AND NOT EXISTS (SELECT FROM search_documents k WHERE k.convo = b.convo AND k.seq = b.seq);

    IF p_cursor IS NOT NULL THEN
        UPDATE search_meta SET cursor = p_cursor;
    END IF;
END $$;
