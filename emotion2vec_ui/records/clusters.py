"""Clusters of recordings as they are told: contract section 10, on the command line and by HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

NONE = -1
"""Id of what belongs to no cluster."""


@dataclass(frozen=True)
class Difference:
    """One figure in which a cluster differs from all other recordings."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    code: str
    """Which figure: emotion.<name> and quality.<verdict> (shares of the recordings, 0 to 1),
    duration_s, confidence, familiarity, or time_s (seconds since 1970-01-01 00:00 local time)."""
    inside: float
    """Mean over the cluster."""
    outside: float
    """Mean over all recordings that are not in it."""
    effect: float
    """`inside` less `outside`, in standard deviations over all recordings."""


@dataclass(frozen=True)
class Cluster:
    """Recordings that lie together."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    id: int
    """1 is the largest."""
    size: int
    """Number of recordings."""
    emotions: dict[str, int]
    """How many of them each emotion leads, most first; only those that lead any."""
    typical: list[str]
    """Folders of the recordings nearest its centre, nearest first; of copies only one."""
    differences: list[Difference]
    """What sets it apart, largest first."""


@dataclass(frozen=True)
class Silhouette:
    """How well the recordings fall into so many clusters."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    k: int
    """Number of clusters."""
    silhouette: float
    """Mean silhouette, -1 to 1; below 0.25 there is no structure to speak of."""


@dataclass(frozen=True)
class Clusters:
    """All recordings of one model, in clusters."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    model: str
    """Id of the model that the embeddings are of."""
    method: str
    """kmeans or hdbscan."""
    k: int
    """Number of clusters."""
    silhouette: float | None
    """Mean silhouette of what belongs to a cluster, -1 to 1; null with fewer than two clusters."""
    clusters: list[Cluster]
    """Largest first."""
    assignments: dict[str, int]
    """Folder of each recording, and the id of its cluster; -1 belongs to none."""
    silhouettes: list[Silhouette]
    """Of every number of clusters that was tried; empty where that was given or does not matter."""
