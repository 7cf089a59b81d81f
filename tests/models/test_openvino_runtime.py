"""OpenVINO tells nobody that it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from emotion2vec_ui.settings import ROOT_DIR

# Audit events are raised by the interpreter itself (docs.python.org/3/library/audit_events.html).
RUN = """
import sys
seen = []
watched = ("os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)
from emotion2vec_ui.models import openvino_runtime
openvino_runtime.ov.Core().available_devices
print(seen)
"""


def test_importing_it_starts_no_process_connects_to_nothing_and_keeps_no_id(tmp_path: Path) -> None:
    # In CI its statistics are off anyway.
    unwatched = ("CI", "TF_BUILD", "JENKINS_URL")
    environ = {name: value for name, value in os.environ.items() if name not in unwatched}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=ROOT_DIR,
        env=environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir())
