"""Behind a real nginx with the shipped configuration, and what the other shipped files promise."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from packaging.requirements import Requirement

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.batch import command as batch_command
from emotion2vec_ui.server import cluster
from emotion2vec_ui.settings import Settings, UsageError, add_flags
from tests.conftest import ROOT, Server, free_port

KEY = "correct-horse"
RATE_LIMIT = 5
"""Above what the tests behind nginx ask together."""


@pytest.fixture(scope="module")
def prefixed(start_server) -> Server:
    """A server that a proxy shows under a prefix."""
    server = start_server(
        "--model", "compact", "--root-path", "/emotion", "--api-key", f"{KEY},another",
        "--rate-limit", str(RATE_LIMIT), "--max-upload-mb", "1",
    )  # fmt: skip
    server.wait_ready()
    return server


@pytest.fixture(scope="module")
def behind_nginx(prefixed, tmp_path_factory) -> tuple[str, Server]:
    """The address of the page under nginx, with only port and place of the shipped file changed."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    port, upstream = free_port(), urlsplit(prefixed.url).port
    shipped = (ROOT / "deploy" / "nginx.conf").read_text()
    site = shipped.replace("listen 80;", f"listen 127.0.0.1:{port};")
    site = site.replace("127.0.0.1:7860", f"127.0.0.1:{upstream}")
    assert site.count(str(port)) == 1
    assert site.count(str(upstream)) == shipped.count("127.0.0.1:7860") > 0
    folder = tmp_path_factory.mktemp("nginx")
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    # Started by root, nginx would work as a user who may not enter this folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"{user}daemon off;\npid {folder}/pid;\nerror_log stderr;\nworker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{site}\n}}\n"
    )
    command = [nginx, "-p", str(folder), "-c", str(configuration)]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                requests.get(url, timeout=5)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, (folder / "log.txt").read_text()
                time.sleep(0.1)
        yield url, prefixed
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def session(behind_nginx) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"
    return session


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    return write_soundfile(path, speechlike(2), 16_000, "WAV", "PCM_16")


def test_the_address_without_the_slash_leads_to_the_page(behind_nginx, session):
    url, _ = behind_nginx
    moved = session.get(f"{url}/emotion", allow_redirects=False, timeout=10)
    assert moved.status_code == 301 and moved.headers["Location"] == f"{url}/emotion/"


def test_the_page_and_everything_it_loads_are_under_the_prefix(behind_nginx, session):
    url, _ = behind_nginx
    page = session.get(f"{url}/emotion/", timeout=30)
    assert page.status_code == 200
    assert session.get(f"{url}/emotion/config", timeout=10).json()["root"] == f"{url}/emotion"
    addresses = re.findall(r'(?:src|href)="([^"#]+\.(?:js|css)(?:\?[^"]*)?)"', page.text)
    assert addresses
    for address in addresses[:10]:
        whole = (
            address if address.startswith("http") else requests.compat.urljoin(page.url, address)
        )
        assert whole.startswith(f"{url}/emotion/"), address
        assert session.get(whole, timeout=10).status_code == 200, address


def test_the_api_and_its_files(behind_nginx, session, recording):
    url, _ = behind_nginx
    with recording.open("rb") as file:
        report = session.post(
            f"{url}/emotion/api/predict/",
            files={"audio": file},
            data={"extract_embedding": "true"},
            timeout=60,
        ).json()
    for key in ("result_url", "audio_url", "embedding_url"):
        # Complete from the root of the host, so that a browser and a script both find it.
        assert report[key].startswith("/emotion/file=outputs/")
        assert session.get(url + report[key], timeout=10).status_code == 200
    assert session.get(f"{url}/emotion/docs", timeout=10).status_code == 200
    schema = session.get(f"{url}/emotion/openapi.json", timeout=10).json()
    assert {server["url"] for server in schema["servers"]} == {"/emotion"}


