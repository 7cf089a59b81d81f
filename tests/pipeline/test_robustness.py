"""The robustness report finds where the answer changes.

`predict` is a stand-in here: the module takes any function from clips to scores.
"""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from emotion2vec_ui.audio import damage
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.pipeline.robustness import run
from tests.audio.signals import syllables
from tests.conftest import ROOT


def noise_meter(clean: np.ndarray):
    """A stand-in that knows the clean clip: happy when near it, neutral as it drowns in noise.

    Its leader changes where the noise's power passes a tenth of the clip's.
    """

    def predict(clips: list[np.ndarray]) -> np.ndarray:
        out = np.full((len(clips), 9), 0.01)
        for row, x in zip(out, clips, strict=True):
            share = min(1.0, float(np.mean((x - clean) ** 2) / np.mean(clean**2)) / 0.2)
            row[EMOTIONS.index("happy")] = 0.93 - 0.93 * share
            row[EMOTIONS.index("neutral")] = 0.93 * share
        return out / out.sum(axis=1, keepdims=True)

    return predict


def test_report_finds_where_the_answer_flips():
    x = syllables()
    report = run(x, noise_meter(x), seed=5)
    assert [o.condition.code for o in report.outcomes] == [c.code for c in damage.conditions()]
    clean = report.outcomes[0]
    assert (clean.emotion, clean.delta, clean.flipped) == ("happy", 0.0, False)
    # Mean power over active level: the pause takes 0.4 to 0.9 dB. A tenth of the mean power is thus
    # an SNR of 10.4 to 10.9 dB: at 15 dB it holds, at 10 dB it has flipped.
    assert report.flip_snr_db == {"fan": 10.0, "babble": 10.0}
    # Neutral takes all that happy had: 0.93 of 1.0, averaged over 5 and 0 dB.
    assert report.neutral_rise["fan"] == pytest.approx(0.92, abs=0.02)
    by_code = {o.condition.code: o for o in report.outcomes}
    assert by_code["fan_0"].emotion == "neutral"
    assert by_code["fan_0"].delta == pytest.approx(-0.92, abs=0.02)
    assert by_code["fan_30"].flipped is False
    falling = [by_code[f"fan_{snr}"].scores["happy"] for snr in (30, 25, 20, 15, 10, 5)]
    assert falling == sorted(falling, reverse=True)
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_an_answer_that_never_changes_and_determinism():
    x = syllables()

    def constant(clips):
        return np.tile(np.eye(9)[0], (len(clips), 1))

    report = run(x, constant)
    assert report.flip_snr_db == {"fan": None, "babble": None}
    assert report.flipped_codes == ()
    assert report.neutral_rise == {"fan": 0.0, "babble": 0.0}
    assert run(x, noise_meter(x), 1) == run(x, noise_meter(x), 1)


def test_a_missing_encoder_is_an_outcome_and_not_the_end(monkeypatch):
    monkeypatch.setitem(damage._CODECS, "opus_24", ("no_such_encoder", "ogg", 48_000, 1))
    x = syllables()
    report = run(x, noise_meter(x))
    (missing,) = [o for o in report.outcomes if o.error]
    assert (missing.condition.code, missing.scores, missing.flipped) == ("opus_24", {}, False)
    assert len(report.outcomes) == len(damage.conditions())


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="predict gave"):
        run(syllables(), lambda clips: np.zeros((1, 9)))


def test_the_page_can_ask_for_the_conditions_without_signal_processing():
    code = (
        "import sys, emotion2vec_ui.audio.damage as damage, emotion2vec_ui.pipeline.robustness\n"
        "damage.conditions()\n"
        "print(sorted({'scipy.signal', 'soxr', 'av', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"
