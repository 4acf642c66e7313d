"""The whole conversion: from folders or archives of images to a data set folder."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath

from lesion_d2.convert.coco import find_drawn
from lesion_d2.convert.groups import read_groups
from lesion_d2.convert.output import AUDIT, output_folder, write_audit, write_coco
from lesion_d2.convert.pair import PairSettings, Record, Resize, convert_pair
from lesion_d2.convert.pairs import (
    MASK_SUFFIXES,
    AuditRow,
    Pair,
    find_pairs,
    image_numbers,
    is_isic,
)
from lesion_d2.convert.sources import Places, as_paths
from lesion_d2.convert.split import deal, fingerprint, shortfall
from lesion_d2.convert.summary import Summary
from lesion_d2.data.converted import SPLITS
from lesion_d2.data.manifest import Manifest, read_manifest
from lesion_d2.errors import LesionError
from lesion_d2.images.duplicates import find_near_duplicates, group_pairs
from lesion_d2.parallel import map_in_processes


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert and how.

    Attributes:
        folders: the folders or zip archives of images and those of masks, either under the one
            key ``all``, to be split here, or under any of ``train``, ``val`` and ``test``, to stay
            so.
        output: the folder to create.
        seed: of the split.
        test_fraction: part of all pairs, rounded up, in [0, 1].
        val_fraction: part of the pairs that are not test, rounded up, in [0, 1].
        prescale: factor for both sides before the resize rule, in (0, 1].
        resize: ``original`` (25 % a side above 700 x 700 pixels), ``none``, or the longest side.
        foreground: 255 (only 255 is lesion) or 128 (above 128 is lesion).
        polygons: write polygons in place of the exact RLE.
        workers: number of processes; 1 stays in this one.
        mask_suffixes: what the name of a mask has beyond that of its image, in any case.
        image_suffix: what is left out at the end of an image's name, in any case.
        coco: a COCO file of another tool, in place of masks.
        category: the name of the lesion in it; None for its only category.
        split_file: a split that is used, see :func:`~lesion_d2.data.manifest.read_manifest`.
        group: search for near-duplicates: to keep them in one split, or where the split is given
            and was not made by such a search, to note those that straddle it.
        groups: a CSV file; images of one group stay in one split, see
            :func:`~lesion_d2.convert.groups.read_groups`.
        strict: fail instead of leaving a pair out.
        overwrite: replace a converted data set at ``output``.
    """

    folders: dict[str, tuple[Places, Places]]
    output: Path
    seed: int = 0
    test_fraction: float = 0.25
    val_fraction: float = 0.25
    prescale: float = 1.0
    resize: Resize = "original"
    foreground: int = 255
    polygons: bool = False
    workers: int = 1
    mask_suffixes: Sequence[str] = MASK_SUFFIXES
    image_suffix: str = ""
    coco: Path | None = None
    category: str | None = None
    split_file: Path | None = None
    group: bool = True
    groups: Path | None = None
    strict: bool = False
    overwrite: bool = False


def convert(options: ConvertOptions) -> Summary:
    """Convert an archive to a data set folder.

    The folder appears at ``options.output`` when everything has worked; until then it is built
    beside it, as ``.<name>.partial``.

    Raises:
        LesionError: for options that make no sense, an output that must not be replaced, an
            input without one usable pair, and, with ``strict``, for any pair left out.
    """
    options = replace(options, output=options.output.resolve())
    _check(options)
    pairs, given, rows = _collect(options)
    manifest = read_manifest(options.split_file) if options.split_file else None
    if manifest:
        given = manifest.split_of()
        pairs = _keep_known(pairs, given, rows)
    _check_strict(options, rows)

    with output_folder(options.output, options.overwrite) as folder:
        settings = PairSettings(
            images=folder / "images",
            prescale=Fraction(str(options.prescale)),
            resize=options.resize,
            foreground=options.foreground,
            polygons=options.polygons,
            # A split that kept near-duplicates together was searched when it was made.
            signatures=options.group and not (manifest and manifest.grouped),
        )
        records = {}
        work = partial(convert_pair, settings=settings)
        results = map_in_processes(work, pairs, options.workers, "converting", "pair")
        for record, notes in results:
            rows += notes
            if record:
                records[record.isic_id] = record
        _check_strict(options, rows)
        if not records:
            raise _no_pair(options, rows)

        places = {pair.isic_id: pair.image.bare for pair in pairs if pair.isic_id in records}
        groups = _find_groups(options, records, places, given, rows)
        manifest = _split(options, records, groups, given, manifest)
        keys = ("prescale", "resize", "foreground")
        for split, ids in manifest.splits.items():
            info = {"description": f"{_source(records)}, {split} split"}
            info |= {key: getattr(options, key) for key in keys}
            write_coco(folder / f"{split}.json", [records[isic_id] for isic_id in ids], info)
        manifest.write(folder / "split.json")
        write_audit(folder / AUDIT, rows)
    sizes = {split: len(ids) for split, ids in manifest.splits.items()}
    lacking = {} if given else shortfall(sizes, options.test_fraction, options.val_fraction)
    count = len(manifest.groups)
    return Summary(options.output, sizes, lacking, count, sorted(rows), options.foreground)


