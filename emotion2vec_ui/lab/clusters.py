"""Clusters of recordings, how many there are, and what each is like.

The clusters are scikit-learn's, of the embeddings' directions (`lab/reduction`). How many: the
number with the best mean silhouette (Rousseeuw, J. Comput. Appl. Math. 20, 1987).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.errors import BadField
from emotion2vec_ui.lab.differences import differences
from emotion2vec_ui.lab.index import Space
from emotion2vec_ui.records.clusters import NONE, Cluster, Clusters, Silhouette
from emotion2vec_ui.records.index_file import Row

KMEANS, HDBSCAN = "kmeans", "hdbscan"
METHODS = (KMEANS, HDBSCAN)
AUTO = "auto"

MIN_RECORDINGS = 10
"""Chosen: two clusters of five."""

MIN_K, MAX_AUTO_K, MAX_K = 2, 12, 50
"""Tried by themselves are at most twelve: as many as one can tell apart and name."""

BATCHES_ABOVE = 20_000
"""From here on k-means takes the points in batches (Sculley, WWW 2010)."""

BATCH = 4096
SEED = 0

SILHOUETTE_OF = 3_000
"""Points whose mean silhouette stands for that of all: its standard error is then below 0.01."""

DENSITY_OF = 10_000
"""Points that HDBSCAN is run on, as its time grows with the square of their number; the others
belong where the nearest of these does."""

TYPICAL = 5
"""Recordings to listen to, for each cluster."""


@dataclass(frozen=True)
class Found:
    """Which points lie together.

    Attributes:
        labels: int (n,): 0 to k - 1, or -1.
        k: number of clusters.
        silhouette: mean over what belongs to one; None with fewer than two clusters.
        silhouettes: of every number of clusters tried.
    """

    labels: NDArray[np.intp]
    k: int
    silhouette: float | None
    silhouettes: tuple[Silhouette, ...]


def check(method: str, k: str) -> int | None:
    """The number of clusters asked for; None where it is to be found.

    Args:
        method: one of `METHODS`.
        k: a number, or `AUTO`.

    Raises:
        BadField: one of them has a bad value, or they do not go together.
    """
    if method not in METHODS:
        raise BadField(field="method", value=repr(method)[:100], allowed=", ".join(METHODS))
    if k == AUTO:
        return None
    if method == HDBSCAN:
        # It finds the number by itself.
        raise BadField(field="k", value=repr(k)[:100], allowed=AUTO)
    if not (k.isascii() and k.isdigit() and MIN_K <= int(k[:4]) <= MAX_K):
        raise BadField(field="k", value=repr(k)[:100], allowed=f"{AUTO}, {MIN_K}-{MAX_K}")
    return int(k)


def find(
    points: NDArray[np.float32],
    *,
    method: str = KMEANS,
    k: int | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Found:
    """Which points lie together; the same for the same points.

    Args:
        points: (n, components), n >= `MIN_RECORDINGS`.
        method: one of `METHODS`.
        k: number of clusters for k-means; None for the one with the best silhouette. Fewer where
            there are fewer different points.
        on_progress: told the share done, 0 to 1.
    """
    if method == HDBSCAN:
        labels = _dense(points)
        found = len(set(labels.tolist()) - {NONE})
        return Found(labels, found, _silhouette(points, labels), ())
    different = len(np.unique(points, axis=0))
    if different < MIN_K:
        return Found(np.zeros(len(points), np.intp), 1, None, ())
    tried = (
        [min(k, different)] if k else range(MIN_K, min(MAX_AUTO_K, different - 1, len(points)) + 1)
    )
    best: Found | None = None
    silhouettes = []
    for done, one in enumerate(tried or [MIN_K], 1):
        labels = _nearest_centre(points, one)
        value = _silhouette(points, labels)
        if value is not None:
            silhouettes.append(Silhouette(one, round(value, 4)))
        if best is None or (value or -1.0) > (best.silhouette or -1.0):
            best = Found(labels, len(set(labels.tolist())), value, ())
        on_progress(done / max(1, len(tried)))
    assert best is not None
    return Found(best.labels, best.k, best.silhouette, () if k else tuple(silhouettes))


def _nearest_centre(points: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(points) > BATCHES_ABOVE:
        model = MiniBatchKMeans(k, batch_size=BATCH, n_init=3, random_state=SEED)
    else:
        model = KMeans(k, n_init=10, random_state=SEED)
    labels: NDArray[np.intp] = model.fit_predict(points).astype(np.intp)
    return labels


def _dense(points: NDArray[np.float32]) -> NDArray[np.intp]:
    from sklearn import cluster
    from sklearn.neighbors import NearestNeighbors

    n = len(points)
    chosen = np.arange(n)
    if n > DENSITY_OF:
        chosen = np.sort(np.random.default_rng(SEED).choice(n, DENSITY_OF, replace=False))
    sample = points[chosen]
    # A cluster is at least a hundredth of the recordings, and five.
    model = cluster.HDBSCAN(min_cluster_size=max(5, len(sample) // 100), copy=True)
    labels: NDArray[np.intp] = model.fit_predict(sample).astype(np.intp)
    if len(sample) < n:
        nearest = NearestNeighbors(n_neighbors=1).fit(sample)
        labels = labels[nearest.kneighbors(points, return_distance=False)[:, 0]]
    return labels


def _silhouette(points: NDArray[np.float32], labels: NDArray[np.intp]) -> float | None:
    from sklearn.metrics import silhouette_score

    inside = np.flatnonzero(labels != NONE)
    if len(inside) > SILHOUETTE_OF:
        inside = np.random.default_rng(SEED).choice(inside, SILHOUETTE_OF, replace=False)
    points, labels = points[inside], labels[inside]
    if not 2 <= len(set(labels.tolist())) < len(labels):
        return None
    return float(silhouette_score(points, labels))


# --- what they are like ---------------------------------------------------------------------------


def describe(space: Space, points: NDArray[np.float32], found: Found, method: str) -> Clusters:
    """The clusters with what is in them, largest first.

    Args:
        space: whose recordings they are.
        points: (n, components), one of each recording.
        found: of these points.
        method: one of `METHODS`.
    """
    sizes = Counter(found.labels.tolist())
    sizes.pop(NONE, None)
    order = sorted(sizes, key=lambda label: (-sizes[label], label))
    ids = {label: number for number, label in enumerate(order, 1)} | {NONE: NONE}
    clusters = []
    for label in order:
        members = np.flatnonzero(found.labels == label)
        leaders = Counter(space.rows[i].emotion for i in members.tolist())
        clusters.append(
            Cluster(
                id=ids[label],
                size=len(members),
                emotions=dict(leaders.most_common()),
                typical=_typical(space.rows, points, members),
                differences=differences(space.rows, found.labels == label),
            )
        )
    return Clusters(
        model=space.model,
        method=method,
        k=len(clusters),
        silhouette=None if found.silhouette is None else round(found.silhouette, 4),
        clusters=clusters,
        assignments={
            row.folder: ids[label]
            for row, label in zip(space.rows, found.labels.tolist(), strict=True)
        },
        silhouettes=list(found.silhouettes),
    )


def _typical(
    rows: Sequence[Row], points: NDArray[np.float32], members: NDArray[np.intp]
) -> list[str]:
    """Folders of the members nearest their mean."""
    centre = points[members].mean(axis=0)
    nearest = members[np.argsort(np.linalg.norm(points[members] - centre, axis=1), kind="stable")]
    # The same file twice would be heard twice; an old result does not tell its file.
    files: dict[str, str] = {}
    for i in nearest.tolist():
        files.setdefault(rows[i].sha256 or rows[i].folder, rows[i].folder)
        if len(files) == TYPICAL:
            break
    return list(files.values())
