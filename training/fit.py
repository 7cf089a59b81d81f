"""Train gate, adapter and head on frames of the frozen encoder.

All of it is linear, so that a clip is one vector: the mean of its frames weighted by the gate.
Training takes seconds, and every variant can be judged on corpora that it never heard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.compact import Compact
from emotion2vec_ui.models.compact_file import DOUBT_FEATURE, DOUBT_UNIT, MIN_FRAME_WEIGHT

from .cache import Cache
from .data import Clip

UNKNOWN = EMOTIONS.index("unknown")
OTHER = EMOTIONS.index("other")

# Weight of each corpus in the loss: the largest must not decide everything.
CORPUS_WEIGHT = {"emodb": 1.0, "ravdess": 1.3, "nemo": 1.5}
GATE_FRAMES = {"clean": 25_000, "spoiled": 35_000, "nonspeech": 15_000}
SMALL = 1e-3  # added to deviations before dividing


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run beside the data.

    Attributes:
        penalty: of the squared head, per standardised feature.
        consistency: of the squared change of the logits between a clip and its spoiled version.
        room_consistency: the same of its version in a strongly reverberant room.
        within_corpora: share of the discriminant within corpora in the logits, 0 to 1.
        within_ridge: added to the variances of that discriminant.
        within_consistency: share of the spoiled versions' covariance that is added to them; half
            of it for rooms.
        shifts: versions of the clips moved towards the mean of another speaker.
        unknown_weight: of all that is not speech, as a share of the clips' weight.
        other_weight: of the clips labelled `other`: eight Germans' boredom is not all there is.
        other_doubt: what the logit of `other` loses at full doubt that a recording is of a known
            kind: what eight Germans taught is not told of strangers.
        whitening: exponent of the embedding's whitening, 0 (none) to 1.
        ridge: added to variances before whitening.
        steps: of L-BFGS.
        seed: of shifts and draws.
    """

    penalty: float = 0.03
    consistency: float = 2.0
    room_consistency: float = 1.0
    within_corpora: float = 0.5
    within_ridge: float = 1.0
    within_consistency: float = 1.0
    shifts: int = 2
    unknown_weight: float = 0.3
    other_weight: float = 0.8
    other_doubt: float = 1.5
    whitening: float = 0.5
    ridge: float = 0.03
    steps: int = 40
    seed: int = 0


@dataclass(frozen=True)
class Vectors:
    """One vector per clip, float32 (clips, width): frames averaged, weighted by the gate."""

    clean: np.ndarray
    spoiled: np.ndarray
    rooms: np.ndarray
    nonspeech: np.ndarray


@dataclass(frozen=True)
class Head:
    """Adapter and head; the first feature is constant, the second is the doubt, 0 here.

    Attributes:
        adapter: float64 (width, dim), bias: float64 (dim,), proj: float64 (dim, labels).
    """

    adapter: np.ndarray
    bias: np.ndarray
    proj: np.ndarray

    def embed(self, vectors: np.ndarray) -> np.ndarray:
        """Embeddings (clips, dim) of `vectors` (clips, width), before temperature."""
        return vectors @ self.adapter + self.bias

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Logits (clips, labels), before temperature."""
        return self.embed(vectors) @ self.proj

    @property
    def doubted(self) -> np.ndarray:
        """What full doubt adds to the logits, before temperature: float64 (labels,)."""
        return DOUBT_UNIT * self.proj[DOUBT_FEATURE]


def fit_gate(caches: dict[str, Cache]) -> tuple[np.ndarray, float]:
    """Train the gate by logistic regression on silero's judgement of single frames.

    Returns:
        Weights float64 (width,) and bias.
    """
    rng = np.random.default_rng(0)
    frames, speech = [], []
    for name, count in GATE_FRAMES.items():
        cache = caches[name]
        total = len(cache.frames)
        chosen = np.sort(rng.choice(total, min(count, total), replace=False))
        frames.append(cache.frames[chosen].astype(np.float32))
        # silero takes a tone or two for a voice: what was made here is known not to be one.
        is_speech = name != "nonspeech"
        speech.append(cache.speech[chosen] * is_speech)
    x, target = np.concatenate(frames), torch.from_numpy(np.concatenate(speech))
    mean, deviation = x.mean(0), x.std(0) + SMALL
    scaled = torch.from_numpy((x - mean) / deviation)

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        given = F.binary_cross_entropy_with_logits(scaled @ weight[:, 0] + bias[0], target)
        return given + 1e-4 * weight.square().sum()

    weight, bias = _minimise(loss, x.shape[1], 1, 40)
    plain = weight[:, 0] / deviation
    return plain, float(bias[0] - plain @ mean)


def pool(cache: Cache, gate: tuple[np.ndarray, float]) -> np.ndarray:
    """Average each clip's frames, weighted by the gate: float32 (clips, width)."""
    weight, bias = gate
    pooled = []
    for i in range(len(cache)):
        frames = cache[i]
        speech = 1 / (1 + np.exp(-(frames @ weight + bias)))
        share = MIN_FRAME_WEIGHT + (1 - MIN_FRAME_WEIGHT) * speech
        pooled.append(share @ frames / share.sum())
    return np.array(pooled, np.float32)


