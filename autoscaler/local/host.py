"""What this machine has, as far as starting an engine depends on it."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from autoscaler.local.accept import Host


def this_host() -> Host:
    """The machine this runs on."""
    return Host(
        environ=os.environ,
        has_module=lambda name: find_spec(name) is not None,
        has_program=lambda name: shutil.which(name) is not None,
        has_folder=lambda name: Path(name).exists(),
    )
