"""Per-image scores: the original experiment's maximum IoU, and the challenge's metrics."""

import csv
import dataclasses
import hashlib
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
from lesion_d2.evaluation.official import SCORES, official_scores
from lesion_d2.evaluation.statistics import FAILURE_IOU, summarise
from lesion_d2.files import atomic_write
from lesion_d2.images.masks import write_mask
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.prediction.lesion import Lesion


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One row of ``per_image.csv``; what an instance would give is 0 where there is none.

    The first block is the metric of the original experiment, over the instances at or above the
    score threshold. The second is what the challenge scores: the one submitted mask. The third
    describes that mask, see :class:`lesion_d2.prediction.lesion.Lesion`.
    """

    image_id: int
    isic_id: str
    max_iou: float
    num_instances: int
    top_score: float
    top1_iou: float

    jaccard: float
    threshold_jaccard: float
    dice: float
    sensitivity: float
    specificity: float
    accuracy: float

    score: float
    candidates: int
    sharpness: float
    agreement: float
    area_share: float
    border_share: float
    estimated_iou: float | None


class LesionEvaluator(DatasetEvaluator):
    """Scores each image by its instances' largest IoU and by the one submitted mask.

    Masks become run lengths at once, so memory does not grow with their size. Works in several
    processes: each scores its share and the main one gathers the rows.

    Args:
        score_threshold: for the largest IoU an instance counts from this score on; part of every
            figure, because the maximum can only grow as it falls.
        output_dir: where ``per_image.csv``, ``predictions.json`` and the folder ``submission`` go;
            None writes nothing.
    """

    def __init__(self, score_threshold: float, output_dir: str | Path | None = None) -> None:
        self._threshold = score_threshold
        self._output_dir = Path(output_dir) if output_dir else None
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._scores: list[ImageScore] = []
        self._predictions: list[dict[str, Any]] = []
        self._truths: dict[int, str] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Score a batch.

        Args:
            inputs: members with ``annotations``, as the mapper leaves them for inference.
            outputs: of a :class:`~lesion_d2.prediction.segmenter.Segmenter`, at each member's
                ``height`` x ``width``.
        """
        for member, output in zip(inputs, outputs, strict=True):
            truth = ground_truth_rle(member)
            instances = output["instances"].to("cpu")
            scores = instances.scores.numpy()
            kept = np.argsort(-scores, kind="stable")
            kept = kept[scores[kept] >= self._threshold]
            scores = scores[kept].tolist()
            rles = [encode_mask(mask) for mask in instances.pred_masks.numpy()[kept]]
            ious = mask_util.iou(rles, [truth], [0])[:, 0].tolist() if rles else []
            lesion: Lesion = output["lesion"]
            row = ImageScore(
                image_id=member["image_id"],
                isic_id=member["isic_id"],
                max_iou=max(ious, default=0.0),
                num_instances=len(ious),
                top_score=max(scores, default=0.0),
                top1_iou=ious[0] if ious else 0.0,
                **official_scores(truth, encode_mask(lesion.mask)),
                score=lesion.score,
                candidates=lesion.candidates,
                sharpness=lesion.sharpness,
                agreement=lesion.agreement,
                area_share=lesion.area_share,
                border_share=lesion.border_share,
                estimated_iou=lesion.estimated_iou,
            )
            self._scores.append(row)
            self._truths[row.image_id] = _digest(truth)
            if self._output_dir:
                self._predictions += [
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
                    for rle, score, iou in zip(rles, scores, ious, strict=True)
                ]
                if member.get("flip", "none") == "none":
                    name = f"{row.isic_id}_segmentation.png"
                    write_mask(self._output_dir / "submission" / name, lesion.mask)

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Gather all processes' rows, write the files and return the summary under ``"lesion"``.

        Returns None on all but the main process. There ``rows`` then holds the images' scores and
        ``split_fingerprint`` a SHA-256 over the ids and true masks they were scored with.

        Raises:
            LesionError: if there was no image, or one was scored twice.
        """
        comm.synchronize()
        scores = [row for part in comm.gather(self._scores) for row in part]
        predictions = [item for part in comm.gather(self._predictions) for item in part]
        truths = {key: text for part in comm.gather(self._truths) for key, text in part.items()}
        if not comm.is_main_process():
            return None
        scores.sort(key=lambda row: row.image_id)
        if not scores:
            raise LesionError("evaluation: there was no image to evaluate; is the split empty?")
        if len({row.image_id for row in scores}) != len(scores):
            raise LesionError("evaluation: an image was scored twice; are its ids unique?")
        lines = (f"{row.image_id} {truths[row.image_id]}\n" for row in scores)
        self.split_fingerprint = hashlib.sha256("".join(lines).encode()).hexdigest()
        self.rows = scores
        if self._output_dir:
            self._write(scores, predictions)
        table = {name: np.array([getattr(row, name) for row in scores]) for name in SCORES}
        first, median, third = np.percentile(table["max_iou"], [25, 50, 75])
        return OrderedDict(
            lesion={
                "score_threshold": self._threshold,
                "num_images": len(scores),
                **summarise(table),
                "q1_max_iou": float(first),
                "median_max_iou": float(median),
                "q3_max_iou": float(third),
                "misses": sum(row.num_instances == 0 for row in scores),
                "below_065": int(np.sum(table["max_iou"] < FAILURE_IOU)),
                "submitted_below_065": int(np.sum(table["jaccard"] < FAILURE_IOU)),
                "submitted_empty": sum(row.area_share == 0 for row in scores),
            }
        )

    def _write(self, scores: list[ImageScore], predictions: list[dict[str, Any]]) -> None:
        assert self._output_dir
        with atomic_write(self._output_dir / "per_image.csv") as stream:
            names = [field.name for field in dataclasses.fields(ImageScore)]
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(vars(row) for row in scores)
        predictions.sort(key=lambda item: (item["image_id"], -item["score"]))
        with atomic_write(self._output_dir / "predictions.json") as stream:
            stream.write(json.dumps(predictions))  # json.dump takes ten times as long


def _digest(rle: dict[str, Any]) -> str:
    counts = rle["counts"] if isinstance(rle["counts"], bytes) else rle["counts"].encode()
    return hashlib.sha256(str(list(rle["size"])).encode() + counts).hexdigest()
