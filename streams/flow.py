"""Faust's switch between the consumer and all queues of an app, which must not empty them while they fill."""

from mode.utils.queues import FlowControlEvent


class SteadyFlow(FlowControlEvent):
    """Empties the queues when the flow begins, and leaves them alone when it already flows.

    Faust resumes at every stage of a recovery. Each time it threw away what had come since the stage before: the first
    records of a standby's changelog, so that a table that was later promoted lacked rows, and events that nobody read
    again.
    """

    def resume(self) -> None:
        """Let it flow."""
        if not self.is_active():
            super().resume()
