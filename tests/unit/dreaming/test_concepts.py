"""What a passage is about, as tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.dreaming.concepts import Coverage, as_tag, concept_tags, coverage, script_of

DAY = "memory/2026-04-04.md"
EAST = "障害対応ルーター設定とバックアップ確認。路由器备份与网关同步。"


def test_words_of_four_languages_are_found_in_one_passage() -> None:
    """Words with accents and umlauts are whole, and grammar and the file's date are no tags."""
    text = "Configuración de gateway, configuration du routeur, Sicherung und Überwachung Glacier."
    tags = set(concept_tags(DAY, text))

    assert {
        "gateway", "configuración", "configuration", "routeur", "sicherung", "überwachung", "glacier",
    } <= tags  # fmt: skip
    assert not tags & {"de", "du", "und", "2026-04-04.md"}


def test_chinese_japanese_and_korean_words_are_found() -> None:
    """Text without spaces gives words, and no pieces of them."""
    tags = set(concept_tags(DAY, f"{EAST}라우터 백업 페일오버 점검."))

    assert {"障害対応", "ルーター", "バックアップ", "路由器", "备份", "网关", "라우터", "백업"} <= tags
    assert not tags & {"ルー", "ター"}


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (
            "Move backups to S3 Glacier and sync QMD router notes.",
            ("backup", "backups", "glacier", "qmd", "router", "sync"),
        ),
        ("Configuración du routeur et sauvegarde Glacier.", ("glacier", "sauvegarde", "routeur", "configuración")),
        (EAST, ("バックアップ", "ルーター", "障害対応", "路由器", "备份", "网关", "障害", "対応")),
    ],
)
def test_known_words_come_first_then_those_of_the_text(text: str, tags: tuple[str, ...]) -> None:
    """The order is the glossary's, then the passage's; a word is named once."""
    assert concept_tags(DAY, text) == tags


@pytest.mark.parametrize(("tag", "script"), [("routeur", "latin"), ("路由器", "cjk"), ("qmd路由器", "mixed")])
def test_a_tag_is_in_a_script(tag: str, script: str) -> None:
    """Latin letters beside Chinese ones are mixed."""
    assert script_of(tag) == script


def test_a_passage_counts_once_in_the_coverage_of_scripts() -> None:
    """Latin and Chinese tags together are a mixed passage; one without tags does not count."""
    tagged = [["routeur", "sauvegarde"], ["路由器", "备份"], ["qmd", "路由器"], ["сервер"], []]

    assert coverage(tagged) == Coverage(latin=1, cjk=1, mixed=1, other=1)


def test_scaffolding_is_no_tag() -> None:
    """What agents and reports write about themselves says nothing of the subject."""
    words = "assistant candidate report reflection snippet confidence evidence wrapper prompt"

    assert concept_tags(DAY, words) == ()


@pytest.mark.parametrize(
    "token", ["", "--", "ab", "12345", "2026-04-04", "2026-04-04.md", "s3", "x" * 33, "かな", "与", "the"]
)
def test_what_says_nothing_is_no_tag(token: str) -> None:
    """Too short, too long, a number, a date or a stop word."""
    assert as_tag(token) is None


@pytest.mark.parametrize(
    ("token", "tag"),
    [("(Foo_Bar)", "foo-bar"), ("ﾙｰﾀｰ", "ルーター"), ("备份", "备份"), ("x" * 32, "x" * 32), ("हिन्दी", "हिन्दी")],
)
def test_spellings_of_a_tag_are_one(token: str, tag: str) -> None:
    """Signs around it go, compatibility forms and capitals are unified, an underscore is a hyphen."""
    assert as_tag(token) == tag


def test_compounds_come_before_single_words() -> None:
    """A path or a name stays whole before its parts are named, and what an apostrophe joins is one word."""
    assert concept_tags("x.md", "l'horloge near src/app.py is max_retry") == (
        "x.md", "src/app.py", "max-retry", "l'horloge", "near", "src", "app.py",
    )  # fmt: skip


def test_other_scripts_are_cut_at_spaces() -> None:
    """Vowel signs belong to the word they are written in."""
    assert concept_tags("", "сервер в हिन्दी") == ("сервер", "हिन्दी")


def test_an_unknown_run_of_chinese_is_cut_into_pairs() -> None:
    """The last piece of an odd run has three characters, and grammar parts it."""
    assert concept_tags("", "数据库迁移和系统") == ("数据", "库迁移", "系统")


@given(st.text(max_size=1_000), st.text(max_size=60), st.integers(-2, 20))
def test_any_text_gives_few_short_tags(text: str, path: str, limit: int) -> None:
    """At most eight, distinct, of 2 to 32 characters, and each is what normalisation makes of itself."""
    tags = concept_tags(path, text, limit)

    assert len(tags) <= max(0, min(limit, 8))
    assert len(set(tags)) == len(tags)
    assert all(2 <= len(tag) <= 32 for tag in tags)
