"""The application that serves page, API and files, and what lives as long as it does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import warnings
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from emotion2vec_ui import __version__
from emotion2vec_ui.audio.decoding import Decoder
from emotion2vec_ui.batch.jobs import Jobs
from emotion2vec_ui.drawing.missing_view import missing_page
from emotion2vec_ui.errors import (
    BadField,
    DiskFull,
    EmotionError,
    InputError,
    ResultNotFound,
    Unavailable,
    as_known,
)
from emotion2vec_ui.lab.atlas import Atlas
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.observer import Ended
from emotion2vec_ui.pipeline.recogniser import Cancelled, Recogniser
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.server import atlas, jobs, lab, predict, results, subclasses
from emotion2vec_ui.server.access import COUNT, Guard, Limits, error_response, language
from emotion2vec_ui.server.document import describe_late
from emotion2vec_ui.server.metrics import CLIENT_GONE_STATUS, Metrics
from emotion2vec_ui.server.opening import RETRY_AFTER_S
from emotion2vec_ui.server.schemas import ANY_ERROR, ErrorFacts
from emotion2vec_ui.settings import Settings

if TYPE_CHECKING:
    import gradio

log = logging.getLogger(__name__)

STOP_WITHIN_S = 20.0
"""How long what runs may take to finish after SIGTERM."""

LEAVE_JOB_S = 5.0
"""Before that: how long the running job may take to stop; it goes on after the next start."""

LAST_ANSWERS_S = 4.0
"""After that: how long finished and refused recognitions may take to be written and answered."""

CLEANING_S = 3600.0
"""Between two looks for old results."""

GZIP_LEVEL = 6
GZIP_THREAD_BYTES = 32_768
"""From this size on a worker compresses: 32 kB take the event loop about 1 ms."""

UPLOAD_PATH = "/gradio_api/upload"

Part = Literal["whole", "recognition", "records"]
"""Of the service that one process is. On a cluster (`server.cluster`) several share an outputs
folder: "records" does the jobs and removes old results, "recognition" does neither."""


class Service:
    """What lives as long as the application: the model, history, jobs and lab, the figures.

    Args:
        settings: of the program.
        part: what this process does of it.
    """

    def __init__(self, settings: Settings, part: Part = "whole") -> None:
        self.settings = settings
        self._part = part
        self.metrics = Metrics()
        self.history = History(settings.outputs, embeddings=not settings.no_index)
        self.atlas = Atlas(self.history, settings)
        self.holder = ModelHolder(settings)
        self.decoder = Decoder(settings.max_duration_s)
        self.recogniser = Recogniser(settings, self.holder, self.decoder, observer=self.metrics)
        self.jobs = Jobs(settings, self.recogniser, self.metrics)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Starts the model's thread and the decoders; stops them within a bound."""
        self.settings.outputs.mkdir(parents=True, exist_ok=True)
        if self._part == "whole":
            # Which processes of other machines still write cannot be seen from here.
            store.sweep(self.settings.outputs)
        self.holder.start()
        self.decoder.warm_up()
        cleaning = None
        if self._part != "recognition":
            self.jobs.start()
            cleaning = asyncio.create_task(self._clean())
        try:
            yield
        finally:
            if cleaning is not None:
                cleaning.cancel()
            await anyio.to_thread.run_sync(self.stop)
            self.history.close()

    def stop(self) -> None:
        """Finishes recognitions within a bound, refuses the rest; a second call does nothing."""
        self.jobs.stop(LEAVE_JOB_S)
        self.recogniser.stop(STOP_WITHIN_S)
        self.decoder.stop()
        self.atlas.stop()
        self.recogniser.wait_until_empty(LAST_ANSWERS_S)

    async def _clean(self) -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(self._remove_old)
            except OSError as error:
                log.warning("old results cannot be looked for: %s", error)
            await asyncio.sleep(CLEANING_S)

    def _remove_old(self) -> None:
        keep_days, max_mb = self.settings.keep_days, self.settings.max_outputs_mb
        removed = 0
        if keep_days is not None:
            removed += store.remove_old(self.settings.outputs, keep_days)
            if jobs_removed := self.jobs.remove_old(keep_days):
                log.info("removed %d old jobs", jobs_removed)
        if max_mb is not None:
            removed += store.remove_excess(self.settings.outputs, int(max_mb * 1e6))
        if removed:
            log.info("removed %d old result folders", removed)


