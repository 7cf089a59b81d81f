#!/usr/bin/env bash
# One command from a fresh clone to the page: bash run.sh [flags]
#   bash run.sh test [pytest arguments]   set up and run the tests
#   bash run.sh check                     lint, format, types, layers of imports, then the tests
#   bash run.sh <command> ...             any other command, see: bash run.sh --help
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
venv="$here/.venv"
python="$venv/bin/python"

say() { printf '%s\n' "$*" >&2; }

# The newest Python that every dependency supports.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.12 python3.11 python3.13 python3.10 python3 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
    say "No Python 3.10 to 3.13 with the venv module was found."
    say "Install one (Debian and Ubuntu: sudo apt install python3 python3-venv), or name it: PYTHON=/path/to/python3 bash run.sh"
    exit 1
}

# Without an NVIDIA driver the CPU build of PyTorch does, which saves gigabytes of CUDA libraries.
choose_torch_index() {
    local cpu_index="https://download.pytorch.org/whl/cpu"
    if ! command -v nvidia-smi >/dev/null 2>&1 && command -v curl >/dev/null 2>&1 &&
        curl -fsI -m 5 -o /dev/null "$cpu_index/torch/" 2>/dev/null; then
        export PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL:+$PIP_EXTRA_INDEX_URL }$cpu_index"
    fi
}

# install STAMP FILE...: installs the requirement files unless exactly these were installed before.
install() {
    local stamp="$venv/$1" files=("${@:2}") wanted
    wanted="$(cat -- "${files[@]}" | cksum)"
    [ "$(cat -- "$stamp" 2>/dev/null)" = "$wanted" ] && return
    say "Installing ${files[*]##*/} into $venv (several minutes the first time) ..."
    choose_torch_index
    local arguments=() file
    for file in "${files[@]}"; do arguments+=(-r "$file"); done
    "$python" -m pip install --quiet --disable-pip-version-check "${arguments[@]}"
    printf '%s' "$wanted" >"$stamp"
}

if [ ! -x "$python" ] || ! "$python" -c '' 2>/dev/null; then
    interpreter="$(find_python)"
    say "Creating $venv with $("$interpreter" --version) ..."
    rm -rf -- "$venv"
    "$interpreter" -m venv "$venv"
fi

if [ "${1:-}" = test ] || [ "${1:-}" = check ]; then
    install .installed-test "$here/requirements.txt" "$here/requirements-test.txt"
    cd -- "$here"
    if [ "$1" = check ]; then
        "$venv/bin/ruff" check .
        "$venv/bin/ruff" format --check .
        "$venv/bin/mypy"
        "$venv/bin/lint-imports"
    fi
    exec "$python" -m pytest "${@:2}"
fi

install .installed "$here/requirements.txt"
# The caller's working directory stays: file names on the command line are relative to it.
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m emotion2vec_ui "$@"
