"""The committed model, loaded with transformers: it answers what the pages ask, exactly, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from engines.demo import MODEL_ID, model_dir
from engines.demo.measure import Pupil, ask, chats, score
from engines.demo.questions import read_pages
from engines.demo.split import off_topic_samples, split

PAGES = read_pages(Path(__file__).parents[3] / "docs" / "qa")
NO = PAGES.off_topic.answer
SEED = 0  # the seed in engines/demo/model/README.md


@pytest.fixture(scope="module")
def pupil():
    return Pupil(model_dir())


def user(text):
    return [{"role": "user", "content": text}]


def test_finding_the_model_imports_nothing_heavy():
    code = "import sys, engines.demo as d; assert d.model_dir().is_dir(); print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert not {"torch", "transformers", "tokenizers"} & set(found.stdout.split())
    assert MODEL_ID == "penstock/demo"


def test_the_folder_has_what_an_engine_needs():
    names = {p.name for p in model_dir().iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
    }
    assert sum(p.stat().st_size for p in model_dir().iterdir()) < 6_000_000


def test_every_first_phrasing_is_answered_exactly(pupil):
    found = score("first phrasings", pupil, [ask(e.title, e.answer) for e in PAGES.entries])
    assert not found.wrong, found.wrong


def test_a_share_of_other_phrasings_is_answered_exactly_and_none_is_refused(pupil):
    found = score(
        "other phrasings", pupil, [ask(e.phrasings[1 + i % 5], e.answer) for i, e in enumerate(PAGES.entries)]
    )
    assert found.right >= 0.95, found.wrong
    assert not [w for w in found.wrong if w[1] == NO]


def test_held_out_phrasings_and_off_topic_questions(pupil):
    parts = split(PAGES, SEED)
    kept = score("held out", pupil, [ask(q, a) for q, a in parts.held_out])
    assert kept.right >= 0.78, kept.wrong  # 0.82 when these weights were made, see docs/demo-model.md
    others = score("off topic", pupil, [ask(q, NO) for q in off_topic_samples(parts, 120, 2)])
    assert others.right >= 0.9, others.wrong  # 0.93 when these weights were made


def test_the_last_question_of_a_chat_is_answered(pupil):
    found = score("chats", pupil, list(chats(PAGES, 60, 7)))
    assert found.right >= 0.95, found.wrong


def test_the_same_question_gets_the_same_answer_alone_and_in_a_batch(pupil):
    asked = [user(e.title) for e in PAGES.entries[:8]]
    together = pupil.answers(asked)
    assert together == pupil.answers(asked)
    assert together[:3] == [pupil.answers([q])[0] for q in asked[:3]]


def test_an_answer_cut_between_any_two_tokens_is_continued_as_it_was(pupil):
    entry = PAGES.entries[0]
    ids = pupil.tokenizer.encode(entry.answer)
    begun = [pupil.tokenizer.decode(ids[:cut]) for cut in range(1, len(ids))]
    chats_so_far = [[*user(entry.title), {"role": "assistant", "content": text}] for text in begun]
    rests = pupil.answers(chats_so_far, add_generation_prompt=False, continue_final_message=True)
    assert [text + rest for text, rest in zip(begun, rests, strict=True)] == [entry.answer] * len(begun)


def test_plain_completion_speaks_of_penstock(pupil):
    whole = "Penstock is" + pupil.complete(["Penstock is"])[0]
    assert whole.startswith(PAGES.answer_to("What is Penstock?"))
    assert pupil.complete(["Q: What is TTFT?\nA:"])[0].strip() == PAGES.answer_to("What is TTFT?")


def test_the_template_renders_turns_parts_and_unknown_roles(pupil):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hel"},
                {"type": "image_url"},
                {"type": "text", "text": "lo"},
            ],
        },
        {"role": "assistant", "content": None},
        {"role": "user", "content": "\n Hi "},
    ]
    render = pupil.tokenizer.apply_chat_template
    turns = "<|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|><|end|><|user|>\n Hi <|end|>"
    assert render(messages, tokenize=False) == turns
    assert render(messages, tokenize=False, add_generation_prompt=True) == turns + "<|assistant|>"
    begun = [*messages, {"role": "assistant", "content": "Good d"}]
    assert render(begun, tokenize=False, continue_final_message=True) == turns + "<|assistant|>Good d"
    ids = render(messages, add_generation_prompt=True, return_dict=False)
    assert ids == pupil.tokenizer.encode(turns + "<|assistant|>")


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "?",
        " ",
        "🙂",
        "a" * 200,
        "<|assistant|>",
        "1 2 3 4 5 6 7 8 9 " * 30,
        "SELECT * FROM users;",
        "Wer bist du denn?",
    ],
)
def test_an_odd_question_gets_a_whole_answer(pupil, odd):
    answer = pupil.answers([user(odd)])[0]
    assert answer in {NO, *(e.answer for e in PAGES.entries)}, answer
