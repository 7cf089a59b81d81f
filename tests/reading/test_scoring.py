"""The article's rules, its own examples, and the places where two rules could collide."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import scoring
from emotion2vec_ui.reading.familiarity import UNFAMILIAR_BELOW


def scores(**given_scores: float) -> dict[str, float]:
    """The named scores; what is left of 1 is shared equally by the other labels."""
    rest = (1 - sum(given_scores.values())) / (len(EMOTIONS) - len(given_scores))
    return {e: given_scores.get(e, rest) for e in EMOTIONS}


def read(quality: str | None = "good", built_in: bool = False, **given_scores):
    return scoring.read(scores(**given_scores), quality_verdict=quality, built_in=built_in)


def test_labels_are_the_contracts_nine_in_its_order():
    names = "angry, disgusted, fearful, happy, neutral, other, sad, surprised, unknown"
    assert ", ".join(EMOTIONS) == names


# --- the article's examples -------------------------------------------------------------------


def test_article_happy_085_with_surprised_012():
    reading = read(happy=0.85, surprised=0.12)
    assert (reading.emotion, reading.confidence) == ("happy", 0.85)
    assert reading.leading == ("happy", "surprised")
    assert (reading.mixture, reading.beside) == ("with", ("surprised",))
    assert reading.band == "medium"  # 0.85 is not above 0.85
    assert reading.shape == "graded"  # not single: 0.12 is not below 0.1
    assert reading.margin == pytest.approx(0.73)


def test_article_angry_042_neutral_038_other_012():
    reading = read(angry=0.42, neutral=0.38, other=0.12)
    assert reading.mixture == "dissatisfaction_under_calm"
    assert reading.shape == "double"
    assert reading.band == "unreliable"
    assert reading.advice == "record_again"
    assert reading.leading == ("angry", "neutral", "other")
    assert reading.beside == ("neutral",)  # "other" is no emotion to name
    assert "near_tie" in reading.caveats


def test_article_everything_between_008_and_015_is_flat():
    values = (0.15, 0.08, 0.12, 0.11, 0.13, 0.10, 0.11, 0.09, 0.11)
    reading = scoring.read(
        dict(zip(EMOTIONS, values, strict=True)), quality_verdict="good", built_in=False
    )
    assert reading.shape == "flat"
    assert reading.mixture == ""
    assert reading.advice == "record_again"
    assert reading.entropy_normalised > 0.98


# --- boundaries ----------------------------------------------------------------------------------


def test_band_boundaries_survive_float_noise(subtests):
    for noise in [0.0, 1e-7, -1e-7]:
        for confidence, band in [
            (0.8500, "medium"),
            (0.8501, "high"),
            (0.7000, "medium"),
            (0.6999, "low"),
            (0.5000, "low"),
            (0.4999, "unreliable"),
            (1.0, "high"),
        ]:
            with subtests.test(confidence=confidence, noise=noise):
                for value in (confidence + noise, float(np.float32(confidence)) + noise):
                    assert read(happy=value if confidence < 1 else 1.0).band == band


def test_shape_boundaries(subtests):
    for given_scores, shape in [
        ({"happy": 0.71, "sad": 0.09}, "single"),
        ({"happy": 0.70, "sad": 0.09}, "graded"),  # > 0.7, not from 0.7
        ({"happy": 0.75, "sad": 0.10}, "graded"),  # others < 0.1, not up to 0.1
        ({"happy": 0.40, "sad": 0.31}, "double"),
        ({"happy": 0.40, "sad": 0.30}, "graded"),  # > 0.3, not from 0.3
        ({"happy": 0.33, "sad": 0.33, "angry": 0.33}, "graded"),  # three are not two
        ({"happy": 0.16}, "graded"),
        ({}, "flat"),
    ]:
        with subtests.test(given_scores=given_scores):
            assert read(**given_scores).shape == shape


def test_second_emotion_is_named_from_exactly_010():
    assert read(happy=0.80, sad=float(np.float32(0.1))).beside == ("sad",)
    assert read(happy=0.80, sad=0.0999).beside == ()


def test_anger_with_a_trace_of_neutral_is_not_called_calm():
    assert read(angry=0.70, neutral=0.25).mixture == "with"
    assert read(neutral=0.45, angry=0.40).mixture == "dissatisfaction_under_calm"


def test_other_and_unknown_are_never_half_of_a_mixture():
    assert read(happy=0.8, other=0.15).mixture == ""
    assert read(unknown=0.8, happy=0.15).mixture == ""


# --- advice: the weakest of band, recording and model -----------------------------------------


def test_advice_folds_quality_in(subtests):
    for confidence, quality, advice in [
        (0.95, "good", "use"),
        (0.95, None, "use"),
        (0.95, "fair", "check_context"),
        (0.95, "poor", "improve_audio_first"),
        (0.80, "good", "check_context"),
        (0.80, "poor", "improve_audio_first"),
        (0.60, "good", "check_audio"),
        (0.60, "poor", "record_again"),
        (0.40, "good", "record_again"),
        (0.40, "poor", "record_again"),
    ]:
        with subtests.test(confidence=confidence, quality=quality):
            reading = read(quality, happy=confidence)
            assert reading.advice == advice
            assert (f"quality_{quality}" in reading.caveats) == (quality in ("fair", "poor"))


def test_the_built_in_model_never_earns_use():
    reading = read("good", built_in=True, happy=0.99)
    assert reading.advice == "confirm_with_large_model"
    assert "compact_model" in reading.caveats
    reading = read("good", built_in=False, happy=0.99)
    assert reading.advice == "use"
    assert "compact_model" not in reading.caveats


def test_unfamiliar_speech_is_a_guess_whatever_the_score(subtests):
    def reading(familiarity, quality="good", built_in=True, **given):
        return scoring.read(
            scores(**given), quality_verdict=quality, built_in=built_in, familiarity=familiarity
        )

    below, at = UNFAMILIAR_BELOW - 0.001, UNFAMILIAR_BELOW
    assert reading(below, happy=0.99).advice == "treat_as_guess_ask_large_model"
    assert reading(below, built_in=False, happy=0.99).advice == "treat_as_guess"
    assert reading(below, happy=0.3).advice == "treat_as_guess_ask_large_model"
    assert reading(below, happy=0.99).caveats[0] == "unfamiliar"
    for familiar in (at, 1.0, None):
        assert "unfamiliar" not in reading(familiar, happy=0.99).caveats
        assert reading(familiar, built_in=False, happy=0.99).advice == "use"
    # What is wrong is the recording; and where no emotion was found, none is guessed.
    poor = reading(below, quality="poor", happy=0.99)
    assert poor.advice == "improve_audio_first" and "unfamiliar" in poor.caveats
    assert reading(below, unknown=0.99).advice == "no_emotion_recognised"


def test_band_and_advice_follow_the_calibrated_confidence():
    reading = scoring.read(
        scores(happy=0.95),
        quality_verdict="good",
        built_in=False,
        familiarity=0.5,
        calibrated_confidence=0.6,
    )
    assert (reading.confidence, reading.band, reading.advice) == (0.95, "low", "check_audio")


def test_unknown_and_other_have_their_own_advice():
    assert read(unknown=0.95).advice == "no_emotion_recognised"
    assert read(other=0.95).advice == "outside_the_list"
    assert read(other=0.30).advice == "record_again"


def distributions():
    return st.lists(st.floats(0, 1), min_size=9, max_size=9).filter(lambda v: sum(v) > 0.01)


@given(distributions(), st.sampled_from(["good", "fair", "poor", None]))
def test_any_distribution_is_read(values, quality):
    p = np.array(values) / sum(values)
    reading = scoring.read(
        dict(zip(EMOTIONS, p, strict=True)), quality_verdict=quality, built_in=False
    )
    assert reading.confidence == p.max()
    assert 0 <= reading.margin <= 1
    assert 0 <= reading.entropy_normalised <= 1
    assert reading.leading[0] == reading.emotion
    if reading.advice == "use":
        assert reading.confidence > 0.85 and quality in ("good", None)
    json.dumps(dataclasses.asdict(reading))


def test_entropy_of_known_distributions():
    assert read(happy=1.0).entropy_bits == 0
    assert read().entropy_bits == pytest.approx(math.log2(9))
    assert read(happy=0.5, sad=0.5).entropy_bits == pytest.approx(1.0)


def test_a_tie_goes_to_the_first_in_the_list():
    assert read(sad=0.5, happy=0.5).emotion == "happy"


def test_impossible_scores_are_refused(subtests):
    for bad in [
        {"happy": 1.0},
        {**scores(happy=0.5), "joy": 0.0},
        {**scores(happy=0.5), "happy": float("nan")},
        {**scores(happy=0.5), "happy": 0.9},
    ]:
        with subtests.test(bad=bad), pytest.raises(ValueError):
            scoring.read(bad, quality_verdict=None, built_in=False)


# --- softmax, norm, log ---------------------------------------------------------------------------


def test_softmax_of_large_and_masked_logits():
    np.testing.assert_allclose(scoring.softmax(np.array([1000.0, 1000.0, -np.inf])), [0.5, 0.5, 0])
    rows = scoring.softmax(np.random.default_rng(0).normal(size=(50, 9)) * 20)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)


def test_embedding_norm_belongs_to_the_model():
    assert scoring.norm_verdict(11.0, (9.0, 14.0)) == "normal"
    assert scoring.norm_verdict(11.0, scoring.ARTICLE_NORM_RANGE) == "high"
    assert scoring.norm_verdict(2.0, None) == "unknown"
    assert scoring.norm_verdict(1.7999, scoring.ARTICLE_NORM_RANGE) == "low"
    assert scoring.norm_verdict(2.2, scoring.ARTICLE_NORM_RANGE) == "normal"
    assert scoring.norm_verdict(float("nan"), (1.0, 2.0)) == "unknown"


def test_log_notes_speak_only_outside_the_articles_range():
    assert scoring.log_notes(model_load_s=12.0, inference_s=2.0, source_rate_hz=16_000) == ()
    codes = [
        (n.code, n.value, n.limit)
        for n in scoring.log_notes(model_load_s=12.1, inference_s=2.1, source_rate_hz=44_100)
    ]
    assert codes == [
        ("model_load_slow", 12.1, 12.0),
        ("inference_slow", 2.1, 2.0),
        ("downsampled", 44_100.0, 8_000.0),
    ]
    (note,) = scoring.log_notes(source_rate_hz=8_000)
    assert (note.code, note.limit) == ("upsampled", 4_000.0)
    assert scoring.log_notes(inference_s=60, duration_s=3600) == ()  # an hour may take longer


# --- weighted window -----------------------------------------------------------------------------


def ramp(frames: int) -> np.ndarray:
    """Frame scores whose `happy` is (frame number) / 1000, the rest neutral."""
    out = np.zeros((frames, 9))
    out[:, EMOTIONS.index("happy")] = np.arange(frames) / 1000
    out[:, EMOTIONS.index("neutral")] = 1 - np.arange(frames) / 1000
    return out


def test_one_window_weighs_its_parts_as_the_article_says():
    # By hand: means of frames 0-29, 30-69, 70-99 are 14.5, 49.5, 84.5 thousandths.
    expected = (0.3 * 14.5 + 0.5 * 49.5 + 0.2 * 84.5) / 1000
    weighted = scoring.weighted_frames(ramp(100))
    assert weighted.scores["happy"] == pytest.approx(expected)
    assert (weighted.windows, weighted.window_frames) == (1, 100)


def test_windows_slide_by_fifty_and_a_last_one_ends_with_the_clip():
    one = scoring.weighted_frames(ramp(100)).scores["happy"]
    # Starts 0, 50, 100 and, for the tail, 130: on a ramp each adds its start.
    weighted = scoring.weighted_frames(ramp(230))
    assert weighted.windows == 4
    assert weighted.scores["happy"] == pytest.approx(one + (0 + 50 + 100 + 130) / 4 / 1000)
    assert scoring.weighted_frames(ramp(200)).windows == 3  # 0, 50, 100: no tail to add


def test_constant_frames_are_left_as_they_are(subtests):
    for frames in [1, 2, 3, 7, 99, 100, 101, 150, 999]:
        with subtests.test(frames=frames):
            p = np.random.default_rng(frames).dirichlet(np.ones(9))
            weighted = scoring.weighted_frames(np.tile(p, (frames, 1)))
            np.testing.assert_allclose(list(weighted.scores.values()), p, atol=1e-9)
            assert weighted.window_frames == min(frames, 100)


def test_peak_window_is_where_the_emotion_is():
    frame_scores = ramp(500) * 0
    frame_scores[:, EMOTIONS.index("neutral")] = 0.6
    frame_scores[:, EMOTIONS.index("sad")] = 0.4
    frame_scores[300:400] = 0
    frame_scores[300:400, EMOTIONS.index("angry")] = 1.0
    peak = scoring.weighted_frames(frame_scores).peak
    assert (peak.emotion, peak.start_s, peak.end_s) == ("angry", 6.0, 8.0)
    assert peak.score == pytest.approx(1.0)


def test_weighted_frames_refuses_other_shapes(subtests):
    for shape in [(0, 9), (10, 8), (9,)]:
        with subtests.test(shape=shape), pytest.raises(ValueError, match="shape"):
            scoring.weighted_frames(np.zeros(shape))
