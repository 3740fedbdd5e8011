"""The keyboard of the walk: commands as a person types them, with what they answer."""

from __future__ import annotations

import io
import runpy
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch


class RefusedError(Exception):
    """A command ended otherwise than it should."""


def adapter(line: str, *, code: int = 0) -> str:
    """Print ``$ adapter <line>`` and carry it out in this process; returns what it said.

    Raises:
        RefusedError: its exit code is not ``code``.
    """
    print(f"\n$ adapter {line}", flush=True)
    said = io.StringIO()
    ended: object = 0
    # In a pipe, and without a second Python: a walk has many commands.
    with (
        patch.object(sys, "argv", ["adapter", *shlex.split(line)]),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        try:
            runpy.run_module("adapter.cli", run_name="__main__")
        except SystemExit as ending:
            ended = ending.code or 0
    text = "\n".join(each.rstrip() for each in said.getvalue().splitlines())
    print(text, flush=True)
    if ended != code:
        raise RefusedError(f"`adapter {line}` ended with {ended}, not {code}")
    return text
