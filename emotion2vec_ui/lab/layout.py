"""Where each recording stands on the map: two dimensions in which neighbours stay neighbours.

openTSNE (Policar et al., J. Stat. Softw. 109, 2024) where it is installed, else the first two
principal components. What is on the map stays where it is: a new recording is put among its
neighbours, until so many are new that the map is drawn anew, beginning from the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.lab.index import Space
from emotion2vec_ui.records import store

TSNE, PCA = "tsne", "pca"

VERSION = 1
"""Kept in the file; of any other the map is drawn anew."""

SEED = 0

MIN_RECORDINGS = 2

MIN_TSNE = 10
"""Of fewer recordings no neighbourhood can be told."""

PERPLEXITY = 30
"""openTSNE's own; it must be below a third of the number of points."""

EXAGGERATED_ITERATIONS, ITERATIONS = 250, 500
"""openTSNE's own."""

REPORTED_EVERY = 10
"""Iterations between two reports of progress."""

MAX_NEW = 0.25
"""Share of recordings that may be new before the map is drawn anew."""

NEIGHBOURS = 25
"""Whose median is a new recording's place: as in openTSNE's `prepare_partial`."""

START_SPREAD = 1e-4
"""Standard deviation that t-SNE begins with (Kobak and Berens, Nat. Commun. 10, 2019)."""


@dataclass(frozen=True)
class Layout:
    """Places of recordings.

    Attributes:
        method: `TSNE` or `PCA`.
        folders: of the results.
        places: float32 (n, 2), about -1 to 1.
    """

    method: str
    folders: tuple[str, ...]
    places: NDArray[np.float32]


def method() -> str:
    """How a map is drawn on this installation."""
    return TSNE if importlib.util.find_spec("openTSNE") else PCA


def known_places(layout: Layout | None, folders: tuple[str, ...]) -> NDArray[np.float32]:
    """The places that recordings have already.

    Args:
        layout: an earlier one, or None.
        folders: those to be placed.

    Returns:
        float32 (n, 2), NaN for what is new; all NaN where the map is to be drawn in another way.
    """
    places = np.full((len(folders), 2), np.nan, np.float32)
    if layout is not None and layout.method == method():
        at = {folder: i for i, folder in enumerate(layout.folders)}
        for i, folder in enumerate(folders):
            if folder in at:
                places[i] = layout.places[at[folder]]
    return places


def place(
    points: NDArray[np.float32],
    known: NDArray[np.float32],
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float32]:
    """Gives every point a place; the same for the same points and known places.

    Args:
        points: (n, components), n >= 2.
        known: (n, 2), NaN for points that have no place yet.
        on_progress: told the share done, 0 to 1.

    Returns:
        float32 (n, 2). Known places are kept, unless more than `MAX_NEW` are new.
    """
    new = np.any(np.isnan(known), axis=1)
    if new.mean() <= MAX_NEW:
        return _among_neighbours(points, known, new)
    if method() == PCA or len(points) < MIN_TSNE:
        flat = np.zeros((len(points), 2), np.float32)
        flat[:, : points.shape[1]] = points[:, :2]
        return _scaled(flat)
    start: NDArray[np.float64] | str = "pca"
    if not new.all():
        begun = _among_neighbours(points, known, new).astype(np.float64)
        start = begun / begun[:, 0].std() * START_SPREAD if begun[:, 0].std() > 0 else "pca"
    return _scaled(_tsne(points, start, on_progress))


def _tsne(
    points: NDArray[np.float32],
    start: NDArray[np.float64] | str,
    on_progress: Callable[[float], None],
) -> NDArray[np.float64]:
    import openTSNE

    done = 0

    def report(iteration: int, error: float, embedding: object) -> None:
        nonlocal done
        done += REPORTED_EVERY
        on_progress(min(1.0, done / (EXAGGERATED_ITERATIONS + ITERATIONS)))

    tsne = openTSNE.TSNE(
        perplexity=min(PERPLEXITY, (len(points) - 1) / 3),
        initialization=start,
        early_exaggeration_iter=EXAGGERATED_ITERATIONS,
        n_iter=ITERATIONS,
        # Several threads add up in any order, and t-SNE makes another map of the last digit.
        n_jobs=1,
        random_state=SEED,
        callbacks=report,
        callbacks_every_iters=REPORTED_EVERY,
    )
    return np.asarray(tsne.fit(np.ascontiguousarray(points, np.float64)))


def _among_neighbours(
    points: NDArray[np.float32], known: NDArray[np.float32], new: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Known places as they are; of a new point, the median of its nearest known neighbours'."""
    places = known.copy()
    if new.any():
        from sklearn.neighbors import NearestNeighbors

        old = points[~new]
        nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(old))).fit(old)
        neighbours = nearest.kneighbors(points[new], return_distance=False)
        places[new] = np.median(known[~new][neighbours], axis=1)
    return places


def _scaled(places: NDArray[np.floating]) -> NDArray[np.float32]:
    """Around 0, the farthest at 1."""
    centred = places - (places.max(axis=0) + places.min(axis=0)) / 2
    largest = np.abs(centred).max()
    return (centred / largest if largest > 0 else centred).astype(np.float32)


# --- the file -------------------------------------------------------------------------------------


def file_of(outputs: Path, space: Space) -> Path:
    """Where the layout of a model's recordings is kept: hidden, and made anew if it is deleted."""
    weights = hashlib.sha256(f"{space.model}\n{space.weights_sha256}".encode()).hexdigest()
    return outputs / f".map-{weights[:16]}.npz"


def read(path: Path) -> Layout | None:
    """The layout that `write` kept; None where there is none that can be used."""
    with (
        contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as content,
    ):
        folders, places = content["folders"].tolist(), content["places"]
        is_whole = places.shape == (len(folders), 2) and bool(np.isfinite(places).all())
        if int(content["version"]) == VERSION and is_whole:
            return Layout(str(content["method"]), tuple(folders), places.astype(np.float32))
    return None


def write(path: Path, layout: Layout) -> None:
    """Keeps a layout; complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    writing = path.parent / store.WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
    writing.mkdir(parents=True)
    try:
        with (writing / path.name).open("wb") as file:
            np.savez(
                file,
                version=VERSION,
                method=layout.method,
                folders=np.array(layout.folders, dtype=np.str_),
                places=layout.places,
            )
        os.replace(writing / path.name, path)
    finally:
        (writing / path.name).unlink(missing_ok=True)
        writing.rmdir()
