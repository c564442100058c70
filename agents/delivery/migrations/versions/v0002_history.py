"""Rows of the catalogue that were replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "catalogue_history",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("product", sa.String(200), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("language", sa.String(35), nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("task", sa.String(128), primary_key=True),
        sa.Column("step", sa.String(48), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("event", sa.String(300), nullable=False),
        sa.Column("accepted", sa.Double, nullable=False),
        sa.Column("written", sa.Double, nullable=False),
    )
    op.create_index("catalogue_history_task", "catalogue_history", ["tenant", "task"])


def downgrade() -> None:
    """Drop it: what was written before can no longer be taken back."""
    op.drop_table("catalogue_history")
