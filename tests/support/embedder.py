"""A small static embedder, made here: no machine of a stranger has one, and nothing may be downloaded.

It is a real model in model2vec's own format, read by the real library, but a small one: vectors of whole words by latent
semantic analysis (positive pointwise mutual information of neighbours, Levy and Goldberg 2014, and its leading
eigenvectors) of the labelled prompts in tests/data/tasks and of what a test adds. It knows what stands beside what in
these, nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from support.tasks import prompts

WORDS, WINDOW, DIMENSIONS = 500, 4, 48
READ = 800
"""Of the labelled prompts, every so-many'th: enough for common words to find their neighbours."""


def make_embedder(folder: Path, more: Sequence[str], *, dimensions: int = DIMENSIONS) -> Path:
    """Words of `more` are always known; of the prompts' the commonest."""
    every = prompts()
    texts = [_words(text[:600]) for text in every[:: max(1, len(every) // READ)]]
    own = [_words(text) for text in more]
    counts = Counter(word for text in texts for word in text)
    known = dict.fromkeys(word for text in own for word in text)
    known |= dict.fromkeys(word for word, _ in counts.most_common(WORDS))
    at = {word: number for number, word in enumerate(known)}
    table = _vectors(_beside([*texts, *own], at), dimensions)
    vocabulary = {**at, "[UNK]": len(at)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    model = StaticModel(np.vstack([table, np.zeros(table.shape[1])]).astype(np.float32), tokenizer, normalize=True)
    model.save_pretrained(folder)
    return folder


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _beside(texts: Iterable[list[str]], at: dict[str, int]) -> np.ndarray:
    """How often one word stands within WINDOW of another."""
    counts = np.zeros((len(at), len(at)), dtype=np.float32)
    for text in texts:
        numbers = [at.get(word, -1) for word in text]
        for step in range(1, WINDOW + 1):
            for one, other in zip(numbers, numbers[step:], strict=False):
                if one >= 0 and other >= 0:
                    counts[one, other] += 1
                    counts[other, one] += 1
    return counts


def _vectors(counts: np.ndarray, dimensions: int) -> np.ndarray:
    alone = counts.sum(axis=1, keepdims=True) + 1e-9
    expected = alone @ alone.T / alone.sum()
    information = np.log(np.maximum(counts / expected, 1.0))
    strength, directions = np.linalg.eigh(information)
    most = np.argsort(-strength)[:dimensions]
    return directions[:, most] * np.sqrt(strength[most].clip(0))
