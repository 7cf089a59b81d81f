"""Whether a model keeps its answers when recordings change a little, or noise is added.

The tests and thresholds are those of audEERING's framework for emotional categories (Derington et
al., arXiv 2312.06270; https://github.com/audeering/ser-tests, `test/emotion/robustness_*.yaml`),
as far as they need no recordings of others: coughs, sneezes, music, rooms and other microphones are
not tested. Babble is that of `audio.damage`, made from the clip itself and not from MUSAN; the
telephone is its G.711 at 8 kHz, not AMR with a compressor and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emotion2vec_ui.audio import small_changes
from emotion2vec_ui.audio.damage import Condition, damaged
from emotion2vec_ui.reading import metrics
from emotion2vec_ui.reading.metrics import IntArray
from emotion2vec_ui.records.evaluation import Check

CLEAN = "clean"
NOISE_SNR_DB = 20.0

UNCHANGED_SMALL = 0.95
UNCHANGED_NOISE = 0.90
UNCHANGED_TELEPHONE = 0.50
CHANGE_UAR = -0.05

WHITE, BABBLE, TELEPHONE = "white_20", "babble_20", "telephone"

_SMALL = tuple(small_changes.CHANGES)
CONDITIONS = (CLEAN, *_SMALL, WHITE, BABBLE, TELEPHONE)
"""What is done to every clip; the answers to the first are what the others are compared with."""


@dataclass(frozen=True)
class Tried:
    """One labelled clip under every condition.

    Attributes:
        truth: the right label's place in `labels.EMOTIONS`.
        answers: the answer's place, in the order of `CONDITIONS`.
    """

    truth: int
    answers: tuple[int, ...]


def versions(samples: np.ndarray, seed: int) -> list[np.ndarray]:
    """A clip under every condition, in the order of `CONDITIONS`.

    Args:
        samples: float32 (n,), mono, 16 kHz, n > `small_changes.LONGEST_CUT`.
        seed: of noises and drawn settings.

    Raises:
        OSError or ValueError (from PyAV): this build of FFmpeg lacks an encoder.
    """
    small = (small_changes.change(samples, name, seed) for name in _SMALL)
    white = small_changes.white_noise(samples, NOISE_SNR_DB, np.random.default_rng(seed))
    babble = damaged(samples, Condition(BABBLE, "babble", NOISE_SNR_DB), seed)
    telephone = damaged(samples, Condition(TELEPHONE, "codec"), seed)
    return [samples, *small, white, babble, telephone]


def checks(tried: Sequence[Tried]) -> tuple[Check, ...]:
    """The table of passed and failed tests; of at least one clip."""
    truth = np.array([one.truth for one in tried])
    answers = np.array([one.answers for one in tried])
    by_name: dict[str, IntArray] = dict(zip(CONDITIONS, answers.T, strict=True))
    clean = by_name[CLEAN]

    def unchanged(name: str, threshold: float) -> Check:
        return _check("unchanged", name, float((by_name[name] == clean).mean()), threshold)

    def change_uar(name: str) -> Check:
        change = metrics.uar(truth, by_name[name]) - metrics.uar(truth, clean)
        return _check("change_uar", name, change, CHANGE_UAR)

    def _check(test: str, name: str, value: float, threshold: float) -> Check:
        # To two decimals before it is compared, as the framework does.
        value = round(value, 2)
        return Check("robustness", test, name, value, threshold, len(tried), value > threshold)

    return (
        *(unchanged(name, UNCHANGED_SMALL) for name in _SMALL),
        *(unchanged(name, UNCHANGED_NOISE) for name in (WHITE, BABBLE)),
        *(change_uar(name) for name in (WHITE, BABBLE)),
        unchanged(TELEPHONE, UNCHANGED_TELEPHONE),
        change_uar(TELEPHONE),
    )
