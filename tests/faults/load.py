"""Tasks at a steady rate through whichever gateway answers; each submission is repeated until it is accepted."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence

import aiohttp

from tests.support.judge import Order

ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 300.0
LONGEST_PAUSE_SECONDS = 1.0
AGAIN = frozenset({429, 500, 502, 503, 504})
CHAIN = "fast-copy"
NOUNS = ("mug", "lamp", "jacket", "backpack", "notebook", "kettle")


class Refused(AssertionError):
    """A gateway refused a good task for good."""


class Load:
    """Submits `rate` tasks a second until `stop`, each with an id and a product of its own, drawn from `seed`.

    `refusals` are the answers that were not "accepted", with status and body; `unanswered` are tries without any.
    """

    def __init__(self, gateways: Sequence[str], rate: float, seed: int) -> None:
        self._gateways = gateways
        self._rate = rate
        self._random = random.Random(seed)
        self._stopped = False
        self._orders: dict[str, Order] = {}
        self.tries = 0
        self.refusals: list[tuple[int, str]] = []
        self.unanswered = 0

    @property
    def orders(self) -> list[Order]:
        """Everything that was submitted so far."""
        return list(self._orders.values())

    def stop(self) -> None:
        """Submit no further tasks."""
        self._stopped = True

    async def run(self) -> None:
        """Submit, and wait until each submission is accepted or has been tried for too long. Raises Refused."""
        started = time.monotonic()
        connector = aiohttp.TCPConnector(limit=200)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as submissions:
            for number in itertools.count():
                await asyncio.sleep(max(0.0, started + number / self._rate - time.monotonic()))
                if self._stopped:
                    return
                task = f"task-{number:05d}"
                title = f"{self._random.choice(NOUNS)} number {number}"
                self._orders[task] = Order(task, f"product-{number:05d}", title, None)
                submissions.create_task(self._submit(http, task))

    async def _submit(self, http: aiohttp.ClientSession, task: str) -> None:
        order = self._orders[task]
        body: dict[str, object] = {
            "chain": CHAIN,
            "id": task,
            "input": {"product_id": order.product, "title": order.title, "description": "Made to last."},
        }
        pause, until = 0.1, time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            self.tries += 1
            if await self._accepted(http, self._random.choice(self._gateways), body):
                self._orders[task] = Order(task, order.product, order.title, time.time())
                return
            await asyncio.sleep(self._random.uniform(0.0, pause))
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    async def _accepted(self, http: aiohttp.ClientSession, gateway: str, body: dict[str, object]) -> bool:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with http.post(f"{gateway}/v1/tasks", json=body, timeout=timeout) as answer:
                if answer.status not in (200, 202) and answer.status not in AGAIN:
                    raise Refused(f"{body['id']}: {answer.status} {(await answer.text())[:500]}")
                if answer.status in AGAIN:
                    self.refusals.append((answer.status, await answer.text()))
                return answer.status in (200, 202)
        except TimeoutError:
            self.unanswered += 1
            return False
        except aiohttp.ClientError:
            return False
