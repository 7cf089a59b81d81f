"""The usual L2 norms of a model's embeddings, as they were measured and stored with it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from emotion2vec_ui.models.files import (
    BUILT_IN_CARD_NAME,
    CALIBRATION_NAME,
    REFERENCE_NAME,
    Location,
)
from emotion2vec_ui.reading import familiarity

logger = logging.getLogger(__name__)


def norm_range(location: Location, weights_sha256: str | None) -> tuple[float, float] | None:
    """Lowest and highest usual norm of a model that need not be loaded; None where not measured.

    Args:
        location: of its files.
        weights_sha256: of the checkpoint whose embeddings are to be judged.
    """
    measured = familiarity.find(
        location.path / CALIBRATION_NAME, None if location.is_built_in else weights_sha256
    )
    if measured is not None:
        return measured.norm_range
    return read(location.path / (BUILT_IN_CARD_NAME if location.is_built_in else REFERENCE_NAME))


def read(path: Path) -> tuple[float, float] | None:
    """Lowest and highest usual embedding norm; None where there is no such file or no range in it.

    Args:
        path: a reference.json, `{"embedding_norm": [low, high]}`, or the built-in model's card,
            `{"embedding_norm": {"low": low, "high": high, ...}, ...}`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, so no embedding norm is judged: %s", path, error)
        return None
    match content:
        case {"embedding_norm": [float() | int() as low, float() | int() as high]}:
            pass
        case {"embedding_norm": {"low": float() | int() as low, "high": float() | int() as high}}:
            pass
        case _:
            low = high = math.nan
    if not 0 <= low < high < math.inf:
        logger.warning(
            '%s has no usable embedding norm; expected {"embedding_norm": [low, high]} with '
            "0 <= low < high. No embedding norm is judged.",
            path,
        )
        return None
    return float(low), float(high)
