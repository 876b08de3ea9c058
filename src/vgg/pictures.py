"""One encoded picture: its size from the header, and its pixels."""

import contextlib
import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
warnings.filterwarnings("ignore", module="PIL")  # of a file's odd metadata, without the file's name


def rgb(image: Image.Image) -> np.ndarray:
    """(height, width, 3) uint8: of 16 bits the upper 8, without an alpha channel."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))


class Picture:
    """A JPEG, PNG or WebP picture, told by content; `size` is (width, height) in pixels.

    libjpeg-turbo decodes the sound grey and RGB JPEGs, Pillow everything else: it has the last word on what can be
    read. Raises one of UNREADABLE, here or from `pixels`, for anything that is not such a picture.
    """

    def __init__(self, data: bytes):
        self.data, self.plain_jpeg = data, False
        with contextlib.suppress(ValueError):
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            self.size = width, height
            self.plain_jpeg = colours in ("Gray", "YCbCr", "RGB") and width * height <= Image.MAX_IMAGE_PIXELS
        if not self.plain_jpeg:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                self.size = image.size

    @classmethod
    def of(cls, image: Image.Image) -> "Picture":
        """A picture that is decoded already, as RGB in a PNG in memory: no level changes."""
        encoded = io.BytesIO()
        Image.fromarray(rgb(image)).save(encoded, "PNG", compress_level=1)
        return cls(encoded.getvalue())

    def pixels(self, width: int = 0) -> np.ndarray:
        """(height, width, 3) uint8 RGB.

        Grey, CMYK, palette and 16-bit pictures are converted, an alpha channel is dropped, and an EXIF orientation is
        ignored, as the field does for ImageNet. With `width`, a JPEG may be decoded at 1/2, 3/8, 1/4 or 1/8 of its
        size, where that is at least so wide.
        """
        if self.plain_jpeg:
            with contextlib.suppress(ValueError):
                return simplejpeg.decode_jpeg(self.data, min_width=width, min_factor=2 if width else 1)
        with Image.open(io.BytesIO(self.data), formats=FORMATS) as image:
            return rgb(image)
