"""What to do next, for the problems where another command of ours is the answer; `api.codes` knows the rest."""

from typing import Final

from api.codes import CODES

_COMMANDS: Final[dict[str, str]] = {
    "unauthenticated": "Set TRIAD_TOKEN, or store a key with `triad login`. `triad up` shows the first key once; an "
    "admin makes others with `triad key create`.",
    "forbidden": "`triad constitution show` prints the articles. Somebody else may be allowed to.",
    "not-permitted": "`triad constitution show` prints the articles, `triad whoami` your roles. Somebody else may be "
    "allowed to.",
    "unknown-operation": "`triad op list` lists those that you may read.",
    "unknown-system": "`triad system list` lists the inventory.",
    "unknown-playbook": "`triad playbook list` lists the catalogue.",
    "unknown-constitution": "`triad constitution history` lists those that were in force.",
    "nothing-kept": "`triad people list` lists about whom something is kept.",
    "unknown-subject": "`triad key list` lists handles. --new keeps something about another one.",
    "unknown-key": "`triad key list` lists fingerprints.",
    "ended-without-plan": "There is nothing to decide. `triad op show` says how it ended.",
    "no-plan": "Follow it with `triad op watch`.",
    "invalid-arguments": "`triad playbook show NAME` prints what it takes.",
    "wrong-system-kind": "`triad playbook show NAME` says which kinds of systems it fits.",
    "rollback-plan-missing": "Say with --rollback-plan how the change would be taken back.",
    "plan-changed": "Look at it again with `triad approval show`: what you saw is not what would run.",
    "expired": "Silence means no. Ask anew with `triad run`.",
    "not-withdrawable": 'Too late to withdraw. `triad op cancel ID --reason "..."` calls it off.',
    "not-cancellable": "`triad op show` says where it stands.",
    "not-waiting": "`triad op show` says where it stands.",
    "already-halted": '`triad release --reason "..."` ends the halt.',
}


def next_step(code: str) -> str | None:
    """What to do next about a problem, or None where nobody knows."""
    known = CODES.get(code)
    return _COMMANDS.get(code) or (known.next if known else None)
