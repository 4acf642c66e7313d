"""The project's config keys with their defaults, such as the ranges of the augmentations."""

from typing import Any

from lesion_d2.cpus import available_cpus

# Copies of an image that can be members of a data set; "none" is the image as it is.
FLIPS = ("none", "vertical", "horizontal")


def get_lesion_cfg() -> Any:
    """Return Detectron2's default config with the project's keys, and some defaults changed."""
    from detectron2.config import CfgNode, get_cfg  # an exported graph is run without Detectron2

    cfg = get_cfg()
    # Data set for validation during training; DATASETS.TEST is for the final evaluation only.
    cfg.DATASETS.VAL = ()

    # Which copies of each image are members of the data set: a selection of FLIPS.
    cfg.INPUT.MEMBER_FLIPS = ("none",)
    cfg.INPUT.MEMBER_FLIPS_VAL = ("none",)
    # Geometry of the experiment is fixed by its members, not drawn at random.
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MASK_FORMAT = "bitmask"  # RLE annotations need it

    # The original experiment's four colour augmentations, a random subset of them on each sample.
    cfg.INPUT.COLOUR = CfgNode()
    cfg.INPUT.COLOUR.ENABLED = True
    cfg.INPUT.COLOUR.BLUR_SIGMA = (0.0, 2.0)  # pixels
    cfg.INPUT.COLOUR.DROPOUT_COUNT = (1, 6)  # rectangles
    cfg.INPUT.COLOUR.DROPOUT_SIDE = (0.02, 0.15)  # share of the image's side
    cfg.INPUT.COLOUR.BRIGHTNESS = (-50.0, 50.0)  # grey levels on the HSV value channel
    cfg.INPUT.COLOUR.SHARPEN = (0.0, 0.3)  # share of the sharpened copy

    # Random flips, turns, zoom and shift, too. The original experiment changes colours only.
    cfg.INPUT.GEOMETRY = CfgNode()
    cfg.INPUT.GEOMETRY.ENABLED = False
    cfg.INPUT.GEOMETRY.ROTATION = (-180.0, 180.0)  # degrees
    cfg.INPUT.GEOMETRY.ZOOM = (0.8, 1.25)
    cfg.INPUT.GEOMETRY.SHIFT = 0.1  # share of the image's side

    cfg.SEED = 0  # of every random draw of a run
    cfg.SOLVER.OPTIMIZER = "SGD"  # or "AdamW"
    cfg.SOLVER.ITERS_PER_EPOCH = 1500  # steps: images over SOLVER.IMS_PER_BATCH
    # (last epoch, FREEZE_AT) of each stage.
    cfg.SOLVER.STAGES = ((5, 5), (30, 2))
    # Where the learning rate drops by SOLVER.GAMMA, as shares of the run.
    cfg.SOLVER.LR_DROPS = ()
    # How many periodic checkpoints to keep, besides the best one.
    cfg.SOLVER.CHECKPOINTS_KEPT = 2
    # Steps between two periodic checkpoints; 0, as of TEST.EVAL_PERIOD: those of an epoch.
    cfg.SOLVER.CHECKPOINT_PERIOD = 0
    # Derived by `derive_schedule`; 0, () and -1 mean "not yet".
    cfg.SOLVER.MAX_ITER = 0
    cfg.SOLVER.STEPS = ()
    cfg.MODEL.BACKBONE.FREEZE_AT = -1
    # Validate, and keep as the best model, an average of the weights along the run: each step moves
    # it by 1 - EMA_DECAY towards the weights of the moment. 0: validate those themselves.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Name of the network in timm, for the backbone build_timm_fpn_backbone.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = ""

    # An instance counts in the evaluation from this score on.
    cfg.TEST.SCORE_THRESH = 0.5
    # What the network computes with in prediction: "float32" or, about twice as fast where the
    # processor has it (AVX512_BF16, AMX, a GPU from Ampere on), "bfloat16".
    cfg.TEST.PRECISION = "float32"
    # What a prediction is made of, see lesion_d2/prediction: views that are averaged, which of the
    # instances is submitted, and how its soft mask becomes the submitted one.
    cfg.TEST.VIEWS = ("identity",)
    cfg.TEST.VIEW_SCALES = (1.0,)
    # Sides of the part of an image that the network sees again, in sides of what it found; 0: none
    cfg.TEST.SECOND_LOOK = 0.0
    cfg.TEST.INSTANCE_CHOICE = "top_score"
    cfg.TEST.POSTPROCESSING = ("threshold", "largest_component", "fill_holes")
    # Folder of masks at the originals' size, named as the challenge names them, to score at that
    # size; empty: the data set's own masks and size.
    cfg.TEST.TRUTH_DIR = ""
    # Model that estimates the IoU of a prediction, written by tools/tune.py; empty: none.
    cfg.TEST.CONFIDENCE = ""
    # Images that validation losses are computed on, evenly spaced; 0 means all.
    cfg.TEST.LOSS_IMAGES = 0

    cfg.DATALOADER.NUM_WORKERS = min(4, max(1, available_cpus() // 2))
    return cfg
