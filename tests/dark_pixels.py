"""A stand-in for the network, dark pixels, which makes many runs quick."""

import csv
from contextlib import nullcontext
from typing import ClassVar

import numpy as np
from picture_files import encode

from lesion_d2.commands.predict import predict_files
from lesion_d2.images.inputs import find_images
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.results.predictions import PredictionFolder


class DarkPixels:
    """Takes for the lesion what is dark."""

    enough = 10_000

    engine = "none"

    settings: ClassVar = {"weights_sha256": "dark"}

    def sharing(self, workers):
        return nullcontext()

    def __call__(self, images, *, channels, sizes):
        masks = [(image.mean(axis=2) < 100) for image in images]
        return [Lesion(mask, 0.5, 1, 1.0, 1.0, float(mask.mean()), 0.0) for mask in masks]


def picture(path, value=0, suffix="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 16, 3), 200, np.uint8)
    pixels[3:9, 4 : 10 + value] = value
    path.write_bytes(encode(pixels, suffix))


def predict(photographs, output, shard=(1, 1), **options):
    files = find_images([str(photographs)], output)
    return predict_files(DarkPixels(), files, PredictionFolder(output, shard), **options)


def rows(table):
    with open(table, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
