"""What is held out is never taught, and the split repeats with its seed."""

from pathlib import Path

from engines.demo.questions import normal, read_pages, slots
from engines.demo.split import off_topic_samples, split

PAGES = read_pages(Path(__file__).parents[3] / "docs" / "qa")


def test_each_entry_gives_up_one_phrasing_and_never_its_first():
    parts = split(PAGES, 0)
    assert len(parts.held_out) == len(PAGES.entries)
    for before, after, (question, answer) in zip(PAGES.entries, parts.taught.entries, parts.held_out, strict=True):
        assert after.title == before.title
        assert answer == before.answer == after.answer
        assert set(before.phrasings) - set(after.phrasings) == {question}


def test_off_topic_words_and_templates_are_parted():
    parts = split(PAGES, 0)
    assert not set(parts.taught.off_topic.templates) & set(parts.held_out_off_topic.templates)
    for name, words in PAGES.off_topic.words.items():
        kept, out = set(parts.taught.off_topic.words[name]), set(parts.held_out_off_topic.words[name])
        assert kept | out == set(words)
        assert not kept & out
        assert out


def test_the_seed_decides():
    assert split(PAGES, 3) == split(PAGES, 3)
    assert split(PAGES, 3) != split(PAGES, 4)


def test_off_topic_samples_have_a_part_that_was_never_taught():
    parts = split(PAGES, 0)
    samples = off_topic_samples(parts, 300, 1)
    assert len(samples) == len(set(samples)) == 300
    assert samples == off_topic_samples(parts, 300, 1)
    out = {normal(w) for words in parts.held_out_off_topic.words.values() for w in words}
    assert all(any(w in normal(s) for w in out) for s in samples[:150])
    fixed = {t for t in parts.held_out_off_topic.templates if not slots(t)}
    assert fixed & set(samples[150:])
