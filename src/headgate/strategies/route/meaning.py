"""What a fit to labelled prompts made of an embedder's vectors: its part of the logits, and what lies near the prompts."""

from __future__ import annotations

import msgspec
import numpy as np


class Meaning(msgspec.Struct, frozen=True):
    """Vectors are read around `centre`, the labelled prompts' mean: what all texts share says nothing."""

    embedder: str
    """Fingerprint of the one that it was fitted with: with another one it would mean nothing."""
    centre: np.ndarray
    """(dimension,)"""
    weights: np.ndarray
    """(dimension, labels): what is added to the logits of the linear part."""
    spots: np.ndarray
    """(dimension, labels): the direction of each label's prompts, of length 1; zeros for a label without any."""
    near: float
    """The cosine to the nearest spot from which on a text is like the prompts that were fitted to."""

    def logits(self, vector: np.ndarray) -> np.ndarray:
        return (vector - self.centre) @ self.weights

    def is_near(self, vector: np.ndarray) -> bool:
        apart = vector - self.centre
        length = float(apart @ apart) ** 0.5
        return bool(vector.any()) and length > 0 and float((apart @ self.spots).max()) >= self.near * length
