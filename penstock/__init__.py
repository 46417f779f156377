"""Penstock: an OpenAI-compatible LLM gateway and the controller of the engines behind it."""

__version__ = "0.1.0"