def create_app(settings: Settings) -> Guard:
    """The ASGI application: page, API and files behind one guard."""
    app = create_api(settings)
    _mount_page(app, app.state.service)
    return Guard(app, settings)


def create_api(settings: Settings, part: Part = "whole") -> FastAPI:
    """The API and the files, without the page and without the guard."""
    service = Service(settings, part)
    app = FastAPIOffline(
        title="Speech emotion recognition",
        description="Upload a recording, get its emotion. See README.md for the fields.",
        version=__version__,
        lifespan=service.lifespan,
        root_path=settings.root_path,
        responses=ANY_ERROR,
        redoc_url=None,
    )
    app.state.service = service
    describe_late(app)
    app.add_middleware(
        GZipMiddleware,
        compresslevel=GZIP_LEVEL,
        thread_minimum_size=GZIP_THREAD_BYTES,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream"),
    )
    results.add_routes(app, service.history, settings)
    predict.add_routes(app, service.recogniser)
    lab.add_routes(app, service.history, service.recogniser)
    atlas.add_routes(app, service.atlas)
    subclasses.add_routes(app, service.recogniser)
    jobs.add_routes(app, service.jobs, settings)
    _add_operations(app, service)
    app.router.routes.append(OtherMethods(app.routes))
    _add_error_handlers(app, service)
    return app