def _check(options: ConvertOptions) -> None:
    for name in ("test_fraction", "val_fraction"):
        if not 0 <= (fraction := getattr(options, name)) <= 1:
            raise LesionError(f"{name}: {fraction} is not between 0 and 1")
    if not 0 < options.prescale <= 1:
        raise LesionError(f"prescale: {options.prescale} is not above 0 and at most 1")
    if isinstance(options.resize, int) and options.resize < 1:
        raise LesionError(f"resize: {options.resize} is not a number of pixels")
    if options.workers < 1:
        raise LesionError(f"workers: {options.workers} is less than 1")
    if options.split_file and "all" not in options.folders:
        raise LesionError("split_file: the folders already are a split; leave one of them out")
    if not options.mask_suffixes or not all(options.mask_suffixes):
        raise LesionError("mask_suffixes: empty; give what a mask's name ends with, as _mask")
    if options.coco and ("all" not in options.folders or as_paths(options.folders["all"][1])):
        raise LesionError("coco: the lesions are in the file; leave the folders of masks out")
    if options.category and not options.coco:
        raise LesionError("category: is of a COCO file; give one, too")
    for folder in (path.resolve() for path in _inputs(options)):
        if folder.is_relative_to(options.output) or options.output.is_relative_to(folder):
            raise LesionError(
                f"{options.output}: lies inside an input folder, or holds one; "
                "give an output folder apart from them"
            )


def _inputs(options: ConvertOptions) -> list[Path]:
    """Return all folders and archives that are read."""
    parts = options.folders.values()
    return [path for images, masks in parts for part in (images, masks) for path in as_paths(part)]


def _collect(
    options: ConvertOptions,
) -> tuple[list[Pair], dict[str, str], list[AuditRow]]:
    """Return the pairs of all folders, the split of each id where given, and audit rows."""
    by_id: dict[str, list[tuple[str, Pair]]] = {}
    rows = []
    for split, (images, masks) in options.folders.items():
        if options.coco:
            found, found_rows = find_drawn(options.coco, images, options.category)
        else:
            found, found_rows = find_pairs(
                images, masks, options.mask_suffixes, options.image_suffix
            )
        rows += found_rows
        for pair in found:
            by_id.setdefault(pair.isic_id, []).append((split, pair))

    pairs, given = [], {}
    for isic_id, places in sorted(by_id.items()):
        if len(places) == 1:
            pairs.append(places[0][1])
            if "all" not in options.folders:
                given[isic_id] = places[0][0]
        else:
            detail = "given for " + " and ".join(split for split, _ in places)
            rows += [
                AuditRow(isic_id, pair.image.name, "id_in_two_splits", "excluded", detail)
                for _, pair in places
            ]
    numbers = image_numbers([pair.isic_id for pair in pairs])
    return [replace(pair, number=numbers[pair.isic_id]) for pair in pairs], given, rows


def _source(ids: Iterable[str]) -> str:
    """Return what to call the data of these ids in a COCO file."""
    isic = all(is_isic(isic_id) for isic_id in ids)
    return "ISIC 2018 Task 1" if isic else "Lesions"


