"""A worker that cannot start ends with one clear line."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from callstream.settings.gather import PREFIX
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from tests.support.services import ROOT

PATIENCE_SECONDS = 90.0
CHAIN = """
from pydantic import BaseModel

from callstream.agents.delivery import Deliver
from callstream.streams.chain import Chain


class Input(BaseModel):
    text: str = ""


chain = Chain("wrong", input=Input, steps=(Deliver(sink="nowhere", row=lambda event: {"key": "a", "value": {}}),))
"""


@pytest.mark.timeout(150)
async def test_an_unknown_sink_is_said_in_one_line_without_a_traceback(tmp_path: Path) -> None:
    # given a chain that names a sink which nobody has set
    (tmp_path / "wrong.py").write_text(CHAIN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {
        "CALLSTREAM_CHAINS": '["wrong.py:chain"]',
        "CALLSTREAM_PARTITIONS": "2",
        "CALLSTREAM_DATA_FOLDER": str(tmp_path / "data"),
        "CALLSTREAM_WEB__PORT": str(unused_port()),
        "PYTHONPATH": str(ROOT),
    }
    # when all services start
    async with EmbeddedKafka(BrokerOptions(folder=tmp_path / "kafka")) as broker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callstream", "worker"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env=environment | {"CALLSTREAM_BROKER": broker.bootstrap},
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
    # then the last line says it
    lines = said.decode()
    assert process.returncode == 1
    assert "ended: UnknownSink: no sink is called 'nowhere'; set [sinks.nowhere]." in lines.splitlines()[-1]
    assert "Event loop is closed" not in lines
    assert "Traceback" not in lines
