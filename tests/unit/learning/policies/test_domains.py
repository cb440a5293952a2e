"""Domains: what a policy is about, and with which kind of tool."""

from __future__ import annotations

import pytest

from reverie.learning.policies.domains import NO_DOMAIN, TAG_PATTERNS, TOOL_PATTERNS, domain_of
from tests.unit.learning.learned import policy


@pytest.mark.parametrize(
    ("signature", "domain"),
    [
        ("docker|pip|shell|EXIT_1", "container|shell"),
        ("pip|_|run_command|_", "python|shell"),
        ("kubectl|_|bash|_", "kubernetes|shell"),
        ("postgres|_|sql_query|_", "database|search"),
        ("rebase|_|_|_", "git|_"),
        ("npm|_|terminal|_", "node|shell"),
        ("cargo|_|apply_patch|_", "rust|edit"),
        ("golang|_|readFile|_", "go|read"),
        ("gradle|_|edit_file|_", "jvm|edit"),
        ("terraform|_|web_fetch|_", "cloud|fetch"),
        ("dns|_|browser_click|_", "network|browser"),
        ("ubuntu|_|notebook|_", "system|code"),
        ("csv|_|send_mail|_", "document|message"),
        ("unheard|of|nothing|_", "_|_"),
        ("_|_|_|_", "_|_"),
    ],
)
def test_common_domains_and_tools_are_recognised(signature: str, domain: str) -> None:
    """The first tag that says something names the domain, the tool's name the kind of tool."""
    assert domain_of(policy(signature=signature)) == domain


def test_words_of_a_policy_stand_in_for_tags() -> None:
    """A policy of no bucket is placed by its title and trigger."""
    assert domain_of(policy(title="Pin the versions in a Dockerfile")) == "container|_"
    assert domain_of(policy(trigger="when pytest cannot import the package")) == "python|_"
    assert domain_of(policy(title="Be brief")) == NO_DOMAIN


def test_words_within_words_are_not_recognised() -> None:
    """`digital` is not about git, nor `bookshelf` about a shell."""
    assert domain_of(policy(title="digital bookshelf", signature="digital|_|bookshelf|_")) == NO_DOMAIN


def test_there_are_thirteen_domains_and_eight_kinds_of_tools() -> None:
    """As many as are documented."""
    assert (len(TAG_PATTERNS), len(TOOL_PATTERNS)) == (13, 8)
