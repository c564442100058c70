"""Going on from what an earlier request brought of an answer: which requests can, and what they are then. Pure."""

from collections.abc import Iterable

from callstream.agents.inference.admission.tokens import Estimator, Reservation
from callstream.agents.inference.call import CHAT, Call
from callstream.agents.inference.options import EndpointOptions
from callstream.streams.event import Json

# What these give a shape begins at its beginning, also where it is to go on from something.
SHAPING = frozenset({"response_format", "structured_outputs", "json_schema", "regex", "ebnf"}) | {
    f"guided_{shape}" for shape in ("json", "regex", "choice", "grammar")
}


def can_go_on(request: Json) -> bool:
    """Whether a request may have one more message, of the assistant, that its answer goes on from."""
    messages = request.get("messages")
    if not isinstance(messages, list) or request.keys() & SHAPING:
        return False
    return not messages or not isinstance(messages[-1], dict) or messages[-1].get("role") != "assistant"


def goes_on(call: Call, endpoint: EndpointOptions) -> bool:
    """Whether an endpoint may be asked to go on from what the call's earlier requests have brought."""
    may = call.stream and not call.second and call.api == CHAT
    return may and endpoint.continue_with is not None and can_go_on(call.request)


def gone_on(request: Json, begun: str) -> Json:
    """The request that goes on from what has begun."""
    return {**request, "messages": [*request["messages"], {"role": "assistant", "content": begun}]}


def reserved(estimator: Estimator, model: str, call: Call, endpoints: Iterable[EndpointOptions]) -> Reservation:
    """What a call may take, which goes on from its draft where one of the endpoints can; what fits none is cut.

    Of such a request nothing is to be learned by its tokens: `size` is unset.
    """
    plain = estimator.reserve(model, call.request)
    sizes = [one.context_tokens for one in endpoints if goes_on(call, one)] if call.draft.text else []
    if not sizes:
        return plain
    whole = estimator.reserve(model, gone_on(call.request, call.draft.text))
    fits = any(size is None or whole.total <= size for size in sizes)
    return Reservation(whole.tokens_in, whole.tokens_out) if fits else plain
