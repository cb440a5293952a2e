"""A `SKILL.md` as text and as values: a head of a few `key: value` lines, then Markdown for a person.

    ---
    name: release-notes
    description: Use when a release is to be announced.
    reverie: sk_4k2m…
    version: 2
    status: active
    disabled: false
    ---
    # Release notes
    …

Pure: no file is touched here. Invariant: what was rendered is parsed to the same values, and a file in which we change
something keeps every line that does not say it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.learning.records import Skill

NAME_CHARS_MAX = 32
DESCRIPTION_CHARS_MAX = 1_024
TITLE_CHARS_MAX = 80
HEAD_LINES_MAX = 100
DUE = "due"
"""In place of a planned digest: the row has changed, and the file is still to be written."""

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FENCE = "---"
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?:\s+(.*))?")
_PLAIN = re.compile(r"[A-Za-z0-9\u0080-\uffff(][^#:\"'\n]*")
_GOES_ON = " \t-}]"
"""With these begin the lines of a head that go on with the value above."""
_HEADING = re.compile(r"^#\s+(.+?)\s*#*\s*$", re.MULTILINE)
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_BLOCK_SIGNS = frozenset({">", ">-", ">+", "|", "|-", "|+"})
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "": False}

Verdict = Literal["same", "written", "write", "edited", "deleted", "restored", "nothing"]


@dataclass(frozen=True, slots=True)
class SkillDocument:
    """What a `SKILL.md` says. `id` is '' in a file that Reverie did not make; `guide` is the text below the head."""

    name: str
    description: str
    guide: str
    title: str = ""
    id: str = ""
    disabled: bool = False

    @property
    def given_title(self) -> str:
        """The name in its head where that is a title; '' where it is the name of a folder."""
        return "" if FOLDER_NAME.fullmatch(self.name) else self.name[:TITLE_CHARS_MAX]

    @property
    def words(self) -> str:
        """A digest of what it says, whatever else stands in its head."""
        return words_digest(self.description, self.guide)


@dataclass(frozen=True, slots=True)
class BrokenDocument:
    """A `SKILL.md` that says nothing usable, and why, in words for whoever wrote it."""

    reason: str


def text_digest(text: str | bytes) -> str:
    """A digest by which the text of a file is known again."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:32]


def words_digest(description: str, guide: str) -> str:
    """A digest of what a file says, whatever else stands in its head."""
    return text_digest(f"{collapse(description)[:DESCRIPTION_CHARS_MAX]}\n\n{guide.strip()}")


def folder_name(wanted: str, title: str, skill_id: str) -> str:
    """A name for the folder of a skill: lower case, digits and hyphens, at most 32 characters; never empty."""
    for candidate in (wanted, title, skill_id.replace("_", "-")):
        name = _NOT_IN_NAMES.sub("-", candidate.lower()).strip("-")[:NAME_CHARS_MAX].strip("-")
        if name:
            return name
    return "skill"


def numbered_name(name: str, number: int) -> str:
    """The name again, for the case that it is taken: `deploy`, then `deploy-2`, `deploy-3`."""
    ending = f"-{number}" if number > 1 else ""
    return name[: NAME_CHARS_MAX - len(ending)].rstrip("-") + ending


def render(skill: Skill) -> str:
    """The whole file of a skill that has none yet."""
    return "\n".join([_FENCE, *_head(skill).values(), _FENCE, "", skill.guide.strip(), ""])


def revised(text: str, skill: Skill) -> str:
    """A file that is there with what its row says by now: our lines of the head, the description, the text below.

    What says the same already stays as it is, and so does every other line; a name in the head is never changed.
    """
    held = parse(text)
    lines = text.split("\n")
    end = _head_end(lines)
    if isinstance(held, BrokenDocument) or end is None:
        return render(skill)
    head = _with_lines(lines[1:end], _outdated(lines[1:end], held, skill))
    same = held.guide == skill.guide.strip()
    body = lines[end:] if same else [lines[end], "", skill.guide.strip(), ""]
    return "\n".join([lines[0], *head, *body])


def has_head(text: str) -> bool:
    """Whether the head of a file ends soon enough to be read."""
    return _head_end(text.split("\n")) is not None


