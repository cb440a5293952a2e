"""What a judge is shown of a task: what was asked, done and replied, over all of its episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.learning.steps.normalise import one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reverie.learning.credit.task_steps import Exchange

WHO = "An agent worked for a user. Whoever reads this is the judge of that work: neither the agent nor the user."
SIZES = ((300, 400), (150, 200), (80, 100), (40, 50))
"""Characters of a request and of a reply: the first pair with which all exchanges fit is taken."""
CARRY_OVER_CHARS = 300
TOOLS_CHARS = 160
REPLY_HEAD_CHARS, REPLY_TAIL_CHARS = 2_000, 3_000
"""Of the last reply, which weighs most, so much is shown beside the rest."""


def task_summary(exchanges: Sequence[Exchange], carry_over: str, chars_max: int) -> str:
    """The exchanges of a task in at most so many characters: of many, each is shown with less.

    What does not fit even then is left out in the middle. The last reply is not part of it: see `last_reply`.
    """
    texts = ("\n".join(_lines(exchanges, carry_over, *sizes)) for sizes in SIZES)
    fitting = next((text for text in texts if len(text) <= chars_max), None)
    return fitting or shortened("\n".join(_lines(exchanges, carry_over, *SIZES[-1])), chars_max)


def last_reply(text: str) -> str:
    """The last reply of a task: its beginning and its end, when it is long."""
    if len(text) <= REPLY_HEAD_CHARS + REPLY_TAIL_CHARS:
        return text
    return f"{text[:REPLY_HEAD_CHARS]}\n[…]\n{text[-REPLY_TAIL_CHARS:]}"


def _lines(exchanges: Sequence[Exchange], carry_over: str, ask_chars: int, reply_chars: int) -> Iterator[str]:
    yield WHO
    if carry_over:
        yield f"Before: {one_line(carry_over, min(CARRY_OVER_CHARS, ask_chars))}"
    for number, exchange in enumerate(exchanges, start=1):
        if exchange.ask:
            yield f"{number}. User: {one_line(exchange.ask, ask_chars)}"
        if exchange.tools:
            yield f"   Tools: {one_line(exchange.tools, TOOLS_CHARS)}"
        if exchange.reply:
            last = number == len(exchanges)
            yield "   Agent: (shown apart)" if last else f"   Agent: {one_line(exchange.reply, reply_chars)}"
