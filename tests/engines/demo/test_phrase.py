"""Rewording keeps a question a question, and the same draws give the same words."""

import random

from hypothesis import given
from hypothesis import strategies as st

from engines.demo.phrase import (
    blend,
    decorate,
    drop_words,
    fill,
    gibberish,
    mistype,
    recase,
    reword,
    swap_words,
    vary,
)
from engines.demo.questions import OffTopic

WORDS = OffTopic("No.", (), {"thing": ("a hat",), "place": ("Rome", "Paris")})
seeds = st.integers(0, 2**32)
questions = st.text(min_size=1, max_size=60).filter(lambda q: any(c.isalnum() for c in q))


def test_a_known_form_is_reworded_around_its_subject():
    ways = {reword("What is a penstock?", random.Random(i)) for i in range(200)}
    assert "What's a penstock?" in ways
    assert "Explain a penstock." in ways
    assert len(ways) > 20
    assert all("a penstock" in w for w in ways)


@given(questions, seeds)
def test_swapping_words_keeps_their_number(question, seed):
    assert len(swap_words(question, random.Random(seed)).split(" ")) == len(question.split(" "))


def test_words_are_swapped_for_others_of_like_meaning():
    ways = {swap_words("How do I choose a backend?", random.Random(i)) for i in range(99)}
    assert ways == {"How do I choose a backend?", "How do I pick a backend?", "How do I select a backend?"}
    assert "the client sends a reply" in {swap_words("the user sends a response", random.Random(i)) for i in range(99)}


def test_an_unknown_form_stays():
    assert reword("Penstock, quo vadis?", random.Random(0)) == "Penstock, quo vadis?"


@given(questions, seeds)
def test_every_variation_still_says_something_and_repeats_with_its_seed(question, seed):
    varied = vary(question, random.Random(seed))
    assert varied.strip()
    assert varied == vary(question, random.Random(seed))


@given(seeds)
def test_decoration_keeps_the_words(seed):
    assert "what is ttft" in decorate("What is TTFT?", random.Random(seed)).lower()


@given(seeds)
def test_only_small_words_are_dropped(seed):
    kept = drop_words("What is the size of the KV cache?", random.Random(seed)).split()
    assert [w for w in kept if w not in {"is", "the", "of"}] == ["What", "size", "KV", "cache?"]


def test_a_question_of_small_words_is_not_dropped_whole():
    assert drop_words("Is the", random.Random(0)) == "Is the"


@given(seeds)
def test_recasing_changes_only_case_and_the_end(seed):
    assert recase("Is it so?", random.Random(seed)).lower().startswith("is it so")


@given(seeds)
def test_a_mistype_changes_the_length_by_two_at_most(seed):
    assert abs(len(mistype("What is continuous batching?", random.Random(seed))) - 28) <= 2


def test_very_short_questions_are_not_mistyped():
    assert mistype("Hi", random.Random(0)) == "Hi"


def test_slots_are_filled_and_the_first_letter_is_large():
    rng = random.Random(3)
    assert fill("{thing}", WORDS, rng) == "A hat"
    assert fill("From {place} to {place}?", WORDS, rng).count("{") == 0
    assert any(c.isdigit() for c in fill("What is {number}?", WORDS, rng))
    assert len(fill("{gibberish}", WORDS, rng)) >= 4
    assert "Rome" not in fill("Is it {place}?", WORDS, random.Random(1), strange=1)
    assert blend(WORDS, random.Random(1)) == blend(WORDS, random.Random(1))
    assert gibberish(random.Random(1)) == gibberish(random.Random(1))
