"""HTTP for one recording: recognition in both forms of the contract, and the robustness test.

The event loop only receives and sends: files are written, the model runs and answers are made in
worker threads.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from emotion2vec_ui.errors import BadField, InputError, MissingAudio, UploadTooLarge
from emotion2vec_ui.lab import similar
from emotion2vec_ui.pipeline.observer import Kind
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import robustness as records_robustness
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.report import GRANULARITIES, with_files
from emotion2vec_ui.records.robustness import RobustnessTest
from emotion2vec_ui.records.store import files_of
from emotion2vec_ui.server.access import Limits, language, limited
from emotion2vec_ui.server.forms import SUBCLASS, boolean, subclass_names
from emotion2vec_ui.server.schemas import (
    PREDICT_BODY,
    RECOGNITION_ERRORS,
    ROBUSTNESS_BODY,
    Answer,
    ClassicAnswer,
)
from emotion2vec_ui.settings import Settings

SPARE_THREADS = 8
"""Beyond those that wait for the model: pages, files and metrics never wait behind them."""

COPY_BYTES = 1 << 20

BASE64_MARK = ";base64,"
"""Of a data URL: what follows is the file."""

BASE64_PIECE = 1 << 20
"""Characters, a multiple of 4."""

MAX_FILES, MAX_FIELDS = 4, 16
"""Of a form: more than any that is meant."""

UNCOUNTED = "uncounted_request"
"""In the request's state: the `Kind` of a request that the recogniser has not seen yet, else None.
The recogniser counts what it is asked for; the error handler counts what failed before."""

RECORDING = Limits(body="recording", counted=True)


@dataclass(frozen=True)
class _Asked:
    """What one request asks for, its recording aside."""

    name: str
    granularity: str
    extract_embedding: bool
    subclass: str = ""


def add_routes(app: FastAPI, recogniser: Recogniser) -> None:
    """Adds the routes that recognise."""
    recognitions = Recognitions(recogniser)

    @app.post(
        "/api/predict",
        tags=["emotion"],
        summary="Recognise one recording",
        response_model=Answer | ClassicAnswer,
        responses=RECOGNITION_ERRORS,
        openapi_extra=PREDICT_BODY,
    )
    @app.post("/api/predict/", include_in_schema=False)  # Gradio's mount redirects neither form
    @limited(RECORDING)
    async def predict(request: Request) -> Response:
        return await recognitions.predict(request)

    @app.post(
        "/api/robustness",
        tags=["emotion"],
        summary="How noise and codecs would move the result of one recording",
        response_model=RobustnessTest,
        responses=RECOGNITION_ERRORS,
        openapi_extra=ROBUSTNESS_BODY,
    )
    @limited(RECORDING)
    async def robustness(request: Request) -> Response:
        return await recognitions.robustness(request)


class Recognitions:
    """The handlers, and the threads that they share."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._settings = recogniser.settings
        self._threads = anyio.CapacityLimiter(self._settings.max_queue + SPARE_THREADS)
        # One at a time: unpacking takes five times the file in memory.
        self._unpacking = anyio.CapacityLimiter(1)

    async def predict(self, request: Request) -> Response:
        """Recognises the recording of one request, in any of its two forms."""
        started = time.perf_counter()
        lang = language(request.headers, self._settings)
        classic = request.headers.get("content-type", "").startswith("application/json")

        async with _reading(request, "predict") as path:
            asked = await (self._classic(request, path) if classic else self._form(request, path))

            def work(cancelled: Callable[[], bool]) -> bytes:
                result = self._recogniser.analyse(
                    path,
                    name=asked.name,
                    granularity=asked.granularity,
                    extract_embedding=asked.extract_embedding,
                    subclass=subclass_names(asked.subclass, self._settings.outputs),
                    lang=lang,
                    front="api",
                    cancelled=cancelled,
                )
                assert result.saved is not None
                files = files_of(
                    result.saved.folder.name,
                    has_embedding=asked.extract_embedding,
                    root_path=self._settings.root_path,
                )
                answer = with_files(result.saved.content, files)
                if classic:
                    taken_s = time.perf_counter() - started
                    answer = b'{"data": [%b], "duration": %.6f}' % (answer, taken_s)
                return answer

            return await self._answer(request, work)

    async def robustness(self, request: Request) -> Response:
        """Recognises one recording under noise and codecs."""
        async with _reading(request, "robustness") as path:
            name, fields = await self._upload(request, path)
            seed = _whole_number("seed", fields.get("seed", "0"))

            def work(cancelled: Callable[[], bool]) -> bytes:
                test = self._recogniser.robustness(
                    path, name=name, seed=seed, front="api", cancelled=cancelled
                )
                return records_robustness.to_json(test)

            return await self._answer(request, work)

    async def similar(self, request: Request, history: History) -> Response:
        """Finds the results most like the recording of one request."""
        async with _reading(request, "similar") as path:
            name, fields = await self._upload(request, path)
            top = _whole_number("top", fields.get("top", str(similar.TOP)))

            def work(cancelled: Callable[[], bool]) -> bytes:
                embedded = self._recogniser.embed(path, name=name, front="api", cancelled=cancelled)
                found = similar.to_recording(history, embedded, top=top)
                root_path = self._settings.root_path
                return to_json(similar.answer(name, found, root_path=root_path))

            return await self._answer(request, work)

    async def _answer(
        self, request: Request, work: Callable[[Callable[[], bool]], bytes]
    ) -> Response:
        """Runs `work` in a thread, which is told to end when the caller is gone."""
        gone = False

        async def watch() -> None:
            nonlocal gone
            # The body has been read: nothing can come but the end of the connection.
            while (await request.receive())["type"] != "http.disconnect":
                pass
            gone = True

        watcher = asyncio.create_task(watch())
        # From here on the recogniser counts.
        setattr(request.state, UNCOUNTED, None)
        try:
            body = await anyio.to_thread.run_sync(work, lambda: gone, limiter=self._threads)
        finally:
            watcher.cancel()
        return Response(body, media_type="application/json")

    # --- requests ---

    async def _form(self, request: Request, path: Path) -> _Asked:
        """Writes the form's file to `path`."""
        name, fields = await self._upload(request, path)
        return _Asked(
            name,
            fields.get("granularity", GRANULARITIES[0]),
            boolean("extract_embedding", fields.get("extract_embedding", "false")),
            fields.get(SUBCLASS, ""),
        )

    async def _upload(self, request: Request, path: Path) -> tuple[str, dict[str, str]]:
        """Writes the form's file to `path`; returns its name and the other fields.

        Raises:
            MissingAudio: the body is no form, or has no such file.
            BadField: a field came twice, and is not `SUBCLASS`.
            UploadTooLarge: more bytes than `--max-upload-mb`.
        """
        kind = request.headers.get("content-type", "").lower()
        if not kind.startswith("multipart/form-data"):
            raise MissingAudio()
        try:
            # Starlette writes files over 1 MB to disk in worker threads, a chunk at a time.
            async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
                fields = dict(form.multi_items())
                for name in fields:
                    values = [_shown(value) for value in form.getlist(name)]
                    if len(values) > 1 and name != SUBCLASS:
                        found = ", ".join(values)[:100]
                        raise BadField(field=name[:100], value=found, allowed="one value")
                upload = fields.pop("audio", None)
                if not isinstance(upload, UploadFile):
                    raise MissingAudio()
                if (upload.size or 0) > self._settings.max_upload_bytes:
                    raise UploadTooLarge(limit_mb=self._settings.max_upload_mb)
                await anyio.to_thread.run_sync(_copy, upload.file, path)
                return upload.filename or "audio", {
                    name: ",".join(
                        value if isinstance(value, str) else _shown(value)
                        for value in form.getlist(name)
                    )
                    for name in fields
                }
        except HTTPException as error:
            # Starlette's word for a body that is no form at all.
            raise InputError(problem=str(error.detail)) from None

    async def _classic(self, request: Request, path: Path) -> _Asked:
        """Writes the file in Gradio's classic JSON to `path`."""
        with path.open("wb") as file:
            parts: list[bytes] = []
            async for chunk in request.stream():
                parts.append(chunk)
                if sum(map(len, parts)) >= COPY_BYTES:
                    await anyio.to_thread.run_sync(file.writelines, parts)
                    parts = []
            await anyio.to_thread.run_sync(file.writelines, parts)
            await anyio.to_thread.run_sync(file.flush)
        return await anyio.to_thread.run_sync(
            _unpack, path, self._settings, limiter=self._unpacking
        )


