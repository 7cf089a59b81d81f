"""HTTP: the routes of the contract, and the one process that serves them with the page."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import json
import logging
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from emotion2vec_ui import __version__
from emotion2vec_ui.audio.decoding import Decoder
from emotion2vec_ui.errors import (
    BadField,
    DiskFull,
    EmotionError,
    InputError,
    MissingAudio,
    ResultNotFound,
    Unavailable,
    UploadTooLarge,
)
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import GRANULARITIES, Cancelled, Recogniser, Result
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.index import History
from emotion2vec_ui.server import results as history_api
from emotion2vec_ui.server.access import COUNT, Guard, error_response, language
from emotion2vec_ui.server.metrics import Metrics
from emotion2vec_ui.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_WITHIN_S = 20.0
"""How long what runs may take to finish after SIGTERM."""

HOUSEKEEPING_S = 3600.0

SPARE_THREADS = 8
"""Beyond those that wait for the model: pages, files and metrics never wait behind them."""

CLIENT_GONE_STATUS = 499
"""nginx's number for a caller that closed the connection; nobody sees it but the log."""

COPY_BYTES = 1 << 20

RESULT_FILES = frozenset({results.RESULT_NAME, results.AUDIO_NAME, results.EMBEDDING_NAME})
MEDIA_TYPES = {
    results.RESULT_NAME: "application/json; charset=utf-8",
    results.AUDIO_NAME: "audio/wav",
    results.EMBEDDING_NAME: "application/octet-stream",
}


class ErrorFacts(BaseModel):
    """What went wrong, and what to do."""

    code: str
    message: str
    hint: str


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorFacts


class ResultBody(BaseModel):
    """result.json and where its files are; README describes every field."""

    model_config = ConfigDict(extra="allow")

    emotion: str = Field(examples=["happy"])
    confidence: float = Field(ge=0, le=1, examples=[0.853])
    scores: dict[str, float] | list[list[float]] = Field(
        description="Nine scores by name; with granularity=frame a row of nine per 20 ms."
    )
    granularity: Literal["utterance", "frame"]
    timestamp: str = Field(examples=["2026-01-04 22:30:00"])
    output_dir: str = Field(examples=["outputs/outputs_20260104_223000"])
    result_url: str = Field(examples=["/file=outputs/outputs_20260104_223000/result.json"])
    audio_url: str
    embedding_url: str | None


PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["audio"],
                    "properties": {
                        "audio": {"type": "string", "format": "binary"},
                        "granularity": {
                            "type": "string",
                            "enum": list(GRANULARITIES),
                            "default": "utterance",
                        },
                        "extract_embedding": {"type": "boolean", "default": False},
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "description": "Gradio's classic form: [file, granularity, extract_embedding].",
                    "properties": {
                        "data": {"type": "array", "minItems": 1, "maxItems": 3, "items": {}}
                    },
                }
            },
        },
    }
}

STRESS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["audio"],
                    "properties": {
                        "audio": {"type": "string", "format": "binary"},
                        "seed": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
                    },
                }
            }
        },
    }
}

PREDICT_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "A field has a bad value, or there is no audio."},
    401: {"model": ErrorBody, "description": "No or wrong key."},
    403: {"model": ErrorBody, "description": "A page of another site posted."},
    413: {"model": ErrorBody, "description": "Too many bytes, or too long."},
    415: {"model": ErrorBody, "description": "No decoder reads it."},
    422: {"model": ErrorBody, "description": "Too short, empty, silent, or not finite."},
    429: {"model": ErrorBody, "description": "Above the rate limit."},
    500: {"model": ErrorBody, "description": "Anything else; the id is also in the log."},
    503: {"model": ErrorBody, "description": "Queue full or model not ready; see Retry-After."},
    507: {"model": ErrorBody, "description": "The disk is full."},
}


