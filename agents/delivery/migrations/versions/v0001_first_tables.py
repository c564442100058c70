"""The catalogue and both logs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "catalogue",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("product", sa.String(200), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("language", sa.String(35), nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("step", sa.String(48), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("event", sa.String(300), nullable=False),
        sa.Column("accepted", sa.Double, nullable=False),
        sa.Column("written", sa.Double, nullable=False),
    )
    op.create_table(
        "inference_log",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("task", sa.String(128), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.String(48), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("endpoint", sa.String(200), nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("repeated", sa.BigInteger, nullable=False),
        sa.Column("tokens_in", sa.BigInteger, nullable=False),
        sa.Column("tokens_out", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("ended", sa.Double, nullable=False),
        sa.Column("template", sa.String(200), nullable=False),
        sa.Column("template_version", sa.String(50), nullable=False),
        sa.Column("messages", sa.JSON, nullable=True),
        sa.Column("output", sa.Text, nullable=False),
    )
    op.create_table(
        "chain_log",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("task", sa.String(128), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("chain", sa.String(48), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("step", sa.String(48), nullable=False),
        sa.Column("service", sa.String(48), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("ended", sa.Double, nullable=False),
        sa.Column("notes", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Drop the three tables, with all that is in them."""
    for name in ("chain_log", "inference_log", "catalogue"):
        op.drop_table(name)
