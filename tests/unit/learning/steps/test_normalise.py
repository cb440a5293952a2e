"""Steps in the form they are kept in."""

from __future__ import annotations

from reverie.learning.records import ToolUse
from reverie.learning.steps.normalise import (
    MERGED_TOOLS_MAX,
    REFLECTION_CHARS_MAX,
    StepText,
    heuristic_summary,
    normalised,
    one_line,
    reflection_in,
    repeats,
    shortened,
)
from reverie.learning.steps.steps import Step


def step(user_text: str = "", agent_text: str = "", *tools: ToolUse) -> Step:
    return Step(1, 2, 0, "agent", opens=1, user_text=user_text, agent_text=agent_text, tools=tools)


def text_of(made: Step) -> StepText:
    return normalised(made, text_chars_max=4_000, output_chars_max=2_000)


def test_long_texts_keep_their_beginning_and_their_end() -> None:
    """55 of 100 characters are of the beginning, the rest is of the end; the bound holds for all of it."""
    cut = shortened("a" * 5_000 + "b" * 5_000, 4_016)
    assert cut == "a" * 2_200 + "\n[… left out …]\n" + "b" * 1_800
    assert len(cut) == 4_016
    assert shortened("四" * 4_000, 4_000) == "四" * 4_000
    assert shortened("four", 2) == "fo"


def test_texts_and_results_have_their_own_bounds() -> None:
    """4,000 characters of what was said, 2,000 of what a tool answered."""
    kept = text_of(step("u" * 9_000, "", ToolUse("x", "i" * 9_000, "o" * 9_000, text_before="t" * 9_000)))
    tool = kept.tools[0]
    sizes = (len(kept.user_text), len(tool.input), len(tool.output), len(tool.text_before))
    assert sizes == (4_000, 4_000, 2_000, 4_000)


def test_a_step_without_anything_is_empty() -> None:
    """Spaces alone are nothing; a call without a result is something."""
    assert text_of(step("  ", "\n")).is_empty
    assert not text_of(step("", "", ToolUse("x", ""))).is_empty


def test_thoughts_are_kept_apart() -> None:
    """What a reply begins with inside a tag of thinking; an open tag is text."""
    kept = text_of(step("q", "<think>\nhm\n</think>\n\nIt is four."))
    assert (kept.thinking, kept.agent_text) == ("hm", "It is four.")
    assert text_of(step("q", "<think>hm")).agent_text == "<think>hm"


def test_what_an_agent_says_of_its_step_is_its_reflection() -> None:
    """In a tag, under a heading or after a word, in English and Chinese; letter by letter, between 10 and 1,500."""
    assert reflection_in("x <reflection>I should ask first.</reflection> y") == "I should ask first."
    assert reflection_in("# Answer\n4\n## Reasoning\nTwo and two, counted.\n## Next\nz") == "Two and two, counted."
    assert reflection_in("done\nReflection: the cache was stale") == "the cache was stale"
    assert reflection_in("好\n思考过程\uff1a先检查缓存再重新编译整个项目") == "先检查缓存再重新编译整个项目"
    assert reflection_in("Reflection: short") == ""
    assert reflection_in("no such thing") == ""
    assert len(reflection_in(f"<reflection>{'r' * 2_000}</reflection>")) == REFLECTION_CHARS_MAX
    before_call = ToolUse("x", "", text_before="<reflection>The path was wrong.</reflection>")
    assert text_of(step("", "", before_call)).reflection == "The path was wrong."


def test_errors_are_read_from_the_whole_result() -> None:
    """Before it is cut."""
    kept = text_of(step("", "", ToolUse("x", "", '{"error": {"code": "too_big"}, "text": "' + "o" * 9_000 + '"}')))
    assert kept.tools[0].error_code == "TOO_BIG"
    assert kept.failed


def test_a_summary_is_one_line_of_140_characters() -> None:
    """What was asked; else what was said before a call, else the call, else the reply; the first sentence of much."""
    assert heuristic_summary("\n\n# Fix the\tbuild \nnow", "", ()) == "Fix the build"
    assert heuristic_summary("", "", (ToolUse("bash", "ls", text_before="I look."),)) == "I look."
    assert heuristic_summary("", "", (ToolUse("bash", '{"cmd": "ls"}'),)) == 'bash {"cmd": "ls"}'
    assert heuristic_summary("", "It is done.", ()) == "It is done."
    assert heuristic_summary("Do this first. " + "And then " * 30, "", ()) == "Do this first."
    assert heuristic_summary("先修复构建\uff01" + "然后发布" * 50, "", ()) == "先修复构建\uff01"
    assert heuristic_summary("w" * 200, "", ()) == "w" * 139 + "…"
    assert one_line("a\n b", 10) == "a b"
    assert heuristic_summary("", "", ()) == ""


def test_only_exchanges_without_tools_repeat() -> None:
    """The same question and reply again; a call that is made again is kept, because it shows a loop."""
    assert repeats(text_of(step("a", "b")), "a", "b")
    assert not repeats(text_of(step("a", "c")), "a", "b")
    assert not repeats(text_of(step("a", "b", ToolUse("x", ""))), "a", "b")


def test_of_a_merged_step_some_calls_are_kept() -> None:
    """As many from its beginning as from its end."""
    kept = text_of(step("a", "b", *(ToolUse(f"t{number}", "") for number in range(300))))
    assert len(kept.tools) == MERGED_TOOLS_MAX
    assert [kept.tools[0].name, kept.tools[15].name, kept.tools[16].name, kept.tools[-1].name] == [
        "t0",
        "t15",
        "t284",
        "t299",
    ]


def test_keys_in_calls_are_hidden() -> None:
    """A step is shown to other sessions: keys in what a tool was given or answered are not, where it is cut neither."""
    secret = "sk-live-0123456789abcdefghij"
    given = '{"url": "https://api.example.com", "token": "' + secret + '"}'
    kept = text_of(step("u", "a", ToolUse("fetch", given, f"Authorization: Bearer {secret}\nok"))).tools[0]
    assert secret not in kept.input + kept.output
    assert "https://api.example.com" in kept.input
    assert kept.output.endswith("\nok")

    for before in range(1_080, 1_105):  # around the place where a long answer is cut
        long = "x " * (before // 2) + f" token={secret} " + "y " * 4_000
        assert secret[8:] not in text_of(step("u", "a", ToolUse("cat", "{}", long))).tools[0].output
