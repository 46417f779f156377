"""The process: port open at once, model loaded beside it, requests until a signal, then a drain."""

import asyncio
import logging
import os
import signal
from functools import partial

import uvicorn

from engines.huggingface.app import build_app
from engines.huggingface.front import Front
from engines.huggingface.loaded import Loaded, LoadError
from engines.huggingface.options import Options

_log = logging.getLogger("penstock.engine")
_STOP_TIMEOUT_S = 10.0


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: a drain must still answer while it lasts."""

    def install_signal_handlers(self) -> None:
        """None: `serve` installs its own."""

    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's is an untyped generator context
        """None: `serve` installs its own."""
        return _nothing()


class _nothing:  # noqa: N801  # a context that does nothing
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


async def serve(options: Options) -> int:
    """Serve until a signal or a failed load; the process's exit code."""
    front = Front(partial(_load, options), options.max_batch_size, options.max_queue, options.max_prefill_tokens)
    config = uvicorn.Config(
        build_app(front, options.model_name),
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level=options.log_level,
        timeout_keep_alive=75,
        lifespan="off",
    )
    server = _Server(config)
    serving = asyncio.create_task(_serve_or_fail(server))
    stopping = _stop_on_signals()
    front.start()
    loading = asyncio.create_task(front.loaded())
    await asyncio.wait((serving, loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if loading.done() and not loading.cancelled() and (error := loading.exception()) is not None:
        code = 1
        _log.error("%s", error, exc_info=None if isinstance(error, LoadError) else error)
    else:
        if loading.done():
            _log.info("serving %s on port %d", options.model_name, _port(server, options))
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        await _drain(front, options.drain_timeout_s)
    server.should_exit = True
    failed = await serving
    code = code or failed
    if not front.stop(_STOP_TIMEOUT_S if loading.done() else 0):
        # A thread in the middle of an import or a pass cannot be stopped, only left behind.
        logging.shutdown()
        os._exit(code)
    loading.cancel()
    return code


def _load(options: Options) -> Loaded:
    """Load the model, on the engine's thread. Importing torch takes seconds, and the port must open before
    that.
    """
    from engines.huggingface.load import load

    return load(options)


async def _serve_or_fail(server: uvicorn.Server) -> int:
    """0 when the server was told to stop, 1 when it could not listen; uvicorn has said why."""
    try:
        await server.serve()
    except SystemExit:
        return 1
    return 0


def _stop_on_signals() -> "asyncio.Future[None]":
    """Done at the first SIGTERM or SIGINT; the second ends the process on the spot."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[None] = loop.create_future()

    def received(number: int) -> None:
        if stopping.done():
            os._exit(128 + number)
        stopping.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
    return stopping


async def _drain(front: Front, timeout_s: float) -> None:
    """Take nothing new, and let what runs finish, for so long."""
    front.drain()
    try:
        async with asyncio.timeout(timeout_s):
            await front.idle()
    except TimeoutError:
        _log.warning("requests still ran after %.0f s of draining; they are cut short", timeout_s)
        front.abandon("the engine is shutting down")


def _port(server: uvicorn.Server, options: Options) -> int:
    for each in server.servers if server.started else ():
        for sock in each.sockets:
            return int(sock.getsockname()[1])
    return options.port
