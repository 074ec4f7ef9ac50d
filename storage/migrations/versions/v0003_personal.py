"""Personal data behind commitments, and the expiry of evidence.

The service's role still has no DELETE on evidence: `evidence_forget` deletes for it, and only what an entry under the
newest checkpoint names, never the text of a constitution, never what belongs to an operation that has not ended. It
believes rows that the service may not change: of those that it may add, or update, it takes nothing on trust.
"""

from typing import Final

from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
branch_labels: Final = None
depends_on: Final = None

_TABLES: Final = """
CREATE TABLE personal (
    subject text NOT NULL,
    field text NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    value text NOT NULL,
    commitment text NOT NULL UNIQUE,
    idx bigint NOT NULL,
    PRIMARY KEY (subject, field),
    CHECK (commitment = encode(sha256(salt || convert_to(value, 'UTF8')), 'hex'))
);
CREATE TABLE evidence_use (
    digest text NOT NULL,
    idx bigint NOT NULL,
    class text NOT NULL,
    operation text,
    at timestamptz NOT NULL,
    PRIMARY KEY (digest, idx, class)
);
CREATE TABLE evidence_progress (
    size bigint PRIMARY KEY
);
INSERT INTO evidence_progress VALUES (0);
CREATE TABLE evidence_gone (
    digest text NOT NULL,
    idx bigint NOT NULL,
    PRIMARY KEY (digest, idx)
);
CREATE TABLE evidence_done (
    idx bigint PRIMARY KEY
)
"""

_INDEX: Final = """
CREATE FUNCTION evidence_index(p_most bigint, OUT o_left bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Reads at most p_most further entries under the newest checkpoint and notes which evidence they name, and as what.
-- Returns how many are left. No place is passed over: a row that stands apart would hide what comes before it.
DECLARE
    v_from bigint;
    v_size bigint;
    v_to bigint;
BEGIN
    SELECT size INTO v_from FROM public.evidence_progress FOR UPDATE;
    SELECT coalesce(max(size), 0) INTO v_size FROM public.ledger_checkpoint;
    v_to := greatest(v_from, least(v_from + greatest(p_most, 0), v_size));
    IF (SELECT count(*) FROM public.ledger_leaf WHERE idx >= v_from AND idx < v_to) <> v_to - v_from THEN
        RAISE EXCEPTION 'entries under the newest checkpoint are missing' USING ERRCODE = 'TR003';
    END IF;
    INSERT INTO public.evidence_use (digest, idx, class, operation, at)
        SELECT named.digest, leaf.idx, named.class, leaf.body->>'operation', (leaf.body->>'time')::timestamptz
        FROM (
            SELECT idx, kind, convert_from(entry, 'UTF8')::jsonb AS body
            FROM public.ledger_leaf
            WHERE idx >= v_from AND idx < v_to AND kind IN (
                'genesis', 'constitution.proposed', 'constitution.amended', 'plan.proposed',
                'step.intent', 'step.done', 'step.failed', 'report.stored'
            )
        ) AS leaf, LATERAL (
            SELECT leaf.body->>'constitution', 'constitution' WHERE leaf.kind = 'genesis'
            UNION ALL SELECT leaf.body#>>'{event,proposed}', 'constitution' WHERE leaf.kind = 'constitution.proposed'
            UNION ALL SELECT leaf.body#>>'{event,enacted}', 'constitution' WHERE leaf.kind = 'constitution.amended'
            UNION ALL SELECT leaf.body#>>'{event,plan}', 'plan' WHERE leaf.kind = 'plan.proposed'
            UNION ALL SELECT leaf.body#>>'{event,snapshot}', 'snapshot' WHERE leaf.kind = 'step.intent'
            UNION ALL SELECT each, 'step' FROM jsonb_array_elements_text(leaf.body#>'{event,evidence}') AS each
                WHERE leaf.kind IN ('step.done', 'step.failed')
            UNION ALL SELECT leaf.body#>>'{event,report}', 'report' WHERE leaf.kind = 'report.stored'
        ) AS named(digest, class)
        WHERE named.digest IS NOT NULL
        ON CONFLICT DO NOTHING;
    UPDATE public.evidence_progress SET size = v_to;
    o_left := greatest(v_size - v_to, 0);
END
$$
"""

_HELD: Final = """
CREATE FUNCTION evidence_held(p_digests text[], p_plans boolean, p_after bigint, p_before timestamptz)
RETURNS TABLE (o_digest text, o_why text)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
-- Those of the digests that must stay, and why. p_plans: plans of operations that ended may go. p_after: what a later
-- entry names again stays too. p_before: and what an entry of that time or a later one names.
-- Whether an operation has ended is what its newest entry under the newest checkpoint says that moved it.
    WITH named AS (
        SELECT u.digest, u.idx, u.class, u.operation, u.at
        FROM public.evidence_use AS u WHERE u.digest = ANY (p_digests)
    ), ended AS (
        SELECT o.operation FROM (SELECT DISTINCT operation FROM named WHERE operation IS NOT NULL) AS o
        WHERE (
            SELECT convert_from(l.entry, 'UTF8')::jsonb->>'after' FROM public.ledger_leaf AS l
            WHERE l.operation = o.operation AND l.idx >= 0
                AND l.idx < (SELECT max(c.size) FROM public.ledger_checkpoint AS c)
                AND convert_from(l.entry, 'UTF8')::jsonb ? 'after'
            ORDER BY l.idx DESC LIMIT 1
        ) IN ('completed', 'rolled_back', 'refused', 'denied', 'vetoed', 'cancelled', 'expired', 'failed')
    )
    SELECT found.digest, min(found.why) FROM (
        SELECT n.digest, CASE
            WHEN n.class = 'constitution' THEN 'constitution'
            WHEN n.operation IS NOT NULL AND n.operation NOT IN (SELECT e.operation FROM ended AS e) THEN 'unfinished'
            WHEN n.class = 'plan' AND NOT p_plans THEN 'plan'
            WHEN n.idx > p_after THEN 'named-again'
            WHEN n.at >= p_before THEN 'young'
        END AS why
        FROM named AS n
    ) AS found WHERE found.why IS NOT NULL GROUP BY found.digest
$$
"""

