"""The analyser: what the full text reads, and what a question becomes."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.text import TERMS_CONSIDERED_MAX, clean, collapse, quoted, words_for_index, words_for_query


def test_plain_text_is_indexed_as_it_is() -> None:
    """Text without special scripts reaches the tokenizer unchanged."""
    assert words_for_index("Luna is a cat.") == "Luna is a cat."


def test_cjk_runs_become_characters_and_pairs() -> None:
    """A run of Chinese characters is findable by each character and each pair."""
    assert words_for_index("支付系统ok").split() == ["支", "付", "系", "统", "支付", "付系", "系统", "ok"]


def test_full_width_and_half_width_forms_are_unified() -> None:
    """Compatibility forms are indexed as the plain characters."""
    assert words_for_index("ＡＢＣ ｶﾅ").split() == ["ABC", "カ", "ナ", "カナ"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Where is the cat?", ("cat",)),
        ("who is who", ("who", "is")),
        ("支付系统", ("支付", "付系", "系统")),
        ("猫", ("猫",)),
        ("Cafe\u0301 Zürich", ("café", "zürich")),
        ('"AND" OR NEAR(x*) -y ^z', ("near", "x", "y", "z")),
        ("NEAR NOT", ("near",)),
        ("🐶?", ("emoji1f436",)),
        ("snake_case_name", ("snake", "case", "name")),
        ("", ()),
        ("?!… ", ()),
    ],
)
def test_questions_become_words(question: str, words: tuple[str, ...]) -> None:
    """A question is reduced to its telling words; when it has none, to all its words."""
    assert words_for_query(question) == words


def test_a_very_long_question_is_bounded() -> None:
    """A question of a hundred kilobytes becomes a bounded number of words, from both of its ends."""
    text = " ".join(f"word{i}" for i in range(20_000))
    words = words_for_query(text)
    assert len(words) == TERMS_CONSIDERED_MAX
    assert words[0] == "word0"


def test_clean_replaces_what_cannot_be_stored() -> None:
    """Lone surrogates and NUL are replaced, everything else stays."""
    assert clean("a\ud800b\x00c猫") == "a?b\ufffdc猫"


def test_collapse_puts_text_on_one_line() -> None:
    """Runs of whitespace become one space."""
    assert collapse("  a\n\n b\t c ") == "a b c"


@given(st.text(max_size=200))
def test_no_question_breaks_the_full_text_query(question: str) -> None:
    """Whatever the words are, quoted they are valid full-text strings."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (body, tokenize = 'porter unicode61 remove_diacritics 2')")
    for word in words_for_query(question):
        connection.execute("SELECT count(*) FROM t WHERE t MATCH ?", (quoted(word),)).get  # noqa: B018 (it runs it)
