"""The many ways to ask one question: rewording, politeness, casing, punctuation, typing mistakes.

Pure. Chance comes in as `rng`. Everything here is applied alike to questions on and off the topic, so
that no way of writing says which of the two a question is.
"""

import random
import re
from collections.abc import Iterator

from engines.demo.questions import OffTopic, slots
from engines.demo.wording import ENDINGS, NEAR_KEYS, OPENINGS, REWORDINGS, SYNONYMS


def _listed(block: str) -> list[str]:
    return block.strip().replace("\n", "").split("|")


def _rules(block: str) -> Iterator[tuple[re.Pattern[str], tuple[str, ...]]]:
    """Pure. Each form, and what it may become."""
    for rule in re.split(r"\n(?=\S)", block.strip()):
        form, _, ways = rule.partition("\n")
        yield re.compile(form, re.IGNORECASE), tuple(w.strip() for w in ways.replace("\n", " ").split(" | "))


_SMALL_WORDS = frozenset({"the", "a", "an", "is", "are", "does", "do", "of", "to", "me", "my"})
_OPENINGS = tuple(opening + " " for opening in _listed(OPENINGS))
_ENDINGS = tuple(ending if ending.startswith(",") else " " + ending for ending in _listed(ENDINGS))
_NEAR = {keys[0]: keys[1:] for keys in NEAR_KEYS.split()}
_REWORDINGS = tuple(_rules(REWORDINGS))
_SYNONYMS = tuple(tuple(row.split()) for row in SYNONYMS.strip().replace("\n", "|").split("|"))
_SYNONYMS_OF = {word: tuple(w for row in _SYNONYMS if word in row for w in row) for row in _SYNONYMS for word in row}


def reword(question: str, rng: random.Random) -> str:
    """Pure. The question in other words, where its form is a known one."""
    for pattern, ways in _REWORDINGS:
        if found := pattern.match(question):
            return found.expand(rng.choice(ways))
    return question


def swap_words(question: str, rng: random.Random) -> str:
    """Pure. The question with some words replaced by others of like meaning."""
    return " ".join(
        rng.choice(_SYNONYMS_OF[word]) if word in _SYNONYMS_OF and rng.random() < 0.5 else word
        for word in question.split(" ")
    )


def _lower_first(text: str) -> str:
    return text if text[:2].isupper() or text[:2] in ("I ", "Pe") else text[:1].lower() + text[1:]


def decorate(question: str, rng: random.Random) -> str:
    """Pure. The question with a polite or chatty beginning or end."""
    if rng.random() < 0.6:
        before = rng.choice(_OPENINGS)
        question = before + (question if before.rstrip()[-1] in ".!:" else _lower_first(question))
    else:
        mark = question[-1] if question[-1] in "?.!" else ""
        after = rng.choice(_ENDINGS)
        question = question.rstrip("?.!") + after + ("" if after[-1] in ".!" else mark)
    return question


def drop_words(question: str, rng: random.Random) -> str:
    """Pure. The question with some small words left out."""
    words = question.split()
    kept = [w for w in words if w.lower() not in _SMALL_WORDS or rng.random() < 0.4]
    return " ".join(kept) if len(kept) > 1 else question


def recase(question: str, rng: random.Random) -> str:
    """Pure. The question with other casing or other punctuation at its end."""
    draw = rng.random()
    if draw < 0.45:
        question = question.lower()
    elif draw < 0.49:
        question = question.upper()
    elif draw < 0.54:
        question = question.title()
    draw = rng.random()
    if draw < 0.45:
        return question.rstrip("?.!")
    if draw < 0.6:
        return question.rstrip("?.!") + rng.choice(("?", "??", "!", ".", "...", " ?", "?!", "? ", "\n"))
    return question


def mistype(question: str, rng: random.Random) -> str:
    """Pure. One or two typing mistakes: a letter lost, doubled, swapped, or the key beside it."""
    for _ in range(1 if len(question) < 25 or rng.random() < 0.6 else 2):
        places = [i for i, c in enumerate(question) if c.isalpha()]
        if len(places) < 5:
            break
        i = rng.choice(places)
        kind = rng.randrange(4)
        if kind == 0:
            question = question[:i] + question[i + 1 :]
        elif kind == 1:
            question = question[:i] + question[i] + question[i:]
        elif kind == 2:
            question = question[:i] + question[i + 1 : i + 2] + question[i] + question[i + 2 :]
        else:
            question = question[:i] + rng.choice(_NEAR.get(question[i].lower(), "e")) + question[i + 1 :]
    return question


def vary(question: str, rng: random.Random) -> str:
    """Pure. One of the many ways to write this question; in a sixth of draws, the question itself."""
    if rng.random() < 0.15:
        return question
    if rng.random() < 0.55:
        question = reword(question, rng)
    if rng.random() < 0.15:
        question = swap_words(question, rng)
    if rng.random() < 0.25:
        question = decorate(question, rng)
    if rng.random() < 0.12:
        question = drop_words(question, rng)
    if rng.random() < 0.55:
        question = recase(question, rng)
    if rng.random() < 0.2:
        question = mistype(question, rng)
    return question


def gibberish(rng: random.Random) -> str:
    """Pure. A word that is none."""
    syllables = [
        rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(("", "", "n", "r", "s", "x"))
        for _ in range(rng.randint(2, 4))
    ]
    word = "".join(syllables)
    return word.capitalize() if rng.random() < 0.3 else word


def blend(off_topic: OffTopic, rng: random.Random) -> str:
    """Pure. A word that is none, of the beginning of one listed word and the end of another."""
    one, two = (rng.choice(off_topic.words[rng.choice(tuple(off_topic.words))]).split()[-1] for _ in range(2))
    return one[: (len(one) + 1) // 2] + two[len(two) // 2 :].lower()


def fill(template: str, off_topic: OffTopic, rng: random.Random, strange: float = 0.0) -> str:
    """Pure. The template with slots filled from their lists or, by chance `strange`, with invented words."""
    for name in slots(template):
        if name == "number":
            word = str(rng.randint(0, 10 ** rng.randint(1, 4)))
        elif name == "gibberish" or rng.random() < strange:
            word = gibberish(rng) if rng.random() < 0.5 else blend(off_topic, rng)
        else:
            word = rng.choice(off_topic.words[name])
        template = template.replace("{" + name + "}", word, 1)
    return template[:1].upper() + template[1:]
