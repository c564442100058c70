"""What every handler uses, built once by `callstream.web.app.build_web`."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from callstream.streams.chain import Chains
from callstream.web.metrics import Metrics
from callstream.web.options import WebOptions
from callstream.web.port import GatewayPort
from callstream.web.proxy import Proxy
from callstream.web.recent import Recent
from callstream.web.streams import Streams


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one gateway's web. `clock` gives epoch seconds."""

    port: GatewayPort
    options: WebOptions
    chains: Chains
    metrics: Metrics
    recent: Recent
    streams: Streams
    proxy: Proxy
    clock: Callable[[], float]


CONTEXT = web.AppKey("context", Context)
