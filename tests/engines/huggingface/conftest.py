"""A tiny model on disk, loaded once, and engines around it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from engines.huggingface.load import load  # noqa: E402  # only once torch is known to be there
from engines.huggingface.loaded import Loaded  # noqa: E402
from engines.huggingface.options import Options  # noqa: E402
from tests.engines.huggingface.tiny import ARCHITECTURES, save  # noqa: E402


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, by architecture."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            architecture = next(a for a in ARCHITECTURES if a.name == name)
            made[name] = save(architecture, tmp_path_factory.mktemp("models") / name)
        return made[name]

    return folder


@pytest.fixture(scope="session")
def model_dir(folder_of: Callable[[str], Path]) -> Path:
    """A tiny Llama's folder."""
    return folder_of("llama")


@pytest.fixture(scope="session")
def loaded(model_dir: Path) -> Loaded:
    """The tiny Llama, loaded as a server would."""
    return load(Options("tiny", model_dir=model_dir, max_batch_size=6, threads=1))
