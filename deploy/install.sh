#!/usr/bin/env bash
# Installs into a new virtual environment what runs the pipeline, for the image: install.sh VENV WHEELS [PACKAGES]
#
# That is requirements.in without its last section (demo and tests), at the versions of requirements.txt, and the
# drivers of deploy/requirements.txt. WHEELS is a folder with wheels that pip prefers; it may be empty. PACKAGES are more
# requirements, with blanks between them; they are resolved together with ours, whose versions stay.
set -euo pipefail
venv=$1 wheels=$2
read -ra more <<<"${3:-}"
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

sed '/^# Demo and tests/,$d' requirements.in >runtime.in
python3.11 -m venv "$venv"
"$venv/bin/pip" install --no-compile --use-pep517 --disable-pip-version-check --quiet --find-links "$wheels" \
    --constraint requirements.txt --requirement runtime.in --requirement deploy/requirements.txt "${more[@]}"

# What nothing here uses at run time: headers, tests, test programs, pip itself. 0.4 GB.
packages=$venv/lib/python3.11/site-packages
"$venv/bin/pip" uninstall --yes --quiet pip
rm -rf "$packages"/torch/{include,test,share} "$packages"/openvino/include "$packages"/pyspark/examples "$packages"/pyarrow/include
find "$packages"/torch/bin -type f ! -name torch_shm_manager -delete
find "$packages" -type d -name tests -not -path '*/airflow/*' -prune -exec rm -rf {} +
find "$packages" -name '*.a' -delete
"$venv/bin/python" -m compileall -qq -j 0 "$packages" || true # some packages ship templates that are not Python
