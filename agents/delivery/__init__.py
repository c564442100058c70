"""Delivery: results into a SQL database, idempotent, in batches, with the inference log and the chain log."""

from callstream.agents.delivery.batch import BatchWriter
from callstream.agents.delivery.migrate import prepare_database
from callstream.agents.delivery.options import DatabaseUnusable, DeliveryOptions, make_engine
from callstream.agents.delivery.rows import CatalogueRow
from callstream.agents.delivery.step import WriteBack
from callstream.agents.delivery.store import CatalogueStore

__all__ = [
    "BatchWriter",
    "CatalogueRow",
    "CatalogueStore",
    "DatabaseUnusable",
    "DeliveryOptions",
    "WriteBack",
    "make_engine",
    "prepare_database",
]
