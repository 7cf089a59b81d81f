"""A head on a frozen model's embedding: how the score of a base emotion divides among sub-classes.

P(sub-class) = P(base) x P(sub-class given base). The nine scores are not touched: the sub-classes
of a base and "none of these" share exactly what the model gave the base. The share is a multinomial
logistic regression on the standardised utterance embedding, tempered (`lab/fit_head.py` fits it).

"None of these" takes all of the base's score where the embedding lies further from the samples than
`Head.none_above`, and nothing elsewhere: samples of what is none of the classes were never seen, so
no probability of it can be fitted.

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.reading.familiarity import kth_distance
from emotion2vec_ui.reading.scoring import softmax


@dataclass(frozen=True)
class Head:
    """What one set of sub-classes needs to judge an embedding.

    Attributes:
        classes: names of the sub-classes.
        mean, scale: float32 (dim,), of the samples' embeddings; scale above 0.
        weights: float32 (classes, dim), on the standardised embedding.
        bias: float32 (classes,).
        temperature: the logits are divided by it; above 0.
        samples: float32 (n, dim), embeddings of the samples, each of length 1.
        neighbours: k; an embedding's distance is the cosine distance to its k-th nearest sample.
        none_above: distance, 0 to 2, above which an embedding is none of the classes.
    """

    classes: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float
    samples: NDArray[np.float32]
    neighbours: int
    none_above: float

    def __post_init__(self) -> None:
        n_classes, dim = len(self.classes), self.dim
        shapes = {
            "mean": (self.mean.shape, (dim,)),
            "scale": (self.scale.shape, (dim,)),
            "weights": (self.weights.shape, (n_classes, dim)),
            "bias": (self.bias.shape, (n_classes,)),
            "samples": (self.samples.shape, (len(self.samples), dim)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(f"{name} has the shape {found}; expected {expected}")
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} holds NaN or infinite numbers")
        if n_classes < 2 or not 1 <= self.neighbours <= len(self.samples):
            raise ValueError(
                f"{n_classes} classes and {len(self.samples)} samples; expected at least 2 "
                f"classes, and {self.neighbours} samples, one for each neighbour"
            )
        if not (self.temperature > 0 and (self.scale > 0).all() and self.none_above >= 0):
            raise ValueError("temperature and scale must be above 0, none_above at least 0")

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return len(self.mean)


@dataclass(frozen=True)
class Shares:
    """How the score of the base divides.

    Attributes:
        classes: float64 (classes,), P(sub-class given base); all 0 where `none` is 1.
        none: 1 where the embedding is far from all samples, else 0. All together sum to 1.
        distance: of the embedding, 0 to 2.
    """

    classes: NDArray[np.float64]
    none: float
    distance: float


def shares(embedding: np.ndarray, head: Head) -> Shares:
    """Divides 1 among the sub-classes and "none of these".

    Args:
        embedding: float (dim,), of the model that the head was trained on.
        head: of the sub-classes.

    Raises:
        ValueError: the embedding has another dimension, or is not finite.
    """
    if embedding.shape != (head.dim,) or not np.isfinite(embedding).all():
        raise ValueError(
            f"the embedding has the shape {embedding.shape}; expected ({head.dim},), all finite"
        )
    distance = kth_distance(embedding, head.samples, head.neighbours)
    if distance > head.none_above:
        return Shares(np.zeros(len(head.classes)), 1.0, distance)
    standardised = (np.asarray(embedding, np.float64) - head.mean) / head.scale
    logits = (head.weights @ standardised + head.bias) / head.temperature
    return Shares(softmax(logits), 0.0, distance)


def divided(score: float, parts: Sequence[float], decimals: int) -> list[float]:
    """`score` divided in proportion to `parts`, in whole units of the last decimal.

    By largest remainder, so that the rounded parts sum to the rounded score: rounding each by
    itself would lose or add a unit.

    Args:
        score: 0 to 1.
        parts: at least 0 each, summing to 1.
        decimals: kept.
    """
    unit = 10**decimals
    total = round(score * unit)
    exact = total * np.asarray(parts, np.float64)
    whole = np.floor(exact).astype(int)
    missing = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return [round(int(one) / unit, decimals) for one in whole]
