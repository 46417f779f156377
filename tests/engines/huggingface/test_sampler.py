"""Sampling against straightforward references, one row at a time."""

import math
from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.huggingface.adjustment import Adjustment, adjustment_for
from engines.huggingface.params import SamplingParams
from engines.huggingface.sampled import RowState
from engines.huggingface.sampler import sample, score

VOCABULARY = 700


def logits(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def params(**given_: object) -> SamplingParams:
    return SamplingParams(max_tokens=9, **given_)  # type: ignore[arg-type]  # a test's shorthand


def allowed(row: Tensor, p: SamplingParams) -> set[int]:
    """The tokens that may be drawn, by the definitions, in the plainest way."""
    probabilities = torch.softmax(row / p.temperature, -1)
    order = probabilities.argsort(descending=True).tolist()
    if p.top_k:
        order = order[: p.top_k]
    total = sum(float(probabilities[t]) for t in order)
    kept, mass = [], 0.0
    for token in order:
        if kept and mass >= p.top_p * total:
            break
        kept.append(token)
        mass += float(probabilities[token])
    best = float(probabilities[order[0]])
    return {t for t in kept if float(probabilities[t]) >= p.min_p * best}


def test_greedy_takes_the_likeliest() -> None:
    values = logits(5)
    assert sample(values.clone(), [RowState(params(temperature=0))] * 5).tokens == values.argmax(-1).tolist()


@pytest.mark.parametrize(
    "p",
    [
        params(),
        params(temperature=0.5),
        params(top_k=3),
        params(top_p=0.7),
        params(min_p=0.2),
        params(top_k=40, top_p=0.6, min_p=0.01, temperature=1.5),
        params(top_p=0.999, temperature=2.0),
        params(top_k=500, temperature=2.0),
        params(min_p=0.0001, temperature=2.0),
        params(top_p=0.01),
    ],
    ids=str,
)
def test_what_is_drawn_has_the_right_distribution(p: SamplingParams) -> None:
    row = logits(1, seed=3)
    draws = [(n + 0.5) / 4000 for n in range(4000)]
    tokens = Counter(sample(row.repeat(4000, 1), [RowState(p, d) for d in draws]).tokens)
    may = allowed(row[0], p)
    assert set(tokens) <= may
    probabilities = torch.softmax(row[0] / p.temperature, -1)
    total = sum(float(probabilities[t]) for t in may)
    for token in may:
        assert tokens[token] / 4000 == pytest.approx(float(probabilities[token]) / total, abs=2 / 4000)


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    values = logits(6, seed=9)
    kinds = [
        params(temperature=0),
        params(),
        params(top_p=0.9),
        params(top_k=5, seed=3),
        params(logprobs=4),
        params(presence_penalty=1.5, min_p=0.1),
    ]
    chance = Random(1)
    rows = [RowState(p, chance.random(), adjustment_for(p, [1, 2], frozenset())) for p in kinds]
    together = sample(values.clone(), rows).tokens
    alone = [sample(values[n : n + 1].clone(), [row]).tokens[0] for n, row in enumerate(rows)]
    assert together == alone


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_no_probability_never_comes(draw: float) -> None:
    values = torch.full((1, VOCABULARY), -math.inf)
    values[0, [3, 500]] = 1.0
    for p in (params(), params(top_p=0.99), params(top_k=600)):
        assert sample(values.clone(), [RowState(p, draw)]).tokens[0] in (3, 500)


def test_a_tiny_temperature_is_as_good_as_greedy() -> None:
    values = logits(3) * 1e4
    assert sample(values.clone(), [RowState(params(temperature=1e-9), 0.99)] * 3).tokens == values.argmax(-1).tolist()


def test_scores_are_the_log_softmax_of_the_models_own_logits() -> None:
    values = logits(3, seed=4)
    p = params(temperature=0.3, logprobs=5, top_k=2, logit_bias={7: 50.0})
    rows = [RowState(p, 0.4, adjustment_for(p, [], frozenset())), RowState(params()), RowState(params(logprobs=0))]
    found = sample(values.clone(), rows)
    reference = torch.log_softmax(values, -1)
    assert found.tokens[0] == 7
    assert found.scores[0].chosen == pytest.approx(float(reference[0, 7]), abs=1e-5)
    best = reference[0].topk(5)
    assert [t for t, _ in found.scores[0].top] == best.indices.tolist()
    assert [v for _, v in found.scores[0].top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert set(found.scores) == {0, 2}
    assert found.scores[2].top == ()
    assert score(values[:1], [9], 0)[0].chosen == pytest.approx(float(reference[0, 9]), abs=1e-5)


def penalised(row: Tensor, p: SamplingParams, prompt: list[int], output: list[int]) -> Tensor:
    """OpenAI's and transformers' definitions, token by token."""
    values = row.clone()
    for token in set(prompt) | set(output):
        value = float(values[token])
        value = value / p.repetition_penalty if value > 0 else value * p.repetition_penalty
        value -= p.frequency_penalty * output.count(token) + p.presence_penalty * (token in output)
        values[token] = value
    for token, bias in p.logit_bias.items():
        values[token] += bias
    return values


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(-2, 2),
            st.floats(-2, 2),
            st.floats(0.3, 3),
            st.dictionaries(st.integers(0, 30), st.floats(-100, 100), max_size=3),
            st.lists(st.integers(0, 30), max_size=10),
            st.lists(st.integers(0, 30), max_size=10),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_penalties_of_several_rows_equal_the_reference(
    rows: list[tuple[float, float, float, dict[int, float], list[int], list[int]]],
) -> None:
    values = logits(len(rows), seed=11)
    states, wanted = [], []
    for number, (presence, frequency, repetition, bias, prompt, output) in enumerate(rows):
        p = params(
            temperature=0,
            presence_penalty=presence,
            frequency_penalty=frequency,
            repetition_penalty=repetition,
            logit_bias=bias,
        )
        adjustment = adjustment_for(p, prompt, frozenset())
        for token in output:
            if adjustment is not None:
                adjustment.saw(token)
        states.append(RowState(p, 0.0, adjustment))
        wanted.append(penalised(values[number], p, prompt, output))
    tokens = sample(values.clone(), states).tokens
    for token, reference in zip(tokens, wanted, strict=True):
        assert float(reference[token]) == pytest.approx(float(reference.max()), abs=1e-4)


def test_forbidden_tokens_do_not_come_until_they_may() -> None:
    values = logits(1)
    best = int(values.argmax())
    p = params(temperature=0, min_tokens=2)
    adjustment = Adjustment(p, forbidden=frozenset({best}))
    assert sample(values.clone(), [RowState(p, 0.0, adjustment)]).tokens != [best]
    adjustment.forbidden = frozenset()
    assert sample(values.clone(), [RowState(p, 0.0, adjustment)]).tokens == [best]
