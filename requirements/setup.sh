#!/bin/sh
# Make .venv hold what the locks in this folder say; `make` calls it before everything else.
#
#     sh requirements/setup.sh base|dev|gpu    install that lock; silent when there is nothing to do
#     sh requirements/setup.sh lock            renew the locks within the bounds of pyproject.toml
#
# A lock is copied into .venv once it is installed. So a copy that equals its lock means no work, and an interrupted
# run, which leaves an empty one, is repeated. What fails says so in one line on standard error.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
log=.venv/setup.log
# A missing network shall show within a minute, whatever patience pip and uv are set to.
export UV_HTTP_TIMEOUT=15 UV_HTTP_RETRIES=1 PIP_DEFAULT_TIMEOUT=15 PIP_RETRIES=1 UV_PYTHON_DOWNLOADS=never

fail() {
    echo "setup: $*" >&2
    exit 1
}

logged() {
    "$@" >>"$log" 2>&1 || fail "$(grep . "$log" | tail -n 1) (log: $log)"
}

version_of() { # "3.12", or nothing where it does not run
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

find_python() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        case $(version_of "$python") in 3.11 | 3.12 | 3.13) return ;; esac
    done
    fail "no Python 3.11, 3.12 or 3.13 found: install one, or name it: make PYTHON=/path/to/python3.12 ..."
}

make_venv() {
    rm -rf .venv # where it is activated, its own python3 is the first on PATH, and not one to build on
    find_python
    echo "Setting up .venv with Python $(version_of "$python"): one or two minutes, 4 GB (log: $log)"
    mkdir .venv
    logged "$python" -m venv .venv
    echo "$here" >.venv/.home
}

# pip and uv read different settings. What pip is told about a mirror and its certificate holds for both.
share_settings() {
    settings=$(.venv/bin/python -m pip config list 2>/dev/null) || true
    index=$(setting index-url)
    index=${index:-${UV_DEFAULT_INDEX-}}
    [ -z "$index" ] || export PIP_INDEX_URL="$index" UV_DEFAULT_INDEX="$index"
    cert=$(setting cert)
    cert=${cert:-${SSL_CERT_FILE-}}
    [ -z "$cert" ] || export PIP_CERT="$cert" SSL_CERT_FILE="$cert"
}

setting() {
    echo "$settings" | sed -nE "s/^(:env:|global|install)\.$1='(.*)'$/\2/p" | head -n 1
}

compile() {
    .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command "make lock" "$@"
}

wanted=${1:?base, dev, gpu or lock}
locks=base
for extra in dev gpu; do # what was installed once is kept in step
    if [ "$wanted" = "$extra" ] || [ -e ".venv/.$extra.txt" ]; then locks="$locks $extra"; fi
done
# A folder that was moved or copied has scripts that lead to the old one: its environment is made anew.
[ "$(cat .venv/.home 2>/dev/null)" = "$here" ] && .venv/bin/python -c '' 2>/dev/null || make_venv

due=
for lock in uv $locks; do
    cmp -s "requirements/$lock.txt" ".venv/.$lock.txt" || due="$due -r requirements/$lock.txt"
done
cmp -s pyproject.toml .venv/.pyproject.toml || due="$due pyproject.toml"
if [ -n "$due" ]; then
    share_settings
    for lock in uv $locks; do : >".venv/.$lock.txt"; done
    logged .venv/bin/python -m pip install --require-hashes -r requirements/uv.txt
    # shellcheck disable=SC2046 # a list of words
    logged .venv/bin/uv pip install --python .venv/bin/python --require-hashes --compile-bytecode \
        $(for lock in $locks; do echo -r "requirements/$lock.txt"; done)
    # the command `transfer`, of the code in this folder
    logged .venv/bin/uv pip install --python .venv/bin/python --no-deps --no-build-isolation --editable .
    for lock in uv $locks; do cp "requirements/$lock.txt" ".venv/.$lock.txt"; done
    cp pyproject.toml .venv/.pyproject.toml
fi

if [ "$wanted" = lock ]; then
    share_settings
    echo uv | compile - -o requirements/uv.txt
    compile pyproject.toml -o requirements/base.txt
    compile pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt
    compile pyproject.toml --extra gpu -c requirements/base.txt -o requirements/gpu.txt
fi
