"""The terminal: what is shown there may hold texts of models and of callers, and none of them may steer it."""

from collections.abc import Iterable

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
# They turn the text around them, so that it reads otherwise than it is.
_TURNING = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
_SHOWN_OTHERWISE = _CONTROLS | _TURNING


class Console(RichConsole):
    """Rich's console, which takes markup out of the texts that it is given, and leaves escape sequences in them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments, with a mark in the place of each character that is a command to a terminal."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(segment.text.translate(_SHOWN_OTHERWISE), segment.style)
