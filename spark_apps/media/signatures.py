"""What a file is that no decoder here opens: an image format that is not decoded, a damaged image, or no image.

By its first bytes, in bounded time, and whatever they are: hostile files end here. The knowledge is Pillow's and
puremagic's; the tables below hold what both lack. Free of pyspark, Airflow and torch.
"""

from __future__ import annotations

import codecs
import io
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from PIL import Image, TiffImagePlugin

from spark_apps.media import jpeg

FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX",
    "PNG", "PPM", "PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's raster decoders. Left out on purpose: those that run other programs (EPS) or only parse a header."""
HEAD = 4096
"""Bytes that are looked at."""
MOST_SEGMENTS = 10_000
"""Of a JPEG before its frame; profiles and XMP have one for each 64 KB."""
MOST_TAGS = 1_000
"""Of a TIFF's directory that is read once more for what it says."""
TELLING = 3
"""A signature counts when at least so many of its bytes are neither 0, 1 nor 255: 01 00 00 00 tells nothing."""
TELLING_TEXT = 9
"""And at least so many in text, which may begin with any word."""


@dataclass(frozen=True)
class Kind:
    """Why a file gives no pixels: the quarantine code, and a sentence for a person."""

    code: str
    message: str


UNKNOWN = Kind("not_an_image", "The content is not an image.")


def _undecoded(name: str) -> Kind:
    return Kind("unsupported_format", f"It is {name}, which is not decoded here.")


def _no_image(what: str) -> Kind:
    return Kind("not_an_image", f"It is {what}.")


Signature = tuple[int, bytes, str]
"""Where it stands, its bytes, and a name."""

