"""Which implementation stands behind a protocol."""

from __future__ import annotations

import pytest

from reverie.app import choose_embedder, choose_model
from reverie.config import Config, MemoryConfig, UpstreamConfig
from reverie.errors import ConfigError
from reverie.llm.embeddings import EmbedderIdentity
from reverie.llm.embeddings_bundled import BundledEmbedder
from reverie.llm.embeddings_openai import OpenAIEmbedder
from reverie.llm.offline import OfflineModel
from reverie.llm.openai_compatible import OpenAICompatibleModel


def test_without_an_upstream_the_offline_responder_answers() -> None:
    """With one, its server does."""
    assert isinstance(choose_model(Config()), OfflineModel)
    upstream = UpstreamConfig(base_url="http://127.0.0.1:9/v1", model="m")
    assert isinstance(choose_model(Config(upstream=upstream)), OpenAICompatibleModel)


def test_each_setting_opens_its_embedder() -> None:
    """`bundled`, `openai` and `none` give one each; opening loads and calls nothing."""
    assert isinstance(choose_embedder(MemoryConfig()), BundledEmbedder)
    assert choose_embedder(MemoryConfig(embedder="none")) is None
    config = MemoryConfig(embedder="openai", embedder_base_url="http://127.0.0.1:9/v1", embedder_model="text-x")
    chosen = choose_embedder(config)
    assert isinstance(chosen, OpenAIEmbedder)
    assert chosen.identity == EmbedderIdentity("openai", "text-x", "1", 0)


def test_openai_needs_a_url() -> None:
    """The setting that is missing is named."""
    with pytest.raises(ConfigError, match=r"memory\.embedder_base_url"):
        choose_embedder(MemoryConfig(embedder="openai"))
