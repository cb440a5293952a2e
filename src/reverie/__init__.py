"""Reverie: a memory and session runtime for AI agents that never switch off.

The library's one public name is `Memory`; everything else is reached through the server or the `reverie` command.
Its import is put off until it is used, so that `import reverie` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.library import Memory

__all__ = ["Memory", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Memory":
        from reverie.library import Memory

        return Memory
    raise AttributeError(f"module 'reverie' has no attribute {name!r}")
