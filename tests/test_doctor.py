"""What doctor finds on sound and broken installations, and that it starts fast."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emotion2vec_ui import doctor, texts
from emotion2vec_ui.settings import ROOT_DIR, Settings
from tests import tiny


@pytest.fixture(autouse=True)
def private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches and models/ of this machine do not matter here, nor its GPUs."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Settings, "models_dir", property(lambda self: tmp_path / "models"))
    monkeypatch.setattr(doctor, "_nvidia_smi", list)


def settings(tmp_path: Path, **values: Any) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Settings(**{"server_port": port, "outputs": tmp_path / "outputs", **values})


def find(code: str, wanted: Settings) -> doctor.Finding:
    return next(finding for finding in doctor.run(wanted) if finding.code == code)


def test_fast_and_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from emotion2vec_ui import doctor\n"
        "from emotion2vec_ui.settings import Settings\n"
        "findings = doctor.run(Settings()); print(doctor.to_json(findings))\n"
        "heavy = {'torch', 'funasr', 'gradio', 'torchaudio', 'modelscope'} & set(sys.modules)\n"
        "print(time.process_time(), sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, last = done.stdout.strip().rpartition("\n")
    seconds, heavy = last.split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 1.0  # processor time: the machine may be busy
    assert {row["verdict"] for row in json.loads(body)} <= {"ok", "warn", "fail"}


def test_works_where_nothing_can_be_imported(tmp_path: Path) -> None:
    """-S and -I leave the standard library only: no package of the virtual environment."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT_DIR)!r})\n"
        "from emotion2vec_ui import doctor\n"
        "from emotion2vec_ui.settings import Settings\n"
        "findings = doctor.run(Settings()); print(doctor.render(findings, 'en'))\n"
        "sys.exit(doctor.exit_code(findings))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "missing: torch, funasr" in done.stdout
    assert "pip install -r requirements.txt" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_check_that_breaks_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    finding = find("disk", settings(tmp_path))
    assert finding.verdict == "warn"
    assert "no idea" in doctor.render([finding])


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_finding_has_words(tmp_path: Path, lang: str) -> None:
    findings = doctor.run(settings(tmp_path))
    text = doctor.render(findings, lang)
    assert "{" not in text
    rows = json.loads(doctor.to_json(findings, lang))
    assert len(rows) == len(findings)
    assert all(row["value"] for row in rows)
    assert all(row["remedy"] for row in rows if row["verdict"] == "fail")


def test_every_key_named_in_the_source_exists() -> None:
    source = Path(doctor.__file__).read_text(encoding="utf-8")
    keys = set(re.findall(r'"(doctor\.[a-z_.]+)"', source))
    keys |= {f"doctor.{code}" for code in re.findall(r'Finding\(\s*"(\w+)"', source)}
    assert len(keys) > 30
    assert not {key for key in keys if not texts.has(key)}


