"""Speed against accuracy: trained models, ours and others', on the same images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor
from pycocotools import mask as mask_util

from lesion_d2.benchmark.data import Options, converted
from lesion_d2.benchmark.predict import Image, Mask, top_instance
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals import stock_detections
from lesion_d2.commands.export import export
from lesion_d2.config.load import PRETRAINED, load_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.members import ground_truth_rle
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.statistics import mean_interval
from lesion_d2.images.masks import write_mask
from lesion_d2.images.reading import read_image
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.images.scaling import fit_shortest
from lesion_d2.modeling import build_network
from lesion_d2.modeling.precision import computing_in, has_bfloat16
from lesion_d2.modeling.weights import load_trained
from lesion_d2.parallel import progress_bar
from lesion_d2.prediction.predictor import LesionPredictor
from lesion_d2.prediction.segmenter import load_segmenter

PRETRAINED_CONFIG = "configs/isic_mrcnn_lite.yaml"
ULTRALYTICS = "yolo11n-seg"  # its smallest network for segmentation


@dataclass(frozen=True)
class Contender:
    """A way from a file to a mask on disk; ``ours`` is what the tools here do."""

    ours: bool
    read: Callable[[Path], Image]
    outline: Callable[[Image], Mask]
    write: Callable[[Path, Mask], object]


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results.

    Contenders take turns image by image, so that a machine that becomes slower changes all times.

    Raises:
        LesionError: if no run is given, two have one name, or one cannot be used.
    """
    register_dataset("benchmark", converted(options, "test"))
    records = DatasetCatalog.get("benchmark_test")[: options.images]
    configs = {Path(run).name: _config(run) for run in options.runs}
    if not 0 < len(options.runs) == len(configs):
        raise LesionError(
            f"--runs: {', '.join(options.runs) or 'none'}; give one or more folders of trainings, "
            f"of different names, or {PRETRAINED}"
        )
    contenders = {
        f"{name}, {way}": contender
        for name, cfg in configs.items()
        for way, contender in _contenders(cfg, options.folder / f"{name}.onnx")
    } | dict(_ultralytics(max(next(iter(configs.values())).INPUT.MIN_SIZE_TEST, 1)))
    names = list(contenders)
    columns = ("seconds", "network, ms", "Jaccard")
    found: dict[str, dict[str, list[float]]] = {c: {name: [] for name in names} for c in columns}
    mask_file = options.folder / "mask.png"
    # The first image comes twice: once to prepare what is measured.
    for record in progress_bar([records[0], *records], "predicting files", len(records) + 1):
        truth = [ground_truth_rle(record)]
        names = [*names[1:], names[0]]
        for name in names:
            one = contenders[name]
            times = [perf_counter()]
            image = one.read(Path(record["file_name"]))
            times.append(perf_counter())
            mask = one.outline(image)
            times.append(perf_counter())
            one.write(mask_file, mask)
            times.append(perf_counter())
            iou = mask_util.iou([encode_mask(mask)], truth, [0])[0, 0]
            values = (times[3] - times[0], 1000 * (times[2] - times[1]), float(iou))
            for column, value in zip(columns, values, strict=True):
                found[column][name].append(value)
    return "cpu", [
        _section(contenders, *({n: v[1:] for n, v in found[c].items()} for c in columns))
    ]


def _section(
    contenders: Mapping[str, Contender],
    seconds: Mapping[str, list[float]],
    network: Mapping[str, list[float]],
    jaccard: Mapping[str, list[float]],
) -> Section:
    """Return a table with the rivals that are both faster and better than each of ours."""
    trained = [name for name in contenders if not name.startswith(ULTRALYTICS)]
    speed = {name: float(np.median(seconds[name])) for name in contenders}
    level = {name: float(np.mean(jaccard[name])) for name in trained}
    intervals = {name: mean_interval(np.array(jaccard[name])) for name in trained}
    rivals = [name for name in trained if not contenders[name].ours]
    beaten = {
        name: "; ".join(r for r in rivals if speed[r] < speed[name] and level[r] > level[name])
        or "none"
        for name in trained
        if contenders[name].ours
    }
    columns: dict[str, dict[str, Any]] = {
        "network, ms": {name: float(np.median(values)) for name, values in network.items()},
        "Jaccard": {name: level[name] for name in trained},
        "from": {name: low for name, (low, _) in intervals.items()},
        "to": {name: high for name, (_, high) in intervals.items()},
        "both faster and better": beaten,
    }
    count = len(next(iter(seconds.values())))
    title = f"from file to mask on disk, {count} test images; a round is an image"
    return Section(title, "image", 1, seconds, [], columns=columns)


