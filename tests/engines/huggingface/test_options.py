"""The command line."""

from pathlib import Path

import pytest

from engines.huggingface.options import parse


def test_flags_as_kserve_writes_them() -> None:
    found = parse(["--model_name=demo", "--model_id=penstock/demo", "--dtype=half", "--http_port=9", "--backend=auto"])
    assert (found.model_name, found.model_id, found.dtype, found.port) == ("demo", "penstock/demo", "float16", 9)


def test_the_name_defaults_to_the_id_or_the_folder() -> None:
    assert parse(["--model_id", "a/b"]).model_name == "a/b"
    assert parse(["--model_dir", "/x/qwen"]).model_name == "qwen"


def test_threads_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ENGINE_THREADS", "3")
    assert parse(["--model_id", "a"]).threads == 3
    assert parse(["--model_id", "a", "--threads", "2"]).threads == 2


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--model_id", "a", "--nonsense", "1"], "unrecognized arguments: --nonsense"),
        (["--model_id", "a", "--mod", "1"], "unrecognized arguments: --mod"),
        (["--model_id", "a", "--port", "eighty"], "'eighty' is not a whole number from 0 to 65535"),
        (["--model_id", "a", "--port", "70000"], "70000 is out of range: from 0 to 65535"),
        (["--model_id", "a", "--max_batch_size", "0"], "0 is out of range: at least 1"),
        (["--model_id", "a", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["--model_id", "a", "--task", "fill_mask"], "invalid choice: 'fill_mask'"),
        (["--model_id", "a", "--backend", "vllm"], "invalid choice: 'vllm'"),
        (["--model_id", "a", "--model_dir", "b"], "give --model_id or --model_dir, not both"),
        ([], "give --model_id or --model_dir"),
    ],
)
def test_mistakes_get_one_sentence(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not argv and Path("/mnt/models").is_dir():
        pytest.skip("this machine has a model mounted")
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
