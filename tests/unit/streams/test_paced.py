"""A client that asks for metadata whenever it has none asks at a steady pace."""

import asyncio

from callstream.streams.transport import METADATA_SECONDS, paced


class Client:
    """As much of a client as is paced."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def _metadata_update(self, *_: object) -> bool:
        self.asked.append(asyncio.get_running_loop().time())
        return False


async def test_questions_come_at_a_steady_pace_however_often_they_are_asked() -> None:
    client = Client()
    paced(client)
    for _ in range(3):
        await client._metadata_update("cluster", ["topic"])
    pauses = [later - earlier for earlier, later in zip(client.asked, client.asked[1:], strict=False)]
    assert min(pauses) >= METADATA_SECONDS * 0.9
