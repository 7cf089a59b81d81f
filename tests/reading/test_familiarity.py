"""Familiarity: the rank of a distance; temperatures rise with it; the file round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion2vec_ui.reading import familiarity, scoring
from emotion2vec_ui.reading.familiarity import Reference
from emotion2vec_ui.reading.scoring import softmax

DIM = 16


@pytest.fixture
def reference() -> Reference:
    """Embeddings around one direction; distances measured on others around it."""
    rng = np.random.default_rng(0)
    centre = np.ones(DIM)
    known = centre + 0.3 * rng.standard_normal((200, DIM))
    made = Reference(
        embeddings=familiarity.unit_rows(known),
        neighbours=10,
        quantiles=np.array([0.0, 1.0]),
        temperature=0.8,
        slope=1.5,
        max_temperature=4.0,
        norm_range=(3.0, 5.0),
    )
    held_out = centre + 0.3 * rng.standard_normal((300, DIM))
    distances = [familiarity.distance(one, made) for one in held_out]
    return replace(made, quantiles=np.quantile(distances, np.linspace(0, 1, 101)))


def test_known_is_familiar_and_the_opposite_is_not(reference: Reference) -> None:
    assert familiarity.familiarity(np.ones(DIM), reference) > 0.95
    assert familiarity.familiarity(-np.ones(DIM), reference) == 0.0


def test_held_out_speech_spreads_over_all_ranks(reference: Reference) -> None:
    rng = np.random.default_rng(1)
    values = [
        familiarity.familiarity(np.ones(DIM) + 0.3 * rng.standard_normal(DIM), reference)
        for _ in range(500)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.04)


def test_length_changes_nothing(reference: Reference) -> None:
    one = np.arange(1.0, DIM + 1)
    found = [familiarity.distance(one * scale, reference) for scale in (1e-3, 1.0, 1e3)]
    assert found == pytest.approx([found[1]] * 3, abs=1e-5)


def test_distance_is_to_the_kth_neighbour(reference: Reference) -> None:
    one = reference.embeddings[3]
    by_hand = np.sort(1 - reference.embeddings @ one)[reference.neighbours - 1]
    assert familiarity.distance(one, reference) == pytest.approx(float(by_hand), abs=1e-6)


def test_temperature_is_flat_up_to_the_median_then_rises_to_a_limit(reference: Reference) -> None:
    at = reference.median
    assert familiarity.temperature(0.0, reference) == familiarity.temperature(at, reference) == 0.8
    one_unit = familiarity.temperature(at + reference.spread, reference)
    assert one_unit == pytest.approx(0.8 * 2.5)
    assert familiarity.temperature(2.0, reference) == 4.0


def test_doubt_rises_from_where_speech_is_unfamiliar(reference: Reference) -> None:
    at = np.quantile(reference.quantiles, [0.5, 0.9, 0.95, 1.0])
    assert familiarity.doubts(at, reference) == pytest.approx([0, 0, 1, 1])
    assert familiarity.doubts(at[1:3].mean(), reference) == pytest.approx(0.5)
    assert familiarity.DOUBTED[0] == familiarity.UNFAMILIAR_BELOW


def test_far_speech_has_no_score_in_the_high_band(reference: Reference) -> None:
    assert familiarity.MOST_WHEN_CAPPED == scoring.HIGH_ABOVE
    logits = np.array([[19.0, 0.0, -900.0], [19.0, 8.0, 0.0], [1.0, 1.0, 1.0]])
    start, end = np.quantile(reference.quantiles, [0.5, 0.8])

    def temperatures(distance: float) -> np.ndarray:
        return familiarity.capped_temperatures(logits, np.full(3, distance), reference)

    far = temperatures(end)
    scores = softmax(logits[:2] / far[:2, None])
    assert scores.max(1)[0] == pytest.approx(0.85, abs=1e-6)
    assert scores.max(1)[1] < 0.85
    # Where there is no leader, or the speech is known, nothing is added.
    assert far[2] == familiarity.temperature(end, reference)
    assert (temperatures(start) == familiarity.temperature(start, reference)).all()
    half = familiarity.capped_temperatures(logits[:1], (start + end) / 2, reference)
    assert half == pytest.approx(far[:1] / 2)


def test_tempering_keeps_the_order_and_lowers_the_lead(reference: Reference) -> None:
    logits = np.array([3.0, 1.0, 0.5])
    near = softmax(familiarity.temper(logits, 0.0, reference))
    far = softmax(familiarity.temper(logits, 2.0, reference))
    assert (np.argsort(near) == np.argsort(far)).all()
    assert far.max() < near.max()
    frames = np.stack([logits, -logits])
    assert (familiarity.temper(frames, 0.0, reference)[0] == logits / 0.8).all()


def test_round_trip(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    familiarity.save(reference, path)
    back = familiarity.load(path)
    assert back.embeddings == pytest.approx(reference.embeddings, abs=0.01)
    assert (back.quantiles == reference.quantiles).all()
    same = ("neighbours", "temperature", "slope", "max_temperature", "norm_range")
    assert [getattr(back, name) for name in same] == [getattr(reference, name) for name in same]


def test_other_files_and_other_models_are_refused(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different models"):
        familiarity.distance(np.ones(DIM + 1), reference)
    path = tmp_path / "other.npz"
    np.savez(path, x=np.zeros(1))
    with pytest.raises(ValueError, match="format"):
        familiarity.load(path)
    with pytest.raises(ValueError, match="at least 10 rows"):
        replace(reference, embeddings=reference.embeddings[:9])
    with pytest.raises(ValueError, match="must not fall"):
        replace(reference, quantiles=np.array([1.0, 0.0]))


def test_a_reference_belongs_to_its_weights(
    reference: Reference, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reference.npz"
    assert familiarity.find(path, "a" * 64) is None and not caplog.records
    familiarity.save(replace(reference, weights_sha256="a" * 64), path)
    found = familiarity.find(path, "a" * 64)
    assert found is not None and found.weights_sha256 == "a" * 64
    for other in ("b" * 64, None):
        caplog.clear()
        assert familiarity.find(path, other) is None
        assert "other weights" in caplog.text


def test_a_damaged_reference_is_told_and_not_used(
    reference: Reference, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reference.npz"
    familiarity.save(reference, path)
    whole = path.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:-30]):
        caplog.clear()
        path.write_bytes(content)
        assert familiarity.find(path, None) is None
        assert "cannot be read" in caplog.text
