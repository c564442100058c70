from pathlib import Path
from typing import Any, cast

import pytest

from callstream.streams.engine import Layout, ServiceApp
from callstream.streams.engine_options import EngineOptions


@pytest.mark.parametrize("seconds", [6.0, 90.0, 91.0, 300.0])
async def test_every_session_time_out_that_the_settings_take_makes_a_consumer(tmp_path: Path, seconds: float) -> None:
    options = EngineOptions(session_timeout_seconds=seconds)
    (tmp_path / "prepare").mkdir()
    app = ServiceApp("prepare", options, Layout(bootstrap="127.0.0.1:1", folder=tmp_path))
    consumer = cast(Any, app.consumer)._thread._create_worker_consumer(app.transport)
    assert consumer._session_timeout_ms == seconds * 1000


async def test_the_lag_is_not_known_before_the_consumers_thread_has_begun(tmp_path: Path) -> None:
    (tmp_path / "prepare").mkdir()
    app = ServiceApp("prepare", EngineOptions(), Layout(bootstrap="127.0.0.1:1", folder=tmp_path))
    assert await app.lag() is None
