"""Whom a question is about, as far as its wording tells: does it ask for what the assistant said?

One pattern a language, each for questions about the past: what you said, recommended, explained; your answer, your
list. A request of now (tell me, can you recommend) is no such question. Where a wording is doubtful the answer is no
more than that nobody's words are preferred.
"""

from __future__ import annotations

import re
import unicodedata

QUESTION_CHARS_MAX = 4_000

_SAID_BY_ASSISTANT = {
    "chinese": r"""
        [你您](?:之前|上次|刚才|剛才|刚刚|剛剛|以前|当时|當時|昨天|前面|曾经|曾經)[^，。？！]{0,8}?
          (?:说|說|讲|講|推荐|推薦|建议|建議|提|告诉|告訴|列|解释|解釋|写|寫|介绍|介紹|给|給)
        |[你您](?:给我|給我|跟我|对我|對我|向我)?(?:说|說|讲|講|推荐|推薦|建议|建議|提到|提|告诉我?|告訴我?|介绍|介紹|写|寫|列)
          (?:过|過|了|的)
        |[你您]的(?:建议|建議|推荐|推薦|回答|答案|解释|解釋|清单|清單|列表)
        """,
    "japanese": r"""
        (?:教えて|勧めて|薦めて|すすめて|おすすめして|提案して|説明して|紹介して|言って|書いて|挙げて)
          (?:くれ(?:た|ました|てた)|くださ(?:った|いました)|いただ(?:いた|きました))
        |(?:あなた|君|きみ)[がはの][^。？]{0,20}?(?:言っ|勧め|薦め|すすめ|提案|教え|説明|紹介|アドバイス|回答|答え)
        """,
    "korean": r"""
        (?:추천|말|제안|조언|설명|언급|소개|얘기|이야기|권)해\s?(?:줬|주셨|주었|준|주신)
        |알려\s?(?:줬|주셨|주었|준\b|주신)
        |(?:네가|니가|당신이|너는|넌|당신은)[^.?]{0,20}?(?:추천|말했|말한|제안|조언|설명|언급|알려)
        |\b(?:너의|네|당신의)\s(?:추천|조언|제안|답변|설명)
        """,
    "spanish": r"""
        \b(?:dijiste|recomendaste|sugeriste|mencionaste|aconsejaste|explicaste|contaste|diste|propusiste|escribiste)\b
        |\b(?:has|hab[ií]as)\s(?:dicho|recomendado|sugerido|mencionado|aconsejado|explicado|dado|propuesto|escrito)\b
        |\btus?\s(?:recomendaci[oó]n|recomendaciones|sugerencias?|consejos?|respuestas?|explicaci[oó]n|lista)\b
        """,
    "german": r"""
        \b(?:hast|hattest)\sdu\b
        |\b(?:du|sie)\s(?:\w+\s){0,6}?(?:gesagt|empfohlen|vorgeschlagen|erwähnt|geraten|erklärt|beschrieben|genannt)
          \s(?:hast|hattest|haben|hatten)\b
        |\b(?:haben|hatten)\sSie\s(?:\w+\s){0,6}?(?:gesagt|empfohlen|vorgeschlagen|erwähnt|geraten|erklärt|genannt)\b
        |\bdeine?[rnm]?\s(?:empfehlung|vorschl[aä]g|rat|antwort|erklärung|liste)(?:e|en|s)?\b
        """,
    "french": r"""
        \b(?:tu\s(?:m')?(?:as|avais)|as-tu|avais-tu|vous\s(?:m')?(?:avez|aviez)|avez-vous|aviez-vous)
          \s(?:\w+\s){0,3}?(?:dit|recommandée?s?|suggérée?s?|conseillée?s?|mentionnée?s?|proposée?s?|expliquée?s?|donnée?s?)\b
        |\b(?:ta|tes|votre|vos)\s(?:recommandation|suggestion|conseil|réponse|explication|liste)s?\b
        """,
}
_ASKED = re.compile("|".join(f"(?:{pattern})" for pattern in _SAID_BY_ASSISTANT.values()), re.IGNORECASE | re.VERBOSE)


def asks_what_assistant_said(question: str) -> bool:
    """Whether a question in Chinese, Japanese, Korean, Spanish, German or French asks for the assistant's words."""
    composed = unicodedata.normalize("NFC", question[:QUESTION_CHARS_MAX]).replace("\u2019", "'")
    return _ASKED.search(composed) is not None
