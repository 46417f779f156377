"""The pieces of the training loop, without training."""

import random

import pytest

pytest.importorskip("torch")

from engines.demo.conversation import ASSISTANT, END, USER, Piece
from engines.demo.learn import Course, batches, dropped_out, learn, loss_of, new_model, rate_at, tensors
from engines.demo.tokens import (
    CONTEXT_TOKENS,
    VOCABULARY_TOKENS,
    Encoder,
    Sample,
    save_tokenizer,
    train_tokenizer,
)

TEXTS = ["What is a gate?", "A gate opens and closes.", "What is a pipe?", "A pipe carries water."] * 5


def test_the_rate_warms_up_and_falls_to_nothing():
    course = Course(steps=100, warmup_steps=10, rate=1.0)
    rates = [rate_at(step, course) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_batches_hold_so_many_tokens_padding_included():
    rng = random.Random(0)

    def draw():
        length = rng.randint(1, 90)
        return Sample((7,) * length, (1.0,) * length)

    course = Course(batch_tokens=200, pool_samples=64)
    several = batches(draw, course, rng)
    for _ in range(50):
        batch = next(several)
        assert batch
        assert len(batch) * max(len(s.ids) for s in batch) <= 200


def test_one_sample_over_the_limit_is_a_batch_of_its_own():
    course = Course(batch_tokens=5, pool_samples=2)
    assert len(next(batches(lambda: Sample((1,) * 9, (1.0,) * 9), course, random.Random(0)))) == 1


def test_padding_has_no_weight():
    ids, weights = tensors([Sample((5, 6, 7), (0.0, 1.0, 1.0)), Sample((8,), (1.0,))], pad_id=1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert weights.tolist() == [[0, 1, 1], [1, 0, 0]]


def test_the_model_has_about_a_million_weights_and_a_head_size_that_vllm_takes():
    model = new_model(end_id=0, pad_id=1)
    assert 900_000 < model.num_parameters() < 1_200_000
    assert model.config.head_dim == 32
    assert model.config.max_position_embeddings == CONTEXT_TOKENS >= 1024
    assert model.config.vocab_size == VOCABULARY_TOKENS <= 2048
    assert model.generation_config.eos_token_id == 0


def test_training_lowers_the_loss():
    model = new_model(end_id=0, pad_id=1)
    sample = Sample((3, 10, 11, 0, 4, 20, 21, 22, 0), (0, 0, 0, 0, 0, 1, 1, 1, 1))
    before = loss_of(model, *tensors([sample], 1)).item()
    seen: list[tuple[int, float]] = []
    course = Course(steps=8, warmup_steps=1, pool_samples=4, batch_tokens=36)
    learn(model, lambda: sample, course, random.Random(0), lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == list(range(8))
    assert loss_of(model, *tensors([sample], 1)).item() < before / 2
    assert not model.training


def test_dropout_is_on_only_while_open():
    model = new_model(end_id=0, pad_id=1).eval()
    batch = tensors([Sample((3, 10, 11, 0), (0, 1, 1, 1))], 1)
    before = loss_of(model, *batch).item()
    with dropped_out(model, 0.5):
        assert loss_of(model, *batch).item() != before
    assert loss_of(model, *batch).item() == before


def test_the_tokenizer_repeats_and_keeps_every_byte(tmp_path):
    one, two = train_tokenizer(TEXTS), train_tokenizer(TEXTS)
    assert one.get_vocab() == two.get_vocab()
    for text in ("naïve  \n\ttext", "今日は 🙂", "\x00\x7f", " a "):
        assert one.decode(one.encode(text, add_special_tokens=False)) == text
    save_tokenizer(one, tmp_path)
    assert "chat_template.jinja" in {p.name for p in tmp_path.iterdir()}


def test_pieces_are_encoded_as_the_chat_template_renders_them():
    tokenizer = train_tokenizer(TEXTS)
    pieces = [
        Piece(USER),
        Piece("What is a gate?"),
        Piece(END),
        Piece(ASSISTANT),
        Piece("A gate opens.", 1.0),
        Piece(END, 1.0),
    ]
    sample = Encoder(tokenizer).encode(pieces)
    chat = [{"role": "user", "content": "What is a gate?"}, {"role": "assistant", "content": "A gate opens."}]
    assert list(sample.ids) == tokenizer.apply_chat_template(chat, return_dict=False)
    assert sum(sample.weights) == len(tokenizer.encode("A gate opens.")) + 1


def test_a_sample_is_cut_at_the_context_window():
    sample = Encoder(train_tokenizer(TEXTS)).encode([Piece("gate " * 3000, 1.0)])
    assert len(sample.ids) == len(sample.weights) == CONTEXT_TOKENS
