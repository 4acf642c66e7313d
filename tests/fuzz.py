"""Damage files at random for a time, and say what is wrong with the answers.

Called as: tests/fuzz.py [--minutes N] [--seed N] [--keep DIR] [target ...]

A target reads one damaged file. It may refuse it in the way it documents; any other exception is a
finding, and so are a crash of the process and a file that takes longer than five minutes. Findings
are kept in a folder, one file each, with the text of the exception beside it.
"""

import argparse
import faulthandler
import hashlib
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SECONDS_A_BATCH = 20
SECONDS_A_FILE = 300
MAX_PIXELS = 2**20


class Target(NamedTuple):
    """What is tried.

    Attributes:
        files: makes the whole files that are damaged.
        read: reads one; returns whether it was taken, raises for a finding.
    """

    files: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], bool]


def image_files() -> Sequence[bytes]:
    """Return one picture in every format."""
    from picture_files import drawn, every_format

    return list(every_format(drawn(24, 32)).values())


def read_image_file(data: bytes) -> bool:
    """Read a file as an image and as a mask."""
    from fractions import Fraction

    from lesion_d2.images.masks import read_lesion
    from lesion_d2.images.reading import decode_image, read_header
    from lesion_d2.images.source import BadFileError

    try:
        header = read_header(data)
    except BadFileError:
        return False
    if header.height * header.width > MAX_PIXELS:  # such a size is read, but takes its time
        return False
    with suppress(BadFileError):
        assert read_lesion(data, header, 128, lambda *_: None).shape == header.shown_size
    try:
        pixels, _ = decode_image(data, header, Fraction(1, 3))
    except BadFileError:
        return False
    assert pixels.shape == (-(-header.height // 3), -(-header.width // 3), 3)
    return True


def run_length_files() -> Sequence[bytes]:
    """Return compressed run lengths of a few masks of 24x32."""
    import numpy as np

    from lesion_d2.images.run_lengths import encode_mask

    rng = np.random.default_rng(0)
    masks = [rng.random((24, 32)) < share for share in (0, 0.01, 0.5, 1)]
    return [encode_mask(mask)["counts"] for mask in masks]


def read_run_lengths(data: bytes) -> bool:
    """Check run lengths, and decode those that pass."""
    from pycocotools import mask as coco_mask

    from lesion_d2.errors import LesionError
    from lesion_d2.images.run_lengths import check_rle

    rle = {"size": [24, 32], "counts": data}
    try:
        check_rle(rle, 24, 32)
    except LesionError:
        return False
    assert coco_mask.decode(rle).shape == (24, 32)
    return True


def coco_files() -> Sequence[bytes]:
    """Return COCO files of two images, with run lengths and with a polygon."""
    import json

    counts = run_length_files()[2].decode()
    images = [
        {"id": number, "file_name": f"images/{number}.jpg", "height": 24, "width": 32}
        for number in (1, 2)
    ]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0}
    annotation |= {"bbox": [4, 4, 10, 10], "area": 100}
    shapes = ({"size": [24, 32], "counts": counts}, [[4, 4, 14, 4, 14, 14, 4, 14]])
    return [
        json.dumps(
            {
                "images": images,
                "annotations": [annotation | {"segmentation": shape}],
                "categories": [{"id": 1, "name": "lesion"}],
            }
        ).encode()
        for shape in shapes
    ]


def read_coco(data: bytes) -> bool:
    """Read the records of a COCO file."""
    import json

    from lesion_d2.data.coco import read_records
    from lesion_d2.errors import LesionError

    try:
        content = json.loads(data)
    except (ValueError, RecursionError):  # not JSON: refused where the file is read
        return False
    try:
        read_records(content, ROOT)
    except LesionError:
        return False
    return True


@cache
def bundle_files() -> Sequence[bytes]:
    """Return a bundle of the demo's network with random weights."""
    from lesion_d2.config.load import load_config
    from lesion_d2.modeling import build_network
    from lesion_d2.prediction.bundle import write_bundle

    cfg = load_config(str(ROOT / "configs" / "demo.yaml"), ["MODEL.DEVICE", "cpu"])
    with TemporaryDirectory() as folder:
        path = Path(folder, "bundle.safetensors")
        write_bundle(path, cfg, build_network(cfg), None, {})
        return [path.read_bytes()]


def read_bundle_file(data: bytes) -> bool:
    """Read a bundle."""
    from lesion_d2.errors import LesionError
    from lesion_d2.prediction.bundle import read_bundle

    with TemporaryDirectory() as folder:
        path = Path(folder, "bundle.safetensors")
        path.write_bytes(data)
        try:
            read_bundle(path)
        except LesionError:
            return False
    return True


TARGETS = {
    "images": Target(image_files, read_image_file),
    "run_lengths": Target(run_length_files, read_run_lengths),
    "coco": Target(coco_files, read_coco),
    "bundles": Target(bundle_files, read_bundle_file),
}


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return a copy with a few bytes changed, put in, taken out, repeated, or cut off."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        # Half of the places near the beginning: that is where the headers are.
        place = rng.randrange(len(content) + 1)
        if rng.random() < 0.5:
            place = min(place, rng.randrange(200))
        length = rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0:
            content[place : place + 1] = rng.randbytes(1)
        elif kind == 1:
            content[place : place + length] = rng.choice((b"\0", b"\xff", b"\x7f")) * length
        elif kind == 2:
            content[place:place] = rng.randbytes(length)
        elif kind == 3:
            del content[place : place + length]
        elif kind == 4:
            content[place:place] = content[place : place + length]
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def work(name: str, seed: int, keep: Path) -> None:
    """Try damaged files for a while; the last one lies in ``keep`` if the process dies of it."""
    rng = random.Random(seed)
    target = TARGETS[name]
    files = target.files()
    assert all(map(target.read, files))  # imports what it needs, too
    taken: Counter[bool] = Counter()
    with open(keep / f"{name}.log", "a") as log:
        faulthandler.enable(log)
        end = time.monotonic() + SECONDS_A_BATCH
        while time.monotonic() < end:
            data = damage(rng.choice(files), rng)
            with _kept(keep / f"{name}.at_hand", data), _in_time(log):
                try:
                    taken[target.read(data)] += 1
                except BaseException as error:
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    key = f"{type(error).__name__} {place.filename} {place.lineno}"
                    found = keep / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
                    found.write_bytes(data)
                    found.with_suffix(".txt").write_text(traceback.format_exc())
    print(f"{name}, seed {seed}: {taken[True]:,} read, {taken[False]:,} refused", flush=True)


@contextmanager
def _kept(path: Path, data: bytes) -> Iterator[None]:
    path.write_bytes(data)
    yield
    path.unlink()


@contextmanager
def _in_time(log: object) -> Iterator[None]:
    faulthandler.dump_traceback_later(SECONDS_A_FILE, exit=True, file=log)
    yield
    faulthandler.cancel_dump_traceback_later()


def main() -> int:
    """Parse the command line, and go on until the time is over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="where the damage begins (default: 0)")
    parser.add_argument("--keep", type=Path, default=Path("output/fuzz"), metavar="DIR")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: give any of {', '.join(TARGETS)}")
    options.keep.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    context = multiprocessing.get_context("spawn")
    seed = options.seed
    while time.monotonic() < end:
        for name in names:
            worker = context.Process(target=work, args=(name, seed, options.keep))
            worker.start()
            worker.join()
            at_hand = options.keep / f"{name}.at_hand"
            if worker.exitcode:
                at_hand.replace(options.keep / f"{name}-died-{seed}")
                print(f"{name}, seed {seed}: died with {worker.exitcode}", flush=True)
        seed += 1
    found = sorted(p.name for p in options.keep.iterdir() if "-" in p.name and not p.suffix)
    print(f"{len(found)} findings in {options.keep}", *found, sep="\n  ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
