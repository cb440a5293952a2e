"""A workspace file in fewer words, by rule."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.context.condensing import condensed
from reverie.llm.tokens import raw_tokens

LINES = st.lists(
    st.one_of(
        st.sampled_from(["# One", "## Two", "### Drei", "```", "- a fact", "", "Likes tea.", "日本語の行" * 20]),
        st.text(st.characters(exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=300),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(LINES, st.integers(1, 400))
def test_it_never_exceeds_its_bound_and_is_always_the_same(lines: list[str], tokens: int) -> None:
    """What fits is as it was."""
    text = "\n".join(lines)
    short = condensed(text, tokens)

    assert raw_tokens(short) <= max(tokens, raw_tokens("[… 1,000 lines …]") + 1)
    assert condensed(text, tokens) == short
    assert raw_tokens(text) > tokens or short == text


def test_headings_and_short_sections_stay_and_long_ones_keep_both_ends() -> None:
    """What was written first, what was written last, and how much stood between."""
    long = "\n".join(f"- fact {number} of the boat" for number in range(1, 401))
    text = f"# Memory\n\nLikes tea.\n\n## Boats\n{long}\n\n## People\nAnn is the skipper.\n"
    short = condensed(text, 300)

    assert short.startswith("# Memory\n\nLikes tea.\n\n## Boats\n- fact 1 of the boat\n- fact 2")
    assert short.endswith("- fact 400 of the boat\n\n## People\nAnn is the skipper.")
    assert "\n[… 3" in short
    assert 220 < raw_tokens(short) <= 300


def test_what_looks_like_a_heading_in_code_is_none() -> None:
    """A comment of a shell script opens no section."""
    code = "\n".join(["```sh", *("# step" for _ in range(200)), "```"])

    assert condensed(f"# Run\n{code}", 60).count("# step") < 40


def test_a_file_of_headings_alone_keeps_its_ends() -> None:
    """There is no room for any text, so they are lines like others."""
    text = "\n".join(f"## Heading number {number}" for number in range(500))
    short = condensed(text, 100)

    assert short.startswith("## Heading number 0\n")
    assert short.endswith("## Heading number 499")


def test_one_line_that_is_too_long_is_cut() -> None:
    """There is no line end to cut at."""
    short = condensed("word " * 5_000, 100)

    assert short.startswith("word word")
    assert short.endswith("\n[… a line …]")
