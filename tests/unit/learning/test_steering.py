"""Steering: the language of an answer."""

from __future__ import annotations

import pytest

from reverie.learning.steering import answer_language


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["install the headers"], "English"),
        (["安装编译器和头文件"], "Chinese"),
        (["七个字的中文文", "abc"], "English"),
        (["八个字的中文文字", "abc"], "Chinese"),
        (["123 !?"], "English"),
        ([], "English"),
    ],
)
def test_language_is_that_of_most_letters(texts: list[str], language: str) -> None:
    """Chinese when more than 0.7 of the letters are CJK; exactly 0.7 is not more."""
    assert answer_language(texts) == language
