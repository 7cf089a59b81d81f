"""The history: index, search, comparison, export, deletion."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotion2vec_ui.errors import BadField, ResultNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.comparison import compare
from emotion2vec_ui.records.filters import QUALITIES, SORTS, Filters
from emotion2vec_ui.records.index import INDEX_NAME, History
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.records.report import BANDS
from tests import past

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    one = History(tmp_path / "outputs")
    yield one
    one.close()


def names(history: History, **filters) -> list[str]:
    return [row.folder for row in history.search(Filters(**filters)).rows]


def settle(outputs: Path) -> None:
    """Makes the folder list look unchanged for long, so that the next look may trust its time."""
    long_ago_ns = outputs.stat().st_mtime_ns - 60_000_000_000
    os.utime(outputs, ns=(long_ago_ns, long_ago_ns))


# --- in step --------------------------------------------------------------------------------------


def test_a_row_tells_what_the_report_tells(history):
    folder = past.save(
        history.outputs, np.ones(4, np.float32), emotion="sad", confidence=0.62, quality="fair"
    )
    report = history.get(folder)
    page = history.search()
    assert (page.total, page.damaged) == (1, 0)
    assert page.rows[0] == Row(
        folder="outputs_20260104_223000",
        timestamp="2026-01-04 22:30:00",
        name="call.wav",
        sha256=report.source.sha256,
        duration_s=report.source.duration_s,
        emotion="sad",
        confidence=0.62,
        band="low",
        quality="fair",
        granularity="utterance",
        model="compact",
        has_embedding=True,
        built_in=True,
        familiarity=None,
        scores=report.scores,
    )


def test_only_the_built_in_model_is_marked_as_such(history):
    past.save(history.outputs, model="iic/emotion2vec_plus_large", timestamp="2026-01-05 00:00:00")
    past.save(history.outputs)
    past.save_old(history.outputs)
    assert [row.built_in for row in history.search().rows] == [False, True, False]


def test_nothing_there_is_no_error(history):
    assert history.search().rows == [] and not list(history.export_csv())[1:]
    assert history.models() == []


def test_new_folders_come_and_vanished_ones_go(history):
    first, second = (past.save(history.outputs) for _ in range(2))
    assert names(history) == [second, first]
    settle(history.outputs)
    assert names(history) == [second, first]
    third = past.save(history.outputs, timestamp="2026-01-05 00:00:00")
    assert names(history) == [third, second, first]
    shutil.rmtree(history.outputs / second)
    assert names(history) == [third, first]


def test_an_unchanged_folder_list_is_not_read_again(history):
    first = past.save(history.outputs)
    history.search()  # makes the index file, which is itself a change of the folder
    settle(history.outputs)
    history.search()
    before = history.outputs.stat()
    second = past.save(history.outputs)
    # With the time it had, the list passes for unchanged: only one who reads it again can tell.
    os.utime(history.outputs, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(history) == [first]
    history.outputs.touch()
    assert names(history) == [second, first]


def test_a_folder_changed_by_hand_is_noticed_in_time(history):
    folder = past.save(history.outputs)
    assert history.search().total == 1
    replaced = history.outputs / folder / "result.json"
    (history.outputs / folder / "new").write_text("{")
    (history.outputs / folder / "new").rename(replaced)
    history.refresh()
    assert (history.search().total, history.search().damaged) == (0, 1)
    with pytest.raises(ResultNotFound):
        history.get(folder)


def test_a_damaged_folder_is_counted_and_left_alone(history, subtests):
    good = past.save(history.outputs)
    for content in [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"emotion": "bored", "confidence": 0.9}',
        b"[" * 100_000,
    ]:
        with subtests.test(content=content[:50]):
            bad = past.save(history.outputs)
            (history.outputs / bad / "result.json").write_bytes(content)
            page = history.search()
            assert [row.folder for row in page.rows] == [good] and page.damaged == 1
            with pytest.raises(ResultNotFound):
                history.get(bad)
            assert (history.outputs / bad).is_dir()
            results.discard(history.outputs / bad)


def test_a_report_that_is_none_is_damaged(history, subtests):
    for changes in [
        {"confidence": "high"},
        {"confidence": 7},
        {"timestamp": "2026-1-4 1:2:3"},
        {"timestamp": 5},
        {"granularity": "word"},
        {"scores": {"happy": 1.0}},
        {"scores": None},
    ]:
        with subtests.test(changes=changes):
            folder = past.save(history.outputs)
            path = history.outputs / folder / "result.json"
            path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
            assert (history.search().total, history.search().damaged) == (0, 1)
            results.discard(history.outputs / folder)


def test_results_of_the_first_webui_are_found(history):
    folder = past.save_old(history.outputs)
    row = history.search().rows[0]
    assert (row.folder, row.emotion, row.band) == (folder, "happy", "high")
    assert (row.name, row.model, row.quality, row.duration_s) == ("", None, None, None)
    assert names(history, quality=("none",)) == [folder]
    assert names(history, quality=QUALITIES) == []


def test_other_folders_files_and_links_are_no_results(history, tmp_path):
    folder = past.save(history.outputs)
    (history.outputs / "notes").mkdir()
    (history.outputs / "outputs_20260104_220000").write_text("a file")
    (history.outputs / "outputs_20260104_210000").symlink_to(history.outputs / folder)
    assert names(history) == [folder]
    for name in ("outputs_20260104_210000", "outputs_20260104_220000", "notes", "../x", ""):
        with pytest.raises(ResultNotFound):
            history.get(name)
        with pytest.raises(ResultNotFound):
            history.path(name)


def test_a_broken_index_is_built_anew(tmp_path, subtests):
    for damage in ["text", "cut", "old schema", "no table"]:
        with subtests.test(damage=damage):
            outputs = tmp_path / damage
            folders = [past.save(outputs) for _ in range(3)]
            first = History(outputs)
            first.search()
            first.close()
            index = outputs / INDEX_NAME
            if damage == "text":
                index.write_text("this is no database at all " * 1000)
            elif damage == "cut":
                index.write_bytes(index.read_bytes()[:5000])
            else:
                with sqlite3.connect(index) as db:
                    db.execute(
                        "PRAGMA user_version = 0" if "old" in damage else "DROP TABLE results"
                    )
                    if "old" in damage:
                        db.execute("ALTER TABLE results RENAME COLUMN model TO something_else")
                db.close()
            again = History(outputs)
            assert sorted(names(again)) == sorted(folders)
            again.close()


def test_an_index_broken_while_open_is_built_anew(history):
    folders = [past.save(history.outputs) for _ in range(3)]
    history.search()
    (history.outputs / INDEX_NAME).write_bytes(b"x" * 20_000)
    past.save(history.outputs)
    assert len(names(history)) == len(folders) + 1


def test_where_no_index_can_be_written_results_can_be_searched(history):
    folder = past.save(history.outputs)
    # Root may write anywhere, so the refusal is made: a folder where the index should be.
    (history.outputs / INDEX_NAME).mkdir()
    assert names(history) == [folder]


def _search_many(outputs: Path, count: int) -> None:
    history = History(outputs)
    for _ in range(count):
        past.save(outputs)
        history.search()


def test_processes_share_one_index(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_search_many, args=(tmp_path, 10)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    history = History(tmp_path)
    assert history.search().total == 30
    history.close()


# --- search ---------------------------------------------------------------------------------------

FILE_NAMES = ["call.wav", "CALL 2.MP3", "客户投诉.wav", "100%_'; --.flac", "Straße.wav"]

results_made = st.lists(
    st.fixed_dictionaries(
        {
            "emotion": st.sampled_from(EMOTIONS),
            "confidence": st.sampled_from([0.3, 0.5, 0.62, 0.7, 0.85, 0.9, 0.99]),
            "timestamp": st.sampled_from(
                ["2026-01-04 22:30:00", "2026-01-04 23:59:59", "2026-01-05 00:00:00"]
            ),
            "name": st.sampled_from(FILE_NAMES),
            "model": st.sampled_from(["compact", "iic/emotion2vec_plus_large"]),
            "quality": st.sampled_from(QUALITIES),
        }
    ),
    max_size=7,
)
some = lambda values: st.lists(st.sampled_from(values), max_size=2).map(tuple)  # noqa: E731
days = st.sampled_from(["", "2026-01-03", "2026-01-04", "2026-01-05", "2026-01-06"])
filters_asked = st.builds(
    Filters,
    emotion=some(EMOTIONS),
    band=some(BANDS),
    quality=some((*QUALITIES, "none")),
    model=some(["compact", "iic/emotion2vec_plus_large", "other' OR 1=1 --"]),
    text=st.sampled_from(["", "call", "投诉", "%", "_", "'", "STRASSE", "\ud800"]),
    date_from=days,
    date_to=days,
    sort=st.sampled_from(sorted(SORTS)),
    limit=st.integers(1, 5),
    offset=st.integers(0, 4),
)


def naive(rows: list[Row], asked: Filters) -> list[Row]:
    def fits(row: Row) -> bool:
        day = row.timestamp[:10]
        return (
            (not asked.emotion or row.emotion in asked.emotion)
            and (not asked.band or row.band in asked.band)
            and (not asked.quality or (row.quality or "none") in asked.quality)
            and (not asked.model or row.model in asked.model)
            and asked.text.casefold() in row.name.casefold()
            and (not asked.date_from or day >= asked.date_from)
            and (not asked.date_to or day <= asked.date_to)
        )

    def number(row: Row) -> int:
        return int((row.folder.split("_")[3:] or ["1"])[0])

    newest = sorted(filter(fits, rows), key=lambda r: (r.timestamp, number(r)), reverse=True)
    if asked.sort == "oldest":
        return newest[::-1]
    keys = {
        "newest": lambda row: 0,
        "confidence": lambda row: -row.confidence,
        "confidence_low": lambda row: row.confidence,
        "name": lambda row: row.name.casefold(),
        "duration": lambda row: -row.duration_s,
    }
    return sorted(newest, key=keys[asked.sort])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=results_made, asked=st.lists(filters_asked, min_size=5, max_size=8))
def test_search_equals_a_plain_filter(tmp_path_factory, made, asked):
    history = History(tmp_path_factory.mktemp("outputs"))
    for facts in made:
        past.save(history.outputs, **facts)
    every = history.search(Filters(limit=1000)).rows
    assert len(every) == len(made)
    for filters in asked:
        expected = naive(every, filters)
        page = history.search(filters)
        end = filters.offset + filters.limit
        assert page.total == len(expected)
        assert page.rows == expected[filters.offset : end]
    history.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.sampled_from(["add", "old", "remove", "damage", "look", "settle"]), max_size=9
    )
)
def test_kept_in_step_equals_built_anew(tmp_path_factory, steps):
    history = History(tmp_path_factory.mktemp("outputs"))
    there: list[str] = []
    for step in steps:
        if step == "add":
            there.append(past.save(history.outputs))
        elif step == "old":
            there.append(past.save_old(history.outputs))
        elif step == "remove" and there:
            results.discard(history.outputs / there.pop())
        elif step == "damage" and there:
            # As an editor saves: a new file in the place of the old, which the folder's time tells.
            (history.outputs / there[-1] / "new").write_text("{")
            (history.outputs / there[-1] / "new").rename(
                history.outputs / there[-1] / "result.json"
            )
        elif step == "settle":
            history.search()
            settle(history.outputs)
        else:
            history.search()
    history.refresh()
    kept = history.search(Filters(limit=1000))
    history.close()
    (history.outputs / INDEX_NAME).unlink()
    assert history.search(Filters(limit=1000)) == kept
    assert kept.total + kept.damaged == len(there)
    history.close()


def test_a_bad_filter_names_what_is_allowed(subtests):
    for bad in [
        {"emotion": ("bored",)},
        {"band": ("highest",)},
        {"quality": ("superb",)},
        {"sort": "confidence; DROP TABLE results"},
        {"date_from": "2026-1-4"},
        {"date_to": "yesterday"},
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"offset": 2**40},
    ]:
        with subtests.test(bad=bad):
            with pytest.raises(BadField) as caught:
                Filters(**bad)
            assert next(iter(bad)) in str(caught.value)


# --- delete, export -------------------------------------------------------------------------------


def test_deleting_removes_just_those(history):
    one, two, three = (past.save(history.outputs) for _ in range(3))
    assert history.delete([two, two, "outputs_20200101_000000"]) == [two]
    assert names(history) == [three, one]
    for name in ("..", "../outputs", "", "/etc", ".index.sqlite", f"{one}/../{three}"):
        with pytest.raises(ResultNotFound):
            history.delete([one, name])
    assert names(history) == [three, one]


def test_the_csv_reads_back_and_runs_nothing(history):
    evil = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        '=HYPERLINK("http://x")',
        'a"b,c\nd',
        "客户.wav",
    ]
    for name in evil:
        past.save(history.outputs, name=name)
    lines = list(history.export_csv(Filters(sort="oldest", limit=1)))
    text = "".join(lines)
    assert text.startswith("\ufefffolder,timestamp,name,") and "\r\n" in text
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert [row["name"] for row in rows] == [*(f"'{one}" for one in evil[:6]), *evil[6:]]
    assert float(rows[0]["score_happy"]) == 0.9 and rows[0]["has_embedding"] == "false"
    for row in rows:
        assert not any(value.startswith(("=", "+", "-", "@", "\t")) for value in row.values())
    assert not next(history.export_csv(bom=False)).startswith("\ufeff")


# --- comparison -----------------------------------------------------------------------------------


def test_comparing_puts_scores_and_embeddings_side_by_side(history):
    a = past.save(history.outputs, np.array([1, 0, 0], np.float32), emotion="happy")
    b = past.save(
        history.outputs,
        # Of frames, the mean counts: (1, 1, 0) / 2.
        np.array([[2, 0, 0], [0, 2, 0]], np.float32),
        emotion="sad",
        confidence=0.5,
        quality="poor",
        frames=past.frames(),
    )
    c = past.save(history.outputs)
    found = compare(history, [a, b, c])
    assert [one.row.folder for one in found.results] == [a, b, c]
    assert found.results[0].differences == dict.fromkeys(EMOTIONS, 0)
    assert found.results[1].differences["happy"] == pytest.approx(0.0625 - 0.9)
    # Half the sum of absolute differences: 0.8375 less happy, 0.4875 + 7 * 0.05 more of the rest.
    assert found.distances == pytest.approx([0, 0.8375, 0])
    assert found.similarity[0][1] == pytest.approx(2**-0.5, abs=1e-6)
    assert found.similarity[0][0] == pytest.approx(1) and found.similarity[2] == [None] * 3
    assert found.caveats == ["qualities_differ", "granularities_differ", "same_recording"]


def test_results_of_two_models_are_not_on_one_scale(history):
    vector = np.ones(3, np.float32)
    pair = [past.save(history.outputs, vector, model=one) for one in ("compact", "iic/large")]
    found = compare(history, pair)
    assert "models_differ" in found.caveats
    assert found.similarity[0][1] is None and found.similarity[1][1] == pytest.approx(1)


def test_an_embedding_that_cannot_be_read_is_none(history):
    pair = [past.save(history.outputs, np.ones(3, np.float32)) for _ in range(2)]
    (history.outputs / pair[0] / "embedding.npy").write_bytes(b"\x93NUMPY cut")
    assert compare(history, pair).similarity[0] == [None, None]


def test_a_comparison_takes_two_to_eight_results(history):
    folders = [past.save(history.outputs) for _ in range(9)]
    for wrong in ([], folders[:1], folders[:1] * 2, folders):
        with pytest.raises(BadField):
            compare(history, wrong)
    with pytest.raises(ResultNotFound):
        compare(history, [folders[0], "outputs_20200101_000000"])
    assert len(compare(history, folders[:8]).results) == 8


def test_the_module_loads_without_torch_and_gradio():
    code = (
        "import sys, emotion2vec_ui.records.index, emotion2vec_ui.drawing.document;"
        "assert not {'torch', 'gradio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
