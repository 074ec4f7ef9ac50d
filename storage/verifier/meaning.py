"""What a verification showed and could not show, in sentences."""

from typing import Final

from .replay import Replay

CUT_SHORT: Final = (
    "whether the log was cut short or rewritten and signed again by its own key: no witness is asked for, and no older "
    "checkpoint is given. Nobody can know this from the log alone."
)
"""What is not known without a witness and without an older checkpoint."""

HISTORY: Final = (
    "whether the log was rewritten after the newest of the older checkpoints: that only a witness could tell."
)
"""What is not known without a witness."""

_CEDAR: Final = "the constitution's Cedar rules, but for two that are recognised: who may do what is not decided again."


def meant(found: Replay, done: list[str], left: list[str], *, texts: bool) -> None:
    """What of the entries' meaning was checked, and what was not."""
    done.append("what the entries mean, by every rule")
    if found.plans.held:
        done.append(f"what ran, against {found.plans.held} plan(s)")
    if texts:
        done.append(f"the text of {found.statutes.texts} constitution(s), and plans against their numbers")
        left.append(_CEDAR)
    else:
        left.append("what the constitution demands: no text of one is given")
