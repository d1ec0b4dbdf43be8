#!/usr/bin/env bash
# Runs uv (from the PATH, else from .venv, else installed there), told where packages come from as pip is told.
# uv has settings of its own and ignores pip's. Fails with 127 when uv cannot be had.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

uv=$(command -v uv || command -v .venv/bin/uv) || {
    .venv/bin/python -m pip install --quiet uv >/dev/null 2>&1 || { echo "uv cannot be had here." >&2 && exit 127; }
    uv=.venv/bin/uv
}

# hand_over UV_NAME PIP_NAME: the uv setting is pip's, unless it is set already or pip's is not.
hand_over() {
    if [ -z "${!1:-}" ] && [ -n "${!2:-}" ]; then export "$1=${!2}"; fi
}
hand_over UV_FIND_LINKS PIP_FIND_LINKS
hand_over UV_DEFAULT_INDEX PIP_INDEX_URL
hand_over UV_INDEX PIP_EXTRA_INDEX_URL
hand_over SSL_CERT_FILE PIP_CERT
if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then
    export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}" # pip's way with several indexes
fi
exec "$uv" "$@"
