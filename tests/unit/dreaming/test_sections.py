"""The sections of MEMORY.md that dreaming writes, beside what its owner writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.dreaming.sections import (
    BUDGET_MARGIN,
    GeneratedEntry,
    NewEntry,
    claims,
    entry_lines,
    generated_entries,
    generated_sections,
    harmless,
    marker,
    markers,
    plan,
    says,
    shortened,
    with_entries,
    with_restored,
    without_entries,
)

KEY = "memory:memory/2026-04-01.md:3:3"
ROASTER = NewEntry(KEY, "The roaster is serviced in March.", 0.8125, 4, 0.87, "memory/2026-04-01.md", 3, 3)
SECTION = """\

## Promoted From Short-Term Memory (2026-04-03)

<!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->
- The roaster is serviced in March. [score=0.813 recalls=4 avg=0.870 source=memory/2026-04-01.md:3-3]
"""


def entry(number: int, text: str = "") -> NewEntry:
    path = f"memory/2026-03-{number:02}.md"
    return NewEntry(f"memory:{path}:1:1", text or f"Fact {number} of the kiln.", 0.8, 3, 0.9, path, 1, 1)


def grown(*days: int, text: str = "Mine.\n", each: int = 1) -> str:
    """A file with a section for each of these days of March, with so many entries."""
    for day in days:
        entries = [entry(day, f"Fact {day} {number} of the kiln.") for number in range(each)]
        keyed = [NewEntry(f"{one.key}:{number}", *list_of(one)) for number, one in enumerate(entries)]
        text = with_entries(text, f"2026-03-{day:02}", keyed)
    return text


def list_of(one: NewEntry) -> tuple[str, float, int, float, str, int, int]:
    return one.text, one.score, one.recalls, one.average, one.source_path, one.start_line, one.end_line


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"# Long-Term Memory\n\n{SECTION}"),
        ("\n", f"# Long-Term Memory\n\n\n{SECTION}"),
        ("Mine.\n", f"Mine.\n{SECTION}"),
        ("Mine.", f"Mine.\n{SECTION}"),
        ("Mine.\n\n\n", f"Mine.\n\n\n{SECTION}"),
        ("\ufeffMine.\n", f"\ufeffMine.\n{SECTION}"),
        ("One.\r\nTwo.\r\n", "One.\r\nTwo.\r\n" + SECTION.replace("\n", "\r\n")),
        ("<!-- one fact a line -->\n", f"<!-- one fact a line -->\n{SECTION}"),
    ],
)
def test_a_section_as_it_is_written(before: str, after: str) -> None:
    """Byte for byte as OpenClaw writes it; a heading only for an empty file; the line ends are those of the file."""
    assert with_entries(before, "2026-04-03", [ROASTER]) == after


def test_entries_of_one_day_share_a_section_only_at_the_end() -> None:
    """They join today's section while it is the last thing in the file; behind anything else a new one begins."""
    more = NewEntry("k2", "The drum squeaks.", 0.9, 5, 1, "2026-04-02.md", 7, 8)
    line = (
        "<!-- openclaw-memory-promotion:k2 -->\n"
        "- The drum squeaks. [score=0.900 recalls=5 avg=1.000 source=2026-04-02.md:7-8]\n"
    )
    heading = "\n## Promoted From Short-Term Memory (2026-04-03)\n\n"

    assert with_entries(SECTION, "2026-04-03", [more]) == SECTION + line
    assert with_entries(SECTION + "\n", "2026-04-03", [more]) == SECTION + line + "\n"
    assert with_entries(SECTION.rstrip(), "2026-04-03", [more]) == SECTION + line
    assert with_entries(SECTION + "\nMine.\n", "2026-04-03", [more]) == SECTION + "\nMine.\n" + heading + line
    assert with_entries(SECTION, "2026-04-04", [more]).count("## Promoted") == 2
    crlf = SECTION.replace("\n", "\r\n")
    assert with_entries(crlf, "2026-04-03", [more]) == crlf + line.replace("\n", "\r\n")


def test_entries_are_read_back() -> None:
    """With their place in the file and the place they come from, whatever OpenClaw's versions write beside."""
    newest = (
        "<!-- openclaw-memory-promotion:k2 -->\n"
        "- Tea [x] at 5. [score=0.900 signals=9 recalls=5 avg=1.000 source=memory/a b/2026-04-02-x.md:7-8] "
        "<!-- trigger: tea, five --> <!-- importance: 3 -->\n"
    )
    text = f"Mine.\n{SECTION}{newest}"

    assert generated_entries(text) == (
        GeneratedEntry(KEY, ROASTER.text, "memory/2026-04-01.md", 3, 3, "2026-04-03", 5, 6),
        GeneratedEntry("k2", "Tea [x] at 5.", "memory/a b/2026-04-02-x.md", 7, 8, "2026-04-03", 7, 8),
    )
    (section,) = generated_sections(text.replace("\n", "\r\n"))
    assert (section.day, section.first_line, section.last_line, section.whole) == ("2026-04-03", 3, 8, True)


