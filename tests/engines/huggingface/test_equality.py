"""Tokens from a batch that sequences join and leave equal those of `model.generate` alone."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engines.huggingface.batch import Batch
from engines.huggingface.load import load
from engines.huggingface.loaded import Loaded
from engines.huggingface.options import Options
from engines.huggingface.params import SamplingParams
from engines.huggingface.prompt import Prompter
from engines.huggingface.sequence import Sequence
from tests.engines.huggingface.tiny import ARCHITECTURES

NAMES = [a.name for a in ARCHITECTURES if a.name != "llama-long"]


def sequences(
    loaded: Loaded,
    seed: int,
    count: int = 14,
    answers: tuple[int, ...] = (1, 4, 15, 40),
    prompts: tuple[int, ...] = (1, 2, 9, 30, 100),
) -> list[Sequence]:
    """Prompts of one to a hundred tokens, answers of these lengths."""
    chance = random.Random(seed)
    decoder = Prompter(loaded.tokenizer, loaded.context_tokens).decoder
    made = []
    for key in range(count):
        prompt = [chance.randrange(4, 400) for _ in range(chance.choice(prompts))]
        params = SamplingParams(max_tokens=chance.choice(answers), temperature=0, ignore_eos=True)
        made.append(Sequence(key, prompt, params, decoder, loaded.eos))
    return made


def run(batch: Batch, coming: list[Sequence], seed: int) -> None:
    """Step until all is done; some join at each step."""
    chance = random.Random(seed)
    queue = list(coming)
    while queue or batch.running or batch.waiting:
        for _ in range(min(len(queue), chance.choice((0, 0, 1, 3)))):
            batch.waiting.append(queue.pop(0))
        if batch.running or batch.waiting:
            batch.step(0.0)


def expected(folder: Path, made: list[Sequence], prompts: list[list[int]]) -> list[list[int]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for sequence, prompt in zip(made, prompts, strict=True):
        ids = torch.tensor([prompt])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sequence.params.max_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        found.append(output[0].tolist())
    return found


@pytest.mark.parametrize("trace", [True, False], ids=["recorded", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_with_joins_and_leaves_gives_the_tokens_of_generate(
    name: str, trace: bool, folder_of: Callable[[str], Path]
) -> None:
    folder = folder_of(name)
    loaded = load(Options(name, model_dir=folder, max_batch_size=5, threads=1, trace=trace))
    made = sequences(loaded, seed=3)
    prompts = [list(s.tokens) for s in made]
    run(Batch(loaded.core, prefill_tokens=48), made, seed=4)
    assert [s.tokens for s in made] == expected(folder, made, prompts)


def test_sequences_put_back_for_lack_of_cache_end_with_the_same_tokens(model_dir: Path) -> None:
    options = Options("tiny", model_dir=model_dir, max_batch_size=5, threads=1, kv_cache_tokens=300)
    loaded = load(options)
    made = sequences(loaded, seed=8, count=5, answers=(150,), prompts=(3, 20))
    prompts = [list(s.tokens) for s in made]
    batch = Batch(loaded.core, prefill_tokens=48)
    batch.waiting.extend(made)
    while batch.running or batch.waiting:
        batch.step(0.0)
    assert batch.preempted > 0
    assert [s.tokens for s in made] == expected(model_dir, made, prompts)


def test_dropping_sequences_does_not_disturb_the_others(loaded: Loaded, model_dir: Path) -> None:
    made = sequences(loaded, seed=21)
    prompts = [list(s.tokens) for s in made]
    batch = Batch(loaded.core, prefill_tokens=32)
    batch.waiting.extend(made)
    chance = random.Random(2)
    dropped: set[int] = set()
    while batch.running or batch.waiting:
        batch.step(0.0)
        if batch.running and len(dropped) < 6:
            victim = chance.choice([*batch.running, *batch.waiting]).key
            dropped.add(victim)
            batch.drop({victim})
            assert victim not in {s.key for s in [*batch.running, *batch.waiting]}
    kept = [s for s in made if s.key not in dropped]
    assert len(kept) >= 6
    wanted = expected(model_dir, kept, [prompts[s.key] for s in kept])
    assert [s.tokens for s in kept] == wanted
