"""Downloads from a local server that plays both hubs, and that cuts, lies, stalls or is gone."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

from benchmarks import random_model
from emotion2vec_ui.errors import ModelDownloadError
from emotion2vec_ui.models import download, loader
from emotion2vec_ui.models import holder as holder_module
from emotion2vec_ui.models.files import resolve
from emotion2vec_ui.models.holder import BACKOFF_S, ModelHolder
from emotion2vec_ui.settings import Settings

MODEL = "iic/emotion2vec_plus_large"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Serves the files of one repository as ModelScope and as Hugging Face do.

    Attributes:
        files: name -> content.
        cuts: name -> how many answers end after `cut_bytes`.
        pause_s: before every 64 KiB.
        listed_sizes: name -> another size in the listing than the file has.
        status: answered to everything when it is not 200.
        log: (method, name or path, Range header) of every request.
    """

    files: dict[str, bytes]
    cuts: dict[str, int] = field(default_factory=dict)
    cut_bytes: int = 50_000
    pause_s: float = 0.0
    listed_sizes: dict[str, int] = field(default_factory=dict)
    listed_hashes: dict[str, str] = field(default_factory=dict)
    status: int = 200
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def size(self, name: str) -> int:
        return self.listed_sizes.get(name, len(self.files[name]))

    def sha256(self, name: str) -> str:
        return self.listed_hashes.get(name) or hashlib.sha256(self.files[name]).hexdigest()

    def got(self, name: str) -> list[str | None]:
        """The Range headers of the GET requests for a file."""
        return [span for method, what, span in self.log if (method, what) == ("GET", name)]


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        if self.hub.status != 200:
            self.hub.log.append((self.command, path, None))
            return self.json({"Code": 1, "Message": "no", "error": "no"}, self.hub.status)
        if path == f"/api/v1/models/{MODEL}/repo/files":
            self.hub.log.append((self.command, path, None))
            files = [
                {"Path": n, "Size": self.hub.size(n), "Sha256": self.hub.sha256(n), "Type": "blob"}
                for n in self.hub.files
            ]
            return self.json({"Code": 200, "Success": True, "Data": {"Files": files}})
        if path == f"/api/v1/models/{MODEL}/repo":
            assert query["Revision"] == "master"
            return self.file(query["FilePath"])
        if re.fullmatch(r"/api/models/emotion2vec/emotion2vec_plus_large(/revision/\w+)?", path):
            self.hub.log.append((self.command, path, None))
            siblings = [
                {
                    "rfilename": n,
                    "size": self.hub.size(n),
                    "blobId": "0" * 40,
                    "lfs": {"sha256": self.hub.sha256(n), "size": self.hub.size(n)}
                    | {"pointerSize": 135},
                }
                for n in self.hub.files
            ]
            return self.json(
                {"id": "emotion2vec/emotion2vec_plus_large", "sha": COMMIT, "siblings": siblings}
            )
        if path.startswith("/api/models/emotion2vec/emotion2vec_plus_large/tree/"):
            tree = [
                {
                    "type": "file",
                    "path": n,
                    "size": self.hub.size(n),
                    "oid": "0" * 40,
                    "lfs": {"oid": self.hub.sha256(n), "size": self.hub.size(n)}
                    | {"pointerSize": 135},
                }
                for n in self.hub.files
            ]
            return self.json(tree)
        prefix = f"/emotion2vec/emotion2vec_plus_large/resolve/{COMMIT}/"
        if path.startswith(prefix):
            return self.file(path.removeprefix(prefix))
        self.hub.log.append((self.command, path, None))
        return self.json({"Code": 404, "Message": "not found"}, 404)

    def json(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def file(self, name: str) -> None:
        content = self.hub.files[name]
        span = self.headers.get("Range")
        self.hub.log.append((self.command, name, span))
        start = int(re.fullmatch(r"bytes=(\d+)-\d*", span)[1]) if span else 0
        self.send_response(206 if span else 200)
        if span:
            total = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", total)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{self.hub.sha256(name)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(content)
        if self.hub.cuts.get(name, 0) > 0:
            self.hub.cuts[name] -= 1
            end = min(end, start + self.hub.cut_bytes)
        with contextlib.suppress(ConnectionError):
            for at in range(start, end, 65_536):
                time.sleep(self.hub.pause_s)
                self.wfile.write(content[at : min(end, at + 65_536)])
        if end < len(content):
            self.close_connection = True


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = random_model.build_model_dir(tmp_path_factory.mktemp("hub") / "tiny")
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    return {**found, "README.md": b"# not needed", "example/test.wav": b"RIFF" * 1000}


@pytest.fixture
def hub(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A running hub that both clients are pointed at, and caches of our own."""
    hub = Hub(dict(files))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    point_clients_at(hub.url, monkeypatch, tmp_path)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def point_clients_at(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants
    from modelscope_hub import _download, _legacy_api

    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", url)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "ms-home"))
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # The model of these tests is small; a chunk must be smaller.
    monkeypatch.setattr(download, "CHUNK_BYTES", 16_384)
    monkeypatch.setattr(download, "RETRY_PAUSE_S", 0.01)
    monkeypatch.setattr(_download, "DOWNLOAD_CHUNK_SIZE", 16_384)
    # The clients' waits between attempts are for real networks.
    monkeypatch.setattr(_download, "DOWNLOAD_RETRY_MAX_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(_legacy_api, "REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(_download, "DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0.01)
    monkeypatch.setattr(Settings, "models_dir", property(lambda self: tmp_path / "models"))


@pytest.fixture(params=["ms", "hf"])
def client(request: pytest.FixtureRequest) -> str:
    return request.param


def fetch(client: str, **settings: Any) -> tuple[Path, list[download.Progress]]:
    seen: list[download.Progress] = []
    return download.fetch(Settings(hub=client, **settings), seen.append), seen


def test_fetches_what_inference_needs(hub: Hub, client: str, files: dict[str, bytes]) -> None:
    path, seen = fetch(client)
    for name in download.FILES:
        assert (path / name).read_bytes() == files[name]
    assert not hub.got("README.md") and not hub.got("example/test.wav")
    total = sum(len(files[name]) for name in download.FILES)
    assert seen[-1].bytes_done == seen[-1].bytes_total == total
    assert seen[-1].fraction == 1.0 and seen[-1].eta_s in (None, 0.0)
    assert all(a.bytes_done <= b.bytes_done for a, b in itertools.pairwise(seen))
    # Now it is found without the network, and the loader takes it.
    hub.log.clear()
    location = resolve(Settings())
    assert location is not None and (location.path, location.origin) == (path, "cache")
    assert location.revision == ("master" if client == "ms" else COMMIT)
    assert fetch(client)[0] == path and not hub.log
    assert loader.load(location, Settings(device="cpu")).id == MODEL


def test_resumes_after_cuts(hub: Hub, client: str, files: dict[str, bytes]) -> None:
    hub.cuts["model.pt"] = 2
    path, seen = fetch(client)
    assert (path / "model.pt").read_bytes() == files["model.pt"]
    spans = hub.got("model.pt")
    assert len(spans) == 3
    starts = [int(span.split("=")[1].rstrip("-").split("-")[0]) for span in spans if span]
    assert starts == sorted(set(starts)) and starts[0] > 0, "it began anew instead of resuming"
    assert seen[-1].bytes_done == seen[-1].bytes_total


def test_resumes_in_the_next_run(
    hub: Hub, client: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelscope_hub import _download

    monkeypatch.setattr(_download, "DOWNLOAD_RETRY_TIMES", 0)
    hub.cut_bytes = 0
    hub.pause_s = 0.05

    def stop_early(progress: download.Progress) -> None:
        if progress.bytes_done > 150_000:
            raise download.Cancelled

    with pytest.raises(download.Cancelled):
        download.fetch(Settings(hub=client), stop_early)
    assert resolve(Settings()) is None, "half a model counts as one"
    hub.log.clear()
    hub.pause_s = 0.0
    path, _ = fetch(client)
    assert (path / "model.pt").read_bytes() == files["model.pt"]
    (span,) = hub.got("model.pt")
    assert span is not None and span > "bytes=0-"


def test_wrong_size_is_an_error(hub: Hub, client: str) -> None:
    hub.listed_sizes["model.pt"] = len(hub.files["model.pt"]) + 1000
    with pytest.raises(ModelDownloadError, match=r"size|hash|broke") as caught:
        fetch(client)
    assert caught.value.facts["model"] == MODEL
    assert resolve(Settings()) is None


def test_wrong_content_is_an_error_and_is_not_kept(hub: Hub, client: str) -> None:
    content = bytearray(hub.files["model.pt"])
    hub.listed_hashes["model.pt"] = hub.sha256("model.pt")
    content[len(content) // 2] ^= 1
    hub.files["model.pt"] = bytes(content)
    with pytest.raises(ModelDownloadError, match=r"size or (SHA-256|hash)"):
        fetch(client)
    assert resolve(Settings()) is None
    content[len(content) // 2] ^= 1
    hub.files["model.pt"] = bytes(content)
    path, _ = fetch(client)
    assert (path / "model.pt").read_bytes() == bytes(content)


def test_progress_has_rate_and_time_left(hub: Hub, client: str) -> None:
    hub.pause_s = 0.1
    _, seen = fetch(client)
    middle = [progress for progress in seen if 0 < progress.bytes_done < progress.bytes_total]
    assert middle
    # 64 KiB every 0.1 s at most, whatever else this machine does.
    rates = [progress.rate_bytes_s for progress in middle if progress.rate_bytes_s]
    assert rates and max(rates) < 4e6
    for progress in middle:
        left = progress.bytes_total - progress.bytes_done
        if progress.eta_s is not None:
            assert progress.eta_s == pytest.approx(left / progress.rate_bytes_s)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such model"), (403, "could not be downloaded")]
)
def test_refusing_hub_is_an_error(hub: Hub, client: str, status: int, words: str) -> None:
    hub.status = status
    with pytest.raises(ModelDownloadError, match=words):
        fetch(client)


def test_unreachable_hub_is_an_error(
    client: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_clients_at("http://127.0.0.1:9", monkeypatch, tmp_path)
    start = time.monotonic()
    with pytest.raises(ModelDownloadError, match="cannot be reached"):
        fetch(client)
    assert time.monotonic() - start < 30


def test_repository_without_weights_is_an_error(hub: Hub, client: str) -> None:
    del hub.files["model.pt"]
    with pytest.raises(ModelDownloadError, match=r"missing on the hub: model\.pt"):
        fetch(client)


def test_full_disk_is_found_before_the_first_byte(
    hub: Hub, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=200_000_100))
    with pytest.raises(ModelDownloadError, match=r"MB are needed.*200 MB left"):
        fetch(client)
    assert not hub.got("model.pt") and not hub.got("config.yaml")


def test_own_folder_and_no_cache(hub: Hub, client: str, tmp_path: Path) -> None:
    path, _ = fetch(client, no_hf_weights_cache=True)
    assert path == tmp_path / "models" / "emotion2vec_plus_large"
    for cache in ("ms", "hf"):
        left = [p for p in (tmp_path / cache).rglob("*") if p.is_file() and p.suffix != ".lock"]
        assert not left
    location = resolve(Settings())
    assert location is not None and location.origin == "models/"


def test_offline_asks_nobody(hub: Hub, client: str) -> None:
    with pytest.raises(ModelDownloadError, match="--offline forbids"):
        fetch(client, offline=True)
    assert not hub.log


# --- the holder downloads in the background ---


@pytest.fixture
def holder() -> Iterator[ModelHolder]:
    holder = ModelHolder(Settings(device="cpu"))
    yield holder
    holder.stop()


def wait_for(condition: Any, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def test_compact_answers_until_plus_large_is_here(hub: Hub, holder: ModelHolder) -> None:
    hub.pause_s = 0.1
    holder.start()
    first = holder.get(30.0)
    assert first.is_built_in
    wait_for(lambda: holder.status().progress)
    status = holder.status()
    assert (status.state, status.notice) == ("downloading", "compact_while_downloading")
    assert (status.answering, status.wanted) == ("compact", MODEL)
    assert (
        0
        < status.bytes_done
        <= status.bytes_total
        == sum(len(hub.files[name]) for name in download.FILES)
    )
    wait_for(lambda: holder.status().state == "ready")
    second = holder.get(0.0)
    assert (second.id, second.origin, second.is_built_in) == (MODEL, "downloaded", False)
    assert (holder.status().notice, holder.status().progress) == (None, None)
    ((_, logits),) = first.network.run([np.zeros(16_000, np.float32)])
    assert np.isfinite(logits).all(), "what was handed out stays valid"


def test_compact_answers_when_the_download_fails(hub: Hub, holder: ModelHolder) -> None:
    hub.status = 404
    holder.start()
    assert holder.get(30.0).is_built_in
    wait_for(lambda: holder.status().state == "failed")
    status = holder.status()
    assert status.notice == "compact_download_failed"
    assert status.error is not None and status.error.code == "model_download"
    assert status.retry_in_s is not None and 0 < status.retry_in_s <= BACKOFF_S[0]
    assert holder.get(0.0).is_built_in
    hub.status = 200
    holder.retry()
    wait_for(lambda: holder.status().state == "ready")
    assert holder.get(0.0).id == MODEL
    assert (holder.status().error, holder.status().retry_in_s) == (None, None)


def test_download_is_tried_again_by_itself(
    hub: Hub,
    holder: ModelHolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holder_module, "BACKOFF_S", (0.05,))
    hub.status = 404
    holder.start()
    wait_for(lambda: len(hub.log) >= 3)
    hub.status = 200
    wait_for(lambda: holder.status().answering == MODEL)


def test_stop_ends_a_download(hub: Hub, holder: ModelHolder) -> None:
    hub.pause_s = 0.3
    holder.start()
    wait_for(lambda: holder.status().bytes_done > 0)
    start = time.monotonic()
    holder.stop()
    assert time.monotonic() - start < 5
    thread = holder._thread
    assert thread is not None
    wait_for(lambda: not thread.is_alive())


def test_download_goes_on_without_the_built_in_model(
    hub: Hub, holder: ModelHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotion2vec_ui.models.files.BUILT_IN_DIRECTORY", tmp_path / "nothing")
    hub.pause_s = 0.02
    holder.start()
    assert holder.get(30.0).id == MODEL
    assert holder.status().error is None


def test_missing_client_is_an_error(hub: Hub, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "modelscope_hub" if client == "ms" else "huggingface_hub"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelDownloadError, match=f"{module}.*requirements"):
        fetch(client)
