"""Talking to a server under measure: raw requests on kept connections, which cost less than any client library."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from bench.processes import StuckError

_BOOT_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def until_ready(port: int) -> None:
    deadline = time.monotonic() + _BOOT_S
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise StuckError(f"nothing was ready on port {port}")


def post(path: str, port: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    given = {"host": f"127.0.0.1:{port}", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def exchange(reader: StreamReader, writer: StreamWriter, request: bytes) -> bytes:
    """Send a request and return the body of its answer, which must be a good one."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(int(length.split(b":")[1]))
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError((head + body).decode())
    return body


async def send_all(requests: Iterable[bytes], port: int, connections: int) -> list[float]:
    """Send all of them, each as soon as a connection is free; returns what each took, in seconds."""
    left, took = iter(requests), list[float]()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in left:
            began = time.perf_counter()
            await exchange(reader, writer, request)
            took.append(time.perf_counter() - began)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one_connection())
    return took


def as_json(body: bytes) -> dict[str, Any]:
    return json.loads(body)