_FORGET: Final = """
CREATE FUNCTION evidence_forget(p_idx bigint, OUT o_removed text[], OUT o_kept text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Deletes the evidence that entry p_idx says is deleted, once, if the newest checkpoint covers it. Nothing is appended
-- meanwhile, so nothing can begin to name what goes. A batch writes its entries, its head and its checkpoint together:
-- where they end at different places somebody else wrote, and nothing is deleted. Signatures cannot be checked here.
-- Each statement must see what was committed before the lock was had, which an older snapshot would not.
DECLARE
    v_size bigint;
    v_root bytea;
    v_note text[];
    v_kind text;
    v_body jsonb;
    v_named text[];
    v_before timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'evidence is deleted at the isolation level read committed' USING ERRCODE = 'TR003';
    END IF;
    PERFORM pg_advisory_xact_lock(500069425509);
    SELECT c.size, c.root, string_to_array(convert_from(c.note, 'UTF8'), E'\\n') INTO v_size, v_root, v_note
        FROM public.ledger_checkpoint AS c ORDER BY c.size DESC LIMIT 1;
    IF v_size IS DISTINCT FROM (SELECT max(h.size) FROM public.ledger_head AS h)
        OR v_size IS DISTINCT FROM (SELECT max(l.idx) + 1 FROM public.ledger_leaf AS l)
        OR (SELECT min(l.idx) FROM public.ledger_leaf AS l) IS DISTINCT FROM 0
        OR v_note[2] IS DISTINCT FROM v_size::text
        OR v_note[3] IS DISTINCT FROM encode(v_root, 'base64')
    THEN
        RAISE EXCEPTION 'entries, heads and checkpoints do not end at the same place' USING ERRCODE = 'TR003';
    END IF;
    PERFORM public.evidence_index(9007199254740991);
    SELECT l.kind, convert_from(l.entry, 'UTF8')::jsonb INTO v_kind, v_body
        FROM public.ledger_leaf AS l
        WHERE l.idx = p_idx AND p_idx >= 0 AND p_idx < v_size
            AND l.kind IN ('evidence.expired', 'personal.erased')
            AND l.hash = sha256('\\x00'::bytea || l.entry);
    IF NOT FOUND OR v_body->'index' IS DISTINCT FROM to_jsonb(p_idx)
        OR v_body->>'kind' IS DISTINCT FROM v_kind OR v_body#>>'{event,kind}' IS DISTINCT FROM v_kind
    THEN
        RAISE EXCEPTION 'no entry there says that evidence is deleted' USING ERRCODE = 'TR002';
    END IF;
    o_removed := '{}';
    o_kept := '{}';
    IF EXISTS (SELECT FROM public.evidence_done AS d WHERE d.idx = p_idx) THEN
        RETURN;
    END IF;
    v_named := ARRAY(SELECT jsonb_array_elements_text(coalesce(v_body #> CASE v_kind
        WHEN 'personal.erased' THEN '{event,evidence}'::text[] ELSE '{event,digests}'::text[] END, '[]')));
    IF v_kind = 'evidence.expired' THEN
        v_before := (v_body->>'time')::timestamptz - make_interval(days => (v_body#>>'{event,days}')::integer);
    END IF;
    SELECT coalesce(array_agg(h.o_digest), '{}') INTO o_kept
        FROM public.evidence_held(v_named, v_kind = 'personal.erased', p_idx, v_before) AS h;
    WITH gone AS (
        DELETE FROM public.evidence AS e
            WHERE e.digest = ANY (v_named) AND e.digest <> ALL (o_kept) RETURNING e.digest
    ) SELECT coalesce(array_agg(gone.digest), '{}') INTO o_removed FROM gone;
    INSERT INTO public.evidence_gone (digest, idx) SELECT unnest(o_removed), p_idx ON CONFLICT DO NOTHING;
    INSERT INTO public.evidence_done (idx) VALUES (p_idx);
END
$$
"""

_PRIVILEGES: Final = """
REVOKE ALL ON FUNCTION evidence_index, evidence_held, evidence_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION evidence_index, evidence_held, evidence_forget TO triad_app;
GRANT SELECT, INSERT, DELETE ON personal TO triad_app;
GRANT SELECT ON evidence_use, evidence_progress, evidence_gone, evidence_done TO triad_app
"""


def upgrade() -> None:
    """Create what belongs to it."""
    for statement in _TABLES.split(";\n"):
        op.execute(statement)
    for function in (_INDEX, _HELD, _FORGET):
        op.execute(function)
    for statement in _PRIVILEGES.split(";\n"):
        op.execute(statement)
