"""Which images are let through."""

from __future__ import annotations

from base64 import b64encode

import pytest

from reverie.gateway.images import TYPES, ImageContentError, ImageLimits, read_images
from reverie.types import ImagePart

LIMITS = ImageLimits(parts_max=3, bytes_max=9, total_bytes_max=12)
DATA = b64encode(b"123456789").decode()


def data_uri(data: str = DATA, kind: str = "image/png") -> str:
    """An image as it is sent."""
    return f"data:{kind};base64,{data}"


@pytest.mark.parametrize(
    ("part", "image"),
    [
        *(({"url": data_uri(kind=kind)}, ImagePart(data_uri(kind=kind))) for kind in sorted(TYPES)),
        (data_uri(), ImagePart(data_uri())),
        ({"url": data_uri(), "detail": "high"}, ImagePart(data_uri(), "high")),
        ({"url": data_uri(), "detail": None}, ImagePart(data_uri())),
        (f"data:image/png;charset=utf-8;base64,{DATA}", ImagePart(f"data:image/png;charset=utf-8;base64,{DATA}")),
        (f"DATA:image/PNG;BASE64,{DATA}", ImagePart(f"DATA:image/PNG;BASE64,{DATA}")),
    ],
)
def test_images_in_base64_pass_as_they_are(part: object, image: ImagePart) -> None:
    """Allowed types, with parameters, in any case."""
    assert read_images([part], LIMITS) == (image,)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([None], "no url"),
        ([{"url": 1}], "no url"),
        (["http://example.com/a.png"], "not a base64 data URI"),
        ([f"data:image/png,{DATA}"], "not a base64 data URI"),
        ([data_uri(kind="application/pdf")], "type application/pdf is not allowed"),
        ([data_uri(kind="image/svg+xml")], "type image/svg+xml is not allowed"),
        ([data_uri("")], "malformed base64"),
        ([data_uri("AAA")], "malformed base64"),
        ([data_uri("A===")], "malformed base64"),
        ([data_uri("A=AA")], "malformed base64"),
        ([data_uri("AA\nA")], "malformed base64"),
        ([data_uri("AA-_")], "malformed base64"),
        ([data_uri("AAAé")], "malformed base64"),
        ([data_uri(b64encode(b"1234567890").decode())], "an image of 10 bytes, more than 9"),
        ([data_uri()] * 2, "more than 12 bytes of images"),
        ([data_uri("AA==")] * 4, "more than 3 images"),
    ],
)
def test_everything_else_is_refused_with_one_sentence(parts: list[object], reason: str) -> None:
    """The caller reads the same words each time; the log has the reason."""
    with pytest.raises(ImageContentError) as caught:
        read_images(parts, LIMITS)
    assert (str(caught.value), caught.value.reason) == ("Invalid image_url content in `messages`.", reason)


def test_a_large_image_is_checked_to_its_end() -> None:
    """Also beyond the first slice."""
    limits = ImageLimits(1, 10_000_000, 10_000_000)
    good = data_uri("QUJD" * 1_000_000)
    assert read_images([good], limits) == (ImagePart(good),)
    with pytest.raises(ImageContentError):
        read_images([good[:-2] + "!!"], limits)


def test_no_images_may_be_allowed() -> None:
    """A limit of none refuses the first."""
    with pytest.raises(ImageContentError):
        read_images([data_uri()], ImageLimits(0, 9, 9))
