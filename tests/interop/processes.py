"""The adapter's commands as processes of their own: what a peer that is a program talks to."""

import secrets
import socket
import string
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import tenacity

from tests import kit, pooling

APP = "tests.interop.app:adapter"
BOOT_S = 20
STOP_S = 10


@dataclass(frozen=True, slots=True)
class SdkServer:
    """What an application of the SDK has to know."""

    base_url: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Process:
    """One of the adapter's commands, and what it says."""

    popen: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        if self.popen.poll() is not None:
            pytest.fail(f"ended with {self.popen.returncode}:\n{self.log.read_text()[-4000:]}", pytrace=False)


@contextmanager
def running(
    *command: str, env: dict[str, str], log: Path, app: str = APP, cwd: Path = kit.ROOT
) -> Generator[Process]:
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "adapter.cli", "--app", app, *command],
            cwd=cwd,
            env=pooling.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Process(popen, log)
        finally:
            stop(popen)


def stop(popen: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it has started, patiently first."""
    if popen.poll() is not None:
        return
    family = [psutil.Process(popen.pid), *psutil.Process(popen.pid).children(recursive=True)]
    popen.terminate()
    _, left = psutil.wait_procs(family, timeout=STOP_S)
    for process in left:
        process.kill()
    popen.wait(STOP_S)


class NotReadyError(Exception):
    """It may still come."""


def wait_until_ready(server: SdkServer, *processes: Process) -> None:
    """Until /readyz answers 200; fails at once, with what it said, when a process ends before."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((NotReadyError, httpx.TransportError)),
        stop=tenacity.stop_after_delay(BOOT_S),
        wait=tenacity.wait_fixed(0.05),
    )
    try:
        for attempt in retrying:
            with attempt:
                for process in processes:
                    process.check()
                if httpx.get(f"{server.base_url}/readyz", trust_env=False).status_code != 200:
                    raise NotReadyError
    except tenacity.RetryError:
        said = "\n".join(process.log.read_text()[-4000:] for process in processes)
        pytest.fail(f"not ready after {BOOT_S} s:\n{said}", pytrace=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def secret_key() -> str:
    """A key of the shape Trigger.dev's have."""
    alphabet = string.ascii_letters + string.digits
    return "tr_dev_" + "".join(secrets.choice(alphabet) for _ in range(24))
