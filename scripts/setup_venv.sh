#!/bin/sh
# Makes .venv from requirements.lock, hash by hash, and the project itself in editable form.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; set PYTHON to one (found $("$python" --version))" >&2
    exit 1
}
if command -v uv > /dev/null; then
    [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
    VIRTUAL_ENV=.venv uv pip install --quiet --require-hashes --requirement requirements.lock
    VIRTUAL_ENV=.venv uv pip install --quiet --no-deps --no-build-isolation --editable .
else
    [ -x .venv/bin/pip ] || "$python" -m venv --clear .venv || {
        echo "this Python cannot make a virtual environment with pip in it:" >&2
        echo "on Debian install python3-venv, or install uv" >&2
        exit 1
    }
    # The lock names every package, so nothing is to be resolved.
    .venv/bin/pip install --quiet --no-deps --require-hashes --requirement requirements.lock
    .venv/bin/pip install --quiet --no-deps --no-build-isolation --editable .
fi