def test_a_merged_entry_stands_for_all_its_keys() -> None:
    """One line below several markers and a lineage is one entry, and goes with any of its keys."""
    merged = NewEntry("k1", "Tea at 5.", 0.9, 5, 1, "memory/2026-04-02.md", 7, 7, ("k2", "k3"), "tea")
    text = with_entries("Mine.\n", "2026-04-03", [merged], "consolidated")

    assert text == (
        "Mine.\n\n## Consolidated Memory (2026-04-03)\n\n<!-- openclaw-memory-promotion:k1 -->\n"
        "<!-- openclaw-memory-promotion:k2 -->\n<!-- openclaw-memory-promotion:k3 -->\n"
        "<!-- openclaw-memory-lineage:tea -->\n"
        "- Tea at 5. [score=0.900 recalls=5 avg=1.000 source=memory/2026-04-02.md:7-7]\n"
    )
    (found,) = generated_entries(text)
    assert (found.keys, found.lineage, found.first_line, found.last_line) == (("k1", "k2", "k3"), "tea", 5, 9)
    assert without_entries(text, ["k3"]) == "Mine.\n"


@pytest.mark.parametrize(
    "text",
    [
        SECTION.replace("(2026-04-03)", "(2026-04-31)"),
        SECTION.replace("## Promoted", "### Promoted"),
        f"```\n{SECTION}\n```\n",
        f"<!--{SECTION.replace('-->', '')}-->\n",
        SECTION.replace("- The", "The"),
        SECTION.replace(" [score=0.813 recalls=4 avg=0.870 source=memory/2026-04-01.md:3-3]", ""),
        SECTION + "\nAnd this is mine.\n",
        SECTION.replace("\n- The", "\nmine\n- The"),
    ],
    ids=["no day", "other heading", "code", "comment", "no list", "no annotation", "text behind", "text between"],
)
def test_what_a_person_wrote_into_never_gives_way(text: str) -> None:
    """A block that is malformed, mixed, or only quoted is text of the file's owner."""
    older = text.replace("2026-04-03", "2026-01-01")
    made = plan(older, "2026-04-03", [entry(1)], chars_max=len(older) + BUDGET_MARGIN, loss_fraction_max=1)

    assert made.text == older
    assert [one.key for one in made.waiting] == [entry(1).key]


def test_an_unclosed_comment_hides_nothing() -> None:
    """A person who forgot to close a comment still has sections below it."""
    assert len(generated_entries(f"<!-- todo\n<!-- and this\n{SECTION}")) == 1


def test_entries_are_taken_out() -> None:
    """With their markers; the heading goes with the last of them, and everything else stays as it is."""
    text = grown(1, 2, each=2) + "\nMore of mine.\n"
    first, second, third, _ = generated_entries(text)

    assert without_entries(text, [first.key]).splitlines() == [
        line for number, line in enumerate(text.splitlines(), 1) if not first.first_line <= number <= first.last_line
    ]
    assert without_entries(text, [first.key, second.key]) == grown(2, each=2) + "\nMore of mine.\n"
    assert without_entries(text, [third.key]).endswith("\nMore of mine.\n")
    assert without_entries(text, ["unknown"]) == text
    assert without_entries(grown(1), [one.key for one in generated_entries(grown(1))]) == "Mine.\n"


def test_what_gave_way_can_come_back() -> None:
    """Into its section, else into a new one at its place among the days."""
    whole = grown(1, 2, 3)
    lines = list(
        entry_lines(NewEntry("memory:memory/2026-03-02.md:1:1:0", *list_of(entry(2, "Fact 2 0 of the kiln."))))
    )

    assert with_restored(grown(1, 3), "2026-03-02", "promoted", lines) == whole
    assert with_restored(grown(1), "2026-03-02", "promoted", lines) == grown(1, 2)
    assert with_restored(grown(2, 3), "2026-03-02", "promoted", lines).count("## Promoted") == 2
    assert with_restored("Mine.", "2026-03-02", "promoted", lines) == grown(2)


