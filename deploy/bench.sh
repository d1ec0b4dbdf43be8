#!/usr/bin/env bash
# Makes .venv-bench, or returns at once when it is up to date: the project's packages at the same versions, and the
# peers that the benchmarks measure (benchmarks/requirements.txt). Wants .venv (deploy/bootstrap.sh) and uv.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

packages() { cat requirements.txt benchmarks/requirements.txt; }
stamp() { pwd && packages; }

if [ -x .venv-bench/bin/python ] && stamp | cmp -s - .venv-bench/installed; then exit 0; fi
echo "Setting up .venv-bench (once; about a minute) ..."
if [ ! -x .venv-bench/bin/python ] || ! grep -qsF "$PWD/.venv-bench" .venv-bench/bin/activate; then
    rm -rf .venv-bench
    deploy/uv.sh venv --quiet --python .venv/bin/python .venv-bench
fi
rm -f .venv-bench/installed
# daft asks for an older pyarrow and tqdm: all systems shall run on the same
packages | deploy/uv.sh pip install --python .venv-bench/bin/python --overrides requirements.txt -r -
stamp >.venv-bench/installed.part
mv .venv-bench/installed.part .venv-bench/installed
