"""A robustness test as JSON: what the page offers for download and the API answers."""

from __future__ import annotations

import json

from emotion2vec_ui.records.robustness import to_json
from tests import past


def test_every_fact_is_in_it_and_the_reference_comes_first():
    test = past.robustness(flips=("fan_0",))
    content = json.loads(to_json(test))
    assert list(content) == [
        "source",
        "model",
        "used_s",
        "outcomes",
        "flip_snr_db",
        "flipped_codes",
        "neutral_rise",
        "seed",
    ]
    first, second = content["outcomes"][:2]
    assert first["condition"] == {"code": "clean", "kind": "clean", "snr_db": None}
    assert second["condition"] == {"code": "fan_30", "kind": "fan", "snr_db": 30.0}
    assert [one["condition"]["code"] for one in content["outcomes"] if one["flipped"]] == ["fan_0"]
    assert content["model"]["id"] == "compact" and content["source"]["sha256"]
