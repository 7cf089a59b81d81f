"""Jobs over HTTP: a real server, real files, killed and started again."""

from __future__ import annotations

import csv
import http.client
import io
import json
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pyarrow.parquet as parquet
import pytest
import requests

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.records import store, subclasses
from emotion2vec_ui.records.rows import COLUMNS
from tests import past_subclasses
from tests.conftest import Server, servers
from tests.past import EXAMPLE
from tests.server.test_app import assert_error

WAIT_S = 120


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    return write_soundfile(path, speechlike(1), 16_000, "WAV", "PCM_16").read_bytes()


def post(server: Server, *files: tuple[str, bytes], **fields: str) -> requests.Response:
    return requests.post(
        f"{server.url}/api/jobs",
        files=[("files", file) for file in files],
        data=fields,
        timeout=60,
    )


def get(server: Server, path: str, **options) -> requests.Response:
    return requests.get(f"{server.url}/api/jobs/{path}", timeout=60, **options)


def wait(server: Server, job_id: str) -> dict:
    """The job once it has ended."""
    deadline = time.monotonic() + WAIT_S
    while True:
        job = get(server, job_id).json()
        if job["state"]["ended_timestamp_ms"] is not None:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, inside in files.items():
            archive.writestr(name, inside)
    return content.getvalue()


def test_a_job_from_its_files_to_its_tables(server, clip):
    began_ms = time.time() * 1000
    sent = post(
        server, ("客户.wav", clip), ("b.wav", EXAMPLE.read_bytes()), ("broken.wav", b"none"),
        extract_embedding="true",
    )  # fmt: skip
    assert sent.status_code == 202
    job = sent.json()
    assert job["name"] == "客户.wav"
    assert job["request"] == {
        "files": 3,
        "bytes": len(clip) + EXAMPLE.stat().st_size + 4,
        "granularity": "utterance",
        "extract_embedding": True,
        "save": False,
        "subclass": {},
    }
    done = wait(server, job["job_id"])
    state = done["state"]
    assert (state["status"], state["num_predictions"], state["num_errors"]) == ("COMPLETED", 2, 1)
    assert state["progress"] == 1.0 and state["error"] is None and done["model"] == "compact"
    stamps = [state[f"{one}_timestamp_ms"] for one in ("created", "started", "ended")]
    assert began_ms - 1000 < stamps[0] <= stamps[1] <= stamps[2] < time.time() * 1000 + 1000
    assert job["job_id"] in [one["job_id"] for one in get(server, "?status=COMPLETED").json()]

    rows = requests.get(server.url + done["results_url"], timeout=30).json()
    assert {row["path"]: row["status"] for row in rows} == {
        "客户.wav": "ok", "b.wav": "ok", "broken.wav": "cannot_decode",
    }  # fmt: skip
    alone = requests.post(
        f"{server.url}/api/predict", files={"audio": EXAMPLE.read_bytes()}, timeout=60
    ).json()
    (row,) = (row for row in rows if row["path"] == "b.wav")
    assert row["sha256"] == alone["source"]["sha256"]
    assert row["confidence"] == pytest.approx(alone["confidence"], abs=1e-4)

    text = get(server, f"{job['job_id']}/results.csv").content.decode()
    in_csv = list(csv.DictReader(io.StringIO(text)))
    assert list(in_csv[0]) == list(COLUMNS) and len(in_csv) == 3
    assert get(server, f"{job['job_id']}/results.csv?bom=true").content[:3] == b"\xef\xbb\xbf"
    chinese = get(server, f"{job['job_id']}/results.csv?lang=zh").content.decode()
    assert "解码" in chinese and "No decoder" in text
    table = parquet.read_table(io.BytesIO(get(server, f"{job['job_id']}/results.parquet").content))
    assert table.column_names == [*COLUMNS, "embedding"] and table.num_rows == 3

    heard = get(server, f"{job['job_id']}/files/客户.wav", headers={"Range": "bytes=0-3"})
    assert (heard.status_code, heard.content) == (206, b"RIFF")
    assert heard.headers["Content-Type"].startswith("audio/")


