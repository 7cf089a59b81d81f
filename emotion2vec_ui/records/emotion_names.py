"""What corpora call the emotions, and which of the model's it is. What has no counterpart has none.

Sources of the names: the label maps of EmoBox (https://github.com/emo-box/EmoBox, `data/*/
label_map.json`), the public data cards of audEERING (https://audeering.github.io/datasets) and
IEMOCAP's abbreviations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.settings import UsageError

NAMES: Mapping[str, tuple[str, ...]] = {
    "angry": ("anger", "ang", "生气", "愤怒"),
    "disgusted": ("disgust", "dis", "厌恶"),
    "fearful": ("fear", "fea", "scared", "恐惧", "害怕"),
    # IEMOCAP is judged with excitement as happiness by custom, and by EmoBox.
    "happy": ("happiness", "hap", "joy", "joyful", "excited", "excitement", "exc", "开心", "高兴"),
    "neutral": ("neutrality", "neu", "中立", "中性"),
    "other": ("oth", "其他"),
    "sad": ("sadness", "难过", "悲伤"),
    "surprised": ("surprise", "sur", "吃惊", "惊讶"),
}
"""The model's emotion and other names of it, in lower case. Not here on purpose: single letters
(A is anger in one corpus and fear, Angst, in another), and calm, boredom, contempt and frustration,
which are no emotion of the model's."""

_BY_NAME = {name: emotion for emotion, names in NAMES.items() for name in (emotion, *names)} | {
    one: one for one in EMOTIONS
}


def counterpart(label: str, more: Mapping[str, str]) -> str | None:
    """The model's emotion for a label; None where there is none.

    Args:
        label: as the corpus writes it; case does not matter.
        more: what `parse` read, which comes first.
    """
    name = label.strip().lower()
    return more.get(name) or _BY_NAME.get(name)


def parse(pairs: Sequence[str]) -> dict[str, str]:
    """Reads `--map LABEL=EMOTION`.

    Returns:
        Emotion by label, in lower case.

    Raises:
        UsageError: it is no such pair, or that is no emotion of the model's.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        label, equals, emotion = (part.strip().lower() for part in pair.rpartition("="))
        if not (label and equals):
            raise UsageError(f"--map {pair}: expected LABEL=EMOTION, such as --map boredom=other.")
        if emotion not in EMOTIONS:
            raise UsageError(f"--map {pair}: {emotion!r} is none of {', '.join(EMOTIONS)}.")
        found[label] = emotion
    return found
