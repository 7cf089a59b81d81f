"""Loaded models whose torch module is replaced by one that a test watches or breaks."""

from __future__ import annotations

import dataclasses

from emotion2vec_ui.models.loader import Loaded
from emotion2vec_ui.models.pytorch_network import Backbone, PyTorchNetwork


def with_backbone(loaded: Loaded, backbone: Backbone, device: str = "cpu") -> Loaded:
    """`loaded` with another module, said to be on `device`."""
    network = PyTorchNetwork(backbone, device, loaded.network.precision)
    return dataclasses.replace(loaded, network=network)
