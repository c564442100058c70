"""Dead letters over HTTP: list and group them, look at one, and decide about it."""

import base64
import binascii
import hashlib
import re
import secrets
from typing import TypeVar
from urllib.parse import urlencode

from aiohttp import web

from callstream.agents.letters.commands import Action, Command
from callstream.agents.letters.redrive import CannotRedrive, InputRefused, edited, redriven, refusal, starts
from callstream.streams.chain import NotRehearsable
from callstream.streams.event import Event, Json
from callstream.streams.expressions import BadExpression, Expression
from callstream.streams.keys import TENANT_PATTERN, task_key
from callstream.streams.spend import totals
from callstream.tables import letters
from callstream.tables.letters import KINDS, STATES, UNREADABLE, WAITING, letter_key, summary
from callstream.web.access import CALLER
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT
from callstream.web.dead_bodies import Decision, Redrive
from callstream.web.letters import Found, Letter, Wanted, bounded, merge
from callstream.web.peers import ask_peers
from callstream.web.problems import Problem, validated
from callstream.web.proxy import HOP
from callstream.web.rows import checked_id, task_in
from callstream.web.tasks import IDEMPOTENCY_KEY, json_response

MOST_LISTED = 200
USUAL_LISTED = 50
MOST_CURSOR_CHARACTERS = 600
WAIT_SECONDS = 5.0
DONE = {Action.REDRIVE: "redriven", Action.DISCARD: "discarded", Action.EDIT: "edited"}
_TENANT = re.compile(TENANT_PATTERN.replace("$", r"\Z"))


Asked = TypeVar("Asked", bound=Decision)


async def get_dead(request: web.Request) -> web.Response:
    """GET /v1/dead?where=CEL&state=&group=cause&limit=&cursor=: letters of all tenants, on this gateway and others."""
    box = request.app[CONTEXT].port.letters
    wanted = wanted_by(request)
    group = request.query.get("group")
    if group not in (None, "cause"):
        raise Problem(400, "bad-group", "group takes 'cause'")
    if group is not None:
        return await _grouped(request, wanted)
    limit, after = _limit(request), _cursor(request)
    try:
        found = await box.find(wanted, after, limit)
    except BadExpression as error:
        raise bad_condition(error) from None
    answers = await ask_peers(request)
    for told in answers.values():
        if told is not None:
            _join(found, told)
    page = bounded(found, limit)
    return json_response(
        {
            "letters": [summary(row) for _, row in page.letters],
            "next": None if page.upto is None else _text(page.upto),
            "looked_at": page.looked_at,
            "silent_gateways": sum(told is None for told in answers.values()),
        }
    )


async def get_letter(request: web.Request) -> web.StreamResponse:
    """GET /v1/dead/{id}?tenant=&letter=: one letter with its input, its outputs, every attempt and who did what."""
    found = await _found(request)
    return found if isinstance(found, web.StreamResponse) else json_response(_shown(request, found))


async def put_input(request: web.Request) -> web.StreamResponse:
    """PUT /v1/dead/{id}/input?reason=&by=: another input for a waiting letter, checked by its chain's model."""
    raw = await _raw(request)
    why = validated(Decision, {name: request.query[name] for name in ("reason", "by") if name in request.query})
    given = parse(raw, request.app[CONTEXT].options.max_body_bytes)
    if not isinstance(given, dict):
        raise Problem(422, "invalid-input", "send the whole input, a JSON object")
    found = await _found(request, raw)
    if isinstance(found, web.StreamResponse):
        return found
    command = _command(request, Action.EDIT, found, why).model_copy(update={"input": given})
    event = _must_be_possible(request, found, command)
    try:
        edited(event, given, request.app[CONTEXT].chains)
    except InputRefused as error:
        raise Problem(422, "invalid-input", str(error)) from None
    except CannotRedrive as error:
        raise not_possible(found, "edited", str(error)) from None
    return await _decide(request, found, command)


async def post_redrive(request: web.Request) -> web.StreamResponse:
    """POST /v1/dead/{id}/redrive {from_step?, ask_again?, reason?, by?}: the task is taken up again."""
    raw = await _raw(request)
    asked = _asked(request, raw, Redrive)
    found = await _found(request, raw)
    if isinstance(found, web.StreamResponse):
        return found
    command = _redrive(request, found, asked)
    _redriven(request, found, command)
    return await _decide(request, found, command)


async def post_discard(request: web.Request) -> web.StreamResponse:
    """POST /v1/dead/{id}/discard {reason, by?}: nothing more will be done about it."""
    raw = await _raw(request)
    asked = _asked(request, raw, Decision)
    if not asked.reason:
        raise Problem(422, "invalid-input", "reason: say why nothing is to be done about it")
    found = await _found(request, raw)
    if isinstance(found, web.StreamResponse):
        return found
    if found.row["state"] != WAITING:
        raise not_possible(found, DONE[Action.DISCARD], f"it was {found.row['state']} already")
    return await _decide(request, found, _command(request, Action.DISCARD, found, asked))


