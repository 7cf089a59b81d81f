"""How far a recording lies from what a model learnt from, and what that leaves of its confidence.

The distance of an utterance embedding is the cosine distance to its k-th nearest neighbour among
reference embeddings (Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, 2022).
Lengths of embeddings do not matter. Familiarity is the rank of that distance among held-out speech
of the kind that the model learnt from. The temperature grows with the distance: one temperature
for all speech is either too low for the unknown or too high for the known.

Pure numpy. The reference is one file beside the model, measured on labelled recordings.
"""

from __future__ import annotations

import logging
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FORMAT = "emotion2vec_ui.reference/1"

UNFAMILIAR_BELOW = 0.10
"""Speech of a lower familiarity is called unfamiliar: by definition one in ten of the recordings of
a known kind, and 85 to 97 % of a corpus that the model never heard (training/README.md)."""

DOUBTED = (UNFAMILIAR_BELOW, 0.05)
"""Familiarities between which the doubt that speech is of a known kind rises from 0 to 1. By it a
model withdraws what one corpus alone taught it: from unfamiliar speech only, for known speakers
need that answer too (training/README.md)."""

CAPPED = (0.50, 0.20)
"""Familiarities between which the leader's score comes to be limited to `MOST_WHEN_CAPPED`. Wider
than `DOUBTED`, because a wrong answer in the band `high` is the worst there is, and a right one
below it costs little: answers to a corpus never heard were wrong more often than one in ten as long
as the limit began later (training/README.md)."""

MOST_WHEN_CAPPED = 0.85
"""No score that is wholly limited is above this: the band `high` begins there."""

LOG_ODDS_WHEN_CAPPED = math.log(MOST_WHEN_CAPPED / (1 - MOST_WHEN_CAPPED))

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What a model learnt from, as far as familiarity needs it.

    Attributes:
        embeddings: float32 (n, dim), each of length 1.
        neighbours: k; the distance is to the k-th nearest.
        quantiles: float64 (q,), rising: distances of held-out known speech, from the least to the
            greatest in equal steps of rank.
        temperature: of speech at or below the median distance.
        slope: how much of `temperature` is added for each unit of excess: the distance over the
            median, in units of the range from the median to the 95th percentile.
        max_temperature: the temperature never exceeds this.
        norm_range: lowest and highest usual L2 norm of an embedding (2.5 to 97.5 %).
        weights_sha256: hex, of the model's checkpoint; None where the file comes with the model.
    """

    embeddings: NDArray[np.float32]
    neighbours: int
    quantiles: FloatArray
    temperature: float
    slope: float
    max_temperature: float
    norm_range: tuple[float, float]
    weights_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not 1 <= self.neighbours <= len(self.embeddings):
            raise ValueError(
                f"reference embeddings have the shape {self.embeddings.shape}; expected (n, dim) "
                f"with at least {self.neighbours} rows, one for each neighbour"
            )
        if len(self.quantiles) < 2 or (np.diff(self.quantiles) < 0).any():
            raise ValueError("distance quantiles must be two or more and must not fall")

    @property
    def median(self) -> float:
        """Median distance of held-out known speech."""
        return float(np.quantile(self.quantiles, 0.5))

    @property
    def spread(self) -> float:
        """Range of those distances from the median to the 95th percentile."""
        return max(float(np.quantile(self.quantiles, 0.95)) - self.median, 1e-6)

    def rise(self, familiarities: tuple[float, float]) -> tuple[float, float]:
        """Distance at the higher of two familiarities, and from there to the lower one, above 0."""
        start, end = (float(np.quantile(self.quantiles, 1 - each)) for each in familiarities)
        return start, max(end - start, 1e-6)


def distance(embedding: np.ndarray, reference: Reference) -> float:
    """Cosine distance to the k-th nearest reference embedding, 0 to 2.

    Args:
        embedding: float (dim,), of any length above 0.
        reference: of the same model.

    Raises:
        ValueError: the embedding has another dimension.
    """
    dim = reference.embeddings.shape[1]
    if embedding.shape != (dim,):
        raise ValueError(
            f"the embedding has the shape {embedding.shape}, the reference is for ({dim},): "
            "they are of different models"
        )
    return kth_distance(embedding, reference.embeddings, reference.neighbours)


def kth_distance(embedding: np.ndarray, unit: NDArray[np.float32], k: int) -> float:
    """Cosine distance, 0 to 2, of an embedding (dim,) to its k-th nearest row of `unit` (n, dim).

    Args:
        embedding: float, of any length above 0.
        unit: rows of length 1.
        k: 1 to n.
    """
    direction = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
    cosines = unit @ direction.astype(np.float32)
    at = len(cosines) - k
    return float(1 - np.partition(cosines, at)[at])


def familiarity(embedding: np.ndarray, reference: Reference) -> float:
    """Share of held-out known speech that lies at least as far, 0 (nothing like it) to 1."""
    return rank(distance(embedding, reference), reference)


def rank(distance: float, reference: Reference) -> float:
    """Familiarity of a recording at this distance."""
    ranks = np.linspace(1, 0, len(reference.quantiles))
    return float(np.interp(distance, reference.quantiles, ranks))


def excess(distances: np.ndarray, reference: Reference) -> FloatArray:
    """Distances over the median, 0 or more, in units of the range to the 95th percentile."""
    return np.maximum(0.0, (distances - reference.median) / reference.spread)


def doubts(distances: np.ndarray, reference: Reference) -> FloatArray:
    """Doubt that recordings are of a known kind, 0 to 1, at distances of any shape."""
    return _share(distances, reference, DOUBTED)


def capped_temperatures(
    logits: np.ndarray, distances: np.ndarray, reference: Reference
) -> FloatArray:
    """Temperatures that also limit the leader's score, see `CAPPED`; never below `temperatures`.

    The limit is that of two labels alone; the others can only lower the score.

    Args:
        logits: float (..., labels), before temperature.
        distances: float (...).
        reference: of the same model.
    """
    ranked = np.sort(logits, axis=-1)
    least = (ranked[..., -1] - ranked[..., -2]) / LOG_ODDS_WHEN_CAPPED
    share = _share(distances, reference, CAPPED)
    return np.maximum(temperatures(distances, reference), share * least)


def _share(
    distances: np.ndarray, reference: Reference, familiarities: tuple[float, float]
) -> FloatArray:
    """0 at the higher of two familiarities, 1 at the lower one, at distances of any shape."""
    start, width = reference.rise(familiarities)
    return np.clip((distances - start) / width, 0, 1)


def temperatures(distances: np.ndarray, reference: Reference) -> FloatArray:
    """Temperature of each recording at distances of any shape: rises from the median on."""
    raised = reference.temperature * (1 + reference.slope * excess(distances, reference))
    return np.minimum(raised, reference.max_temperature)


def temperature(distance: float, reference: Reference) -> float:
    """Temperature of one recording at this distance."""
    return float(temperatures(np.array(distance), reference))


def temper(logits: np.ndarray, distance: float, reference: Reference) -> FloatArray:
    """Divide logits (..., labels) by the temperature of the utterance at this distance.

    Frames take the temperature of their utterance.
    """
    return np.asarray(logits, np.float64) / temperature(distance, reference)


def unit_rows(embeddings: np.ndarray) -> NDArray[np.float32]:
    """Scale each row of (n, dim) to length 1."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (embeddings / np.maximum(norms, 1e-12)).astype(np.float32)


