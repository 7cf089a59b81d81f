"""Sets of sub-classes for tests: a head of known numbers, and a card around it."""

from __future__ import annotations

import numpy as np

from emotion2vec_ui.reading.subclass_head import Head
from emotion2vec_ui.records.subclasses import (
    Bin,
    Card,
    Coverage,
    CurvePoint,
    Durations,
    Judged,
    NoneRule,
    Trained,
)


def coverage(samples: int = 200) -> Coverage:
    return Coverage(
        samples=samples,
        speakers=10,
        genders={"f": samples // 2, "m": samples - samples // 2},
        ages={"unknown": samples},
        duration_s=Durations(1.0, 2.0, 3.0, 2.0 * samples),
        quality={"good": samples, "fair": 0, "poor": 0},
        copies=0,
        near_copies=0,
        gaps=(),
    )


def trained(
    *,
    name: str = "calls",
    base: str = "angry",
    classes: tuple[str, ...] = ("frustrated", "furious"),
    dim: int = 8,
    weights_sha256: str = "0" * 64,
    model: str = "compact",
    uar: float = 0.8,
    small: bool = False,
    none_above: float = 2.0,
) -> Trained:
    """A head that gives every embedding at most this far the same shares."""
    n_classes = len(classes)
    head = Head(
        classes=classes,
        mean=np.zeros(dim, np.float32),
        scale=np.ones(dim, np.float32),
        weights=np.zeros((n_classes, dim), np.float32),
        bias=np.zeros(n_classes, np.float32),
        temperature=1.0,
        samples=np.full((12, dim), dim**-0.5, np.float32),
        neighbours=10,
        none_above=none_above,
    )
    card = Card(
        name=name,
        version=0,
        base=base,
        model=model,
        classes=classes,
        samples=200 * n_classes,
        speakers=10,
        uar=uar,
        uar_interval=(uar - 0.05, uar + 0.05),
        coverage={label: coverage() for label in classes},
        small=small,
        created="2026-01-04 22:30:00",
        weights_sha256=weights_sha256,
        precision="fp32",
        licence="CC0-1.0",
        data_sha256="1" * 64,
        chance=1 / n_classes,
        above_chance=True,
        others={"lda": Judged(0.7, (0.6, 0.8)), "nearest_centroid": Judged(0.7, (0.6, 0.8))},
        confusion=tuple(
            tuple(160 if row == column else 40 for column in range(n_classes))
            for row in range(n_classes)
        ),
        ece=0.03,
        reliability=(Bin(0.5, 1.0, 400, 0.8, 0.8),),
        learning_curve=(CurvePoint(200, 0.75), CurvePoint(400, uar)),
        more_samples="unclear",
        none=NoneRule(neighbours=10, above=none_above, quantile=0.95),
        regularisation=0.01,
        temperature=1.0,
        left_out=(),
    )
    return Trained(card, head)
