"""The moving mean and maximum are scipy's, bit for bit."""

import numpy as np
import pytest
from scipy import ndimage

from emotion2vec_ui.audio.moving import moving_maximum, moving_mean

SCIPY_MODES = {"edge": "nearest", "symmetric": "reflect"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_is_scipys(dtype, subtests):
    rng = np.random.default_rng(0)
    # Powers of sound span ten orders of magnitude.
    for shape in [(1,), (2,), (500,), (200, 7), (3, 1)]:
        x = (10 ** rng.uniform(-10, 0, shape)).astype(dtype)
        for size in [1, 2, 3, 5, 8, 43]:
            for axis in range(x.ndim):
                for mode, name in SCIPY_MODES.items():
                    with subtests.test(shape=shape, size=size, axis=axis, mode=mode):
                        found = moving_mean(x, size, axis=axis, mode=mode)
                        expected = ndimage.uniform_filter1d(x, size, axis=axis, mode=name)
                        assert found.dtype == dtype
                        np.testing.assert_array_equal(found, expected)


def test_the_maximum_is_scipys(subtests):
    rng = np.random.default_rng(0)
    for n in [1, 2, 4, 300]:
        for x in [rng.normal(size=n).astype(np.float32), rng.random(n) < 0.1]:
            for size in [1, 3, 5]:
                with subtests.test(n=n, dtype=x.dtype, size=size):
                    expected = ndimage.maximum_filter1d(x, size, mode="nearest")
                    found = moving_maximum(x, size)
                    assert found.dtype == x.dtype
                    np.testing.assert_array_equal(found, expected)
