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

from benchmarks import random_model
from emotion2vec_ui import doctor, listening, texts
from emotion2vec_ui.settings import ROOT_DIR, Settings


@pytest.fixture(autouse=True)
def private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches, models/ and GPUs of this machine do not matter here."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Settings, "models_dir", property(lambda self: tmp_path / "models"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def write_nvidia_smi(tmp_path: Path, *lines: str) -> None:
    """An `nvidia-smi` that prints these lines, in the one folder of PATH."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages are found before those of this machine."""
    folder = tmp_path / "packages"
    monkeypatch.syspath_prepend(folder)
    return folder


def write_package(
    folder: Path, name: str, version: str, library: str = "", content: str = ""
) -> None:
    """An installed package: its metadata and one native library."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / name / "lib").mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    if library:
        (folder / name / "lib" / library).write_text(content)


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


def test_every_finding_has_words(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for lang in ["zh", "en"]:
        with subtests.test(lang=lang):
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
    assert listening.port_holder(port) is None


def test_unguarded_server_is_a_warning(tmp_path: Path) -> None:
    open_to_all = settings(tmp_path, server_name="0.0.0.0", enable_insecure_extension_access=True)
    assert find("port", open_to_all).verdict == "warn"


def test_model_states(tmp_path: Path) -> None:
    absent = find("model", settings(tmp_path))
    assert absent.verdict == "warn" and "download command" in doctor.render([absent])
    offline = find("model", settings(tmp_path, model="iic/emotion2vec_plus_base", offline=True))
    assert offline.verdict == "fail" and "models/" in doctor.render([offline])
    directory = random_model.build_model_dir(tmp_path / "models" / "emotion2vec_plus_large")
    here = find("model", settings(tmp_path))
    assert here.verdict == "ok" and str(directory) in doctor.render([here])
    (directory / "tokens.txt").write_text("\n".join(random_model.OLD_TOKENS), encoding="utf-8")
    old = find("model", settings(tmp_path))
    assert old.verdict == "fail" and "旧的标签表" in doctor.render([old], "zh")
    nowhere = find("model", settings(tmp_path, model="./no/such/place"))
    assert nowhere.verdict == "fail"


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    finding = find("outputs", settings(tmp_path, outputs=tmp_path / "file"))
    assert finding.verdict == "fail" and "--outputs" in doctor.render([finding])


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "big.wav").write_bytes(b"\0" * 3_000_000)
    disk = shutil.disk_usage("/")
    for free_mb, offline, verdict in [
        (100, False, "fail"),
        (1_000, False, "warn"),
        (1_000, True, "ok"),
        (9_000, False, "ok"),
    ]:
        usage = disk._replace(free=free_mb * 1_000_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        with subtests.test(free_mb=free_mb, offline=offline):
            finding = find("disk", settings(tmp_path, offline=offline))
            assert finding.verdict == verdict
            assert "outputs hold 3 MB" in doctor.render([finding])


def test_gpu(tmp_path: Path, installed: Path, subtests: pytest.Subtests) -> None:
    for gpu, device, library, verdict, words in [
        (None, "auto", "libc10_cuda.so", "ok", "no NVIDIA GPU"),
        (None, "cuda", "libc10_cuda.so", "fail", "GPU driver"),
        ("Small, 4096, 4000", "auto", "libc10_cuda.so", "warn", "--low-vram"),
        ("Medium, 8192, 8000", "auto", "libc10_cuda.so", "ok", "11 GB"),
        ("Large, 24576, 20000", "auto", "libc10_cuda.so", "ok", "Large, 25770 MB"),
        ("Large, 24576, 20000", "auto", "libc10.so", "warn", "pytorch.org"),
        ("Large, 24576, 20000", "cuda", "libc10.so", "fail", "pytorch.org"),
        ("Large, 24576, 20000", "cpu", "libc10.so", "ok", "Large"),
        # A comma in the name, a GPU without figures, and words instead of a table.
        ("NVIDIA X, 1, 11264, 10000", "auto", "libc10_cuda.so", "ok", "X, 1, 11811 MB of.* 10486"),
        ("broken, [N/A], 1", "auto", "libc10_cuda.so", "ok", "no NVIDIA GPU"),
        ("NVIDIA-SMI has failed", "auto", "libc10_cuda.so", "ok", "no NVIDIA GPU"),
    ]:
        with subtests.test(gpu=gpu, device=device, library=library):
            if gpu is not None:
                write_nvidia_smi(tmp_path, gpu)
            shutil.rmtree(installed, ignore_errors=True)
            write_package(installed, "torch", "2.11.0", library)
            finding = find("gpu", settings(tmp_path, device=device))
            assert finding.verdict == verdict
            assert re.search(words, doctor.render([finding]))


def test_a_slow_nvidia_smi_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nvidia_smi(tmp_path)
    with (tmp_path / "bin" / "nvidia-smi").open("a") as program:
        program.write("exec /bin/sleep 60\n")
    monkeypatch.setattr(doctor, "NVIDIA_SMI_TIMEOUT_S", 0.2)
    start = time.monotonic()
    assert "no NVIDIA GPU" in doctor.render([find("gpu", settings(tmp_path))])
    assert time.monotonic() - start < 10


def test_torchaudio_linked_against_cuda(
    tmp_path: Path, installed: Path, subtests: pytest.Subtests
) -> None:
    for torch_library, verdict in [("libc10.so", "warn"), ("libc10_cuda.so", "ok")]:
        with subtests.test(torch_library=torch_library):
            shutil.rmtree(installed, ignore_errors=True)
            write_package(installed, "torch", "2.11.0", torch_library)
            native = "ELF libc10_cuda.so x"
            write_package(installed, "torchaudio", "2.11.0", "_torchaudio.abi3.so", native)
            finding = find("torchaudio", settings(tmp_path))
            assert finding.verdict == verdict
            assert ("built for CUDA" in doctor.render([finding])) == (verdict == "warn")


def test_requirements_that_do_not_fit(tmp_path: Path, installed: Path) -> None:
    write_package(installed, "numpy", "0.9")
    finding = find("requirements", settings(tmp_path))
    assert finding.verdict == "warn"
    assert re.fullmatch(r"numpy 0\.9, \S+", str(finding.value))
    assert "pip install -r requirements.txt" in doctor.render([finding])


def test_requirements_are_read_as_pip_does(tmp_path: Path) -> None:
    import numpy

    listed = tmp_path / "requirements.txt"
    listed.write_text(
        "# why each is here\n--extra-index-url https://example.org\nnumpy<1  # arrays\n"
        "not-installed-anywhere>=5\nsoundfile\nav<1; python_version < '3'\n"
    )
    assert list(doctor._unmet_requirements(listed)) == [f"numpy {numpy.__version__}, <1"]
    assert list(doctor._unmet_requirements(tmp_path / "none.txt")) == []


def test_the_runtime_is_named_and_why(tmp_path: Path) -> None:
    def found(**flags: Any) -> str:
        return doctor.render([find("runtime", settings(tmp_path, device="cpu", **flags))])

    assert re.search(r"\[ok\].*OpenVINO \d[\d.]+ on the CPU, fp32", found())
    assert re.search(
        r"PyTorch \d\S+ on cpu, fp32: --disable-tensorrt", found(disable_tensorrt=True)
    )
    assert "fp16: OpenVINO does not compute" in found(precision="fp16")
    # What the built-in model does not do is not promised: here no other is.
    assert "CPU, fp32" in found(precision="int8")
    random_model.build_model_dir(tmp_path / "models" / "emotion2vec_plus_large")
    assert "CPU, int8" in found(precision="int8")


def test_a_broken_openvino_is_named(tmp_path: Path) -> None:
    write_package(tmp_path, "openvino", "2026.4.1")
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('no libtbb')")
    done = subprocess.run(
        [sys.executable, "-m", "emotion2vec_ui", "doctor", "--cpu", "--offline", "--lang", "en"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT_DIR}"},
        capture_output=True,
        text=True,
    )
    said = done.stdout[done.stdout.index("Runtime of the model") :].splitlines()
    assert "PyTorch" in said[0] and "no libtbb" in said[0]
    assert "pip install -r requirements.txt" in said[1]


def test_a_port_held_by_this_program_is_no_fault(server):
    port = int(server.url.rpartition(":")[2])
    findings = doctor.run(Settings(server_port=port, outputs=server.outputs))
    (found,) = (finding for finding in findings if finding.code == "port")
    assert found.verdict == "ok" and str(port) in doctor.render([found])
