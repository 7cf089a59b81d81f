"""`similar` and `outliers` as a shell sees them."""

from __future__ import annotations

import json

from tests import past
from tests.lab.test_index import moment
from tests.lab.test_outliers import crowd
from tests.past import EXAMPLE
from tests.test_cli import run


def test_similar_takes_a_recording_or_a_result(tmp_path):
    options = ("--model", "compact", "--outputs", tmp_path, "--json")
    nothing = run("similar", EXAMPLE, *options)
    assert nothing.returncode == 1 and "No result has an embedding yet" in nothing.stderr
    assert nothing.stdout == ""
    first = json.loads(run("predict", EXAMPLE, *options).stdout)["output_dir"]
    second = json.loads(run("predict", EXAMPLE, "--no-index", *options).stdout)["output_dir"]
    name = second.rpartition("/")[2]
    by_file = run("similar", EXAMPLE, *options)
    assert by_file.returncode == 0, by_file.stderr
    body = json.loads(by_file.stdout)
    assert (body["query"], body["model"]) == ("en.wav", "compact")
    assert [one["cosine"] for one in body["results"]] == [1.0] and name not in by_file.stdout
    # That has no embedding: it is computed, and kept.
    body = json.loads(run("similar", second, *options).stdout)
    assert body["query"] == body["results"][0]["folder"] == name
    assert {one["folder"] for one in body["results"]} == {name, first.rpartition("/")[2]}
    words = run("similar", name, "--outputs", tmp_path, "--lang", "zh", "--top", "1").stdout
    assert name in words and "1.0000" in words and len(words.splitlines()) == 2
    absent = run("similar", "outputs_20200101_000000", "--outputs", tmp_path)
    assert absent.returncode == 1 and "outputs_20200101_000000" in absent.stderr
    assert run("similar", EXAMPLE, "--top", "0", *options).returncode == 1


def test_outliers_are_printed_with_their_reasons(tmp_path):
    few = run("outliers", "--outputs", tmp_path)
    assert few.returncode == 1 and "No result has an embedding yet" in few.stderr
    vectors = crowd(30)
    vectors[4] *= -6
    folders = [
        past.save(tmp_path, kept=one, quality="poor" if i == 4 else "good", timestamp=moment(i))
        for i, one in enumerate(vectors)
    ]
    done = run("outliers", "--outputs", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    worst = json.loads(done.stdout)["outliers"][0]
    assert worst["folder"] == folders[4]
    assert worst["reasons"] == ["far_from_neighbours", "norm_high", "poor_quality"]
    words = run("outliers", "--outputs", tmp_path).stdout
    assert folders[4] in words and "unlike every other" in words and "1.8 to 2.2" in words
    assert "0.64 to 2.16" in words
