"""Short answers: is it healthy, and which version is this."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated

import typer

from adapter.cli.exits import CommandError
from adapter.cli.invocation import Invocation

_URL = "http://127.0.0.1:8000/readyz"


def healthcheck(
    ctx: typer.Context,
    url: Annotated[str, typer.Option(help="What to ask; 200 is healthy.")] = _URL,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait.")] = 3.0,
) -> None:
    """Ask a running server whether it is ready; for containers. Ends with 0 or 1."""
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


def version(ctx: typer.Context) -> None:
    """Print the version of this installation."""
    own = metadata.version("trigger-adapter")
    Invocation.of(ctx).answer(
        {"version": own, "python": platform.python_version()},
        f"trigger-adapter {own} (Python {platform.python_version()})",
    )
