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
venv_python=.venv/bin/python
log=.venv/setup.log
export UV_PYTHON_DOWNLOADS=never
# A missing network shall show within a minute, whatever patience pip and uv are set to.
export UV_HTTP_TIMEOUT=15 UV_HTTP_RETRIES=1 PIP_DEFAULT_TIMEOUT=15 PIP_RETRIES=1

fail() {
    echo "setup: $*" >&2
    exit 1
}

logged() {
    "$@" >>"$log" 2>&1 || explain
}

explain() {
    if grep -qiE 'no space left|quota exceeded' "$log" || [ "$(free_megabytes)" -lt 50 ]; then
        fail "the disk is full: .venv needs 4 GB in $here"
    elif grep -qiE 'do not match the hashes|hash mismatch' "$log"; then
        fail "a package differs from the one that was locked: its hash is not in requirements/ (log: $log)"
    elif grep -qiE 'hashes are required|must have a hash' "$log"; then
        fail "a package has no hash in requirements/: make lock renews them (log: $log)"
    elif grep -qiE 'connection broken|could not fetch|failed to (fetch|download)|timed out|from versions: none' "$log"; then
        fail "cannot reach the package index: check the network, the proxy and pip's settings (log: $log)"
    fi
    fail "$(grep . "$log" | tail -n 1) (log: $log)"
}

free_megabytes() {
    df -Pk "$here" | awk 'END { print int($4 / 1024) }'
}

version_of() { # "3.12", or nothing where it does not run
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

find_python() { # sets $python and $version
    unfit=
    if [ -n "${PYTHON-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for python; do
        version=$(version_of "$python")
        case $version in
            3.11 | 3.12 | 3.13) return ;;
            ?*) unfit="${unfit:-$python is Python $version}" ;;
        esac
    done
    need="install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.12 ..."
    fail "${unfit:-no ${PYTHON:-python3} found}; $need"
}

# The scripts of an environment hold its path, its folders the version: one that was moved, copied or whose Python was
# replaced or is not the one asked for is made anew.
sound() {
    version=$(version_of "$venv_python")
    [ "$(cat .venv/.home 2>/dev/null)" = "$version $here" ] &&
        { [ -z "${PYTHON-}" ] || [ "$(version_of "$PYTHON")" = "$version" ]; }
}

make_venv() {
    # Where .venv is activated, its own python3 is the first on PATH, and not one to build on.
    [ -n "${PYTHON-}" ] || rm -rf .venv
    find_python
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: apt install python3-venv, or the like"
    rm -rf .venv
    mkdir .venv 2>/dev/null || fail "cannot write in $here"
    echo "Setting up .venv with Python $version: one or two minutes, 4 GB (log: $log)"
    logged "$python" -m venv .venv
    echo "$version $here" >.venv/.home
}

# pip and uv read different settings. What pip is told about a mirror and its certificate holds for both.
share_settings() {
    settings=$("$venv_python" -m pip config list 2>/dev/null) || true
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
locks=uv
if [ "$wanted" != lock ]; then
    locks="$locks base"
    for extra in dev gpu; do # what was installed once is kept in step
        if [ "$wanted" = "$extra" ] || [ -e ".venv/.$extra" ]; then locks="$locks $extra"; fi
    done
fi

sound && fresh= || fresh=yes
due=
for lock in $locks; do
    if [ -n "$fresh" ] || ! cmp -s "requirements/$lock.txt" ".venv/.$lock"; then due="$due $lock"; fi
done

if [ -n "$due" ]; then
    if [ -n "$fresh" ]; then
        make_venv
    else
        echo "Bringing .venv up to date (${due# }): up to a minute (log: $log)"
        : >"$log"
    fi
    share_settings
    for lock in $due; do : >".venv/.$lock"; done
    requirements=
    for lock in $due; do
        if [ "$lock" = uv ]; then
            logged "$venv_python" -m pip install --require-hashes -r requirements/uv.txt
        else
            requirements="$requirements -r requirements/$lock.txt"
        fi
    done
    # shellcheck disable=SC2086 # a list of words
    [ -z "$requirements" ] ||
        logged .venv/bin/uv pip install --python "$venv_python" --require-hashes --compile-bytecode $requirements
    [ -z "$requirements" ] || [ ! -e pyproject.toml ] ||  # the command `transfer`
        logged .venv/bin/uv pip install --python "$venv_python" --no-deps --no-build-isolation --editable .
    for lock in $due; do cp "requirements/$lock.txt" ".venv/.$lock"; done
fi

if [ "$wanted" = lock ]; then
    share_settings
    echo uv | compile - -o requirements/uv.txt
    compile pyproject.toml -o requirements/base.txt
    compile pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt
    compile pyproject.toml --extra gpu -c requirements/base.txt -o requirements/gpu.txt
fi
