"""What a message asks for."""

from __future__ import annotations

import pytest

from reverie.learning.recall.channels import Found, LearnedQuery, by_meaning, identifiers_in, read_query
from reverie.learning.recall.learned_vectors import Near


def test_words_pairs_identifiers_and_errors_are_read_of_a_message() -> None:
    """Stop words are left out; pairs are of scripts without spaces only."""
    query = read_query("Why does the ci fail? 备份失败", lambda texts: ("EXIT_1",) if texts else ())

    assert query == LearnedQuery("Why does the ci fail? 备份失败", ("fail",), ("备份", "份失", "失败"), (), ("EXIT_1",))


def test_at_most_twelve_words_sixteen_pairs_and_eight_identifiers() -> None:
    """However long it is."""
    words = " ".join(f"uncommonword{each}" for each in range(50))
    ids = " ".join(f"identifier-number-{each}" for each in range(50))
    signs = "一二三四五六七八九十甲乙丙丁戊己庚辛壬癸子丑寅卯" * 3
    query = read_query(f"{words} {ids} {signs}", lambda _texts: ("e",) * 9)

    assert (len(query.words), len(query.identifiers), len(query.signatures)) == (12, 8, 4)
    assert len(query.terms) <= 16


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see order-2026-11-03-00417.", ("order-2026-11-03-00417",)),
        ("sixteen chars: abcdefghijklmno1", ("abcdefghijklmno1",)),
        ("fifteen: abcdefghijklm-1", ()),
        ("no digit or sign: abcdefghijklmnopqrst", ()),
        ("too long: " + "a1" * 65, ()),
        ("twice a_name_of_something a_name_of_something", ("a_name_of_something",)),
        ("中文order-2026-11-03-00417中文", ("order-2026-11-03-00417",)),
    ],
)
def test_an_identifier_is_long_and_has_a_digit_or_a_sign(text: str, found: tuple[str, ...]) -> None:
    """One that is too long is none: it is not cut to one that would match something else."""
    assert identifiers_in(text) == found


def test_a_similarity_below_zero_is_none() -> None:
    """Ranks count from 0."""
    near = [Near("trace", True, (("a", 0.5), ("b", -0.1)))]

    assert by_meaning(near) == (Found("trace", "a", "vec_action", 0, 0.5),)
