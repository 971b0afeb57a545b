"""The HTTP protocol of uvicorn with limits on headers: their size, and the time in which they must arrive."""

import asyncio
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES = 64 << 10
HEADER_SECONDS = 15.0


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose client must send the headers of each request within limits; it is closed otherwise."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._header_timer: TimerHandle | None = None
        self._num_header_bytes = 0
        self._reads_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reads_headers:
            self._num_header_bytes += len(data)
            if self._header_timer is None:
                self._start_timer()
        super().data_received(data)
        # Data behind the headers, such as the body, has stopped the count.
        if self._reads_headers and self._num_header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are larger than {MOST_HEADER_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._reads_headers, self._num_header_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reads_headers = True
        super().on_message_complete()

    def _start_timer(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
