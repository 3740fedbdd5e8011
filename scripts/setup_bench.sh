#!/bin/sh
# Makes .venv-bench from bench/peers/requirements.txt: the benchmarks' Python peers, away from our own packages.
set -eu
cd "$(dirname "$0")/.."
if command -v uv > /dev/null; then
    uv venv --quiet --clear --python .venv/bin/python .venv-bench
    VIRTUAL_ENV=.venv-bench uv pip install --quiet --no-deps --requirement bench/peers/requirements.txt
else
    .venv/bin/python -m venv --clear .venv-bench
    .venv-bench/bin/pip install --quiet --no-deps --requirement bench/peers/requirements.txt
fi
