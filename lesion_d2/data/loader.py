"""Data loaders whose order and randomness are functions of the seed and the iteration alone.

Detectron2's training sampler starts its stream anew at every start of the program, and its
workers keep random states of their own, so a resumed run sees other samples than one that was
never stopped. Here sample number ``p`` of a run is always the same member with the same
augmentation: the sampler yields positions in the stream, and everything follows from them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from lesion_d2.data.datasets import datasets_root
from lesion_d2.data.manifest import read_fingerprints
from lesion_d2.data.mapper import (
    TRUTH_ADVICE,
    LesionMapper,
    OriginalTruth,
    check_truth_size,
    truth_path,
)
from lesion_d2.data.members import with_flips
from lesion_d2.errors import LesionError
from lesion_d2.images.reading import read_header
from lesion_d2.images.source import BadFileError, read_source

# Holds the header of nearly any image file.
_HEADER_BYTES = 2**18


class ShuffledEpochs(Dataset[dict[str, Any]]):
    """An endless stream of members: item ``p`` is member ``p mod n`` of epoch ``p div n``'s order.

    It has the key ``"sample_seed"``, from which a mapper draws that sample's augmentation.
    """

    def __init__(self, members: list[dict[str, Any]], seed: int) -> None:
        self._members = DatasetFromList(members, copy=False)
        self._seed = seed
        self._epoch = -1
        self._order: np.ndarray = np.empty(0, int)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, position: int) -> dict[str, Any]:
        epoch, offset = divmod(position, len(self._members))
        if epoch != self._epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, generator.permutation(len(self._members))
        member = self._members[int(self._order[offset])]
        return {**member, "sample_seed": [self._seed, position]}


class PositionSampler(Sampler[int]):
    """Yields this process's positions of the stream, starting at any iteration.

    Iteration ``i`` of a run takes positions ``i * total_batch_size`` and up; each process takes
    its consecutive share of them, so the number of processes does not change what a step sees.
    """

    def __init__(self, total_batch_size: int, first_iteration: int = 0) -> None:
        self.total_batch_size = total_batch_size
        self.first_iteration = first_iteration

    def __iter__(self) -> Iterator[int]:
        share = self.total_batch_size // comm.get_world_size()
        start = self.first_iteration * self.total_batch_size + comm.get_rank() * share
        while True:
            yield from range(start, start + share)
            start += self.total_batch_size


def load_members(names: Sequence[str], flips: Sequence[str]) -> list[dict[str, Any]]:
    """Return the members of the named data sets, flips included.

    Raises:
        LesionError: if a name is not registered, its files are missing or damaged, or it is empty.
    """
    records = []
    for name in names:
        if name not in DatasetCatalog:
            raise LesionError(
                f"DATASETS: {name!r} is not registered; data sets are found below "
                f"{datasets_root()} ($DETECTRON2_DATASETS)"
            )
        try:
            found = DatasetCatalog.get(name)
        except OSError as error:  # Detectron2's own, which are not here
            raise LesionError(f"DATASETS: {name!r} cannot be read ({error})") from error
        # A set that was registered with Detectron2's own functions has no such key.
        named = [{"isic_id": Path(record["file_name"]).stem} | record for record in found]
        (most, times), *_ = [*Counter(r["isic_id"] for r in named).most_common(1), ("", 0)]
        if times > 1:
            raise LesionError(
                f"DATASETS: {name!r}: {times} images are called {most}; name each by a key isic_id"
            )
        records += named
    if not records:
        raise LesionError(f"DATASETS: {', '.join(names) or 'no name given'}: no image in it")
    return with_flips(records, flips)


def describe_data(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what registered data sets hold, by name, as plain values.

    ``records_sha256`` is over ids, sizes and annotations, wherever the files lie; a converted set
    has the fingerprints of its ``split.json`` too.

    Raises:
        LesionError: if one cannot be read.
    """
    described = {}
    for name in names:
        digest = hashlib.sha256()
        for record in load_members((name,), ("none",)):
            parts = [record[key] for key in ("isic_id", "height", "width", "annotations")]
            digest.update(json.dumps(parts, sort_keys=True, default=repr).encode())
        fingerprints = read_fingerprints(MetadataCatalog.get(name).get("image_root"))
        described[name] = fingerprints | {"records_sha256": digest.hexdigest()}
    return described


