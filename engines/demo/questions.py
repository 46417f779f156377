"""Reads the question-and-answer pages of docs/qa. All is pure but `read_pages`, which reads the files.

A page is Markdown: `## ` begins an entry and is its first phrasing, the paragraphs after it are the answer,
and the list under it holds other phrasings. The off-topic page has the sections `Answer`, `Questions`
(templates with `{name}` slots) and one section of comma-separated words for each slot.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

OFF_TOPIC_PAGE = "off-topic.md"
FREE_SLOTS = frozenset({"number", "gibberish"})  # filled by invention, not from a list
_SLOT = re.compile(r"\{(\w+)\}")
_NOT_WORD = re.compile(r"[^\w]+")


class PageError(ValueError):
    """A page of docs/qa does not have the form described above."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer, and the ways to ask for it. The first phrasing is the heading."""

    page: str
    phrasings: tuple[str, ...]
    answer: str

    @property
    def title(self) -> str:
        """The first phrasing."""
        return self.phrasings[0]


@dataclass(frozen=True, slots=True)
class OffTopic:
    """The answer to everything else, the templates of such questions, and the words that fill them."""

    answer: str
    templates: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Pages:
    """Everything the demo model is taught."""

    entries: tuple[Entry, ...]
    off_topic: OffTopic

    def answer_to(self, title: str) -> str:
        """The answer under this heading.

        Raises:
            KeyError: there is no such heading.
        """
        for entry in self.entries:
            if entry.title == title:
                return entry.answer
        raise KeyError(title)


def normal(question: str) -> str:
    """Pure. The question in lower case without punctuation: two that are equal so are one question."""
    return _NOT_WORD.sub(" ", question.lower()).strip()


def slots(template: str) -> tuple[str, ...]:
    """Pure. The slot names of a template, in order."""
    return tuple(_SLOT.findall(template))


def sections(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Pure. Each `## ` section as heading, paragraph text joined to one line, and list items."""
    for block in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        lines = [line.strip() for line in body.splitlines()]
        items = tuple(line[2:].strip() for line in lines if line.startswith("- "))
        prose = " ".join(line for line in lines if line and not line.startswith("- "))
        yield heading.strip(), prose, items


def parse_page(page: str, text: str) -> tuple[Entry, ...]:
    """Pure. The entries of one page.

    Raises:
        PageError: an entry has no answer or no other phrasing.
    """
    entries = []
    for heading, prose, items in sections(text):
        if not heading or not prose or not items:
            raise PageError(f"{page}: {heading!r} needs a heading, an answer and a list of other phrasings")
        entries.append(Entry(page, (heading, *items), prose))
    return tuple(entries)


def parse_off_topic(text: str) -> OffTopic:
    """Pure. The off-topic page.

    Raises:
        PageError: a section is missing, or a template names a list that does not exist.
    """
    found = {heading: (prose, items) for heading, prose, items in sections(text)}
    answer, templates = found.pop("Answer", ("", ()))[0], found.pop("Questions", ("", ()))[1]
    if not answer or not templates:
        raise PageError(f"{OFF_TOPIC_PAGE}: the sections Answer and Questions are needed")
    words = {name: tuple(w.strip() for w in prose.split(",") if w.strip()) for name, (prose, _) in found.items()}
    known = FREE_SLOTS | {name for name, listed in words.items() if listed}
    for template in templates:
        if unknown := set(slots(template)) - known:
            raise PageError(f"{OFF_TOPIC_PAGE}: {template!r} names no list of words: {', '.join(sorted(unknown))}")
    return OffTopic(answer, templates, words)


def check_unambiguous(entries: Iterable[Entry]) -> None:
    """Pure.

    Raises:
        PageError: one question is listed twice.
    """
    seen: dict[str, str] = {}
    for entry in entries:
        for phrasing in entry.phrasings:
            if (other := seen.setdefault(normal(phrasing), entry.title)) is not entry.title:
                raise PageError(f"{phrasing!r} is listed under {other!r} and under {entry.title!r}")


def read_pages(folder: Path) -> Pages:
    """Every page of `folder`, in the order of their names.

    Raises:
        PageError: a page is malformed, or one question has two answers.
        OSError: the folder or a page cannot be read.
    """
    pages = sorted(p for p in folder.glob("*.md") if p.name not in (OFF_TOPIC_PAGE, "README.md"))
    entries = tuple(e for p in pages for e in parse_page(p.stem, p.read_text(encoding="utf-8")))
    check_unambiguous(entries)
    return Pages(entries, parse_off_topic((folder / OFF_TOPIC_PAGE).read_text(encoding="utf-8")))
