"""HTTP for past results: search, read, compare, export and delete, their files and their pages."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, BinaryIO, ClassVar, Literal
from urllib.parse import quote

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from pydantic import Field
from pydantic_core import to_json

from emotion2vec_ui import texts
from emotion2vec_ui.drawing.document import comparison_page, report_page
from emotion2vec_ui.errors import BadField, ResultNotFound
from emotion2vec_ui.records import exports, report, store
from emotion2vec_ui.records.comparison import MAX_COMPARED, MIN_COMPARED, compare
from emotion2vec_ui.records.filters import Filters
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.server.access import language
from emotion2vec_ui.server.schemas import BAD_FIELD, NOT_FOUND, AllOf, Answer, Responses
from emotion2vec_ui.settings import Settings

HTML_HEADERS = {
    # What stands in a report can run nothing and fetch nothing but its own recording.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cache-Control": "private, no-cache",
}

MEDIA_TYPES = {
    store.RESULT_NAME: "application/json; charset=utf-8",
    store.AUDIO_NAME: "audio/wav",
    store.EMBEDDING_NAME: "application/octet-stream",
}
"""Of the files that are served, by name; no other is."""

COPY_BYTES = 1 << 20

CSV_LINES = 200
"""Sent at a time: about 50 kB."""


@dataclass(frozen=True)
class Links:
    """Where a past result is."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    page_url: str
    """Address of its own page, to read and print."""
    result_url: str
    """Address of result.json."""
    audio_url: str
    """Address of processed_audio.wav: what the model heard."""


@dataclass(frozen=True)
class FoundPage:
    """Some of the results found."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    rows: list[Annotated[dict[str, Any], AllOf(Row, Links)]]
    """Those from `offset` on, at most `limit`."""
    total: int
    """How many were found in all."""
    limit: int
    """As asked for."""
    offset: int
    """As asked for."""
    damaged: int
    """Folders whose result.json cannot be used, whatever the filters."""


@dataclass(frozen=True)
class Deleted:
    """What was removed."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    deleted: list[str]
    """Names of the folders."""


@dataclass(frozen=True)
class Difference:
    """How one result of a comparison differs from the first."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    differences: dict[str, float]
    """The nine scores less those of the first result, -1 to 1 each."""
    distance: float
    """Total variation between the two: 0 (equal) to 1 (disjoint)."""


@dataclass(frozen=True)
class Compared:
    """Results side by side; the first is what the others are compared with."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    results: list[Annotated[dict[str, Any], AllOf(Row, Difference)]]
    """In the order asked for."""
    similarity: list[list[float | None]]
    """Cosine of the embeddings, one row and column per result; null without both, or between
    models."""
    caveats: list[str]
    """models_differ, qualities_differ, granularities_differ, same_recording."""


class ExportFilters(Filters):
    """What to find for the CSV of all results."""

    bom: bool = Field(True, description="Begin with a byte order mark, for Excel.")


_Folders = Annotated[
    list[str],
    Query(description=f"{MIN_COMPARED} to {MAX_COMPARED} results; the first is the reference."),
]
Folder = Annotated[str, Path(description="The result's folder, such as outputs_20260104_223000.")]
LangParameter = Annotated[str, Query(description="zh or en; else as Accept-Language asks.")]
_Ending = Annotated[
    str, Path(description=f"One of {', '.join(exports.MEDIA_TYPES)}; txt is for Audacity.")
]
_Part = Annotated[
    Literal["segments", "sentences"],
    Query(
        description="Of frame granularity: stretches of one emotion, or each stretch of speech "
        "recognised by itself."
    ),
]


def add_routes(app: FastAPI, history: History, settings: Settings) -> None:
    """Adds the routes of past results."""
    _add_api(app, history, settings)
    _add_exports(app, history, settings)
    _add_pages(app, history, settings)

    @app.get("/file=outputs/{folder}/{name}", include_in_schema=False)
    def file(folder: str, name: str) -> Response:
        # Names are matched, never resolved: nothing else under outputs, no link, no "..".
        path = store.find(settings.outputs, folder) / name
        if name not in MEDIA_TYPES or path.is_symlink() or not path.is_file():
            raise ResultNotFound(name=f"{folder}/{name}"[:200])
        return FileResponse(path, media_type=MEDIA_TYPES[name], filename=name)


def _add_api(app: FastAPI, history: History, settings: Settings) -> None:
    @app.get(
        "/api/history",
        tags=["history"],
        summary="Search past results",
        response_model=FoundPage,
        responses=BAD_FIELD,
    )
    def search(filters: Annotated[Filters, Query()]) -> Response:
        page = history.search(filters)
        rows = [vars(row) | vars(_links(row.folder, settings)) for row in page.rows]
        return _json(FoundPage(rows, page.total, filters.limit, filters.offset, page.damaged))

    @app.get(
        "/api/history.csv",
        tags=["history"],
        summary="All results found, as CSV",
        response_class=StreamingResponse,
        responses=BAD_FIELD | {200: {"content": {"text/csv": {}}, "description": "RFC 4180."}},
    )
    def export_all(filters: Annotated[ExportFilters, Query()]) -> Response:
        return StreamingResponse(
            _in_blocks(history.export_csv(filters, bom=filters.bom)),
            media_type="text/csv; charset=utf-8",
            headers=attachment("history.csv"),
        )

    @app.get(
        "/api/history/{folder}",
        tags=["history"],
        summary="One past result, as /api/predict answered it",
        response_model=Answer,
        responses=NOT_FOUND,
    )
    def read(folder: Folder) -> Response:
        content = report.to_json(found := history.get(folder))
        files = store.files_of(
            folder, has_embedding=found.embedding is not None, root_path=settings.root_path
        )
        return Response(report.with_files(content, files), media_type="application/json")

    @app.delete(
        "/api/history/{folder}",
        tags=["history"],
        summary="Remove one past result for good",
        response_model=Deleted,
        responses=NOT_FOUND,
    )
    def delete(folder: Folder) -> Response:
        removed = history.delete([folder])
        if not removed:
            raise ResultNotFound(name=folder[:200])
        return _json(Deleted(removed))

    @app.get(
        "/api/compare",
        tags=["history"],
        summary="Several results side by side",
        response_model=Compared,
        responses=BAD_FIELD | NOT_FOUND,
    )
    def compare_results(folder: _Folders) -> Response:
        found = compare(history, folder)
        results = [
            vars(one.row) | vars(Difference(one.differences, distance))
            for one, distance in zip(found.results, found.distances, strict=True)
        ]
        return _json(Compared(results, found.similarity, found.caveats))


