"""Versions of the schema, in order; alembic runs them, `callstream.agents.delivery.migrate` starts it."""
