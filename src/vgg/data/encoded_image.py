"""One encoded picture: its size from the header, and its pixels."""

import contextlib
import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")

FORMAT_NAMES = "JPEG, PNG, WebP, BMP or TIFF"

LONGEST = 32  # times as long as wide, at most: a rescaled strip has no bounds, 1 x 20,000 would be 256 x 5,120,000

MOST_PIXELS = 2**28  # of a grey or RGB JPEG; any other picture: twice Image.MAX_IMAGE_PIXELS, 179 million

PNG_START = b"\x89PNG\r\n\x1a\n"

NO_PIXELS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf")  # chunks of a PNG that may be of any size

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

warnings.filterwarnings("ignore", module="PIL")  # of a file's odd metadata, without the file's name


def reason(error: Exception) -> str:
    """What one of UNREADABLE says of a file, without its name and without an object in memory."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is no {FORMAT_NAMES} picture"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def rgb(image: Image.Image) -> np.ndarray:
    """(height, width, 3) uint8: of 16 bits the upper 8, without an alpha channel."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))


def without_texts(png: bytes) -> bytes:
    """A PNG without its texts, colour profile and EXIF: Pillow refuses large ones, whatever the pixels."""
    kept, at = [png[: len(PNG_START)]], len(PNG_START)
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in NO_PIXELS:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


class Picture:
    """A picture in one of FORMATS, told by content; `size` is (width, height) in pixels, `mode` as Pillow calls it.

    libjpeg-turbo decodes the sound grey and RGB JPEGs, Pillow everything else: it has the last word on what can be
    read. Raises one of UNREADABLE, here or from `pixels`, for anything that is not such a picture, has more than
    MOST_PIXELS, or is more than LONGEST times as long as wide.
    """

    def __init__(self, data: bytes):
        self.data, self.plain_jpeg = data, False
        with contextlib.suppress(ValueError):
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            self.size = width, height
            self.form, self.mode = "JPEG", "L" if colours == "Gray" else "RGB"
            self.plain_jpeg = colours in ("Gray", "YCbCr", "RGB") and width * height <= MOST_PIXELS
        if not self.plain_jpeg:
            if data.startswith(PNG_START):
                self.data = without_texts(data)
            with Image.open(io.BytesIO(self.data), formats=FORMATS) as image:
                self.size, self.form, self.mode = image.size, image.format, image.mode
        short, long = sorted(self.size)
        if long > LONGEST * short:
            width, height = self.size
            raise ValueError(
                f"{width} x {height} pixels, more than {LONGEST} times as long as wide: cut it into pieces"
            )

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
        size, where that is at least so wide. One of more than Image.MAX_IMAGE_PIXELS, 89 million, always is.
        """
        if self.plain_jpeg:
            factor = 2 if width else 1
            if self.size[0] * self.size[1] > Image.MAX_IMAGE_PIXELS:
                half = -(-self.size[0] // 2)
                width, factor = min(width or half, half), 2
            with contextlib.suppress(ValueError):
                return simplejpeg.decode_jpeg(self.data, min_width=width, min_factor=factor)
        with Image.open(io.BytesIO(self.data), formats=FORMATS) as image:
            return rgb(image)
