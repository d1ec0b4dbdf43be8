#!/usr/bin/env bash
# Writes var/sbom.json: what is installed in an environment (by default .venv; else the folder of one, or its python), as a
# bill of materials in CycloneDX's format, with licences and what requires what. Wants uv, which it installs into .venv.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p var
deploy/uv.sh tool run --quiet --from "cyclonedx-bom==7.5.0" cyclonedx-py environment "${1:-.venv}" \
    --pyproject pyproject.toml --mc-type application --output-reproducible --output-file var/sbom.json
.venv/bin/python - <<'PYTHON'
import json
from pathlib import Path

bill = json.loads(Path("var/sbom.json").read_text())
licensed = sum(bool(part.get("licenses")) for part in bill["components"])
print(f"var/sbom.json: {len(bill['components'])} packages, {licensed} of them with a licence (CycloneDX {bill['specVersion']}).")
PYTHON
