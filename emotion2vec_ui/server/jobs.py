"""HTTP for jobs: many recordings sent together, how far they are, their rows as a table.

Names and states are those of Hume's batch API where it has them.
"""

from __future__ import annotations

import mimetypes
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, ClassVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic_core import to_json

from emotion2vec_ui.batch.job_list import STATUSES, Job, Status, Wanted
from emotion2vec_ui.batch.jobs import Jobs, Standing
from emotion2vec_ui.errors import BadField, EmotionError, JobTooLarge, ResultNotFound
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.records.report import GRANULARITIES
from emotion2vec_ui.server import forms
from emotion2vec_ui.server.access import CALLER, Limits, language, limited
from emotion2vec_ui.server.results import LangParameter, attachment, chosen_language
from emotion2vec_ui.server.schemas import BAD_FIELD, JOB_BODY, JOB_ERRORS, NOT_FOUND, ErrorFacts
from emotion2vec_ui.settings import Settings

JOB = Limits(body="own", counted=True)
"""A job counts once against `--rate-limit`: its recordings wait behind everybody else's. `forms`
bounds the body while it reads."""

FORM_BYTES_PER_FILE = 2_048
"""Around each file of a form: a boundary, headers, a path."""

UPLOAD_THREADS = 4
"""Write and unpack what comes: a disk is no faster with more, and other routes need threads."""

MAX_LISTED = 1_000

EVENTS_S = 0.5
"""Between two looks at a job whose events are sent."""

QUIET_S = 15.0
"""After this long without news a comment is sent, which keeps proxies from closing."""

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}

BYTE_ORDER_MARK = "\ufeff".encode()

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class JobRequest:
    """What was asked for."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    files: int
    """Recordings."""
    bytes: int
    """Of them together, unpacked."""
    granularity: str
    """utterance or frame."""
    extract_embedding: bool
    """Whether the rows have embeddings."""
    save: bool
    """Whether each recording is kept as a result of its own."""
    subclass: dict[str, int]
    """Sets of sub-classes by name, and their versions."""


@dataclass(frozen=True)
class JobState:
    """How far it is."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    status: Status
    """COMPLETED also where single recordings have errors: see num_errors."""
    created_timestamp_ms: int
    """When it was sent, in ms since 1970."""
    started_timestamp_ms: int | None
    """When its first recording was begun, in ms since 1970."""
    ended_timestamp_ms: int | None
    """When it was completed, failed or cancelled, in ms since 1970."""
    num_predictions: int
    """Recordings that were recognised."""
    num_errors: int
    """Recordings that have an error instead."""
    progress: float
    """Done part of the recordings, 0 to 1."""
    eta_s: float | None
    """Seconds until the end; null where that cannot be told yet."""
    audio_s: float
    """Length of the recordings that were recognised, in s."""
    speed: float
    """Seconds of audio per second; 0 where it is not being done."""
    error: ErrorFacts | None
    """Why it failed, or why it waits; null where nothing is wrong."""


@dataclass(frozen=True)
class JobBody:
    """One job."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    job_id: str
    """A UUID."""
    name: str
    """Of its first file, or of its archive."""
    model: str | None
    """Id of the model that answers; null before it has begun."""
    request: JobRequest
    """What was asked for."""
    state: JobState
    """How far it is."""
    results_url: str
    """Address of the rows as JSON; csv and parquet lie beside it."""


@dataclass(frozen=True)
class DeletedJob:
    """What was removed."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    deleted: str
    """Id of the job."""


_JobId = Annotated[str, Path(description="Id of the job.")]
_Ending = Annotated[str, Path(description=f"One of {', '.join(MEDIA_TYPES)}.")]


