"""Run the foreign readers over an export, and over tampered copies of it that every one of them must refuse.

`python -m evals.interop [DIR]`: DIR as `triad audit export` wrote it, a sample made on the spot without one. What the
readers need, `install.sh` beside this file installs.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evals.interop.sample import write_sample
from evals.interop.tampering import TAMPERINGS, Tampering
from evals.interop.tools import Tool, installed
from storage.verifier.policy import Policy


def _refuses(tool: Tool, tampering: Tampering, export: Path) -> bool | None:
    """Whether the reader refuses the tampered copy; None when the export has nothing of that kind."""
    with tempfile.TemporaryDirectory() as home:
        copy = Path(home, "copy")
        shutil.copytree(export, copy)
        try:
            tampering.apply(copy)
        except (IndexError, FileNotFoundError):
            return None
        return tool.run(copy).returncode != 0


def _accepted(tool: Tool) -> bool:
    """Whether we accept a checkpoint that the tool signed, by the policy that it wrote."""
    with tempfile.TemporaryDirectory() as home:
        if tool.sign(Path(home)).returncode != 0:
            return False
        policy = Policy.parse(Path(home, "policy").read_bytes())
        return policy.judge(Path(home, "checkpoint").read_bytes(), int(time.time())).quorum_met


def report(tool: Tool, export: Path) -> tuple[list[str], bool]:
    """What one reader said about the export and about each tampered copy, and whether all is as it must be."""
    said = tool.run(export)
    lines = [f"{tool.name}: {said.stdout.strip() or said.stderr.strip()}"]
    accepted = _accepted(tool)
    lines.append(f"  {'accepted' if accepted else 'REFUSED':9} by us, what it signed itself")
    fine = said.returncode == 0 and accepted
    for tampering in TAMPERINGS:
        if tool.name not in tampering.unseen:
            refused = _refuses(tool, tampering, export)
            word = "not there" if refused is None else "refused" if refused else "ACCEPTED"
            lines.append(f"  {word:9} {tampering.name}")
            fine = fine and refused is not False
    return lines, fine


def main(arguments: list[str]) -> int:
    """Print what every installed reader said; 0 when all accept the export and refuse every tampered copy."""
    fine = True
    with tempfile.TemporaryDirectory() as home:
        export = Path(arguments[0]) if arguments else Path(home, "sample")
        if not arguments:
            write_sample(export)
        tools = installed(Path(home))
        for tool in tools:
            lines, held = report(tool, export)
            sys.stdout.write("\n".join(lines) + "\n")
            fine = fine and held
    if not tools:
        sys.stdout.write("No foreign reader is installed; see evals/interop/install.sh.\n")
    return 0 if fine and tools else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"It could not be tried: {error}")