def test_a_job_may_keep_its_recordings_as_results(server, clip):
    """With sub-classes: history, lab and files have them as those of `/api/predict`."""
    alone = requests.post(
        f"{server.url}/api/predict", files={"audio": EXAMPLE.read_bytes()}, timeout=60
    ).json()
    facts = {"dim": 512, "weights_sha256": alone["model"]["weights_sha256"]}
    for name in ("calls", "tone"):
        subclasses.save(server.outputs, past_subclasses.trained(name=name, **facts))
    before = {one.name for one in store.result_folders(server.outputs)}
    files = [("files", ("b/客户.wav", EXAMPLE.read_bytes())), ("files", ("none.wav", b"none"))]
    data = [("save", "true"), ("subclass", "calls"), ("subclass", "tone")]
    try:
        sent = requests.post(
            f"{server.url}/api/jobs",
            files=files,
            data=data,
            headers={"Accept-Language": "zh"},
            timeout=60,
        )
        assert sent.status_code == 202, sent.text
        asked = sent.json()["request"]
        assert asked["save"] is True and asked["subclass"] == {"calls": 1, "tone": 1}
        done = wait(server, sent.json()["job_id"])
        none, kept = sorted(
            requests.get(server.url + done["results_url"], timeout=30).json(),
            key=lambda row: row["path"] != "none.wav",
        )
        assert none["folder"] is None and none["result_url"] is None
        assert {one.name for one in store.result_folders(server.outputs)} - before == {
            kept["folder"]
        }
        result = requests.get(server.url + kept["result_url"], timeout=30).json()
        assert result["scores"] == pytest.approx(alone["scores"], abs=1e-4)
        assert result["source"]["name"] == "客户.wav"
        told = (result["reliability"]["advice"], alone["reliability"]["advice"])
        assert [one.isascii() for one in told] == [False, True]  # each in its caller's language
        assert list(result["subclasses"]) == ["calls", "tone"]
        parts = [kept[f"subclass_tone_{one}"] for one in ("frustrated", "furious", "none")]
        assert sum(parts) == pytest.approx(kept["score_angry"], abs=1e-5)
        # Hidden is what nobody asked for.
        hidden = f"{server.url}/file=outputs/{kept['folder']}/.origin"
        assert requests.get(hidden, timeout=10).status_code == 404
        found = requests.get(f"{server.url}/api/similar/{kept['folder']}", timeout=30).json()
        # Others have sent the same recording.
        assert found["results"][0]["cosine"] == pytest.approx(1, abs=1e-3)
        assert requests.get(f"{server.url}/result/{kept['folder']}", timeout=30).status_code == 200
        unknown = post(server, ("a.wav", clip), subclass="nothing")
        assert_error(unknown, 400, "bad_field")
        assert_error(post(server, ("a.wav", clip), save="maybe"), 400, "bad_field")
    finally:
        for name in ("calls", "tone"):
            subclasses.remove(server.outputs, name)


