"""An independent consumer group on callstream's topics: who had what done, as JSON lines, with nothing but aiokafka.

callstream knows nothing of it: it reads the same records as the services do, in a group of its own, at its own pace.
Its lines are written before their offsets are committed, so that none is left out; after a crash some come again, and
the member `id` tells which.
"""

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

TOPICS = "^callstream\\.(intake|review|verdicts|finished|dead)$"
"""What is handed in, what people decide, and what becomes of it; the topics of single steps can be read as well."""
BATCH = 500
SECONDS = 1.0


def line_of(record: "ConsumerRecord[bytes | None, bytes | None]") -> dict[str, Any]:
    """One record as an entry of the audit: attributes of its CloudEvent, and what its body says about an end."""
    said = {name: raw.decode("utf-8", "replace") for name, raw in record.headers if raw is not None}
    entry: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    entry |= {name: said[f"ce_{name}"] for name in ("id", "type", "tenant", "subject", "chain") if f"ce_{name}" in said}
    body = _body(record.value)
    if body is None:
        # A large body is in the blob store; what is no JSON is nobody's event.
        return entry | {"body": said.get("ce_dataref", "unread")}
    usage = [hop["usage"] for hop in body.get("trail", []) if hop.get("usage")]
    if usage:
        entry["tokens"] = sum(one.get("tokens_in", 0) + one.get("tokens_out", 0) for one in usage)
    if body.get("failure"):
        entry["failure"] = body["failure"].get("kind")
    return entry


def _body(value: bytes | None) -> dict[str, Any] | None:
    try:
        body = json.loads(value or b"")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


async def audit(bootstrap: str, group: str, stop: asyncio.Event) -> None:
    """Write a line for each record, until told to stop."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.subscribe(pattern=TOPICS)
    async with consumer:
        while not stop.is_set():
            batches = await consumer.getmany(timeout_ms=int(SECONDS * 1000), max_records=BATCH)
            for records in batches.values():
                for record in records:
                    print(json.dumps(line_of(record), ensure_ascii=False))
            sys.stdout.flush()
            if batches:
                await consumer.commit()


async def main() -> None:
    """Read the command line, and end at Ctrl-C or SIGTERM with all lines written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="localhost:9092", help="host:port of Kafka")
    parser.add_argument("--group", default="audit", help="the consumer group")
    given = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await audit(given.broker, given.group, stop)


if __name__ == "__main__":
    asyncio.run(main())
