"""The step that finds the items of an index that lie nearest to a task's texts."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from callstream.agents.matching.embed import Embed
from callstream.agents.matching.index import BadIndex, Index, read
from callstream.agents.tools import Tools
from callstream.streams.chain import Attempts
from callstream.streams.event import Event, Json

MOST_MATCHES = 100
MOST_SHOWN = 200
"""Characters of the text that a match is of."""


class Nearest(Embed):
    """Find the items of an index that lie nearest to texts in meaning.

    `index` is a file that `callstream match index` has made, `pool` the embedding endpoints that it was made by.
    Output: `{"matches": [{"score", "text", "item"}, …]}`, at most `most`, the nearest first, none below a cosine of
    `least`; an item that is near to several texts is there once, with the nearest of them.

        Nearest(
            index=Path(__file__).with_name("glossary.npz"),
            pool="embedder",
            texts=lambda event: [event.body.outputs["normalise"]["title"]],
            least=0.3,
        )

    Vectors of two models say nothing about each other: a task is buried (`vectors`) if another one has answered.
    `open` raises BadIndex for a file that is none.
    """

    def __init__(
        self,
        index: str | Path,
        pool: str,
        texts: Callable[[Event], Sequence[str]],
        name: str = "nearest",
        most: int = 5,
        least: float = 0.0,
        attempts: Attempts | None = None,
    ) -> None:
        super().__init__(pool, texts, name, attempts)
        if not 1 <= most <= MOST_MATCHES:
            raise ValueError(f"step {name}: most is {most}; 1 to {MOST_MATCHES} are allowed")
        if not -1 <= least <= 1:
            raise ValueError(f"step {name}: least is {least}; a cosine is from -1 to 1")
        self._path, self._most, self._least = Path(index), most, least
        self._index: Index | None = None

    async def open(self, tools: Tools) -> None:
        """Take the model and read the index. Raises BadIndex."""
        await super().open(tools)
        self._index = await asyncio.to_thread(read, self._path)

    def output(self, event: Event, texts: Sequence[str], vectors: Sequence[Sequence[float]], model: str) -> Json:
        """The matches. Raises BadIndex."""
        if not texts:
            return {"matches": []}
        if self._index is None:
            raise RuntimeError(f"step {self.name}: act before open")
        if model != self._index.model:
            raise BadIndex(
                f"{self._path.name} was made with the model {self._index.model!r}, and {model!r} has answered: "
                "make it again with `callstream match index`"
            )
        best: dict[int, Json] = {}
        for text, vector in zip(texts, vectors, strict=True):
            for place, score in self._index.nearest(vector, self._most, self._least):
                if place not in best or score > best[place]["score"]:
                    best[place] = {"score": score, "text": text[:MOST_SHOWN], "item": self._index.items[place]}
        return {"matches": sorted(best.values(), key=lambda match: -float(match["score"]))[: self._most]}