class Service:
    """The routes' shared state: one per application."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.history = History(settings.outputs)
        self.holder = ModelHolder(settings)
        self.decoder = Decoder(settings.max_duration_s)
        self.recogniser = Recogniser(
            settings, self.holder, self.decoder, observe=self.metrics.observe_batch
        )
        self._threads = anyio.CapacityLimiter(settings.max_queue + SPARE_THREADS)
        # One at a time: unpacking takes five times the file in memory.
        self._unpacking = anyio.CapacityLimiter(1)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Starts the model's thread and the decoders; stops them within a bound."""
        self.settings.outputs.mkdir(parents=True, exist_ok=True)
        results.sweep(self.settings.outputs)
        self.holder.start()
        self.decoder.warm_up()
        housekeeping = asyncio.create_task(self._keep_house())
        try:
            yield
        finally:
            housekeeping.cancel()
            await anyio.to_thread.run_sync(self.recogniser.stop, STOP_WITHIN_S)
            await anyio.to_thread.run_sync(self.decoder.stop)
            self.history.close()

    async def predict(self, request: Request) -> Response:
        """Recognises the recording of one request, in any of its two forms."""
        started = time.perf_counter()
        lang = language(request.headers, self.settings)
        with tempfile.TemporaryDirectory(prefix="emotion2vec-") as folder:
            path = Path(folder) / "upload"
            if _is_json(request):
                await _receive(request, path)
                name, granularity, embedding = await anyio.to_thread.run_sync(
                    _unpack_json, path, self.settings, limiter=self._unpacking
                )
            else:
                name, granularity, embedding = await _read_form(request, path, self.settings)
            result = await self._watched(
                request,
                partial(
                    self.recogniser.analyse,
                    path,
                    name=name,
                    granularity=granularity,
                    extract_embedding=embedding,
                    lang=lang,
                ),
            )
        taken_s = time.perf_counter() - started
        self.metrics.requests.labels("api", "200").inc()
        self.metrics.latency_s.observe(taken_s)
        self.metrics.audio_s.inc(result.report["source"]["duration_s"])
        body = with_urls(result, self.settings)
        if _is_json(request):
            return JSONResponse({"data": [body], "duration": taken_s})
        return JSONResponse(body)

    async def stress(self, request: Request) -> Response:
        """Recognises one recording under noise and codecs."""
        with tempfile.TemporaryDirectory(prefix="emotion2vec-") as folder:
            path = Path(folder) / "upload"
            name, fields = await _read_upload(request, path, self.settings)
            seed = _whole_number("seed", fields.get("seed", "0"))
            work = partial(self.recogniser.stress, path, name=name, seed=seed)
            return JSONResponse(await self._watched(request, work))

    async def _watched(self, request: Request, work: Callable[..., T]) -> T:
        """Runs `work` in a thread and gives its place up when the caller is gone."""
        gone = False

        async def watch() -> None:
            nonlocal gone
            # The body has been read: nothing can come but the end of the connection.
            while (await request.receive())["type"] != "http.disconnect":
                pass
            gone = True

        watcher = asyncio.create_task(watch())
        try:
            return await anyio.to_thread.run_sync(
                partial(work, cancelled=lambda: gone), limiter=self._threads
            )
        finally:
            watcher.cancel()

    async def _keep_house(self) -> None:
        while True:
            await anyio.to_thread.run_sync(self._remove_old)
            await asyncio.sleep(HOUSEKEEPING_S)

    def _remove_old(self) -> None:
        keep_days, max_mb = self.settings.keep_days, self.settings.max_outputs_mb
        removed = 0
        if keep_days is not None:
            removed += results.remove_old(self.settings.outputs, keep_days)
        if max_mb is not None:
            removed += results.remove_excess(self.settings.outputs, int(max_mb * 1e6))
        if removed:
            log.info("removed %d old result folders", removed)


def create_app(settings: Settings) -> Any:
    """The ASGI application: page, API and files behind one guard."""
    service = Service(settings)
    app = FastAPIOffline(
        title="Speech emotion recognition",
        description="Upload a recording, get its emotion. See README.md for the fields.",
        version=__version__,
        lifespan=service.lifespan,
        root_path=settings.root_path,
        redoc_url=None,
    )
    app.state.service = service
    history_api.add_routes(app, service.history, settings)
    _add_routes(app, service)
    _add_error_handlers(app, service)
    _mount_page(app, service)
    return Guard(app, settings)


