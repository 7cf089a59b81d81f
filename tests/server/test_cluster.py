"""The API on a real Ray cluster: the contract's tests, replicas killed, new flags under load."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
import yaml

from benchmarks.synthetic_audio import speechlike, write_soundfile
from tests.conftest import ROOT, START_S, Server, clean_environment, free_port

# These run here once more, against the `server` of this module.
from tests.server.test_access import (  # noqa: F401
    test_only_results_are_served,
    test_pages_of_other_sites_cannot_post,
)
from tests.server.test_app import (  # noqa: F401
    recording,
    test_a_bad_field_names_what_is_allowed,
    test_a_path_or_address_is_never_followed,
    test_a_text_file_named_wav,
    test_a_webm_from_a_browser,
    test_both_granularities_agree_on_the_utterance,
    test_docs_need_no_internet,
    test_frame_granularity,
    test_gradios_classic_json,
    test_health_and_ready,
    test_json_that_is_no_request,
    test_no_audio,
    test_other_errors_have_the_same_body,
    test_real_speech,
    test_recordings_that_cannot_be_judged,
    test_robustness,
    test_the_callers_language,
    test_the_contracts_curl_word_for_word,
    test_the_contracts_script_word_for_word,
    test_the_files_are_served_as_they_lie_on_disk,
    test_the_processing_log,
    test_with_and_without_the_slash,
)
from tests.server.test_jobs import (  # noqa: F401
    clip,
    post,
    test_a_cancelled_job_keeps_what_is_done,
    test_a_job_from_its_files_to_its_tables,
    test_a_job_may_keep_its_recordings_as_results,
    test_a_removed_job_ends_its_events_and_leaves_nothing,
    test_events_tell_how_far_it_is_until_it_has_ended,
    test_what_no_job_is_made_of_is_told_and_leaves_nothing,
    wait,
)
from tests.server.test_predict import (  # noqa: F401
    large,
    test_a_body_that_is_no_form_has_no_audio,
    test_a_field_that_comes_twice_is_named,
    test_a_file_for_a_word_is_a_bad_value,
    test_an_answer_is_made_once,
    test_every_writing_of_the_classic_json_is_read,
    test_other_callers_are_answered_during_a_large_upload,
    test_what_is_no_base64_is_refused,
)
from tests.server.test_results import (  # noqa: F401
    stocked,
    test_an_export_is_what_records_make_of_it,
    test_comparison_over_http,
    test_deleting_over_http,
    test_errors_over_http,
    test_one_result_over_http,
    test_search_over_http,
    test_the_archive_holds_every_file,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install -r requirements-ray.txt",
    ),
]

CLIENTS = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """`deploy/ray/serve.yaml` with the built-in model, two replicas and less of each core."""
    folder = tmp_path_factory.mktemp("cluster")
    port = free_port()
    log = folder / "log.txt"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*SERVE, "run", "--address", "local", str(config(folder, port))],
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(),
            start_new_session=True,
        )
    deployed = Server(f"http://127.0.0.1:{port}", process, folder / "outputs", folder, log)
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{deployed.url}/ready", timeout=30).status_code == 200:
                    break
            time.sleep(0.2)
        else:
            pytest.fail(log.read_text()[-4000:])
        yield deployed
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


SERVE = [sys.executable, "-m", "ray.serve.scripts"]


def environment() -> dict[str, str]:
    return clean_environment() | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def config(folder: Path, port: int, flags: str = "") -> Path:
    content = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text("utf-8"))
    content["http_options"]["port"] = port
    (application,) = content["applications"]
    outputs = folder / "outputs"
    application["args"]["flags"] = f"--model compact --cpu --outputs {outputs} {flags}"
    for deployment in application["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.2}
        if deployment["name"] == "Recognition":
            deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def replicas(server: Server, name: str) -> list[psutil.Process]:
    """The processes of one deployment."""
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if f"ServeReplica:emotion2vec:{name}" in " ".join(child.cmdline()):
                found.append(child)
    return found


def during_requests(server: Server, tmp_path: Path, happens: Callable[[], None]) -> list[str]:
    """What real recordings were answered with, while something happens; none may fail."""
    clips = []
    for seed in range(CLIENTS):
        path = tmp_path / f"{seed}.wav"
        write_soundfile(path, speechlike(1 + seed / 4, seed=seed), 16_000, "WAV", "PCM_16")
        clips.append(path.read_bytes())
    ended: list[bool] = []

    def ask(content: bytes) -> list[str]:
        folders = []
        while not ended or len(folders) < 3:
            answer = requests.post(
                f"{server.url}/api/predict", files={"audio": content}, timeout=120
            )
            assert answer.status_code == 200, (answer.status_code, answer.text[:500])
            assert answer.json()["source"]["bytes"] == len(content)
            folders.append(answer.json()["output_dir"])
        return folders

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, content) for content in clips]
        try:
            time.sleep(2)  # all of them are at it
            happens()
        finally:
            ended.append(True)
        return [folder for one in asking for folder in one.result()]


def test_a_replica_killed_under_16_clients_fails_no_answer(server, tmp_path):
    def kill() -> None:
        first, second = replicas(server, "Recognition")
        first.kill()
        wait_for(lambda: first not in (now := replicas(server, "Recognition")) and len(now) == 2)
        # The other one too, while its successor loads its model.
        second.kill()
        wait_for(lambda: second not in replicas(server, "Recognition"))

    folders = during_requests(server, tmp_path, kill)
    assert len(set(folders)) == len(folders)
    for folder in folders:
        assert (server.outputs / Path(folder).name / "result.json").is_file()
    # What they had was done by another, and not only what came later.
    wait_for(lambda: "/api/predict: a replica was lost" in server.log.read_text("utf-8"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_job_goes_on_when_records_is_killed(server, clip):  # noqa: F811
    count = 40
    job_id = post(server, *[(f"{n}.wav", clip) for n in range(count)]).json()["job_id"]
    (process,) = replicas(server, "Records")
    process.kill()
    # Every question is answered, if later.
    assert wait(server, job_id)["state"]["status"] == "COMPLETED"
    answer = requests.get(f"{server.url}/api/jobs/{job_id}/results.json", timeout=60)
    assert sorted(row["path"] for row in answer.json()) == sorted(f"{n}.wav" for n in range(count))


def test_new_flags_are_taken_without_a_failed_answer(server, tmp_path):
    port = int(server.url.rpartition(":")[2])
    before = {one.pid for one in replicas(server, "Recognition")}

    def deploy() -> None:
        changed = config(server.temporary, port, "--lang zh")
        subprocess.run(
            [*SERVE, "run", "--non-blocking", "--address", "auto", str(changed)],
            env=environment(),
            cwd=server.temporary,
            check=True,
            timeout=120,
            capture_output=True,
        )
        wait_for(lambda: not before & {one.pid for one in replicas(server, "Recognition")})

    during_requests(server, tmp_path, deploy)
    answer = requests.post(f"{server.url}/api/predict", timeout=30)
    assert answer.status_code == 400 and "音频" in answer.json()["error"]["message"]
