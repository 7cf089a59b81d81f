"""What is said of clusters, on the page and by the command: figures and nothing beyond them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from emotion2vec_ui.drawing.figures import clock
from emotion2vec_ui.records.clusters import NONE, Cluster, Clusters, Difference
from emotion2vec_ui.texts import Phrase

SOME_STRUCTURE, CLEAR_STRUCTURE = 0.25, 0.5
"""Mean silhouettes from which on clusters are weak, and reasonable (Kaufman and Rousseeuw, Finding
Groups in Data, 1990, table 4)."""

STRUCTURES = ("no", "weak", "clear")

MAJORITY = 0.5
"""Share of a cluster from which on it is named after one emotion."""


def summary(clusters: Clusters) -> Phrase:
    """How many clusters, of what."""
    return Phrase(
        "lab.cluster.summary",
        count=len(clusters.assignments),
        model=clusters.model,
        k=clusters.k,
        method=Phrase(f"lab.method.{clusters.method}"),
    )


def structure(clusters: Clusters) -> Phrase:
    """How far the recordings fall into groups at all."""
    value = clusters.silhouette
    if value is None:
        return Phrase("lab.structure.one" if clusters.k == 1 else "lab.structure.none")
    found = [value >= bound for bound in (SOME_STRUCTURE, CLEAR_STRUCTURE)]
    return Phrase(f"lab.structure.{STRUCTURES[sum(found)]}", silhouette=value)


def title(cluster: Cluster) -> Phrase:
    """A cluster's name: its number, and the emotions that lead most of it."""
    first, *others = cluster.emotions.items()
    names = [first[0]]
    if first[1] < MAJORITY * cluster.size and others:
        names.append(others[0][0])
    emotions = tuple(Phrase(f"emotion.{name}.inline") for name in names)
    key = "lab.cluster.title.one" if len(names) == 1 else "lab.cluster.title.two"
    return Phrase(key, number=cluster.id, emotions=emotions)


def difference(found: Difference) -> Phrase:
    """One figure in which a cluster differs, as words."""
    kind, _, name = found.code.partition(".")
    facts = {"inside": _figure(kind, found.inside), "outside": _figure(kind, found.outside)}
    key = f"lab.apart.{kind}.{'more' if found.effect > 0 else 'less'}"
    if kind == "emotion":
        return Phrase(key, name=Phrase(f"emotion.{name}.inline"), **facts)
    if kind == "quality":
        return Phrase(key, name=Phrase(f"lab.quality.{name}"), **facts)
    return Phrase(key, **facts)


def _figure(kind: str, value: float) -> str:
    if kind == "duration_s":
        return clock(value)
    if kind == "time_s":
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=value)
        return moment.strftime("%Y-%m-%d %H:%M")
    return f"{value:.0%}"


def lines(clusters: Clusters, names: Mapping[str, str]) -> Iterator[Phrase]:
    """The clusters as lines of a terminal.

    Args:
        clusters: to be told.
        names: of the recordings' files, by folder.
    """
    yield summary(clusters)
    yield structure(clusters)
    for cluster in clusters.clusters:
        yield Phrase("lab.cluster.line", title=title(cluster), size=cluster.size)
        for found in cluster.differences:
            yield Phrase("lab.cluster.detail", words=difference(found))
        typical = ", ".join(names[folder] for folder in cluster.typical)
        yield Phrase("lab.cluster.detail", words=Phrase("lab.cluster.typical", names=typical))
    outside = sum(one == NONE for one in clusters.assignments.values())
    if outside:
        yield Phrase("lab.cluster.outside", count=outside)
