"""HTTP for sub-classes: list, show, train, choose a version, remove."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, ClassVar

import anyio.to_thread
from fastapi import FastAPI, Form, Query, UploadFile
from fastapi import File as FormFile
from fastapi import Path as AddressPart
from fastapi.responses import Response
from pydantic_core import to_json

from emotion2vec_ui.errors import AudioUnreadable, BadField, UploadTooLarge
from emotion2vec_ui.lab import subclass
from emotion2vec_ui.pipeline.recogniser import MODEL_WAIT_S, Recogniser
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.records.subclasses import Card
from emotion2vec_ui.server.access import Limits, limited
from emotion2vec_ui.server.schemas import BAD_FIELD, RECOGNITION_ERRORS, ErrorBody, Responses

TRAINING = Limits(body="recording", counted=True)

MANIFEST_SUFFIX = ".csv"
COPY_BYTES = 1 << 20

MAX_RATIO = 20
"""Of an archive unpacked to the largest upload: a bomb must not fill the disk. Chosen."""


@dataclass(frozen=True)
class Kept:
    """A set of sub-classes."""

    name: str
    """Of the set."""
    base: str
    """The emotion that is divided, one of the nine keys."""
    classes: tuple[str, ...]
    """Of the current version."""
    model: str
    """Id of the model that it belongs to."""
    usable: bool
    """Whether that model's weights are the ones that answer now."""
    version: int
    """The one that is used."""
    versions: tuple[int, ...]
    """All of them, rising."""
    uar: float
    """Of the current version, on speakers that it was not trained on, 0 to 1."""
    uar_interval: tuple[float, float]
    """95 % interval of it."""
    small: bool
    """Whether it was trained on too little to be relied on."""


@dataclass(frozen=True)
class KeptList:
    """All sets of sub-classes."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    subclasses: list[Kept]
    """In order of their names."""


@dataclass(frozen=True)
class Removed:
    """What was removed."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    name: str
    """Of the set."""
    removed: list[int]
    """Versions."""


_Name = Annotated[str, AddressPart(description="Of a set of sub-classes.")]
_Version = Annotated[int | None, Query(ge=1, description="Default: the current one.")]

_NOT_FOUND: Responses = {404: {"model": ErrorBody, "description": "There is no such set."}}


