"""A PgBouncer in front of a database."""

import os
import pwd
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from adapter.store.postgres_process import free_port
from tests import kit


@contextmanager
def pooled(url: str, directory: Path, *, connections: int = 4) -> Generator[str]:
    """PgBouncer in transaction mode before a server, with so many connections per database; yields the URL through it."""
    directory.chmod(0o755)  # it does not run as root
    program, parts, port = kit.pgbouncer(), urlsplit(url), free_port()
    users = directory / "users.txt"
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    config = directory / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {users}\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 1000\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    with (directory / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, str(config)], stdout=log, stderr=log, user=user)
        try:
            yield urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
        finally:
            process.terminate()
            process.wait()
