"""One DICOM image, read with pydicom when that is installed."""

import io

import numpy as np
from PIL import Image

from lesion_d2.images.jpeg import decode_jpeg
from lesion_d2.images.source import BadFileError

# Transfer syntaxes whose frames are JPEG files: baseline and extended.
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
# One stream of zlib for all behind the header.
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def open_dicom(data: bytes, max_pixels: int) -> Image.Image:
    """Return the first frame of a file, in 8 bits; more pixels are refused before they are decoded.

    Raises:
        BadFileError: ``unreadable`` when pydicom is not installed, or the file holds no picture in
            colours or shades of grey, or is deflated as a whole; ``too_large``.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, pixel_array
    except ImportError as error:
        raise BadFileError("unreadable", "a DICOM file; pip install pydicom to read it") from error
    # pydicom would inflate it before any size is known. It reads a damaged header in more than one
    # way, so the name counts wherever it stands.
    if _DEFLATED in data:
        raise BadFileError("unreadable", "a deflated DICOM file; save it uncompressed")
    dataset = pydicom.dcmread(io.BytesIO(data))
    height, width = int(dataset.Rows), int(dataset.Columns)
    if height * width > max_pixels:
        raise BadFileError("too_large", f"{height * width:,} pixels")
    photometric = str(dataset.PhotometricInterpretation)
    if dataset.file_meta.TransferSyntaxUID in _JPEG:
        frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
        mode = "L" if dataset.SamplesPerPixel == 1 else "RGB"
        pixels = decode_jpeg(frame, mode, (height, width), 1)[0]
        pixels = pixels if mode == "L" else pixels[:, :, ::-1]
    else:
        pixels = pixel_array(dataset, index=0)  # YCbCr comes as RGB
        if photometric == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
            pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
        elif dataset.BitsStored > 8:
            pixels = (pixels >> (dataset.BitsStored - 8)).clip(0, 255).astype(np.uint8)
    if photometric == "MONOCHROME1":  # the lowest value is white
        pixels = 255 - pixels
    return Image.fromarray(np.ascontiguousarray(pixels, np.uint8))
