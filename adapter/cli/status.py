"""Short answers: is it healthy, and which version is this."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from adapter.cli import health
from adapter.cli.exits import CommandError
from adapter.cli.health import MOST_AGE_S
from adapter.cli.invocation import Invocation

_URL = "http://127.0.0.1:8000/readyz"


def healthcheck(
    ctx: typer.Context,
    url: Annotated[str, typer.Option(help="What to ask; 200 is healthy.")] = _URL,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait.")] = 3.0,
    file: Annotated[
        Path | None, typer.Option(help="Look at a worker's --health-file instead.", show_default=False)
    ] = None,
    max_age: Annotated[float, typer.Option(min=2, help="Seconds the file may be old.")] = MOST_AGE_S,
) -> None:
    """Ask a running server whether it is ready, or look whether a worker is alive; for containers. Ends with 0 or 1."""
    if file is not None:
        _look(Invocation.of(ctx), file, max_age)
    import http.client
    import urllib.error
    import urllib.request

    invocation = Invocation.of(ctx)
    if not url.startswith(("http://", "https://")):
        raise CommandError("--url must begin with http:// or https://.")
    # A container's own server is not behind the proxy its environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            status, said = int(answer.status), ""
    except urllib.error.HTTPError as error:
        with error:
            status, said = error.code, error.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        status, said = 0, str(getattr(error, "reason", error))
    healthy = 200 <= status < 300
    invocation.answer(
        {"healthy": healthy, "status": status, "said": said},
        "healthy" if healthy else f"unhealthy: {said or status}",
    )
    raise typer.Exit(0 if healthy else 1)


def _look(invocation: Invocation, file: Path, max_age: float) -> NoReturn:
    """Judge workers by the files they write: each has to be fresh."""
    shown = health.read(file)
    healthy = bool(shown) and all(each.age <= max_age for each in shown)
    lines = [
        f"{each.file.name}: {each.state or 'cannot be read'}, {each.age:.1f} s old"
        + ("" if each.age <= max_age else " (too old)")
        for each in shown
    ]
    document = [
        {"file": each.file, "pid": each.pid, "state": each.state, "age": round(min(each.age, 1e9), 1)}
        for each in shown
    ]
    invocation.answer(
        {"healthy": healthy, "workers": document},
        "\n".join(["healthy" if healthy else "unhealthy", *(lines or [f"there is no {file}"])]),
    )
    raise typer.Exit(0 if healthy else 1)


def version(ctx: typer.Context) -> None:
    """Print the version of this installation."""
    own = metadata.version("trigger-adapter")
    Invocation.of(ctx).answer(
        {"version": own, "python": platform.python_version()},
        f"trigger-adapter {own} (Python {platform.python_version()})",
    )
