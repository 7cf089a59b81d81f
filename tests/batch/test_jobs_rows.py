"""A job and the command give the same rows of the same recordings."""

from __future__ import annotations

import csv
import io
import time
import zipfile

import pytest
import requests

from tests.batch.conftest import NAMES


def test_a_zip_as_a_job_gives_the_rows_of_the_command(server, batch, recordings, tmp_path):
    out = tmp_path / "results.csv"
    assert batch(recordings, "--out", out).returncode == 1
    with out.open(encoding="utf-8", newline="") as file:
        wanted = {row["path"]: row for row in csv.DictReader(file)}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in NAMES:
            archive.write(recordings / name, name)
    address = f"{server.url}/api/jobs"
    files = [("files", ("calls.zip", content.getvalue()))]
    job = requests.post(address, files=files, timeout=60).json()
    deadline = time.monotonic() + 90
    while job["state"]["ended_timestamp_ms"] is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
        job = requests.get(f"{address}/{job['job_id']}", timeout=30).json()
    text = requests.get(f"{address}/{job['job_id']}/results.csv", timeout=30).content.decode()
    found = {row["path"]: row for row in csv.DictReader(io.StringIO(text))}
    assert {path: row["status"] for path, row in found.items()} == NAMES
    assert found.keys() == wanted.keys()
    for path, row in found.items():
        for column in ("sha256", "emotion", "band", "quality", "warnings", "error"):
            assert row[column] == wanted[path][column], (path, column)
        if row["confidence"]:
            expected = float(wanted[path]["confidence"])
            assert float(row["confidence"]) == pytest.approx(expected, abs=1e-3)