def test_gradios_events_come_through(behind_nginx, recording):
    from gradio_client import Client, handle_file

    url, _ = behind_nginx
    client = Client(f"{url}/emotion/", headers={"Authorization": f"Bearer {KEY}"}, verbose=False)
    report = client.predict(handle_file(str(recording)), "frame", False, api_name="/predict")
    assert report["granularity"] == "frame"
    client.close()


def test_the_key_is_asked_for_and_the_probes_are_open(behind_nginx):
    url, _ = behind_nginx
    assert requests.get(f"{url}/emotion/", timeout=10).status_code == 401
    assert requests.get(f"{url}/emotion/health", timeout=10).status_code == 200
    assert requests.get(f"{url}/emotion/ready", timeout=10).status_code == 200


def test_the_pages_origin_is_its_own_and_no_other(behind_nginx, session, recording):
    url, _ = behind_nginx

    def post(origin: str) -> int:
        with recording.open("rb") as file:
            return session.post(
                f"{url}/emotion/api/predict",
                files={"audio": file},
                headers={"Origin": origin},
                timeout=60,
            ).status_code

    assert post(url) == 200
    assert post("https://evil.example") == 403


def test_nginx_refuses_what_the_program_would(behind_nginx, session):
    url, _ = behind_nginx
    too_large = {"Content-Length": "300000000"}
    answer = session.post(f"{url}/emotion/api/predict", headers=too_large, data=b"", timeout=10)
    assert answer.status_code in {400, 413}


def test_a_prefix_does_not_lead_around_the_limits(prefixed, recording):
    url, key = f"{prefixed.url}/emotion", {"X-API-Key": "another"}
    assert requests.get(f"{url}/health", timeout=10).status_code == 200

    def post() -> int:
        files = {"audio": recording.read_bytes()}
        return requests.post(f"{url}/api/predict", files=files, headers=key, timeout=60).status_code

    assert [post() for _ in range(RATE_LIMIT + 1)] == [*[200] * RATE_LIMIT, 429]
    assert requests.get(f"{prefixed.url}/docs", headers=key, timeout=10).status_code == 200
    address = urlsplit(prefixed.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(
            b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: x\r\nX-API-Key: another\r\n"
            b"Content-Length: 100000000\r\n\r\n"
        )
        assert connection.recv(100).split()[1] in {b"413", b"429"}


# --- container and service ------------------------------------------------------------------------


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_image_is_pinned_and_runs_as_nobody_special():
    text = dockerfile()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert bases == ["python:${PYTHON}"] * 2
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", text, re.M)
    last = text[text.rindex("FROM ") :]
    assert "USER 10001:10001" in last and last.index("USER ") < last.index("ENTRYPOINT")
    assert "HEALTHCHECK" in last and "/health" in last


def test_everything_the_image_copies_is_there_and_sent_to_the_builder():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.M)
    sources = {source for line in copied for source in line.split()[:-1]}
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def environment(text: str) -> dict[str, str]:
    """The ENV of the last stage."""
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", text[text.rindex("FROM ") :], re.M)
    assert block
    return dict(pair.split("=", 1) for pair in block[1].replace("\\\n", " ").split())


def test_a_container_without_a_password_does_not_start():
    environ = environment(dockerfile())
    assert environ["GRADIO_SERVER_NAME"] == "0.0.0.0"
    with pytest.raises(UsageError, match="nothing protects it"):
        Settings.load([], environ)
    settings = Settings.load([], environ | {"EMOTION2VEC_API_KEY": KEY})
    assert settings.outputs == Path("/outputs") and settings.server_port == 7860
    # What compose sets when nothing is set counts as nothing.
    with pytest.raises(UsageError):
        Settings.load([], environ | {"EMOTION2VEC_AUTH": "", "EMOTION2VEC_API_KEY": ""})


def ray_file(name: str) -> dict:
    return yaml.safe_load((ROOT / "deploy" / "ray" / f"{name}.yaml").read_text("utf-8"))


