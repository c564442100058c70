"""The embedded broker: a real Apache Kafka on this machine, without Docker and without a system Java."""

from callstream.streams.broker.embedded import EmbeddedKafka
from callstream.streams.broker.errors import BrokerError, BrokerFailed, BrokerInUse, BrokerUnavailable
from callstream.streams.broker.options import BrokerOptions

__all__ = ["BrokerError", "BrokerFailed", "BrokerInUse", "BrokerOptions", "BrokerUnavailable", "EmbeddedKafka"]
