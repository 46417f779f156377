"""What is due when: a table, and a day in the life of a slow stream."""

import pytest

from gateway.metering import Outcome, outcome_of
from gateway.relay.patience import Due, Patience, Wait, judge

PATIENCE = Patience(first_byte_s=10, idle_s=5, total_s=60, comment_s=3)


def wait(
    *,
    start_s: float = 0,
    sent_s: float | None = 0,
    last_s: float | None = None,
    comment_s: float | None = None,
    done: bool = False,
) -> Wait:
    return Wait(start_s, sent_s, last_s, comment_s, done)


@pytest.mark.parametrize(
    ("waiting", "now", "due", "says"),
    [
        (wait(), 1, Due.NOTHING, ""),
        (wait(), 10.5, Due.GIVE_UP, "no first byte within 10 s"),
        (wait(sent_s=None), 10.5, Due.NOTHING, ""),  # it waits for a connection, which has a limit of its own
        (wait(comment_s=0), 2.9, Due.NOTHING, ""),
        (wait(comment_s=0), 3, Due.COMMENT, ""),
        (wait(sent_s=None, comment_s=0), 3, Due.COMMENT, ""),
        (wait(comment_s=0), 11, Due.GIVE_UP, "no first byte"),
        (wait(last_s=20), 24, Due.NOTHING, ""),
        (wait(last_s=20, comment_s=0), 24, Due.NOTHING, ""),  # the line is alive: no comments between tokens
        (wait(last_s=20), 25.5, Due.GIVE_UP, "fell silent for 5 s"),
        (wait(last_s=20, done=True), 20.5, Due.NOTHING, ""),
        (wait(last_s=20, done=True), 21.5, Due.END, ""),
        (wait(last_s=60), 60.5, Due.GIVE_UP, "longer than 60 s in all"),
    ],
)
def test_what_is_due(waiting: Wait, now: float, due: Due, says: str) -> None:
    found, reason = judge(PATIENCE, waiting, now)
    assert found is due
    assert says in reason
    assert bool(reason) == (due is Due.GIVE_UP)


def test_no_comments_where_they_are_off() -> None:
    patience = Patience(first_byte_s=100, idle_s=5, total_s=600, comment_s=0)
    assert judge(patience, wait(comment_s=0), 99)[0] is Due.NOTHING


def test_a_slow_first_token_gets_a_comment_every_three_seconds_and_then_an_end() -> None:
    comments, last = [], 0.0
    for now in range(12):
        due, reason = judge(PATIENCE, wait(comment_s=last), now)
        if due is Due.COMMENT:
            comments.append(now)
            last = now
        if due is Due.GIVE_UP:
            break
    assert comments == [3, 6, 9]
    assert (now, reason) == (11, "The engine gave no first byte within 10 s.")


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, Outcome.CLIENT_ERROR),
        (422, Outcome.CLIENT_ERROR),
        (429, Outcome.OVERLOADED),
        (500, Outcome.ENGINE_ERROR),
        (503, Outcome.ENGINE_ERROR),
        (504, Outcome.TIMEOUT),
    ],
)
def test_outcome_words(status: int, word: Outcome) -> None:
    assert outcome_of(status) is word
