import asyncio
from typing import cast

from callstream.agents.inference.admission.gate import Gate
from callstream.agents.inference.admission.permit import Permit
from callstream.agents.inference.admit import admission
from callstream.agents.inference.call import Call, Reply
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.spent import Spent, tracked


class SlowGate:
    """A gate that lets a call through after a while."""

    async def admit(self, call: Call) -> Permit:
        """Wait."""
        await asyncio.sleep(0.03)
        return cast(Permit, LeaveToGo())


class LeaveToGo:
    """A permit of which nothing is known but where it leads."""

    endpoint = "a"

    def answered(self, reply: Reply) -> None:
        """Nothing."""


async def test_the_wait_for_leave_is_accounted_for_as_a_wait() -> None:
    model = admission({"copywriter": cast(Gate, SlowGate())}, {})(ScriptedModel([Reply("A mug.")]))
    account = Spent()
    with tracked(account):
        # Calls run in tasks of their own.
        await asyncio.create_task(model(a_call()))  # type: ignore[arg-type]  # Model gives an awaitable
    assert account.waited >= 0.025
    assert account.retried == 0
