"""What steps cost, and logs by age."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; rows from before have none."""
    op.add_column("inference_log", sa.Column("cost", sa.String(60), nullable=True))
    op.add_column("inference_log", sa.Column("currency", sa.String(3), nullable=True))
    op.create_index("inference_log_ended", "inference_log", ["ended"])
    op.create_index("chain_log_ended", "chain_log", ["ended"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("chain_log_ended", "chain_log")
    op.drop_index("inference_log_ended", "inference_log")
    op.drop_column("inference_log", "currency")
    op.drop_column("inference_log", "cost")
