"""Rows of the catalogue that were replaced, so that what a task wrote can be taken back.

All of it happens in the transaction of the write or of the undo. A row taken back gives way to the newest that is left,
so tasks may be undone in any order.

Both lock the product's row of the catalogue before they touch its history: a write that saw the row that an undo is
taking back would keep it anew. In one order, so that neither waits for the other in a circle.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, and_, bindparam, delete, literal_column, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callstream.agents.delivery.schema import catalogue, catalogue_history

MOST_KEPT = 20
"""Rows of one product: a task that was followed by so many others cannot be undone any more."""

Row = Mapping[str, Any]
_COLUMNS = [column.name for column in catalogue.columns]


class History:
    """The statements, in the dialect of an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        keys = [column.name for column in catalogue_history.primary_key]
        # A WHERE, because SQLite would take ON CONFLICT for a join of the SELECT.
        replaced = select(*catalogue.columns).where(_is_product(catalogue), literal_column("1") == 1)
        kept = insert(catalogue_history).from_select(_COLUMNS, replaced.with_for_update())
        self._replaced = kept.on_conflict_do_nothing()
        written = insert(catalogue_history)
        values = {name: written.excluded[name] for name in _COLUMNS if name not in keys}
        self._written = written.on_conflict_do_update(index_elements=keys, set_=values)
        age = (catalogue_history.c.accepted, catalogue_history.c.task)
        oldest = select(*age).where(_is_product(catalogue_history)).order_by(*(each.desc() for each in age))
        last = oldest.limit(1).offset(MOST_KEPT - 1).scalar_subquery()
        self._forgotten = delete(catalogue_history).where(_is_product(catalogue_history), tuple_(*age) < last)
        self._newest = (
            select(*catalogue_history.columns)
            .where(_is_product(catalogue_history))
            .order_by(*(each.desc() for each in age))
            .limit(1)
        )

    async def keep(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Keep these rows, which are about to be written, and those that they replace."""
        places = [{f"of_{name}": row[name] for name in ("tenant", "product")} for row in rows]
        await connection.execute(self._replaced, places)
        await connection.execute(self._written, [dict(row) for row in rows])
        await connection.execute(self._forgotten, places)

    async def take_back(self, connection: AsyncConnection, tenant: str, task: str, step: str) -> list[str]:
        """Undo what a step of a task wrote; gives the products, none if it wrote nothing or its rows were forgotten."""
        own = and_(
            catalogue_history.c.tenant == tenant, catalogue_history.c.task == task, catalogue_history.c.step == step
        )
        mine = select(catalogue_history.c.product).where(own).order_by(catalogue_history.c.product)
        taken = []
        for product in (await connection.execute(mine)).scalars().all():
            here = and_(catalogue.c.tenant == tenant, catalogue.c.product == product)
            stands = (await connection.execute(select(catalogue.c.task).where(here).with_for_update())).scalar()
            gone = await connection.execute(
                delete(catalogue_history).where(own, catalogue_history.c.product == product)
            )
            if not gone.rowcount:
                continue
            taken.append(product)
            if stands == task:
                place = {"of_tenant": tenant, "of_product": product}
                before = (await connection.execute(self._newest, place)).mappings().first()
                change = delete(catalogue) if before is None else update(catalogue).values(**before)
                await connection.execute(change.where(here))
        return taken


def _is_product(table: Table) -> Any:
    return and_(table.c.tenant == bindparam("of_tenant"), table.c.product == bindparam("of_product"))
