"""Audits the hashed locks against the advisory service: `python .ci/audit.py LOCK ...`.

Exit codes: 0 nothing known, or the service cannot be asked (said in words, because silence would look like a pass);
1 a known vulnerability, or an audit that failed for another reason than the network.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NETWORK = re.compile(r"ConnectionError|ProxyError|SSLError|Timeout|Could not connect|Tip: your network")


@dataclass(frozen=True, slots=True)
class Audit:
    """What pip-audit found out: how many pins the service knows, how many it does not, and the known weaknesses."""

    audited: int
    unknown: int
    findings: tuple[str, ...]


class Unreachable(Exception):
    """The advisory service cannot be asked."""


def audit(lock: Path) -> Audit:
    """Ask the service about every pin of `lock`.

    Raises:
        Unreachable: there is no way to the service.
        RuntimeError: pip-audit failed in another way.
    """
    argv = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    argv += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)  # noqa: S603 - argv built by code
    if not done.stdout.strip():
        if NETWORK.search(done.stderr):
            raise Unreachable
        raise RuntimeError(done.stderr)
    pins = json.loads(done.stdout)["dependencies"]
    findings = [
        f"{pin['name']} {pin['version']}: {found['id']}; fixed in: {', '.join(found['fix_versions']) or 'none yet'}"
        for pin in pins
        for found in pin.get("vulns", ())
    ]
    unknown = sum("skip_reason" in pin for pin in pins)
    return Audit(len(pins) - unknown, unknown, tuple(findings))


def answers(lock: Path) -> bool:
    """Whether the service knows the first package of `lock`: one question instead of one for each package."""
    pin = re.split(r"\n(?=\S)", lock.read_text(), maxsplit=1)[0]
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.txt"
        probe.write_text(pin + "\n")
        return audit(probe).audited > 0


def main(locks: Sequence[Path]) -> int:
    """Audit all locks and print what was and what was not audited."""
    try:
        results = {lock.name: audit(lock) for lock in locks} if answers(locks[0]) else {}
    except Unreachable:
        results = {}
    if not results:
        print("pip-audit: SKIPPED. The advisory service does not answer from here; nothing was audited.")
    for name, result in results.items():
        print(f"pip-audit: {name}: {result.audited} audited, {result.unknown} unknown to the service")
        for finding in result.findings:
            print(f"  {finding}")
    return int(any(result.findings for result in results.values()))


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
