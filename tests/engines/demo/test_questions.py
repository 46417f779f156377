"""The pages of docs/qa, and what the parser says about pages that are malformed."""

from pathlib import Path

import pytest

from engines.demo.questions import (
    FREE_SLOTS,
    Entry,
    PageError,
    check_unambiguous,
    normal,
    parse_off_topic,
    parse_page,
    read_pages,
    sections,
    slots,
)

QA = Path(__file__).parents[3] / "docs" / "qa"

PAGE = """# A page

Some words about it.

## What is a gate?

A gate opens
and closes.

- Explain gates.
- Define gate.

## What is a pipe?

A pipe carries water.

- Explain pipes.
"""

OFF_TOPIC = """# Others

## Answer

I cannot answer that.

## Questions

- What is {thing}?
- {thing} and {thing} and {number}

## thing

a hat, a shoe,
a coat
"""


def test_an_entry_is_a_heading_an_answer_and_a_list():
    gate, pipe = parse_page("parts", PAGE)
    assert gate == Entry("parts", ("What is a gate?", "Explain gates.", "Define gate."), "A gate opens and closes.")
    assert gate.title == "What is a gate?"
    assert pipe.phrasings == ("What is a pipe?", "Explain pipes.")


def test_text_before_the_first_heading_belongs_to_no_entry():
    assert [heading for heading, _, _ in sections(PAGE)] == ["What is a gate?", "What is a pipe?"]
    assert list(sections("")) == []


@pytest.mark.parametrize("page", ["## Q?\n\n- other\n", "## Q?\n\nanswer\n", "## \n\nanswer\n\n- other\n"])
def test_an_entry_without_one_of_its_parts_is_refused(page):
    with pytest.raises(PageError, match="parts: "):
        parse_page("parts", page)


def test_off_topic_templates_and_words():
    page = parse_off_topic(OFF_TOPIC)
    assert page.answer == "I cannot answer that."
    assert page.words == {"thing": ("a hat", "a shoe", "a coat")}
    assert slots(page.templates[1]) == ("thing", "thing", "number")


@pytest.mark.parametrize("section", ["Answer", "Questions"])
def test_an_off_topic_page_needs_its_sections(section):
    with pytest.raises(PageError, match="needed"):
        parse_off_topic(OFF_TOPIC.replace(f"## {section}", "## something"))


def test_a_template_that_names_no_list_is_refused():
    with pytest.raises(PageError, match=r"\{animal\}.*: animal"):
        parse_off_topic(OFF_TOPIC.replace("What is {thing}?", "What is {animal}?"))


def test_one_question_cannot_have_two_answers():
    entries = [
        Entry("a", ("What is it?", "Explain it."), "This."),
        Entry("a", ("Why?", "what IS it"), "That."),
    ]
    with pytest.raises(PageError, match=r"'what IS it' is listed under 'What is it\?' and under 'Why\?'"):
        check_unambiguous(entries)


def test_normal_forgets_case_and_punctuation():
    assert normal("  What's KV-cache?!") == normal("what s kv cache") == "what s kv cache"


def test_an_unknown_title_has_no_answer():
    with pytest.raises(KeyError):
        read_pages(QA).answer_to("What is love?")


def test_the_shipped_pages_are_long_enough_and_agree_with_one_another():
    pages = read_pages(QA)
    assert len(pages.entries) >= 60
    assert all(len(e.phrasings) >= 6 for e in pages.entries), "a first phrasing and five others"
    assert len({e.answer for e in pages.entries} | {pages.off_topic.answer}) == len(pages.entries) + 1
    assert len({e.title for e in pages.entries}) == len(pages.entries)
    assert pages.off_topic.answer.startswith("I am Penstock's demo model")
    assert pages.answer_to("What is Penstock?").startswith("Penstock is an OpenAI-compatible gateway")


def test_no_shipped_off_topic_question_is_also_an_entry():
    pages = read_pages(QA)
    listed = {normal(p) for e in pages.entries for p in e.phrasings}
    fixed = {normal(t) for t in pages.off_topic.templates if not slots(t)}
    words = {normal(w) for listed_words in pages.off_topic.words.values() for w in listed_words}
    assert not listed & (fixed | words)
    used = {s for t in pages.off_topic.templates for s in slots(t)}
    assert used == set(pages.off_topic.words) | FREE_SLOTS
