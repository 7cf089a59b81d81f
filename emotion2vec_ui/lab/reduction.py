"""Embeddings as clusters and map look at them: their direction, in its main components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 50
"""Principal components kept: what UMAP's and openTSNE's guides start from; the rest of an embedding
is mostly noise to distances, and 1024 numbers cost twenty times as much."""

FITTED_TO = 20_000
"""Embeddings that the components are fitted to; more do not change them visibly."""

CHUNK = 8192
"""Rows turned at a time: 33 MB of 1024 float32."""

SEED = 0


def reduced(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """The principal components of the embeddings' directions.

    Distances between directions follow the cosine: |a - b|^2 = 2 - 2 cos.

    Args:
        vectors: (n, dim), n >= 2, finite, none zero.

    Returns:
        float32 (n, at most `COMPONENTS`).
    """
    from sklearn.decomposition import PCA

    n, dim = vectors.shape
    sample = vectors
    if n > FITTED_TO:
        chosen = np.random.default_rng(SEED).choice(n, FITTED_TO, replace=False)
        sample = vectors[np.sort(chosen)]
    pca = PCA(min(COMPONENTS, n - 1, dim), svd_solver="covariance_eigh").fit(_directions(sample))
    points = np.empty((n, pca.n_components_), np.float32)
    for start in range(0, n, CHUNK):
        points[start : start + CHUNK] = pca.transform(_directions(vectors[start : start + CHUNK]))
    return points


def _directions(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """float32 (n, dim) of length 1."""
    wide = np.asarray(vectors, np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
