"""Fine-tune the upper layers, the adapter and the head on cached frames; apply them."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.compact import Compact

from .cache import Cache
from .data import Clip

UNKNOWN = EMOTIONS.index("unknown")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run beside the data.

    Attributes:
        frozen: lower transformer layers left as Whisper's.
        epochs: passes; one is about 4,300 clips.
        batch: clips.
        block_rate: peak learning rate of the fine-tuned layers.
        head_rate: peak learning rate of adapter and head.
        clean_share: share of clips taken unspoiled.
        crop_frames: longest piece used of a clip.
        smoothing: label smoothing.
        mix_probability: share of batches whose embeddings are mixed up.
        mask_probability: how often a class that a corpus lacks is left out of the loss.
        average: decay of the weights' moving average, per step.
        seed: of order, crops, masks and initial head.
    """

    frozen: int = 3
    epochs: int = 8
    batch: int = 32
    block_rate: float = 1e-4
    head_rate: float = 1e-3
    clean_share: float = 0.4
    crop_frames: int = 200
    smoothing: float = 0.1
    mix_probability: float = 0.5
    mask_probability: float = 0.5
    average: float = 0.98
    seed: int = 0


# Clips of a corpus drawn per epoch, so that the largest does not decide everything.
QUOTA = {"emodb": 800, "ravdess": 1200, "nemo": 1600, "unknown": 700}


@dataclass(frozen=True)
class Pool:
    """What may be trained on.

    Attributes:
        clips: the manifest.
        clean: frames of the clips as they are.
        spoiled: frames of spoiled versions.
        nonspeech: frames of what is not speech.
    """

    clips: list[Clip]
    clean: Cache
    spoiled: list[Cache]
    nonspeech: Cache


