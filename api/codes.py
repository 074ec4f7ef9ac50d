"""Every `code` that an answer can carry: its HTTP status, its title, and what to do next.

This table is the source of the pages under `/problems/` and of `docs/api/errors.md`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem.

    Attributes:
        status: the HTTP status it is answered with.
        title: what it is, in a few words that never change.
        next: what the caller can do about it.
    """

    status: int
    title: str
    next: str


_READ_AGAIN: Final = "Read the operation again and decide anew."
_SEE_ARTICLES: Final = (
    "`articles` names the constitution's articles it rests on; `GET /api/v1/constitution` shows them. "
    "Somebody else may be allowed to."
)
_JSON: Final = "The body is no JSON, no UTF-8, or ended early. `detail` says where; send it whole, as JSON in UTF-8."

CODES: Final[dict[str, Problem]] = {
    "unauthenticated": Problem(
        401,
        "No valid key",
        "Send `Authorization: Bearer triad_...`. An admin makes keys with `POST /api/v1/keys`. A key that is unknown, "
        "expired or revoked gets this same answer.",
    ),
    "forbidden": Problem(403, "A rule forbids it", _SEE_ARTICLES),
    "not-permitted": Problem(403, "No rule permits it", _SEE_ARTICLES),
    "undecidable": Problem(
        403, "It could not be decided, which is a no", "A rule could not be evaluated. Show `reasons` to an admin."
    ),
    "not-found": Problem(404, "Nothing here", "Look for the path in `/openapi.json`."),
    "unknown-operation": Problem(
        404, "No such operation", "It does not exist, or you may not read it. `GET /api/v1/operations` lists yours."
    ),
    "unknown-system": Problem(422, "No such system", "`GET /api/v1/systems` lists the inventory."),
    "unknown-playbook": Problem(422, "No such playbook", "`GET /api/v1/playbooks` lists the catalogue."),
    "unknown-amendment": Problem(
        404, "No such amendment", "`GET /api/v1/constitution/amendments` lists what was proposed."
    ),
    "unknown-evidence": Problem(
        404,
        "No such evidence",
        "No piece of evidence ever had that digest here. The ledger's entries name those that did.",
    ),
    "unknown-tile": Problem(
        404,
        "No such tile",
        "The log is not large enough, or no tile has such a path. Read `/api/v1/ledger/checkpoint`.",
    ),
    "unknown-checkpoint": Problem(404, "No such checkpoint", "Checkpoints exist where a batch ended."),
    "unknown-entry": Problem(
        404, "No such entry", "The log, or the checkpoint that was asked for, does not reach there."
    ),
    "unknown-report": Problem(404, "No such report", "`GET /api/v1/audit/reports` lists those that were stored."),
    "analysis-busy": Problem(409, "Another analysis is under way", "Ask again in a moment, or for a shorter range."),
    "range-too-large": Problem(
        422,
        "The range holds too many entries",
        "Take a later `since`, or an earlier `until`; or ask for one operation.",
    ),
    "ledger-not-begun": Problem(404, "The ledger has no entry yet", "Come back when the service has started."),
    "unknown-subject": Problem(
        404,
        "Nobody is known by that handle",
        "`GET /api/v1/keys` lists handles. `new: true` keeps something about another one, which is no address.",
    ),
    "unknown-constitution": Problem(
        404,
        "No such constitution",
        "`GET /api/v1/constitution/history` lists those that were in force, `GET /api/v1/constitution/amendments` "
        "those that were proposed.",
    ),
    "nothing-kept": Problem(
        404,
        "Nothing is kept about them",
        "It may have been erased. `GET /api/v1/people` lists about whom something is.",
    ),
    "unknown-key": Problem(404, "No such key", "`GET /api/v1/keys` lists fingerprints."),
    "ended-without-plan": Problem(
        404, "It ended without a plan", "There is nothing to decide. `GET /api/v1/operations/{id}` says why."
    ),
    "no-plan": Problem(404, "No plan yet", "Wait for `plan.proposed` on the operation's event stream."),
    "method-not-allowed": Problem(405, "Not with this method", "The `Allow` header names the methods."),
    "body-timeout": Problem(408, "The body took too long", "Send it again over a better connection."),
    "stage-conflict": Problem(409, "Somebody was faster", _READ_AGAIN),
    "not-waiting": Problem(409, "It waits for no decision", _READ_AGAIN),
    "expired": Problem(409, "The time to decide is over", "Silence means no. Submit the operation again."),
    "scheduled-too-late": Problem(
        409,
        "It starts after an approval ends",
        "An approval given now would have run out by then. Submit it for an earlier `scheduled_time`, or nearer to it.",
    ),
    "not-withdrawable": Problem(
        409, "There is nothing to withdraw", "An approval can be withdrawn until the operation starts. Cancel instead."
    ),
    "not-cancellable": Problem(409, "It cannot be cancelled any more", _READ_AGAIN),
    "not-in-doubt": Problem(409, "No step is in doubt", _READ_AGAIN),
    "not-escalated": Problem(409, "Nothing was escalated", _READ_AGAIN),
    "checks-failed": Problem(
        409, "A check did not pass", "It can be rolled back or ruled failed. Nobody can complete it."
    ),
    "already-halted": Problem(409, "It is halted already", "`POST /api/v1/release` ends the halt."),
    "not-halted": Problem(409, "It is not halted", "Nothing needs to be done."),
    "rotation-under-way": Problem(
        409, "The log's key is being replaced already", "`GET /api/v1/ledger/keys` shows when it is done."
    ),
    "key-stale": Problem(409, "Another key of the log is in force", "Read `GET /api/v1/ledger/keys` and decide anew."),
    "no-next-key": Problem(
        409,
        "There is no next key of the log",
        "Its key is a secret reference. Let the setting `ledger.next_key` refer to a new one, and ask again.",
    ),
    "nothing-changed": Problem(409, "The text is the one in force", "Propose another text."),
    "proposal-outdated": Problem(
        409, "Another amendment came first", "The text was proposed against another one. Propose it again."
    ),
    "amendment-settled": Problem(409, "It was ratified before", "Nothing needs to be done."),
    "principal-differs": Problem(
        409,
        "The principal is another one",
        "A principal keeps its person and its kind. Use them, or another principal's name.",
    ),
    "last-admin-key": Problem(
        409,
        "It is the last admin's key",
        "Make another admin's key first: without one nobody could make keys any more.",
    ),
    "not-an-emergency": Problem(409, "It was no emergency", "Only emergencies are ratified afterwards."),
    "already-ratified": Problem(409, "It was ratified before", "Nothing needs to be done."),
    "evidence-needed": Problem(
        409,
        "The evidence is needed",
        "Constitutions stay for ever. For evidence of an operation: wait until the operation has ended, or cancel it.",
    ),
    "erased-meanwhile": Problem(
        409, "Somebody was faster", "It was erased, or replaced, at the same time. Read it again and decide anew."
    ),
    "idempotency-in-progress": Problem(
        409, "The first request is still under way", "Wait a moment and send the same request again."
    ),
    "constitution-mismatch": Problem(
        409,
        "Another constitution is in force",
        "`in_force` is its digest. Read it at `/api/v1/constitution`, then send the request with the new "
        "`X-Constitutional-Hash`, or without one.",
    ),
    "evidence-expired": Problem(
        410,
        "The evidence was deleted: its time was over",
        "`reasons` says when and by which rule. The digest stays in the ledger, and whoever has a copy can still show "
        "that it is the one. See docs/operations/retention.md.",
    ),
    "evidence-erased": Problem(
        410,
        "The evidence was erased",
        "It held something personal. `reasons` names the entry that says so; the digest stays in the ledger.",
    ),
    "plan-changed": Problem(
        412, "The plan is another one", "Read the approval again: what you saw is not what would run."
    ),
    "body-too-large": Problem(413, "The body is too long", "`body_limit` in the settings says how long it may be."),
    "unsupported-media-type": Problem(415, "Not JSON", "Send `Content-Type: application/json`."),
    "request-too-large": Problem(
        422, "The request is too long for one entry", "Shorten the texts and parameters; put long documents elsewhere."
    ),
    "invalid-json": Problem(400, "Not JSON", _JSON),
    "invalid-header": Problem(400, "A header cannot be used", "`field` names it; `/openapi.json` says its form."),
    "bad-cursor": Problem(400, "The cursor is not one of ours", "Start again without it, or follow the `Link` header."),
    "too-deep": Problem(422, "Nested too deeply", "At most 16 levels."),
    "duplicate-key": Problem(422, "A key stands there twice", "Which of the two would count? Send one."),
    "not-an-integer": Problem(422, "Not a whole number", "Numbers are integers; send decimals as strings."),
    "integer-too-large": Problem(422, "The number is too large", "Integers lie within 2^53-1; send larger as strings."),
    "bad-text": Problem(422, "Text that cannot be kept", "No U+0000 and no half surrogate pairs."),
    "bad-key": Problem(422, "A key that cannot be kept", "Keys of objects are ASCII."),
    "invalid-field": Problem(
        422, "A field cannot be accepted", "`field` names it and `detail` says what it should be."
    ),
    "invalid-arguments": Problem(
        422, "The playbook does not take this", "`GET /api/v1/playbooks/{name}` shows the schema of its arguments."
    ),
    "wrong-system-kind": Problem(
        422, "The playbook does not fit the system", "`GET /api/v1/playbooks/{name}` says which kinds it fits."
    ),
    "rollback-plan-missing": Problem(
        422, "A rollback plan is missing", "Say in `rollback_plan` how the change would be taken back."
    ),
    "amendment-invalid": Problem(
        422, "The text cannot be enforced", "`detail` names the article and the line. The one in force stays."
    ),
    "idempotency-key-reused": Problem(
        422, "The key belongs to another request", "Use a new `Idempotency-Key` for a new request."
    ),
    "precondition-required": Problem(
        428,
        "Say which plan you saw",
        "Send `If-Match` with the approval's `ETag`, and the same digest as `plan_hash` in the body.",
    ),
    "too-many-streams": Problem(429, "Too many streams", "Close one, or come back after `Retry-After` seconds."),
    "internal": Problem(
        500, "A defect of ours", "It is in the log under the `X-Request-ID` of this answer. Please report it."
    ),
    "constitution-invalid": Problem(
        503,
        "The constitution is not the one in force",
        "The document on disk was changed or cannot be read, so everything stays closed. "
        "See docs/runbooks/constitution-changed.md.",
    ),
    "ledger-unavailable": Problem(
        503, "Nothing can be recorded", "So nothing is done. Come back after `Retry-After` seconds."
    ),
    "ledger-corrupt": Problem(
        503, "The ledger does not verify", "Nothing is done. See docs/runbooks/ledger-does-not-verify.md."
    ),
    "starting": Problem(503, "Not ready", "The service is starting or stopping. Come back in a moment."),
}
