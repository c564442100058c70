"""What the web counts. Every label has few values: routes and chains that exist, known methods, status codes."""

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """The counters of one gateway in the registry of its process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "callstream_web_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "callstream_web_request_seconds", "Until the answer ended", ["route"], registry=registry, buckets=_BUCKETS
        )
        self.streams = Gauge("callstream_web_streams", "Clients that wait or stream now", ["kind"], registry=registry)
        self.lagged = Counter(
            "callstream_web_lagged", "Clients dropped since they read too slowly", ["kind"], registry=registry
        )
        self.submissions = Counter(
            "callstream_web_submissions", "Submissions by what came of them", ["chain", "answer"], registry=registry
        )

    def middleware(self) -> Middleware:
        """Counts and times every request, by the route that it took."""

        @web.middleware
        async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            status = 500
            try:
                response = await handler(request)
                status = response.status
                return response
            except web.HTTPException as redirect:
                status = redirect.status
                raise
            finally:
                resource = request.match_info.route.resource
                route = resource.canonical if resource is not None else "unmatched"
                method = request.method if request.method in _METHODS else "other"
                self.requests.labels(method, route, str(status)).inc()
                self.seconds.labels(route).observe(time.perf_counter() - began)

        return measure
