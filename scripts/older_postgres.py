"""Prints the directory of the programs of an older PostgreSQL: ``older_postgres.py 14``.

They come from an npm package, which cannot hold symbolic links and lists them in a file instead.
"""

import json
import os
import sys
from pathlib import Path

PEER = Path(__file__).resolve().parent.parent / "tests" / "peers" / "postgres"


def main() -> int:
    version = sys.argv[1]
    native = PEER / "node_modules" / f"postgres{version}" / "native"
    if not native.is_dir():
        print(f"PostgreSQL {version} is not set up here: `make setup-older`, on Linux x64", file=sys.stderr)
        return 1
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        target = native.parent / link["target"]
        if not os.path.lexists(target):
            target.symlink_to(os.path.relpath(native.parent / link["source"], target.parent))
    for program in (native / "bin").iterdir():
        program.chmod(0o755)
    print(native / "bin")
    return 0


if __name__ == "__main__":
    sys.exit(main())