def test_the_files_for_ray_agree_with_each_other_and_with_the_program():
    service, job = ray_file("rayservice")["spec"], ray_file("rayjob")["spec"]
    inside = yaml.safe_load(service["serveConfigV2"])
    for config in (ray_file("serve"), inside):
        (application,) = config["applications"]
        module, _, function = application["import_path"].partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert {one["name"] for one in application["deployments"]} == {*cluster.DEPLOYMENTS}
        key = {"EMOTION2VEC_API_KEY": KEY}
        Settings.load(shlex.split(application["args"]["flags"]), key)
    command = shlex.split(job["entrypoint"])
    assert command[:3] == ["python", "-m", "emotion2vec_ui"]
    parser = argparse.ArgumentParser()
    batch_command.add_arguments(parser)
    add_flags(parser, ("model", "audio"))
    options = parser.parse_args(command[4:])
    assert (options.engine, options.address) == ("ray", "auto")
    # One version of Ray on all machines, which the requirement allows.
    text = (ROOT / "deploy" / "ray" / "Dockerfile").read_text("utf-8")
    (version,) = re.findall(r'"ray\[data,serve\]==([\d.]+)"', text)
    requirement = (ROOT / "requirements-ray.txt").read_text("utf-8").partition("#")[0]
    assert Requirement(requirement.strip()).specifier.contains(version)
    for spec in (service["rayClusterConfig"], job["rayClusterSpec"]):
        assert spec["rayVersion"] == version
        head, (workers,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
        for group in (head, workers):
            (container,) = group["template"]["spec"]["containers"]
            limits = container["resources"]
            assert limits["limits"] == limits["requests"]
            mounts = {one["name"] for one in container["volumeMounts"]}
            assert mounts == {one["name"] for one in group["template"]["spec"]["volumes"]}
        assert head["rayStartParams"] == {"num-cpus": "0"}


def test_compose_offers_both_profiles():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {name: service["profiles"] for name, service in services.items()} == {
        "cpu": ["cpu"],
        "gpu": ["gpu"],
    }
    for name, torch in (("cpu", "cpu"), ("gpu", "cuda")):
        service = services[name]
        assert service["build"]["args"]["TORCH"] == torch
        assert any(port.endswith(":7860") for port in service["ports"])
        mounted = {
            volume.split(":")[-1 if volume[-3:] != ":ro" else -2] for volume in service["volumes"]
        }
        assert mounted >= {"/models"} and any("/outputs" in volume for volume in service["volumes"])
        assert any(volume.endswith(":/audios:ro") for volume in service["volumes"])
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_every_variable_of_the_shipped_files_is_known():
    known = {
        name for item in Settings.__dataclass_fields__.values() for name in item.metadata["env"]
    }
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    unit = (ROOT / "deploy" / "emotion2vec.service").read_text()
    used = set(services["cpu"]["environment"]) | set(environment(dockerfile()))
    used |= set(re.findall(r"^Environment=(\w+)=", unit, re.M))
    ours = {name for name in used if name.startswith(("EMOTION2VEC_", "GRADIO_"))}
    assert ours - {"GRADIO_ANALYTICS_ENABLED"} <= known


def test_the_unit_can_be_read_by_systemd(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    # What the unit starts is not installed here: a program that is stands for it.
    unit = (ROOT / "deploy" / "emotion2vec.service").read_text()
    unit = unit.replace("/opt/emotion2vec/.venv/bin/python", "/bin/true")
    path = tmp_path / "emotion2vec.service"
    path.write_text(unit)
    ran = subprocess.run([program, "verify", "--man=no", path], capture_output=True, text=True)
    complaints = [line for line in ran.stderr.splitlines() if "emotion2vec" in line]
    assert complaints == [], ran.stderr


def test_the_dockerfile_passes_hadolint():
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("hadolint is not installed")
    ran = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_accepts_its_file(profile):
    docker = shutil.which("docker")
    program = [docker, "compose"]
    if docker is None or subprocess.run([*program, "version"], capture_output=True).returncode:
        program = [shutil.which("docker-compose")]
    if program[0] is None:
        pytest.skip("docker compose is not installed")
    ran = subprocess.run(
        [*program, "--profile", profile, "config"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert f"emotion2vec-ui:{'cuda' if profile == 'gpu' else 'cpu'}" in ran.stdout
