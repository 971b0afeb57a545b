"""A real server on the loopback, in a thread of the test's process."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triform.serving.models import Registry
from triform.serving.server import Server
from triform.serving.settings import Settings


@dataclass
class Running:
    """A server that answers."""

    url: str
    registry: Registry


class ServerThread:
    """Runs a server; a context manager of `Running`."""

    def __init__(self, load: Callable[[], Registry], **settings: Any) -> None:
        self._is_ready = threading.Event()
        self._running: Running | None = None
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self.server = Server(settings=Settings(**{"port": 0, **settings}), load=load, on_ready=self._set_ready)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self.server.serve())
        except BaseException as error:
            self._error = error
            self._is_ready.set()

    def _set_ready(self, registry: Registry, url: str) -> None:
        self._running = Running(url, registry)
        self._is_ready.set()

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._is_ready.wait(60)
        if self._error is not None:
            raise self._error
        assert self._running is not None
        return self._running

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self.server.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()
