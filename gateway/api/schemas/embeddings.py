"""Embeddings and reranking: `POST /v1/embeddings`, `POST /v1/rerank`."""

from typing import Any, Literal

from gateway.api.schemas.shape import Shape, Usage


class EmbeddingRequest(Shape):
    """Texts to be turned into vectors."""

    model: str
    """A model name or alias, as `GET /v1/models` lists them."""
    input: str | list[str] | list[int] | list[list[int]]
    """Text, token ids, or a list of either."""
    encoding_format: Literal["float", "base64"] | None = None
    """`base64` is little-endian 32-bit floats."""
    dimensions: int | None = None
    """Shorten the vectors to this length, where the model can."""
    user: str | None = None
    """The end user, as a name that means nothing outside; passed on to the engine."""


class Embedding(Shape):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or base64 where `encoding_format` says so."""


class EmbeddingList(Shape):
    """Vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: Usage | None = None


class RerankRequest(Shape):
    """Documents to be put in order of how well they answer a query."""

    model: str
    """A model name or alias, as `GET /v1/models` lists them."""
    query: str | dict[str, Any]
    """The query."""
    documents: list[str | dict[str, Any]]
    """What to put in order."""
    top_n: int | None = None
    """Give only as many of the best; all by default."""
    return_documents: bool | None = None
    """Give the documents too, and not only their places."""
    max_tokens_per_doc: int | None = None
    """Cut documents to this length."""


class RerankResult(Shape):
    """One document's place."""

    index: int
    """Its place in the request, from 0."""
    relevance_score: float
    """Higher is better; comparable within one answer only."""
    document: dict[str, Any] | str | None = None


class RerankResponse(Shape):
    """Documents, the best first."""

    id: str | None = None
    model: str | None = None
    results: list[RerankResult]
    usage: dict[str, Any] | None = None
