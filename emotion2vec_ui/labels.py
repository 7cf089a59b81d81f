"""The nine emotions. Nothing is imported here: the doctor reads it before numpy is there."""

# The order of the result's keys (contract section 3), which is also the model's own label order.
EMOTIONS = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)
# Labels that say "none of the emotions": never named as one half of a mixture.
NOT_AN_EMOTION = ("other", "unknown")
