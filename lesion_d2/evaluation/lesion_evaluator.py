"""Per-image maximum IoU, the metric of the seed experiment."""

import csv
import dataclasses
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as mask_util

from lesion_d2.data.members import ground_truth_rle
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.statistics import summarise
from lesion_d2.files import atomic_write


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One row of ``per_image.csv``; where nothing was found every score is 0."""

    image_id: int
    isic_id: str
    max_iou: float
    num_instances: int
    top_score: float
    top1_iou: float


class LesionEvaluator(DatasetEvaluator):
    """Scores each image by the largest IoU of its predicted instances with its lesion.

    Masks become run lengths at once, so memory does not grow with their size. Works in several
    processes: each scores its share and the main one gathers the rows.

    Args:
        score_threshold: an instance counts from this score on; part of every figure, because the
            maximum can only grow as it falls.
        output_dir: where ``per_image.csv`` and ``predictions.json`` go; None writes nothing.
    """

    def __init__(self, score_threshold: float, output_dir: str | Path | None = None) -> None:
        self._threshold = score_threshold
        self._output_dir = Path(output_dir) if output_dir else None
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._scores: list[ImageScore] = []
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Score a batch.

        Args:
            inputs: members with ``annotations``, as the mapper leaves them for inference.
            outputs: dicts with ``"instances"`` (``scores`` and ``pred_masks`` of shape (N, H, W))
                at each member's ``height`` x ``width``.
        """
        for member, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            instances = instances[instances.scores >= self._threshold]
            instances = instances[instances.scores.argsort(descending=True, stable=True)]
            scores = instances.scores.tolist()
            masks = instances.pred_masks.numpy().astype(np.uint8)
            rles = [mask_util.encode(np.asfortranarray(mask)) for mask in masks]
            truth = ground_truth_rle(member)
            ious = mask_util.iou(rles, [truth], [0])[:, 0].tolist() if rles else []
            row = ImageScore(
                image_id=member["image_id"],
                isic_id=member["isic_id"],
                max_iou=max(ious, default=0.0),
                num_instances=len(ious),
                top_score=max(scores, default=0.0),
                top1_iou=ious[0] if ious else 0.0,
            )
            self._scores.append(row)
            if self._output_dir:
                for rle, score, iou in zip(rles, scores, ious, strict=True):
                    self._predictions.append(
                        {
                            "image_id": row.image_id,
                            "isic_id": row.isic_id,
                            "category_id": 1,
                            "score": score,
                            "iou": iou,
                            "bbox": mask_util.toBbox(rle).tolist(),
                            "segmentation": {
                                "size": rle["size"],
                                "counts": rle["counts"].decode("ascii"),
                            },
                        }
                    )

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Gather all processes' rows, write the files and return the summary under ``"lesion"``.

        Returns None on all but the main process.

        Raises:
            LesionError: if there was no image, or one was scored twice.
        """
        comm.synchronize()
        scores = [row for part in comm.gather(self._scores) for row in part]
        predictions = [item for part in comm.gather(self._predictions) for item in part]
        if not comm.is_main_process():
            return None
        scores.sort(key=lambda row: row.image_id)
        if not scores:
            raise LesionError("evaluation: there was no image to evaluate; is the split empty?")
        if len({row.image_id for row in scores}) != len(scores):
            raise LesionError("evaluation: an image was scored twice; are its ids unique?")
        if self._output_dir:
            self._write(scores, predictions)
        table = {
            name: np.array([getattr(row, name) for row in scores])
            for name in ("max_iou", "top1_iou", "num_instances")
        }
        summary = summarise(table["max_iou"], table["top1_iou"], table["num_instances"])
        return OrderedDict(lesion={"score_threshold": self._threshold, **summary})

    def _write(self, scores: list[ImageScore], predictions: list[dict[str, Any]]) -> None:
        assert self._output_dir
        with atomic_write(self._output_dir / "per_image.csv") as stream:
            names = [field.name for field in dataclasses.fields(ImageScore)]
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(dataclasses.asdict(row) for row in scores)
        predictions.sort(key=lambda item: (item["image_id"], -item["score"]))
        with atomic_write(self._output_dir / "predictions.json") as stream:
            json.dump(predictions, stream)
