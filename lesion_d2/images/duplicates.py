"""Pictures of one lesion: candidates by hash and local features, confirmed by geometry.

The archive holds many lesions twice: one photograph in two colour renderings, or two photographs
that differ by a shift, a turn or the magnification. `docs/notes/near_duplicates.md` gives the study
behind every constant here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lesion_d2.parallel import progress_bar

MAX_HASH_DISTANCE = 16  # of 64 bits
NEIGHBOURS = 10
CHECKS = 128  # leaves of the kd-trees that a search looks into
MIN_SHARED_KEYPOINTS = 2
MATCH_RATIO = 0.9
MAX_MAGNIFICATION = 2.0
MIN_COARSE_SCORE = 4
MIN_SCORE = 19


class Scale(NamedTuple):
    """A size at which images are compared.

    Attributes:
        size: width and height of the thumbnail.
        max_keypoints: how many, the strongest, are kept of an image.
        tolerance: how far a point may miss its counterpart, in pixels of the thumbnail.
    """

    size: tuple[int, int]
    max_keypoints: int
    tolerance: float


COARSE = Scale((96, 72), 80, 1.5)  # rulers and hairs blur away, the lesion's pattern stays
FINE = Scale((192, 144), 200, 2.5)  # look-alikes differ


class Keypoints(NamedTuple):
    """SIFT keypoints of a thumbnail.

    Attributes:
        points: float32 of shape (N, 2), x and y in pixels of the thumbnail.
        descriptors: uint8 of shape (N, 128).
    """

    points: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True, eq=False)
class Signature:
    """What is kept of one image, picklable, to compare it with all others (at most 40 KB).

    Attributes:
        hash: 64-bit DCT hash.
        coarse: keypoints at the scale :data:`COARSE`, which find candidates.
        fine: keypoints at the scale :data:`FINE`, which help to confirm them.
    """

    hash: int
    coarse: Keypoints
    fine: Keypoints


class DuplicatePair(NamedTuple):
    """The ids of two images that show the same lesion, the smaller one first.

    Attributes:
        hash_distance: bits in which the two hashes differ, 0 to 64.
        score: keypoints of the first image that one similarity transform maps onto the second,
            plus the same from the second to the first, summed over both scales.
    """

    first: str
    second: str
    hash_distance: int
    score: int


def signature(image: np.ndarray) -> Signature:
    """Summarise one image, uint8 of shape (H, W, 3) in BGR order, of any size."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    coarse, fine = (
        cv2.resize(grey, scale.size, interpolation=cv2.INTER_AREA) for scale in (COARSE, FINE)
    )
    return Signature(
        hash=_hash(coarse),
        coarse=_keypoints(coarse, COARSE.max_keypoints),
        fine=_keypoints(fine, FINE.max_keypoints),
    )


def find_near_duplicates(signatures: Mapping[str, Signature]) -> list[DuplicatePair]:
    """Return the pairs of images that show the same lesion, sorted by id.

    ``signatures`` are by image id; their order does not matter.
    """
    ids = sorted(signatures)
    hashes = np.array([signatures[i].hash for i in ids], np.uint64)
    coarse = [_root_sift(signatures[i].coarse.descriptors) for i in ids]
    pairs = []
    candidates = sorted(_close_hashes(hashes) | _shared_features(coarse))
    for i, j in progress_bar(candidates, "comparing images", unit="pair", delay=2):
        first, second = signatures[ids[i]], signatures[ids[j]]
        score = _score(first.coarse, second.coarse, coarse[i] @ coarse[j].T, COARSE)
        if score < MIN_COARSE_SCORE:
            continue
        fine = _root_sift(first.fine.descriptors) @ _root_sift(second.fine.descriptors).T
        score += _score(first.fine, second.fine, fine, FINE)
        if score >= MIN_SCORE:
            distance = int(np.bitwise_count(hashes[i] ^ hashes[j]))
            pairs.append(DuplicatePair(ids[i], ids[j], distance, score))
    return pairs


