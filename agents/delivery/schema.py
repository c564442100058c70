"""The tables that results are written to. Times are epoch seconds, UTC; their versions are in `migrations`."""

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

catalogue = Table(
    "catalogue",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("product", String(200), primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("language", String(35), nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("task", String(128), nullable=False),
    Column("step", String(48), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("event", String(300), nullable=False),
    Column("accepted", Double, nullable=False),
    Column("written", Double, nullable=False),
)
"""One row a product: the copy of the task that was accepted last, and which event wrote it."""

catalogue_history = Table(
    "catalogue_history",
    metadata,
    *(
        Column(column.name, column.type, primary_key=column.primary_key or column.name == "task", nullable=False)
        for column in catalogue.columns
    ),
    Index("catalogue_history_task", "tenant", "task"),
)
"""Rows of the catalogue, past ones too, by the task that wrote them: of steps that can be undone."""

inference_log = Table(
    "inference_log",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("task", String(128), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("step", String(48), nullable=False),
    Column("model", String(200), nullable=False),
    Column("endpoint", String(200), nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("repeated", BigInteger, nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double, nullable=False),
    Column("template", String(200), nullable=False),
    Column("template_version", String(50), nullable=False),
    Column("messages", JSON, nullable=True),
    Column("output", Text, nullable=False),
    Column("cost", String(60), nullable=True),
    Column("currency", String(3), nullable=True),
    Index("inference_log_ended", "ended"),
)
"""One row a step that called a model: the prompt it sent, the text it got (of an answer with a shape, JSON).

`position` is its place in the trail. `cost` is what all requests of the step cost, a decimal number as text.
"""

chain_log = Table(
    "chain_log",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("task", String(128), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("chain", String(48), nullable=False),
    Column("version", Integer, nullable=False),
    Column("step", String(48), nullable=False),
    Column("service", String(48), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double, nullable=False),
    Column("notes", JSON, nullable=False),
    Index("chain_log_ended", "ended"),
)
"""One row a step that a task took, up to and including the one that wrote it."""
