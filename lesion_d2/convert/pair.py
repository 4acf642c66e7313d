"""One pair of image and mask to one record: what a worker process does."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from lesion_d2.convert.pairs import Action, AuditRow, Pair
from lesion_d2.convert.sources import SourceFile
from lesion_d2.files import naming
from lesion_d2.images.duplicates import Signature, signature
from lesion_d2.images.masks import Note, read_lesion
from lesion_d2.images.polygons import mask_polygons
from lesion_d2.images.reading import Header, decode_image, read_header
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.images.scaling import orient, resize_mask, scaled_size, unorient
from lesion_d2.images.source import BadFileError

Resize = Literal["original", "none"] | int

# The original experiment makes images of more than 700 x 700 pixels smaller, to 25 % a side.
ORIGINAL_PIXELS = 700 * 700
_ORIGINAL_SCALE = Fraction(1, 4)
# An image that stays is decoded only to check it and for its signature, to no less than this side.
_PREVIEW_SIDE = 128
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class PairSettings:
    """What is the same for every pair.

    Attributes:
        images: the folder that receives the images.
        prescale: factor for both sides before the resize rule, in (0, 1].
        resize: ``original``, ``none``, or the longest side in pixels (images are never enlarged).
        foreground: 255 (only 255 is lesion) or 128 (above 128 is lesion).
        polygons: write polygons in place of RLE; area and box stay those of the RLE.
        signatures: also compute the signature by which near-duplicates are found.
    """

    images: Path
    prescale: Fraction
    resize: Resize
    foreground: int
    polygons: bool
    signatures: bool


@dataclass(frozen=True)
class Record:
    """A converted pair.

    Attributes:
        isic_id: of the pair.
        image: its entry in COCO's ``images``.
        annotation: its entry in COCO's ``annotations``.
        image_digest: SHA-256 of the image's input file.
        mask_digest: SHA-256 of the mask's.
        signature: for finding near-duplicates; None when not asked for.
    """

    isic_id: str
    image: dict[str, Any]
    annotation: dict[str, Any]
    image_digest: str
    mask_digest: str
    signature: Signature | None

    @property
    def digest(self) -> str:
        """One line of the fingerprint: id and SHA-256 of both input files."""
        return f"{self.isic_id} {self.image_digest} {self.mask_digest}"


class _ExcludedError(Exception):
    """A pair that cannot be used; its argument is the audit row that says why."""


def convert_pair(pair: Pair, settings: PairSettings) -> tuple[Record | None, list[AuditRow]]:
    """Read one pair, write or link its image, and return its record and audit rows.

    A file that cannot be used does not raise: the pair comes back without a record, with the one
    audit row that says why.
    """
    rows: list[AuditRow] = []
    try:
        return _convert(pair, settings, rows), rows
    except _ExcludedError as error:
        return None, [error.args[0]]
    except OSError:  # of the output: reading raises none
        raise
    except Exception as error:  # of a library: the other pairs go on
        detail = f"{type(error).__name__}: {error}"
        return None, [AuditRow(pair.isic_id, pair.image.name, "pair_failed", "excluded", detail)]


def target_scale(height: int, width: int, prescale: Fraction, resize: Resize) -> Fraction:
    """Return the factor for both sides of an image of the given size, in (0, 1]."""
    scaled_height, scaled_width = scaled_size(height, width, prescale)
    if resize == "original":
        return prescale * (_ORIGINAL_SCALE if scaled_height * scaled_width > ORIGINAL_PIXELS else 1)
    if resize == "none" or max(scaled_height, scaled_width) <= resize:
        return prescale
    return Fraction(resize, max(height, width))


def _convert(pair: Pair, settings: PairSettings, rows: list[AuditRow]) -> Record:
    with _auditing(pair, "image", rows) as note:
        image_data, image_header = _load(pair.image, note)
    height, width = image_header.shown_size
    scale = target_scale(height, width, settings.prescale, settings.resize)
    with _auditing(pair, "mask", rows) as note:
        lesion, mask_data = _read_lesion(pair, image_header, settings.foreground, note)
        stored = unorient(lesion, image_header.orientation)
        lesion = orient(resize_mask(stored, scale), image_header.orientation)
        if not lesion.any():
            raise BadFileError("empty", "no lesion is left at the smaller size")
    with _auditing(pair, "image", rows) as note:
        file_name, preview = _place_image(
            pair, settings.images, image_data, image_header, scale, note
        )
    rle = encode_mask(lesion)
    if settings.polygons:  # each region's outline: COCO has no holes
        shape: Any = [polygon.exterior.ravel().tolist() for polygon in mask_polygons(lesion)]
    else:
        shape = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    return Record(
        isic_id=pair.isic_id,
        image={
            "id": pair.number,
            "file_name": f"images/{file_name}",
            "height": lesion.shape[0],
            "width": lesion.shape[1],
            "isic_id": pair.isic_id,
            "original_height": height,
            "original_width": width,
        },
        annotation={
            "id": pair.number
            + 1,  # pycocotools' matching takes an annotation id of 0 for "no match"
            "image_id": pair.number,
            "category_id": 1,
            "segmentation": shape,
            "area": int(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "iscrowd": 0,
        },
        image_digest=hashlib.sha256(image_data).hexdigest(),
        mask_digest=hashlib.sha256(mask_data).hexdigest(),
        signature=signature(preview) if settings.signatures else None,
    )


@contextmanager
def _auditing(pair: Pair, kind: Literal["image", "mask"], rows: list[AuditRow]) -> Iterator[Note]:
    """Yield what notes a row about a file of the pair; a :class:`BadFileError` excludes both."""
    name = (pair.image if kind == "image" else pair.mask).name

    def row(reason: str, action: Action, detail: str) -> AuditRow:
        return AuditRow(pair.isic_id, name, f"{kind}_{reason}", action, detail)

    try:
        yield lambda reason, detail: rows.append(row(reason, "accepted", detail))
    except BadFileError as error:
        raise _ExcludedError(row(error.reason, "excluded", str(error))) from error


def _read_lesion(
    pair: Pair, image: Header, foreground: int, note: Note
) -> tuple[npt.NDArray[np.bool_], bytes]:
    """Return the lesion of the image's size, and the bytes that it was made from."""

    def check_size(height: int, width: int) -> None:
        if (height, width) != image.shown_size:
            fits = (height, width) == (image.height, image.width)
            hint = "; it fits the image as stored, before its EXIF rotation" if fits else ""
            shown = "{1}x{0}".format(*image.shown_size)
            raise BadFileError("size_differs", f"{width}x{height}, image {shown}{hint}")

    if pair.regions:
        check_size(pair.regions.height, pair.regions.width)
        return pair.regions.read(note), pair.regions.to_bytes()
    data, header = _load(pair.mask, note)
    check_size(*header.shown_size)
    return read_lesion(data, header, foreground, note), data


