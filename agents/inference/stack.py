"""The layers of a model call, composed in one place.

From the outside in, and why each stands where it does:

1. `remember` answers from the receipt: a call that was answered meets no other layer, and needs no time or place.
2. `Flights` keeps a call going when its caller is cancelled. Everything below runs in the call's own task; above it
   is what needs the caller's row as it is now. First below it, `charge` sums up what all requests of the call cost.
   `Drafts` keeps what has come of an answer that is asked for piece by piece: once for all requests of the call.
3. `switch` chooses the pool, and which of its endpoints a call should have, once for all its tries: all below knows
   the pool that it really goes to. A call that still waits when other rules hold comes back here.
4. `race` asks a second time where a request takes long, in pools that say so. It stands above admission, so that
   limits hold for the second as for the first, and above `retry`, so that the first is tried again as if it were
   alone; the second is one request. Above `race` are the receipts: one answer, which counts the requests of both.
5. `retry` sits above admission: a paused call holds no place, and comes back as any other. What its budgets don't
   allow it gives back to the step.
6. `fallback` asks another endpoint where this one never will; a try of each endpoint is one attempt of `retry`.
7. `admission` lets the call wait until an endpoint may have it, and names it; all below is by endpoint. What is
   turned away with 429 waits here again: neither `retry` nor the task hears of it.
8. `timeout` bounds one request, and so no wait.
9. `announce` puts the started receipt on the log when nothing is left to wait for, so "started" means "may be paid".
10. `place` takes the call's place at the endpoint, of which none lies idle while a receipt is written.
11. `observe` tells `race` how long requests take: from here on, so that no wait is taken for a slow endpoint.
12. `trace` and `metrics` see each request as it was sent, without the waiting.
13. `measure` counts what each request took and cost, however it ended.
14. `Client` sends it, if the leave that admission gave is still good.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry

from callstream.agents.inference.admission.collector import GatesCollector
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.purse import SpendingRows
from callstream.agents.inference.admit import admission, place
from callstream.agents.inference.bill import Meter
from callstream.agents.inference.call import Call, Layer, Model, Reply
from callstream.agents.inference.choice import Rule
from callstream.agents.inference.client import Client
from callstream.agents.inference.draft import Drafts
from callstream.agents.inference.endpoint_budgets import EndpointBudgets
from callstream.agents.inference.fallback import fallback
from callstream.agents.inference.hedge import Hedges
from callstream.agents.inference.metrics import metrics
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.receipt import Receipts
from callstream.agents.inference.retry import Sources, retry
from callstream.agents.inference.singleflight import Flights, FlightsSnapshot
from callstream.agents.inference.switch import Switch
from callstream.agents.inference.timeout import timeout
from callstream.agents.inference.trace import Spans, no_spans, trace
from callstream.agents.patience import uncounted
from callstream.agents.payer import payer


class ModelStack:
    """The composed Model of one process, with what has to be closed after it. An instance is a Model.

    `refused` counts the requests that no budget of retries paid for, by pool and endpoint.
    """

    def __init__(
        self, model: Model, gates: Gates, flights: Flights, client: Client, meter: Meter, switch: Switch
    ) -> None:
        self._model = model
        self._flights = flights
        self._meter = meter
        self._client = client
        self.gates = gates
        self._switch = switch
        self.refused: Counter[tuple[str, str]] = Counter()

    async def __call__(self, call: Call) -> Reply:
        """Call a model. Raises CallFailed, and what the call's cell raises."""
        who = payer()
        with uncounted():
            return await self._model(replace(call, chain=call.chain or who.chain, round=call.round or who.round))

    def share(self, rows: SpendingRows, partitions: int) -> None:
        """Spend what the partitions of these rows allow: until then, a pool with limits lets nothing through."""
        self.gates.share(rows, partitions)

    def reconfigured(self, options: InferenceOptions) -> None:
        """Other pools, limits and weights from now on; calls that wait do so under the new ones."""
        self._client.reconfigured(options)
        self._meter.reconfigured(options)
        self.gates.reconfigured(options)
        self._switch.changed()
        self.gates.turn_out(self._switch.is_outdated)

    def switch(self, rules: Mapping[str, Sequence[tuple[str, Rule]]]) -> None:
        """These rules say from now on which endpoints calls should have, by pool; also of calls that wait."""
        self._switch.set(rules)
        self.gates.turn_out(self._switch.is_outdated)

    def waiting(self) -> frozenset[tuple[str, str]]:
        """Tenant and id of each task of which every call waits at a gate."""
        at_gates, flights = self.gates.tasks(), self._flights.tasks()
        return frozenset(owner for owner, count in at_gates.items() if count >= flights[owner])

    def cut(self, tenant: str, task: str) -> None:
        """Nobody wants the answers of a task's calls any more: cancel their requests."""
        self._flights.cut(tenant, task)

    def snapshot(self) -> FlightsSnapshot:
        """Calls under way."""
        return self._flights.snapshot()

    async def close(self) -> None:
        """Cancel what is under way and close the connections."""
        await self._flights.close()
        await self.gates.close()
        await self._client.close()


def compose(layers: Sequence[Layer], innermost: Model) -> Model:
    """The innermost model inside all layers, of which the first is outermost."""
    model = innermost
    for layer in reversed(layers):
        model = layer(model)
    return model


def real_sources() -> Sources:
    """The machine's clock, chance and sleep."""
    return Sources(clock=time.time, chance=random.random, sleep=asyncio.sleep)


def build_model(
    options: InferenceOptions,
    spans: Spans = no_spans,
    registry: CollectorRegistry | None = None,
    sources: Sources | None = None,
) -> ModelStack:
    """The model of this process; build one, and close it. Nothing is opened before the first call.

    `registry` takes the metrics of requests and gates (unset: a private one).
    """
    sources = sources or real_sources()
    flights = Flights(options.flights, run=uuid.uuid4().hex[:12])
    meter = Meter(options, sources.clock)
    receipts = Receipts(sources.clock, meter)
    client = Client(options, sources.clock)
    gates = Gates(options, (time.monotonic, sources.clock))
    registry = registry or CollectorRegistry()
    registry.register(GatesCollector(gates))
    switch = Switch(gates.pools)
    hedges = Hedges(gates.pools, registry, time.monotonic)
    budgets = EndpointBudgets(options.retry.budget, gates.pools, time.monotonic, registry)
    layers: tuple[Layer, ...] = (
        receipts.remember,
        flights,
        Drafts(receipts, options.part_seconds, sources.sleep),
        meter.charge,
        switch.choose,
        hedges.race,
        retry(options.retry, sources, budgets),
        fallback(gates.pools),
        admission(gates, client.told, switch.require),
        timeout(sources.clock),
        receipts.announce,
        place,
        hedges.observe,
        trace(spans),
        metrics(registry),
        meter.measure,
    )
    stack = ModelStack(compose(layers, client), gates, flights, client, meter, switch)
    stack.refused = budgets.refused
    return stack
