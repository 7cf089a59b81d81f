"""HTTP for past results: search, read, compare, export and delete, and each result's own page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from emotion2vec_ui import texts
from emotion2vec_ui.drawing import report
from emotion2vec_ui.errors import BadField, ResultNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.index import (
    BANDS,
    MAX_COMPARED,
    MAX_LIMIT,
    MIN_COMPARED,
    NONE,
    QUALITIES,
    SORTS,
    Filters,
    History,
    Row,
    row_dict,
)
from emotion2vec_ui.server.access import error_response, language
from emotion2vec_ui.settings import Settings

PAGE_HEADERS = {
    # What stands in a report can run nothing and fetch nothing but its own recording.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cache-Control": "private, no-cache",
}

_BODY = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
BAD_FIELD: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "A parameter has a bad value; the allowed ones are named.",
        "content": _BODY,
    }
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such result.", "content": _BODY}
}


class RowBody(BaseModel):
    """One past result. What an old result does not tell is null."""

    folder: str = Field(examples=["outputs_20260104_223000"])
    timestamp: str = Field(examples=["2026-01-04 22:30:00"])
    name: str = Field(examples=["call.wav"])
    sha256: str | None
    duration_s: float | None = Field(examples=[4.2])
    emotion: str = Field(examples=["happy"])
    confidence: float = Field(ge=0, le=1, examples=[0.853])
    band: str = Field(examples=["high"])
    quality: str | None = Field(examples=["good"])
    granularity: str = Field(examples=["utterance"])
    model: str | None = Field(examples=["iic/emotion2vec_plus_large"])
    has_embedding: bool
    scores: dict[str, float]
    page_url: str = Field(examples=["/result/outputs_20260104_223000"])
    result_url: str = Field(examples=["/file=outputs/outputs_20260104_223000/result.json"])
    audio_url: str


class PageBody(BaseModel):
    """Some of the results found."""

    rows: list[RowBody]
    total: int = Field(description="How many were found in all.")
    limit: int
    offset: int
    damaged: int = Field(description="Folders whose result.json cannot be used.")


class DeletedBody(BaseModel):
    """What was removed."""

    deleted: list[str]


class ComparedBody(BaseModel):
    """One result of a comparison."""

    model_config = ConfigDict(extra="allow")

    folder: str
    scores: dict[str, float]
    differences: dict[str, float] = Field(description="Scores less those of the first result.")
    distance: float = Field(description="Total variation from the first: 0 equal, 1 disjoint.")


class ComparisonBody(BaseModel):
    """Results side by side; the first is what the others are compared with."""

    results: list[ComparedBody]
    similarity: list[list[float | None]] = Field(
        description="Cosine of the embeddings; null without both, or between models."
    )
    caveats: list[str] = Field(
        description="models_differ, qualities_differ, granularities_differ, same_recording."
    )


def _filters(
    emotion: Annotated[
        list[str] | None, Query(description=f"Any of {', '.join(EMOTIONS)}.")
    ] = None,
    band: Annotated[list[str] | None, Query(description=f"Any of {', '.join(BANDS)}.")] = None,
    quality: Annotated[
        list[str] | None, Query(description=f"Any of {', '.join((*QUALITIES, NONE))}.")
    ] = None,
    model: Annotated[list[str] | None, Query(description="Model ids.")] = None,
    text: Annotated[str, Query(description="Part of the file name, in any case.")] = "",
    date_from: Annotated[str, Query(description="YYYY-MM-DD, included.")] = "",
    date_to: Annotated[str, Query(description="YYYY-MM-DD, included.")] = "",
    sort: Annotated[str, Query(description=f"One of {', '.join(SORTS)}.")] = "newest",
    limit: Annotated[int, Query(description=f"Rows, 1 to {MAX_LIMIT}.")] = 50,
    offset: Annotated[int, Query(description="Rows to skip.")] = 0,
) -> Filters:
    return Filters(
        emotion=tuple(emotion or ()),
        band=tuple(band or ()),
        quality=tuple(quality or ()),
        model=tuple(model or ()),
        text=text,
        date_from=date_from,
        date_to=date_to,
        sort=sort,
        limit=limit,
        offset=offset,
    )


_Filters = Annotated[Filters, Depends(_filters)]
_Folders = Annotated[
    list[str],
    Query(description=f"{MIN_COMPARED} to {MAX_COMPARED} results; the first is the reference."),
]
_Lang = Annotated[str, Query(description="zh or en; else as Accept-Language asks.")]


def add_routes(app: FastAPI, history: History, settings: Settings) -> None:
    """Adds the routes of past results; before anything that would catch `/api/...` or the page."""

    def lang_of(request: Request, wanted: str) -> str:
        if wanted and wanted not in texts.languages():
            allowed = ", ".join(texts.languages())
            raise BadField(field="lang", value=repr(wanted)[:100], allowed=allowed)
        return wanted or language(request.headers, settings)

    @app.get(
        "/api/history",
        tags=["history"],
        summary="Search past results",
        response_model=PageBody,
        responses=BAD_FIELD,
    )
    def search(filters: _Filters) -> dict[str, Any]:
        page = history.search(filters)
        return {
            "rows": [_body(row, settings) for row in page.rows],
            "total": page.total,
            "limit": filters.limit,
            "offset": filters.offset,
            "damaged": page.damaged,
        }

    @app.get(
        "/api/history.csv",
        tags=["history"],
        summary="All results found, as CSV",
        response_class=StreamingResponse,
        responses=BAD_FIELD | {200: {"content": {"text/csv": {}}, "description": "RFC 4180."}},
    )
    def export(
        filters: _Filters,
        bom: Annotated[bool, Query(description="Begin with a byte order mark, for Excel.")] = True,
    ) -> Response:
        return StreamingResponse(
            history.export_csv(filters, bom=bom),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="history.csv"'},
        )

    @app.get(
        "/api/history/{folder}",
        tags=["history"],
        summary="One past result, as /api/predict answered it",
        responses=NOT_FOUND,
    )
    def read(folder: str) -> JSONResponse:
        return JSONResponse(results.with_urls(history.get(folder), folder, settings.root_path))

    @app.delete(
        "/api/history/{folder}",
        tags=["history"],
        summary="Remove one past result for good",
        response_model=DeletedBody,
        responses=NOT_FOUND,
    )
    def delete(folder: str) -> dict[str, list[str]]:
        removed = history.delete([folder])
        if not removed:
            raise ResultNotFound(name=folder[:200])
        return {"deleted": removed}

    @app.get(
        "/api/compare",
        tags=["history"],
        summary="Several results side by side",
        response_model=ComparisonBody,
        responses=BAD_FIELD | NOT_FOUND,
    )
    def compare(folder: _Folders) -> dict[str, Any]:
        return history.compare(folder).to_dict()

    @app.get(
        "/result/{folder}",
        tags=["history"],
        summary="A result's own page, to read and print",
        response_class=HTMLResponse,
        responses=BAD_FIELD | NOT_FOUND,
    )
    def result_page(request: Request, folder: str, lang: _Lang = "") -> Response:
        facts = history.get(folder)
        audio_url = None
        if (history.path(folder) / results.AUDIO_NAME).is_file():
            audio_url = results.with_urls(facts, folder, settings.root_path)["audio_url"]
        html = report.render(
            facts, lang=lang_of(request, lang), folder_name=folder, audio_url=audio_url
        )
        return HTMLResponse(html, headers=PAGE_HEADERS)

    @app.get(
        "/comparison",
        tags=["history"],
        summary="A comparison, to read and print",
        response_class=HTMLResponse,
        responses=BAD_FIELD | NOT_FOUND,
    )
    def comparison_page(request: Request, folder: _Folders, lang: _Lang = "") -> Response:
        html = report.render_comparison(history.compare(folder), lang=lang_of(request, lang))
        return HTMLResponse(html, headers=PAGE_HEADERS)

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(_bad_field(error.errors()), language(request.headers, settings))


def page_url(folder: str, settings: Settings) -> str:
    """A result's own address."""
    return f"{settings.root_path.rstrip('/')}/result/{folder}"


def _body(row: Row, settings: Settings) -> dict[str, Any]:
    urls = results.with_urls({}, row.folder, settings.root_path)
    return row_dict(row) | {
        "page_url": page_url(row.folder, settings),
        "result_url": urls["result_url"],
        "audio_url": urls["audio_url"],
    }


def _bad_field(found: Sequence[Mapping[str, Any]]) -> BadField:
    """FastAPI's finding as the contract's error."""
    first = found[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "query"
    return BadField(field=field, value=repr(first.get("input"))[:100], allowed=first["msg"])
