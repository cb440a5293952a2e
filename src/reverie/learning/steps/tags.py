"""Tags of a step: what it has to do with, by words, the tool it called, and the error it met."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from reverie.learning.steps.tool_json import object_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reverie.learning.records import ToolUse
    from reverie.learning.steps.normalise import StepText

TAGS_MAX = 8
TAG_CHARS_MIN = 3
TAG_CHARS_MAX = 32
SUBJECTS_MAX = 5
"""Tags by words, at most, so that the tool and its error have a place."""

_SUBJECTS: tuple[tuple[str, str], ...] = (
    ("python", r"\bpython\d?\b|\bpip\d?\b|\bpytest\b|\.py\b|\buv (?:add|sync|run)\b"),
    ("javascript", r"\bjavascript\b|\btypescript\b|\bnode(?:js)?\b|\bnpm\b|\bpnpm\b|\.[jt]sx?\b"),
    ("rust", r"\brust\b|\bcargo\b|\brustc\b|\.rs\b"),
    ("database", r"\bsql(?:ite)?\b|\bpostgres\w*|\bmysql\b|\bdatabase\b|数据库"),
    ("container", r"\bdocker\w*|\bpodman\b|\bkubernetes\b|\bkubectl\b|\bhelm\b|容器"),
    ("git", r"\bgit\b|\bpull request\b|\brebase\b|\bmerge conflict\b|\bcommits?\b"),
    ("testing", r"\btests?\b|\bunit test\w*|\bassert\w*|\bcoverage\b|测试"),
    ("build", r"\bbuild\b|\bcompil\w+|\bmakefile\b|\bcmake\b|\bwheel\b|编译|构建"),
    ("deploy", r"\bdeploy\w*|\brelease\b|\brollback\b|\bci\b|部署|发布"),
    ("network", r"\bdns\b|\bproxy\b|\btls\b|\bssl\b|\bsocket\b|\bfirewall\b|\bconnection\b|网络"),
    ("web-api", r"\bhttps?\b|\bapi\b|\bendpoint\b|\brest\b|\bgraphql\b|\bwebhook\b|接口"),
    ("security", r"\bpassword\b|\btoken\b|\bpermission\w*|\bcredential\w*|\bencrypt\w*|密码|权限"),
    ("files", r"\bfiles?\b|\bfolder\b|\bdirector(?:y|ies)\b|\bpath\b|文件|目录"),
    ("data", r"\bcsv\b|\bspreadsheet\b|\bexcel\b|\bpandas\b|\bdataset\b|\bchart\b|表格|数据分析"),
    ("writing", r"\bdraft\b|\bessay\b|\btranslat\w+|\bsummar\w+|\bproofread\w*|\breport\b|翻译|总结|报告"),
    ("calendar", r"\bcalendar\b|\bmeeting\b|\bappointment\b|\bremind\w*|\bschedul\w+|日程|会议|提醒"),
    ("mail", r"\be-?mails?\b|\binbox\b|\bnewsletter\b|邮件"),
    ("research", r"\bresearch\b|\bsources?\b|\barticles?\b|\bpapers?\b|\bweb search\b|论文|资料"),
)
_PATTERNS = tuple((tag, re.compile(words, re.IGNORECASE)) for tag, words in _SUBJECTS)
_SHELLS = frozenset(
    {"bash", "shell", "sh", "exec", "execute", "terminal", "run_command", "execute_command", "local_shell"}
)
_COMMAND_KEYS = ("command", "cmd", "script")
_PREFACE = re.compile(r"^(?:\s*(?:sudo|env|time|\w+=\S*|cd\s+\S+\s*(?:&&|;))\s*)+")
_COMMAND = re.compile(r"[A-Za-z0-9_./-]+")
_NO_TAG = re.compile(r"[^a-z0-9\u4e00-\u9fff]+")
_EMPTY_PARTS = frozenset({"error", "not", "the", "and", "exception"})


def tags_of(text: StepText, *more: str) -> tuple[str, ...]:
    """At most eight tags of 3 to 32 characters: subjects by their words, then the tool's head, then parts of its error.

    `more` are tags that come before all others.
    """
    kept: dict[str, None] = {}
    for tag in (*more, *_subjects(text), *_of_tools(text.tools)):
        if TAG_CHARS_MIN <= len(tag) <= TAG_CHARS_MAX:
            kept.setdefault(tag)
    return tuple(kept)[:TAGS_MAX]


def tool_heads(tool: ToolUse) -> tuple[str, ...]:
    """The name of a tool, without what stands before it, and for a shell the command it ran: `bash`, `pip`."""
    name = _tag(re.split(r"__|[.:/]", tool.name)[-1])
    if name.replace("-", "_") not in _SHELLS:
        return (name,)
    command = _COMMAND.match(_PREFACE.sub("", _command_line(tool.input)))
    return (name, _tag(command[0].rsplit("/", 1)[-1])) if command else (name,)


def _subjects(text: StepText) -> Iterable[str]:
    words = "\n".join((text.user_text, text.agent_text, *(f"{tool.text_before}\n{tool.input}" for tool in text.tools)))
    return [tag for tag, pattern in _PATTERNS if pattern.search(words)][:SUBJECTS_MAX]


def _of_tools(tools: tuple[ToolUse, ...]) -> Iterator[str]:
    for tool in tools:
        yield from tool_heads(tool)
    for tool in tools:
        yield from (part for part in _tag(tool.error_code).split("-") if part not in _EMPTY_PARTS)


def _command_line(arguments: str) -> str:
    known = object_in(arguments)
    if known is None:
        return arguments
    value = next((known[key] for key in _COMMAND_KEYS if known.get(key)), "")
    return " ".join(str(part) for part in cast("list[Any]", value)) if isinstance(value, list) else str(value)


def _tag(word: str) -> str:
    return _NO_TAG.sub("-", word.lower()).strip("-")[:TAG_CHARS_MAX].rstrip("-")
