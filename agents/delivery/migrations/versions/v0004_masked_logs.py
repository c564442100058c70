"""Both logs for those who may see how things went, but not what was written."""

from alembic import op

revision = "0004"
down_revision = "0003"

# Characters of every text within a JSON document, whatever its place; NULL where there is none.
TEXTS = {
    "sqlite": "(SELECT sum(length(part.atom)) FROM json_tree({column}) AS part WHERE part.type = 'text')",
    "postgresql": "(SELECT sum(length(part #>> '{{}}')) FROM jsonb_path_query(CAST({column} AS jsonb), 'strict $.**')"
    " AS part WHERE jsonb_typeof(part) = 'string')",
}

# Each column by name: one that comes into a table later is in no view until somebody has decided about it.
INFERENCE = """
CREATE VIEW inference_log_masked AS
SELECT tenant, task, position, step, model, endpoint, calls, repeated, tokens_in, tokens_out, attempts, started, ended,
    template, template_version, {prompt} AS prompt_characters, length(output) AS output_characters, cost, currency
FROM inference_log
"""
CHAIN = """
CREATE VIEW chain_log_masked AS
SELECT tenant, task, position, chain, version, step, service, attempts, started, ended,
    coalesce({notes}, 0) AS notes_characters
FROM chain_log
"""


def upgrade() -> None:
    """Create the views."""
    texts = TEXTS[op.get_context().dialect.name]
    op.execute(INFERENCE.format(prompt=texts.format(column="inference_log.messages")))
    op.execute(CHAIN.format(notes=texts.format(column="chain_log.notes")))


def downgrade() -> None:
    """Drop them, and what was granted on them."""
    for name in ("chain_log_masked", "inference_log_masked"):
        op.execute(f"DROP VIEW {name}")
