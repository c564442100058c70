"""The step that tells a product's attributes from its photo and its text."""

import asyncio
import importlib
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import ClassVar

from callstream.agents.prepare.attributes import BadImage, PhotoOptions, Seen
from callstream.agents.prepare.facts import Texts, attributes_of
from callstream.agents.prepare.language import demand
from callstream.agents.prepare.lexicon import Lexicon
from callstream.agents.prepare.photo import fetched
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell, Step
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Bury, Forward, Outcome, Retry

VISION = "callstream.agents.prepare.vision"
TITLE_CHARACTERS, DESCRIPTION_CHARACTERS = 1_000, 10_000
"""Of texts that no step has made plain, so much is looked at."""


class Recognise(Step):
    """Output: an `Attributes`: brand, category, colour, size, material, each with confidence and source; what was seen.

    `texts` is the step whose output holds title and description, `field` the input's blob reference of the photo. The
    work on a photo runs in the process pool. Bury kinds: `bad-image`, `photo-missing`.
    """

    service: ClassVar[str] = "prepare"
    harmless: ClassVar[bool] = True

    def __init__(
        self,
        lexicon: Lexicon,
        name: str = "recognise",
        field: str = "photo",
        texts: str = "normalise",
        options: PhotoOptions | None = None,
    ) -> None:
        self.name = name
        self.lexicon = lexicon
        self.field = field
        self.texts = texts
        self.options = options or PhotoOptions()
        # Waiting for a place in the pool counts too, and lasts longest right after a burst.
        self.timeout_seconds = 6 * self.options.timeout_seconds
        self._places = asyncio.Semaphore(self.options.concurrency)
        self._tools: Tools | None = None
        self._look: Callable[[bytes, PhotoOptions], Seen] | None = None

    def load(self) -> None:
        """Import what reads photos. Raises MissingExtra."""
        demand("vision", "PIL", "numpy", "cv2", "onnxruntime", "rapidocr")
        # By name: this module must be importable without the extra, and the import is the function's way to the pool.
        self._look = importlib.import_module(VISION).look

    async def open(self, tools: Tools) -> None:
        """Import what reads photos, if that was not done. Raises MissingExtra."""
        if self._look is None:
            await asyncio.to_thread(self.load)
        self._tools = tools

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Look at the photo, if there is one, and weigh what was seen against what is written."""
        reference = event.input.get(self.field)
        written = event.body.outputs.get(self.texts, event.input)
        notes: tuple[str, ...] = ()
        seen = None
        if reference is None:
            notes = ("no photo: attributes are from the text alone",)
        else:
            found = await self._see(reference)
            if not isinstance(found, Seen):
                return found
            seen, notes = found, found.notes
        texts = Texts(
            title=str(written.get("title") or "")[:TITLE_CHARACTERS],
            description=str(written.get("description") or "")[:DESCRIPTION_CHARACTERS],
            lines=seen.lines if seen else (),
        )
        attributes = attributes_of(texts, seen, self.lexicon)
        return Forward(attributes.model_dump(mode="json"), notes=notes)

    async def _see(self, reference: str) -> Seen | Outcome:
        if self._tools is None or self._look is None:
            raise RuntimeError(f"step {self.name} acts before it was opened")
        data = await fetched(self._tools, reference, self.options, self.name)
        if not isinstance(data, bytes):
            return data
        try:
            async with self._places, asyncio.timeout(self.options.timeout_seconds):
                return await self._tools.run(self._look, data, self.options)
        except BadImage as error:
            return Bury(Failure(kind="bad-image", message=str(error), step=self.name))
        except BrokenExecutor:
            message = "the process that looked at the photo, or at another one beside it, died"
            return Retry(Failure(kind="recogniser-died", message=message, step=self.name))
        except TimeoutError:
            message = f"no answer about the photo in {self.options.timeout_seconds:g} s"
            return Retry(Failure(kind="recognition-timeout", message=message, step=self.name))
