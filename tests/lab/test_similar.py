"""The recordings most like one: in the order of a plain computation, itself first with cosine 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.audio.load import load
from emotion2vec_ui.errors import (
    BadField,
    EmbeddingUnusable,
    NoEmbeddingOfResult,
    NoEmbeddings,
    NoEmbeddingsOfModel,
    OtherModel,
    ResultNotFound,
)
from emotion2vec_ui.lab import similar
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.settings import Settings
from tests import past
from tests.lab.test_index import moment, vector
from tests.past import EXAMPLE


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    one = History(tmp_path / "outputs")
    yield one
    one.close()


@pytest.fixture
def recogniser(history) -> Iterator[Callable[..., Recogniser]]:
    """Makes recognisers that save where the history looks, and stops them."""
    made: list[Recogniser] = []

    def make(model: str = "compact", **flags: bool) -> Recogniser:
        settings = Settings(model=model, device="cpu", outputs=history.outputs, **flags)
        holder = ModelHolder(settings)
        holder.start()
        made.append(Recogniser(settings, holder, lambda path, name: load(path, name=name)))
        return made[-1]

    yield make
    for one in made:
        one.stop(10)


def test_the_order_is_that_of_scikit_learns_cosines(history):
    folders = [
        past.save(history.outputs, kept=vector(seed, 64), timestamp=moment(seed))
        for seed in range(60)
    ]
    history.search()
    gone = set(folders[::4])
    history.delete(sorted(gone))
    history.search()
    new = [
        past.save(history.outputs, kept=vector(seed, 64), timestamp=moment(seed))
        for seed in range(100, 105)
    ]
    there = {
        folder: vector(seed, 64)
        for folder, seed in zip([*folders, *new], [*range(60), *range(100, 105)], strict=True)
        if folder not in gone
    }
    found = similar.to_result(history, folders[1], top=len(there))
    names = list(there)
    kept = np.stack(list(there.values())).astype(np.float16).astype(np.float64)
    expected = cosine_similarity(kept[names.index(folders[1])][None], kept)[0]
    assert [one.row.folder for one in found] == [names[i] for i in np.argsort(-expected)]
    assert [one.cosine for one in found] == pytest.approx(sorted(expected)[::-1], abs=1e-6)
    # What float16 costs: against the embeddings as the model gave them.
    exact = cosine_similarity(vector(1, 64)[None], np.stack(list(there.values())))[0]
    assert [one.cosine for one in found] == pytest.approx(sorted(exact)[::-1], abs=1e-3)
    top = similar.to_result(history, folders[1], top=3)
    assert top == found[:3] and (top[0].row.folder, top[0].cosine) == (folders[1], 1.0)


def test_of_equal_recordings_a_result_itself_comes_first(history):
    same = [past.save(history.outputs, kept=vector(1)) for _ in range(4)]
    for folder in same:
        found = similar.to_result(history, folder)
        assert found[0].row.folder == folder and {one.cosine for one in found} == {1.0}


def test_other_models_and_other_weights_are_never_compared(history):
    own = past.save(history.outputs, kept=vector(1))
    past.save(history.outputs, kept=vector(1), model="iic/emotion2vec_plus_large")
    past.save(history.outputs, kept=vector(1), weights_sha256="1" * 64)
    assert [one.row.folder for one in similar.to_result(history, own)] == [own]


def test_what_cannot_be_compared_is_told(history, subtests):
    without = past.save(history.outputs)
    bad = past.save(history.outputs, kept=np.full(8, np.nan, np.float32))
    old = past.save_old(history.outputs)
    good = past.save(history.outputs, kept=vector(1))
    for folder, error in [
        (without, NoEmbeddingOfResult),
        (old, NoEmbeddingOfResult),
        (bad, EmbeddingUnusable),
        ("outputs_20200101_000000", ResultNotFound),
        ("../outputs", ResultNotFound),
    ]:
        with subtests.test(folder=folder), pytest.raises(error) as caught:
            similar.to_result(history, folder)
        assert folder in str(caught.value)
    for top in (0, -1, similar.MAX_TOP + 1):
        with subtests.test(top=top), pytest.raises(BadField):
            similar.to_result(history, good, top=top)
    history.delete([good])
    with subtests.test("deleted"), pytest.raises(ResultNotFound):
        similar.to_result(history, good)


# --- with a real model ----------------------------------------------------------------------------


def test_a_recording_finds_itself_first_and_its_louder_copy_next(history, recogniser, tmp_path):
    one = recogniser()
    paths = [
        write_soundfile(tmp_path / f"{seed}.wav", speechlike(2, seed=seed), 16_000, "WAV", "PCM_16")
        for seed in range(3)
    ]
    samples = load(EXAMPLE).samples
    louder = write_soundfile(tmp_path / "louder.wav", 0.5 * samples, 16_000, "WAV", "PCM_16")
    folders = {path: one.analyse(path).saved.folder.name for path in (*paths, louder, EXAMPLE)}
    found = similar.to_recording(history, one.embed(EXAMPLE))
    assert [each.row.folder for each in found][:2] == [folders[EXAMPLE], folders[louder]]
    assert found[0].cosine == 1.0 and 0.99 < found[1].cosine <= 1 and found[2].cosine < 0.99
    assert len(found) == 5
    answer = similar.answer("en.wav", found, root_path="/here")
    assert (answer.query, answer.model) == ("en.wav", "compact")
    first = answer.results[0]
    assert first.result_url == f"/here/file=outputs/{folders[EXAMPLE]}/result.json"
    assert (first.name, first.cosine) == ("en.wav", 1.0)


def test_a_result_without_an_embedding_is_given_it(history, recogniser):
    with_index, without = recogniser(), recogniser(no_index=True)
    kept = with_index.analyse(EXAMPLE).saved.folder
    folder = without.analyse(EXAMPLE).saved.folder
    assert (kept / ".embedding.npy").is_file() and not (folder / ".embedding.npy").exists()
    with pytest.raises(NoEmbeddingOfResult):
        similar.to_result(history, folder.name)
    found = similar.to_result(history, folder.name, embed=lambda p, n: with_index.embed(p, name=n))
    assert (folder / ".embedding.npy").is_file()
    # Computed from processed_audio.wav, which has 16 bits.
    assert found[0].row.folder == folder.name and found[1].cosine == pytest.approx(1, abs=1e-3)
    assert similar.to_result(history, folder.name) == found


def test_of_another_model_it_is_not(history, recogniser, tiny_dir):
    folder = recogniser(no_index=True).analyse(EXAMPLE).saved.folder
    other = recogniser(str(tiny_dir))
    with pytest.raises(OtherModel) as caught:
        similar.to_result(history, folder.name, embed=lambda p, n: other.embed(p, name=n))
    assert "compact" in str(caught.value) and "tiny" in str(caught.value)
    assert not (folder / ".embedding.npy").exists()
    with pytest.raises(NoEmbeddings):
        similar.to_recording(history, other.embed(EXAMPLE))
    recogniser().analyse(EXAMPLE)
    with pytest.raises(NoEmbeddingsOfModel) as none:
        similar.to_recording(history, other.embed(EXAMPLE))
    assert "compact" in str(none.value) and "tiny" in str(none.value)
    (folder / store.AUDIO_NAME).unlink()
    with pytest.raises(NoEmbeddingOfResult):
        similar.to_result(history, folder.name, embed=lambda p, n: other.embed(p, name=n))


def test_a_recording_whose_embedding_is_not_finite_is_told(history, recogniser):
    one = recogniser()
    one.analyse(EXAMPLE)
    embedded = one.embed(EXAMPLE)
    with pytest.raises(EmbeddingUnusable):
        similar.to_recording(history, replace(embedded, vector=embedded.vector * np.nan))