def _add_exports(app: FastAPI, history: History, settings: Settings) -> None:
    as_file: Responses = {200: {"description": "A file, named after the recording."}}

    @app.get(
        "/result/{folder}.zip",
        tags=["history"],
        summary="All files of a result in one archive",
        response_class=StreamingResponse,
        responses=NOT_FOUND
        | {200: {"content": {"application/zip": {}}, "description": "Not compressed."}},
    )
    def archive(folder: Folder) -> Response:
        headers = attachment(f"{_stem(history.get(folder), folder)}.zip")
        # Without a name on the disk: gone when it is closed, also with the process.
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _read
        try:
            exports.write_zip(history.path(folder), file)
            headers["Content-Length"] = str(file.tell())
        except BaseException:
            file.close()
            raise
        return StreamingResponse(_read(file), media_type="application/zip", headers=headers)

    @app.get(
        "/result/{folder}.{ending}",
        tags=["history"],
        summary="A result for another program: table, subtitles, labels",
        response_class=Response,
        responses=BAD_FIELD | NOT_FOUND | as_file,
    )
    def export(
        request: Request,
        folder: Folder,
        ending: _Ending,
        part: _Part = "segments",
        lang: LangParameter = "",
    ) -> Response:
        if ending not in exports.MEDIA_TYPES:
            raise ResultNotFound(name=f"{folder}.{ending}"[:200])
        found = history.get(folder)
        text = exports.export(
            found, ending, lang=chosen_language(request, lang, settings), part=part
        )
        suffix = "" if part == "segments" else f"_{part}"
        headers = attachment(f"{_stem(found, folder)}{suffix}.{ending}")
        return Response(text, media_type=exports.MEDIA_TYPES[ending], headers=headers)


def _add_pages(app: FastAPI, history: History, settings: Settings) -> None:
    @app.get(
        "/result/{folder}",
        tags=["history"],
        summary="A result's own page, to read and print",
        response_class=HTMLResponse,
        responses=BAD_FIELD | NOT_FOUND,
    )
    def result_page(request: Request, folder: Folder, lang: LangParameter = "") -> Response:
        found = history.get(folder)
        audio_url = None
        if store.AUDIO_NAME in dict(store.files_in(history.path(folder))):
            audio_url = _links(folder, settings).audio_url
        html = report_page(
            found,
            lang=chosen_language(request, lang, settings),
            folder_name=folder,
            audio_url=audio_url,
        )
        return HTMLResponse(html, headers=HTML_HEADERS)

    @app.get(
        "/comparison",
        tags=["history"],
        summary="A comparison, to read and print",
        response_class=HTMLResponse,
        responses=BAD_FIELD | NOT_FOUND,
    )
    def comparison(request: Request, folder: _Folders, lang: LangParameter = "") -> Response:
        chosen = chosen_language(request, lang, settings)
        return HTMLResponse(
            comparison_page(compare(history, folder), lang=chosen), headers=HTML_HEADERS
        )


def chosen_language(request: Request, wanted: str, settings: Settings) -> str:
    """The language that the address names, else that of the caller.

    Raises:
        BadField: there is no such language.
    """
    if wanted and wanted not in texts.languages():
        allowed = ", ".join(texts.languages())
        raise BadField(field="lang", value=repr(wanted)[:100], allowed=allowed)
    return wanted or language(request.headers, settings)


def _links(folder: str, settings: Settings) -> Links:
    files = store.files_of(folder, has_embedding=False, root_path=settings.root_path)
    page_url = f"{settings.root_path.rstrip('/')}/result/{folder}"
    return Links(page_url, files.result_url, files.audio_url)


def _json(body: FoundPage | Deleted | Compared) -> Response:
    """Made here, in the worker thread of the handler: FastAPI would make it in the event loop."""
    return Response(to_json(body), media_type="application/json")


def _stem(found: report.Report, folder: str) -> str:
    """The recording's name without its ending; an old result, which has none, has its folder's."""
    return (PurePath(found.source.name).stem if found.source else "") or folder


def attachment(name: str) -> dict[str, str]:
    """The header for a download under this name: RFC 6266, names beyond ASCII as RFC 5987."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    value = f'attachment; filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return {"Content-Disposition": value}


def _in_blocks(lines: Iterator[str]) -> Iterator[str]:
    """The same text, many lines at a time: each piece costs a change of threads."""
    while block := "".join(itertools.islice(lines, CSV_LINES)):
        yield block


def _read(file: BinaryIO) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(COPY_BYTES):
            yield chunk