def fit(vectors: Vectors, clips: list[Clip], use: np.ndarray, recipe: Recipe) -> Head:
    """Train adapter and head.

    The logits are a weighted mean of two linear classifiers: a logistic regression, the better one
    for the corpora that it heard, and `within_corpora`, the better one for others.

    Args:
        vectors: of all clips.
        clips: the manifest.
        use: int64, the clips to train on.
        recipe: the settings.
    """
    rng = np.random.default_rng(recipe.seed)
    labels = np.array([clips[i].label for i in use])
    speakers = np.array([clips[i].speaker for i in use])
    mean, deviation = vectors.clean[use].mean(0), vectors.clean[use].std(0) + SMALL
    clean = (vectors.clean[use] - mean) / deviation
    spoiled = (vectors.spoiled[use] - mean) / deviation
    rooms = (vectors.rooms[use] - mean) / deviation
    nonspeech = (vectors.nonspeech - mean) / deviation

    versions = [clean, spoiled]
    names, speaker = np.unique(speakers, return_inverse=True)
    centre = np.stack([clean[speaker == k].mean(0) for k in range(len(names))])
    for k in range(recipe.shifts):
        towards = centre[rng.integers(0, len(names), len(use))] - centre[speaker]
        versions.append((clean, spoiled)[k % 2] + rng.uniform(0, 1, (len(use), 1)) * towards)
    weight = _clip_weights([clips[i] for i in use], recipe)
    share = recipe.unknown_weight * len(use) / len(nonspeech)
    x = np.concatenate([*versions, nonspeech])
    target = np.concatenate([*[labels] * len(versions), np.full(len(nonspeech), UNKNOWN)])
    weights = np.concatenate([*[weight] * len(versions), np.full(len(nonspeech), share)])

    moved = {"spoiled": _second_moment(spoiled - clean), "rooms": _second_moment(rooms - clean)}
    steady = recipe.consistency * moved["spoiled"] + recipe.room_consistency * moved["rooms"]
    given = torch.from_numpy(x.astype(np.float32))
    truth = torch.from_numpy(target)
    scale = torch.from_numpy((weights / weights.mean()).astype(np.float32))
    change = torch.from_numpy(steady.astype(np.float32))

    def loss(head: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(given @ head + bias, truth, reduction="none")
        squares = head.square().sum() + (head * (change @ head)).sum()
        return (scale * each).mean() + recipe.penalty * squares

    head, bias = _minimise(loss, x.shape[1], len(EMOTIONS), recipe.steps)
    corpora = np.array([clips[i].corpus for i in use])
    ridge = recipe.within_ridge * np.eye(clean.shape[1])
    ridge += recipe.within_consistency * (moved["spoiled"] + moved["rooms"] / 2)
    other = within_corpora(clean, labels, corpora, weight, ridge)
    head, bias = _mean_of(clean, (head, bias), other, recipe.within_corpora, np.unique(labels))
    return _with_embedding(head, bias, mean, deviation, clean, recipe)


def into(model: Compact, gate: tuple[np.ndarray, float], head: Head) -> None:
    """Put gate, adapter and head into `model`."""
    with torch.no_grad():
        model.gate.weight.copy_(torch.from_numpy(gate[0])[None])
        model.gate.bias.fill_(gate[1])
        model.adapter.weight.copy_(torch.from_numpy(head.adapter.T))
        model.adapter.bias.copy_(torch.from_numpy(head.bias))
        model.proj.weight.copy_(torch.from_numpy(head.proj.T))


Linear = tuple[np.ndarray, np.ndarray]
"""Weights float64 (width, labels) and biases (labels,)."""


def within_corpora(
    x: np.ndarray, labels: np.ndarray, corpora: np.ndarray, weight: np.ndarray, ridge: np.ndarray
) -> Linear:
    """Linear discriminant analysis of emotions within corpora.

    A class lies where its means lie, on average, from the mean of their corpora: which corpus a
    class occurs in teaches nothing. All classes have the same prior.

    Args:
        x: float (clips, width).
        labels: int64 (clips,), of what emotion.
        corpora: str (clips,), of what corpus.
        weight: float (clips,).
        ridge: float (width, width), added to the covariance within the classes of the corpora.

    Returns:
        Weights and biases of all labels, 0 for those that do not occur.
    """
    classes, names = np.unique(labels), np.unique(corpora)
    centres = {k: np.average(x[corpora == k], axis=0, weights=weight[corpora == k]) for k in names}
    residual = np.empty_like(x)
    means = np.empty((len(classes), x.shape[1]))
    for row, label in enumerate(classes):
        moved = []
        for name in names:
            own = (labels == label) & (corpora == name)
            if own.any():
                mean = x[own].mean(0)
                residual[own] = x[own] - mean
                moved.append(mean - centres[name])
        means[row] = np.mean(moved, axis=0)
    within = (residual * weight[:, None]).T @ residual / weight.sum() + ridge
    axes = np.linalg.solve(within, means.T)
    head, bias = np.zeros((x.shape[1], len(EMOTIONS))), np.zeros(len(EMOTIONS))
    centre = np.mean(list(centres.values()), axis=0)
    head[:, classes] = axes
    bias[classes] = -(means * axes.T).sum(1) / 2 - centre @ axes
    return head, bias


def _mean_of(
    x: np.ndarray, one: Linear, other: Linear, share: float, classes: np.ndarray
) -> Linear:
    """Mean of two linear classifiers: `share` of the other, brought to the first one's spread.

    Spread is the mean deviation of a clip's logits over `classes`; the remaining labels stay those
    of the first.
    """
    first, second = (
        (
            head[:, classes] - head[:, classes].mean(1, keepdims=True),
            bias[classes] - bias[classes].mean(),
        )
        for head, bias in (one, other)
    )
    spread = [(x @ head + bias).std(axis=1).mean() for head, bias in (first, second)]
    head, bias = one[0] - one[0][:, classes].mean(1, keepdims=True), one[1] - one[1][classes].mean()
    factor = share * spread[0] / spread[1]
    head[:, classes] = (1 - share) * first[0] + factor * second[0]
    bias[classes] = (1 - share) * first[1] + factor * second[1]
    return head, bias


def _second_moment(moved: np.ndarray) -> np.ndarray:
    return moved.T @ moved / len(moved)


def _with_embedding(
    head: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray,
    clean: np.ndarray,
    recipe: Recipe,
) -> Head:
    """Rotate and whiten the features so that cosines compare clips, and give the bias a feature."""
    values, axes = np.linalg.eigh(np.cov(clean.T))
    stretch = (np.maximum(values, 0) + recipe.ridge) ** (recipe.whitening / 2)
    whiten = axes / stretch
    proj = (axes * stretch).T @ head
    # The axes of least variance make room for the constant and the doubt.
    adapter = whiten / deviation[:, None]
    shift = -mean @ adapter
    adapter[:, 0], shift[0], proj[0] = 0, 1, bias
    adapter[:, DOUBT_FEATURE], shift[DOUBT_FEATURE], proj[DOUBT_FEATURE] = 0, 0, 0
    scale = len(shift) ** 0.5  # features of unit variance together have length 1
    made = Head(adapter / scale, shift / scale, proj * scale)
    made.proj[DOUBT_FEATURE, OTHER] = -recipe.other_doubt / DOUBT_UNIT
    return made


def _clip_weights(clips: list[Clip], recipe: Recipe) -> np.ndarray:
    """Weigh the classes of a corpus alike, and the corpora by `CORPUS_WEIGHT`; mean 1."""
    weights = np.zeros(len(clips))
    for corpus in sorted({c.corpus for c in clips}):
        rows = [i for i, c in enumerate(clips) if c.corpus == corpus]
        labels = np.array([clips[i].label for i in rows])
        each = 1 / np.bincount(labels, minlength=len(EMOTIONS))[labels]
        each = each / each.sum() * CORPUS_WEIGHT.get(corpus, 1.0)
        weights[rows] = each * np.where(labels == OTHER, recipe.other_weight, 1)
    return weights / weights.mean()


def _minimise(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], width: int, outputs: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise by L-BFGS from zero: weights float64 (width, outputs) and biases (outputs,)."""
    weight = torch.zeros(width, outputs, requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        value = loss(weight, bias)
        value.backward()
        return float(value.detach())

    optimiser.step(closure)
    return weight.detach().double().numpy(), bias.detach().double().numpy()
