"""Durable, asynchronous model calls over Kafka."""

__version__ = "0.1.0"
