-- When `delivered_seq` last moved; null: as `marked_at` and `marked_commit` say, for nobody has written it down. Those from
-- whom it is hidden what was read are shown no more than that.
ALTER TABLE participants ADD COLUMN delivered_at bigint, ADD COLUMN delivered_commit bigint;

-- As it was, and it writes them, whichever program calls it.
--
-- Writes what was decided of conversations, each as it was at a version: those that are at it still, and no others.
--
-- One array a column; `…_at` is the place of a row's conversation in `c_id`, `r_mark` that of a receipt's mark. Gives
-- the commit (null: nothing was written), whether each conversation was at its version, and each mark's watermarks
-- before it. What is there already (watermarks) only rises; what was given back says what has come of it.
CREATE OR REPLACE FUNCTION append_1(
    p_locks bigint[], p_base bigint, p_node integer, p_lane integer, p_published bigint,
    c_id uuid[], c_version bigint[], c_writes boolean[], c_next_version bigint[], c_entries bigint[],
    c_last_seq bigint[], c_last_ts bigint[], c_message_no bigint[], c_message_seq bigint[], c_change_seq bigint[],
    c_members bigint[], c_joined_no bigint[],
    m_at integer[], m_seq bigint[], m_kind smallint[], m_sender uuid[], m_device uuid[], m_client_seq bigint[],
    m_ts bigint[], m_message_no bigint[], m_reply_to bigint[], m_body text[],
    k_at integer[], k_user uuid[], k_delivered bigint[], k_read bigint[], k_read_no bigint[], k_ts bigint[],
    r_mark integer[], r_seq bigint[], r_delivered_at bigint[], r_seen_at bigint[],
    OUT o_commit bigint, OUT o_current boolean[], OUT o_delivered bigint[], OUT o_read bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_writes boolean[];
BEGIN
    -- In one order, so that nobody waits in a circle; none has a transaction number yet.
    PERFORM pg_advisory_xact_lock(key) FROM unnest(p_locks) AS locks(key);

    -- A statement of its own: what it sees is newer than the locks.
    SELECT array_agg(coalesce(c.version, 0) = w.version ORDER BY w.at),
           array_agg(coalesce(c.version, 0) = w.version AND w.writes ORDER BY w.at)
    INTO o_current, v_writes
    FROM unnest(c_id, c_version, c_writes) WITH ORDINALITY AS w(id, version, writes, at)
    LEFT JOIN conversations c ON c.id = w.id;

    IF NOT coalesce(true = ANY (v_writes), false) THEN
        RETURN;
    END IF;
    o_commit := pg_current_xact_id()::text::bigint + p_base;

    IF cardinality(m_at) > 0 THEN
        INSERT INTO messages (convo, seq, kind, sender, device, client_seq, ts, commit_no, message_no, reply_to, body)
        SELECT c_id[m.at], m.seq, m.kind, m.sender, m.device, m.client_seq, m.ts, o_commit, m.message_no,
            m.reply_to, m.body
        FROM unnest(m_at, m_seq, m_kind, m_sender, m_device, m_client_seq, m_ts, m_message_no, m_reply_to, m_body)
            AS m(at, seq, kind, sender, device, client_seq, ts, message_no, reply_to, body)
        WHERE v_writes[m.at];
    END IF;

    IF cardinality(k_at) > 0 THEN
        SELECT array_agg(coalesce(p.delivered_seq, 0) ORDER BY k.no), array_agg(coalesce(p.read_seq, 0) ORDER BY k.no)
        INTO o_delivered, o_read
        FROM unnest(k_at, k_user) WITH ORDINALITY AS k(at, user_id, no)
        LEFT JOIN participants p ON p.convo = c_id[k.at] AND p.user_id = k.user_id;

        UPDATE participants p SET
            delivered_seq = greatest(p.delivered_seq, k.delivered), read_seq = greatest(p.read_seq, k.read),
            read_no = greatest(p.read_no, k.read_no), marked_at = k.ts, marked_commit = o_commit,
            delivered_at = CASE WHEN k.delivered > p.delivered_seq THEN k.ts
                ELSE coalesce(p.delivered_at, p.marked_at) END,
            delivered_commit = CASE WHEN k.delivered > p.delivered_seq THEN o_commit
                ELSE coalesce(p.delivered_commit, p.marked_commit) END
        FROM unnest(k_at, k_user, k_delivered, k_read, k_read_no, k_ts)
            AS k(at, user_id, delivered, read, read_no, ts)
        WHERE p.convo = c_id[k.at] AND p.user_id = k.user_id AND v_writes[k.at]
            AND (k.delivered > p.delivered_seq OR k.read > p.read_seq);
    END IF;

    IF cardinality(r_mark) > 0 THEN
        -- Only where the watermark was not yet.
        INSERT INTO receipts AS known (convo, user_id, seq, delivered_at, seen_at)
        SELECT c_id[k_at[r.mark]], k_user[r.mark], r.seq,
            CASE WHEN r.seq > o_delivered[r.mark] THEN r.delivered_at END,
            CASE WHEN r.seq > o_read[r.mark] THEN r.seen_at END
        FROM unnest(r_mark, r_seq, r_delivered_at, r_seen_at) AS r(mark, seq, delivered_at, seen_at)
        WHERE v_writes[k_at[r.mark]] AND (r.seq > o_delivered[r.mark] AND r.delivered_at IS NOT NULL
            OR r.seq > o_read[r.mark] AND r.seen_at IS NOT NULL)
        ON CONFLICT (convo, user_id, seq) DO UPDATE SET
            delivered_at = coalesce(known.delivered_at, excluded.delivered_at),
            seen_at = coalesce(known.seen_at, excluded.seen_at);
    END IF;

    UPDATE conversations c SET
        version = w.next_version, last_seq = w.last_seq, last_ts = w.last_ts, last_message_no = w.message_no,
        last_message_seq = greatest(c.last_message_seq, w.message_seq), last_change_seq = w.change_seq,
        member_count = w.members, last_joined_no = w.joined_no, last_commit = o_commit
    FROM unnest(c_id, c_next_version, c_last_seq, c_last_ts, c_message_no, c_message_seq, c_change_seq, c_members,
        c_joined_no) WITH ORDINALITY
        AS w(id, next_version, last_seq, last_ts, message_no, message_seq, change_seq, members, joined_no, at)
    WHERE c.id = w.id AND v_writes[w.at];

    INSERT INTO journal (node, lane, commit_no, convos, firsts, lasts)
    SELECT p_node, p_lane, o_commit, array_agg(w.id), array_agg(w.last_seq - w.entries + 1),
        array_agg(w.last_seq)
    FROM unnest(c_id, c_entries, c_last_seq) WITH ORDINALITY AS w(id, entries, last_seq, at)
    WHERE v_writes[w.at];

    IF p_published > 0 THEN
        -- A row that was not touched for long may be gone.
        INSERT INTO published AS known (node, lane, commit_no) VALUES (p_node, p_lane, p_published)
        ON CONFLICT (node, lane) DO UPDATE SET commit_no = excluded.commit_no, at = excluded.at
        WHERE known.commit_no < excluded.commit_no;
    END IF;
END
$$;

-- As `changes_1`, which older programs call, with `delivered_at`.
--
-- What changed for a user in commits from `p_since` on, all of one moment, by conversation: a row `left` (0), or a row
-- `in` (1), which its receipts (2) follow and, where few were missed, all entries that were (3).
--
-- `p_since` is at least 1: 0 in a row says never. Of a receipt, `delivered_at` is null if nothing more was received since
-- then: for those to whom it is hidden what was read, it is none. Of an entry, `last_seq` is its place and `user_id` its sender.
CREATE FUNCTION changes_2(
    p_user uuid, p_since bigint, p_only uuid, p_entries_max bigint, p_receipts_members_max bigint
) RETURNS TABLE (
    what smallint, convo uuid, joined boolean, first_missed bigint, last_seq bigint,
    is_shared boolean, title text, about text, posting smallint, history smallint,
    is_own boolean, muted boolean, muted_until bigint, pinned boolean, archived boolean,
    user_id uuid, delivered bigint, read bigint, ts bigint, delivered_at bigint,
    kind smallint, client_seq bigint, reply_to bigint, body text, commit_no bigint
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    of_convo record;
    item record;
    -- A range, so that one conversation is found by the index as well as all are.
    v_first uuid := coalesce(p_only, '00000000-0000-0000-0000-000000000000');
    v_last uuid := coalesce(p_only, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    v_room bigint := p_entries_max;
BEGIN
    FOR of_convo IN
        SELECT p.convo, false AS has_left, p.joined_commit, p.joined_seq, p.own_commit, p.muted, p.muted_until,
            p.pinned, p.archived, c.last_seq, c.member_count, c.shared_commit, c.title, c.about, c.posting, c.history
        FROM participants p JOIN conversations c ON c.id = p.convo
        WHERE p.user_id = p_user AND p.convo BETWEEN v_first AND v_last AND p.left_commit IS NULL
            AND c.last_commit >= p_since
        UNION ALL
        SELECT p.convo, true, 0, 0, 0, false, NULL, false, false, 0, 0, 0, NULL, NULL, 0, 0
        FROM participants p
        WHERE p.user_id = p_user AND p.left_commit >= p_since AND p.left_commit IS NOT NULL
            AND p.convo BETWEEN v_first AND v_last
        ORDER BY 1
    LOOP
        convo := of_convo.convo;
        IF of_convo.has_left THEN
            what := 0;
            RETURN NEXT;
            CONTINUE;
        END IF;
        what := 1;
        joined := of_convo.joined_commit >= p_since;
        last_seq := of_convo.last_seq;
        -- What was before he came he did not miss, also where he may look at it.
        first_missed := first_since_1(convo, p_since, of_convo.joined_seq, last_seq);
        is_shared := of_convo.shared_commit >= p_since;
        title := of_convo.title;
        about := of_convo.about;
        posting := of_convo.posting;
        history := of_convo.history;
        is_own := of_convo.own_commit >= p_since;
        muted := of_convo.muted;
        muted_until := of_convo.muted_until;
        pinned := of_convo.pinned;
        archived := of_convo.archived;
        RETURN NEXT;
        title := NULL;
        about := NULL;

        what := 2;
        IF of_convo.member_count <= p_receipts_members_max THEN
            FOR item IN
                SELECT p.user_id, p.delivered_seq, p.read_seq, p.marked_at,
                    CASE WHEN coalesce(p.delivered_commit, p.marked_commit) >= p_since
                        THEN coalesce(p.delivered_at, p.marked_at) END AS delivered_at
                FROM participants p
                WHERE p.convo = of_convo.convo AND p.left_commit IS NULL AND p.marked_commit >= p_since
            LOOP
                user_id := item.user_id;
                delivered := item.delivered_seq;
                read := item.read_seq;
                ts := item.marked_at;
                delivered_at := item.delivered_at;
                RETURN NEXT;
            END LOOP;
        ELSE
            -- In a large conversation everybody is told of his own watermarks alone.
            FOR item IN
                SELECT p.user_id, p.delivered_seq, p.read_seq, p.marked_at,
                    CASE WHEN coalesce(p.delivered_commit, p.marked_commit) >= p_since
                        THEN coalesce(p.delivered_at, p.marked_at) END AS delivered_at
                FROM participants p
                WHERE p.convo = of_convo.convo AND p.user_id = p_user AND p.marked_commit >= p_since
            LOOP
                user_id := item.user_id;
                delivered := item.delivered_seq;
                read := item.read_seq;
                ts := item.marked_at;
                delivered_at := item.delivered_at;
                RETURN NEXT;
            END LOOP;
        END IF;

        IF NOT joined AND first_missed IS NOT NULL AND of_convo.last_seq - first_missed < v_room THEN
            v_room := v_room - (of_convo.last_seq - first_missed + 1);
            what := 3;
            FOR item IN
                SELECT m.* FROM messages m
                WHERE m.convo = of_convo.convo AND m.seq >= first_missed AND m.seq <= of_convo.last_seq
                ORDER BY m.seq
            LOOP
                last_seq := item.seq;
                kind := item.kind;
                user_id := item.sender;
                client_seq := item.client_seq;
                ts := item.ts;
                reply_to := item.reply_to;
                body := item.body;
                commit_no := item.commit_no;
                RETURN NEXT;
            END LOOP;
            body := NULL;
        END IF;
    END LOOP;
END
$$;
