from mode.utils.queues import FlowControlQueue

from callstream.streams.flow import SteadyFlow


def test_what_came_while_it_flowed_stays_when_the_flow_is_resumed_once_more() -> None:
    flow = SteadyFlow()
    queue: FlowControlQueue[str] = FlowControlQueue(flow_control=flow, clear_on_resume=True)
    flow.resume()
    queue.put_nowait("first")
    flow.resume()
    assert queue.get_nowait() == "first"


def test_what_was_left_from_before_a_suspension_goes() -> None:
    flow = SteadyFlow()
    queue: FlowControlQueue[str] = FlowControlQueue(flow_control=flow, clear_on_resume=True)
    flow.resume()
    queue.put_nowait("stale")
    flow.suspend()
    flow.resume()
    assert queue.empty()
    assert flow.is_active()