_DECODED: tuple[Signature, ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    *((0, magic, "TIFF") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (0, b"\0\0\0\x0cjP", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (8, b"WEBP", "WEBP"),
    (4, b"ftypavi", "AVIF"),
    (0, b"8BPS", "PSD"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
)
"""Formats that are decoded here, under Pillow's names."""

_NOT_DECODED: tuple[Signature, ...] = (
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG image"),
    (0, b"\xff\x10\xff\x50", "a JPEG XS image"),
    (0, b"#?RGBE", "a Radiance HDR image"),
    (0, b"PF\n", "a PFM image in colour"),
    (0, b"FLIF", "a FLIF image"),
    (0, b"\xabKTX ", "a KTX texture"),
    (0, b"msid", "a MrSID image"),
    (0, b"\x01\0\x09\0\0\x03", "a Windows metafile (WMF)"),
    (40, b" EMF", "an enhanced Windows metafile (EMF)"),
    (8, b"ACON", "an animated cursor (ANI)"),
    (20, b"GIMP", "a GIMP brush"),
    (38, b"image/openraster", "an OpenRaster image"),
    (38, b"application/x-krita", "a Krita image"),
    (522, b"\0\x11\x02\xff\x0c\0", "a PICT image"),
    (2048, b"PCD_", "a Kodak Photo CD image"),
    (0, b"%PDF", "a PDF document"),
)
_NO_IMAGE: tuple[Signature, ...] = (
    (0, b"\0\0\x01\xba", "a video (MPEG)"),
    (0, b"\0\0\x01\xb3", "a video (MPEG)"),
    (0, b"PK\x03\x04", "an archive (ZIP), or a document that is one: unpack it first"),
    (0, b"\0\x05\x16\x07", "what macOS keeps beside a file (AppleDouble), not the photo itself"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the photo itself: fetch it by `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer, not the photo itself: fetch it by `git annex get`"),
)

_REWRITTEN: tuple[Signature, ...] = (
    (0, b"\xef\xbf\xbd" * 3, "JPEG"),
    (0, b"\xef\xbf\xbdPNG", "PNG"),
    (0, b"\xc3\xbf\xc3\x98\xc3\xbf", "JPEG"),
    (0, b"\xc2\x89PNG", "PNG"),
)
"""Bytes of an image that a program took for text and wrote again, in UTF-8."""

_IMAGE_ENDINGS = (
    ".bpg", ".cal", ".cin", ".cpt", ".crw", ".dcm", ".dpx", ".hdr", ".jb2", ".ntf", ".orf", ".psp", ".rw2", ".wmf",
)  # fmt: skip
"""What puremagic does not call an image by a media type."""
_DECODED_TYPES = ("image/x-pcx", "image/x-rgb", *(f"image/x-portable-{kind}map" for kind in ("bit", "gray", "pix")))
"""What puremagic finds of the formats that are decoded here and are not in `_DECODED`."""
_ODD_PILLOW = ("CUR", "FPX", "GBR", "MCIDAS", "MIC", "MPEG", "WMF", "XBM")
"""Pillow's formats that it takes other files for, or that are told better here."""

_CONTAINERS = (b"RIFF", b"RIFX", b"FORM", b"PK\x03\x04")
"""What puremagic names after one of the many kinds of file that begin so."""

_HEIF = re.compile(rb"mif[1-9]|miaf|msf1|he[iv][a-z]|avc[is]|vvi[cs]|evb[is]|j2k[is]|jpg[s ]|MiH[ABE]|1pic")
"""Brands of ISO/IEC 23008-12 and 23000-22: mif1 to mif3, heic to hevx and their like, and those of other codecs."""
_SOUND = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ")

_UNSUPPORTED = re.compile(
    r"unsupported|not (yet )?supported|not (available|installed)|unimplemented|cannot handle"
    r"|unknown (pixel mode|data organization)|unable to determine J2K",
    re.IGNORECASE,
)
"""How Pillow says that it knows the format, and does not decode this kind of it."""

_ROOT = re.compile(rb"(?>\s|<\?.*?\?>|<!--.*?-->|<!doctype[^>\[]*+(?>\[.*?\])?[^>]*+>)*+<([\w:.-]+)", re.S | re.I)
"""The first element of a document, after declarations and comments. Atomic: no text makes it slow."""
_WEB_PAGE = (b"html", b"head", b"body", b"script", b"title", b"meta", b"div", b"h1", b"table")
_XBM = re.compile(rb"#define\s+\w*_?width\s+\d")
_BASE64 = re.compile(rb"(data:[\w/+.;=-]+,)?(/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkq|TU0AK)[A-Za-z0-9+/\s]*=*\s*")


def told(content: bytes) -> Kind:
    """What `content` is, which no decoder here has identified."""
    head = bytes(content[:HEAD])
    bare = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for given in (head, bare):
        if name := _named(given, _DECODED):
            if given is bare and len(bare) < len(head):
                return Kind("corrupt", f"It is {name} behind {len(head) - len(bare)} bytes that spoil it.")
            return variant(content, name) or Kind("corrupt", f"It begins like {name}, but its header is damaged.")
    if name := _named(head, _REWRITTEN):
        return Kind("corrupt", f"It was {name}, and a copy as text has destroyed it.")
    for finder in (_media, _listed, _markup, _of_pillow, _of_puremagic, _text):
        with suppress(Exception):  # of other people's code on hostile bytes; the next finder may know
            if kind := finder(head):
                return kind
    return UNKNOWN


def variant(content: bytes, name: str) -> Kind | None:
    """That `content` is a kind of a decoded format which is not decoded; None: as far as can be told it is one that is.

    `name` is Pillow's of the format.
    """
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "PSD":
            return _psd(content)
        if kind := undecoded(content):
            return kind
        Image.init()
        try:
            Image.OPEN[name][0](io.BytesIO(content), "")
        except Exception as error:
            if name == "TIFF":
                return _tiff(content, str(error))
            return _undecoded(f"of the format {name}, but of a rare kind ({error})") if refused(str(error)) else None
    return None


def refused(reason: str) -> bool:
    """Whether Pillow's `reason` says that a kind of a format is not decoded, rather than that it is damaged."""
    return _UNSUPPORTED.search(reason) is not None


def undecoded(content: bytes) -> Kind | None:
    """That a JPEG or PNG which Pillow opens is of a kind that is not decoded; None: it is not, or is another format."""
    if content.startswith(jpeg.START):
        return _jpeg(content)
    if content.startswith(b"\x89PNG") and content[12:16] == b"CgBI":
        return _undecoded("a PNG of Apple's own kind (CgBI), as its tools put it into apps")
    return None


def _jpeg(content: bytes) -> Kind | None:
    """That a JPEG's frame is none of those that are decoded: Huffman or arithmetic, 8 bits, 1, 3 or 4 components.

    ITU-T T.81, table B.1: markers SOF3, 5 to 7, 11 and 13 to 15 are lossless or hierarchical; T.87: SOF55 is JPEG-LS.
    """
    first = islice(jpeg.segments(content), MOST_SEGMENTS)
    frames = (found for found in first if found[1] == 0xF7 or 0xC0 <= found[1] <= 0xCF)
    _, marker, segment = next((found for found in frames if found[1] not in (0xC4, 0xC8, 0xCC)), (0, 0, b""))
    if len(segment) < 6:
        return None
    if marker == 0xF7:
        return _undecoded("a JPEG-LS image")
    if marker in (0xC3, 0xC7, 0xCB, 0xCF):
        return _undecoded("a lossless JPEG")
    if marker in (0xC5, 0xC6, 0xCD, 0xCE):
        return _undecoded("a hierarchical JPEG")
    if segment[0] != 8:
        return _undecoded(f"a JPEG of {segment[0]} bits a sample")
    if segment[5] not in (1, 3, 4):
        return _undecoded(f"a JPEG of {segment[5]} components")
    return None


def _psd(content: bytes) -> Kind | None:
    """Adobe Photoshop File Formats Specification, File Header Section: version, channels, depth and mode."""
    version, depth = (int.from_bytes(content[at : at + 2], "big") for at in (4, 22))
    if version == 2:
        return _undecoded("a large Photoshop document (PSB)")
    return _undecoded(f"a Photoshop image of {depth} bits a channel") if depth in (16, 32) else None


def _tiff(content: bytes, reason: str) -> Kind | None:
    """Where its directory can be read, and Pillow's reason is none of damage."""
    if content[2:4] in (b"+\0", b"\0+") and not refused(reason):
        return _undecoded("a BigTIFF of a rare kind")
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    big = 43 in content[2:4]
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if big else 8])
    if int.from_bytes(content[directory.next : directory.next + (8 if big else 2)], order) > MOST_TAGS:
        return None
    source = io.BytesIO(content)
    source.seek(directory.next)
    directory.load(source)
    samples, bits = directory.get(277, 1), directory.get(258, (1,))
    compression = directory.get(259, 1)
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return _undecoded(f"a TIFF with compression {compression}")
    if not refused(reason) or not 0 < max(bits) <= 64:
        return None
    numbers = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
    kind = numbers.get(max(directory.get(339, (1,))), "integers")
    return _undecoded(f"a TIFF with {samples} samples a pixel, {kind} of {max(bits)} bits")


# --- files of other kinds ---------------------------------------------------------------------------------------------


def _named(head: bytes, signatures: Iterable[Signature]) -> str | None:
    for at, magic, name in signatures:
        if head.startswith(magic, at):
            long_enough = len(magic) >= TELLING_TEXT or magic[:1] in (b"%", b"#")  # no text begins so by chance
            if long_enough or not _is_text(head):
                return name
    return None


def _media(head: bytes) -> Kind | None:
    """ISO/IEC 14496-12, 4.3: a file of boxes begins with its brand and those that it is compatible with."""
    brands = _brands(head)
    if not brands:
        return None
    if b"avif" in brands or b"avis" in brands:
        return Kind("corrupt", "It begins like AVIF, but its header is damaged.")
    if any(_HEIF.fullmatch(brand) for brand in brands):
        return Kind("corrupt", "It begins like HEIF, but its header is damaged.")
    brand = brands[0].decode("ascii", "replace").strip()
    return _no_image(f"a sound file ({brand})" if brands[0] in _SOUND else f"a video (MPEG-4 or QuickTime, {brand})")


def heif(head: bytes) -> bool:
    """Whether a file says that it is HEIF, and not AVIF, which is HEIF with another codec."""
    brands = _brands(head)
    return any(_HEIF.fullmatch(brand) for brand in brands) and not {b"avif", b"avis"} & {*brands}


def _brands(head: bytes) -> list[bytes]:
    """Those of a file of boxes, the major one first; none: it is no such file."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head), 512)
    return [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]


def _listed(head: bytes) -> Kind | None:
    if name := _named(head, _NOT_DECODED):
        return _undecoded(name)
    if head.startswith(b"\0\0\2\0") and head[4:6] != b"\0\0" and head[9:10] == b"\0":
        return _undecoded("a Windows cursor (CUR)")
    if head.startswith(b"\0\0\1\0") and head[4:6] != b"\0\0" and head[9:10] == b"\0":
        return Kind("corrupt", "It begins like an icon (ICO), but its header is damaged.")
    name = _named(head, _NO_IMAGE)
    return _no_image(name) if name else None


def _markup(head: bytes) -> Kind | None:
    bare = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not bare.startswith(b"<"):
        return None
    found = _ROOT.match(bare)
    root = found[1].lower().rpartition(b":")[2] if found else b""
    if root == b"svg":
        return _undecoded("an SVG drawing")
    if root in _WEB_PAGE or bare[:15].lower().split() == [b"<!doctype", b"html"]:
        return _no_image("a web page (HTML), perhaps what a server said instead of the photo")
    return _no_image("an XML document") if bare.startswith(b"<?xml") or found else None


def _of_pillow(head: bytes) -> Kind | None:
    Image.init()
    for name, (_, accept) in Image.OPEN.items():
        if name not in (*FORMATS, *_ODD_PILLOW) and accept and accept(head[:16]) is True:
            return _undecoded(f"an image of the format {name}")
    return _undecoded("an XBM image") if _XBM.match(head) else None


def _of_puremagic(head: bytes) -> Kind | None:
    """By its longest signature, when that is not only a container's and tells enough."""
    import puremagic  # not above: a worker's environment that was packed before this was needed still decodes

    least = TELLING_TEXT if _is_text(head) else TELLING
    found = [match for match in puremagic.magic_string(head) if match.offset >= 0 and _tells(match.byte_match, least)]
    if not found:
        return None
    longest = max(len(match.byte_match) for match in found)
    best = [match for match in found if len(match.byte_match) == longest]
    for match in best:
        if match.mime_type.startswith(_DECODED_TYPES):
            return Kind("corrupt", f"It begins like “{match.name}”, but its header is damaged.")
        if match.mime_type.startswith("image/") or (match.extension in _IMAGE_ENDINGS and "compress" not in match.name):
            return _undecoded(f"of the kind “{match.name}”")
    for media, what in (("video/", "a video"), ("audio/", "sound")):
        for match in best if any(match.mime_type for match in best) else found:
            if match.mime_type.startswith(media):
                return _no_image(f"{what} ({match.name})")
    name = best[0].name
    packed = re.search("archive|compress", name, re.IGNORECASE)
    return _no_image(f"compressed or packed ({name}): unpack it first" if packed else f"of the kind “{name}”")


def _tells(magic: bytes, least: int) -> bool:
    return magic not in _CONTAINERS and sum(byte not in (0, 1, 255) for byte in magic) >= least


def _text(head: bytes) -> Kind | None:
    if not _is_text(head):
        return None
    if _BASE64.fullmatch(head.rstrip()):
        return _no_image("an image as base64 text: decode it first")
    return _no_image("text")


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; a character that the end of `head` cuts does not count."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)
