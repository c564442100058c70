"""Makes the archive that has the tests' brokers start in half the time: python -m tests.support.quick_broker FILE.

Brokers are started dozens of times, and most of what they do is to load the same classes. A JVM that ends writes them
down (JEP 514), those that follow take them from there. One that cannot read the file starts as it would without.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.broker.errors import BrokerError

PLAIN = "-XX:+IgnoreUnrecognizedVMOptions -XX:TieredStopAtLevel=1"
"""They live for seconds, in which the second compiler costs more than it gives."""
ARCHIVE = Path(sys.prefix) / "kafka.aot"


def options(archive: Path = ARCHIVE) -> str:
    """What `JDK_JAVA_OPTIONS` has to be for it."""
    return f'{PLAIN} "-XX:AOTCache={archive}"' if archive.is_file() else PLAIN


async def make(archive: Path) -> None:
    """Start a broker and end it; it writes the archive as it ends."""
    draft = archive.with_suffix(".draft")
    os.environ["JDK_JAVA_OPTIONS"] = f'{PLAIN} "-XX:AOTCacheOutput={draft}"'
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder:
        async with EmbeddedKafka(BrokerOptions(folder=Path(folder) / "kafka", stop_timeout_seconds=120)):
            pass
    if draft.is_file():
        draft.replace(archive)


if __name__ == "__main__":
    try:
        asyncio.run(make(Path(sys.argv[1])))
    except BrokerError as error:
        # The tests that need a broker say it again, each in its place.
        print(f"no archive for quick starts of brokers: {error}", file=sys.stderr)
