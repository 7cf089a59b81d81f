"""HTTP for what embeddings are for: similar recordings and outliers."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json

from emotion2vec_ui.lab import outliers, similar
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records.index import History
from emotion2vec_ui.server.access import limited
from emotion2vec_ui.server.predict import RECORDING, Recognitions
from emotion2vec_ui.server.results import Folder
from emotion2vec_ui.server.schemas import (
    BAD_FIELD,
    NO_EMBEDDINGS,
    RECOGNITION_ERRORS,
    SIMILAR_BODY,
)

_Top = Annotated[int, Query(description=f"At most so many, 1 to {similar.MAX_TOP}.")]
_Model = Annotated[str, Query(description="Whose recordings; without it, of the model with most.")]


def add_routes(app: FastAPI, history: History, recogniser: Recogniser) -> None:
    """Adds the routes."""
    settings = recogniser.settings
    recognitions = Recognitions(recogniser)

    @app.post(
        "/api/similar",
        tags=["lab"],
        summary="The results most like a recording, which is not kept",
        response_model=similar.Similar,
        responses=RECOGNITION_ERRORS | NO_EMBEDDINGS,
        openapi_extra=SIMILAR_BODY,
    )
    @limited(RECORDING)
    async def similar_to_recording(request: Request) -> Response:
        return await recognitions.similar(request, history)

    @app.get(
        "/api/similar/{folder}",
        tags=["lab"],
        summary="The results most like a result, itself first",
        response_model=similar.Similar,
        responses=BAD_FIELD | NO_EMBEDDINGS,
    )
    def similar_to_result(folder: Folder, top: _Top = similar.TOP) -> Response:
        found = similar.to_result(history, folder, top=top)
        return Response(
            to_json(similar.answer(folder, found, root_path=settings.root_path)),
            media_type="application/json",
        )

    @app.get(
        "/api/outliers",
        tags=["lab"],
        summary="Which results stand apart from the others, and why",
        response_model=outliers.Outliers,
        responses=BAD_FIELD | NO_EMBEDDINGS,
    )
    def find_outliers(model: _Model = "") -> Response:
        found = outliers.find(history, settings, model=model or None)
        return Response(to_json(found), media_type="application/json")
