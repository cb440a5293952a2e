"""The images of the active turn: which are let through.

Only `data:` URIs in base64 of a few image types pass, within limits of number and size; a remote address never does,
so the server fetches nothing on a caller's word. Whatever is wrong, the caller reads one opaque sentence and the log
has the reason.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import RequestError
from reverie.types import ImagePart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.config import GatewayConfig

TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/heic", "image/heif"})

_DATA_URI = re.compile(r"data:(?P<type>[a-z]{1,16}/[a-z0-9.+-]{1,64})(?:;[^;,]{0,128}){0,8};base64,", re.IGNORECASE)
_PADDING_MAX = 2
_SLICE = 1024 * 1024
"""Base64 is checked in slices, so that other threads get their turn in between. A multiple of four."""


class ImageContentError(RequestError):
    """An image of the active turn was refused. `reason` is for the log alone."""

    def __init__(self, reason: str) -> None:
        super().__init__("Invalid image_url content in `messages`.", param="messages")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How many images a request may carry, and how large they may be when decoded."""

    parts_max: int
    bytes_max: int
    total_bytes_max: int

    @classmethod
    def of(cls, config: GatewayConfig) -> ImageLimits:
        """The limits of a configuration."""
        return cls(config.image_parts_max, config.image_bytes_max, config.image_total_bytes_max)


def read_images(parts: Iterable[object], limits: ImageLimits) -> tuple[ImagePart, ...]:
    """The images of the `image_url` fields of a message, in order.

    Raises:
        ImageContentError: one of them is not allowed, or together they are too many or too large.
    """
    images: list[ImagePart] = []
    total_bytes = 0
    for part in parts:
        if len(images) == limits.parts_max:
            raise ImageContentError(f"more than {limits.parts_max} images")
        image = _image(part)
        total_bytes += _checked_bytes(image.url, limits.bytes_max)
        if total_bytes > limits.total_bytes_max:
            raise ImageContentError(f"more than {limits.total_bytes_max} bytes of images")
        images.append(image)
    return tuple(images)


def _image(part: object) -> ImagePart:
    match part:
        case str(url):
            return ImagePart(url)
        case {"url": str(url), "detail": str(detail)}:
            return ImagePart(url, detail)
        case {"url": str(url)}:
            return ImagePart(url)
        case _:
            raise ImageContentError("no url")


def _checked_bytes(url: str, bytes_max: int) -> int:
    """The decoded size of a data URI that may pass."""
    head = _DATA_URI.match(url)
    if head is None:
        raise ImageContentError("not a base64 data URI")
    if (kind := head["type"].lower()) not in TYPES:
        raise ImageContentError(f"type {kind} is not allowed")
    start, length = head.end(), len(url) - head.end()
    padding = url.count("=", start)
    if not length or length % 4 or padding > _PADDING_MAX or not url.endswith("=" * padding):
        raise ImageContentError("malformed base64")
    decoded_bytes = length // 4 * 3 - padding
    if decoded_bytes > bytes_max:
        raise ImageContentError(f"an image of {decoded_bytes} bytes, more than {bytes_max}")
    _check_alphabet(url, start)
    return decoded_bytes


def _check_alphabet(url: str, start: int) -> None:
    try:
        for at in range(start, len(url), _SLICE):
            binascii.a2b_base64(url[at : at + _SLICE], strict_mode=True)
    except ValueError as error:
        raise ImageContentError("malformed base64") from error
