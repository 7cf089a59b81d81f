"""Measure: unweighted average recall, confidence intervals, calibration."""

from __future__ import annotations

import numpy as np

N_BOOTSTRAP = 2000


def uar(truth: np.ndarray, guess: np.ndarray) -> float:
    """Mean recall over the classes that occur in ``truth``; both are int (clips,)."""
    return float(np.mean([np.mean(guess[truth == c] == c) for c in np.unique(truth)]))


def uar_interval(
    truth: np.ndarray, guess: np.ndarray, groups: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the UAR, drawing whole speakers with replacement.

    Speakers, not clips: what varies between test sets is who speaks.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    values = []
    for _ in range(N_BOOTSTRAP):
        drawn = np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])
        values.append(uar(truth[drawn], guess[drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax over the last axis."""
    scaled = logits / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def fit_temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Find the temperature of least weighted log loss by a fine grid, 0.3 to 5."""
    grid = np.exp(np.linspace(np.log(0.3), np.log(5), 300))
    rows = np.arange(len(truth))
    losses = [-np.average(np.log(softmax(logits, t)[rows, truth] + 1e-12), weights=weights)
              for t in grid]  # fmt: skip
    return float(grid[int(np.argmin(losses))])


def confusion(truth: np.ndarray, guess: np.ndarray, n_labels: int) -> np.ndarray:
    """Count clips, int64 (n_labels, n_labels): rows truth, columns answer."""
    table = np.zeros((n_labels, n_labels), int)
    np.add.at(table, (truth, guess), 1)
    return table
