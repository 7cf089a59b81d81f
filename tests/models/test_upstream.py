"""funasr's class imported alone, beside every kind of torchaudio."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion2vec_ui.settings import ROOT_DIR

pytestmark = pytest.mark.usefixtures("private_home")


FUNASR_AFTERWARDS = """
import sys
from emotion2vec_ui.models import upstream
with upstream.emotion2vec_class() as first: pass
with upstream.emotion2vec_class() as second: pass
assert first is second
assert not [m for m in sys.modules if m.partition('.')[0] == 'funasr'], 'left behind'
import funasr
from funasr import AutoModel
from funasr.register import tables
assert funasr.__file__ and funasr.__version__
assert 'Paraformer' in tables.model_classes and 'Emotion2vec' in tables.model_classes
assert funasr.models.emotion2vec.model.Emotion2vec is tables.model_classes['Emotion2vec']
with upstream.emotion2vec_class() as third: pass
assert third is tables.model_classes['Emotion2vec']
assert sys.modules['funasr'] is funasr
print('fine')
"""


@pytest.mark.slow
def test_ordinary_funasr_import_works_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUNASR_AFTERWARDS], cwd=ROOT_DIR, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith("fine"), done.stderr[-3000:]


TORCHAUDIO = """
import sys
from emotion2vec_ui.models import upstream
try:
    import torchaudio
    fits = True
except ImportError:
    fits = None
except OSError:
    fits = False
print(fits)
upstream.make_torchaudio_importable()
stubbed = not hasattr(sys.modules.get('torchaudio._extension'), '__file__')
if fits is not None:
    import torch, torchaudio
    assert torchaudio.functional.resample(torch.zeros(1, 800), 8000, 16000).shape == (1, 1600)
    assert stubbed == (not fits), (stubbed, fits)
else:
    assert 'torchaudio' not in sys.modules
with upstream.emotion2vec_class() as cls:
    assert cls.__name__ == 'Emotion2vec'
print('fine')
"""


def write_torchaudio(folder: Path, loads: bool) -> Path:
    """A package with torchaudio's shape, whose native part loads or fails as the real one does."""
    package = folder / "torchaudio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import _extension\nfrom . import functional\n")
    failure = "raise OSError('libc10_cuda.so: cannot open shared object file')\n"
    extension = "_IS_TORCHAUDIO_EXT_AVAILABLE = True\ndef fail_if_no_align(f): return f\n"
    (package / "_extension.py").write_text(extension if loads else failure)
    (package / "functional.py").write_text(
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "@fail_if_no_align\n"
        "def resample(x, old, new): return x.repeat_interleave(new // old, dim=-1)\n"
    )
    return folder


@pytest.mark.parametrize("kind", ["installed", "fits", "mismatched", "absent"])
def test_torchaudio(kind: str, tmp_path: Path) -> None:
    environment = dict(os.environ)
    code = TORCHAUDIO
    if kind == "absent":
        code = "import sys; sys.modules['torchaudio'] = None\n" + code.replace(
            "'torchaudio' not in sys.modules", "sys.modules['torchaudio'] is None"
        )
    elif kind != "installed":
        folder = write_torchaudio(tmp_path, loads=kind == "fits")
        environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT_DIR,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith("fine"), done.stderr[-3000:]
    first = done.stdout.split()[0]
    assert first == {"fits": "True", "mismatched": "False", "absent": "None"}.get(kind, first)
