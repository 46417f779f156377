"""What this machine has, as far as starting an engine depends on it."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Host:
    """Questions to a machine: its environment, and whether a Python module, a program, a folder is there."""

    environ: Mapping[str, str]
    has_module: Callable[[str], bool]
    has_program: Callable[[str], bool]
    has_folder: Callable[[str], bool]


def this_host() -> Host:
    """The machine this runs on."""
    return Host(
        environ=os.environ,
        has_module=lambda name: find_spec(name) is not None,
        has_program=lambda name: shutil.which(name) is not None,
        has_folder=lambda name: Path(name).exists(),
    )