def add_routes(app: FastAPI, recogniser: Recogniser) -> None:
    """Adds the routes of sub-classes."""
    outputs = recogniser.settings.outputs
    # One at a time: each takes the processor for minutes.
    training = anyio.CapacityLimiter(1)

    @app.get(
        "/api/subclasses",
        tags=["sub-classes"],
        summary="The trained sets of sub-classes",
        response_model=KeptList,
    )
    def kept() -> Response:
        answering = recogniser.holder.current
        found = []
        for name in subclasses.names(outputs):
            card = subclasses.card(outputs, name)
            found.append(
                Kept(
                    name=name,
                    base=card.base,
                    classes=card.classes,
                    model=card.model,
                    usable=answering is not None
                    and answering.weights_sha256 == card.weights_sha256,
                    version=card.version,
                    versions=tuple(subclasses.versions(outputs, name)),
                    uar=card.uar,
                    uar_interval=card.uar_interval,
                    small=card.small,
                )
            )
        return _json(to_json(KeptList(found)))

    @app.get(
        "/api/subclasses/{name}",
        tags=["sub-classes"],
        summary="The card of a version: data, coverage, figures",
        response_model=Card,
        responses=BAD_FIELD | _NOT_FOUND,
    )
    def show(name: _Name, version: _Version = None) -> Response:
        return _json(subclasses.to_json(subclasses.card(outputs, name, version)))

    @app.delete(
        "/api/subclasses/{name}",
        tags=["sub-classes"],
        summary="Remove a version for good, or without one the whole set",
        response_model=Removed,
        responses=BAD_FIELD | _NOT_FOUND,
    )
    def remove(
        name: _Name,
        version: Annotated[int | None, Query(ge=1, description="Default: all of them.")] = None,
    ) -> Response:
        name = subclasses.checked_name(name)
        return _json(to_json(Removed(name, subclasses.remove(outputs, name, version))))

    @app.post(
        "/api/subclasses/{name}",
        tags=["sub-classes"],
        summary="Have an older or newer version be used",
        response_model=Card,
        responses=BAD_FIELD | _NOT_FOUND,
    )
    def use(
        name: _Name,
        version: Annotated[int, Form(ge=1, description="The version to use from now on.")],
    ) -> Response:
        subclasses.make_current(outputs, name, version)
        return _json(subclasses.to_json(subclasses.card(outputs, name, version)))

    @app.post(
        "/api/subclasses",
        tags=["sub-classes"],
        summary="Train a set of sub-classes",
        response_model=Card,
        responses=RECOGNITION_ERRORS,
    )
    @limited(TRAINING)
    async def train(
        manifest: Annotated[
            list[UploadFile],
            FormFile(
                description="CSVs with path, label and speaker whose paths are folders of past "
                "results, or a ZIP of one CSV and the recordings that it names; several are one."
            ),
        ],
        of: Annotated[str, Form(description="The emotion to divide, one of the nine keys.")],
        name: Annotated[str, Form(description="Of the set.")],
        allow_small: Annotated[
            bool, Form(description="Train on under 200 samples or 5 speakers of a sub-class.")
        ] = False,
        licence: Annotated[str, Form(description="Of what is trained, for its card.")] = "",
    ) -> Response:
        def work() -> bytes:
            limit_bytes = recogniser.settings.max_upload_bytes
            with contextlib.ExitStack() as unpacked:
                paths = [
                    unpacked.enter_context(_unpacked(one.file, one.filename or "", limit_bytes))
                    for one in manifest
                ]
                card = subclass.train(
                    subclass.Wanted(tuple(paths), of, name, allow_small, licence),
                    _within(outputs),
                    recogniser,
                    lambda: recogniser.holder.get(MODEL_WAIT_S),
                )
            return subclasses.to_json(card)

        return _json(await anyio.to_thread.run_sync(work, limiter=training))


@contextlib.contextmanager
def _unpacked(file: BinaryIO, name: str, limit_bytes: int) -> Iterator[Path]:
    """The manifest that was sent, in a folder with its recordings if they came with it.

    Raises:
        BadField: it is neither a CSV nor a ZIP with one CSV.
        UploadTooLarge: unpacked it is larger than an archive of recordings can be.
    """
    with tempfile.TemporaryDirectory(prefix="emotion2vec-") as place:
        folder = Path(place)
        path = folder / "manifest.csv"
        if not zipfile.is_zipfile(file):
            file.seek(0)
            with path.open("wb") as target:
                shutil.copyfileobj(file, target, COPY_BYTES)
            yield path
            return
        try:
            with zipfile.ZipFile(file) as archive:
                members = [one for one in archive.infolist() if not one.is_dir()]
                if sum(one.file_size for one in members) > limit_bytes * MAX_RATIO:
                    raise UploadTooLarge(limit_mb=limit_bytes / 1e6)
                tables = [one for one in members if _is_manifest(one.filename)]
                if len(tables) != 1:
                    allowed = "a CSV, or a ZIP with one CSV"
                    raise BadField(field="manifest", value=repr(name)[:100], allowed=allowed)
                # Names with ".." or a root lose them: nothing is written elsewhere.
                archive.extractall(folder)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            problem = str(error)[:100]
            raise AudioUnreadable(name=name[:100], problem=problem) from error
        yield folder / tables[0].filename


def _is_manifest(name: str) -> bool:
    # macOS adds a folder of its own with a "._" file for every file.
    own = name.startswith("__MACOSX/")
    return PurePosixPath(name).suffix.lower() == MANIFEST_SUFFIX and not own


def _within(outputs: Path) -> Callable[[Path, str], Path]:
    """Where a manifest that was sent may lead: into its own archive, or to a past result.

    Never elsewhere on this machine: what cannot be found is as if it were not there.
    """

    def find(folder: Path, name: str) -> Path:
        inside = (folder / name).resolve()
        if inside.is_relative_to(folder.resolve()) and inside.is_file():
            return inside
        return subclass.result_audio(name, outputs) or folder / "absent" / Path(name).name

    return find


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