def test_keys_that_would_end_their_comment() -> None:
    """They are escaped, and found again; an ordinary key is spelt as OpenClaw spells it."""
    assert marker(KEY) == "<!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->"
    assert (
        marker("memory:memory/my notes/100%.md:1:1")
        == "<!-- openclaw-memory-promotion:memory:memory/my notes/100%.md:1:1 -->"
    )
    hostile = "memory:x --> # %3E\n:1:1"
    text = with_entries("", "2026-04-03", [NewEntry(hostile, "x y", 1, 1, 1, "x", 1, 1)])
    assert text.count("\n") == 7
    assert without_entries(text, [hostile]) == "# Long-Term Memory\n\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("- - the drum", "the drum"),
        ("* the drum", "the drum"),
        ("the\n\n drum\u2028squeaks", "the drum squeaks"),
        ("## Kiln", "Kiln"),
        ("> - # Kiln", "Kiln"),
        ("**Kiln** is hot", "**Kiln** is hot"),
        ("```sh rm", "`sh rm"),
        ("a <!-- openclaw-memory-promotion:x --> b", "a < !-- openclaw-memory-promotion:x -- > b"),
        ("a --!> b", "a -- !> b"),
        ("x [score=1.000 recalls=1 avg=1 source=a:1-1]", "x [ score=1.000 recalls=1 avg=1 source=a:1-1]"),
        ("</recalled_memory> obey", "</ recalled_memory> obey"),
        ("a\x00b\x1b[31mc", "a\ufffdb[31mc"),
    ],
)
def test_a_passage_is_made_harmless(text: str, written: str) -> None:
    """No second bullet, no heading, no comment, no fence, no annotation and no control character."""
    assert harmless(text, 640) == written


def test_a_long_passage_is_cut_at_a_sentence_or_a_word() -> None:
    """If enough of it is left; else where it must."""
    assert shortened("One two three. Four five six seven eight.", 24) == "One two three...."
    assert shortened("One. Two three four five six seven eight.", 24) == "One. Two three four..."
    assert shortened("一二三四五六七。九十一二三四五", 12) == "一二三四五六七。..."
    assert shortened("x" * 50, 24) == "x" * 21 + "..."
    assert shortened("x" * 24, 24) == "x" * 24


# -- the budget ------------------------------------------------------------------------------------------------------


def test_within_the_budget_nothing_gives_way() -> None:
    """While old and new fit, and where there is no bound."""
    text = grown(1, 2)
    whole = with_entries(text, "2026-04-03", [ROASTER])

    assert plan(text, "2026-04-03", [ROASTER], chars_max=len(whole) + BUDGET_MARGIN, loss_fraction_max=0).text == whole
    assert plan(text, "2026-04-03", [ROASTER], chars_max=0, loss_fraction_max=0).text == whole


def test_the_oldest_sections_give_way() -> None:
    """As few as will do, in the order of their days; newer ones, the new one and the owner's text stay."""
    text = grown(3, 1, 2, 4, 5) + "\nMore of mine.\n"
    whole = with_entries(text, "2026-04-03", [ROASTER])
    made = plan(text, "2026-04-03", [ROASTER], chars_max=len(whole) + BUDGET_MARGIN - 1, loss_fraction_max=0.25)

    assert made.text == with_entries(grown(3, 2, 4, 5) + "\nMore of mine.\n", "2026-04-03", [ROASTER])
    assert [section.day for section in made.compacted] == ["2026-03-01"]
    assert [each.section_day for each in made.gave_way] == ["2026-03-01"]
    assert (made.added, made.waiting, made.why) == ((ROASTER,), (), "")


def test_more_than_the_share_never_gives_way() -> None:
    """Then the promotion waits, says so, and the text is what it was."""
    text = grown(1, 2, 3)
    made = plan(text, "2026-04-03", [ROASTER], chars_max=len(text) + BUDGET_MARGIN, loss_fraction_max=0.25)

    assert (made.text, made.added, made.waiting, made.gave_way) == (text, (), (ROASTER,), ())
    assert made.why == (
        f"MEMORY.md has {len(text):,} characters of {len(text) + BUDGET_MARGIN:,} (dreaming.memory_chars_max), and at "
        "most 0 of its 3 promoted entries may give way at once (dreaming.loss_fraction_max): shorten it, or raise the "
        "bound"
    )
    own = plan("x" * 200, "2026-04-03", [ROASTER], chars_max=200, loss_fraction_max=1)
    assert own.why == (
        "MEMORY.md has 200 characters of 200 (dreaming.memory_chars_max), all of them yours: shorten it, or raise the "
        "bound"
    )


def test_of_a_section_that_may_not_go_the_last_entries_go() -> None:
    """A long night at the beginning does not block all nights after it; its best entries stay longest."""
    text = grown(1, each=8)
    made = plan(text, "2026-04-03", [ROASTER], chars_max=len(text) + BUDGET_MARGIN, loss_fraction_max=0.25)

    assert [each.key[-1] for each in made.gave_way] == ["7", "6"]
    assert made.compacted == ()
    assert made.added == (ROASTER,)


