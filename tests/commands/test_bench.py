"""`bench` as a shell sees it: figures as JSON and as a table, and what it advises."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from emotion2vec_ui.models.runtime import has_bf16
from tests.commands.test_export import run
from tests.past import EXAMPLE

LENGTHS_S = [1.0, 5.0, 10.0, 30.0]


def test_json_has_the_contracts_shape_and_nothing_else_is_printed(
    tiny_dir: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "notes.wav"
    bad.write_text("no recording")
    done = run("bench", "--model", tiny_dir, "--device", "cpu", "--json", "--clips", EXAMPLE, bad)
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert list(found)[:2] == ["machine", "runs"] and "cores" in found["machine"]
    for one in found["runs"]:
        assert list(one) == ["precision", "runtime", "seconds", "clip_s", "ratio"]
        assert one["seconds"] > 0 and one["ratio"] > 0
    ways = list(dict.fromkeys((one["runtime"], one["precision"]) for one in found["runs"]))
    expected = [("pytorch", "fp32"), ("openvino", "fp32")]
    if has_bf16("cpu"):
        expected += [("pytorch", "bf16"), ("openvino", "bf16")]
    # Where nncf is not installed, int8 is left out and the reason told.
    if importlib.util.find_spec("nncf"):
        expected.append(("openvino", "int8"))
        assert found["left_out"] == []
    else:
        (left_out,) = found["left_out"]
        assert left_out["precision"] == "int8" and "requirements-int8" in left_out["problem"]
    assert ways == expected
    for way in ways:
        runs = [one for one in found["runs"] if (one["runtime"], one["precision"]) == way]
        assert [one["clip_s"] for one in runs] == LENGTHS_S
    assert found["baseline"] == {"precision": "fp32", "runtime": "pytorch"}
    assert (found["model"], found["device"], found["clips"]) == ("tiny", "cpu", 1)
    assert [(one["runtime"], one["precision"]) for one in found["differences"]] == ways[1:]
    assert found["differences"][0]["score"] < 1e-5
    assert {one["labels_changed"] for one in found["differences"]} <= {0.0, 1.0}
    # The clip that cannot be used is named, and is a failure.
    assert done.returncode == 1 and "notes.wav" in done.stderr
    assert "1 of " in done.stderr and "PyTorch fp32" in done.stderr


def test_the_table_is_for_people_and_ends_with_what_to_do(tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = run("bench", "--device", "cpu", **places)
    assert done.returncode == 0, done.stderr
    # plus_large is not here: what is measured instead is said.
    assert "emotion2vec_plus_large is not on this machine" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("compact on cpu")
    rows = [line for line in lines if line.startswith(("PyTorch", "OpenVINO"))]
    assert rows[0].startswith("PyTorch fp32") and rows[0].count("(1.0x)") == len(LENGTHS_S)
    assert rows[1].startswith("OpenVINO fp32") and rows[1].count("x)") == len(LENGTHS_S)
    assert "int8" not in done.stdout + done.stderr  # which the built-in model does not have
    assert "Nothing to switch on" in lines[-1] or "times as fast here" in lines[-1]


def test_errors_are_told(tmp_path: Path) -> None:
    done = run("bench", "--model", "compact", "--clips", tmp_path / "nothing.wav")
    assert done.returncode == 1 and done.stdout == ""
    assert "nothing.wav" in done.stderr and "Traceback" not in done.stderr
    done = run("bench", "--model", "compact", "--device", "cuda:7")
    assert done.returncode == 1 and "cuda" in done.stderr and "Traceback" not in done.stderr
    done = run("bench", "--clips")
    assert done.returncode == 2
