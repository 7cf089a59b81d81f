"""The API on a Ray cluster, by Ray Serve: what `deploy/ray/` starts.

Three deployments, and one outputs folder that all of their machines see:

- Gateway takes the requests and checks who calls, as `access` does everywhere. It sends each on,
  and once more where the process that had it is lost.
- Recognition, as many replicas as the queue needs: each has the model and recognises.
- Records, one replica: jobs, results, history and lab, which one process does at a time.

All three run the application that one server runs, without its page.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from emotion2vec_ui import __version__, logs
from emotion2vec_ui.batch.bulk import wait_for_model
from emotion2vec_ui.errors import EmotionError, JobTooLarge, QueueFull, ReplicaLost
from emotion2vec_ui.models.files import wanted_id
from emotion2vec_ui.server.access import CALLER, SAFE_METHODS, Guard, error_response, language
from emotion2vec_ui.server.app import Part, create_api
from emotion2vec_ui.server.jobs import FORM_BYTES_PER_FILE
from emotion2vec_ui.server.opening import RETRY_AFTER_S, not_ready
from emotion2vec_ui.settings import Settings, prepare_torch

if TYPE_CHECKING:
    from ray.serve import Application

log = logging.getLogger(__name__)

RECOGNISING = frozenset({"/api/predict", "/api/predict/", "/api/robustness", "/ready", "/health"})
"""Paths that Recognition answers, of any method; Records answers all others."""

DEPLOYMENTS = GATEWAY, RECOGNITION, RECORDS = "Gateway", "Recognition", "Records"

TRIES = 3
"""Replicas that one request is sent to: a request that itself ends each of them ends no more."""

READY_S = 5.0
"""How long `/ready` waits for a replica; there is none while all of them load their model."""

STOP_S = 40.0
"""What a replica is given to finish what it does: more than `app` needs at its end."""

CHUNKS = 4
"""Messages of an answer that wait to be sent."""

SCOPE = (
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string",
    "root_path", "headers", "client", "server",
)  # fmt: skip
"""What of a request's scope is sent to a replica; the rest belongs to the process it came to."""


def build(args: dict[str, str]) -> Application:
    """The application of a Serve config, or of `serve run`.

    Args:
        args: "flags": those of `app.py`, as one would type them.

    Raises:
        UsageError: a flag is unknown or a value cannot be used.
    """
    from ray import serve

    settings = Settings.load(shlex.split(args.get("flags", "")), os.environ)

    def gateway() -> Guard:
        return Guard(Gateway(settings), settings)  # type: ignore[arg-type]  # it has `routes`

    common: dict[str, Any] = {"graceful_shutdown_timeout_s": STOP_S, "health_check_period_s": 5}
    waiting = {"max_queued_requests": settings.max_queue}
    recognition = serve.deployment(
        Replica,
        name=RECOGNITION,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=8,
        autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 4},
        **common,
        **waiting,
    )
    records = serve.deployment(
        Replica,
        name=RECORDS,
        ray_actor_options={"num_cpus": 0.5},
        max_ongoing_requests=100,
        **common,
        **waiting,
    )
    door = serve.deployment(
        serve.ingress(gateway)(),
        name=GATEWAY,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=1000,
        **common,
    )
    return door.bind(
        recognition.bind(settings, "recognition"),
        records.bind(settings, "records"),
    )


class Replica:
    """The application without page and guard, which the Gateway stands for.

    Args:
        settings: of the program.
        part: what it does.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, settings: Settings, part: Part
    ) -> None:
        # Ray sets it to 1 for an actor that is given a core or less; the model may use all.
        os.environ.pop("OMP_NUM_THREADS", None)
        prepare_torch()
        logs.configure(settings.log_format)
        self._app = create_api(settings, part)
        self._holder = self._app.state.service.holder
        self._life = contextlib.AsyncExitStack()
        await self._life.enter_async_context(self._app.router.lifespan_context(self._app))
        # A new replica is sent requests once it can answer them.
        await anyio.to_thread.run_sync(wait_for_model, self._holder, lambda: False)

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        """The application's answer to one request, as the messages of ASGI."""
        sending, sent = anyio.create_memory_object_stream[Message](CHUNKS)
        gone = asyncio.Event()
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if given:
                return given.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            try:
                await sending.send(message)
            except anyio.BrokenResourceError:
                raise OSError("the caller is gone") from None

        async def run() -> None:
            with sending:
                await self._app(scope, receive, send)

        running = asyncio.create_task(run())
        # Starlette answers what goes wrong, and then raises it for the server's log.
        running.add_done_callback(_tell)
        try:
            with sent:
                async for message in sent:
                    yield message
        finally:
            gone.set()

    async def check_health(self) -> None:
        """Raises ModelError where no model answers: Ray then starts another replica."""
        status = self._holder.status()
        if status.answering is None and status.error is not None:
            raise status.error

    async def __del__(self) -> None:
        # Ray calls it after the last answer, and once only.
        await self._life.aclose()