def check_members(names: Sequence[str], *, evaluation: bool, truth_dir: str = "") -> None:
    """Check every record of registered data sets and the header of every file.

    In an ``evaluation`` each image must show just one lesion, and have its mask in ``truth_dir``
    where one is given; for training, at least one.

    Raises:
        LesionError: for the first record or file that cannot be used.
    """
    for record in load_members(names, ("none",)):
        path, count = Path(record["file_name"]), len(record["annotations"])
        if count != 1 and (evaluation or not count):
            raise LesionError(
                f"{path}: {count} annotations; give {'one' if evaluation else 'at least one'}, "
                "the lesion"
            )
        if any(annotation["category_id"] for annotation in record["annotations"]):
            raise LesionError(f"{path}: annotations of several categories; give one, the lesion")
        height, width = _shown_size(path, "mend it, or convert the data set again")
        if (height, width) != (record["height"], record["width"]):
            raise LesionError(
                f"{path}: is {width}x{height}, the data set says "
                f"{record['width']}x{record['height']}; convert the data set again"
            )
        if truth_dir:
            path = truth_path(record, truth_dir)
            check_truth_size(path, _shown_size(path, TRUTH_ADVICE), record)


def _shown_size(path: Path, advice: str) -> tuple[int, int]:
    try:
        if path.is_file():  # nothing waits for the writer of a pipe
            with path.open("rb") as stream, suppress(BadFileError):
                return read_header(stream.read(_HEADER_BYTES)).shown_size
        return read_header(read_source(path)).shown_size  # a header may be longer
    except (OSError, BadFileError) as error:
        raise LesionError(f"{path}: cannot be used ({error}); {advice}") from error


def build_train_loader(cfg: CfgNode) -> DataLoader:
    """Build the loader of training batches: lists of mapped members, without end."""
    return build_detection_train_loader(
        dataset=ShuffledEpochs(load_members(cfg.DATASETS.TRAIN, cfg.INPUT.MEMBER_FLIPS), cfg.SEED),
        mapper=LesionMapper(cfg, True),
        sampler=PositionSampler(cfg.SOLVER.IMS_PER_BATCH),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,  # its buffers would make the order depend on the past
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        # A generator of its own: starting the loader must not advance the one that steps draw from.
        seed=cfg.SEED,
    )


def build_test_loader(cfg: CfgNode, name: str) -> DataLoader:
    """Build the loader that inference reads a data set with, one image at a time.

    Members of a validation set include the flips of ``cfg.INPUT.MEMBER_FLIPS_VAL``, unless the
    masks come from ``cfg.TEST.TRUTH_DIR``.
    """
    mapper: Callable[[dict[str, Any]], dict[str, Any]] = LesionMapper(cfg, False)
    flips = cfg.INPUT.MEMBER_FLIPS_VAL if name in cfg.DATASETS.VAL else ("none",)
    if cfg.TEST.TRUTH_DIR:
        mapper, flips = OriginalTruth(mapper, cfg.TEST.TRUTH_DIR), ("none",)
    return build_detection_test_loader(
        load_members((name,), flips), mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def build_validation_loss_loader(cfg: CfgNode) -> DataLoader:
    """Build the loader for validation losses: as in training, but in order and unaugmented."""
    members = load_members(cfg.DATASETS.VAL, cfg.INPUT.MEMBER_FLIPS_VAL)
    limit = cfg.TEST.LOSS_IMAGES
    if 0 < limit < len(members):
        # Evenly spaced, so that every part of the split is in it.
        members = [members[i * len(members) // limit] for i in range(limit)]
    return build_detection_test_loader(
        members,
        mapper=LesionMapper(cfg, False, with_instances=True),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
    )
