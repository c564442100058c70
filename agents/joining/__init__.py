"""Sub-tasks and the step that takes what becomes of them."""

from callstream.agents.joining.step import Join, Take

__all__ = ["Join", "Take"]
