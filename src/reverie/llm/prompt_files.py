"""What a model is told, read from Markdown files of a package: each begins with its version, `<!-- id: … -->`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_FORM = re.compile(r"<!-- id: (\S+) -->\n(.*)", re.DOTALL)


class Prompt(NamedTuple):
    """What a model is told, and the version of it, which is kept with all that came of it."""

    id: str
    instructions: str


@cache
def read_prompt(package: str, name: str) -> Prompt:
    """The prompt of a name: `prompts/<name>.md` beside a package's code.

    Reads its file, the first time: call it on a worker thread.
    """
    text = files(package).joinpath(f"prompts/{name}.md").read_text(encoding="utf-8")
    return Prompt(*_FORM.findall(text)[0])
