"""How long an endpoint is left alone that refuses without saying for how long."""

import asyncio

from callstream.agents.inference.admission.breaker import Breaker
from callstream.agents.inference.admission.desk import LONG_SECONDS, SHORT_SECONDS, Desk, Sending
from callstream.agents.inference.admission.window import ConcurrencyWindow
from callstream.agents.inference.call import CallFailed
from callstream.agents.inference.failures import Kind
from callstream.agents.inference.options import EndpointOptions

OPTIONS = EndpointOptions.model_validate({"name": "a", "base_url": "http://a.example", "model": "m"})


class Bench:
    """A desk with a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.desk = Desk(OPTIONS, ConcurrencyWindow(least=8), Breaker(), lambda: self.now)

    def send(self) -> Sending:
        sending = self.desk.let_through(self.now)
        asyncio.run(self.desk.place(sending))
        return sending

    def refuse(self, sending: Sending, after: float | None = None) -> float:
        """Refuse it; how long the endpoint is left alone then."""
        self.desk.failed(sending, CallFailed(Kind.OVERLOADED, "no", after), None)
        return self.desk.closed_until - self.now

    def refused_in_turn(self, times: int) -> list[float]:
        pauses = []
        for _ in range(times):
            self.now = max(self.now, self.desk.closed_until) + 0.01
            pauses.append(round(self.refuse(self.send()), 6))
        return pauses


def test_the_pause_doubles_while_nothing_is_answered_and_is_bounded() -> None:
    bench = Bench()
    assert bench.refused_in_turn(9) == [SHORT_SECONDS] * 3 + [1, 2, 4, 8, LONG_SECONDS, LONG_SECONDS]


def test_an_answer_ends_a_pause_that_was_guessed() -> None:
    bench = Bench()
    bench.refused_in_turn(7)
    bench.now = bench.desk.closed_until + 0.01
    slow = bench.send()
    assert bench.refuse(bench.send()) == LONG_SECONDS
    bench.desk.answered(slow)
    assert bench.desk.closed_until - bench.now == SHORT_SECONDS
    assert bench.refused_in_turn(1) == [SHORT_SECONDS]


def test_an_answer_does_not_end_a_pause_that_the_endpoint_asked_for() -> None:
    bench = Bench()
    bench.refused_in_turn(7)
    bench.now = bench.desk.closed_until + 0.01
    slow, refused = bench.send(), bench.send()
    assert bench.refuse(bench.send()) == LONG_SECONDS
    assert bench.refuse(refused, 30.0) == 30.0
    bench.desk.answered(slow)
    assert bench.desk.closed_until - bench.now == 30.0
