"""What ships in the package: the demo service and the runtimes."""

from importlib.resources import files
from pathlib import Path

from autoscaler.local.accept import renamed
from engines.catalog import ALIASES
from serving.manifest import parse_runtimes
from serving.runtime import ServingRuntime


def demo_file() -> Path:
    """The InferenceService of the demo model."""
    return Path(str(files("manifests") / "examples" / "demo.yaml"))


def runtimes() -> tuple[ServingRuntime, ...]:
    """Every runtime that ships with Penstock, and the names others have for them."""
    folder = files("manifests") / "runtimes"
    found = [
        runtime
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
        for runtime in parse_runtimes(file.read_text(encoding="utf-8"), file.name)
    ]
    return renamed(found, ALIASES)
