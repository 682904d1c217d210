"""The learned classifier with weights of one's own: what `headgate train --install` writes and `trained:` names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np

from headgate.strategies.route.classify import UNKNOWN, Task
from headgate.strategies.route.embedder import Embeds
from headgate.strategies.route.features import features_of, known_words
from headgate.strategies.route.learned import READ, REMEMBERED, Learned, Model, load_model, named
from headgate.strategies.route.meaning import Meaning

BY_MEANING = "like labelled prompts in meaning (embedder)"


class Trained(Learned):
    """`seen`: features that the weights were fitted to: words that say nothing to the lexicon may say something here.
    `embedder`: of weights that were fitted with one."""

    def __init__(
        self,
        used: Model,
        threshold: float | None = None,
        seen: np.ndarray | None = None,
        embedder: Embeds | None = None,
    ) -> None:
        super().__init__(used.threshold if threshold is None else threshold)
        self._used = used
        self._seen = seen
        self._embedder = embedder
        self._known: OrderedDict[str, Task] = OrderedDict()

    def turn(self, text: str) -> Task:
        if len(text) > READ:
            text = f"{text[: READ // 2]}\n{text[-READ // 2 :]}"
        task = self._known.get(text)
        if task is None:
            task = self._known[text] = self._classified(text)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._sure(task)

    def _sure(self, task: Task) -> Task:
        if self.threshold is not None and task.confidence < self.threshold:
            return msgspec.structs.replace(task, label=UNKNOWN)
        return task

    def _classified(self, text: str) -> Task:
        used, features = self._used, features_of(text, words=self._used.reads_words)
        rows = used.rows(features)
        logits = used.logits(features, rows)
        # Half of what it holds must be known: a word or two by chance are no language.
        knows = self._seen is not None and bool(self._seen[features.ids].mean() >= 0.5)
        knows = knows or known_words(features)
        task = named(used, features, rows, logits, knows)
        meaning = used.meaning
        if meaning is None or self._embedder is None:
            return task
        vector = self._embedder.vector(text)
        if not meaning.is_near(vector):  # of what lies elsewhere the fit knows nothing
            return task
        whole = named(used, features, rows, logits + meaning.logits(vector), True)
        if self._sure(whole).label in (UNKNOWN, self._sure(task).label):
            return whole
        return msgspec.structs.replace(whole, signals=[BY_MEANING, *whole.signals])


def load_trained(path: str | Path, threshold: float | None = None, embedder: Embeds | None = None) -> Trained:
    """Raises ValueError with a message for the operator: also where `embedder` is not the one that it was fitted with."""
    try:
        data = Path(path).read_bytes()
        used = load_model(data)
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            seen = np.unpackbits(stored["seen"])[: len(used.weights)].astype(bool)
            if "embedder" in stored:
                used = msgspec.structs.replace(used, meaning=_meaning(stored))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no file of `headgate train`, or of another release: {error}") from error
    if used.meaning is None and embedder is not None:
        raise ValueError(f"{path} was fitted without an embedder: fit it with --embedder, or name none here")
    if used.meaning is not None and embedder is None:
        raise ValueError(
            f"{path} was fitted with an embedder ({used.meaning.embedder}): name its folder as `embedder:`"
        )
    if used.meaning is not None and embedder is not None and used.meaning.embedder != embedder.fingerprint:
        raise ValueError(
            f"{path} was fitted with another embedder: with {used.meaning.embedder}, and this one is "
            f"{embedder.fingerprint}; name that one's folder, or fit the labels with this one"
        )
    return Trained(used, threshold, seen, embedder)


def _meaning(stored: Mapping[str, np.ndarray]) -> Meaning:
    return Meaning(
        str(stored["embedder"]),
        stored["meaning_centre"],
        stored["meaning_weights"],
        stored["meaning_spots"],
        float(stored["meaning_near"]),
    )
