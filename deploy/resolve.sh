#!/usr/bin/env bash
# Resolves requirements.in into requirements.txt; further arguments go to `uv pip compile`, for example --upgrade.
#
# The pins name no index and no build (+cpu): pip and uv take what the machine's own registry offers. They must be
# resolved where a CPU wheel of torch is offered, or the CUDA packages of the normal build would be pinned too.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

new=$(mktemp)
trap 'rm -f "$new" "$new.pins"' EXIT
cp requirements.txt "$new" # present pins are kept unless they must change
deploy/uv.sh pip compile requirements.in --output-file "$new" --python .venv/bin/python --upgrade-package torch \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet "$@"
sed -E 's/^([^ ;]+==[^ ;+]+)\+[^ ;]+/\1/' "$new" >"$new.pins"
if grep -E '^(nvidia-|triton|cuda)' "$new.pins" >&2; then
    echo "torch was resolved to a build with CUDA: offer its CPU wheel (PIP_FIND_LINKS or an index) and try again." >&2
    exit 1
fi
cp "$new.pins" requirements.txt