def parse(text: str) -> SkillDocument | BrokenDocument:
    """What a file says, or why it says nothing usable."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != _FENCE:
        return BrokenDocument("it does not begin with a line `---` and lines such as `name: …` and `description: …`")
    end = _head_end(lines)
    if end is None:
        return BrokenDocument(f"no second line `---` ends its head within {HEAD_LINES_MAX} lines")
    values = _values(lines[1:end])
    if isinstance(values, BrokenDocument):
        return values
    name, description = values.get("name", ""), collapse(values.get("description", ""))
    disabled = _FLAGS.get(values.get("disabled", "").lower())
    if disabled is None:
        return BrokenDocument(f"`disabled: {values['disabled']}` is neither true nor false")
    if not description:
        return BrokenDocument("its head has no `description:` that says when to use it")
    guide = "\n".join(lines[end + 1 :]).strip()
    heading = _HEADING.search(guide)
    title = heading[1] if heading is not None else name
    return SkillDocument(
        name=name,
        description=description[:DESCRIPTION_CHARS_MAX],
        guide=guide,
        title=title[:TITLE_CHARS_MAX],
        id=values.get("reverie", ""),
        disabled=disabled,
    )


def judge(file_state: str, status: str, known: str, planned: str, found: str | None, before: str = "") -> Verdict:
    """What is to be done about a skill whose file has the digest `found`; None: there is no file.

    `known` is the digest of the file as it was written or read last. `planned` is '' when the file is as it should be,
    `DUE` when the row has changed since, else the digest of what was about to be written; `before` is the one before
    that, which may have been written although the row changed meanwhile. Whatever was neither written nor planned by us
    is a person's. A file that was never there is written; one that is gone was deleted, and restored when the very same
    comes back.
    """
    if found is None:
        if file_state == "deleted" or (status == "archived" and not planned and not known):
            return "nothing"
        return "deleted" if known else "write"
    if file_state == "deleted":
        return "restored" if found == known else "edited"
    if planned and found == planned:
        return "written"
    if found in {known, before}:
        return "write" if planned else "same"
    return "edited"


def _head(skill: Skill) -> dict[str, str]:
    """The lines of a head by their keys."""
    values = {
        "name": skill.name,
        "description": _scalar(collapse(skill.description)),
        "reverie": skill.id,
        "version": str(skill.version),
        "status": skill.status,
        "disabled": "true" if skill.disabled else "false",
    }
    return {key: f"{key}: {value}" for key, value in values.items()}


def _outdated(lines: Sequence[str], held: SkillDocument, skill: Skill) -> dict[str, str]:
    """The lines of a head that is to say something else, by their keys."""
    values = _values([line.rstrip("\r") for line in lines])
    said = values if isinstance(values, dict) else {}
    same = {
        "name": True,
        "description": held.description == collapse(skill.description)[:DESCRIPTION_CHARS_MAX],
        "reverie": held.id == skill.id,
        "version": said.get("version") == str(skill.version),
        "status": said.get("status") == skill.status,
        "disabled": "disabled" in said and held.disabled == skill.disabled,
    }
    return {key: line for key, line in _head(skill).items() if not same[key]}


def _with_lines(lines: Sequence[str], new: dict[str, str]) -> list[str]:
    """A head with other lines for some keys, each where its key stands, and at the end those that it lacks."""
    kept: list[str] = []
    replaced = False
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            kept.append(line)
        elif line[0] in _GOES_ON:
            if not replaced:
                kept.append(line)
        else:
            found = _KEY.fullmatch(line.rstrip())
            key = found[1].lower() if found is not None else ""
            replaced = key in new
            kept.append(new.pop(key, line))
    return [*kept, *new.values()]


def _scalar(value: str) -> str:
    """A text as a value of one line, in quotes where it would be read as something else without."""
    plain = _PLAIN.fullmatch(value) and value.lower() not in _FLAGS and not value.endswith(" ")
    return value if plain else json.dumps(value, ensure_ascii=False)


def _head_end(lines: Sequence[str]) -> int | None:
    """The number of the line that ends a head, counted from 0."""
    for number, line in enumerate(lines[1 : HEAD_LINES_MAX + 1], 1):
        if line.rstrip() == _FENCE:
            return number
    return None


def _values(lines: Sequence[str]) -> dict[str, str] | BrokenDocument:
    """The values of a head. Indented lines, items and closing brackets go on with the value above."""
    values: dict[str, str] = {}
    key = ""
    for number, line in enumerate(lines, 2):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in _GOES_ON:
            if not key:
                return BrokenDocument(f"line {number} of its head belongs to no `key:`")
            values[key] = f"{values[key]} {line.strip()}".strip()
            continue
        found = _KEY.fullmatch(line.rstrip())
        if found is None:
            return BrokenDocument(f"line {number} of its head is not of the form `key: value`")
        key = found[1].lower()
        if key in values:
            return BrokenDocument(f"line {number} of its head gives `{key}` for the second time")
        values[key] = "" if (found[2] or "") in _BLOCK_SIGNS else (found[2] or "")
    return {key: _unquoted(value) for key, value in values.items()}


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    return value.split(" #", 1)[0].rstrip()
