"""Penstock: an OpenAI-compatible LLM gateway and the controller that runs and scales the engines behind it."""

__version__ = "0.1.0"
