"""The ledger, the operations, evidence, idempotency and API keys, with the least privileges each role needs."""

from typing import Final

from alembic import op

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

_TABLES: Final = """
CREATE TABLE ledger_leaf (
    idx bigint PRIMARY KEY,
    entry bytea NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    operation text,
    kind text NOT NULL
);
CREATE INDEX ledger_leaf_operation ON ledger_leaf (operation, idx) WHERE operation IS NOT NULL;
CREATE INDEX ledger_leaf_kind ON ledger_leaf (kind, idx);
CREATE TABLE ledger_node (
    level smallint NOT NULL CHECK (level > 0),
    idx bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, idx)
);
CREATE TABLE ledger_head (
    size bigint PRIMARY KEY CHECK (size > 0),
    frontier bytea NOT NULL,
    constitution text NOT NULL,
    key text NOT NULL CHECK (key ~ '^[0-9a-f]{8}$'),
    halted boolean NOT NULL,
    latest timestamptz NOT NULL,
    batch bytea NOT NULL
);
CREATE TABLE ledger_checkpoint (
    size bigint PRIMARY KEY,
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    note bytea NOT NULL
);
CREATE TABLE warrant_use (
    warrant text PRIMARY KEY,
    operation text NOT NULL
);
CREATE TABLE evidence (
    digest text PRIMARY KEY,
    body bytea NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    CHECK (digest = encode(sha256(body), 'hex'))
);
CREATE TABLE operation (
    id text PRIMARY KEY,
    version integer NOT NULL,
    stage text NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    worker text,
    leased_until timestamptz,
    requester text NOT NULL,
    type text NOT NULL,
    tier smallint,
    emergency boolean NOT NULL,
    created timestamptz NOT NULL,
    updated timestamptz NOT NULL
);
CREATE INDEX operation_stage ON operation (stage, id);
CREATE INDEX operation_requester ON operation (requester, id);
CREATE TABLE idempotency (
    principal text NOT NULL,
    key text NOT NULL,
    body_sha256 text NOT NULL,
    started timestamptz NOT NULL,
    token text NOT NULL,
    status smallint,
    headers jsonb,
    body bytea,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_started ON idempotency (started);
CREATE TABLE api_key (
    digest text PRIMARY KEY,
    subject text NOT NULL,
    kind text NOT NULL,
    roles text[] NOT NULL,
    person text NOT NULL,
    created timestamptz NOT NULL,
    expires timestamptz,
    revoked timestamptz
);
"""

_LOCK: Final = """
CREATE FUNCTION ledger_lock(
    OUT o_size bigint, OUT o_frontier bytea, OUT o_constitution text, OUT o_key text, OUT o_halted boolean,
    OUT o_latest timestamptz
) LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
-- Nobody else appends until the end of the transaction. The head is read by a statement of its own, whose snapshot is
-- younger than the lock.
BEGIN
    PERFORM pg_advisory_xact_lock(500069425509);
    SELECT size, frontier, constitution, key, halted, latest
        INTO o_size, o_frontier, o_constitution, o_key, o_halted, o_latest
        FROM ledger_head ORDER BY size DESC LIMIT 1;
END
$$;
"""

_TURN: Final = """
CREATE FUNCTION ledger_turn(
    p_size bigint,
    OUT o_size bigint, OUT o_frontier bytea, OUT o_constitution text, OUT o_key text, OUT o_halted boolean,
    OUT o_latest timestamptz, OUT o_leaves bytea
) LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
-- Like ledger_lock, but until the session appends for the last time in its turn, or lets go: the lock is the session's,
-- so no transaction has to be opened and ended around it, and a turn may be several transactions long. With it come the
-- leaf hashes that the log has gained since it had p_size entries, where these are few: with them the caller proves
-- that the new head extends the one it knows.
BEGIN
    PERFORM pg_advisory_lock(500069425509);
    SELECT size, frontier, constitution, key, halted, latest
        INTO o_size, o_frontier, o_constitution, o_key, o_halted, o_latest
        FROM ledger_head ORDER BY size DESC LIMIT 1;
    IF o_size - p_size BETWEEN 1 AND 4096 THEN
        SELECT string_agg(hash, '' ORDER BY idx) INTO o_leaves
            FROM ledger_leaf WHERE idx >= p_size AND idx < o_size;
    END IF;
END
$$;
"""

