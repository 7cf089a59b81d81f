"""Judge a recipe on speakers and on corpora that it never heard.

- By speaker: four folds, no speaker in two.
- Leave one corpus out: train on two corpora, judge the third on the classes that the others teach.
  All nine answers are allowed. The slope is the larger of those that the *other* two corpora ask
  for when they are left out: the judged corpus does not decide how it is tempered.
- Small changes: how many answers of held-out speakers stay when a clip is changed a little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import calibration, familiarity
from emotion2vec_ui.reading.familiarity import Reference
from emotion2vec_ui.reading.scoring import HIGH_ABOVE

from . import metrics
from .data import Clip
from .fit import UNKNOWN, Head, Recipe, Vectors, fit

STEADY_ABOVE = 0.7
N_REFERENCES, N_NONSPEECH_REFERENCES = 1500, 150
SLOPES = np.concatenate([[0.0], np.exp(np.linspace(np.log(0.05), np.log(5), 40))])


@dataclass(frozen=True)
class Answers:
    """Answers to clips.

    Attributes:
        logits: float (clips, 9), before doubt and temperature.
        distances: float (clips,).
        truth: int64 (clips,).
        doubted: float (9,), what full doubt adds to the logits.
    """

    logits: np.ndarray
    distances: np.ndarray
    truth: np.ndarray
    doubted: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Answers:
        """Answers to some of the clips."""
        return Answers(self.logits[rows], self.distances[rows], self.truth[rows], self.doubted)

    def logits_at(self, reference: Reference) -> np.ndarray:
        """Logits (clips, 9) before temperature."""
        return self.logits + familiarity.doubts(self.distances, reference)[:, None] * self.doubted

    def scores(self, reference: Reference) -> np.ndarray:
        """Tempered scores (clips, 9)."""
        return metrics.softmax(self.logits_at(reference) / self.temperatures(reference)[:, None])

    def temperatures(self, reference: Reference) -> np.ndarray:
        """What the model divides its features by, float64 (clips,)."""
        logits = self.logits_at(reference)
        return familiarity.capped_temperatures(logits, self.distances, reference)


def references(head: Head, vectors: Vectors, use: np.ndarray) -> Reference:
    """Draw the reference embeddings from clean clips and from what is not speech."""
    rng = np.random.default_rng(0)
    clips = rng.permutation(use)[: N_REFERENCES - N_NONSPEECH_REFERENCES]
    nonspeech = rng.permutation(len(vectors.nonspeech))[:N_NONSPEECH_REFERENCES]
    drawn = np.concatenate([vectors.clean[clips], vectors.nonspeech[nonspeech]])
    return Reference(
        embeddings=familiarity.unit_rows(head.embed(drawn)),
        neighbours=calibration.NEIGHBOURS,
        quantiles=np.array([0.0, 1.0]),
        temperature=1.0,
        slope=0.0,
        max_temperature=calibration.MAX_TEMPERATURE,
        norm_range=(0.0, 1.0),
    )


def answer(head: Head, reference: Reference, vectors: np.ndarray, truth: np.ndarray) -> Answers:
    """Answer `vectors` (clips, width)."""
    embeddings = head.embed(vectors)
    distances = [familiarity.distance(one, reference) for one in embeddings]
    return Answers(embeddings @ head.proj, np.array(distances), truth, head.doubted)


def held_out(
    vectors: Vectors, clips: list[Clip], folds: np.ndarray, use: np.ndarray, recipe: Recipe
) -> tuple[Answers, list[tuple[np.ndarray, Head, Reference]]]:
    """Answer each clip of `use` by a model that never heard its speaker.

    Returns:
        The answers in the order of `use`, and of each fold its clips, head and references.
    """
    labels = np.array([c.label for c in clips])
    logits = np.zeros((len(clips), len(EMOTIONS)))
    distances = np.zeros(len(clips))
    models = []
    for fold in np.unique(folds[use]):
        train, test = use[folds[use] != fold], use[folds[use] == fold]
        head = fit(vectors, clips, train, recipe)
        reference = references(head, vectors, train)
        found = answer(head, reference, vectors.clean[test], labels[test])
        logits[test], distances[test] = found.logits, found.distances
        models.append((test, head, reference))
    return Answers(logits[use], distances[use], labels[use], models[0][1].doubted), models


def calibrate(known: Answers, reference: Reference, weights: np.ndarray, slope: float) -> Reference:
    """Measure distances and fit the temperature of known speech, given the slope."""
    reference = replace(
        reference, quantiles=np.quantile(known.distances, calibration.RANKS), slope=slope
    )
    excess = familiarity.excess(known.distances, reference)
    scaled = known.logits_at(reference) / (1 + slope * excess)[:, None]
    temperature = metrics.fit_temperature(scaled, known.truth, weights)
    return replace(reference, temperature=temperature)


def fit_slope(known: Answers, unknown: Answers, reference: Reference, weights: np.ndarray) -> float:
    """Find the slope of least log loss on unknown speech."""
    losses = []
    for slope in SLOPES:
        scores = unknown.scores(calibrate(known, reference, weights, float(slope)))
        right = scores[np.arange(len(scores)), unknown.truth]
        losses.append(-np.log(right + 1e-12).mean())
    return float(SLOPES[int(np.argmin(losses))])


def corpus_weights(clips: list[Clip], use: np.ndarray) -> np.ndarray:
    """Let each corpus count the same."""
    corpora = np.array([clips[i].corpus for i in use])
    names, counts = np.unique(corpora, return_counts=True)
    return 1 / counts[np.searchsorted(names, corpora)]


def leave_one_corpus_out(
    vectors: Vectors, clips: list[Clip], folds: np.ndarray, recipe: Recipe
) -> tuple[dict[str, dict[str, float]], float]:
    """Judge each corpus by a model of the others.

    Returns:
        The figures of each corpus, and the slope for a model of all corpora: the largest of the
        three, because being sure and wrong is worse than being unsure and right.
    """
    corpora = np.array([c.corpus for c in clips])
    labels = np.array([c.label for c in clips])
    parts = {}
    for corpus in np.unique(corpora):
        use, left = np.flatnonzero(corpora != corpus), np.flatnonzero(corpora == corpus)
        known, _ = held_out(vectors, clips, folds, use, recipe)
        head = fit(vectors, clips, use, recipe)
        reference = references(head, vectors, use)
        unknown = answer(head, reference, vectors.clean[left], labels[left])
        taught = np.isin(unknown.truth, labels[use])
        judged = unknown[taught]
        weights = corpus_weights(clips, use)
        slope = fit_slope(known, judged, reference, weights)
        parts[str(corpus)] = (known, unknown, judged, reference, weights, slope)
        print(f"  without {corpus}: slope {slope:.2f}", flush=True)
    figures = {}
    for corpus, (known, unknown, judged, reference, weights, _) in parts.items():
        others = [p[-1] for name, p in parts.items() if name != corpus]
        calibrated = calibrate(known, reference, weights, max(others))
        figures[corpus] = figures_of(judged, judged.scores(calibrated)) | {
            "ece_without_tempering": calibration.ece(
                judged.scores(calibrate(known, reference, weights, 0.0)), judged.truth
            ),
            "familiarity_auroc": auroc(known.distances, unknown.distances),
            "unfamiliar": float(
                np.mean(
                    [
                        familiarity.rank(one, calibrated) < familiarity.UNFAMILIAR_BELOW
                        for one in unknown.distances
                    ]
                )
            ),
        }
    return figures, max(p[-1] for p in parts.values())


def figures_of(answers: Answers, scores: np.ndarray) -> dict[str, float]:
    """UAR, calibration error, and how many confident answers are wrong."""
    guess, top = scores.argmax(1), scores.max(1)
    own = np.unique(answers.truth)
    sure = top > HIGH_ABOVE
    return {
        "clips": len(scores),
        "uar": metrics.uar(answers.truth, guess),
        "uar_own_classes_only": metrics.uar(answers.truth, own[scores[:, own].argmax(1)]),
        "ece": calibration.ece(scores, answers.truth),
        "confident": int(sure.sum()),
        "wrong_among_confident": float(
            (sure & (guess != answers.truth)).sum() / max(1, sure.sum())
        ),
        "false_unknown": float((guess == UNKNOWN).mean()),
    }


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Chance that an unknown clip lies further away than a known one."""
    rank = np.searchsorted(np.sort(known), unknown)
    return float(rank.mean() / len(known))
