"""In which language a model writes."""

from __future__ import annotations

from reverie.learning.language import answer_language


def test_mostly_chinese_is_chinese() -> None:
    """Above seven letters in ten; marks and digits are no letters."""
    assert answer_language("请修复 build") == "English"
    assert answer_language("请修复这个构建脚本并且重新部署 ok 12345 !!!") == "Chinese"
    assert answer_language("") == "English"
    assert answer_language("构建修复完成了abc") == "English"
    assert answer_language("构建修复完成了啊abc") == "Chinese"
