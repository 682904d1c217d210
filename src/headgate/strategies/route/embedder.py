"""The optional embedder: static sentence embeddings from a folder that the operator names (extra `headgate[embedder]`).

A static model is a table of vectors, one for each token of its tokenizer; a text's vector is the mean of its tokens'.
model2vec reads it, in its own format and as sentence-transformers' `StaticEmbedding`. Nothing is downloaded: what is no
folder with these files is refused before the library sees it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import numpy as np

from headgate.strategies.route.signals import bare

if TYPE_CHECKING:
    from model2vec import StaticModel

FIRST, LAST = 400, 200
"""Characters of a turn that are embedded, from its beginning and from its end: where instructions stand."""
TABLE, TOKENIZER = "model.safetensors", "tokenizer.json"
PLACES = (".", "0_StaticEmbedding")


class Embeds(Protocol):
    """`fingerprint` is the same for the same table and tokenizer, wherever their folder is."""

    fingerprint: str

    def vector(self, text: str) -> np.ndarray:
        """float32, of length 1; zeros where no token of the text is known. Pure."""
        ...


class Embedder:
    def __init__(self, model: StaticModel, fingerprint: str) -> None:
        self._model = model
        self.fingerprint = fingerprint

    def vector(self, text: str) -> np.ndarray:
        text = bare(text)
        if len(text) > FIRST + LAST:
            text = f"{text[:FIRST]}\n{text[-LAST:]}"
        vector = np.asarray(self._model.encode(text, max_length=None), dtype=np.float32)
        length = float(vector @ vector) ** 0.5
        return vector / length if length > 0 else vector


_in_use: WeakValueDictionary[tuple[object, ...], Embedder] = WeakValueDictionary()
"""By folder and its files' sizes and times: routes that name the same one share it, and a reload does not read it again."""


def load_embedder(folder: str | Path) -> Embedder:
    """Raises ValueError with a message for the operator."""
    try:
        table, tokenizer = _files(Path(folder))
        stamps = [(stat.st_size, stat.st_mtime_ns) for stat in (table.stat(), tokenizer.stat())]
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}") from error
    place = Path(folder).resolve()
    found = _in_use.get((place, *stamps))
    if found is None:
        found = _in_use[place, *stamps] = _loaded(place, table, tokenizer)
    return found


def _files(folder: Path) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: name one that holds a static model (nothing is downloaded)")
    for place in PLACES:
        table, tokenizer = folder / place / TABLE, folder / place / TOKENIZER
        if table.is_file() and tokenizer.is_file():
            return table, tokenizer
    raise ValueError(f"{folder} holds no static model: {TABLE} and {TOKENIZER} are not both there")


def _loaded(folder: Path, table: Path, tokenizer: Path) -> Embedder:
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise ValueError("an embedder needs the extra: pip install 'headgate[embedder]'") from error
    # One turn at a time: handing it to another thread costs more than it saves (and a fork after that warns).
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        model = StaticModel.from_pretrained(folder)
        fine = model.encode("what is asked").ndim == 1 and bool(np.isfinite(model.embedding).all())
        fingerprint = _fingerprint(table, tokenizer)
    except Exception as error:  # the tokenizers and safetensors libraries raise what has no class of its own
        raise ValueError(f"{folder} holds no static model that can be read: {error}") from error
    if not fine:
        raise ValueError(f"{folder} holds no static model that can be read: not all of its numbers are finite")
    return Embedder(model, fingerprint)


def _fingerprint(*files: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