def fit(
    base: Compact, pool: Pool, use: np.ndarray, recipe: Recipe, device: str, name: str
) -> Compact:
    """Train a copy of ``base``.

    Args:
        base: the pretrained encoder.
        pool: cached frames.
        use: int64, the clips (not folds) to train on.
        recipe: the settings.
        device: where.
        name: for the progress lines.

    Returns:
        The averaged model, float32, eval mode, on ``device``.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = copy.deepcopy(base).to(device).train()
    for module in (model.adapter, model.proj):
        module.reset_parameters()
    model.requires_grad_(False)
    upper = [p for b in model.blocks[recipe.frozen :] for p in b.parameters()]
    head = [p for m in (model.norm, model.adapter, model.proj) for p in m.parameters()]
    for parameter in upper + head:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        [{"params": upper, "lr": recipe.block_rate}, {"params": head, "lr": recipe.head_rate}],
        weight_decay=0.02,
    )
    peaks = [g["lr"] for g in optimiser.param_groups]
    allowed = _allowed(pool.clips)
    weight = torch.tensor(_clip_weights(pool.clips), dtype=torch.float32)
    by_corpus = {c: [i for i in use if pool.clips[i].corpus == c] for c in QUOTA}
    mean = [p.detach().clone() for p in upper + head]
    per_epoch = -(-sum(q for c, q in QUOTA.items() if c == "unknown" or by_corpus[c])
                  // recipe.batch)  # fmt: skip
    total, step, started = per_epoch * recipe.epochs, 0, time.monotonic()
    for epoch in range(recipe.epochs):
        losses = []
        for batch in _batches(pool, by_corpus, recipe, rng):
            progress = step / total
            rate = min(1.0, step / (0.1 * total)) * 0.5 * (1 + np.cos(np.pi * progress))
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            x, lengths = _pad([_frames(pool, k, recipe, rng) for k in batch], device)
            target = torch.tensor([UNKNOWN if k < 0 else pool.clips[k].label for k in batch])
            keep = torch.stack([
                torch.ones(len(EMOTIONS), dtype=torch.bool)
                if k < 0 or rng.random() > recipe.mask_probability
                else allowed[pool.clips[k].corpus]
                for k in batch
            ])  # fmt: skip
            share = torch.tensor([1.0 if k < 0 else weight[k] for k in batch], device=device)
            target, keep = target.to(device), keep.to(device)
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                features = model.features(model.run_blocks(x, lengths, recipe.frozen))
            embedding = _mean(features.float(), lengths)
            loss = _loss(model, embedding, target, keep, recipe)
            if rng.random() < recipe.mix_probability:
                lam, other = rng.beta(0.4, 0.4), torch.randperm(len(batch), device=device)
                mixed = lam * embedding + (1 - lam) * embedding[other]
                both = keep | keep[other]
                loss = lam * _loss(model, mixed, target, both, recipe)
                loss = loss + (1 - lam) * _loss(model, mixed, target[other], both, recipe)
            loss = (loss * share).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(upper + head, 1.0)
            optimiser.step()
            decay = min(recipe.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for average, parameter in zip(mean, upper + head, strict=True):
                    average.lerp_(parameter, 1 - decay)
            losses.append(loss.item())
            step += 1
        print(f"  {name}: epoch {epoch + 1}/{recipe.epochs} loss {np.mean(losses):.3f} "
              f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    with torch.no_grad():
        for average, parameter in zip(mean, upper + head, strict=True):
            parameter.copy_(average)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def apply(
    model: Compact, cache: Cache, which: np.ndarray, frozen: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Compute embeddings (clips, dim) and logits (clips, 9), float32, of the clips ``which``."""
    order = which[np.argsort([len(cache[i]) for i in which])]
    place = {i: k for k, i in enumerate(which)}
    embeddings = np.zeros((len(which), model.config.dim), np.float32)
    for k in range(0, len(order), 32):
        chosen = order[k : k + 32]
        x, lengths = _pad([cache[i] for i in chosen], device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            features = model.features(model.run_blocks(x, lengths, frozen))
        embeddings[[place[i] for i in chosen]] = _mean(features.float(), lengths).cpu().numpy()
    logits = model.proj(torch.from_numpy(embeddings).to(device)).cpu().numpy()
    return embeddings, logits


def _loss(
    model: Compact, embedding: Tensor, target: Tensor, keep: Tensor, recipe: Recipe
) -> Tensor:
    """Cross entropy per clip (batch,), smoothed over the labels kept."""
    logits = model.proj(embedding).masked_fill(~keep, -1e4)
    log_scores = F.log_softmax(logits, dim=1)
    smooth = -(log_scores * keep).sum(1) / keep.sum(1)
    hard = -log_scores.gather(1, target[:, None])[:, 0]
    return (1 - recipe.smoothing) * hard + recipe.smoothing * smooth


def _batches(
    pool: Pool, by_corpus: dict[str, list[int]], recipe: Recipe, rng: np.random.Generator
) -> list[list[int]]:
    """Draw an epoch: batches of clip numbers, -1 - i for example i of what is not speech."""
    drawn: list[int] = []
    for corpus, quota in QUOTA.items():
        if corpus == "unknown":
            drawn += [-1 - int(i) for i in rng.permutation(len(pool.nonspeech))[:quota]]
        elif by_corpus[corpus]:
            members = by_corpus[corpus]
            repeats = -(-quota // len(members))
            many = np.concatenate([rng.permutation(members) for _ in range(repeats)])
            drawn += [int(i) for i in many[:quota]]
    # Clips of like length together waste little padding; groups of 8 batches keep it random.
    drawn = [drawn[i] for i in rng.permutation(len(drawn))]
    batches = []
    for first in range(0, len(drawn), 8 * recipe.batch):
        group = sorted(drawn[first : first + 8 * recipe.batch], key=lambda k: _size(pool, k))
        batches += [group[i : i + recipe.batch] for i in range(0, len(group), recipe.batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _size(pool: Pool, k: int) -> int:
    """Count the frames of an example's plain version."""
    return len(pool.nonspeech[-1 - k]) if k < 0 else len(pool.clean[k])


def _frames(pool: Pool, k: int, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Take one version of an example, cropped, sometimes with a piece cut out."""
    if k < 0:
        frames = pool.nonspeech[-1 - k]
    elif rng.random() < recipe.clean_share:
        frames = pool.clean[k]
    else:
        frames = pool.spoiled[rng.integers(len(pool.spoiled))][k]
    if len(frames) > recipe.crop_frames:
        first = rng.integers(0, len(frames) - recipe.crop_frames)
        frames = frames[first : first + recipe.crop_frames]
    if len(frames) > 40 and rng.random() < 0.5:
        size = int(rng.integers(5, len(frames) // 4))
        first = rng.integers(0, len(frames) - size)
        frames = np.concatenate([frames[:first], frames[first + size :]])
    return frames


def _pad(items: list[np.ndarray], device: str) -> tuple[Tensor, Tensor]:
    """Return float32 (batch, frames, width) and int64 lengths (batch,)."""
    lengths = torch.tensor([len(i) for i in items])
    batch = torch.zeros(len(items), int(lengths.max()), items[0].shape[1])
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = torch.from_numpy(np.array(item))
    return batch.to(device), lengths.to(device)


def _mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Average each clip's own frames: (batch, frames, dim) -> (batch, dim)."""
    valid = torch.arange(features.shape[1], device=features.device)[None] < lengths[:, None]
    return (features * valid[:, :, None]).sum(1) / lengths[:, None]


def _allowed(clips: list[Clip]) -> dict[str, Tensor]:
    """Say which labels each corpus knows, bool (9,); ``unknown`` always."""
    allowed = {}
    for corpus in {c.corpus for c in clips}:
        known = {c.label for c in clips if c.corpus == corpus} | {UNKNOWN}
        # Only a class that another corpus teaches well may be left out: never "other",
        # which EMO-DB alone has and which nothing else would hold down.
        known |= {EMOTIONS.index("other")}
        allowed[corpus] = torch.tensor([i in known for i in range(len(EMOTIONS))])
    return allowed


def _clip_weights(clips: list[Clip]) -> np.ndarray:
    """Weigh rare classes of a corpus up, by the root of their rarity; mean 1 in each corpus."""
    weights = np.zeros(len(clips))
    for corpus in {c.corpus for c in clips}:
        rows = [i for i, c in enumerate(clips) if c.corpus == corpus]
        labels = np.array([clips[i].label for i in rows])
        each = 1 / np.sqrt(np.bincount(labels, minlength=len(EMOTIONS))[labels])
        weights[rows] = each / each.mean()
    return weights
