"""The demo model that ships with Penstock: its name, and where its files are. Imports nothing heavy."""

from pathlib import Path

MODEL_ID = "penstock/demo"


def model_dir() -> Path:
    """The folder with the demo model's config, weights, tokenizer and chat template."""
    return Path(__file__).resolve().parent / "model"
