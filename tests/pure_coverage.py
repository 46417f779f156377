"""Fails unless the branch coverage of every pure module is 100 %. Run after pytest: `python -m tests.pure_coverage`.

Which modules are pure stands in one place, the import contract in pyproject.toml that keeps I/O out of them.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACT = "Pure modules do no I/O and know no clock"


def pure_files(pyproject: str) -> list[str]:
    """Pure. Paths of the contract's modules, relative to the root; a package stands for all modules in it."""
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    modules = next(c["source_modules"] for c in contracts if c["name"] == CONTRACT)
    return [f"{m.replace('.', '/')}{'/*' if (ROOT / m.replace('.', '/')).is_dir() else '.py'}" for m in modules]


def main() -> int:
    """Exit code 0 if all is covered; 2 (coverage's own) if not."""
    files = pure_files((ROOT / "pyproject.toml").read_text())
    command = [sys.executable, "-m", "coverage", "report", "--show-missing", "--skip-covered", "--fail-under=100"]
    return subprocess.run([*command, f"--include={','.join(files)}"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
