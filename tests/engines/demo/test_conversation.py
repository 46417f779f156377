"""What the demo model is taught: the shape of samples, and that nothing held out is among them."""

import random
from itertools import pairwise
from pathlib import Path

from engines.demo.conversation import ASSISTANT, END, SYSTEM, USER, Shares, Teacher
from engines.demo.questions import normal, read_pages
from engines.demo.split import split

PAGES = read_pages(Path(__file__).parents[3] / "docs" / "qa")
PARTS = split(PAGES, 0)
NEVER = frozenset(normal(question) for question, _ in PARTS.held_out)
MARKERS = {SYSTEM, USER, ASSISTANT, END}


def drawn(count, shares=None):
    teacher, rng = Teacher(PARTS.taught, NEVER, shares), random.Random(5)
    return [teacher.sample(rng) for _ in range(count)]


def test_the_same_seed_draws_the_same_samples():
    assert drawn(50) == drawn(50)


def test_a_conversation_is_markers_in_turn_and_ends_with_an_answer():
    for pieces in drawn(300, Shares(prose=0, resumed=0, brief=0, cut=0)):
        marks = [p.text for p in pieces if p.text in MARKERS]
        if marks[0] == SYSTEM:
            marks = marks[2:]
        assert marks == [USER, END, ASSISTANT, END] * (len(marks) // 4)
        assert pieces[-1].weight == 1
        assert pieces[-2].weight == 1


def test_only_answers_and_their_ends_are_learned():
    answers = {e.answer for e in PAGES.entries} | {PAGES.off_topic.answer}
    for pieces in drawn(300, Shares(prose=0, resumed=0, brief=0, cut=0)):
        assert {p.text for p in pieces if p.weight} <= answers | {END}


def test_a_brief_answer_is_the_first_words_and_is_not_said_to_be_whole():
    answers = [e.answer for e in PAGES.entries] + [PAGES.off_topic.answer]
    brief = 0
    for pieces in drawn(200, Shares(prose=0, resumed=0, brief=1)):
        learned = [p for p in pieces if p.weight and p.text != END]
        assert all(any(a.startswith(p.text) for a in answers) for p in learned)
        brief += pieces[-1].text not in (END, *answers)
    assert brief > 100


def test_a_resumed_answer_is_read_up_to_the_cut_and_learned_after_it():
    answers = {e.answer for e in PAGES.entries} | {PAGES.off_topic.answer}
    for pieces in drawn(100, Shares(prose=0, resumed=1)):
        begun, rest, end = pieces[-3:]
        assert begun.text + rest.text in answers
        assert (begun.weight, rest.weight, end.weight) == (0, 1, 1)


def test_nothing_held_out_is_asked():
    for pieces in drawn(3000, Shares(prose=0, cut=0)):
        asked = [after.text for mark, after in pairwise(pieces) if mark.text == USER]
        assert not {normal(q) for q in asked} & NEVER


def in_pieces(shares):
    """How many of 200 samples have a text that comes in more than one piece."""
    return sum(any(not {a.text, b.text} & MARKERS for a, b in pairwise(ps)) for ps in drawn(200, shares))


def test_questions_come_in_pieces_only_when_cut():
    assert in_pieces(Shares(prose=0, resumed=0, cut=0)) == 0
    assert in_pieces(Shares(prose=0, resumed=0, cut=1)) > 150


def test_prose_begins_without_a_marker():
    for pieces in drawn(200, Shares(prose=1)):
        assert pieces[0].text not in MARKERS
        assert pieces[-1].text == END