def _keep_known(pairs: list[Pair], known: dict[str, str], rows: list[AuditRow]) -> list[Pair]:
    """Return the pairs a manifest knows; note the others, and the ids that are not there."""
    seen = {pair.isic_id for pair in pairs} | {row.isic_id for row in rows}
    rows += [
        AuditRow(isic_id, "", "missing_from_input", "excluded", f"{split} in the split file")
        for isic_id, split in known.items()
        if isic_id not in seen
    ]
    rows += [
        AuditRow(pair.isic_id, pair.image.name, "not_in_split_file", "ignored")
        for pair in pairs
        if pair.isic_id not in known
    ]
    return [pair for pair in pairs if pair.isic_id in known]


def _check_strict(options: ConvertOptions, rows: list[AuditRow]) -> None:
    bad = sorted(row for row in rows if row.action == "excluded")
    if options.strict and bad:
        first = "; ".join(f"{row.file or row.isic_id}: {row.reason}" for row in bad[:5])
        raise LesionError(
            f"{len(bad)} files cannot be used ({first}); mend them, or convert without --strict"
        )


def _no_pair(options: ConvertOptions, rows: list[AuditRow]) -> LesionError:
    """Return the error that says why; keep the audit, unless an earlier data set is there."""
    searched = ", ".join(map(str, _inputs(options)))
    counts = Counter(row.reason for row in rows)
    first = {row.reason: row.file or row.isic_id for row in sorted(rows, reverse=True)}
    reasons = ", ".join(f"{n} {reason} ({first[reason]})" for reason, n in counts.most_common())
    reasons = reasons or "no file"
    if rows and not (options.output / "split.json").exists():
        write_audit(options.output / AUDIT, rows)
        reasons += f"; see {options.output / AUDIT}"
    return LesionError(
        f"{searched}: no usable pair of image and mask: {reasons}; check the folders"
    )


def _find_groups(
    options: ConvertOptions,
    records: dict[str, Record],
    places: dict[str, PurePosixPath],
    given: dict[str, str],
    rows: list[AuditRow],
) -> list[list[str]]:
    """Group images of one lesion; where the split is given, note those that straddle it."""
    near = _find_near(records) if options.group else []
    listed: list[tuple[str, str]] = []
    if options.groups:
        listed, others = read_groups(options.groups, places)
        rows += [AuditRow(i, "", "not_in_groups_file", "accepted", "alone") for i in others]
    reasons = ("near_duplicate_across_splits", near), ("group_across_splits", listed)
    for reason, edges in reasons if given else ():
        for group in group_pairs(edges):
            if len({given[isic_id] for isic_id in group}) > 1:
                detail = ", ".join(f"{isic_id} in {given[isic_id]}" for isic_id in group)
                rows += [AuditRow(isic_id, "", reason, "accepted", detail) for isic_id in group]
    return group_pairs(near + listed)


def _find_near(records: dict[str, Record]) -> list[tuple[str, str]]:
    """Return pairs of ids: near-duplicates, and images whose files have the same bytes."""
    signatures = {i: record.signature for i, record in records.items() if record.signature}
    near = [(pair.first, pair.second) for pair in find_near_duplicates(signatures)]
    first_of: dict[str, str] = {}
    for isic_id, record in records.items():  # a plain image has too few keypoints to be found
        first = first_of.setdefault(record.image_digest, isic_id)
        if first != isic_id:
            near.append((first, isic_id))
    return near


def _split(
    options: ConvertOptions,
    records: dict[str, Record],
    groups: list[list[str]],
    given: dict[str, str],
    manifest: Manifest | None,
) -> Manifest:
    """Return the manifest of this conversion."""
    print_of_input = fingerprint([record.digest for record in records.values()])
    if not given:
        fractions = options.test_fraction, options.val_fraction
        splits = deal(list(records), groups, options.seed, *fractions)
        return Manifest(options.seed, *fractions, options.group, print_of_input, splits, groups)
    splits = {split: sorted(i for i in records if given[i] == split) for split in SPLITS}
    if manifest:
        return replace(manifest, input_fingerprint=print_of_input, splits=splits)
    return Manifest(None, None, None, False, print_of_input, splits, groups)
