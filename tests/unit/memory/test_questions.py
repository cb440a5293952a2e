"""Which questions ask for the assistant's own words, in languages other than English."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.fusion import USER, subject_of
from reverie.memory.questions import asks_what_assistant_said


@pytest.mark.parametrize(
    "question",
    [
        "你之前推荐的餐厅叫什么？",
        "你上次跟我说的书是哪一本",
        "你告诉过我哪个密码",
        "您的建议是什么？",
        "你剛才列出的清單在哪裡",
        "前に教えてくれたレシピは？",
        "あなたが勧めた本は何でしたか",
        "先週説明してくださった方法をもう一度",
        "지난번에 추천해 줬던 식당이 어디야?",
        "네가 제안한 이름이 뭐였지?",
        "알려준 방법이 뭐였어?",
        "¿Qué restaurante me recomendaste?",
        "¿Qué me habías dicho del viaje?",
        "¿Cuál era tu recomendación?",
        "Welches Buch hast du mir empfohlen?",
        "Das Restaurant, das du mir letzte Woche empfohlen hast",
        "Was haben Sie mir gestern geraten?",
        "Was war deine Empfehlung?",
        "Quel livre m'as-tu recommandé ?",
        "Qu'est-ce que tu m’as dit hier ?",
        "Quels étaient vos conseils ?",
    ],
)
def test_a_question_for_the_assistants_words_is_recognised(question: str) -> None:
    """It prefers nobody's words, in composed and in decomposed spelling."""
    assert asks_what_assistant_said(question)
    assert asks_what_assistant_said(unicodedata.normalize("NFD", question))
    assert subject_of(question, (), {}) is None


@pytest.mark.parametrize(
    "question",
    [
        "告诉我我的猫叫什么",
        "你能告诉我我的生日吗？",
        "我上次说了什么？",
        "妈妈推荐的餐厅叫什么",
        "猫の名前を教えてください",
        "私の誕生日を教えてくれますか",
        "내 생일을 알려줘",
        "우리 고양이 이름이 뭐야?",
        "¿Cuándo es mi cumpleaños?",
        "¿Qué dijo Ana?",
        "Wann habe ich Geburtstag?",
        "Was hat Petra über dich gesagt?",
        "Wo liegt die Liste?",
        "Quand est mon anniversaire ?",
        "Qu'a dit le médecin ?",
        "What did Petra recommend?",
        "",
    ],
)
def test_other_questions_are_about_the_user(question: str) -> None:
    """A request of now, and a question for somebody else's words, leave the user as subject."""
    assert not asks_what_assistant_said(question)
    assert subject_of(question, (), {}) == USER


@given(st.text(max_size=300))
def test_any_question_is_read(question: str) -> None:
    """Whatever a question holds, there is an answer."""
    assert asks_what_assistant_said(question) in {True, False}
