"""Reads the fenced blocks of Markdown documents, and what their comments say about running them. Pure.

Blocks of `console`, `bash`, `sh` and `python` are run, those of a document in their order. In a `console` block the
lines that start with `$ ` are commands, and the lines after a command are its output; the other kinds are run whole. A
block of `text` or `json` that follows with nothing in between is the output of the one before. Comments on the lines
right above a block change that:

    <!-- not run: REASON -->     it is not run
    <!-- needs: MODULE -->       it is run where this Python module is installed
    <!-- output -->              it is the output of the block that was run last, though there is text in between
    <!-- file: NAME -->          it is written to a file of that name, before anything of the document is run

`<!-- run with keys -->` anywhere in a document: a key is needed; `$PENSTOCK_API_KEY` is one. Outputs are compared with
all white space taken as one space, JSON without any; `...` stands for anything.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

SHELL, PYTHON, SHOWN = frozenset({"console", "bash", "sh", "shell"}), frozenset({"python"}), frozenset({"text", "json"})
WITH_KEYS = "<!-- run with keys -->"
PROMPT = "$ "
_FENCE = re.compile(r"^(`{3,}|~{3,})\s*(\w*)")
_COMMENT = re.compile(r"^<!--\s*(not run|needs|output|file)\b\s*(:?)\s*(.*?)\s*-->$")


class DocumentError(ValueError):
    """A document does not keep to the convention above."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the line of its fence, its language, its text, its comments, and whether it stands right after
    another block.
    """

    line: int
    language: str
    text: str
    comments: dict[str, str] = field(default_factory=dict)
    adjoins: bool = False

    @property
    def runnable(self) -> bool:
        """Whether it is of a language that is run."""
        return self.language in SHELL | PYTHON

    @property
    def runs(self) -> bool:
        """Whether it is run."""
        return self.runnable and "not run" not in self.comments


@dataclass(frozen=True, slots=True)
class Step:
    """What is run at once: a shell text or a Python text, and the output it is to have, None for any."""

    line: int
    python: bool
    text: str
    expected: str | None
    needs: str | None


def blocks(text: str) -> tuple[Block, ...]:
    """Pure. The fenced blocks of a document.

    Raises:
        DocumentError: a fence is not closed, or a comment lacks what it should say.
    """
    found: list[Block] = []
    comments: dict[str, str] = {}
    lines = iter(enumerate(text.splitlines(), 1))
    adjoins = False
    for number, line in lines:
        if fence := _FENCE.match(line):
            body = "\n".join(_until(fence.group(1), lines, number))
            found.append(Block(number, fence.group(2), body, comments, adjoins))
            comments, adjoins = {}, True
        elif comment := _COMMENT.match(line):
            comments[comment.group(1)] = _said(comment, number)
        elif line.strip():
            comments, adjoins = {}, False
        else:
            comments = {}
    return tuple(found)


def _until(fence: str, lines: Iterator[tuple[int, str]], start: int) -> Iterator[str]:
    for _, line in lines:
        if line.rstrip() == fence:
            return
        yield line
    raise DocumentError(f"line {start}: the block is never closed")


def _said(comment: re.Match[str], line: int) -> str:
    name, colon, text = comment.groups()
    if (name == "output") == bool(text) or (name != "output") != bool(colon):
        raise DocumentError(f"line {line}: {name!r} has to be written as in tests/flow/documents.py")
    return str(text)


def steps(found: tuple[Block, ...]) -> tuple[Step, ...]:
    """Pure. What is run, in order."""
    made: list[Step] = []
    ran = just_ran = False
    for block in found:
        if block.runs:
            made += _steps_of(block)
            ran = just_ran = True
            continue
        is_output = (block.adjoins and just_ran) or ("output" in block.comments and ran)
        if block.language in SHOWN and "file" not in block.comments and is_output:
            made[-1] = replace(made[-1], expected=block.text)
        just_ran = False
        ran = ran and not block.runnable
    return tuple(made)


def _steps_of(block: Block) -> Iterator[Step]:
    needs = block.comments.get("needs")
    if block.language != "console":
        yield Step(block.line, block.language in PYTHON, block.text, None, needs)
        return
    command: list[str] = []
    output: list[str] = []
    start = block.line
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith(PROMPT):
            if command:
                yield Step(start, False, "\n".join(command), "\n".join(output) or None, needs)
            command, output, start = [line.removeprefix(PROMPT)], [], number
        elif command and command[-1].endswith("\\") and not output:
            command.append(line)
        elif command:
            output.append(line)
        else:
            raise DocumentError(f"line {number}: a console block begins with a command, {PROMPT!r} before it")
    if command:
        yield Step(start, False, "\n".join(command), "\n".join(output) or None, needs)


def same(expected: str, output: str) -> bool:
    """Pure. Whether an output is the expected one: white space is one space (in JSON: none), `...` is anything."""
    space = "" if expected.lstrip().startswith(("{", "[")) else " "
    pattern = ".*".join(re.escape(space.join(part.split())) for part in expected.split("..."))
    if space:  # around what was left out there may be some or none
        pattern = re.sub(r"(\\ )?\.\*(\\ )?", ".*", pattern)
    return re.fullmatch(pattern, space.join(output.split()), re.DOTALL) is not None
