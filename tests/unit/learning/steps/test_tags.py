"""Tags of a step."""

from __future__ import annotations

from reverie.learning.records import ToolUse
from reverie.learning.steps.normalise import StepText
from reverie.learning.steps.tags import tags_of, tool_heads


def text(user_text: str = "", *tools: ToolUse) -> StepText:
    return StepText(user_text, "", "", "", "", tools)


def test_subjects_come_first_then_the_tool_then_its_error() -> None:
    """A shell is tagged with the command it ran, too; words of a code that say nothing are left out."""
    tool = ToolUse("bash", '{"command": "cd /x && pip install y"}', "", "MODULE_NOT_FOUND_ERROR")
    assert tags_of(text("install it with docker", tool)) == ("python", "container", "bash", "pip", "module", "found")


def test_words_are_known_in_chinese_too() -> None:
    """Of a text without spaces."""
    assert tags_of(text("请把数据库部署到测试环境")) == ("database", "testing", "deploy")


def test_tags_are_bounded() -> None:
    """At most eight, of 3 to 32 characters, five of them subjects; given ones come first."""
    tool = ToolUse("a_very_long_name_of_a_tool_that_nobody_can_remember", "", "", "ALPHA_BETA_XY_GAMMA_DELTA_EPSILON")
    tags = tags_of(text("python npm cargo sql docker git test build deploy", tool), "first")
    assert tags == (
        "first",
        "python",
        "javascript",
        "rust",
        "database",
        "container",
        "a-very-long-name-of-a-tool-that",
        "alpha",
    )
    assert all(3 <= len(tag) <= 32 for tag in tags)
    assert tags_of(text("what is love")) == ()


def test_the_head_of_a_tool() -> None:
    """Without its server's name; the command of a shell from a string, a list or no JSON at all."""
    assert tool_heads(ToolUse("mcp__github__create_issue", "{}")) == ("create-issue",)
    assert tool_heads(ToolUse("fs.read", "{}")) == ("read",)
    assert tool_heads(ToolUse("shell", '{"command": ["sudo", "/usr/bin/git", "status"]}')) == ("shell", "git")
    assert tool_heads(ToolUse("bash", "FOO=1 make all")) == ("bash", "make")
    assert tool_heads(ToolUse("bash", "[1]")) == ("bash",)
