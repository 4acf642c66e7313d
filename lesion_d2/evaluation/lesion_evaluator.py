"""Per-image scores of a model: numbers in, numbers out."""

import hashlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as coco_mask

from lesion_d2.data.converted import decode_segmentation
from lesion_d2.data.members import ground_truth_rle
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.metrics import COUNTS, METRICS, hold_against, score_image
from lesion_d2.evaluation.scores import COLUMNS, LESION_COLUMNS, ScoredImage
from lesion_d2.evaluation.statistics import means_with_intervals
from lesion_d2.images.masks import mask_png
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.prediction.lesion import Lesion

_WAITING = 4  # images at most, for their memory


class LesionEvaluator(DatasetEvaluator):
    """Scores each image by its instances' largest IoU and by the one submitted mask.

    Masks become run lengths at once, so memory does not grow with their size. A thread does that
    while the network computes. Works in several processes: each scores its share and the main one
    gathers the images. For the largest IoU an instance counts from the score threshold on; it is
    part of every figure, because the maximum can only grow as it falls.

    With ``masks`` the images hold their masks as PNG, but not the flipped copies of an image.
    """

    def __init__(self, score_threshold: float, *, masks: bool = False) -> None:
        self._threshold = score_threshold
        self._masks = masks
        self._thread = ThreadPoolExecutor(1)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.images: list[ScoredImage] = []
        self._scored: list[Future[ScoredImage]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Score a batch of the test loader and what a segmenter gave, at its height and width.

        What is wrong with an image may be raised with a later one, or by :meth:`evaluate`.
        """
        for member, output in zip(inputs, outputs, strict=True):
            self._scored.append(self._thread.submit(self._score, member, output))
            self._scored[-_WAITING:][0].result()

    def _score(self, member: dict[str, Any], output: dict[str, Any]) -> ScoredImage:
        truth = ground_truth_rle(member)
        instances = output["instances"].to("cpu")
        scores = instances.scores.numpy()
        kept = np.argsort(-scores, kind="stable")
        kept = kept[scores[kept] >= self._threshold]
        scores = scores[kept].tolist()
        rles = [encode_mask(mask) for mask in instances.pred_masks.numpy()[kept]]
        ious = coco_mask.iou(rles, [truth], [0])[:, 0].tolist() if rles else []
        lesion: Lesion = output["lesion"]
        outcome = hold_against(truth, encode_mask(lesion.mask), ious)
        name = {key: member[key] for key in ("image_id", "isic_id")}
        row = {
            **name,
            "num_instances": len(ious),
            "top_score": max(scores, default=0.0),
            **score_image(outcome),
            **{column: getattr(lesion, column) for column in LESION_COLUMNS},
        }
        results = [
            {
                **name,
                "category_id": 1,
                "score": score,
                "score_threshold": self._threshold,
                "iou": iou,
                "bbox": coco_mask.toBbox(rle).tolist(),
                "segmentation": {**rle, "counts": rle["counts"].decode("ascii")},
            }
            for rle, score, iou in zip(rles, scores, ious, strict=True)
        ]
        masks: tuple[bytes, ...] = ()
        if self._masks and member.get("flip", "none") == "none":
            true_mask = decode_segmentation(truth, *truth["size"])
            masks = mask_png(lesion.mask), mask_png(true_mask)
        return ScoredImage(row, results, truth, masks)

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Gather all processes' images, by rising id, and return the summary under ``"lesion"``.

        Returns None on all but the main process. There ``images`` then holds the images of all.

        Raises:
            LesionError: if there was no image, or one was scored twice.
        """
        own = [scored.result() for scored in self._scored]
        images = [image for part in comm.gather(own) for image in part]
        if not comm.is_main_process():
            return None
        if not images:
            raise LesionError("evaluation: there was no image to evaluate; is the split empty?")
        self.images = sorted(images, key=lambda image: image.row["image_id"])
        table = self.table
        if len(np.unique(table["image_id"])) != len(images):
            raise LesionError("evaluation: an image was scored twice; are its ids unique?")
        scores = {name: table[name] for name in METRICS}
        quartiles = np.percentile(table["max_iou"], [25, 50, 75]).tolist()
        counts = {name: int(c.wrong(table[c.column]).sum()) for name, c in COUNTS.items()}
        return OrderedDict(
            lesion={
                "score_threshold": self._threshold,
                "num_images": len(images),
                **means_with_intervals(scores, table["image_id"]),
                **dict(zip(("q1_max_iou", "median_max_iou", "q3_max_iou"), quartiles, strict=True)),
                **counts,
            }
        )

    @property
    def table(self) -> dict[str, np.ndarray]:
        """The rows of all images as columns, see :class:`~lesion_d2.evaluation.Evaluation`."""
        rows = [image.row for image in self.images]
        table = {column: np.array([row[column] for row in rows]) for column in COLUMNS}
        return table | {"estimated_iou": table["estimated_iou"].astype(float)}

    @property
    def split_fingerprint(self) -> str:
        """SHA-256 over the images' ids and the true masks they were scored with."""
        lines = (f"{image.row['image_id']} {_digest(image.truth)}\n" for image in self.images)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(rle: dict[str, Any]) -> str:
    counts = rle["counts"] if isinstance(rle["counts"], bytes) else rle["counts"].encode()
    return hashlib.sha256(str(list(rle["size"])).encode() + counts).hexdigest()