# --- operations -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Health:
    """That the process is up."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    status: str
    """Always "ok"."""
    version: str
    """Of the program."""


@dataclass(frozen=True)
class Readiness:
    """Whether a model answers, and how far the wanted one is."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    ready: bool
    """Whether a model answers."""
    state: str
    """idle, importing, downloading, loading, quantising, ready or failed."""
    seconds: float
    """Since this state began."""
    model: str | None
    """Id of the model that answers now."""
    wanted: str
    """Id of the model that `--model` asks for."""
    progress: float | None
    """Done part of the download, 0 to 1; null when nothing downloads or the size is unknown."""
    notice: str | None
    """Code for why another than the wanted model answers."""
    error: ErrorFacts | None = None
    """What went wrong last; absent where nothing did."""


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["operations"], summary="The process is up", response_model=Health)
    async def health() -> Response:
        body = to_json(Health("ok", __version__))
        return Response(body, media_type="application/json")

    @app.get(
        "/ready",
        tags=["operations"],
        summary="A model answers (200) or not yet (503)",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not yet; see Retry-After."}},
    )
    async def ready(request: Request) -> Response:
        status = service.holder.status()
        error = None
        if status.error is not None:
            lang = language(request.headers, service.settings)
            error = ErrorFacts(**status.error.to_dict(lang))
        body = Readiness(
            ready=status.answering is not None,
            state=status.state,
            seconds=round(status.seconds, 1),
            model=status.answering,
            wanted=status.wanted,
            progress=status.progress,
            notice=status.notice,
            error=error,
        )
        shown = {name: value for name, value in vars(body).items() if name != "error" or value}
        response = Response(to_json(shown), media_type="application/json")
        if not body.ready:
            response.status_code = 503
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    @app.get(
        "/metrics",
        tags=["operations"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Its text format."}},
    )
    def metrics() -> Response:
        text = service.metrics.text(service.recogniser, service.holder)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


class OtherMethods(BaseRoute):
    """Answers where a path is known and its method is not: HEAD as GET, OPTIONS 204, else 405.

    It stands before the page's mount at "/", which would take such requests for pages.

    Args:
        routes: the known ones.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Full for any method of a known path."""
        return (Match.FULL if self._found(scope) else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            HTTPException: 405 with `Allow`.
        """
        found = self._found(scope)
        for route, inside in found:
            if scope["method"] == "HEAD" and "GET" in (route.methods or ()):
                scope.update(inside)
                # Past the route's own check of the method; servers send no body to HEAD.
                await route.app(scope, receive, send)
                return
        methods = {"OPTIONS"}.union(*(route.methods or () for route, _ in found))
        if "GET" in methods:
            methods.add("HEAD")
        allow = {"Allow": ", ".join(sorted(methods))}
        if scope["method"] != "OPTIONS":
            raise HTTPException(405, headers=allow)
        await Response(status_code=204, headers=allow)(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """None: it has no name."""
        raise NoMatchFound(name, path_params)

    def _found(self, scope: Scope) -> list[tuple[Route, Scope]]:
        matches = [(route, *route.matches(scope)) for route in self._routes]
        return [(route, inside) for route, match, inside in matches if match is Match.PARTIAL]


# --- errors ---------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    settings = service.settings

    def answer(request: Request, error: EmotionError) -> Response:
        kind = getattr(request.state, predict.UNCOUNTED, None)
        if kind is not None:
            service.metrics.request_ended(Ended("api", kind, error, 0.0, 0.0))
        return _error_response(request, error, settings)

    @app.exception_handler(EmotionError)
    async def known(request: Request, error: EmotionError) -> Response:
        if error.status >= 500 and not isinstance(error, Unavailable):
            log.warning("%s: %s", request.url.path, error, exc_info=error)
        else:
            log.info("%s: %s", request.url.path, error)
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "query"
        value = repr(first.get("input"))[:100]
        # Where there is a choice of values, pydantic lists them.
        allowed = first.get("ctx", {}).get("expected", first["msg"])
        return await known(request, BadField(field=field, value=value, allowed=allowed))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return _http_error(request, error, settings)

    @app.exception_handler(Cancelled)
    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE_STATUS)  # only the log shows it

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> Response:
        # The disk of temporary files, where uploads are; the store raises DiskFull itself.
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return await known(request, DiskFull(free_mb=0.0))
        return await unknown(request, error)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        return answer(request, as_known(error, request.url.path))


def _http_error(request: Request, error: HTTPException, settings: Settings) -> Response:
    """What the router itself refuses, in our words."""
    if error.status_code == 404:
        return _error_response(request, ResultNotFound(name=request.url.path[:200]), settings)
    response = _error_response(request, InputError(problem=str(error.detail)), settings)
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


def _error_response(request: Request, error: EmotionError, settings: Settings) -> Response:
    """The one error body; a browser that opens an address without anything gets a page."""
    lang = language(request.headers, settings)
    if error.status != 404 or not _prefers_html(request.headers.get("accept", "")):
        return error_response(error, lang)
    page = missing_page(
        message=error.public().message(lang),
        hint=error.hint(lang),
        lang=lang,
        root_path=settings.root_path,
    )
    return HTMLResponse(page, error.status, results.HTML_HEADERS)


def _prefers_html(accept: str) -> bool:
    """Whether HTML is named, and not after JSON: browsers name it first, programs name neither."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    named = [kind for kind in kinds if kind in ("text/html", "application/json")]
    return named[:1] == ["text/html"]


# --- the page -------------------------------------------------------------------------------------


class _Upload:
    """Gradio's upload as a route of its own: Gradio counts the bytes, and writes as they come."""

    limits = Limits(body="own")

    def __init__(self, page: ASGIApp) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._page(scope, receive, send)


def _count(request: gradio.Request) -> None:
    """Counts one recognition of the page against the caller's rate limit.

    Raises:
        RateLimited: it is one too many.
    """
    getattr(request.request.state, COUNT)()


def _mount_page(app: FastAPI, service: Service) -> None:
    settings = service.settings
    # Only here is Gradio imported: it takes seconds, and the command line has no use for it.
    import gradio

    from emotion2vec_ui.page import gradio_internals, pages

    with gradio_internals.without_applications():
        blocks, options = pages.build(
            service.recogniser,
            settings=settings,
            history=service.history,
            jobs=service.jobs,
            atlas=service.atlas,
            count=_count,
        )
    with warnings.catch_warnings():
        # It warns that several pages are not rendered on the server, which is not wanted.
        warnings.filterwarnings("ignore", "SSR mode")
        gradio.mount_gradio_app(
            app,
            blocks,
            path="/",
            max_file_size=settings.max_upload_bytes,
            **options,
        )
    gradio_internals.slow_down_queue(blocks)
    gradio_internals.refuse_downloads(blocks)
    mounted: Any = app.routes[-1]
    gradio_internals.answer_by(blocks, mounted.app)
    app.router.routes.insert(-1, Route(UPLOAD_PATH, _Upload(mounted.app)))

    @mounted.app.exception_handler(HTTPException)
    async def no_page(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith(f"{settings.root_path}/gradio_api/"):
            return await http_exception_handler(request, error)  # its clients read Gradio's form
        return _http_error(request, error, settings)
