"""The layer that asks the rules of a call's pool which endpoints it should have, and tells of it in the trail.

A call keeps what was chosen for it through its retries. One that still waits when rules or settings change is asked
about anew: `admission` turns it out of its gate, and it comes back here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from callstream.agents.inference.call import Call, Model, Reply
from callstream.agents.inference.choice import Asked, Choice, Chooser, Rule
from callstream.agents.inference.options import PoolOptions
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.replay.lineage import drawn_by


class Switched(Exception):
    """Other rules hold by now for a call that waits; it was sent so many times before, in vain."""

    requests = 0


class Switch:
    """The rules in force in this process. `pools` may change at any time; `changed` has to be called then."""

    def __init__(self, pools: Mapping[str, PoolOptions]) -> None:
        self._pools = pools
        self._rules: Mapping[str, Sequence[tuple[str, Rule]]] = {}
        self._revision = 0
        self._chooser = Chooser({}, {})

    def set(self, rules: Mapping[str, Sequence[tuple[str, Rule]]]) -> None:
        """These rules hold from now on, by pool, each with its name, in their order."""
        self._rules = rules
        self.changed()

    def changed(self) -> None:
        """The rules or the pools are others."""
        self._revision += 1
        self._chooser = Chooser(self._rules, self._pools, self._revision)

    def choose(self, inner: Model) -> Model:
        """The layer."""

        async def chosen(call: Call) -> Reply:
            requests = 0
            while True:
                choice = self._choice(call)
                try:
                    reply = await inner(replace(call, pool=choice.pool, choice=choice))
                except Switched as switched:
                    requests += switched.requests
                    continue
                return _noted(reply, choice, requests)

        return chosen

    def require(self, call: Call) -> None:
        """Raises Switched for a call for which something else is chosen by now."""
        if self.is_outdated(call):
            raise Switched

    def is_outdated(self, call: Call) -> bool:
        """Whether something else is chosen for it by now."""
        held = call.choice
        if held is None or held.revision == self._revision:
            return False
        return self._choice(replace(call, pool=held.asked)) != held

    def _choice(self, call: Call) -> Choice:
        if call.pool not in self._rules:
            return Choice(call.pool, call.pool, revision=self._revision)
        return self._chooser.choose(call.pool, asked_of(call))


def asked_of(call: Call) -> Asked:
    """A call as rules see it."""
    told: Json = {"tenant": call.tenant, "task": call.task, "priority": str(call.priority)}
    told |= {} if call.about is None else call.about()
    try:
        told["characters"] = len(strict_json.dumps(call.request).decode())
    except (ValueError, TypeError):
        # What is no JSON is refused where it would be sent.
        told["characters"] = 0
    wanted = call.request.get("max_completion_tokens") or call.request.get("max_tokens")
    answer = wanted if isinstance(wanted, int) and wanted > 0 else None
    return Asked(drawn_by(call.tenant, call.task), told, told["characters"], answer)


def rules_by_pool(rules: Sequence[tuple[str, str, Rule]]) -> dict[str, list[tuple[str, Rule]]]:
    """Pool, name and rule of each, as a Switch takes them."""
    found: dict[str, list[tuple[str, Rule]]] = {}
    for pool, name, rule in rules:
        found.setdefault(pool, []).append((name, rule))
    return found


def _noted(reply: Reply, choice: Choice, requests: int) -> Reply:
    if requests:
        usage = reply.usage.model_copy(update={"calls": reply.usage.calls + requests})
        reply = replace(reply, usage=usage)
    if not choice.notes:
        return reply
    endpoint = reply.usage.endpoint
    had = f"; {endpoint} ({reply.usage.model}) had the call" if choice.rule and endpoint else ""
    if choice.endpoints and endpoint not in choice.endpoints:
        had += ", since what was chosen was out"
    *before, last = choice.notes
    return replace(reply, notes=(*reply.notes, *before, last + had))
