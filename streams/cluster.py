"""Which Kafka cluster this is: its id, which it was given when it was made and which no other has."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient

ASK_SECONDS = 30.0


class Cluster:
    """The cluster behind an address, asked once."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._id: str | None = None
        self._asking = asyncio.Lock()

    async def id(self) -> str:
        """Its id; empty if it has none. Raises KafkaError or TimeoutError when no broker tells."""
        async with self._asking:
            if self._id is None:
                admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
                try:
                    async with asyncio.timeout(ASK_SECONDS):
                        await admin.start()
                        self._id = str((await admin.describe_cluster()).get("cluster_id") or "")
                finally:
                    await admin.close()
            return self._id