def group_pairs(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Merge pairs of ids that share one into groups, each sorted, sorted by their first."""
    edges = list(pairs)
    ids, ends = np.unique(np.array(edges, str).reshape(-1, 2), return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (first, second)), shape=(len(ids), len(ids)))
    count, labels = connected_components(graph, directed=False)
    return sorted(ids[labels == label].tolist() for label in range(count))


def _hash(grey: np.ndarray) -> int:
    """Return the 64-bit DCT hash of an (H, W) uint8 image (pHash of hackerfactor.com)."""
    small = Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(small, float))[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _keypoints(grey: np.ndarray, limit: int) -> Keypoints:
    """Return the strongest SIFT keypoints of an (H, W) uint8 image."""
    sift = cv2.SIFT.create(nfeatures=limit, contrastThreshold=0.01, edgeThreshold=12)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        descriptors = np.empty((0, 128))
    points = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)
    return Keypoints(points, descriptors.astype(np.uint8))


def _close_hashes(hashes: np.ndarray) -> set[tuple[int, int]]:
    """Return index pairs i < j whose hashes differ in few bits."""
    pairs: set[tuple[int, int]] = set()
    for i, value in enumerate(hashes):  # row by row: all pairs at once would fill the memory
        distance = np.bitwise_count(hashes[i + 1 :] ^ value)
        near = i + 1 + np.flatnonzero(distance <= MAX_HASH_DISTANCE)
        pairs.update((i, j) for j in near.tolist())
    return pairs


def _root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Make unit vectors whose dot product is the Hellinger kernel (Arandjelovic, CVPR 2012)."""
    total = descriptors.sum(axis=1, keepdims=True, dtype=np.float32)
    return np.sqrt(descriptors / np.maximum(total, 1)).astype(np.float32)


def _shared_features(features: list[np.ndarray]) -> set[tuple[int, int]]:
    """Return index pairs i < j with several keypoints among each other's nearest neighbours."""
    owner = np.repeat(np.arange(len(features)), [len(f) for f in features])
    if len(owner) <= NEIGHBOURS:
        return set()
    cv2.setRNGSeed(0)  # the trees are random; equal input must give equal pairs
    matcher = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": CHECKS})
    matcher.add([np.concatenate(features)])
    votes = []  # a pair of images i < j is the number i * len(features) + j
    for i in progress_bar(np.unique(owner).tolist(), "matching keypoints", unit="image", delay=2):
        for matches in matcher.knnMatch(features[i], k=NEIGHBOURS):
            others = np.unique(owner[[match.trainIdx for match in matches]])
            others = others[others != i]
            votes.append(np.minimum(i, others) * len(features) + np.maximum(i, others))
    pairs, counts = np.unique(np.concatenate(votes), return_counts=True)
    first, second = np.divmod(pairs[counts >= MIN_SHARED_KEYPOINTS], len(features))
    return set(zip(first.tolist(), second.tolist(), strict=True))


def _score(first: Keypoints, second: Keypoints, similarity: np.ndarray, scale: Scale) -> int:
    """Count the keypoints of two images that fit, in both directions together.

    ``similarity`` has the dot products of their N and M descriptors, of shape (N, M).
    """
    if min(similarity.shape) < 2:  # the ratio test needs a second best
        return 0
    rows, columns = _matches(similarity)
    score = _aligned(first.points[rows], second.points[columns], scale.tolerance)
    rows, columns = _matches(similarity.T)
    return score + _aligned(second.points[rows], first.points[columns], scale.tolerance)


def _matches(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of (N, M) dot products with one clear best column, and these columns."""
    second, first = np.partition(similarity, -2, axis=1)[:, -2:].T
    # Lowe's ratio test (IJCV 2004); 1 - dot product is half the squared distance.
    rows = np.flatnonzero(1 - first < MATCH_RATIO**2 * (1 - second))
    return rows, similarity[rows].argmax(axis=1)


def _aligned(source: np.ndarray, target: np.ndarray, tolerance: float) -> int:
    """Count the source points that one similarity transform maps onto their targets.

    Both are float32 of shape (N, 2), pixels of the thumbnail; points on one spot count once.
    """
    if len(source) < 3:  # two points always fit
        return 0
    transform, inliers = cv2.estimateAffinePartial2D(  # to refine would change no inlier
        source, target, ransacReprojThreshold=tolerance, refineIters=0
    )
    if transform is None:
        return 0
    magnification = np.hypot(transform[0, 0], transform[0, 1])
    if not 1 / MAX_MAGNIFICATION <= magnification <= MAX_MAGNIFICATION:
        return 0
    return len(np.unique(source[inliers.ravel() > 0].round(), axis=0))