def _load(file: SourceFile, note: Note) -> tuple[bytes, Header]:
    data = file.read()
    header = read_header(data)
    if header.orientation != 1:
        note("exif_rotation", f"orientation {header.orientation} applied")
    return data, header


def _place_image(
    pair: Pair, folder: Path, data: bytes, header: Header, scale: Fraction, note: Note
) -> tuple[str, npt.NDArray[np.uint8]]:
    """Write or link the image; return its name and BGR pixels, maybe fewer, as to be seen."""
    stays = scale == 1
    smaller = header.scale_for(_PREVIEW_SIDE) if stays else scale
    decoded, complaint = decode_image(data, header, smaller)
    pixels = np.ascontiguousarray(orient(decoded, header.orientation))
    if complaint:
        note("decoder_warning", complaint)
    if header.mode.startswith("I"):
        note("16_bit", f"mode {header.mode}, the upper 8 bits are read")
    elif header.mode != "RGB":
        note("not_rgb", f"mode {header.mode}, read as RGB")

    name = pair.isic_id + (pair.image.place.suffix.lower() if stays else ".jpg")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not stays:
        _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        _write_new(target, jpeg.tobytes())
    elif pair.image.info:
        _write_new(target, data)
    else:
        _link(pair.image.path.resolve(), target, data)
    return name, pixels


def _link(source: Path, target: Path, data: bytes) -> None:
    """Let ``target`` show ``source``: as a hard link, else a symbolic link, else a copy."""
    with suppress(OSError):  # another file system, or a file of somebody else
        target.hardlink_to(source)
        return
    with suppress(OSError):  # a file system without links
        target.symlink_to(source)
        return
    _write_new(target, data)


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there: one that is may be a link to an original."""
    with naming(path), open(path, "xb") as stream:
        stream.write(data)
