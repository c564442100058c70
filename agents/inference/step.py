"""`Infer`: the step that asks a model. Also the pattern for steps of your own that call models."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

from pydantic import BaseModel

from callstream.agents.guidance import guided
from callstream.agents.haste import haste
from callstream.agents.inference.call import Api, Call, CallFailed, Model, Reply
from callstream.agents.inference.choice import about
from callstream.agents.inference.failures import Kind
from callstream.agents.inference.schema import BadSchema
from callstream.agents.inference.shaped import Shape, UnusableReply, corrected, response_format, shape_in, shaped
from callstream.agents.tools import Tools
from callstream.streams.chain import Attempts, Cell, Late, Step
from callstream.streams.event import Event, Failure, Json, Usage
from callstream.streams.outcome import Bury, Forward, Outcome, Retry


class NoPrompt(ValueError):
    """The task holds no request for the model; the message says where it was looked for."""


def call_id(event: Event, number: int = 1) -> str:
    """Id of the `number`-th call that a step makes for a task: the same in every attempt and after every crash.

    >>> from callstream.streams.event import Body, Submission
    >>> body = Body(submission=Submission(chain="copy", input={}), digest="0" * 64)
    >>> call_id(Event("acme", "mug-1", "copy", 1, 3, body))
    '4:acme:mug-1/3/call-1'

    A later run of the task has the same ids, so that what was paid is used; another generation has others.
    """
    generation = event.body.generation
    return f"{event.key.decode()}/{event.sequence}/call-{number}" + (f"/generation-{generation}" if generation else "")


def outcome_of(failure: CallFailed, step: str) -> Outcome:
    """What a failed call means for its step: another attempt after a pause if one may help, else the dead letters."""
    told = Failure(kind=failure.kind, message=failure.message[:2000], step=step)
    usage = Usage(endpoint=failure.endpoint) if failure.endpoint else None
    return Retry(told, failure.after_seconds, usage) if failure.retryable else Bury(told, usage=usage)


def prompted(event: Event) -> Json:
    """The default `request`: `messages` and `parameters` from the output of a step named `prompt`. Raises NoPrompt."""
    prompt = event.body.outputs.get("prompt", {})
    messages, parameters = prompt.get("messages"), prompt.get("parameters")
    if not isinstance(messages, list) or not messages:
        raise NoPrompt('outputs["prompt"]["messages"] is missing or empty: a step named "prompt" has to write it')
    return {**(parameters if isinstance(parameters, dict) else {}), "messages": messages}


class Asking(Step):
    """A step that asks the endpoints of one pool, and keeps the receipts of that."""

    pool: str
    service: ClassVar[str] = "infer"
    remembers: ClassVar[bool] = True
    _model: Model | None = None

    @property
    def queue(self) -> str:
        """Its pool."""
        return self.pool

    async def open(self, tools: Tools) -> None:
        """Take the model."""
        self._model = tools.model

    def call_for(self, event: Event, state: Cell, request: Json, number: int = 1) -> Call:
        """Its `number`-th call for a task, as the task has it: for whom, until when, how urgent, what rules see."""
        return Call(
            id=call_id(event, number),
            tenant=event.tenant,
            task=event.task,
            pool=self.pool,
            request=request,
            cell=state,
            deadline=event.deadline,
            traceparent=event.traceparent,
            priority=event.priority,
            again=event.attempt > 1,
            about=partial(about, event, self.name),
        )

    async def send(self, call: Call) -> Reply:
        """Ask. Raises CallFailed, and RuntimeError before `open`."""
        if self._model is None:
            raise RuntimeError(f"step {self.name}: act before open")
        return await self._model(call)

    async def data(self, event: Event, state: Cell, api: Api, request: Json) -> Reply | Outcome:
        """The answer of another API than chat, or what follows where there is none."""
        call = self.call_for(event, state, request)
        try:
            return await self.send(replace(call, api=api, timeout_seconds=self.timeout_seconds))
        except CallFailed as failure:
            return outcome_of(failure, self.name)


@dataclass(eq=False, kw_only=True)
class Infer(Asking):
    """Ask a model of a pool, and keep its answer as the step's output.

    `request` makes the body of an OpenAI chat completion from the event, without `model` (the pool's endpoints know
    theirs); by default `messages` and `parameters` come from the output of a step named `prompt`. `params` joins
    every request (`{"temperature": 0.4, "max_tokens": 300}`); what `request` sets wins. `parse` makes the output from
    the text and the event; by default the output is `{"text": …, "finish_reason": …}`. A `parse` that raises
    UnusableReply has the model asked again, `asks` times in all.

        Infer(name="copy", pool="copywriter", params={"temperature": 0.4})

        def as_title(text: str, event: Event) -> Json:
            title = text.strip().splitlines()[0]
            if len(title) > 60:
                raise UnusableReply(f"a title of {len(title)} characters")
            return {"title": title}

        Infer(name="title", pool="copywriter", request=title_request, parse=as_title, asks=3)

    A step or a reviewer that sends the task back here for a better text (`Moderate(regenerate=…)`) is heard: the
    request then ends with the text from before and what was said about it.

    `answer` is a pydantic model that the answer has to fit: its JSON schema goes with the request as `response_format`,
    and the output is what the model makes of it. Or it names the step that wrote the prompt: then it is the schema of
    that one's template, if it has one. An answer that does not fit is asked for once more, with what was wrong with it
    (`asks` says how often in all); each answer is paid for, counted and told in the notes.

        class Intent(BaseModel):
            label: Literal["refund", "delivery", "other"]
            confidence: Annotated[float, Field(ge=0, le=1)]

        Infer(name="intent", pool="classifier", request=intent_request, answer=Intent)

    `stream` has the answer asked for piece by piece. What has come of it is *kept* once a second: a crash, or an
    endpoint that breaks off, does not lose it, and an endpoint with `continue_with` goes on from it. *shown*: those who
    follow the task see it as it grows, before any later step has judged it.

        Infer(name="copy", pool="copywriter", stream="kept")
        Infer(name="draft", pool="copywriter", stream="shown")

    Where the pool would answer after the task's deadline, the call is not made. `late` says what then: another pool is
    asked, a cheaper or faster one, and the task goes on without an output, where it would be buried. `late_pool` and
    `skip_late` say the same:

        Infer(name="polish", pool="large", late=Late(pool="small", skip=True))
        Infer(name="polish", pool="large", late_pool="small", skip_late=True)

    A step of your own that calls models does the same. Its service needs a table for its receipts, or simply be
    `infer`; each call it makes for a task gets an id of its own, which must not depend on the attempt:

        class Translate(Step):
            service = "infer"

            async def open(self, tools: Tools) -> None:
                self._model = tools.model

            async def act(self, event: Event, state: Cell) -> Outcome:
                call = Call(
                    id=call_id(event), tenant=event.tenant, task=event.task, pool="translator",
                    request={"messages": [{"role": "user", "content": event.body.outputs["copy"]["text"]}]},
                    cell=state, deadline=event.deadline, traceparent=event.traceparent, priority=event.priority,
                )
                try:
                    reply = await self._model(call)
                except CallFailed as failure:
                    return outcome_of(failure, self.name)
                return Forward({"text": reply.text}, reply.usage, reply.notes)
    """

    name: str
    pool: str
    request: Callable[[Event], Json] = prompted
    parse: Callable[[str, Event], Json] | None = None
    params: Json = field(default_factory=dict)
    answer: type[BaseModel] | str | None = None
    asks: int | None = None
    attempts: Attempts = field(default_factory=Attempts)
    timeout_seconds: float = 60.0
    late_pool: str | None = None
    skip_late: bool = False
    late: Late | None = None
    expected_seconds: float | None = None
    stream: Literal["kept", "shown"] | None = None

    def __post_init__(self) -> None:
        if self.stream not in (None, "kept", "shown"):
            raise ValueError(f"step {self.name}: stream is {self.stream!r}; 'kept' and 'shown' are allowed")
        if self.answer is not None and self.parse is not None:
            raise ValueError(f"step {self.name}: either answer or parse makes the output")
        self._asks = self.asks if self.asks is not None else (1 if self.answer is None else 2)
        if not 1 <= self._asks <= 8:
            raise ValueError(f"step {self.name}: asks is {self.asks}; 1 to 8 are allowed")
        if self.late_pool is not None or self.skip_late:
            if self.late is not None:
                raise ValueError(f"step {self.name}: say with late alone what late_pool and skip_late would")
            self.late = Late(pool=self.late_pool, skip=self.skip_late)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Ask until an answer can be used; then forward it."""
        try:
            request = self._request(event)
        except NoPrompt as error:
            return Bury(Failure(kind="no-prompt", message=str(error), step=self.name))
        spent: list[Reply] = []
        unusable = ""
        for number in range(1, self._asks + 1):
            try:
                reply = await self._ask(event, state, request, number)
            except CallFailed as failure:
                if failure.kind == Kind.DEADLINE and self.late is not None and self.late.skip:
                    return _forward({}, spent, f"{self.name} was skipped: {failure.message}")
                return outcome_of(failure, self.name)
            spent.append(reply)
            try:
                output = self._output(reply, event)
            except UnusableReply as error:
                unusable = str(error)[:1000]
                if self.answer is not None:
                    request = corrected(request, reply.text, unusable)
                continue
            return _forward(output, spent, *([f"asked again: {unusable}"] if unusable else ()))
        told = Failure(kind="unusable-reply", message=f"{self._asks} answers, the last: {unusable}", step=self.name)
        return Bury(told, usage=_forward({}, spent).usage)

    async def rehearse(self, event: Event) -> Json:
        """The request that it would send, and to which pool; an answer that was paid for would be used instead."""
        try:
            request = self._request(event)
        except NoPrompt as error:
            return {"would_fail": {"kind": "no-prompt", "message": str(error)}}
        return {"would_send": {"pool": self.pool, "call": call_id(event), "request": request}}

    def _request(self, event: Event) -> Json:
        shape = self._shape(event)
        asked = {} if shape is None else {"response_format": response_format(shape)}
        return guided({**asked, **self.params, **self.request(event)}, event, self.name)

    def _shape(self, event: Event) -> Shape | None:
        if not isinstance(self.answer, str):
            return self.answer
        try:
            return shape_in(event.body.outputs.get(self.answer, {}))
        except BadSchema as error:
            raise NoPrompt(f"the shape of the answer, in the output of step {self.answer!r}: {error}") from None

    async def _ask(self, event: Event, state: Cell, request: Json, number: int) -> Reply:
        call = replace(
            self.call_for(event, state, request, number),
            timeout_seconds=self.timeout_seconds,
            first=self.late is not None and self.late.first,
            needs_seconds=haste().needs_seconds if self.late is not None else 0.0,
            repair=number > 1,
            stream=self.stream is not None,
            shown=self.stream == "shown",
        )
        if self.late is None or self.late.pool is None:
            return await self.send(call)
        # A call of its own, with a receipt of its own; how long that pool takes is not known.
        late = replace(call, id=call_id(event, self._asks + number), pool=self.late.pool, needs_seconds=0.0)
        if haste().short:
            return await self.send(late)
        try:
            return await self.send(call)
        except CallFailed as failure:
            if failure.kind != Kind.DEADLINE:
                raise
            return await self.send(late)

    def _output(self, reply: Reply, event: Event) -> Json:
        if (shape := self._shape(event)) is not None:
            return shaped(reply.text, shape)
        if self.parse is not None:
            return self.parse(reply.text, event)
        return {"text": reply.text, "finish_reason": reply.finish_reason}


def _forward(output: Json, spent: list[Reply], *notes: str) -> Forward:
    """The output with the usage and notes of all answers, those that could not be used too."""
    if not spent:
        return Forward(output, notes=notes)
    last = spent[-1].usage
    sums = {
        name: sum(getattr(reply.usage, name) for reply in spent)
        for name in ("calls", "repeated", "tokens_in", "tokens_out")
    }
    said = (*notes, *(note for reply in spent for note in reply.notes))
    return Forward(output, last.model_copy(update=sums), said[:32])
