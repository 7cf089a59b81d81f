"""/openapi.json, made when it is first asked for.

Describing every answer takes half a second, for pydantic reads the source of each class; the first
page does not wait for it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.routing import Route

from emotion2vec_ui.records import adapters


class LateRoute(APIRoute):
    """A route that looks at the classes of its answers only for the document.

    Handlers make their answers themselves, so the classes are needed for nothing else.

    Args:
        path: as `APIRoute` has it.
        endpoint: the same.
        options: the same, by name.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        self.described = partial(APIRoute, path, endpoint, **options)
        super().__init__(path, endpoint, **{**options, "response_model": None, "responses": None})


def describe_late(app: FastAPI) -> None:
    """Has the routes that are added from now on described when /openapi.json is asked for."""
    app.router.route_class = LateRoute
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        with adapters.BUILDING:
            if not document:
                described = FastAPI(
                    title=app.title, description=app.description, version=app.version
                )
                described.router.routes.extend(
                    route.described() for route in app.routes if isinstance(route, LateRoute)
                )
                document.update(described.openapi())
        return document

    # FastAPI's own way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]
    (position,) = (
        i for i, route in enumerate(app.routes) if getattr(route, "path", "") == app.openapi_url
    )
    answer = app.routes[position]
    assert isinstance(answer, Route) and app.openapi_url is not None

    async def in_a_thread(request: Request) -> Response:
        await anyio.to_thread.run_sync(openapi)
        answered: Response = await answer.endpoint(request)
        return answered

    app.router.routes[position] = Route(app.openapi_url, in_a_thread, include_in_schema=False)
