"""Delivery: results into stores, idempotent, in batches; into SQL with the inference log and the chain log."""

from callstream.agents.delivery.batch import BatchWriter
from callstream.agents.delivery.catalogue_sink import CatalogueSink
from callstream.agents.delivery.deliver import Deliver
from callstream.agents.delivery.migrate import prepare_database
from callstream.agents.delivery.options import DatabaseUnusable, DeliveryOptions, make_engine
from callstream.agents.delivery.rows import CatalogueRow
from callstream.agents.delivery.sink import Away, Entry, Refused, Sink, SinkRow
from callstream.agents.delivery.sink_options import SinkOptions
from callstream.agents.delivery.sinks import Sinks, SinkUnusable, UnknownSink
from callstream.agents.delivery.step import WriteBack
from callstream.agents.delivery.store import CatalogueStore
from callstream.agents.delivery.topic_sink import Latest, TopicSink

__all__ = [
    "Away",
    "BatchWriter",
    "CatalogueRow",
    "CatalogueSink",
    "CatalogueStore",
    "DatabaseUnusable",
    "Deliver",
    "DeliveryOptions",
    "Entry",
    "Latest",
    "Refused",
    "Sink",
    "SinkOptions",
    "SinkRow",
    "SinkUnusable",
    "Sinks",
    "TopicSink",
    "UnknownSink",
    "WriteBack",
    "make_engine",
    "prepare_database",
]
