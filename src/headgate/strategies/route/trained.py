"""The learned classifier with weights of one's own: what `headgate train --install` writes and `trained:` names."""

from __future__ import annotations

from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from headgate.strategies.route.classify import LABELS, UNKNOWN, Task
from headgate.strategies.route.features import features_of, known_words
from headgate.strategies.route.learned import READ, REMEMBERED, Learned, Model, load_model


class Trained(Learned):
    """`seen`: features that the weights were fitted to: words that say nothing to the lexicon may say something here."""

    def __init__(self, used: Model, threshold: float | None = None, seen: np.ndarray | None = None) -> None:
        super().__init__(used.threshold if threshold is None else threshold)
        self._used = used
        self._seen = seen
        self._known: OrderedDict[str, Task] = OrderedDict()

    def turn(self, text: str) -> Task:
        if len(text) > READ:
            text = f"{text[: READ // 2]}\n{text[-READ // 2 :]}"
        task = self._known.get(text)
        if task is None:
            task = self._known[text] = self._classified(text)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if self.threshold is not None and task.confidence < self.threshold:
            return msgspec.structs.replace(task, label=UNKNOWN)
        return task

    def _classified(self, text: str) -> Task:
        features = features_of(text)
        shares = self._used.probabilities(features)
        best = int(shares.argmax())
        labels: dict[str, float] = dict(zip(LABELS, shares.tolist(), strict=True))
        # Half of what it holds must be known: a word or two by chance are no language.
        knows = self._seen is not None and bool(self._seen[features.ids].mean() >= 0.5)
        label = LABELS[best] if knows or known_words(features) else UNKNOWN
        return Task(label, labels[LABELS[best]], labels, self._used.why(features, best))


def load_trained(path: str | Path, threshold: float | None = None) -> Trained:
    """Raises ValueError with a message for the operator."""
    try:
        data = Path(path).read_bytes()
        used = load_model(data)
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            seen = np.unpackbits(stored["seen"])[: len(used.weights)].astype(bool)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no file of `headgate train`, or of another release: {error}") from error
    return Trained(used, threshold, seen)
