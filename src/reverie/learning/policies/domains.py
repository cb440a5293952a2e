"""Which domain a policy belongs to: what it is about, and with which kind of tool."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reverie.learning.policies.buckets import MISSING, SEPARATOR, parse_signature

if TYPE_CHECKING:
    from reverie.learning.records import Policy

NO_DOMAIN = f"{MISSING}{SEPARATOR}{MISSING}"


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(words)})(?![a-z0-9])")


TAG_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("container", _words("docker", "dockerfile", "podman", "compose", "container", "containers", "alpine", "image")),
    ("kubernetes", _words("kubernetes", "k8s", "kubectl", "helm", "pod", "pods", "ingress")),
    ("database", _words("sql", "sqlite", "postgres", "postgresql", "mysql", "redis", "mongodb", "database")),
    ("git", _words("git", "github", "gitlab", "rebase", "commit", "branch", "merge")),
    ("python", _words("python", "pip", "pytest", "venv", "conda", "poetry", "numpy", "pandas", "django", "flask")),
    ("node", _words("node", "nodejs", "npm", "yarn", "pnpm", "javascript", "typescript", "react", "webpack", "vite")),
    ("rust", _words("rust", "cargo", "crate", "rustc")),
    ("go", _words("golang", "go", "gomod")),
    ("jvm", _words("java", "maven", "gradle", "kotlin", "scala", "jvm", "spring")),
    ("cloud", _words("aws", "gcp", "azure", "s3", "terraform", "lambda", "cloud")),
    ("network", _words("http", "https", "api", "dns", "tls", "ssl", "proxy", "network", "socket", "curl")),
    ("system", _words("linux", "ubuntu", "debian", "apt", "systemd", "bash", "shell", "permission", "chmod", "macos")),
    ("document", _words("document", "markdown", "pdf", "email", "report", "spreadsheet", "csv", "calendar", "note")),
)
"""What a policy is about; the first that fits. The special stands before the general."""

TOOL_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("shell", _words("shell", "bash", "sh", "exec", "terminal", "command", "run", "process")),
    ("edit", _words("edit", "write", "patch", "apply", "replace", "create")),
    ("read", _words("read", "view", "cat", "open", "list", "ls", "glob")),
    ("search", _words("search", "grep", "find", "query", "rg")),
    ("browser", _words("browser", "navigate", "click", "playwright", "screenshot")),
    ("fetch", _words("fetch", "http", "request", "curl", "download", "web")),
    ("code", _words("python", "node", "code", "notebook", "repl", "interpreter", "eval")),
    ("message", _words("message", "send", "mail", "email", "slack", "calendar", "notify")),
)
"""With what kind of tool it works; the first that fits the tool's name."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def domain_of(policy: Policy) -> str:
    """The domain of a policy, `python|shell`; `_|_` when nothing is known.

    Its tags and its tool say it; where it has none, or they say nothing, the words of its title and trigger do.
    """
    bucket = parse_signature(policy.signature)
    words = f"{policy.title} {policy.trigger}"
    told = (bucket.primary, bucket.secondary, words)
    about = next((name for name in (_first(TAG_PATTERNS, text) for text in told) if name), "")
    return f"{about or MISSING}{SEPARATOR}{_first(TOOL_PATTERNS, bucket.tool) or MISSING}"


def _first(patterns: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str:
    plain = _CAMEL.sub(" ", text).replace("_", " ").casefold()
    return next((name for name, pattern in patterns if pattern.search(plain)), "")