_APPEND: Final = """
CREATE FUNCTION ledger_append(
    p_turn boolean, p_size bigint, p_batch bytea,
    p_entries bytea, p_hashes bytea, p_operations text, p_kinds text,
    p_levels smallint[], p_indexes bigint[], p_nodes bytea[],
    p_frontier bytea, p_latest timestamptz, p_root bytea, p_note bytea, p_key text,
    p_constitution text DEFAULT NULL, p_halted boolean DEFAULT NULL, p_next_key text DEFAULT NULL
) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
-- Entries, nodes, head and checkpoint in one transaction, if the head is still the one they were built on; else the
-- answer is false and nothing is written. Entries, operations (empty: none) and kinds come one a line: canonical JSON
-- has no line break, and splitting a text is cheaper than sending an array. What the last three arguments leave out
-- stays as it is in the head. A session whose turn it is gives it up with p_turn; others get the lock when the
-- transaction has ended.
DECLARE
    v_size bigint;
    v_new bigint := p_size + octet_length(p_hashes) / 32;
    v_constitution text;
    v_key text;
    v_halted boolean;
    v_done text;
BEGIN
    v_done := pg_advisory_xact_lock(500069425509)::text;
    SELECT size, constitution, key, halted INTO v_size, v_constitution, v_key, v_halted
        FROM ledger_head ORDER BY size DESC LIMIT 1;
    IF coalesce(v_size, 0) <> p_size THEN
        RETURN false;
    END IF;
    IF v_key <> p_key THEN
        RAISE EXCEPTION 'another key is in force'
            USING ERRCODE = 'TR001', DETAIL = '[{"key": true, "code": "key-stale"}]';
    END IF;
    IF p_next_key IS NULL AND strpos(p_kinds, 'key.rotated') > 0
        OR p_next_key IS NOT NULL AND strpos(p_kinds, 'key.rotated') <> length(p_kinds) - 10
    THEN
        RAISE EXCEPTION 'a batch names the next key exactly when it ends with key.rotated';
    END IF;
    WITH leaves AS (
        INSERT INTO ledger_leaf (idx, entry, hash, operation, kind)
            SELECT p_size + l.n - 1, convert_to(l.entry, 'UTF8'), substr(p_hashes, 32 * l.n::integer - 31, 32),
                l.operation, l.kind
            FROM unnest(string_to_array(convert_from(p_entries, 'UTF8'), E'\\n'),
                string_to_array(p_operations, E'\\n', ''), string_to_array(p_kinds, E'\\n'))
                WITH ORDINALITY AS l(entry, operation, kind, n)
    ), head AS (
        INSERT INTO ledger_head (size, frontier, constitution, key, halted, latest, batch)
            VALUES (v_new, p_frontier, coalesce(p_constitution, v_constitution), coalesce(p_next_key, p_key),
                coalesce(p_halted, v_halted, false), p_latest, p_batch)
    ) INSERT INTO ledger_checkpoint (size, root, note) VALUES (v_new, p_root, p_note);
    IF p_nodes IS NOT NULL THEN
        INSERT INTO ledger_node (level, idx, hash) SELECT * FROM unnest(p_levels, p_indexes, p_nodes);
    END IF;
    v_done := pg_notify('ledger', v_new::text)::text;
    IF p_turn THEN
        v_done := pg_advisory_unlock(500069425509)::text;
    END IF;
    RETURN true;
END
$$;
"""

