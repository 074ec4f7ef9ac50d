"""Personal data behind commitments, and the expiry of evidence.

The service's role still has no DELETE on evidence: `evidence_forget` deletes for it, and only what a committed entry of
the ledger names, never the text of a constitution, never what belongs to an operation that has not ended.
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
-- Reads at most p_most further entries and notes which evidence they name, and as what. Returns how many are left.
DECLARE
    v_from bigint;
    v_size bigint;
    v_to bigint;
BEGIN
    SELECT size INTO v_from FROM public.evidence_progress FOR UPDATE;
    SELECT coalesce(max(idx) + 1, 0) INTO v_size FROM public.ledger_leaf;
    v_to := least(v_from + greatest(p_most, 0), v_size);
    INSERT INTO public.evidence_use (digest, idx, class, operation, at)
        SELECT named.digest, leaf.idx, named.class, leaf.operation, (leaf.body->>'time')::timestamptz
        FROM (
            SELECT idx, operation, kind, convert_from(entry, 'UTF8')::jsonb AS body
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
    UPDATE public.evidence_progress SET size = greatest(size, v_to);
    o_left := v_size - v_to;
END
$$
"""

_HELD: Final = """
CREATE FUNCTION evidence_held(p_digests text[], p_plans boolean, p_after bigint)
RETURNS TABLE (o_digest text, o_why text)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
-- Those of the digests that must stay, and why. p_plans: plans of operations that ended may go. p_after: what a later
-- entry names again stays too.
    SELECT found.digest, min(found.why) FROM (
        SELECT u.digest, CASE
            WHEN u.class = 'constitution' THEN 'constitution'
            WHEN u.operation IS NOT NULL AND coalesce(o.stage, '') NOT IN (
                'completed', 'rolled_back', 'refused', 'denied', 'vetoed', 'cancelled', 'expired', 'failed'
            ) THEN 'unfinished'
            WHEN u.class = 'plan' AND NOT p_plans THEN 'plan'
            WHEN u.idx > p_after THEN 'named-again'
        END AS why
        FROM public.evidence_use AS u LEFT JOIN public.operation AS o ON o.id = u.operation
        WHERE u.digest = ANY (p_digests)
    ) AS found WHERE found.why IS NOT NULL GROUP BY found.digest
$$
"""

_FORGET: Final = """
CREATE FUNCTION evidence_forget(p_idx bigint, OUT o_removed text[], OUT o_kept text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Deletes the evidence that the committed entry p_idx says is deleted, once. Nothing is appended meanwhile, so nothing
-- can begin to name what goes.
DECLARE
    v_named text[];
    v_erased boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(500069425509);
    PERFORM public.evidence_index(9007199254740991);
    SELECT l.kind = 'personal.erased', ARRAY(SELECT jsonb_array_elements_text(coalesce(
            convert_from(l.entry, 'UTF8')::jsonb #> CASE l.kind
                WHEN 'personal.erased' THEN '{event,evidence}'::text[] ELSE '{event,digests}'::text[] END, '[]')))
        INTO v_erased, v_named
        FROM public.ledger_leaf AS l
        WHERE l.idx = p_idx AND l.kind IN ('evidence.expired', 'personal.erased')
            AND p_idx < (SELECT max(h.size) FROM public.ledger_head AS h);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no entry there says that evidence is deleted' USING ERRCODE = 'TR002';
    END IF;
    o_removed := '{}';
    o_kept := '{}';
    IF EXISTS (SELECT FROM public.evidence_done AS d WHERE d.idx = p_idx) THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(h.o_digest), '{}') INTO o_kept
        FROM public.evidence_held(v_named, v_erased, p_idx) AS h;
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
