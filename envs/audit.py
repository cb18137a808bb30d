"""Known vulnerabilities of what the locks pin, by pip-audit: `make audit`.

pip-audit calls a lock clean whose packages its source of advisories does not know. Here a lock counts as audited only
as far as its packages were looked up. Exit status: 0, all were, and none is vulnerable; 1, some are; 2, not all were.
"""

import json
import subprocess
import sys
from pathlib import Path

OPTIONS = [
    "--no-deps",
    "--disable-pip",
    "--progress-spinner",
    "off",
    "--format",
    "json",
]  # as pinned, with no resolving


def read_answer(lock: str, answer: str, said: str = "") -> tuple[int, list[str]]:
    """Exit status and lines on a lock; answer: pip-audit's JSON; said: what it printed beside it."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = said.strip().splitlines()[-1:] or ["pip-audit gave no answer"]
        return 2, [f"{lock}: not audited, the source of advisories cannot be asked: {reason[0][:300]}"]
    known = [package for package in packages if "skip_reason" not in package]
    lines = [f"{lock}: {len(known)} of {len(packages)} packages looked up"]
    found = [(package, of) for package in known for of in package.get("vulns", [])]
    for package, of in found:
        fixed = ", ".join(of.get("fix_versions") or []) or "no version"
        lines.append(f"  {package['name']} {package['version']}: {of['id']}, fixed in {fixed}")
    if not found:
        lines[0] += ", none with a known vulnerability" if known else ": not audited"
    return 1 if found else 2 if len(known) < len(packages) else 0, lines


def main(command: str, locks: list[str]) -> int:
    """Audit each lock; the worst exit status, a vulnerability before one that was not looked up."""
    statuses = []
    for lock in locks:
        done = subprocess.run([command, "--requirement", lock, *OPTIONS], capture_output=True, text=True, check=False)
        status, lines = read_answer(lock, done.stdout, done.stderr)
        statuses.append(status)
        print("\n".join(lines), flush=True)
    return 1 if 1 in statuses else max(statuses, default=2)


if __name__ == "__main__":
    if not Path(sys.argv[1]).is_file():
        sys.exit(f"error: {sys.argv[1]}: is missing; run make audit")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
