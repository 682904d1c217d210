"""`POST /v1/rerank`, as vLLM, Jina and others serve it: a query and documents in, their order out."""

from __future__ import annotations

from headgate.dialects.opaque import Opaque


class OpenAiRerank(Opaque):
    name = "openai_rerank"
    noun = "reranking"
    paths = {"rerank": "/rerank"}


DIALECT = OpenAiRerank()
