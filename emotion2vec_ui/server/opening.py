"""The first seconds of a server: `/health` and `/ready` answer while the application is imported.

Importing Gradio takes seconds. Until then every other request waits, and is answered as soon as
there is an application. Importing this module imports the standard library only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from emotion2vec_ui import __version__
from emotion2vec_ui.models.files import wanted_id
from emotion2vec_ui.settings import Settings

if TYPE_CHECKING:
    from emotion2vec_ui.server.access import Guard

# ASGI's own types (asgi.readthedocs.io), as Starlette names them.
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""What a caller is told to wait while no model answers."""


class StartFailed(Exception):
    """The application could not start; the log says why."""


class Opening:
    """The ASGI application that stands before the real one until that is made.

    Args:
        make: imports and makes the real one; runs once, in a thread.
        failed: called when it could not be made or started: the server is to stop.
        settings: of the program.

    Attributes:
        failure: what was raised then.
    """

    def __init__(
        self, make: Callable[[], Guard], failed: Callable[[], None], settings: Settings
    ) -> None:
        self._make = make
        self._failed = failed
        self._wanted = wanted_id(settings)
        self._prefix = settings.root_path.rstrip("/")
        self._since = time.monotonic()
        self._app: Guard | None = None
        self._life: _Life | None = None
        self._started: asyncio.Task[Guard] | None = None
        self.failure: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or has the real application answer it."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._app is None and (early := self._early(scope)) is not None:
            await _answer(early, send)
        else:
            assert self._started is not None
            app = await asyncio.shield(self._started)
            await app(scope, receive, send)

    def stop(self) -> None:
        """Finishes recognitions within a bound; blocks."""
        if self._app is not None:
            self._app.app.state.service.stop()

    # --- from start to end ---

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self._started = asyncio.create_task(self._start(scope))
        self._started.add_done_callback(self._note_failure)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._started.cancel()
        if self._life is not None:
            await self._life.end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, scope: Scope) -> Guard:
        async def inside() -> Guard:
            return self._make()

        # In a loop of its own: where none runs, Gradio makes loops and forgets to close them.
        app = await asyncio.to_thread(lambda: asyncio.run(inside()))
        self._life = _Life(app, scope)
        await self._life.begin()
        self._app = app
        return app

    def _note_failure(self, started: asyncio.Task[Guard]) -> None:
        if not started.cancelled() and started.exception() is not None:
            self.failure = started.exception()
            self._failed()

    # --- until there is an application ---

    def _early(self, scope: Scope) -> tuple[int, dict[str, Any]] | None:
        """Status and body of what can be answered now; None for what has to wait."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        match scope["path"].removeprefix(self._prefix):
            case "/health":
                return 200, {"status": "ok", "version": __version__}
            case "/ready":
                return 503, not_ready("importing", self._since, self._wanted)
        return None


def not_ready(state: str, since: float, wanted: str) -> dict[str, Any]:
    """The body of `/ready` while no model can be asked.

    Args:
        state: what is done meanwhile.
        since: when it began, by `time.monotonic`.
        wanted: id of the model that will answer.
    """
    return {
        "ready": False,
        "state": state,
        "seconds": round(time.monotonic() - since, 1),
        "model": None,
        "wanted": wanted,
        "progress": None,
        "notice": None,
    }


class _Life:
    """The lifespan of the real application, by ASGI's protocol."""

    def __init__(self, app: Guard, scope: Scope) -> None:
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._running = asyncio.create_task(self._run(app, scope))

    async def begin(self) -> None:
        """Returns when it is started.

        Raises:
            StartFailed: it could not be.
        """
        await self._to_app.put({"type": "lifespan.startup"})
        message = await self._from_app.get()
        if message["type"] != "lifespan.startup.complete":
            log.error("%s", message.get("message", ""))
            raise StartFailed

    async def end(self) -> None:
        """Returns when it is stopped."""
        await self._to_app.put({"type": "lifespan.shutdown"})
        await self._running

    async def _run(self, app: Guard, scope: Scope) -> None:
        try:
            await app(scope, self._to_app.get, self._from_app.put)
        except Exception as error:  # Starlette raises after it said that it failed
            await self._from_app.put({"type": "lifespan.startup.failed", "message": str(error)})


async def _answer(early: tuple[int, dict[str, Any]], send: Send) -> None:
    status, content = early
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
