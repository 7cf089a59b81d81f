"""The table of robustness: what a person can count from a few answers."""

from __future__ import annotations

import numpy as np

from benchmarks.synthetic_audio import speechlike
from emotion2vec_ui.pipeline import stability
from emotion2vec_ui.pipeline.stability import CONDITIONS, Tried


def test_every_condition_is_another_clip():
    samples = speechlike(1.5)
    versions = stability.versions(samples, seed=0)
    assert len(versions) == len(CONDITIONS) == 14
    assert versions[0] is samples
    assert all(np.isfinite(one).all() for one in versions)
    assert all(one.dtype == np.float32 for one in versions)
    assert not any(np.array_equal(samples, one) for one in versions[1:])


def test_answers_that_stay_pass_and_those_that_change_do_not():
    """Of ten recordings, babble changes two right answers; a gain changes one wrong one."""
    gain, babble = CONDITIONS.index("gain"), CONDITIONS.index(stability.BABBLE)
    tried = []
    for place in range(10):
        truth = place % 2
        answers = [truth if place else 8] * len(CONDITIONS)
        if place in (2, 3):
            answers[babble] = 4
        if place == 0:
            answers[gain] = 5
        tried.append(Tried(truth, tuple(answers)))
    found = {(one.test, one.subject): one for one in stability.checks(tried)}
    assert len(found) == 16 and all(one.clips == 10 for one in found.values())
    assert found["unchanged", "gain"].value == 0.9 and not found["unchanged", "gain"].passed
    babble_check = found["unchanged", stability.BABBLE]
    assert babble_check.value == 0.8 and not babble_check.passed
    # UAR falls from (0.8 + 1) / 2 to (0.6 + 0.8) / 2.
    change = found["change_uar", stability.BABBLE]
    assert change.value == -0.2 and not change.passed
    failed = [key for key, one in found.items() if not one.passed]
    assert failed == [
        ("unchanged", "gain"),
        ("unchanged", stability.BABBLE),
        ("change_uar", stability.BABBLE),
    ]


def test_the_thresholds_are_the_frameworks():
    found = stability.checks([Tried(0, (0,) * len(CONDITIONS)), Tried(1, (1,) * len(CONDITIONS))])
    small = [one for one in found if one.threshold == 0.95]
    assert len(small) == 10 and all(one.passed for one in found)
    assert {one.threshold for one in found} == {0.95, 0.9, 0.5, -0.05}
