"""A model call from the door to the last byte: admitted, delayed, paid, answered, with the witness beside it."""

import asyncio
import math
import time
from dataclasses import dataclass

from aiohttp import web

from callstream.stub import answering
from callstream.stub.errors import ApiError, bad_request, limited, refused_by
from callstream.stub.faults import AT_THE_DOOR, FaultKind, UnknownFaultError, choose, directed
from callstream.stub.latency import latency_seconds
from callstream.stub.limits import RateLimiter, Refusal, retry_after
from callstream.stub.options import Behaviour, StubOptions
from callstream.stub.reading import read_caller
from callstream.stub.replays import Replays
from callstream.stub.slots import Slots
from callstream.stub.witness import Call, End, Witness
from callstream.stub.work import Work

FIRST_CHUNK_SHARE = 0.3
"""Part of a stream's latency that passes before its first chunk."""
GONE_CHECK_SECONDS = 0.1
NO_ONE_LEFT = 499


@dataclass(frozen=True)
class Serving:
    """A call while it is served. It keeps the witness it began with, so that a reset does not count half of it."""

    request: web.BaseRequest
    work: Work
    call: Call
    witness: Witness

    def ended(self, end: End, tokens: int) -> None:
        """Tell the witness the last word."""
        self.witness.ended(self.call, end, tokens, time.monotonic())


class Desk:
    """Serves model calls as its behaviour has it; `behaviour` may change at any time."""

    def __init__(self, options: StubOptions) -> None:
        self.options = options
        self.behaviour = options.behaviour
        self.slots = Slots(options.concurrency, options.queue)
        self.origin_unix = time.time() - time.monotonic()
        self.reset()

    def reset(self) -> None:
        """Forget all calls, limits used and answers kept; the behaviour and the places of running calls stay."""
        self.witness = Witness(self.options.remember, self.options.calls_kept, self.origin_unix)
        self._limiter = RateLimiter()
        self._replays = Replays(self.options.answers_kept)
        self.slots.forget()

    def change(self, behaviour: Behaviour) -> None:
        """Behave otherwise from now on."""
        self.behaviour = behaviour
        self.slots.resize(behaviour.concurrency, behaviour.queue)

    async def serve(self, request: web.BaseRequest, work: Work) -> web.StreamResponse:
        """Answer a call. Raises ApiError for whatever is not 200."""
        caller = read_caller(request.headers, work.identity)
        call = self.witness.arrived(caller, request.path, time.monotonic())
        serving = Serving(request, work, call, self.witness)
        if not self.options.idempotent or caller.call_id is None:
            return await self._serve_once(serving)
        replays = self._replays
        earlier = await replays.earlier(caller.call_id)
        if earlier is not None:
            return await self._replay(serving, earlier)
        replays.begin(caller.call_id)
        try:
            return await self._serve_once(serving)
        finally:
            replays.end(caller.call_id, None)

    async def _replay(self, serving: Serving, earlier: Work) -> web.StreamResponse:
        serving.ended(End(200, replayed=True), tokens=0)
        headers = {"Idempotent-Replayed": "true"}
        return await answering.send(serving.request, earlier, headers, None, 0.0)

    async def _serve_once(self, serving: Serving) -> web.StreamResponse:
        fault: FaultKind | None = None
        try:
            fault = self._fault(serving)
            self._admit(serving, fault)
        except ApiError as error:
            serving.ended(End(error.status, fault), tokens=0)
            raise
        async with self.slots:
            try:
                return await self._work_off(serving, fault)
            except ConnectionError:
                serving.ended(End(0, fault, abandoned=True), serving.work.tokens)
                return web.Response(status=NO_ONE_LEFT)

    def _fault(self, serving: Serving) -> FaultKind | None:
        directive, call = serving.work.directives.get("fail"), serving.call
        if directive is None:
            return choose(self.behaviour.fail, self.options.seed, call.caller.task, call.attempt)
        try:
            return directed(directive, call.attempt)
        except UnknownFaultError as error:
            raise bad_request(str(error)) from None

    def _admit(self, serving: Serving, fault: FaultKind | None) -> None:
        now = time.monotonic()
        behaviour, refusal = self.behaviour, None
        if fault is FaultKind.LIMITED:
            refusal = Refusal("requests", "Rate limit reached (by fault).", behaviour.retry_after_seconds)
        elif fault in AT_THE_DOOR:
            raise refused_by(fault)
        elif self.slots.full:
            text = f"Too many calls at once: {self.slots.running} run and {self.slots.waiting} wait."
            refusal = Refusal("concurrency", text, behaviour.retry_after_seconds)
        else:
            refusal = self._limiter.admit(now, serving.work.tokens, behaviour.quota)
        if refusal is not None:
            when = retry_after(behaviour.retry_after_style, refusal.retry_after_seconds, now + self.origin_unix)
            raise limited(refusal.message, {**self._limiter.headers(now, behaviour.quota), **when})
        serving.witness.admitted(serving.work.tokens, now)

    async def _work_off(self, serving: Serving, fault: FaultKind | None) -> web.StreamResponse:
        if fault is FaultKind.HANG:
            return await self._hang(serving)
        seconds = self._latency(serving)
        before = seconds * FIRST_CHUNK_SHARE if serving.work.stream else seconds
        if before:
            await asyncio.sleep(before)
        self._pay(serving)
        if answering.is_gone(serving.request):
            raise ConnectionResetError
        headers = self._limiter.headers(time.monotonic(), self.behaviour.quota)
        rest = self.behaviour.drip_seconds if fault is FaultKind.DRIP else seconds - before
        response = await answering.send(serving.request, serving.work, headers, fault, rest)
        serving.ended(End(0 if fault is FaultKind.RESET else 200, fault), serving.work.tokens)
        return response

    def _pay(self, serving: Serving) -> None:
        serving.witness.paid(serving.call, serving.work.tokens)
        if serving.call.caller.call_id is not None:
            self._replays.end(serving.call.caller.call_id, serving.work)

    def _latency(self, serving: Serving) -> float:
        behaviour, call = self.behaviour, serving.call
        return latency_seconds(
            behaviour.median_ms / 1000, behaviour.sigma, self.options.seed, call.caller.task, call.attempt
        )

    async def _hang(self, serving: Serving) -> web.StreamResponse:
        for _ in range(math.ceil(self.behaviour.hang_seconds / GONE_CHECK_SECONDS)):
            if answering.is_gone(serving.request):
                break
            await asyncio.sleep(GONE_CHECK_SECONDS)
        serving.ended(End(0, FaultKind.HANG, abandoned=answering.is_gone(serving.request)), tokens=0)
        answering.break_off(serving.request)
        return web.Response(status=NO_ONE_LEFT)