@contextlib.asynccontextmanager
async def _reading(request: Request, kind: Kind) -> AsyncIterator[Path]:
    """Where to write the recording of a request; removed at the end, in a worker thread."""
    setattr(request.state, UNCOUNTED, kind)
    folder = await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="emotion2vec-"))
    try:
        yield Path(folder) / "upload"
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _unpack(path: Path, settings: Settings) -> _Asked:
    """Replaces Gradio's classic JSON at `path` by the file in it.

    The file is base64 in a data URL, never a path or an address.
    """
    body = path.read_bytes()
    # Neither parsed nor copied: that would hold up every other thread, for a second with 200 MB.
    first = body.find(BASE64_MARK.encode()) + len(BASE64_MARK)
    last = body.find(b'"', first) if first >= len(BASE64_MARK) else -1
    payload = memoryview(b"") if last < 0 else memoryview(body)[first:last]
    try:
        data = json.loads(body[:first] + body[last:] if payload else body)["data"]
        sound, granularity, embedding = [
            *data,
            *[GRANULARITIES[0], False][max(0, len(data) - 1) :],
        ][:3]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise InputError(problem='expected {"data": [file, granularity, embedding]}') from None
    if not data or sound is None:
        raise MissingAudio()
    name, url = "audio", sound
    if isinstance(sound, dict):
        name, url = str(sound.get("name") or "audio"), sound.get("data")
    kind, mark, rest = url.partition(BASE64_MARK) if isinstance(url, str) else ("", "", "")
    if not mark or not kind.startswith("data:"):
        raise BadField(field="data[0]", value="...", allowed="data:audio/...;base64,...")
    try:
        if (
            payload and body.find(b"\\", first, last) >= 0
        ):  # some writers of JSON escape "/" and "+"
            rest = json.loads(b'"%b"' % bytes(payload))
        size = _decode(rest.encode() or payload, path)
    except ValueError:
        raise BadField(field="data[0]", value="...", allowed="base64") from None
    if size > settings.max_upload_bytes:
        raise UploadTooLarge(limit_mb=settings.max_upload_mb)
    return _Asked(name, str(granularity), boolean("extract_embedding", embedding))


def _decode(content: bytes | memoryview, path: Path) -> int:
    """Writes the file that `content` is in base64; returns its size in bytes.

    Raises:
        ValueError: it is not base64.
    """
    size = 0
    with path.open("wb") as file:
        # A piece at a time: decoding holds up every other thread.
        for at in range(0, len(content), BASE64_PIECE):
            piece = base64.b64decode(content[at : at + BASE64_PIECE], validate=True)
            if at + BASE64_PIECE < len(content) and len(piece) != BASE64_PIECE // 4 * 3:
                raise ValueError("padding before the end")
            size += file.write(piece)
    return size


def _whole_number(field: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise BadField(field=field, value=repr(value)[:100], allowed="0 ... 999999999")
    return int(value)


def _shown(value: UploadFile | str) -> str:
    return repr(value.filename if isinstance(value, UploadFile) else value)[:100]


def _copy(source: BinaryIO, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
