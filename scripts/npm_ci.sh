#!/bin/sh
# scripts/npm_ci.sh FOLDER...: installs what the folder's package-lock.json names, and runs none of its scripts.
set -eu
cd "$(dirname "$0")/.."
for folder in "$@"; do
    (cd "$folder" && "$OLDPWD/.venv/node/bin/npm" ci --ignore-scripts --no-audit --no-fund --loglevel=error)
done
