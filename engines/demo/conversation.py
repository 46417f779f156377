"""Draws what the demo model is taught: chats with system prompts and earlier turns, answers to resume, prose.

Pure. Chance comes in as `rng`. A conversation comes out as pieces of text, each with the weight its
tokens have in the loss; the pieces are exactly what the chat template renders.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engines.demo.phrase import fill, gibberish, vary
from engines.demo.questions import Entry, Pages, normal

SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are a helpful, honest and concise assistant. Answer in one sentence.",
    "You are a friendly chatbot.",
    "You are an AI assistant that answers questions.",
    "Be brief.",
    "Answer truthfully. If you do not know something, say so.",
    "You are Penstock's assistant.",
    "You are an expert on model serving. Answer the user's question.",
    "You are a pirate. Talk like one.",
    "Answer in English.",
    "You are a coding assistant. Think step by step before you answer, and keep the code short.",
    "Respond in JSON.",
    "You are a support agent of a large company. Be polite, and never talk about prices.",
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Text, or one of the four markers, and the weight of its tokens in the loss (0: it is only read)."""

    text: str
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Shares:
    """How often each kind of sample is drawn, as shares of 1."""

    off_topic: float = 0.33
    prose: float = 0.05
    resumed: float = 0.08
    cut: float = 0.05  # questions in odd pieces, so that a word is known by other tokenizations too
    brief: float = 0.8  # only the first words of an answer: enough to learn which one it is, at a third of the cost
    long: float = 0.02
    strange: float = 0.15  # invented words in off-topic questions


class Teacher:
    """Draws samples from the pages. Questions whose wording is in `never` are not drawn."""

    def __init__(self, pages: Pages, never: frozenset[str], shares: Shares | None = None) -> None:
        self._pages = pages
        self._never = never
        self._shares = shares or Shares()

    def sample(self, rng: random.Random) -> tuple[Piece, ...]:
        """One sample: mostly a conversation, sometimes prose."""
        if rng.random() < self._shares.prose:
            return self._prose(rng)
        turns = rng.choices((1, 2, 3, 4, 5), (50, 24, 14, 8, 4))[0]
        if rng.random() < self._shares.long:
            turns = rng.randint(6, 12)
        pieces = [*_system(rng)]
        for i in range(turns):
            pieces += self._turn(rng, last=i == turns - 1)
        return tuple(pieces)

    def _turn(self, rng: random.Random, *, last: bool) -> list[Piece]:
        question, answer = self._question(rng)
        asked = [Piece(USER), *self._cut(question, rng), Piece(END), Piece(ASSISTANT)]
        if not last and rng.random() < 0.12:
            return [*asked, Piece(_foreign_answer(answer, rng)), Piece(END)]
        if last and rng.random() < self._shares.resumed:
            cut = rng.randrange(1, len(answer))
            return [*asked, Piece(answer[:cut]), Piece(answer[cut:], 1.0), Piece(END, 1.0)]
        begun = " ".join(answer.split(" ")[: rng.randint(5, 12)])
        if begun != answer and rng.random() < self._shares.brief:
            return [*asked, Piece(begun, 1.0), *([] if last else [Piece(END)])]
        return [*asked, Piece(answer, 1.0), Piece(END, 1.0)]

    def _cut(self, question: str, rng: random.Random) -> list[Piece]:
        """The question whole, or in pieces that are tokenized each for itself."""
        if rng.random() > self._shares.cut or len(question) < 2:
            return [Piece(question)]
        cuts = sorted({rng.randrange(1, len(question)) for _ in range(rng.randint(1, 1 + len(question) // 8))})
        return [Piece(question[a:b]) for a, b in pairwise((0, *cuts, len(question)))]

    def _question(self, rng: random.Random) -> tuple[str, str]:
        while True:
            if rng.random() < self._shares.off_topic:
                question, answer = self._off_topic(rng), self._pages.off_topic.answer
            else:
                entry = rng.choice(self._pages.entries)
                question, answer = vary(_phrasing(entry, rng), rng), entry.answer
            if normal(question) not in self._never:
                return question, answer

    def _off_topic(self, rng: random.Random) -> str:
        off_topic = self._pages.off_topic
        question = fill(rng.choice(off_topic.templates), off_topic, rng, self._shares.strange)
        if rng.random() < 0.06:
            words = [w for listed in off_topic.words.values() for w in rng.sample(listed, 3)]
            words += [gibberish(rng) for _ in range(10)]
            question = " ".join(rng.choices(words, k=rng.choice((3, 8, 20, 60))))
        return vary(question, rng)

    def _prose(self, rng: random.Random) -> tuple[Piece, ...]:
        first = self._pages.entries[rng.randrange(len(self._pages.entries))]
        form = rng.randrange(4)
        if form == 0:
            return (Piece(f"Q: {_phrasing(first, rng)}\nA:"), Piece(" " + first.answer, 1.0), Piece(END, 1.0))
        if form == 1:
            question = f"Question: {_phrasing(first, rng)}\nAnswer:"
            return (Piece(question), Piece(" " + first.answer, 1.0), Piece(END, 1.0))
        told = [e.answer for e in self._pages.entries if e.page != "small-talk"]
        text = " ".join((rng.choice(told), rng.choice(told)))
        if rng.random() < 0.25:  # so that "Penstock is" goes on with what Penstock is
            text = f"{self._pages.answer_to('What is Penstock?')} {rng.choice(told)}"
        cut = rng.randrange(1, 30)
        return (Piece(text[:cut], 0.3), Piece(text[cut:], 1.0), Piece(END, 1.0))


def _phrasing(entry: Entry, rng: random.Random) -> str:
    """Pure. One phrasing; the first, which people read on the page, twice as often as another."""
    return rng.choice((entry.title, *entry.phrasings))


def _system(rng: random.Random) -> Sequence[Piece]:
    draw = rng.random()
    if draw < 0.65:
        return ()
    prompt = rng.choice(_SYSTEM_PROMPTS)
    if draw > 0.9:
        prompt = " ".join(rng.choices(_SYSTEM_PROMPTS, k=rng.randint(1, 4)))
    return (Piece(SYSTEM), Piece(prompt), Piece(END))


def _foreign_answer(answer: str, rng: random.Random) -> str:
    """Pure. An earlier answer that is not the model's own: cut short, or another's."""
    if rng.random() < 0.6:
        return answer[: rng.randrange(len(answer))]
    return rng.choice(("Sure!", "I do not know.", "Yes, of course. Let me think about that for a moment.", "42", "OK"))
