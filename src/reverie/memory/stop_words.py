"""Words that say nothing about what a question is about, by language.

Written for questions: articles, pronouns, prepositions, auxiliaries, question words.

Languages that share an alphabet share words: German `die` is an English verb. So English always counts, and another
language's words only where the question shows that it is in that language (`stop_words_in`). In scripts of their own
no such proof is needed. Chinese, Japanese and Thai have no spaces to tell words by: there the function words are the
places at which a question is cut (`CUT_*`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from reverie.memory.scripts import HAN, KATAKANA, MARKS, fold

if TYPE_CHECKING:
    from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    """The words of a list, each also without its accents, as many write it."""
    folded, _ = fold(text)
    return frozenset((*folded.split(), *_unaccented(folded).split()))


def _unaccented(text: str) -> str:
    bare = "".join(char for char in unicodedata.normalize("NFD", text) if not "\u0300" <= char <= "\u036f")
    return unicodedata.normalize("NFC", bare)


ENGLISH = _words("""
a about above after again against all am an and any are aren as at be because been before being below between both but
by can cannot could couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn
have haven having he her here hers herself him himself his how i if in into is isn it its itself just let ll m me more
most mustn my myself no nor not now of off on once only or other our ours ourselves out over own re s same shan she
should shouldn so some such t than that the their theirs them themselves then there these they this those through to
too under until up ve very was wasn we weren were what when where which while who whom whose why will with won would
wouldn you your yours yourself yourselves tell please give show list mention kind type according
""")

_GERMAN = _words("""
der die das den dem des ein eine einen einem einer eines ich du er sie es wir ihr mich dich sich uns euch mir dir ihm
ihn ihnen mein meine meinen meinem meiner dein deine deinen deinem deiner sein seine seinen seinem seiner ihre ihren
ihrem ihrer unser unsere unseren unserem euer eure und oder aber denn weil dass ob wenn als wie was wer wen wem wo wann
warum wieso woher wohin welche welcher welches welchen welchem ist sind war waren bin bist seid hat habe haben hatte
hatten hast habt wird werden wurde wurden kann kannst konnte muss musste soll sollte will wollte mit von vom zu zum zur
im in am an auf aus bei beim nach vor für über unter um durch gegen ohne bis seit zwischen auch noch nur schon so dann
da hier dort man doch mal bitte
""")
_FRENCH = _words("""
le la les l un une des du de d au aux et ou mais donc car ni que qu qui quoi quand où comment pourquoi combien quel
quelle quels quelles je j tu il elle on nous vous ils elles me m te t se s lui leur leurs y en mon ma mes ton ta tes son
sa ses notre nos votre vos ce c cet cette ces ça cela est es suis sommes êtes sont était étaient ai as a avons avez ont
avait fait été être avoir à dans par pour sur sous avec sans chez vers entre comme si plus aussi très déjà encore
""")
_SPANISH = _words("""
el la los las un una unos unas lo al del de y e o u pero porque que qué quién quien quiénes cuál cual cuáles cuándo
cuando dónde donde cómo como cuánto cuánta cuántos cuántas por para con sin sobre entre hasta desde en a ante tras yo
tú tu él ella nosotros ustedes ellos ellas me te se nos le les mi mis tus su sus nuestro nuestra este esta esto estos
estas ese esa eso esos esas aquel aquella es son era eran fue fueron ser soy eres está están estaba estar hay ha han he
has había si sí también muy más ya
""")
_PORTUGUESE = _words("""
o a os as um uma uns umas de do da dos das em no na nos nas ao aos à às por pelo pela pelos pelas para com sem sobre
entre até desde e ou mas porque que quê quem qual quais quando onde como quanto quanta quantos quantas eu tu você ele
ela nós vocês eles elas me te se lhe lhes meu minha meus minhas teu tua seu sua seus suas nosso nossa este esta isto
esse essa isso aquele aquela aquilo é são era eram foi foram ser está estão estava estar tem têm tinha há já também
muito mais
""")
_RUSSIAN = _words("""
и в во не на я он она оно они мы вы ты с со к ко у о об от до за из изо по под при про для без над между через а но
или же ли бы то что чтобы как так где когда куда откуда кто кого кому кем чем чего чему почему зачем какой какая какое
какие какого каком сколько который которая которое которые это этот эта эти тот та те мой моя моё мои твой твоя твои
его её их наш наша наши ваш ваша ваши меня мне мной тебя тебе нас нам вас вам ему ей им был была было были есть быть
будет уже ещё тоже вот
""")
_ARABIC = _words("""
في من إلى على عن مع هو هي هم هما نحن أنا أنت أنتم هذا هذه ذلك تلك هؤلاء الذي التي الذين ما ماذا متى أين كيف لماذا كم
هل أي أية كان كانت كانوا يكون قد لقد ثم أو أم و ف ب ل ك إن أن لكن بل حتى منذ بين عند لدى كل بعض غير سوى إذا لو كما
""")
KOREAN = _words("""
나는 너는 저는 나를 너를 저를 나의 너의 저의 나도 너도 저도 내가 네가 제가 그리고 하지만 그런데 그래서 그러나 또는
혹은 및 나 너 저 우리 저희 당신 그 이 저것 이것 그것 거 것 수 등 때 내 제 네 어디 언제 누구 누가 무엇 뭐 뭘 무슨 어떤
어느 어떻게 왜 얼마 얼마나 몇 있다 있어 있어요 있나요 있습니까 있는 했어 했어요 했나요 했습니까 하는 한 할 해 인가요
입니까 입니다 이에요 예요 이야 였어 였나요 였지 였더라 이었어 대해 대한 알려줘 말해줘 좀 더
""")

_OTHERS = (_GERMAN, _FRENCH, _SPANISH, _PORTUGUESE)
_ALSO_ENGLISH = _words("""
die man hat war am bin den so an in was will car pour son comment on par chez sur tout plus sans des est mes tu me he no
as do a has era once mas ser mi un son lo si de la le los las el du fait sous ton ni se en er es ist was da im all du
""")
"""Words of another language that an English question may hold, in its words or its names: they prove nothing."""
_ALWAYS = ENGLISH | _RUSSIAN | _ARABIC
STOP_WORDS = _ALWAYS.union(*_OTHERS)
"""The stop words of every language that writes spaces, but Korean."""
_ONLY_ENGLISH = ENGLISH.difference(*_OTHERS)


def stop_words_in(words: Iterable[str]) -> frozenset[str]:
    """The stop words for a question with these words, which are folded and lower-case."""
    plain = set(words)
    proof = [len(plain & own) for own in _PROVING]
    most = max(proof)
    stops = _ALWAYS
    if most > len(plain & _ONLY_ENGLISH):
        stops = stops.union(*(own for own, count in zip(_OTHERS, proof, strict=True) if count == most))
    return stops


_PROVING = tuple(frozenset(word for word in own - ENGLISH - _ALSO_ENGLISH if len(word) > 1) for own in _OTHERS)

_TWO_SYLLABLES = ("에서", "으로", "에게", "한테", "처럼", "같이", "보다", "까지", "부터", "마다", "밖에", "대로")
_ONE_SYLLABLE = ("은", "는", "이", "가", "을", "를", "의", "에", "로", "와", "과", "도", "만")
_STACKED = tuple(case + topic for case in (*_TWO_SYLLABLES, "에", "로", "와", "과") for topic in ("는", "도", "만"))
_PARTICLES = frozenset({*_STACKED, *_TWO_SYLLABLES, *_ONE_SYLLABLE})
"""What Korean writes at the end of a word: a particle, or one of place and one of topic."""
_PARTICLE_SYLLABLES_MAX = 3


def stem(word: str) -> str:
    """A Korean word without its particle; at least one syllable stays."""
    for size in range(min(_PARTICLE_SYLLABLES_MAX, len(word) - 1), 0, -1):
        if word[-size:] in _PARTICLES:
            return word[:-size]
    return word


def _cut(text: str, *patterns: str, after: str = "") -> re.Pattern[str]:
    """Any of the words, the longest first, each with `after`; else one of the patterns.

    Every pattern begins with the character that is cut, so that the rest of a question is passed over quickly.
    """
    longest_first = sorted(map(re.escape, fold(text)[0].split()), key=len, reverse=True)
    return re.compile("|".join((*(word + after for word in longest_first), *patterns)))


CUT_CHINESE = _cut(
    """
    我们 你们 他们 她们 它们 咱们 我們 你們 他們 她們 它們 咱們 什么 什麼 甚麼 怎么 怎麼 怎样 怎樣 哪里 哪裡 哪儿
    哪兒 哪个 哪個 哪些 哪位 哪天 为什么 為什麼 为何 為何 多少 是不是 有没有 有沒有 这个 這個 那个 那個 这些 這些
    那些 这里 這裡 那里 那裡 因为 因為 所以 但是 如果 或者 以及 还是 還是 一下 请问 請問 告诉 告訴 关于 關於 什么时候
    什麼時候 是谁 是誰
    """,
    "的(?<![目标]的)(?![确士確])",
    "了(?!解)",
    "是(?<![于於]是)(?!否)",
    "在(?<![现現存实實正内內]在)(?![线線于於])",
    *"吗嗎呢吧啊呀嘛我你您他她它谁誰很这這",
)
"""Where a Chinese question is cut: pronouns, particles, question words; not where they are part of a common word."""

CUT_JAPANESE = _cut(
    """
    です でした ます ました ません でしょう ください だった である では には とは から まで より など という について
    した して する しました している していた いる いた ある あった あります います いました これ それ あれ どれ この
    その あの どの ここ そこ どこ いつ だれ なに なん どう なぜ どうして どんな いくつ いくら こと もの たち さん
    ちゃん くん 何 誰 私 僕 俺 教えて
    """,
    *(f"{particle}(?<=[{HAN}{KATAKANA}]{particle})" for particle in "はがをにのへともでや"),
    "も(?<=[はがをにのへと]も)",
    *(f"{particle}$" for particle in "かねよ"),
    "を",
)
"""Where a Japanese question is cut: particles after a word in kanji or katakana, auxiliaries, question words."""

CUT_THAI = _cut(
    "ที่ไหน เมื่อไร เมื่อไหร่ ทำไม อย่างไร ยังไง อะไร ใคร เท่าไร เท่าไหร่ หรือ หรือเปล่า ครับ และ ของ",
    "ไหม$",
    after=f"(?![{MARKS}])",
)
"""Where a Thai question is cut: question words and the few particles that stand in no other word."""
