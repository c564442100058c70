"""The web put together: every route with the role that it needs, around one port."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from callstream.streams.chain import Chains
from callstream.tables.profiles import MAX_PROFILE_BYTES
from callstream.web.access import guard
from callstream.web.alarms import get_alarms
from callstream.web.blobs import post_blob
from callstream.web.bodies import expect_within
from callstream.web.chains import get_chains
from callstream.web.context import CONTEXT, Context
from callstream.web.control import get_control, post_cancel, post_cancel_many, post_pause, post_resume
from callstream.web.dead import get_dead, get_letter, post_discard, post_dry_run, post_redrive, put_input
from callstream.web.dead_jobs import get_job, get_jobs, post_discard_many, post_edit_many, post_job, post_job_move
from callstream.web.events import post_event
from callstream.web.latency import get_latency
from callstream.web.metrics import Metrics
from callstream.web.options import Role, WebOptions
from callstream.web.pages import PAGES, Pages, get_home, get_static, get_task_page, html_problems
from callstream.web.pool_rules import delete_rule, get_rules, put_rule
from callstream.web.pools import get_pools
from callstream.web.port import GatewayPort
from callstream.web.problems import problems
from callstream.web.profiles import delete_profile, put_profile
from callstream.web.proxy import Proxy
from callstream.web.recent import Recent
from callstream.web.replays import post_replay
from callstream.web.review_pages import get_review_page, get_reviews_page
from callstream.web.reviews import get_review, get_reviews, post_claim, post_release, post_review
from callstream.web.schedules import (
    delete_schedule,
    get_schedule,
    get_schedules,
    pause_schedule,
    put_schedule,
    resume_schedule,
    trigger_schedule,
)
from callstream.web.socket import get_stream
from callstream.web.sse import get_events
from callstream.web.status import get_health, get_live, get_metrics, get_ready
from callstream.web.streams import Streams
from callstream.web.tables import get_row, get_rows, get_tables, get_tables_json
from callstream.web.tasks import get_task, post_task
from callstream.web.usage import get_usage


@dataclass(frozen=True, slots=True)
class Route:
    """One path with its handler; `role` None lets everyone in, `takes_bytes` is the longest body,
    `streams` says that the answer has no end of its own."""

    method: str
    path: str
    handler: Handler
    role: Role | None
    takes_bytes: int = 0
    streams: bool = False


def build_web(
    port: GatewayPort,
    options: WebOptions,
    chains: Chains,
    registry: CollectorRegistry | None = None,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """The gateway's HTTP side over `port`. `registry` holds the process's metrics; `clock` gives epoch seconds."""
    metrics = Metrics(registry or CollectorRegistry())
    context = Context(
        port=port,
        options=options,
        chains=chains,
        metrics=metrics,
        recent=Recent(options.recent_submissions, options.recent_seconds, clock),
        streams=Streams(port.updates, options, metrics),
        proxy=Proxy(options),
        clock=clock,
    )
    routes = _routes(options)
    roles: dict[tuple[str, str], Role | None] = {}
    pages = Pages()
    app = web.Application(
        middlewares=[metrics.middleware(), problems, html_problems(pages), guard(options, roles)],
        client_max_size=max(options.max_body_bytes, options.max_blob_bytes),
    )
    app[CONTEXT] = context
    app[PAGES] = pages
    for route in routes:
        expect = expect_within(route.takes_bytes)
        added = app.router.add_route(route.method, route.path, route.handler, expect_handler=expect)
        if added.resource is not None:
            roles[route.method, added.resource.canonical] = route.role
        if route.method == "GET" and not route.streams:
            app.router.add_route("HEAD", route.path, route.handler, expect_handler=expect)
    app.cleanup_ctx.append(context.proxy.run)
    app.on_response_prepare.append(_secure)
    app.on_shutdown.append(_stop_streams)
    return app


def _routes(options: WebOptions) -> tuple[Route, ...]:
    json = options.max_body_bytes
    return (
        Route("POST", "/v1/events", post_event, Role.SUBMIT, json),
        Route("POST", "/v1/blobs", post_blob, Role.SUBMIT, options.max_blob_bytes),
        Route("GET", "/v1/tasks/{id}/events", get_events, Role.SUBMIT, streams=True),
        Route("GET", "/v1/stream", get_stream, Role.SUBMIT, streams=True),
        Route("GET", "/v1/reviews", get_reviews, Role.REVIEW),
        Route("GET", "/v1/reviews/{id}", get_review, Role.REVIEW),
        Route("POST", "/v1/reviews/{id}", post_review, Role.REVIEW, json),
        Route("POST", "/v1/reviews/{id}/claim", post_claim, Role.REVIEW, json),
        Route("POST", "/v1/reviews/{id}/release", post_release, Role.REVIEW, json),
        Route("PUT", "/v1/profiles/{user}", put_profile, Role.SUBMIT, MAX_PROFILE_BYTES),
        Route("DELETE", "/v1/profiles/{user}", delete_profile, Role.SUBMIT),
        Route("GET", "/v1/schedules", get_schedules, Role.SUBMIT),
        Route("GET", "/v1/schedules/{name}", get_schedule, Role.SUBMIT),
        Route("PUT", "/v1/schedules/{name}", put_schedule, Role.SUBMIT, json),
        Route("DELETE", "/v1/schedules/{name}", delete_schedule, Role.SUBMIT),
        Route("POST", "/v1/schedules/{name}/pause", pause_schedule, Role.SUBMIT),
        Route("POST", "/v1/schedules/{name}/resume", resume_schedule, Role.SUBMIT),
        Route("POST", "/v1/schedules/{name}/trigger", trigger_schedule, Role.SUBMIT),
        Route("GET", "/v1/dead", get_dead, Role.OPERATE),
        Route("POST", "/v1/dead/redrive", post_job, Role.OPERATE, json),
        Route("POST", "/v1/dead/discard", post_discard_many, Role.OPERATE, json),
        Route("POST", "/v1/dead/edit", post_edit_many, Role.OPERATE, json),
        Route("GET", "/v1/dead/jobs", get_jobs, Role.OPERATE),
        Route("GET", "/v1/dead/jobs/{id}", get_job, Role.OPERATE),
        Route("POST", "/v1/dead/jobs/{id}/{move}", post_job_move, Role.OPERATE, json),
        Route("GET", "/v1/dead/{id}", get_letter, Role.OPERATE),
        Route("PUT", "/v1/dead/{id}/input", put_input, Role.OPERATE, json),
        Route("POST", "/v1/dead/{id}/redrive", post_redrive, Role.OPERATE, json),
        Route("POST", "/v1/dead/{id}/discard", post_discard, Role.OPERATE, json),
        Route("POST", "/v1/dead/{id}/dry-run", post_dry_run, Role.OPERATE, json),
        Route("POST", "/v1/tasks/{id}/replay", post_replay, Role.OPERATE, json),
        Route("GET", "/v1/chains", get_chains, Role.SUBMIT),
        Route("GET", "/v1/health", get_health, None),
        Route("GET", "/v1/health/live", get_live, None),
        Route("GET", "/v1/health/ready", get_ready, None),
        Route("GET", "/v1/tables", get_tables_json, Role.OPERATE),
        Route("GET", "/v1/latency", get_latency, Role.OPERATE),
        Route("GET", "/v1/usage", get_usage, Role.SUBMIT),
        Route("GET", "/v1/pools", get_pools, Role.OPERATE),
        Route("GET", "/v1/pools/rules", get_rules, Role.OPERATE),
        Route("PUT", "/v1/pools/{pool}/rules/{rule}", put_rule, Role.OPERATE, json),
        Route("DELETE", "/v1/pools/{pool}/rules/{rule}", delete_rule, Role.OPERATE, json),
        Route("GET", "/v1/alarms", get_alarms, Role.OPERATE),
        Route("GET", "/v1/control", get_control, Role.OPERATE),
        Route("POST", "/v1/control/cancel", post_cancel_many, Role.OPERATE, json),
        Route("POST", "/v1/control/pause", post_pause, Role.OPERATE, json),
        Route("POST", "/v1/control/resume", post_resume, Role.OPERATE, json),
        Route("POST", "/v1/tasks/{id}/cancel", post_cancel, Role.SUBMIT, json),
        Route("GET", "/metrics", get_metrics, Role.OPERATE),
        Route("GET", "/", get_home, Role.SUBMIT),
        Route("GET", "/tasks/{id}", get_task_page, Role.SUBMIT),
        Route("GET", "/reviews", get_reviews_page, Role.REVIEW),
        Route("GET", "/reviews/{id}", get_review_page, Role.REVIEW),
        Route("GET", "/tables", get_tables, Role.OPERATE),
        Route("GET", "/tables/{table}", get_rows, Role.OPERATE),
        Route("GET", "/tables/{table}/row", get_row, Role.OPERATE),
        Route("GET", "/static/{name:.+}", get_static, None),
        Route("GET", "/favicon.ico", get_static, None),
        Route("POST", "/v1/tasks", post_task, Role.SUBMIT, json),
        Route("GET", "/v1/tasks/{id}", get_task, Role.SUBMIT),
    )


async def _stop_streams(app: web.Application) -> None:
    app[CONTEXT].streams.stop()


async def _secure(_: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer: pages may load from this gateway only, and nothing is guessed from content."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    )
