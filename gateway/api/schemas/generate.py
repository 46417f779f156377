"""Open Inference Protocol: `POST /v2/models/{model}/generate` and `/generate_stream`."""

from typing import Literal

from pydantic import Field

from gateway.api.schemas.shape import Shape


class GenerateParameters(Shape):
    """How to generate. Fields that are not named here are passed on to the engine's completions API."""

    temperature: float | None = Field(default=None, ge=0)
    """0 always takes the likeliest token; higher is more random."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """Choose among the likeliest tokens that together have this probability."""
    max_tokens: int | None = Field(default=20, ge=1)
    """Most tokens to generate."""
    stop: list[str] | None = None
    """Text that ends the answer."""
    details: bool | None = None
    """Give the tokens with their ids and log probabilities."""


class GenerateRequest(Shape):
    """A text to be continued."""

    text_input: str
    """The text."""
    parameters: GenerateParameters | None = None


class GeneratedToken(Shape):
    """A generated token."""

    id: int
    """-1 where the engine does not tell."""
    text: str
    logprob: float | None
    """Natural logarithm of its probability."""
    special: bool
    """A mark such as `</s>`, which is not part of the text."""


class GenerateDetails(Shape):
    """Why the answer ended, and its tokens if `details` asked for them."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"]
    logprobs: list[GeneratedToken]


class GenerateResponse(Shape):
    """A continuation."""

    text_output: str
    model_name: str
    model_version: str | None = None
    details: GenerateDetails | None = None


class GenerateStreamDetails(Shape):
    """The token of this frame if `details` asked for it; on the last frame why the answer ended."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"] | None = None
    token: GeneratedToken | None = None


class GenerateStreamResponse(Shape):
    """One frame of a stream."""

    text_output: str
    """The text that is new."""
    model_name: str
    model_version: str | None = None
    details: GenerateStreamDetails | None = None


class GenerateError(Shape):
    """An error, in the shape of the Open Inference Protocol."""

    error: str
    """A sentence for people."""
