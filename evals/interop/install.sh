#!/bin/sh
# Installs what `python -m evals.interop` lets read an export. Run as root on Debian 12 or later; nothing of it is a
# dependency of Triad. The Python readers go into a virtual environment of their own, $TRIAD_INTEROP.
set -eu
home="${TRIAD_INTEROP:-${TMPDIR:-/tmp}/triad-interop}"

if [ ! -d /usr/share/gocode/src/golang.org/x/mod ] || ! command -v go >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends golang-go golang-golang-x-mod-dev
fi

if [ ! -x "$home/bin/python" ]; then
    # aics-tlog asks for Python 3.12 or later, which Debian has since 13.
    for python in python3.14 python3.13 python3.12 python3; do
        if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
            "$python" -m venv "$home" || { apt-get install -y -qq python3-venv && "$python" -m venv "$home"; }
            break
        fi
    done
    if [ -x "$home/bin/python" ]; then
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check aics-tlog==0.2.1 dilithium-py==1.5.1
    else
        echo "There is no Python 3.12 or later: aics-tlog is not tried." >&2
    fi
fi
