"""How far a recording lies from what a model learnt from, and what that leaves of its confidence.

The distance of an utterance embedding is the cosine distance to its k-th nearest neighbour among
reference embeddings (Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, 2022).
Lengths of embeddings do not matter. Familiarity is the rank of that distance among held-out speech
of the kind that the model learnt from. The temperature grows with the distance: one temperature
for all speech is either too low for the unknown or too high for the known.

Pure numpy. The reference is one file beside the model, measured on labelled recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT = "emotion2vec_ui.reference/1"
FILE_NAME = "reference.npz"

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
    """

    embeddings: NDArray[np.float32]
    neighbours: int
    quantiles: FloatArray
    temperature: float
    slope: float
    max_temperature: float
    norm_range: tuple[float, float]

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
    unit = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
    cosines = reference.embeddings @ unit.astype(np.float32)
    at = len(cosines) - reference.neighbours
    return float(1 - np.partition(cosines, at)[at])


def familiarity(embedding: np.ndarray, reference: Reference) -> float:
    """Share of held-out known speech that lies at least as far, 0 (nothing like it) to 1."""
    ranks = np.linspace(1, 0, len(reference.quantiles))
    return float(np.interp(distance(embedding, reference), reference.quantiles, ranks))


def temperature(distance: float, reference: Reference) -> float:
    """Temperature of a recording at this distance: rises from the median on."""
    excess = max(0.0, (distance - reference.median) / reference.spread)
    raised = reference.temperature * (1 + reference.slope * excess)
    return min(raised, reference.max_temperature)


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
    """Write the reference; embeddings as int8, each row filling its range."""
    scale = np.abs(reference.embeddings).max(1, keepdims=True) / 127
    rounded = np.rint(reference.embeddings / np.maximum(scale, 1e-12)).astype(np.int8)
    np.savez_compressed(
        path,
        format=np.array(FORMAT),
        embeddings=rounded,
        neighbours=np.array(reference.neighbours),
        quantiles=reference.quantiles,
        temperature=np.array(reference.temperature),
        slope=np.array(reference.slope),
        max_temperature=np.array(reference.max_temperature),
        norm_range=np.array(reference.norm_range),
    )


def load(path: Path) -> Reference:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format.
    """
    with np.load(path, allow_pickle=False) as file:
        found = str(file["format"]) if "format" in file else None
        if found != FORMAT:
            raise ValueError(
                f"{path}: format is {found!r}, expected {FORMAT!r}. "
                "Make the file anew with `emotion2vec_ui calibrate`."
            )
        low, high = file["norm_range"].tolist()
        return Reference(
            # Rows have length 1 again after rounding, so their scales need not be kept.
            embeddings=unit_rows(file["embeddings"].astype(np.float32)),
            neighbours=int(file["neighbours"]),
            quantiles=file["quantiles"].astype(np.float64),
            temperature=float(file["temperature"]),
            slope=float(file["slope"]),
            max_temperature=float(file["max_temperature"]),
            norm_range=(low, high),
        )
