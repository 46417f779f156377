"""Trains the demo model and measures it: `python -m engines.demo.train --out DIR --seed N`.

The same seed, pages, library versions and kind of processor give the same files.
"""

import argparse
import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from engines.demo.conversation import Teacher
from engines.demo.learn import Course, learn, new_model
from engines.demo.measure import Pupil, measure
from engines.demo.questions import normal, read_pages
from engines.demo.split import split
from engines.demo.tokens import Encoder, corpus, save_tokenizer, train_tokenizer

log = logging.getLogger("penstock.demo")
QUESTIONS = Path(__file__).resolve().parents[2] / "docs" / "qa"


def train(out: Path, questions: Path, seed: int, course: Course) -> None:
    """Writes config, weights, tokenizer and chat template to `out`.

    Raises:
        PageError: the pages are malformed.
        OSError: a file cannot be read or written.
    """
    parts = split(read_pages(questions), seed)
    teacher = Teacher(parts.taught, frozenset(normal(q) for q, _ in parts.held_out))
    rng = random.Random(seed)  # noqa: S311 - repeatable training, nothing secret
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(corpus(parts.taught.entries))
    encoder = Encoder(tokenizer)
    model = new_model(tokenizer.eos_token_id, tokenizer.pad_token_id)
    log.info("%d weights, %d tokens in the vocabulary", model.num_parameters(), len(tokenizer))
    learn(model, lambda: encoder.encode(teacher.sample(rng)), course, rng, _reporter(course.steps))
    out.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, out)
    model.save_pretrained(str(out))
    (out / "model.safetensors").chmod(0o644)  # written for its owner alone, but it ships in the wheel


def _reporter(steps: int) -> Callable[[int, float], None]:
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    recent: list[float] = []

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            mean = sum(recent) / len(recent)
            took_s, took_cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
            log.info("step %d of %d: loss %.4f; %.0f s, %.0f s of CPU", step + 1, steps, mean, took_s, took_cpu_s)
            recent.clear()

    return report


def report_scores(out: Path, questions: Path, seed: int) -> None:
    """Measures the model in `out` and logs every figure and every wrong answer."""
    pages = read_pages(questions)
    for found in measure(Pupil(out), pages, split(pages, seed)):
        log.info("%s", found)
        for question, answer in found.wrong:
            log.info("    %r -> %.70r", question, answer)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m engines.demo.train", description="Train Penstock's demo model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0, help="decides the split, the samples and the first weights")
    parser.add_argument("--steps", type=int, default=Course().steps, help="steps of training")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="folder with the question-and-answer pages")
    parser.add_argument("--measure-only", action="store_true", help="measure the model in --out, train nothing")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(chosen.threads)
    if not chosen.measure_only:
        train(chosen.out, chosen.questions, chosen.seed, Course(steps=chosen.steps))
    report_scores(chosen.out, chosen.questions, chosen.seed)


if __name__ == "__main__":
    main()