class Gateway:
    """The ASGI application that sends requests on.

    Args:
        settings: of the program.

    Attributes:
        routes: of the application, by which a guard knows what a request may send.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._not_ready_since: float | None = None
        api = create_api(settings, "recognition")
        self._bounds = api.state.service.jobs.bounds
        self.routes = api.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
            # Here, and not by a replica that may have too much to do.
            body = {"status": "ok", "version": __version__}
            await JSONResponse(body)(scope, receive, send)
        else:
            try:
                if scope["path"] == "/ready":
                    await self._ready(scope, receive, send)
                else:
                    await self._pass_on(scope, await self._whole(receive), send)
            except ClientDisconnect:
                return
            except EmotionError as error:
                lang = language(Headers(scope=scope), self._settings)
                await error_response(error, lang)(scope, receive, send)

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whether there is a replica with a model.

        Raises:
            QueueFull: it cannot be asked.
        """
        try:
            with anyio.fail_after(READY_S):
                await self._pass_on(scope, b"", send)
            self._not_ready_since = None
        except (TimeoutError, ReplicaLost):
            self._not_ready_since = self._not_ready_since or time.monotonic()
            body = not_ready("loading", self._not_ready_since, wanted_id(self._settings))
            answer = JSONResponse(body, 503, {"Retry-After": str(RETRY_AFTER_S)})
            await answer(scope, receive, send)

    async def _whole(self, receive: Receive) -> bytes:
        """A request's body: it may have to be sent twice. The guard limits all bodies but a job's.

        Raises:
            JobTooLarge: it is longer than any request may be.
            ClientDisconnect: the caller is gone.
        """
        parts, held = [], 0
        limit_bytes = self._bounds.bytes + FORM_BYTES_PER_FILE * self._bounds.files
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            held += len(parts[-1])
            if held > limit_bytes:
                limit_mb = self._settings.max_job_mb
                raise JobTooLarge(limit_files=self._bounds.files, limit_mb=limit_mb)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        """Has a replica answer, and another one where it is lost before it began to.

        Raises:
            QueueFull: too many wait already.
            ReplicaLost: and the request is not to be sent again.
        """
        from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError
        from ray.serve import get_deployment_handle
        from ray.serve.exceptions import BackPressureError

        recognises = scope["path"] in RECOGNISING
        handle = get_deployment_handle(RECOGNITION if recognises else RECORDS)
        wanted = {name: scope[name] for name in SCOPE if name in scope}
        wanted["state"] = {CALLER: scope["state"].get(CALLER, "")}
        tries = TRIES if recognises or scope["method"] in SAFE_METHODS else 1
        while True:
            began = False
            answer = handle.options(stream=True).answer.remote(wanted, body)
            try:
                async for message in answer:
                    began = True
                    await send(message)
                return
            except BackPressureError as error:
                limit = self._settings.max_queue
                raise QueueFull(waiting=limit, limit=limit, retry_after_s=RETRY_AFTER_S) from error
            except (ActorDiedError, ActorUnavailableError, ObjectLostError) as error:
                tries -= 1
                log.warning("%s: a replica was lost: %s", scope["path"], error)
                if began:
                    raise  # half an answer is none: the connection ends
                if not tries:
                    raise ReplicaLost(retry_after_s=RETRY_AFTER_S) from error
            finally:
                answer.cancel()  # where the caller is gone; else it has ended


def _tell(running: asyncio.Task[None]) -> None:
    if not running.cancelled() and (error := running.exception()) is not None:
        log.debug("raised after the answer", exc_info=error)