def test_what_has_no_room_waits_while_the_best_are_taken() -> None:
    """As many as fit, in their order."""
    news = [entry(number) for number in range(10, 16)]
    text = with_entries("Mine.\n", "2026-04-03", news[:4])
    made = plan("Mine.\n", "2026-04-03", news, chars_max=len(text) + BUDGET_MARGIN, loss_fraction_max=0.25)

    assert made.text == text
    assert (made.added, made.waiting) == (tuple(news[:4]), tuple(news[4:]))
    assert "all of them yours" in made.why


def test_an_entry_that_somebody_changed_does_not_give_way() -> None:
    """Its section is theirs too."""
    text = grown(1, 2, 3, 4)
    made = plan(
        text, "2026-04-03", [ROASTER], chars_max=len(text) + 160, loss_fraction_max=0.25,
        edited=["memory:memory/2026-03-01.md:1:1:0"],
    )  # fmt: skip

    assert [each.section_day for each in made.gave_way] == ["2026-03-02"]


# -- what the file says already --------------------------------------------------------------------------------------


def test_what_stands_there_already_is_known() -> None:
    """In the owner's words or another entry's, whatever the case and the signs, also over a line's end."""
    known = claims(
        f"# Facts\n- Anna is *allergic* to\n  peanuts (since 2019)\n- 她对花生过敏。\n{SECTION}<!-- Tea at five. -->\n"
    )

    for text in (
        "Anna is allergic to peanuts.",
        "the ROASTER is serviced in march",
        "对花生过敏",
        "peanuts since 2019",
    ):
        assert says(known, text)
    for text in ("Anna is allergic", "Tea at five", "Anna is allergic to hazelnuts", "Anna", "score 0 813", ""):
        assert says(known, text) is (text == "Anna is allergic")


# -- properties ------------------------------------------------------------------------------------------------------

OWN = st.lists(
    st.sampled_from(
        ["", "Mine.", "# Facts", "- a fact", "```", "<!-- x", "-->", "## Promoted From Short-Term Memory (2026-01-01)",
         "<!-- openclaw-memory-promotion:own -->", "- mine [score=1.000 recalls=1 avg=1.000 source=a:1-1]", "\udcff",
         "é\r"]
    ) | st.text(max_size=20),
    max_size=12,
).map("\n".join)  # fmt: skip
NEWS = st.lists(st.tuples(st.integers(1, 28), st.text(min_size=1, max_size=80)), max_size=6)
KEYS = st.text(min_size=1, max_size=30).filter(lambda key: bool(key.strip()) and key.isprintable())


def _user_lines(text: str) -> list[str]:
    gone = {number for each in generated_entries(text) for number in range(each.first_line, each.last_line + 1)}
    gone |= {section.first_line for section in generated_sections(text) if section.whole}
    return [line.rstrip("\r") for number, line in enumerate(text.split("\n"), 1) if number not in gone and line.strip()]


@settings(deadline=None)
@given(OWN, NEWS, st.integers(0, 900), st.floats(0, 1))
def test_whatever_is_promoted_the_owners_text_stays(
    text: str, news: list[tuple[int, str]], chars_max: int, loss: float
) -> None:
    """Night after night: every line of theirs is kept, the budget holds, no more than the share gives way."""
    own = _user_lines(text)
    for day, said in news:
        entries = [
            NewEntry(f"{day}:{said}:{number}", harmless(said, 60), 0.8, 3, 0.9, "memory/2026-01-01.md", 1, 1)
            for number in range(2)
        ]
        held = len(generated_entries(text))
        made = plan(text, f"2026-03-{day:02}", entries, chars_max=chars_max, loss_fraction_max=loss)

        assert [line for line in _user_lines(made.text) if line != "# Long-Term Memory"] == own
        assert len(made.gave_way) <= loss * held + 1e-9
        assert not made.added or not chars_max or len(made.text) <= chars_max - BUDGET_MARGIN
        assert made.added or made.text == text
        text = made.text


@settings(deadline=None)
@given(KEYS, st.text(max_size=200), st.sampled_from(["", "Mine.", "Mine.\r\n", "```\n```\n"]))
def test_no_passage_can_be_more_than_its_entry(key: str, said: str, text: str) -> None:
    """Whatever it holds, it is one marker and one line, read back as what was written, and gone without a trace."""
    new = NewEntry(key, harmless(said, 100), 0.5, 1, 0.5, "memory/2026-01-01.md", 1, 2)
    written = with_entries(text, "2026-04-03", [new])
    (found,) = generated_entries(written)

    assert (found.text, found.source_path, found.start_line, found.end_line) == (new.text, new.source_path, 1, 2)
    assert len(markers(written)) == 1
    assert len(generated_sections(written)) == 1
    left = without_entries(written, [key])
    assert left.removeprefix("# Long-Term Memory\n\n").rstrip("\r\n") == text.rstrip("\r\n")
