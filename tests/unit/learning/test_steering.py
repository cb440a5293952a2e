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
        (["ラベルを書いてください。焙煎日と産地"], "Japanese"),
        (["日本語と中文", "カ"], "Japanese"),
        (["라벨을 써 주세요"], "Korean"),
        (["Поставь ещё одну строку в таблицу"], "the language of the texts"),
        (["ضع سطرًا آخر في الجدول"], "the language of the texts"),
        (["git push в ветку main и ещё раз"], "the language of the texts"),
        (["Schreib das bitte auf die nächste Seite"], "English"),
        (["123 !?"], "English"),
        ([], "English"),
    ],
)
def test_language_is_that_of_most_letters(texts: list[str], language: str) -> None:
    """East Asian when more than 0.7 of the letters are; exactly 0.7 is not more. Other scripts a model tells itself."""
    assert answer_language(texts) == language
