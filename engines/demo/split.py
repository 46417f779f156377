"""Which questions are kept from training, so that answers to unseen ones can be measured. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engines.demo.phrase import fill
from engines.demo.questions import FREE_SLOTS, Entry, OffTopic, Pages, slots

OFF_TOPIC_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Split:
    """`taught` is what training sees; `held_out` has, for each answer, the phrasings it never sees."""

    taught: Pages
    held_out: tuple[tuple[str, str], ...]
    held_out_off_topic: OffTopic


def _part(items: Sequence[str], rng: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Pure. The items kept and the share held out, each in the order given."""
    out = set(rng.sample(range(len(items)), max(1, round(len(items) * OFF_TOPIC_SHARE))))
    return tuple(x for i, x in enumerate(items) if i not in out), tuple(x for i, x in enumerate(items) if i in out)


def _part_off_topic(off_topic: OffTopic, rng: random.Random) -> tuple[OffTopic, OffTopic]:
    templates, templates_out = _part(off_topic.templates, rng)
    pairs = {name: _part(words, rng) for name, words in off_topic.words.items()}
    taught = OffTopic(off_topic.answer, templates, {name: kept for name, (kept, _) in pairs.items()})
    return taught, OffTopic(off_topic.answer, templates_out, {name: out for name, (_, out) in pairs.items()})


def split(pages: Pages, seed: int) -> Split:
    """Pure. Holds out one phrasing of each entry, never the first, and a share of all off-topic lists."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable split, nothing secret
    taught: list[Entry] = []
    held_out = []
    for entry in pages.entries:
        out = rng.randrange(1, len(entry.phrasings))
        held_out.append((entry.phrasings[out], entry.answer))
        taught.append(replace(entry, phrasings=tuple(p for i, p in enumerate(entry.phrasings) if i != out)))
    taught_off_topic, held_out_off_topic = _part_off_topic(pages.off_topic, rng)
    return Split(Pages(tuple(taught), taught_off_topic), tuple(held_out), held_out_off_topic)


def off_topic_samples(parts: Split, count: int, seed: int) -> tuple[str, ...]:
    """Pure. Off-topic questions never taught: new words in a taught template, or a new template."""
    rng = random.Random(seed)  # noqa: S311 - repeatable samples, nothing secret
    taught, out = parts.taught.off_topic, parts.held_out_off_topic
    taught_templates = [t for t in taught.templates if set(slots(t)) - FREE_SLOTS]
    every_word = OffTopic(taught.answer, (), {n: (*taught.words[n], *out.words[n]) for n in taught.words})
    new_words = _distinct(taught_templates, out, count - count // 2, rng)
    return (*new_words, *_distinct(out.templates, every_word, count // 2, rng))


def _distinct(templates: Sequence[str], words: OffTopic, count: int, rng: random.Random) -> list[str]:
    """Pure. So many different questions; a template without slots gives only one."""
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(fill(rng.choice(templates), words, rng))
    return list(found)
