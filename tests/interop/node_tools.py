"""Runs the scripts of `tests/interop/node` with the project's own Node, in an environment of their own."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import kit

NODE_PROJECT = kit.ROOT / "tests" / "interop" / "node"
MODULES = NODE_PROJECT / "node_modules"


def require_node() -> Path:
    """The Node to run scripts with; without it, or without its packages, a laptop skips and CI fails."""
    node = kit.node_bin() / "node"
    # npm writes this file last.
    kit.require((MODULES / ".package-lock.json").exists(), f"no packages in {MODULES.relative_to(kit.ROOT)}")
    return node


def run_node(
    *arguments: str | Path, env: Mapping[str, str], cwd: Path = NODE_PROJECT, timeout: float = 60
) -> str:
    """Output of a script that went well; fails the test, showing what it said, when it did not."""
    node = require_node()
    done = subprocess.run(
        [node, *arguments],
        cwd=cwd,
        # Nothing of the surroundings: a key or an address of the person's own must not leak into a test.
        env={"PATH": f"{node.parent}:/usr/bin:/bin", "HOME": str(cwd), "NO_COLOR": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"exit code {done.returncode}\n{done.stdout[-12_000:]}", pytrace=False)
    return done.stdout
