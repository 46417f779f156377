"""`python -m engines.huggingface`: one model behind an OpenAI-compatible port."""

import logging
import os
import sys

from engines.huggingface.options import parse


def main() -> int:
    """Parse the command line and serve; returns the exit code."""
    options = parse(sys.argv[1:])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # The event loop and the engine's thread hand the interpreter to each other thousands of times a second; the
    # default of 5 ms is as long as several steps.
    sys.setswitchinterval(0.001)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        # Heavy, so only once the flags are known to be right.
        import uvloop

        from engines.huggingface.server import serve
    except ImportError as error:
        sys.stderr.write(f"the Hugging Face engine needs `pip install 'penstock[huggingface]'`: {error}\n")
        return 1
    code: int = uvloop.run(serve(options))
    return code


if __name__ == "__main__":
    sys.exit(main())