def with_urls(result: Result, settings: Settings) -> dict[str, Any]:
    """The report with the addresses of its files."""
    assert result.folder is not None
    return results.with_urls(result.report, result.folder.name, settings.root_path)


def _add_routes(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post(
        "/api/predict",
        tags=["emotion"],
        summary="Recognise one recording",
        response_model=ResultBody,
        responses=PREDICT_ERRORS,
        openapi_extra=PREDICT_BODY,
    )
    @app.post("/api/predict/", include_in_schema=False)  # Gradio's mount redirects neither form
    async def predict(request: Request) -> Response:
        return await service.predict(request)

    @app.post(
        "/api/robustness",
        tags=["emotion"],
        summary="How noise and codecs would move the result of one recording",
        responses=PREDICT_ERRORS,
        openapi_extra=STRESS_BODY,
    )
    async def stress(request: Request) -> Response:
        return await service.stress(request)

    @app.get("/file=outputs/{folder}/{name}", include_in_schema=False)
    async def output_file(folder: str, name: str) -> Response:
        # Names are matched, never resolved: nothing else under outputs, no link, no "..".
        path = settings.outputs / folder / name
        if not results.RESULT_FOLDER.fullmatch(folder) or name not in RESULT_FILES:
            raise ResultNotFound(name=f"{folder}/{name}"[:200])
        if path.parent.is_symlink() or path.is_symlink() or not path.is_file():
            raise ResultNotFound(name=f"{folder}/{name}")
        return FileResponse(path, media_type=MEDIA_TYPES[name], filename=name)

    @app.head("/health", include_in_schema=False)  # what some load balancers send
    @app.get("/health", tags=["operations"], summary="The process is up")
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", tags=["operations"], summary="A model answers (200) or not yet (503)")
    async def ready(request: Request) -> JSONResponse:
        status = service.holder.status()
        body: dict[str, Any] = {
            "ready": status.answering is not None,
            "state": status.state,
            "seconds": round(status.seconds, 1),
            "model": status.answering,
            "wanted": status.wanted,
            "progress": status.progress,
            "notice": status.notice,
        }
        if status.error is not None:
            body["error"] = status.error.to_dict(language(request.headers, settings))
        if body["ready"]:
            return JSONResponse(body)
        return JSONResponse(body, 503, {"Retry-After": "5"})

    @app.get("/metrics", tags=["operations"], summary="Figures for Prometheus")
    def metrics() -> Response:
        text = service.metrics.text(service.recogniser, service.holder)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @app.api_route(
        "/api/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False
    )
    @app.get("/file={rest:path}", include_in_schema=False)
    async def nothing_here(request: Request, rest: str) -> Response:
        if rest.rstrip("/") == "predict":
            raise HTTPException(405, headers={"Allow": "POST"})
        raise ResultNotFound(name=request.url.path[:200])


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    settings = service.settings

    def answer(request: Request, error: EmotionError) -> JSONResponse:
        service.metrics.errors.labels(error.code).inc()
        service.metrics.requests.labels("api", str(error.status)).inc()
        if error.status >= 500 and not isinstance(error, Unavailable):
            log.warning("%s: %s", request.url.path, error, exc_info=error)
        else:
            log.info("%s: %s", request.url.path, error)
        return error_response(error, language(request.headers, settings))

    @app.exception_handler(EmotionError)
    async def known(request: Request, error: EmotionError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(Cancelled)
    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE_STATUS)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        response = answer(request, InputError(problem=str(error.detail)))
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> JSONResponse:
        # The disk of the temporary files, where uploads lie; results.save tells of its own.
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return answer(request, DiskFull(free_mb=0.0))
        return await unknown(request, error)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        error_id = secrets.token_hex(4)
        log.error("internal error %s on %s", error_id, request.url.path, exc_info=error)
        return answer(request, EmotionError(error_id=error_id))


def _mount_page(app: FastAPI, service: Service) -> None:
    settings = service.settings
    # Only here is Gradio imported: it takes seconds, and the command line has no use for it.
    import gradio

    from emotion2vec_ui.page import gradio_internals, recognise

    blocks, options = recognise.build(
        service.recogniser,
        settings=settings,
        history=service.history,
        # Only the page knows which of Gradio's requests recognise anything.
        count=lambda request: getattr(request.request.state, COUNT)(),
    )
    with warnings.catch_warnings():
        # That several pages are not rendered on the server: nobody asked for it.
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

    @mounted.app.exception_handler(404)
    async def no_page(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith(f"{settings.root_path}/gradio_api/"):
            return await http_exception_handler(request, error)  # its clients read Gradio's form
        nothing = ResultNotFound(name=request.url.path[:200])
        return error_response(nothing, language(request.headers, settings))


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/json")


async def _read_form(request: Request, path: Path, settings: Settings) -> tuple[str, str, bool]:
    """Writes the form's file to `path`; returns its name, granularity and the embedding wish."""
    name, fields = await _read_upload(request, path, settings)
    return (
        name,
        _choice("granularity", fields.get("granularity", "utterance")),
        _boolean("extract_embedding", fields.get("extract_embedding", "false")),
    )


async def _read_upload(
    request: Request, path: Path, settings: Settings
) -> tuple[str, dict[str, Any]]:
    """Writes the form's file to `path`; returns its name and the other fields."""
    try:
        async with request.form(max_files=4, max_fields=16) as form:
            upload = form.get("audio")
            if not isinstance(upload, UploadFile):
                raise MissingAudio()
            if (upload.size or 0) > settings.max_upload_bytes:
                raise UploadTooLarge(limit_mb=settings.max_upload_mb)
            await anyio.to_thread.run_sync(_copy, upload.file, path)
            return upload.filename or "audio", {key: form[key] for key in form if key != "audio"}
    except HTTPException as error:
        # Starlette's word for a body that is no form at all.
        raise InputError(problem=str(error.detail)) from None


async def _receive(request: Request, path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in request.stream():
            file.write(chunk)


def _unpack_json(path: Path, settings: Settings) -> tuple[str, str, bool]:
    """Replaces Gradio's classic JSON at `path` by its file; returns the same as `_read_form`.

    The file is base64 in a data URL, never a path or an address.
    """
    try:
        data = json.loads(path.read_bytes())["data"]
        sound, granularity, embedding = [*data, *["utterance", False][max(0, len(data) - 1) :]][:3]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise InputError(problem='expected {"data": [file, granularity, embedding]}') from None
    if not data or sound is None:
        raise MissingAudio()
    name, url = "audio", sound
    if isinstance(sound, dict):
        name, url = str(sound.get("name") or "audio"), sound.get("data")
    if not isinstance(url, str) or not url.startswith("data:") or ";base64," not in url:
        raise BadField(field="data[0]", value="...", allowed="data:audio/...;base64,...")
    try:
        content = base64.b64decode(url.partition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        raise BadField(field="data[0]", value="...", allowed="base64") from None
    if len(content) > settings.max_upload_bytes:
        raise UploadTooLarge(limit_mb=settings.max_upload_mb)
    path.write_bytes(content)
    return (
        name,
        _choice("granularity", granularity),
        _boolean("extract_embedding", embedding),
    )


def _choice(field: str, value: Any) -> str:
    if not isinstance(value, str) or value not in GRANULARITIES:
        raise BadField(field=field, value=repr(value)[:100], allowed=", ".join(GRANULARITIES))
    return value


def _boolean(field: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "1", "yes", "on"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("false", "0", "no", "off", ""):
        return False
    raise BadField(field=field, value=repr(value)[:100], allowed="true, false")


def _whole_number(field: str, value: Any) -> int:
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10):
        raise BadField(field=field, value=repr(value)[:100], allowed="0 ... 999999999")
    return int(value)


def _copy(source: Any, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
