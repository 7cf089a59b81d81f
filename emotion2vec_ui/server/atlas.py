"""HTTP for clusters and map of the recordings.

Both may take minutes with many recordings: a request waits for a while and is then told to ask
again, and the work goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, TypeVar

import anyio
import anyio.to_thread
from fastapi import FastAPI, Query
from fastapi.responses import Response
from pydantic_core import to_json

from emotion2vec_ui.lab import clusters as clustering
from emotion2vec_ui.lab.atlas import Atlas, Map, Task
from emotion2vec_ui.records.clusters import Clusters
from emotion2vec_ui.server.schemas import BAD_FIELD, ErrorBody, Responses

MAX_WAIT_S = 30.0
"""For which a request is held: half of what proxies commonly allow."""

POLL_S = 0.1

DECIMALS = 5
"""Of a place on the map: a hundredth of a pixel."""

NOT_YET: Responses = {
    404: {"model": ErrorBody, "description": "No recording of that model has an embedding."},
    409: {"model": ErrorBody, "description": "Too few recordings have one."},
    503: {"model": ErrorBody, "description": "Still being computed; see Retry-After."},
}

_Model = Annotated[str, Query(description="Id of a model; without one, that with most embeddings.")]
_Method = Annotated[str, Query(description=f"One of {', '.join(clustering.METHODS)}.")]
_K = Annotated[
    str,
    Query(
        description=f"Number of clusters for {clustering.KMEANS}, {clustering.MIN_K} to "
        f"{clustering.MAX_K}, or {clustering.AUTO}: the one with the best silhouette."
    ),
]

T = TypeVar("T")


@dataclass(frozen=True)
class MapAnswer:
    """Where recordings stand on the map: lists of equal length, one entry for each recording."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    model: str
    """Id of the model that the embeddings are of."""
    method: str
    """tsne, or pca where openTSNE is not installed."""
    folder: list[str]
    """Of the results."""
    name: list[str]
    """Of the recordings' files."""
    x: list[float]
    """About -1 to 1."""
    y: list[float]
    """About -1 to 1, upwards."""
    emotion: list[str]
    """The leaders."""
    confidence: list[float]
    """The leaders' scores, 0 to 1."""
    quality: list[str | None]
    """good, fair or poor; null where an old result does not tell."""
    timestamp: list[str]
    """Local time of the recognition, "YYYY-MM-DD HH:MM:SS"."""


def add_routes(app: FastAPI, atlas: Atlas) -> None:
    """Adds the routes. What they send back is behind the guard, as all past results are."""

    @app.get(
        "/api/clusters",
        tags=["lab"],
        summary="Groups of recordings whose embeddings lie together",
        response_model=Clusters,
        responses=BAD_FIELD | NOT_YET,
    )
    async def clusters(
        model: _Model = "", method: _Method = clustering.KMEANS, k: _K = clustering.AUTO
    ) -> Response:
        find = partial(atlas.clusters, model or None, method=method, k=k)
        return await _answer(find, lambda found: found)

    @app.get(
        "/api/map",
        tags=["lab"],
        summary="All recordings of a model in two dimensions",
        response_model=MapAnswer,
        responses=NOT_YET,
    )
    async def map_(model: _Model = "") -> Response:
        return await _answer(partial(atlas.map, model or None), _map_answer)


async def _answer(ask: Callable[[], Task[T]], shape: Callable[[T], object]) -> Response:
    """What comes of a task, as JSON.

    Raises:
        StillComputing: nothing within `MAX_WAIT_S`.
    """
    task = await anyio.to_thread.run_sync(ask)
    until_s = time.monotonic() + MAX_WAIT_S
    # Not in a thread: those that wait must not take them from those that work.
    while not task.done and time.monotonic() < until_s:
        await anyio.sleep(POLL_S)
    outcome = task.wait(0)
    body = await anyio.to_thread.run_sync(lambda: to_json(shape(outcome)))
    return Response(body, media_type="application/json")


def _map_answer(found: Map) -> MapAnswer:
    x, y = found.places.astype(float).round(DECIMALS).T.tolist()
    rows = found.rows
    return MapAnswer(
        model=found.model,
        method=found.method,
        folder=[row.folder for row in rows],
        name=[row.name for row in rows],
        x=x,
        y=y,
        emotion=[row.emotion for row in rows],
        confidence=[row.confidence for row in rows],
        quality=[row.quality for row in rows],
        timestamp=[row.timestamp for row in rows],
    )