def add_routes(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    """Adds the routes of jobs."""
    _add_jobs(app, jobs, settings)
    _add_events(app, jobs, settings)
    _add_results(app, jobs, settings)


def _add_jobs(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    threads = anyio.CapacityLimiter(UPLOAD_THREADS)

    @app.post(
        "/api/jobs",
        tags=["jobs"],
        summary="Recognise many recordings: several files, or one zip",
        status_code=202,
        response_model=JobBody,
        responses=JOB_ERRORS,
        openapi_extra=JOB_BODY,
    )
    @app.post("/api/jobs/", include_in_schema=False)  # Gradio's mount redirects neither form
    @limited(JOB)
    async def create(request: Request) -> Response:
        bounds = jobs.bounds
        limit_bytes = bounds.bytes + FORM_BYTES_PER_FILE * bounds.files
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise JobTooLarge(limit_files=bounds.files, limit_mb=settings.max_job_mb)
        incoming = await anyio.to_thread.run_sync(jobs.store.begin, bounds)
        try:
            fields = await forms.receive(request, incoming, limit_bytes, threads)
            owner = getattr(request.state, CALLER, "")
            lang = language(request.headers, settings)

            def add() -> Job:
                wanted = _wanted(fields, settings.outputs, lang)
                return jobs.add(incoming, wanted, owner=owner)

            job = await anyio.to_thread.run_sync(add)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(jobs.store.drop, incoming)
        body = _body(Standing(job), lang, settings)
        return Response(to_json(body), 202, media_type="application/json")

    @app.get(
        "/api/jobs",
        tags=["jobs"],
        summary="Jobs, the newest first",
        response_model=list[JobBody],
        responses=BAD_FIELD,
    )
    @app.get("/api/jobs/", include_in_schema=False)
    def listed(
        request: Request,
        status: Annotated[
            list[str] | None, Query(description=f"Any of {', '.join(STATUSES)}; else all.")
        ] = None,
        limit: Annotated[int, Query(description="Jobs at most.", ge=1, le=MAX_LISTED)] = 50,
    ) -> Response:
        wanted = [one for one in STATUSES if one in (status or ())]
        for one in set(status or ()) - set(wanted):
            allowed = ", ".join(STATUSES)
            raise BadField(field="status", value=repr(one)[:100], allowed=allowed)
        lang = language(request.headers, settings)
        found = jobs.find(wanted or STATUSES, limit)
        return _json([_body(one, lang, settings) for one in found])

    @app.get(
        "/api/jobs/{job_id}",
        tags=["jobs"],
        summary="How far a job is",
        response_model=JobBody,
        responses=NOT_FOUND,
    )
    def read(request: Request, job_id: _JobId) -> Response:
        return _json(_body(jobs.get(job_id), language(request.headers, settings), settings))

    @app.post(
        "/api/jobs/{job_id}/cancel",
        tags=["jobs"],
        summary="End a job and keep its rows",
        response_model=JobBody,
        responses=NOT_FOUND,
    )
    def cancel(request: Request, job_id: _JobId) -> Response:
        return _json(_body(jobs.cancel(job_id), language(request.headers, settings), settings))

    @app.delete(
        "/api/jobs/{job_id}",
        tags=["jobs"],
        summary="End a job and remove its recordings and rows for good",
        response_model=DeletedJob,
        responses=NOT_FOUND,
    )
    def delete(job_id: _JobId) -> Response:
        jobs.remove(job_id)
        return _json(DeletedJob(job_id))


def _add_events(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    @app.get(
        "/api/jobs/{job_id}/events",
        tags=["jobs"],
        summary="How far a job is, as server-sent events until it has ended",
        response_class=StreamingResponse,
        responses=NOT_FOUND
        | {
            200: {
                "content": {"text/event-stream": {}},
                "description": 'Events "state" with a job as JSON; "deleted" where it is removed.',
            }
        },
    )
    async def events(request: Request, job_id: _JobId) -> Response:
        lang = language(request.headers, settings)

        def look() -> tuple[str, bool]:
            standing = jobs.get(job_id)
            return to_json(_body(standing, lang, settings)).decode(), standing.job.has_ended

        first = await anyio.to_thread.run_sync(look)

        async def stream() -> AsyncIterator[str]:
            (now, has_ended), said, quiet_s = first, "", 0.0
            while True:
                if now != said:
                    said, quiet_s = now, 0.0
                    yield f"event: state\ndata: {now}\n\n"
                elif quiet_s >= QUIET_S:
                    quiet_s = 0.0
                    yield ":\n\n"
                if has_ended:
                    return
                await anyio.sleep(EVENTS_S)
                quiet_s += EVENTS_S
                try:
                    now, has_ended = await anyio.to_thread.run_sync(look)
                except ResultNotFound:
                    yield f'event: deleted\ndata: {{"deleted": "{job_id}"}}\n\n'
                    return
                except EmotionError:  # the server is stopping; a client asks again
                    return

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would gather
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _add_results(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    @app.get(
        "/api/jobs/{job_id}/results.{ending}",
        tags=["jobs"],
        summary="The rows of a job as a table; of a job under way, those there are",
        response_class=StreamingResponse,
        responses=BAD_FIELD
        | NOT_FOUND
        | {
            200: {
                "content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()},
                "description": "The rows and columns of the command batch.",
            }
        },
    )
    def results(
        request: Request,
        job_id: _JobId,
        ending: _Ending,
        lang: LangParameter = "",
        bom: Annotated[bool, Query(description="Begin a CSV with a mark for Excel.")] = False,
    ) -> Response:
        if ending not in MEDIA_TYPES:
            raise ResultNotFound(name=f"results.{ending}"[:200])
        job = jobs.get(job_id).job
        folder = tempfile.TemporaryDirectory(prefix="emotion2vec-")
        try:
            path = FilePath(folder.name) / f"results.{ending}"
            told_in = chosen_language(request, lang, settings)
            jobs.store.write_table(job_id, path, told_in, settings.root_path)
        except BaseException:
            folder.cleanup()
            raise
        first = BYTE_ORDER_MARK if bom and ending == "csv" else b""
        name = f"{FilePath(job.name).stem or 'job'}_{job.id[:8]}.{ending}"
        headers = {"Content-Length": str(len(first) + path.stat().st_size)}
        return StreamingResponse(
            _sent(folder, path, first),
            media_type=MEDIA_TYPES[ending],
            headers=headers | attachment(name),
        )

    @app.get(
        "/api/jobs/{job_id}/files/{name:path}",
        tags=["jobs"],
        summary="A recording of a job, as it was sent",
        response_class=FileResponse,
        responses=NOT_FOUND
        | {200: {"content": {"audio/*": {}}, "description": "The file; ranges are answered."}},
    )
    def recording(
        job_id: _JobId, name: Annotated[str, Path(description="Its path in the job.")]
    ) -> Response:
        path = jobs.store.file(job_id, name)
        kind = mimetypes.guess_type(path.name)[0] or ""
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
        if not kind.startswith(("audio/", "video/")):
            # It may be anything; a browser is to show none of it.
            return FileResponse(
                path,
                media_type="application/octet-stream",
                headers=headers | attachment(path.name),
            )
        return FileResponse(path, media_type=kind, headers=headers)


def _wanted(fields: Mapping[str, str], outputs: FilePath, lang: str) -> Wanted:
    """What a form asks for; of sub-classes the versions that are used now.

    Raises:
        BadField: a value is none of those allowed.
    """
    granularity = fields.get("granularity", GRANULARITIES[0])
    if granularity not in GRANULARITIES:
        value = repr(granularity)[:100]
        raise BadField(field="granularity", value=value, allowed=", ".join(GRANULARITIES))
    names = forms.subclass_names(fields.get(forms.SUBCLASS, ""), outputs)
    return Wanted(
        granularity=granularity,
        embedding=forms.boolean("extract_embedding", fields.get("extract_embedding", "false")),
        save=forms.boolean("save", fields.get("save", "false")),
        subclass=tuple((name, subclasses.current(outputs, name)) for name in names),
        lang=lang,
    )


def _body(standing: Standing, lang: str, settings: Settings) -> JobBody:
    job = standing.job
    error = job.error[lang] if job.error else None
    base = f"{settings.root_path.rstrip('/')}/api/jobs/{quote(job.id)}"
    return JobBody(
        job_id=job.id,
        name=job.name,
        model=job.model,
        request=JobRequest(
            files=job.files,
            bytes=job.bytes,
            granularity=job.granularity,
            extract_embedding=job.embedding,
            save=job.save,
            subclass=dict(job.subclass),
        ),
        state=JobState(
            status=job.status,
            created_timestamp_ms=job.created_ms,
            started_timestamp_ms=job.started_ms,
            ended_timestamp_ms=job.ended_ms,
            num_predictions=job.done - job.failed,
            num_errors=job.failed,
            progress=round(job.done / job.files, 4),
            eta_s=None if standing.eta_s is None else round(standing.eta_s, 1),
            audio_s=round(job.audio_s, 3),
            speed=round(standing.speed, 1),
            error=None if error is None else ErrorFacts(error.code, error.message, error.hint),
        ),
        results_url=f"{base}/results.json",
    )


def _json(body: JobBody | list[JobBody] | DeletedJob) -> Response:
    """Made here, in the worker thread of the handler: FastAPI would make it in the event loop."""
    return Response(to_json(body), media_type="application/json")


def _sent(
    folder: tempfile.TemporaryDirectory[str], path: FilePath, first: bytes
) -> Iterator[bytes]:
    """The file after its first bytes, and then the end of its folder."""
    with folder, path.open("rb") as file:
        yield first
        while chunk := file.read(COPY_BYTES):
            yield chunk
