"""A process is killed while it tells somebody how a job went: another one tells it, under the same id."""

import asyncio
import json
import signal
import sys
from asyncio import StreamReader, StreamWriter

import pytest

from tests import kit
from tests.kit import eventually
from tests.rig import Rig

#: Sends what is due, and would end by itself only when it is answered.
SENDER = """
import asyncio, sys
from adapter import Adapter, Settings

async def main():
    async with Adapter(Settings.model_validate({"database_url": sys.argv[1]})) as adapter:
        await adapter.deliverer.run_once()

asyncio.run(main())
"""


class Receiver:
    """Keeps what it is sent; the first sender gets no answer."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.bodies: list[str] = []

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
        self.bodies.append((await reader.readexactly(int(headers["content-length"]))).decode())
        self.ids.append(headers["webhook-id"])
        if len(self.ids) > 1:
            writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        else:
            # Until the sender is no more.
            await reader.read()
        writer.close()


@pytest.mark.fault
async def test_a_delivery_in_the_hands_of_a_killed_process_is_made_by_another(rig: Rig) -> None:
    receiver = Receiver()
    server = await asyncio.start_server(receiver, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await rig.adapter.subscribe_webhook(
        f"http://127.0.0.1:{port}/", ["RUN_COMPLETED"], secret="s", allow_private=True
    )
    await rig.adapter.schedule_job("echo", {"n": 1})
    await rig.work()
    sender = await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, rig.url, cwd=kit.ROOT)
    try:
        await eventually(lambda: receiver.ids, within=20)
    finally:
        sender.send_signal(signal.SIGKILL)
        await sender.wait()
    assert await rig.adapter.deliverer.run_once() == 0, "its lease still stands"
    await rig.sql("UPDATE {s}.webhook_deliveries SET next_at = now()")
    assert await rig.adapter.deliverer.run_once() == 1
    assert receiver.ids[0] == receiver.ids[1]
    assert json.loads(receiver.bodies[1])["data"]["run"]["output"] == {"n": 1}
    rows = await rig.sql("SELECT state, attempts FROM {s}.webhook_deliveries")
    assert [(row["state"], row["attempts"]) for row in rows] == [("delivered", 2)]
    server.close()
