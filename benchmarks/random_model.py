"""A model directory in the real layout, small or full-size, with random weights.

The modules come from funasr's own `Emotion2vec` class and the files carry the real names, keys and
nesting, so that `funasr.AutoModel` loads the directory too: what the tests compare with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

TOKENS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)
OLD_TOKENS = (
    "生气/angry",
    "unuse_0",
    "unuse_1",
    "开心/happy",
    "中立/neutral",
    "unuse_2",
    "难过/sad",
    "unuse_3",
    "<unk>",
)
"""The list that plus_large shipped before 2024-06-24."""

FULL_SIZE = {"dim": 1024, "depth": 8, "prenet_depth": 4, "heads": 16, "conv_dim": 512}
"""plus_large's own sizes: 162,140,185 parameters without the decoder."""


def build_config(
    *, dim: int, depth: int, prenet_depth: int, heads: int, conv_dim: int
) -> dict[str, Any]:
    """The structure of plus_large's config.yaml, as far as funasr reads it, with these sizes."""
    full = dim == FULL_SIZE["dim"]
    audio = {
        "add_masks": False,
        "alibi_max_pos": None,
        "alibi_scale": 1.0,
        "conv_pos_depth": 5,
        "conv_pos_groups": 16,
        "conv_pos_pre_ln": False,
        "conv_pos_width": 95,
        "decoder": {
            "add_positions_all": False,
            "add_positions_masked": False,
            "decoder_dim": 768 if full else dim,
            "decoder_groups": 16,
            "decoder_kernel": 7,
            "decoder_layers": 4,
            "decoder_residual": True,
            "input_dropout": 0.1,
            "projection_layers": 1,
            "projection_ratio": 2.0,
        },
        "ema_local_encoder": False,
        "encoder_zero_mask": True,
        "end_drop_path_rate": 0.0,
        "extractor_mode": "layer_norm",
        "feature_encoder_spec": (
            f"[({conv_dim}, 10, 5)] + [({conv_dim}, 3, 2)] * 4 "
            f"+ [({conv_dim},2,2)] + [({conv_dim},2,2)]"
        ),
        "init_extra_token_zero": True,
        "inverse_mask": False,
        "keep_masked_pct": 0.0,
        "learned_alibi": False,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False,
        "local_grad_mult": 1.0,
        "mask_channel_length": 64,
        "mask_channel_prob": 0.0,
        "mask_dropout": 0.0,
        "mask_length": 5,
        "mask_noise_std": 0.01,
        "mask_prob": 0.55,
        "mask_prob_adjust": 0.1,
        "mask_prob_min": None,
        "model_depth": depth,
        "num_alibi_heads": heads,
        "num_extra_tokens": 10,
        "prenet_depth": prenet_depth,
        "prenet_dropout": 0.1,
        "prenet_layerdrop": 0.0,
        "remove_masks": False,
        "start_drop_path_rate": 0.0,
        "type": "AUDIO",
        "use_alibi_encoder": True,
    }
    return {
        "model": "Emotion2vec",
        "model_conf": {
            "_name": "data2vec_multi",
            "activation_dropout": 0.0,
            "attention_dropout": 0.1,
            "average_top_k_layers": 16,
            "clone_batch": 12,
            "depth": depth,
            "dropout_input": 0.0,
            "embed_dim": dim,
            "encoder_dropout": 0.1,
            "end_drop_path_rate": 0.0,
            "end_of_block_targets": False,
            "layer_norm_first": False,
            "layerdrop": 0.0,
            "loss_beta": 0.0,
            "loss_scale": None,
            "mlp_ratio": 4.0,
            "normalize": True,
            "modalities": {"_name": None, "audio": audio},
            "norm_affine": True,
            "norm_eps": 1.0e-05,
            "num_heads": heads,
            "post_mlp_drop": 0.1,
            "seed": 1,
            "skip_ema": False,
            "start_drop_path_rate": 0.0,
            "supported_modality": "AUDIO",
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
        "scope_map": ["d2v_model.", "none"],
    }


def build_model_dir(
    path: Path,
    *,
    dim: int = 48,
    depth: int = 2,
    prenet_depth: int = 1,
    heads: int = 4,
    conv_dim: int = 32,
    seed: int = 0,
    copies: int = 3,
) -> Path:
    """Writes config.yaml, configuration.json, tokens.txt and model.pt into `path`.

    Args:
        path: the directory; made if it is not there.
        dim: width of the embedding; a multiple of 16.
        depth: main transformer blocks.
        prenet_depth: transformer blocks before them.
        heads: attention heads; they divide `dim`.
        conv_dim: channels of the waveform's convolutions.
        seed: of the random weights.
        copies: 1, or 3 as in the real file: the weights and two more tensors for each, under keys
            that inference does not use (an optimiser's state: sizes are what matters here).

    Returns:
        `path`.
    """
    import torch

    from emotion2vec_ui.models.upstream import emotion2vec_class

    path.mkdir(parents=True, exist_ok=True)
    sizes = {"dim": dim, "depth": depth, "prenet_depth": prenet_depth, "heads": heads}
    config = build_config(**sizes, conv_dim=conv_dim)
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    metas = {
        "init_param": "model.pt",
        "tokenizer_conf": {"token_list": "tokens.txt"},
        "config": "config.yaml",
    }
    configuration = {
        "framework": "pytorch",
        "task": "emotion-recognition",
        "pipeline": {"type": "funasr-pipeline"},
        "model": {"type": "funasr"},
        "file_path_metas": metas,
        "model_name_in_hub": {"ms": "iic/emotion2vec_base", "hf": ""},
    }
    (path / "configuration.json").write_text(json.dumps(configuration), encoding="utf-8")
    # The real file has no line break after its last label.
    (path / "tokens.txt").write_text("\n".join(TOKENS), encoding="utf-8")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with emotion2vec_class() as model_class:
            module = model_class(model_conf=config["model_conf"], vocab_size=len(TOKENS))
        with torch.no_grad():
            # Freshly initialised heads score all labels about alike; these differ, so that an
            # equality of scores says something.
            module.proj.weight.mul_(8.0)
            module.proj.bias.copy_(torch.randn(len(TOKENS)))
    state = module.state_dict()
    checkpoint: dict[str, Any] = {
        "args": None,
        "model": {
            key if key.startswith("proj.") else f"d2v_model.{key}": value
            for key, value in state.items()
        },
    }
    if copies == 3:
        moments = {
            index: {
                "step": 1,
                "exp_avg": torch.zeros_like(value),
                "exp_avg_sq": torch.ones_like(value),
            }
            for index, value in enumerate(state.values())
        }
        checkpoint["last_optimizer_state"] = {"state": moments, "param_groups": []}
    torch.save(checkpoint, path / "model.pt")
    return path