def _config(run: str) -> CfgNode:
    folder = Path(run)
    file, weights = (
        (PRETRAINED_CONFIG, PRETRAINED)
        if run == PRETRAINED
        else (str(folder / "config.yaml"), str(folder / "model_best.pth"))
    )
    return load_config(file, ["MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"])


def _contenders(cfg: CfgNode, graph: Path) -> Iterator[tuple[str, Contender]]:
    """Yield the ways to predict with a model: in each precision that the processor has, and more.

    A peer predicts as the guide of its library does it. So does Detectron2's own predictor.
    """
    is_peer = cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN"
    for precision in ("float32", *(["bfloat16"] if has_bfloat16(torch.device("cpu")) else [])):
        cfg = cfg.clone()
        cfg.TEST.PRECISION = precision
        if is_peer:
            yield precision, _plain(partial(_top_mask, _load(cfg), cfg))
        else:
            yield precision, _ours(LesionPredictor(cfg, load_segmenter(cfg).eval().outliner))
    if not is_peer:
        cfg.TEST.PRECISION = "float32"
        export(cfg, graph)
        yield "ONNX", _ours(LesionPredictor.from_bundle(graph))
        checkpoint = graph.with_suffix(".pth")
        torch.save({"model": _load(cfg).state_dict()}, checkpoint)
        cfg.MODEL.WEIGHTS = str(checkpoint)
        stock = DefaultPredictor(stock_detections(cfg))
        yield "DefaultPredictor", _plain(partial(top_instance, stock))


def _ours(predictor: LesionPredictor) -> Contender:
    def outline(image: Image) -> Mask:
        (lesion,) = predictor([image], channels="BGR")
        return lesion.mask

    return Contender(True, lambda path: read_image(path, predictor.enough)[0], outline, write_mask)


def _plain(outline: Callable[[Image], Mask]) -> Contender:
    def write(path: Path, mask: Mask) -> None:
        cv2.imwrite(str(path), mask.astype(np.uint8) * 255)

    return Contender(False, _read, outline, write)


def _read(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8, copy=False)


def _load(cfg: CfgNode) -> torch.nn.Module:
    model = build_network(cfg).eval()
    load_trained(model, cfg.MODEL.WEIGHTS)
    return model


@torch.inference_mode()
def _top_mask(model: Any, cfg: CfgNode, image: Image) -> Mask:
    """Return the mask of a peer's instance of highest score; an empty one where there is none."""
    height, width = image.shape[:2]
    small = fit_shortest(image, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    if cfg.INPUT.FORMAT == "RGB":
        small = small[:, :, ::-1]
    batch = [{"image": torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))}]
    with computing_in(cfg.TEST.PRECISION, model):
        (found,) = model.inference(batch)
    if not len(found):
        return np.zeros((height, width), bool)
    soft = found.pred_masks[found.scores.argmax(), 0].float().numpy()
    return cv2.resize(soft, (width, height)) >= 0.5


def _ultralytics(side: int) -> Iterator[tuple[str, Contender]]:
    """Yield Ultralytics' smallest network, for its speed: weights are random."""
    try:
        from ultralytics import YOLO
    except ImportError:
        print("ultralytics is not installed: not measured")
        return
    model = YOLO(f"{ULTRALYTICS}.yaml")

    def outline(image: Image) -> Mask:
        (found,) = model.predict(image, imgsz=-(-side // 32) * 32, verbose=False, device="cpu")
        mask = np.zeros(image.shape[:2], bool)
        return mask if found.masks is None else found.masks.data[0].numpy() > 0

    yield f"{ULTRALYTICS}, random weights", _plain(outline)
