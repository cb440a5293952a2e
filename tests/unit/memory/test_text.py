"""The analyser: what the full text reads, and what a question becomes."""

from __future__ import annotations

import time
import unicodedata

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.scripts import fold, readable
from reverie.memory.stop_words import stem
from reverie.memory.text import (
    ANALYSER_VERSION,
    NAME_CHARS_MAX,
    TERMS_CONSIDERED_MAX,
    clean,
    collapse,
    quoted,
    words_and_parts_for_index,
    words_for_index,
    words_for_query,
    words_of_name,
)

EXPANSION_MAX = 40
"""How many times longer a text may become: one square of six kana, each a character, in two pairs, and a space."""

SCRIPTS = st.text(
    st.sampled_from(
        "aZ9 _-./\\:@#,猫京都のネコが고양이는กแมวชิ่าเクﾊﾟ㌖ﷺكَالإ٣हिन्दी़ßİıé\u0301🐶🇩🇪👩\u200d💻🏽\ufe0f\ud800\x00\u200b"
    ),
    max_size=200,
)


def full_text(*rows: str) -> apsw.Connection:
    """A full-text table as the index has it, with some prepared rows numbered from 1."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (body, tokenize = 'porter unicode61 remove_diacritics 2')")
    connection.executemany("INSERT INTO t VALUES (?)", [(" ".join(words_and_parts_for_index(row)),) for row in rows])
    return connection


def rows_with(connection: apsw.Connection, term: str) -> list[int]:
    """The numbers of the rows that hold a term."""
    return [row[0] for row in connection.execute("SELECT rowid FROM t WHERE t MATCH ?", (quoted(term),))]


def test_the_version_tells_old_indexes_apart() -> None:
    """An index of another version holds other words, so the version is a number that only grows."""
    assert ANALYSER_VERSION == 2


def test_plain_text_is_indexed_as_it_is() -> None:
    """Text without special scripts reaches the tokenizer unchanged."""
    assert words_for_index("Luna is a cat.") == "Luna is a cat."
    assert words_for_index("Luna’s “café” – très bien…") == "Luna’s “café” – très bien..."


def test_cjk_runs_become_characters_and_pairs() -> None:
    """A run of Chinese characters is findable by each character and each pair."""
    assert words_for_index("支付系统ok").split() == ["支", "付", "系", "统", "支付", "付系", "系统", "ok"]
    assert words_for_index("今天讨论").split() == ["今", "天", "讨", "论", "今天", "天讨", "讨论"]
    assert "我好" not in words_for_index("我a好")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ＡＢＣ ｶﾅ", "ABC カ ナ カナ カナ カナ"),
        ("京都の寺", "京 都 の 寺 京都 都の の寺 京都 寺 京都 寺"),
        ("책을", "책 을 책을 책 책"),
        ("กาแฟ", "กา แฟ กาแฟ กาแฟ กาแฟ"),
        ("我们", "我 们 我们 我们 我们"),
    ],
)
def test_a_word_that_stands_apart_counts_more(text: str, words: str) -> None:
    """One or two characters between spaces, particles or other scripts are indexed three times."""
    assert words_for_index(text).split() == words.split()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("maxRetryCount", "max retry count"),
        ("class HTTPServerConfig(Base)", "http server config"),
        ("fooBar fooBar bazQux", "foo bar baz qux"),
        ("the foo of fooBar, not foo1", "bar"),
        ("URLs and PDFs of NASA", ""),
        ("iPhone", "phone"),
        ("größer: ｆｏｏＢａｒ", "foo bar"),
        ("aB" * NAME_CHARS_MAX, ""),
        ("plain words, snake_case, kebab-case", ""),
    ],
)
def test_names_told_apart_by_case_are_indexed_in_parts(text: str, parts: str) -> None:
    """Each part is added once, and only where it is not written as a word anyway."""
    assert words_and_parts_for_index(text) == (words_for_index(text), parts)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Where is the cat?", ("cat",)),
        ("who is who", ("who", "is")),
        ("支付系统", ("支付", "付系", "系统")),
        ("我们上次讨论的支付系统是什么？", ("上次", "次讨", "讨论", "支付", "付系", "系统")),
        ("猫", ("猫",)),
        ("什么", ("什么",)),
        ("猫的目的", ("猫", "目的")),
        ("京都の寺はどこですか", ("京都", "寺")),
        ("何を食べましたか？", ("食", "食べ")),
        ("なに？", ("なに",)),
        ("고양이는 어디에 있어?", ("고양", "양이", "고양이는")),
        ("책을", ("책", "책을")),
        ("แมวชื่ออะไร", ("แมว", "วชื่", "ชื่อ")),
        ("أين الكِتاب الأزرق؟", ("كتاب", "ازرق")),
        ("क़िताब में १२", ("किताब", "में", "12")),
        ("Cafe\u0301 Zürich", ("café", "zürich")),
        ("İSTANBUL ışık STRASSE straße", ("istanbul", "işik", "strasse")),
        ('"AND" OR NEAR(x*) -y ^z', ("near", "x", "y", "z")),
        ("NEAR NOT", ("near",)),
        ("🐶? 👩\u200d💻 🇩🇪 👍🏽", ("🐶", "👩", "💻", "🇩🇪", "👍")),
        ("snake_case_name", ("snake_case_name", "snake", "case", "name")),
        ("maxRetryCount", ("maxretrycount", "max", "retry", "count")),
        ("call foo.bar() --dry-run", ("call", "foo.bar", "foo", "bar", "dry-run", "dry", "run")),
        ("src/app.py:80", ("src/app.py:80", "src", "app", "py", "80")),
        ("C:\\Users\\ana", ("c:\\users\\ana", "c", "users", "ana")),
        ("https://a.example/b?c=1", ("https://a.example/b?c=1", "https", "example", "b", "c", "1")),
        ("and/or, 1,250 of 3, 4", ("1,250", "1", "250", "3", "4")),
        ("ＣＶＥ－２０２６－１", ("cve-2026-1", "cve", "2026", "1")),
        ("Was hat der Hund gefressen?", ("hund", "gefressen")),
        ("¿Qué comió el perro?", ("comió", "perro")),
        ("Où est le thé ?", ("thé",)),
        ("Quando começa a reunião?", ("começa", "reunião")),
        ("где лежат ключи", ("лежат", "ключи")),
        ("car keys of the die-hard man", ("car", "keys", "die-hard", "die", "hard", "man")),
        ("", ()),
        ("?!… ", ()),
    ],
)
def test_questions_become_words(question: str, words: tuple[str, ...]) -> None:
    """A question is reduced to its telling words; when it has none, to all its words."""
    assert words_for_query(question) == words


@pytest.mark.parametrize(
    ("term", "stored"),
    [
        ("app.py", '"app.py"'),
        ('a"b', '"a""b"'),
        ("支付", '"支付"'),
        ("고양이는", '"고양 양이 이는"'),
        ("🐶", '"emoji128054"'),
        ("🇩🇪", '"emoji127465x127466"'),
        ("น้ำ", f'"{fold("น้ำ")[0]}"'),
    ],
)
def test_a_term_is_quoted_as_the_index_holds_it(term: str, stored: str) -> None:
    """Long runs are looked for as pairs in a row, emoji as their words, marks as they are stored."""
    assert quoted(unicodedata.normalize("NFKC", term)) == stored


def test_a_compound_is_found_in_a_row_only() -> None:
    """The words of a path, a version or an option have to stand side by side, whatever stands between them."""
    table = full_text("see src/app.py now", "app in src.py", "src app py", "v1.2.3", "v1.3.2")
    assert rows_with(table, "src/app.py") == [1, 3]
    assert rows_with(table, "v1.2.3") == [4]


def test_accents_marks_and_case_are_one() -> None:
    """Composed or not, pointed or not, capital or not: what reads the same is the same word to the full text."""
    table = full_text("Straße", "İstanbul ışık", "हिन्दी", "Łódź", "שָׁלוֹם", "Ёлка", "ΛΟΓΟΣ")
    assert rows_with(table, "strasse") == [1]
    assert rows_with(table, "istanbul") == rows_with(table, "isik") == [2]
    assert rows_with(table, "हिन्दी") == [3]
    assert rows_with(table, "lodz") == [4]
    assert rows_with(table, "שלום") == [5]
    assert rows_with(table, "елка") == [6]
    assert rows_with(table, *words_for_query("λόγος".replace("ό", "ο"))) == [7]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("서울에서는", "서울"), ("책을", "책"), ("고양이가", "고양이"), ("카드", "카드"), ("이", "이"), ("", "")],
)
def test_a_korean_word_loses_one_particle(word: str, expected: str) -> None:
    """The longest particle is taken off, and at least one syllable stays."""
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("McDonald", "what did mcdonald say?"),
        ("Jean-Luc", "did Jean Luc call?"),
        ("田中", "田中さんは何を言った"),
        ("지은", "지은이 뭐라고 했어?"),
        ("王小明", "王小明说了什么"),
        ("Maria de la Cruz", "¿Qué dijo Maria de la Cruz?"),
        ("Zoe\u0308", "is zoë there"),
    ],
)
def test_a_question_that_names_someone_holds_the_words_of_the_name(name: str, question: str) -> None:
    """However the name is inflected, joined or spelled."""
    assert words_of_name(name)
    assert words_of_name(name) <= set(words_for_query(question))


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


@given(st.text(max_size=200) | SCRIPTS)
def test_no_question_breaks_the_full_text_query(question: str) -> None:
    """Whatever the words are, quoted they are valid full-text strings."""
    connection = full_text()
    for word in words_for_query(question):
        rows_with(connection, word)


@given(SCRIPTS)
def test_every_word_of_a_text_finds_it(text: str) -> None:
    """Index and question go through the same steps: a text is found by each of its own words."""
    stored = clean(text)
    connection = full_text(stored)
    assert [word for word in words_for_query(stored) if rows_with(connection, word) != [1]] == []


@given(st.text(max_size=400) | SCRIPTS)
def test_what_is_indexed_is_bounded(text: str) -> None:
    """Any text is prepared without an error, and grows by no more than a factor."""
    assert len(words_for_index(text)) <= EXPANSION_MAX * len(text)
    assert len(words_and_parts_for_index(text)[1]) <= EXPANSION_MAX * len(text)
    assert all(word == readable(word) for word in words_for_query(text))


@pytest.mark.parametrize(
    "text", ["a", "aB", "fooBar ", "a-", "猫", "京都の", "고양이는 ", "ก่", "ក្ក", "ال", "e\u0301", "🐶", "\u200b", "1,"]
)
def test_time_grows_with_the_length_only(text: str) -> None:
    """Eight times the text takes about eight times as long, not sixty-four; in steps that no noise can hide."""
    short, long = (min(_seconds(text * count) for _ in range(3)) for count in (4_000, 32_000))
    assert long < 32 * short + 0.02


def _seconds(text: str) -> float:
    started = time.process_time()
    words_and_parts_for_index(text)
    return time.process_time() - started