def test_taken_port_names_its_holder(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        finding = find("port", settings(tmp_path, server_port=port))
    assert finding.verdict == "fail"
    assert f"pid {os.getpid()}" in doctor.render([finding])
    assert "--server-port" in doctor.render([finding])
    assert doctor.port_holder(port) is None


def test_unguarded_server_is_a_warning(tmp_path: Path) -> None:
    open_to_all = settings(tmp_path, server_name="0.0.0.0", enable_insecure_extension_access=True)
    assert find("port", open_to_all).verdict == "warn"


def test_model_states(tmp_path: Path) -> None:
    absent = find("model", settings(tmp_path))
    assert absent.verdict == "warn" and "download command" in doctor.render([absent])
    offline = find("model", settings(tmp_path, model="iic/emotion2vec_plus_base", offline=True))
    assert offline.verdict == "fail" and "models/" in doctor.render([offline])
    directory = tiny.build_model_dir(tmp_path / "models" / "emotion2vec_plus_large")
    here = find("model", settings(tmp_path))
    assert here.verdict == "ok" and str(directory) in doctor.render([here])
    (directory / "tokens.txt").write_text("\n".join(tiny.OLD_TOKENS), encoding="utf-8")
    old = find("model", settings(tmp_path))
    assert old.verdict == "fail" and "旧的标签表" in doctor.render([old], "zh")
    nowhere = find("model", settings(tmp_path, model="./no/such/place"))
    assert nowhere.verdict == "fail"


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    finding = find("outputs", settings(tmp_path, outputs=tmp_path / "file"))
    assert finding.verdict == "fail" and "--outputs" in doctor.render([finding])


@pytest.mark.parametrize(
    ("free_mb", "offline", "verdict"),
    [(100, False, "fail"), (1_000, False, "warn"), (1_000, True, "ok"), (9_000, False, "ok")],
)
def test_disk(
    free_mb: int,
    offline: bool,
    verdict: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "big.wav").write_bytes(b"\0" * 3_000_000)
    usage = shutil.disk_usage("/")._replace(free=free_mb * 1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    finding = find("disk", settings(tmp_path, offline=offline))
    assert finding.verdict == verdict
    assert "outputs hold 3 MB" in doctor.render([finding])


@pytest.mark.parametrize(
    ("gpus", "device", "verdict"),
    [
        ([], "auto", "ok"),
        ([], "cuda", "fail"),
        ([("Small", 4_300.0, 4_000.0)], "auto", "warn"),
        ([("Medium", 8_590.0, 8_000.0)], "auto", "ok"),
        ([("Large", 24_700.0, 20_000.0)], "auto", "ok"),
    ],
)
def test_gpu(
    gpus: Any, device: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_nvidia_smi", lambda: gpus)
    monkeypatch.setattr(doctor, "_has_cuda_libraries", lambda: True)
    assert find("gpu", settings(tmp_path, device=device)).verdict == verdict


def test_gpu_beside_a_cpu_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_nvidia_smi", lambda: [("Large", 24_700.0, 20_000.0)])
    monkeypatch.setattr(doctor, "_has_cuda_libraries", lambda: False)
    finding = find("gpu", settings(tmp_path))
    assert finding.verdict == "warn" and "pytorch.org" in doctor.render([finding])


def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA X, 1, 11264, 10000'\necho 'broken, [N/A], 1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ((name, total_mb, free_mb),) = doctor._nvidia_smi()
    assert (name, round(total_mb), round(free_mb)) == ("NVIDIA X, 1", 11811, 10486)
    program.write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(doctor, "NVIDIA_SMI_TIMEOUT_S", 0.2)
    start = time.monotonic()
    assert doctor._nvidia_smi() == []
    assert time.monotonic() - start < 10


def test_torchaudio_linked_against_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {name: tmp_path / name for name in ("torch", "torchaudio")}
    for folder in folders.values():
        (folder / "lib").mkdir(parents=True)
    (folders["torchaudio"] / "lib" / "_torchaudio.abi3.so").write_bytes(b"ELF libc10_cuda.so x")
    monkeypatch.setattr(doctor, "_package_folder", folders.get)
    monkeypatch.setattr(doctor, "_version", lambda name: "2.11.0")
    mismatched = find("torchaudio", settings(tmp_path))
    assert mismatched.verdict == "warn" and "built for CUDA" in doctor.render([mismatched])
    (folders["torch"] / "lib" / "libc10_cuda.so").touch()
    assert find("torchaudio", settings(tmp_path)).verdict == "ok"


def test_requirements_that_do_not_fit(tmp_path: Path) -> None:
    import numpy

    listed = tmp_path / "requirements.txt"
    listed.write_text(
        "# why each is here\n--extra-index-url https://example.org\nnumpy<1  # arrays\n"
        "not-installed-anywhere>=5\nsoundfile\nav<1; python_version < '3'\n"
    )
    assert list(doctor._unfit_requirements(listed)) == [f"numpy {numpy.__version__}, <1"]
    assert list(doctor._unfit_requirements(tmp_path / "none.txt")) == []


def test_a_port_held_by_this_program_is_no_fault(server):
    port = int(server.url.rpartition(":")[2])
    findings = doctor.run(Settings(server_port=port, outputs=server.outputs))
    (found,) = (finding for finding in findings if finding.code == "port")
    assert found.verdict == "ok" and str(port) in doctor.render([found])
