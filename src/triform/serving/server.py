"""The life of a server: listen, load, answer, drain.

The server listens before the models are loaded, so that a probe learns that they are loading. A signal to stop makes it
unready at once; what runs ends within `shutdown_timeout`; a second signal ends everything.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import uvicorn

from triform.errors import InputError
from triform.serving.admission import Admission
from triform.serving.app import make_app
from triform.serving.executor import Executor
from triform.serving.metrics import Metrics
from triform.serving.models import Registry
from triform.serving.protocol import LimitedProtocol
from triform.serving.settings import Settings
from triform.serving.state import State, Status

log = logging.getLogger("triform.serving")

POOL_THREADS = 2
"""Threads for tokenizing: the kernels use the other cores."""


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@dataclass(kw_only=True)
class Server:
    """A server of models over HTTP.

    Arguments:
        settings: of the server.
        load: loads the models; called on a thread, once the server listens.
        on_ready: called with the registry and the address once the server takes requests.
    """

    settings: Settings
    load: Callable[[], Registry]
    on_ready: Callable[[Registry, str], None] = lambda registry, address: None
    _num_signals: int = field(default=0, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _has_died: bool = field(default=False, init=False)

    def run(self) -> int:
        """Serve until a signal to stop, and return the exit code.

        Raises:
            InputError: the address cannot be listened on.
            TriformError: a model cannot be loaded.
        """
        return asyncio.run(self.serve())

    def stop(self) -> None:
        """Drain, as a signal to stop does; at the second call end at once. May be called on the event loop alone."""
        self._num_signals += 1
        self._stop.set()

    async def serve(self) -> int:
        """Serve on the running event loop; as `run`."""
        loop = asyncio.get_running_loop()
        listening = _listen(self.settings.host, self.settings.port)
        with ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="triform-pool") as pool:
            state = State(
                settings=self.settings,
                status=Status(),
                registry=Registry([]),
                executor=Executor([], self._deliver(loop)),
                admission=Admission(self.settings.max_requests, self.settings.max_queued_tokens),
                metrics=Metrics(),
                pool=pool,
            )
            config = uvicorn.Config(
                make_app(state),
                http=LimitedProtocol,
                ws="none",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=int(self.settings.keep_alive),
                timeout_graceful_shutdown=None,
            )
            listener = _Listener(config)
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                    loop.add_signal_handler(number, self.stop)
            serving = asyncio.ensure_future(listener.serve(sockets=[listening]))
            try:
                await self._load(state, loop)
                host, port = listening.getsockname()[:2]
                self.on_ready(state.registry, f"http://{f'[{host}]' if ':' in host else host}:{port}")
                await self._stop.wait()
                await self._drain(state)
            finally:
                listener.should_exit = True
                listener.force_exit = True
                await serving
                if state.executor.is_alive:
                    state.executor.stop()
        return 1 if self._has_died else 0

    async def _load(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        """Load the models on a thread, and begin to take requests."""
        has_loaded = asyncio.Event()
        loading = loop.run_in_executor(None, self.load)
        loading.add_done_callback(lambda _: has_loaded.set())
        waiting = [asyncio.ensure_future(event.wait()) for event in (has_loaded, self._stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        if not loading.done():
            return
        state.registry = loading.result()
        settings, deliver = self.settings, self._deliver(loop)
        state.executor = Executor(
            list(state.registry.models.values()),
            deliver,
            max_running=settings.max_running,
            cache_bytes=settings.cache_bytes,
            step_goal=settings.step_goal,
            on_death=lambda: deliver(self._die, None),
        )
        state.executor.start()
        state.watch()
        state.status.problem = None

    async def _drain(self, state: State) -> None:
        """Refuse new requests, and wait for requests in flight."""
        if self._has_died:
            return
        log.info("draining: %d requests in flight", state.status.num_open)
        state.status.problem = "The server is shutting down."
        await asyncio.sleep(self.settings.drain_delay)
        limit = asyncio.get_running_loop().time() + self.settings.shutdown_timeout
        while state.status.num_open and self._num_signals < 2 and asyncio.get_running_loop().time() < limit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await state.status.is_idle.wait()

    def _die(self, _: None) -> None:
        self._has_died = True
        self._stop.set()

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> Callable[..., None]:
        def deliver(call: Callable[..., None], value: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(call, value)

        return deliver


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        InputError: the address cannot be used.
    """
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio turns off Nagle's algorithm, which delays answers by 40 ms, only for sockets that name TCP.
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise InputError(f"host={host!r}, port={port}: cannot listen there: {error.strerror or error}.") from error
    listening.setblocking(False)
    return listening
