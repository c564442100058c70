from callstream.agents.usual import LEAST_SEEN, MOST_SEEN, Usual
from tests.support.events import Say


def test_what_a_step_declares_is_believed() -> None:
    usual, step = Usual(), Say("facts", "prepare")
    step.expected_seconds = 2.5
    for _ in range(MOST_SEEN):
        usual.learn(step, 9.0)
    assert usual.seconds(step) == 2.5


def test_what_is_usual_is_known_after_some_and_forgotten_after_many() -> None:
    usual, step, other = Usual(), Say("facts", "prepare"), Say("facts", "prepare")
    for _ in range(LEAST_SEEN - 1):
        usual.learn(step, 1.0)
    assert usual.seconds(step) == 0.0
    usual.learn(step, 1.0)
    assert (usual.seconds(step), usual.seconds(other)) == (1.0, 0.0)
    for seconds in range(MOST_SEEN):
        usual.learn(step, float(seconds))
    assert usual.seconds(step) == 57.0


def test_a_single_slow_one_is_not_what_is_usual() -> None:
    usual, step = Usual(), Say("facts", "prepare")
    for seconds in (1.0,) * 9 + (500.0,):
        usual.learn(step, seconds)
    assert usual.seconds(step) == 1.0