def test_events_tell_how_far_it_is_until_it_has_ended(server, clip):
    job_id = post(server, *((f"{n:02}.wav", clip) for n in range(20))).json()["job_id"]
    with get(server, f"{job_id}/events", stream=True) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines(decode_unicode=True) if line]
    assert lines[0::2] == ["event: state"] * (len(lines) // 2)
    states = [json.loads(line.removeprefix("data: "))["state"] for line in lines[1::2]]
    shares = [state["progress"] for state in states]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert states[-1]["status"] == "COMPLETED"


def test_a_removed_job_ends_its_events_and_leaves_nothing(server, clip):
    job_id = post(server, *((f"{n:03}.wav", clip) for n in range(300))).json()["job_id"]
    said: list[str] = []

    def listen() -> None:
        with get(server, f"{job_id}/events", stream=True) as stream:
            said.extend(line for line in stream.iter_lines(decode_unicode=True) if line)

    listener = threading.Thread(target=listen)
    listener.start()
    while not said and listener.is_alive():
        time.sleep(0.05)
    answer = requests.delete(f"{server.url}/api/jobs/{job_id}", timeout=30)
    assert answer.json() == {"deleted": job_id}
    listener.join(30)
    assert said[-2:] == ["event: deleted", f'data: {{"deleted": "{job_id}"}}']
    for path in (job_id, f"{job_id}/events", f"{job_id}/results.csv", f"{job_id}/files/000.wav"):
        assert_error(get(server, path), 404, "not_found")
    assert not (server.outputs / ".jobs" / job_id).exists()


def test_a_cancelled_job_keeps_what_is_done(server, clip):
    job_id = post(server, *((f"{n:03}.wav", clip) for n in range(300))).json()["job_id"]
    cancelled = requests.post(f"{server.url}/api/jobs/{job_id}/cancel", timeout=30).json()
    assert cancelled["state"]["status"] == "CANCELLED"
    rows = get(server, f"{job_id}/results.json").json()
    assert len(rows) == cancelled["state"]["num_predictions"] < 300
    requests.delete(f"{server.url}/api/jobs/{job_id}", timeout=30)


def test_what_no_job_is_made_of_is_told_and_leaves_nothing(server, clip):
    def post_parts(parts: list) -> requests.Response:
        return requests.post(f"{server.url}/api/jobs", files=parts, timeout=30)

    before = sorted(path.name for path in (server.outputs / ".jobs").iterdir())
    good = ("a.wav", clip)
    assert_error(requests.post(f"{server.url}/api/jobs", timeout=30), 400, "no_files")
    assert_error(post_parts([("granularity", (None, "frame"))]), 400, "no_files")
    assert_error(post_parts([("audio", good)]), 400, "bad_field")
    assert_error(post(server, good, granularity="word"), 400, "bad_field")
    assert_error(post(server, good, extract_embedding="maybe"), 400, "bad_field")
    assert_error(post(server, good, good), 400, "bad_upload")
    assert_error(post(server, ("../../a.wav", clip)), 400, "bad_upload")
    assert_error(post(server, ("a.zip", b"none")), 400, "bad_upload")
    assert_error(post(server, ("a.zip", zipped({"/etc/x.wav": clip}))), 400, "bad_upload")
    assert_error(get(server, "?status=DONE"), 400, "bad_field")
    assert_error(get(server, "?limit=0"), 400, "bad_field")
    assert_error(get(server, "nothing"), 404, "not_found")
    assert_error(get(server, "nothing/results.csv"), 404, "not_found")
    # An address is a name like any other: nothing is fetched.
    assert_error(post_parts([("urls", (None, "http://localhost/a.wav"))]), 400, "no_files")
    assert sorted(path.name for path in (server.outputs / ".jobs").iterdir()) == before
    assert not any((server.outputs / ".jobs" / ".writing").iterdir())


def test_limits_and_access_hold_for_jobs(start_server, clip):
    server = start_server(
        "--model", "compact", "--api-key", "secret", "--max-job-mb", "0.2", "--max-upload-mb", "0.1"
    )  # fmt: skip
    key = {"Authorization": "Bearer secret"}

    def send(*files: tuple[str, bytes], headers: dict[str, str] = key) -> requests.Response:
        return requests.post(
            f"{server.url}/api/jobs",
            files=[("files", file) for file in files],
            headers=headers,
            timeout=30,
        )

    assert_error(send(("a.wav", clip), headers={}), 401, "unauthorized")
    for path in ("", "/x", "/x/events", "/x/results.csv", "/x/files/a.wav"):
        assert requests.get(f"{server.url}/api/jobs{path}", timeout=10).status_code == 401
    foreign = key | {"Origin": "https://evil.example"}
    assert_error(send(("a.wav", clip), headers=foreign), 403, "foreign_origin")
    assert_error(send(("a.wav", bytes(100_001))), 413, "upload_too_large")
    many = [(f"{n}.wav", bytes(60_000)) for n in range(4)]
    assert_error(send(*many), 413, "job_too_large")
    assert_error(send(("a.zip", zipped(dict(many)))), 413, "job_too_large")
    # What is declared too long is refused before it comes.
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.putrequest("POST", "/api/jobs")
    for name, value in {**key, "Content-Length": str(10**9)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and b"job_too_large" in answer.read()
    connection.close()
    job = send(("a.wav", clip))
    assert job.status_code == 202
    stored = b"".join(path.read_bytes() for path in (server.outputs / ".jobs").glob("jobs.*"))
    assert b"secret" not in stored


@pytest.mark.slow
def test_after_kill_9_every_file_has_one_row(tmp_path_factory, tmp_path, clip):
    outputs = tmp_path / "outputs"
    flags = ("--model", "compact", "--outputs", str(outputs))
    with servers(tmp_path_factory) as start:
        server = start(*flags)
        server.wait_ready()
        names = [f"{n:03}.wav" for n in range(400)]
        job_id = post(server, *((name, clip) for name in names)).json()["job_id"]
        second = post(server, ("later.wav", clip)).json()["job_id"]
        done = [0]
        for _ in range(2):
            deadline = time.monotonic() + WAIT_S
            while (state := get(server, job_id).json()["state"])["num_predictions"] <= done[-1] + 5:
                assert state["status"] in ("QUEUED", "IN_PROGRESS"), state
                assert time.monotonic() < deadline, state
                time.sleep(0.02)
            done.append(state["num_predictions"])
            server.process.kill()
            server.process.wait(10)
            server = start(*flags)
            state = get(server, job_id).json()["state"]
            assert state["status"] == "IN_PROGRESS" and state["num_predictions"] >= done[-1]
        server.wait_ready()
        assert wait(server, job_id)["state"]["num_predictions"] == 400
        rows = get(server, f"{job_id}/results.json").json()
        assert [row["path"] for row in rows] == names
        assert {row["status"] for row in rows} == {"ok"}
        assert wait(server, second)["state"]["status"] == "COMPLETED"
        # What ends with a signal in the middle ends in time and goes on as well.
        third = post(server, *((name, clip) for name in names)).json()["job_id"]
        server.process.send_signal(signal.SIGTERM)
        # uvicorn ends by the signal itself.
        assert server.process.wait(30) == -signal.SIGTERM
        server = start(*flags)
        server.wait_ready()
        assert wait(server, third)["state"]["num_predictions"] == 400


@pytest.mark.slow
def test_after_kill_9_every_recording_has_one_result(tmp_path_factory, tmp_path, clip):
    """Killed five times, each a little later after a result appeared."""
    outputs = tmp_path / "outputs"
    flags = ("--model", "compact", "--outputs", str(outputs))

    def folders() -> list[str]:
        return sorted(one.name for one in store.result_folders(outputs))

    with servers(tmp_path_factory) as start:
        server = start(*flags)
        names = [f"{n:03}.wav" for n in range(400)]
        files = ((name, clip) for name in names)
        job_id = post(server, *files, save="true").json()["job_id"]
        for number in range(5):
            before, deadline = len(folders()), time.monotonic() + WAIT_S
            while len(folders()) <= before + 5:
                assert time.monotonic() < deadline, server.log.read_text()[-4000:]
            time.sleep(number / 300)
            server.process.kill()
            server.process.wait(10)
            server = start(*flags)
        assert wait(server, job_id)["state"]["num_predictions"] == 400
        rows = get(server, f"{job_id}/results.json").json()
        assert [row["path"] for row in rows] == names
        assert sorted(row["folder"] for row in rows) == folders()
        assert not any((outputs / store.WRITING_DIR).iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("threads", [3, 30])
def test_the_guides_script_stays_right_while_a_job_runs(server, clip, threads):
    """As many threads as the old guide warns of, each with the answer it would get alone."""
    alone = requests.post(
        f"{server.url}/api/predict", files={"audio": EXAMPLE.read_bytes()}, timeout=60
    ).json()
    job_id = post(server, *((f"{n:03}.wav", clip) for n in range(400))).json()["job_id"]

    def ask(_: int) -> dict:
        with EXAMPLE.open("rb") as f:
            return requests.post(
                f"{server.url}/api/predict/",
                files={"audio": f},
                data={"granularity": "utterance"},
                timeout=120,
            ).json()

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(ask, range(3 * threads)))
    assert len({answer["output_dir"] for answer in answers}) == 3 * threads
    for answer in answers:
        assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-3)
    # Those who wait come first, and the job is done all the same.
    assert wait(server, job_id)["state"]["num_predictions"] == 400
    requests.delete(f"{server.url}/api/jobs/{job_id}", timeout=30)


def test_metrics_count_a_jobs_files_by_its_front_end(server, clip):
    def count() -> float:
        text = requests.get(f"{server.url}/metrics", timeout=30).text
        name = 'emotion2vec_requests_total{front="job",kind="predict",status="200"} '
        return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))

    before = count()
    wait(server, post(server, ("a.wav", clip), ("b.wav", clip)).json()["job_id"])
    assert count() == before + 2
