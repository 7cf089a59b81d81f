"""Imports funasr's `Emotion2vec` class without the rest of funasr, whatever torchaudio there is.

Importing this module imports neither torch nor funasr.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

from emotion2vec_ui.errors import ModelLoadError
from emotion2vec_ui.texts import Phrase

logger = logging.getLogger(__name__)

_import_lock = threading.Lock()

_funasr_modules: dict[str, types.ModuleType] = {}
"""funasr's modules imported without its package; in `sys.modules` only while they are used."""


@contextlib.contextmanager
def emotion2vec_class() -> Iterator[type[Any]]:
    """The class `Emotion2vec` of funasr, without the 7 to 10 s that `import funasr` takes.

    funasr's `__init__` imports all its models. An empty module in its place, with only the
    path of the package, lets Python import the one module and what that needs. Build the model
    inside the block (its constructor imports more of funasr); after it `sys.modules` is as it
    was, so that a later `import funasr` is the ordinary one.

    Raises:
        ModelLoadError: funasr, or something that it needs, is not installed.
    """
    name = "funasr.models.emotion2vec.model"
    with _import_lock:
        if "funasr" in sys.modules:
            yield importlib.import_module(name).Emotion2vec
            return
        sys.modules.update(_funasr_modules)
        try:
            yield _import_alone(name).Emotion2vec
        finally:
            for added in [key for key in sys.modules if key.partition(".")[0] == "funasr"]:
                _funasr_modules[added] = sys.modules.pop(added)


def _import_alone(name: str) -> Any:
    """Imports the module `name` of funasr; the package around it is an empty module."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        spec = importlib.util.find_spec("funasr")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("No module named 'funasr'", name="funasr")
        make_torchaudio_importable()
        _make_distutils_importable()
        package = types.ModuleType("funasr")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["funasr"] = package
        # distutils and its Version classes warn that they are deprecated; funasr must change it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(name)
    except ImportError as error:
        problem = Phrase("model.import_failed", detail=str(error))
        raise ModelLoadError(model="emotion2vec", problem=problem) from error


def make_torchaudio_importable() -> None:
    """Replaces torchaudio's native part by a stub where its wheel does not fit the installed torch.

    Beside a CPU-only torch, the wheel of a CUDA build raises OSError on import because a native
    library is missing, and funasr expects ImportError only. With a stub for the module that loads
    the library, the pure-Python parts work. Nothing is changed where torchaudio fits or is absent.
    """
    try:
        importlib.import_module("torchaudio")
        return
    except ImportError:
        return
    except OSError as error:
        logger.warning("torchaudio does not fit this torch (%s); its native parts are off.", error)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]

    def no_op(*args: Any, **kwargs: Any) -> Any:
        """Used as a decorator and as a check; both pass."""
        return args[0] if args else None

    stub: Any = types.ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stub._IS_ALIGN_AVAILABLE = False
    stub.fail_if_no_align = no_op
    stub._check_cuda_version = no_op
    sys.modules["torchaudio._extension"] = stub
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError, AttributeError):
        # Another release is built differently: without torchaudio funasr uses soundfile.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio"] = None  # type: ignore[assignment]


def _make_distutils_importable() -> None:
    """Funasr imports distutils, which Python 3.12 removed; setuptools contains a copy."""
    if sys.version_info >= (3, 12) and "distutils" not in sys.modules:
        # Importing setuptools makes `import distutils` find that copy.
        importlib.import_module("setuptools")
