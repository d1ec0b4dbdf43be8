#!/usr/bin/env bash
# Reports the known vulnerabilities of the pinned packages, by pip-audit. A report, no check: where its service cannot be
# asked, one line says so; it takes a minute at most, and the exit status is 0 in any case.
set -uo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p var
rm -f var/audit.json
# ask SECONDS: about the packages in var/audit.txt, into var/audit.json
ask() {
    timeout "$1" deploy/uv.sh tool run --quiet --from "pip-audit==2.10.1" pip-audit --requirement var/audit.txt --no-deps \
        --disable-pip --progress-spinner off --timeout 3 --format json --output var/audit.json >var/audit.log 2>&1
    [ -s var/audit.json ] && ! grep -q '"name": "numpy"[^}]*"skip_reason"' var/audit.json
}

grep '^numpy==' requirements.txt >var/audit.txt # about one first: a registry's mirror may know of no vulnerabilities
if ! ask 30; then
    echo "pip-audit: skipped, as nobody can be asked here for vulnerabilities (var/audit.log)."
    exit 0
fi
cat requirements.txt deploy/requirements.txt >var/audit.txt
if ! ask 60; then
    echo "pip-audit: skipped, as not all packages could be asked for within a minute (var/audit.log)."
    exit 0
fi
.venv/bin/python - <<'PYTHON' || true
import json
from pathlib import Path

asked = json.loads(Path("var/audit.json").read_text())["dependencies"]
unknown = [one["name"] for one in asked if "skip_reason" in one]
found = {f"{one['name']} {one['version']}": one["vulns"] for one in asked if one.get("vulns")}
print(f"pip-audit: {len(found)} of {len(asked) - len(unknown)} packages have known vulnerabilities (var/audit.json).")
if unknown:
    print(f"  not known to the service: {', '.join(unknown)}")
for package, vulnerabilities in found.items():
    for one in vulnerabilities:
        print(f"  {package}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version yet'}")
PYTHON
exit 0
