"""Ids that are made of what they name, so that the same thing is never there twice."""

from __future__ import annotations

import hashlib
import json

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
ID_CHARS = 12


def digest_of(*parts: object) -> str:
    """A digest of values, 32 hex digits: the same for the same values in the same order."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()[:32]


def content_id(prefix: str, *parts: object) -> str:
    """An id such as `tr_4k2m…`: 12 characters of Crockford's base32, of a digest of what it names."""
    number = int(digest_of(*parts), 16)
    return f"{prefix}_" + "".join(CROCKFORD[(number >> 5 * place) & 31] for place in range(ID_CHARS))
