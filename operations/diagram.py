"""The documentation's page on stages, drawn from the transition table; `python -m operations.diagram` prints it."""

import sys

from operations.stages import TRANSITIONS, Stage

INTRODUCTION = """\
# Stages

An operation stands at one stage at any time. What may follow what is one table, `TRANSITIONS` in
`operations/stages.py`; this page is drawn from it (`make docs`), and a test fails when the two differ. An event that
has no row for the stage raises `IllegalMove` and changes nothing. A stage without a row is terminal.

Read a label as the event that was recorded; what follows `=` is the outcome that decides the next stage.
"""


def diagram() -> str:
    """A Mermaid state diagram of all moves between different stages."""
    lines = ["stateDiagram-v2", f"    [*] --> {Stage.REQUESTED.value}: operation.requested"]
    for stage, moves in TRANSITIONS.items():
        lines += [
            f"    {stage.value} --> {after.value}: {_label(signal)}"
            for signal, after in moves.items()
            if after is not stage
        ]
        if stage.terminal:
            lines.append(f"    {stage.value} --> [*]")
    return "\n".join(lines)


def _label(signal: str) -> str:
    return signal.replace(":", " = ")  # a colon would end the label


def page() -> str:
    """The whole page: the diagram, then what is recorded without leaving a stage."""
    stays = [
        f"| `{stage.value}` | {', '.join(f'`{signal}`' for signal, after in moves.items() if after is stage)} |"
        for stage, moves in TRANSITIONS.items()
        if stage in moves.values()
    ]
    terminal = ", ".join(f"`{stage.value}`" for stage in Stage if stage.terminal)
    parts = [
        INTRODUCTION,
        f"```mermaid\n{diagram()}\n```\n",
        "## Recorded without leaving the stage\n",
        "\n".join(["| stage | events |", "|---|---|", *stays]) + "\n",
        f"## Terminal stages\n\n{terminal}.\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