async def post_dry_run(request: web.Request) -> web.StreamResponse:
    """POST /v1/dead/{id}/dry-run {from_step?}: what would happen if it were redriven; nothing does."""
    raw = await _raw(request)
    asked = _asked(request, raw, Redrive)
    found = await _found(request, raw)
    if isinstance(found, web.StreamResponse):
        return found
    event = _redriven(request, found, _redrive(request, found, asked))
    if event.body.end is not None:
        return json_response({"task": event.task, "run": event.run, "steps": [], "would": "tell its caller again"})
    if event.sequence == 0:
        raise Problem(409, "not-rehearsable", "intake would take it as it takes any submission; there is no dry run")
    try:
        steps = await request.app[CONTEXT].port.letters.rehearsal.run(event)
    except NotRehearsable as error:
        raise Problem(409, "not-rehearsable", str(error)) from None
    except TimeoutError:
        raise Problem(504, "slow-dry-run", "the dry run took too long and was stopped") from None
    return json_response({"task": event.task, "run": event.run, "steps": steps})


def wanted_by(request: web.Request) -> Wanted:
    """Which letters a request asks for. Raises Problem 400."""
    state = request.query.get("state", WAITING)
    if state != "all" and state not in STATES:
        raise Problem(400, "bad-state", f"state takes {', '.join(STATES)} or all")
    return Wanted(None if state == "all" else state, condition_of(request.query.get("where", "")))


def condition_of(text: str) -> Expression | None:
    """The condition of a request, None for an empty one. Raises Problem 400."""
    try:
        return letters.condition_of(text) if text.strip() else None
    except BadExpression as error:
        raise bad_condition(error) from None


def bad_condition(error: BadExpression) -> Problem:
    """400 for a condition that cannot be used."""
    return Problem(400, "bad-condition", f"where takes a condition in CEL, such as kind == 'refused': {error}")


def not_possible(letter: Letter, what: str, why: str) -> Problem:
    """409 for what cannot be done with a letter."""
    return Problem(409, "not-possible", f"letter {letter.row['task']!r} cannot be {what}: {why}")


def command_id(request: web.Request) -> str:
    """What tells a repeat of this request: its Idempotency-Key, or a new id."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    return secrets.token_hex(12) if key is None else "ik-" + hashlib.sha256(key.encode()).hexdigest()[:32]


def who(request: web.Request, by: str) -> str:
    """Who decides, as the audit has it: the key's tenant, behind the name that was given."""
    tenant = request[CALLER].tenant
    return f"{by} ({tenant})" if by else tenant


async def _grouped(request: web.Request, wanted: Wanted) -> web.Response:
    try:
        found, whole = await request.app[CONTEXT].port.letters.group(wanted)
    except BadExpression as error:
        raise bad_condition(error) from None
    groups = {group["cause"]: group for group in found}
    answers = await ask_peers(request)
    for told in answers.values():
        for group in (told or {}).get("groups", ()):
            merge(groups, group)
        whole = whole and (told or {}).get("complete", False)
    ordered = sorted(groups.values(), key=lambda group: (-group["letters"], group["cause"]))
    silent = sum(told is None for told in answers.values())
    return json_response({"groups": ordered, "complete": whole and not silent, "silent_gateways": silent})


async def _found(request: web.Request, raw: bytes | None = None) -> Letter | web.StreamResponse:
    """The letter of the request, or the answer of the gateway that has it. Raises Problem 404."""
    context = request.app[CONTEXT]
    tenant, task, kind = _named(request)
    here = HOP in request.headers
    owner = None if here or kind == UNREADABLE else context.port.owner(task_key(tenant, task))
    if owner is not None:
        return await context.proxy.forward(request, owner, raw or None, WAIT_SECONDS)
    letter = context.port.letters.letter(tenant, task, kind)
    if letter is not None:
        return letter
    if not here and kind in (None, UNREADABLE):
        # One that nobody could read may be with anyone.
        url = f"/v1/dead/{task}?{urlencode({'letter': UNREADABLE})}"
        for peer, told in (await ask_peers(request, url)).items():
            if told is not None:
                return await context.proxy.forward(request, peer, raw or None, WAIT_SECONDS)
    raise Problem(404, "unknown-letter", f"no dead letter of task {task!r} of tenant {tenant!r} is kept")