def save(reference: Reference, path: Path) -> None:
    """Write the reference, whole or not at all; embeddings as int8, each row filling its range.

    Raises:
        OSError: it cannot be written there.
    """
    scale = np.abs(reference.embeddings).max(1, keepdims=True) / 127
    rounded = np.rint(reference.embeddings / np.maximum(scale, 1e-12)).astype(np.int8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                format=np.array(FORMAT),
                embeddings=rounded,
                neighbours=np.array(reference.neighbours),
                quantiles=reference.quantiles,
                temperature=np.array(reference.temperature),
                slope=np.array(reference.slope),
                max_temperature=np.array(reference.max_temperature),
                norm_range=np.array(reference.norm_range),
                weights_sha256=np.array(reference.weights_sha256 or ""),
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def find(path: Path, weights_sha256: str | None) -> Reference | None:
    """Read the reference of a model; None where there is none, or none of these weights.

    A file that is there and cannot be used is told in the log.

    Args:
        path: where it would be.
        weights_sha256: hex, of the model's checkpoint; None for the built-in model, whose reference
            comes with it.
    """
    try:
        reference = load(path)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning(
            "%s cannot be read, so no familiarity is told: %s. Make it anew with `calibrate`.",
            path,
            error,
        )
        return None
    if reference.weights_sha256 != weights_sha256:
        logger.warning(
            "%s was made for other weights (sha256 %.12s) than the model's (%.12s), so no "
            "familiarity is told. Make it anew with `calibrate`.",
            path,
            reference.weights_sha256,
            weights_sha256,
        )
        return None
    return reference


def load(path: Path) -> Reference:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format.
    """
    # numpy leaves a file open that it opened itself and found damaged.
    with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
        found = str(file["format"]) if "format" in file else None
        if found != FORMAT:
            raise ValueError(f"{path}: format is {found!r}, expected {FORMAT!r}.")
        low, high = file["norm_range"].tolist()
        sha256 = str(file["weights_sha256"]) if "weights_sha256" in file else ""
        return Reference(
            # Rows have length 1 again after rounding, so their scales need not be kept.
            embeddings=unit_rows(file["embeddings"].astype(np.float32)),
            neighbours=int(file["neighbours"]),
            quantiles=file["quantiles"].astype(np.float64),
            temperature=float(file["temperature"]),
            slope=float(file["slope"]),
            max_temperature=float(file["max_temperature"]),
            norm_range=(low, high),
            weights_sha256=sha256 or None,
        )
