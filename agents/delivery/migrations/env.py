"""How alembic runs our versions: on the connection, and in the transaction, that it is given."""

from alembic import context

from callstream.agents.delivery.schema import metadata

VERSION_TABLE = "callstream_schema"
"""Not alembic's own default name: the database may hold another program's schema."""


def migrate() -> None:
    """Run the versions that are missing."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


# Alembic executes this file with a configuration in place; imported by anyone else, it does nothing.
if hasattr(context, "config"):
    migrate()
