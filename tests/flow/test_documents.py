"""Every command and snippet of README.md and docs/ is run, or says why not. The convention is in `documents.py`."""

import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.demo.questions import Pages
from tests.autoscaler.local.processes import alive, soon
from tests.flow.documents import WITH_KEYS, Block, DocumentError, Step, blocks, same, steps
from tests.flow.programs import ROOT, Stack, stack
from tests.flow.reader import reader

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def name_of(path: Path) -> str:
    """As in the repository."""
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    """Its text; README.md has to be there."""
    return path.read_text(encoding="utf-8")


def has_steps(path: Path) -> bool:
    """Whether anything is run of it."""
    try:
        return any(block.runs for block in blocks(text_of(path)))
    except (DocumentError, OSError):
        return False  # and the test of the convention says why


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pages: Pages) -> Iterator[Stack]:
    """What `make run` starts, on a free port; ended as with Ctrl-C. It asks its question, and shows the answer."""
    command = ("make", "--dry-run", "--no-print-directory", "run")
    recipe = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    program, up, *options = shlex.split(recipe)
    assert (program, up) == (".venv/bin/penstock", "up")
    with stack(tmp_path_factory.mktemp("made"), end_with=signal.SIGINT, options=options) as started:
        soon(lambda: pages.answer_to("What is Penstock?") in started.program.out)
        yield started


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_block_keeps_to_the_convention(path: Path) -> None:
    found = blocks(text_of(path))
    steps(found)
    for block in found:
        meant_to_run = block.comments.keys() & {"not run", "needs"}
        assert not meant_to_run or block.runnable, f"{name_of(path)}:{block.line} is of no language that is run"


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if has_steps(path)], ids=name_of)
def test_what_a_document_says_works(path: Path, made: Stack, flow: Stack, tmp_path: Path) -> None:
    keyed = WITH_KEYS in text_of(path)
    at_hand, key = (flow, flow.keys["flow"]) if keyed else (made, "none-needed")
    found = blocks(text_of(path))
    with reader(at_hand, key, made.program.folder / "out", tmp_path) as person:
        for block in found:
            if "file" in block.comments:
                person.write(block)
        wrong = [fault for step in steps(found) if (fault := person.follow(step)) is not None]
    assert not wrong, f"{name_of(path)}: " + "\n\n".join(wrong)


# -- the convention itself ----------------------------------------------------------------------------------------

EXAMPLE = """
<!-- not run: it needs a GPU -->
```bash
nvidia-smi
```

Text.

```console
$ echo a \\
  b
a b
$ true
```

~~~python
print(1)
~~~

```text
1
```

<!-- needs: nothing_of_that_name -->
```python
import nothing_of_that_name
```

Its output:

<!-- output -->
```json
{}
```

```yaml
a: 1
```
"""


def test_blocks_are_found_with_their_comments() -> None:
    found = blocks(EXAMPLE)
    assert [block.language for block in found] == ["bash", "console", "python", "text", "python", "json", "yaml"]
    assert found[0].comments == {"not run": "it needs a GPU"}
    assert [block.runs for block in found] == [False, True, True, False, True, False, False]
    assert [block.adjoins for block in found] == [False, False, True, True, True, False, True]
    assert found[0].line == 3


def test_steps_are_made_of_them() -> None:
    assert steps(blocks(EXAMPLE)) == (
        Step(10, False, "echo a \\\n  b", "a b", None),
        Step(13, False, "true", None, None),
        Step(16, True, "print(1)", "1", None),
        Step(25, True, "import nothing_of_that_name", "{}", "nothing_of_that_name"),
    )


def test_the_output_of_what_is_not_run_is_not_taken_for_anothers() -> None:
    text = "```bash\necho 1\n```\n<!-- not run: x -->\n```bash\necho 2\n```\n```text\n2\n```\n"
    assert [step.expected for step in steps(blocks(text))] == [None]


@pytest.mark.parametrize(
    "text",
    [
        "```bash\necho 1\n",
        "<!-- not run -->\n```bash\n```\n",
        "<!-- not run: -->\n```bash\n```\n",
        "<!-- output: x -->\n```text\n```\n",
        "```console\necho 1\n```\n",
    ],
)
def test_mistakes_are_told(text: str) -> None:
    with pytest.raises(DocumentError, match=r"line \d"):
        steps(blocks(text))


def test_a_comment_counts_only_right_above_its_block() -> None:
    apart = "<!-- not run: x -->\n\n```bash\n```\n"
    before_text = "<!-- not run: x -->\ntext\n```bash\n```\n"
    assert [block.runs for text in (apart, before_text) for block in blocks(text)] == [True, True]


@pytest.mark.parametrize(
    ("expected", "output", "right"),
    [
        ("a b", "a\n  b\n", True),
        ("a ... d", "a b c d", True),
        ("a\n...\nd", "a\nd", True),
        ("...d", "abcd", True),
        ("a ...", "a", True),
        ("a", "a b", False),
        ("a.b", "axb", False),
        ("a ... d", "a b c", False),
        ("a\\ b", "a b", False),
        ('{\n  "a": 1,\n  ...\n}', '{"a":1,"b":2}', True),
        ('{"a": 1}', '{"a":1,"b":2}', False),
    ],
)
def test_outputs_are_compared(expected: str, output: str, right: bool) -> None:
    assert same(expected, output) is right


def test_a_reader_notices_what_is_wrong(made: Stack, tmp_path: Path) -> None:
    def step(text: str, *, python: bool = False, expected: str | None = None) -> Step:
        return Step(1, python, text, expected, None)

    with reader(made, "", made.program.folder / "out", tmp_path) as person:
        assert person.follow(step("curl -sf http://127.0.0.1:8080/healthz")) is None
        assert person.follow(step("a = 1", python=True)) is None
        assert person.follow(step("print(a)", python=True, expected="1")) is None  # the same session
        assert person.follow(step("true && make test && penstock models && make run | grep -q /v1")) is None
        person.write(Block(1, "yaml", "at: localhost:8080", {"file": "x.yaml"}))
        assert person.follow(step("cat x.yaml", expected=f"at: {made.url.removeprefix('http://')}")) is None
        for wrong in (
            step("false; true"),
            step("false | true"),
            step("echo $NOTHING_OF_THAT_NAME"),
            step("pip install nothing"),
            step("echo 1", expected="2"),
            step("print(2)", python=True, expected="1"),
            step("raise SystemExit(0)", python=True),
            step("penstock delete nothing"),
            step("import os; os._exit(0)", python=True),
        ):
            assert person.follow(wrong) is not None, wrong


def test_a_command_that_does_not_end_is_ended_with_all_it_started(made: Stack, tmp_path: Path) -> None:
    text = "sleep 3600 & echo $! > pid; sleep 3600"
    with reader(made, "", made.program.folder / "out", tmp_path) as person:
        person.patience_s = 0.5
        assert "does not end" in (person.follow(Step(1, False, text, None, None)) or "")
    assert not alive(int((tmp_path / "pid").read_text()))
