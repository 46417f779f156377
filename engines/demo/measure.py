"""Asks a demo model questions, greedily, and counts which answers are exactly right."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engines.demo.phrase import vary
from engines.demo.questions import Pages, normal
from engines.demo.split import Split, off_topic_samples

LONGEST_ANSWER_TOKENS = 96

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation that ends with a question, and the one right answer."""

    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Score:
    """How many of `asked` were answered exactly; `wrong` has the others, as (question, answer given)."""

    name: str
    asked: int
    wrong: tuple[tuple[str, str], ...]

    @property
    def right(self) -> float:
        """Share of exact answers, 0 to 1."""
        return 1 - len(self.wrong) / self.asked if self.asked else 1.0

    def __str__(self) -> str:
        return f"{self.name}: {self.asked - len(self.wrong)} of {self.asked} ({self.right:.1%})"


class Pupil:
    """A demo model loaded from its folder."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder), padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()

    def answers(self, conversations: Sequence[Sequence[Message]], batch: int = 128, **options: Any) -> list[str]:
        """The answer to each, in order; `options` go to `apply_chat_template`."""
        options = {"add_generation_prompt": True, **options}
        texts = [self.tokenizer.apply_chat_template(c, tokenize=False, **options) for c in conversations]
        return self.complete(texts, batch)

    def complete(self, texts: Sequence[str], batch: int = 128) -> list[str]:
        """What the model writes after each text, without markers. Texts of like length go together."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        answers = [""] * len(texts)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            inputs = self.tokenizer(
                [texts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=False
            )
            with torch.inference_mode():
                out = self.model.generate(**inputs, max_new_tokens=LONGEST_ANSWER_TOKENS, do_sample=False)
            fresh = out[:, inputs["input_ids"].shape[1] :]
            for i, text in zip(chosen, self.tokenizer.batch_decode(fresh, skip_special_tokens=True), strict=True):
                answers[i] = text
        return answers


def ask(question: str, answer: str) -> Case:
    """Pure. One question, asked alone."""
    return Case(({"role": "user", "content": question},), answer)


def score(name: str, pupil: Pupil, cases: Sequence[Case]) -> Score:
    """Asks every case."""
    given = pupil.answers([c.messages for c in cases])
    wrong = ((c.messages[-1]["content"], g) for c, g in zip(cases, given, strict=True) if g != c.answer)
    return Score(name, len(cases), tuple(wrong))


def chats(pages: Pages, count: int, seed: int) -> Iterator[Case]:
    """Pure. Chats of two to four turns with right earlier answers; the last question is a first phrasing."""
    rng = random.Random(seed)  # noqa: S311 - repeatable samples, nothing secret
    for _ in range(count):
        *before, last = rng.sample(pages.entries, rng.randint(2, 4))
        messages: list[Message] = [{"role": "system", "content": "You are a helpful assistant."}] * rng.randint(0, 1)
        for entry in before:
            messages.append({"role": "user", "content": rng.choice(entry.phrasings)})
            messages.append({"role": "assistant", "content": entry.answer})
        yield Case((*messages, {"role": "user", "content": last.title}), last.answer)


def varied(pages: Pages, never: frozenset[str], count: int, seed: int) -> Iterator[Case]:
    """Pure. Listed phrasings with the rewording, politeness and typing mistakes that training also draws."""
    rng = random.Random(seed)  # noqa: S311 - repeatable samples, nothing secret
    for _ in range(count):
        entry = rng.choice(pages.entries)
        question = vary(rng.choice(entry.phrasings), rng)
        if normal(question) not in never:
            yield ask(question, entry.answer)


def measure(pupil: Pupil, pages: Pages, parts: Split, seed: int = 1) -> tuple[Score, ...]:
    """Every figure the model card reports."""
    no = pages.off_topic.answer
    never = frozenset(normal(q) for q, _ in parts.held_out)
    on_topic = score("listed phrasings", pupil, [ask(p, e.answer) for e in pages.entries for p in e.phrasings])
    return (
        score("first phrasings", pupil, [ask(e.title, e.answer) for e in pages.entries]),
        on_topic,
        Score(
            "listed phrasings not taken for off-topic",
            on_topic.asked,
            tuple(w for w in on_topic.wrong if w[1] == no),
        ),
        score("held-out phrasings", pupil, [ask(q, a) for q, a in parts.held_out]),
        score("held-out off-topic questions", pupil, [ask(q, no) for q in off_topic_samples(parts, 400, seed)]),
        score("varied phrasings", pupil, list(varied(pages, never, 600, seed))),
        score("last question of a chat", pupil, list(chats(pages, 200, seed))),
    )
