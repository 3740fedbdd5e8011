"""Who runs a local PostgreSQL, and whether one runs on a directory: what the operating system knows of it."""

import contextlib
import os
import pwd
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adapter.domain.errors import EmbeddedPostgresError

#: One more than the largest pid Linux gives out: in a pid file it says "not running" and no more.
_NO_PID = 2**22 + 1
# Waits until its standard input closes, as it does however the owner ends, then asks the server to stop.
_WATCH = 'read -r _; kill -INT "$0" 2>/dev/null'


class Entry(NamedTuple):
    """What a server wrote into its pid file; zeros and an empty state where it has not (yet)."""

    pid: int
    port: int
    #: `starting`, `ready`, `stopping`
    state: str


class Claim:
    """A server's claim to a data directory, its `postmaster.pid`."""

    def __init__(self, data: Path) -> None:
        self._data, self._file = data, data / "postmaster.pid"

    def read(self) -> Entry:
        """The claim as it stands now, whether or not the server lives."""
        try:
            lines = self._file.read_text().splitlines()
            return Entry(int(lines[0]), int(lines[3]), lines[7].strip() if len(lines) > 7 else "")
        except (FileNotFoundError, IndexError, ValueError):
            return Entry(0, 0, "")

    def running_pid(self) -> int | None:
        """Pid of the server that lives on the directory; a zombie, or another program with its pid, is none."""
        pid = self.read().pid
        return pid if pid and self.is_held_by(pid) else None

    def is_held_by(self, pid: int) -> bool:
        """Whether `pid` is a live server on the directory."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        if not Path("/proc/self").exists():
            return True
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")  # empty for a zombie
        except OSError:
            return False
        return os.fsencode(self._data) in words

    def disown(self) -> None:
        """Take the pid out of a dead server's claim: PostgreSQL would take a zombie, or a reused pid, for alive.

        The file stays: its shared memory key is how PostgreSQL sees that children of the dead server still live.
        """
        with contextlib.suppress(FileNotFoundError):
            lines = self._file.read_text().splitlines(keepends=True)
            self._file.write_text("".join([f"{_NO_PID}\n", *lines[1:]]))


def lent_account() -> pwd.struct_passwd | None:
    """Who runs the server instead of root, whom PostgreSQL refuses: an account that is already there, or None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root, and there is no account postgres or nobody"
    )


def hand_over(path: Path, account: pwd.struct_passwd | None) -> None:
    """Give a path to the account that runs the server, if that is not ours, and see that it can get there."""
    if account is None:
        return
    os.chown(path, account.pw_uid, account.pw_gid)
    for parent in path.parents:
        status = parent.stat()
        if not status.st_mode & 0o001 and status.st_uid != account.pw_uid:
            raise EmbeddedPostgresError(
                f"as root, PostgreSQL runs as {account.pw_name}, who may not enter {parent}: "
                "choose a data directory elsewhere, or run as an ordinary user"
            )


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def spawn(
    command: Sequence[str], *, account: pwd.struct_passwd | None, path: str, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Run as the server's account, out of reach of the terminal's signals, in a clean environment.

    With a log, nothing is read and all is written there; without, standard input is a pipe of ours.
    """
    with log.open("ab") if log else contextlib.nullcontext(subprocess.DEVNULL) as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if log else subprocess.PIPE,
            stdout=out,
            stderr=out,
            env={"PATH": path, "LC_ALL": "C"},
            cwd=log.parent if log else "/",
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )


def watch(pid: int, account: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
    """Ask the server to stop as soon as our own process is gone, even killed. Kill the watcher to call it off."""
    return spawn(["/bin/sh", "-c", _WATCH, str(pid)], account=account, path=os.defpath)
