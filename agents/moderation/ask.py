"""The step that asks a moderation model about texts; what follows from its scores the policies of `Moderate` say."""

from collections.abc import Sequence

from callstream.agents.inference.call import Reply
from callstream.agents.inference.step import Asking, call_id
from callstream.agents.moderation.parts import COPY_PARTS, check_parts, texts_of
from callstream.streams import strict_json
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event, Json
from callstream.streams.outcome import Forward, Outcome

MOST_ANSWER_BYTES = 1024 * 1024
NOTHING: Json = {"flagged": False, "categories": [], "scores": {}, "parts": {}}


class AskModeration(Asking):
    """Ask a pool of moderation endpoints (OpenAI's `/moderations`) about the `parts` that `Moderate` would judge.

    Output: `{"flagged", "categories", "scores", "parts"}`: whether any text is flagged, every category that one is in,
    the highest score of each category, and the same of each part. A task without any text is not asked about.

        AskModeration(pool="moderation"),
        Moderate(rules="mine.toml"),

        [[policies]]
        id = "violent"
        when = 'outputs.safety.scores.violence > 0.8'
        verdict = "reject"

    Raises ValueError for parts that are none.
    """

    def __init__(
        self, pool: str, name: str = "safety", parts: Sequence[str] = COPY_PARTS, attempts: Attempts | None = None
    ) -> None:
        check_parts(name, parts)
        self.name, self.pool = name, pool
        self.attempts = attempts or Attempts()
        self._parts = tuple(parts)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Ask about all texts at once."""
        texts = dict(texts_of(event, self._parts))
        if not texts:
            return Forward(NOTHING)
        reply = await self.data(event, state, "moderations", _request(texts))
        if not isinstance(reply, Reply):
            return reply
        results = strict_json.loads(reply.text.encode(), MOST_ANSWER_BYTES)["results"]
        if len(results) != len(texts):
            raise ValueError(f"{len(results)} results for {len(texts)} texts")
        parts = dict(zip(texts, results, strict=True))
        scores: dict[str, float] = {}
        for result in results:
            for category, score in result["scores"].items():
                scores[category] = max(score, scores.get(category, 0.0))
        output = {
            "flagged": any(result["flagged"] for result in results),
            "categories": sorted({category for result in results for category in result["categories"]}),
            "scores": scores,
            "parts": parts,
        }
        return Forward(output, reply.usage, reply.notes)

    async def rehearse(self, event: Event) -> Json:
        """What it would ask."""
        texts = dict(texts_of(event, self._parts))
        if not texts:
            return {"output": NOTHING}
        return {"would_send": {"pool": self.pool, "call": call_id(event), "request": _request(texts)}}


def _request(texts: dict[str, str]) -> Json:
    return {"input": list(texts.values())}