_COMMIT: Final = """
CREATE FUNCTION ledger_commit(
    p_turn boolean, p_size bigint, p_batch bytea,
    p_entries bytea, p_hashes bytea, p_operations text, p_kinds text,
    p_levels smallint[], p_indexes bigint[], p_nodes bytea[],
    p_frontier bytea, p_latest timestamptz, p_root bytea, p_note bytea, p_key text,
    p_constitution text, p_halted boolean, p_next_key text,
    p_ids text[], p_from integer[], p_to integer[], p_stages text[], p_tiers smallint[], p_epochs integer[],
    p_times timestamptz[],
    p_new_ids text[], p_requesters text[], p_types text[], p_emergencies boolean[], p_created timestamptz[],
    p_warrants text[], p_warrant_operations text[], p_warrant_constitutions text[],
    p_amends text,
    p_digests text[], p_bodies bytea[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
-- A batch that does more than append, in one transaction and one round trip. Under one lock: the head must be the one
-- the batch was built on (else the answer is false and nothing is written), every operation must stand where its
-- writer saw it, every warrant must be unused, unhalted and of the constitution in force, unless it names none. Any
-- loser rolls everything back: SQLSTATE TR001, the losers as JSON in DETAIL. ledger_append demands its own besides.
DECLARE
    v_lost jsonb := '[]';
    v_won text[];
    v_size bigint;
    v_constitution text;
    v_halted boolean;
    v_done text;
BEGIN
    v_done := pg_advisory_xact_lock(500069425509)::text;
    SELECT size, constitution, halted INTO v_size, v_constitution, v_halted
        FROM ledger_head ORDER BY size DESC LIMIT 1;
    IF coalesce(v_size, 0) <> p_size THEN
        RETURN false;
    END IF;

    IF p_ids IS NOT NULL THEN
        WITH won AS (
            UPDATE operation o
                SET version = m.t, stage = m.stage, tier = coalesce(m.tier, o.tier), updated = m.at
                FROM unnest(p_ids, p_from, p_to, p_stages, p_tiers, p_epochs, p_times)
                    AS m(id, f, t, stage, tier, epoch, at)
                WHERE o.id = m.id AND o.version = m.f AND (m.epoch IS NULL OR o.epoch = m.epoch)
                RETURNING o.id
        ) SELECT coalesce(array_agg(id), '{}') INTO v_won FROM won;
        IF cardinality(v_won) <> cardinality(p_ids) THEN
            SELECT v_lost || jsonb_agg(jsonb_build_object('operation', m.id, 'code',
                    CASE WHEN o.version = m.f THEN 'epoch-stale' ELSE 'stage-conflict' END))
                INTO v_lost
                FROM unnest(p_ids, p_from) AS m(id, f) LEFT JOIN operation o ON o.id = m.id
                WHERE m.id <> ALL (v_won);
        END IF;
    END IF;
    IF p_new_ids IS NOT NULL THEN
        WITH won AS (
            INSERT INTO operation (id, version, stage, requester, type, emergency, created, updated)
                SELECT n.id, 1, 'requested', n.requester, n.type, n.emergency, n.at, n.at
                FROM unnest(p_new_ids, p_requesters, p_types, p_emergencies, p_created)
                    AS n(id, requester, type, emergency, at)
                ON CONFLICT DO NOTHING
                RETURNING id
        ) SELECT coalesce(array_agg(id), '{}') INTO v_won FROM won;
        IF cardinality(v_won) <> cardinality(p_new_ids) THEN
            SELECT v_lost || jsonb_agg(jsonb_build_object('operation', n, 'code', 'stage-conflict'))
                INTO v_lost FROM unnest(p_new_ids) AS n WHERE n <> ALL (v_won);
        END IF;
    END IF;
    IF p_warrants IS NOT NULL THEN
        WITH won AS (
            INSERT INTO warrant_use (warrant, operation)
                SELECT * FROM unnest(p_warrants, p_warrant_operations)
                ON CONFLICT DO NOTHING
                RETURNING warrant
        ) SELECT coalesce(array_agg(warrant), '{}') INTO v_won FROM won;
        IF v_halted OR cardinality(v_won) <> cardinality(p_warrants)
            OR v_constitution <> ANY (p_warrant_constitutions)
        THEN
            SELECT v_lost || coalesce(jsonb_agg(jsonb_build_object('warrant', w.id, 'code',
                    CASE WHEN w.id <> ALL (v_won) THEN 'warrant-used'
                         WHEN v_halted THEN 'halted'
                         ELSE 'constitution-changed' END)), '[]')
                INTO v_lost
                FROM unnest(p_warrants, p_warrant_constitutions) AS w(id, constitution)
                WHERE v_halted OR w.id <> ALL (v_won) OR w.constitution <> v_constitution;
        END IF;
    END IF;
    IF p_amends IS NOT NULL AND p_amends IS DISTINCT FROM v_constitution THEN
        v_lost := v_lost || jsonb_build_object('amendment', true, 'code', 'constitution-changed');
    END IF;
    IF v_lost <> '[]' THEN
        RAISE EXCEPTION 'some of the batch lost' USING ERRCODE = 'TR001', DETAIL = v_lost::text;
    END IF;

    IF p_digests IS NOT NULL THEN
        INSERT INTO evidence (digest, body) SELECT * FROM unnest(p_digests, p_bodies) ON CONFLICT DO NOTHING;
    END IF;
    RETURN ledger_append(p_turn, p_size, p_batch, p_entries, p_hashes, p_operations, p_kinds, p_levels, p_indexes,
        p_nodes, p_frontier, p_latest, p_root, p_note, p_key, p_constitution, p_halted, p_next_key);
END
$$;
"""

_PRIVILEGES: Final = """
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO triad_app, triad_observer, triad_operator;
GRANT SELECT, INSERT ON ledger_leaf, ledger_node, ledger_head, ledger_checkpoint, warrant_use, evidence TO triad_app;
GRANT SELECT, INSERT, UPDATE ON operation, api_key TO triad_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO triad_app;
GRANT SELECT ON alembic_version TO triad_app;
GRANT EXECUTE ON FUNCTION ledger_lock, ledger_turn, ledger_append, ledger_commit TO triad_app;
"""


def upgrade() -> None:
    """Create everything."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_LOCK)
    op.execute(_TURN)
    op.execute(_APPEND)
    op.execute(_COMMIT)
    for statement in _PRIVILEGES.split(";\n"):
        if statement.strip():
            op.execute(statement)
