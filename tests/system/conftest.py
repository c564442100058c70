"""One real broker for all system tests of a run."""

import os
from collections.abc import Iterator

import pytest

from callstream.streams.broker import BrokerOptions, EmbeddedKafka


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address ("host:port") of a Kafka: `CALLSTREAM_TEST_BROKER` where it is set, else one started for this run.

    Topics and groups are shared by the whole run: a test uses names of its own.
    """
    given = os.environ.get("CALLSTREAM_TEST_BROKER")
    if given:
        yield given
        return
    with EmbeddedKafka(BrokerOptions(folder=tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker.bootstrap