def _named(request: web.Request) -> tuple[str, str, str | None]:
    tenant = request.query.get("tenant", request[CALLER].tenant)
    task = task_in(request.match_info)
    kind = request.query.get("letter")
    if kind is not None and kind not in KINDS:
        raise Problem(400, "bad-letter", f"letter takes {', '.join(KINDS)}")
    if not _TENANT.match(tenant):
        raise Problem(400, "bad-tenant", "tenant is no name of a tenant")
    return tenant, checked_id(task), kind


def _shown(request: web.Request, letter: Letter) -> Json:
    row = {name: value for name, value in letter.row.items() if name not in ("redrive", "at")}
    if letter.event is None:
        return row
    body = letter.event.body
    told: Json = {"input": letter.event.input, "outputs": body.outputs, "deadline": letter.event.deadline}
    told["steps"] = [hop.model_dump(mode="json", exclude_defaults=True) for hop in body.trail]
    told |= totals(spend for hop in body.trail for spend in hop.spends)
    told["traceback"] = body.failure.traceback if body.failure is not None else ""
    try:
        told["can_begin_at"] = [] if body.end is not None else starts(letter.event, request.app[CONTEXT].chains)
    except CannotRedrive as error:
        told |= {"can_begin_at": [], "cannot_redrive": str(error)}
    return row | told


def _must_be_possible(request: web.Request, letter: Letter, command: Command) -> Event:
    """The letter's event, if it may be redriven or edited as it stands. Raises Problem 409."""
    box = request.app[CONTEXT].port.letters
    what = DONE[command.action]
    task = box.task_row(letter.partition, letter.event.key) if letter.event is not None else None
    if why := refusal(letter.row, command, task):
        raise not_possible(letter, what, why)
    if letter.event is None:
        raise not_possible(letter, what, "its event is not kept any more")
    return letter.event


def _redriven(request: web.Request, letter: Letter, command: Command) -> Event:
    event = _must_be_possible(request, letter, command)
    context = request.app[CONTEXT]
    try:
        return redriven(event, command, context.clock(), context.chains)
    except CannotRedrive as error:
        raise not_possible(letter, "redriven", str(error)) from None


async def _decide(request: web.Request, letter: Letter, command: Command) -> web.Response:
    """Hand the decision in: 200 once it is carried out, 202 if that takes longer. Raises Problem 409."""
    done = await request.app[CONTEXT].port.letters.command(letter, command, WAIT_SECONDS)
    if done is None:
        return json_response({"task": letter.row["task"], "command": command.id, "state": "accepted"}, status=202)
    if why := done.get("refused"):
        raise not_possible(letter, DONE[command.action], why)
    told = {"task": letter.row["task"], "tenant": letter.row["tenant"], "command": command.id, "done": done}
    return json_response(told | {"status_url": f"/v1/tasks/{letter.row['task']}"})


def _redrive(request: web.Request, letter: Letter, asked: Redrive) -> Command:
    more = {"from_step": asked.from_step, "ask_again": asked.ask_again}
    return _command(request, Action.REDRIVE, letter, asked).model_copy(update=more)


def _command(request: web.Request, action: Action, letter: Letter, asked: Decision) -> Command:
    row = letter.row
    return Command(
        id=command_id(request),
        action=action,
        by=who(request, asked.by),
        reason=asked.reason,
        letter=row["letter"],
        tenant=row["tenant"],
        task=row["task"],
        run=row["run"],
    )


async def _raw(request: web.Request) -> bytes:
    if not request.can_read_body:
        return b""
    return await read_as(request, request.app[CONTEXT].options.max_body_bytes, "application/json")


def _asked(request: web.Request, raw: bytes, model: type[Asked]) -> Asked:
    return validated(model, parse(raw or b"{}", request.app[CONTEXT].options.max_body_bytes))


def _join(found: Found, told: Json) -> None:
    """Take in what another gateway found."""
    for row in told.get("letters", ()):
        found.letters.append((letter_key(row["letter"], row["tenant"], row["task"]), row))
    found.looked_at += told.get("looked_at", 0)
    if (following := told.get("next")) is not None:
        upto = _bytes(following)
        found.upto = upto if found.upto is None else min(found.upto, upto)


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(USUAL_LISTED))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_LISTED):
        raise Problem(400, "bad-limit", f"limit takes 1 to {MOST_LISTED}")
    return int(text)


def _cursor(request: web.Request) -> bytes:
    text = request.query.get("cursor", "")
    try:
        if len(text) > MOST_CURSOR_CHARACTERS:
            raise ValueError("too long")
        return _bytes(text) if text else b""
    except (ValueError, binascii.Error):
        raise Problem(400, "bad-cursor", "cursor takes what an earlier answer said as 'next'") from None


def _text(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode(), altchars=b"-_", validate=True)
