import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from callstream.streams.broadcast import hear_all, listen

NOBODY = "127.0.0.1:1"


def ignore(*_: object) -> None:
    pass


@pytest.mark.parametrize("listens", [listen(NOBODY, "t", 1, ignore), hear_all(NOBODY, "t", 1, ignore, ignore)])
async def test_a_broker_that_is_away_leaves_no_consumer_open(
    listens: Coroutine[Any, Any, None], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(listens, 0.3)
    gc.collect()
    assert "Unable connect" in caplog.text
    assert "Unclosed" not in caplog.text
