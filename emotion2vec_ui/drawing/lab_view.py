"""The lab's page: the map, the clusters, and what stands there before and instead of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from emotion2vec_ui.drawing import lab_words
from emotion2vec_ui.drawing.figures import percent
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.clusters import NONE, Cluster, Clusters
from emotion2vec_ui.records.filters import NONE as NOT_JUDGED
from emotion2vec_ui.records.filters import QUALITIES
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.texts import Phrase

TASKS = ("map", "clusters", "outliers")


@dataclass(frozen=True)
class LabMapView(View):
    """The map with its tools, the selection and the player; empty until the script has points.

    Attributes:
        colours: what the points may be coloured by.
        emotions: of the legend.
        qualities: of the legend.
    """

    template: ClassVar[str] = "lab_map.html"

    colours: tuple[str, ...] = ("emotion", "cluster", "quality", "time", "speaker")
    emotions: tuple[str, ...] = EMOTIONS
    qualities: tuple[str, ...] = (*QUALITIES, NOT_JUDGED)


@dataclass(frozen=True)
class LabEmptyView(View):
    """In the place of everything, while no recording has an embedding."""

    template: ClassVar[str] = "lab_empty.html"


@dataclass(frozen=True)
class LabProgressView(View):
    """How far a computation is.

    Attributes:
        task: one of `TASKS`.
        share: done part, 0 to 1; None while it cannot be told.
    """

    template: ClassVar[str] = "lab_progress.html"

    task: str
    share: float | None


@dataclass(frozen=True)
class LabReadyView(View):
    """Tells the script where the points are, and people what the map is.

    Attributes:
        address: of the points.
        version: another for other points.
        is_plain: whether only principal components are shown, because openTSNE is missing.
    """

    template: ClassVar[str] = "lab_ready.html"

    address: str
    version: str
    is_plain: bool


def map_ready(model: str, folders: Iterable[str], *, is_plain: bool) -> LabReadyView:
    """Where the points of a model's map are.

    Args:
        model: its id.
        folders: of the recordings.
        is_plain: whether openTSNE is missing.
    """
    return LabReadyView(f"api/map?{urlencode({'model': model})}", _version(folders), is_plain)


def _version(folders: Iterable[str]) -> str:
    """Another for other recordings: the script then reads again."""
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Column:
    """The silhouette with so many clusters: its height in the chart, and whether it was taken."""

    k: int
    height: str
    figure: str
    is_chosen: bool


@dataclass(frozen=True)
class EmotionShare:
    """A piece of a cluster's bar."""

    emotion: str
    count: int
    share: str


@dataclass(frozen=True)
class TypicalRecording:
    """A recording to listen to."""

    folder: str
    name: str
    emotion: str
    confidence: str


@dataclass(frozen=True)
class ClusterCard:
    """A cluster as it is shown."""

    id: int
    title: Phrase
    size: int
    emotions: tuple[EmotionShare, ...]
    differences: tuple[Phrase, ...]
    typical: tuple[TypicalRecording, ...]


@dataclass(frozen=True)
class LabClustersView(View):
    """The clusters.

    Attributes:
        address: of the same for programs; the script colours the map by it.
        version: another for other recordings.
        summary: how many there are, of what.
        structure: how far the recordings fall into groups at all.
        columns: the silhouettes of all numbers of clusters tried.
        cards: the clusters.
        outside: recordings that belong to none.
    """

    template: ClassVar[str] = "lab_clusters.html"

    address: str
    version: str
    summary: Phrase
    structure: Phrase
    columns: tuple[Column, ...]
    cards: tuple[ClusterCard, ...]
    outside: int


def clusters_view(clusters: Clusters, rows: Mapping[str, Row], k: str) -> LabClustersView:
    """The clusters.

    Args:
        clusters: of all recordings of a model.
        rows: of the typical recordings, by folder; one that was removed since is left out.
        k: as it was asked for.
    """
    query = {"model": clusters.model, "method": clusters.method, "k": k}
    tallest = max((one.silhouette for one in clusters.silhouettes), default=0.0)
    return LabClustersView(
        address=f"api/clusters?{urlencode(query)}",
        version=_version(clusters.assignments),
        summary=lab_words.summary(clusters),
        structure=lab_words.structure(clusters),
        columns=tuple(
            Column(
                one.k,
                f"{max(0.0, one.silhouette) / tallest if tallest > 0 else 0.0:.1%}",
                f"{one.silhouette:.2f}",
                one.k == clusters.k,
            )
            for one in clusters.silhouettes
        ),
        cards=tuple(_card(one, rows) for one in clusters.clusters),
        outside=sum(one == NONE for one in clusters.assignments.values()),
    )


def _card(cluster: Cluster, rows: Mapping[str, Row]) -> ClusterCard:
    found = [rows[folder] for folder in cluster.typical if folder in rows]
    return ClusterCard(
        id=cluster.id,
        title=lab_words.title(cluster),
        size=cluster.size,
        emotions=tuple(
            EmotionShare(name, count, f"{count / cluster.size:.2%}")
            for name, count in cluster.emotions.items()
        ),
        differences=tuple(lab_words.difference(one) for one in cluster.differences),
        typical=tuple(
            TypicalRecording(
                row.folder, row.name or row.folder, row.emotion, percent(row.confidence)
            )
            for row in found
        ),
    )


@dataclass(frozen=True)
class OutlierLine:
    """A recording that stands apart, and why."""

    folder: str
    name: str
    score: str
    reasons: tuple[Phrase, ...]


@dataclass(frozen=True)
class LabOutliersView(View):
    """The recordings that stand apart, worst first.

    Attributes:
        summary: how many do, of how many.
        norms: what norms are usual.
        lines: the recordings, of many the first `MOST_OUTLIERS`.
        more: how many are left out.
        all_folders: of all of them, for the button that selects them.
    """

    template: ClassVar[str] = "lab_outliers.html"

    summary: Phrase
    norms: Phrase
    lines: tuple[OutlierLine, ...]
    more: int
    all_folders: str


MOST_OUTLIERS = 50
"""Shown; the API has all."""
