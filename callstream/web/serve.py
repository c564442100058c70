"""The gateway's HTTP server: started before the first event, stopped after the last."""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from callstream.streams.foreseen import Foreseen
from callstream.web.options import WebOptions

log = logging.getLogger("callstream.web")


class CannotListen(Foreseen):
    """The address is taken or not allowed; the message says which setting to change."""


class WebServer:
    """Serves one application at the address of its options."""

    def __init__(self, application: web.Application, options: WebOptions) -> None:
        self._options = options
        http_log = logging.getLogger("callstream.web.http")
        http_log.addFilter(worth_a_line)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=3.0, logger=http_log
        )

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        await self._runner.setup()
        options = self._options
        try:
            await web.TCPSite(self._runner, options.host, options.port).start()
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotListen(f"cannot listen on {options.host}:{options.port}: {reason}; set web.port") from None
        log.info("listening on http://%s:%d", options.host, options.port)

    async def stop(self) -> None:
        """Close every connection."""
        await self._runner.cleanup()


def worth_a_line(record: logging.LogRecord) -> bool:
    """False for what is no HTTP: it is answered with 400, anybody can send it, and aiohttp's line would quote it."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)
