"""Pictures of one lesion: candidates by hash and local features, confirmed by geometry.

The archive holds many lesions twice: one photograph in two colour renderings, or two photographs
that differ by a shift, a turn or the magnification. `docs/notes/near_duplicates.md` gives the study
behind every constant here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL_SIZE = (96, 72)  # width, height: rulers and hairs blur away, the lesion's pattern stays
MAX_KEYPOINTS = 80
MAX_HASH_DISTANCE = 16  # of 64 bits
NEIGHBOURS = 6
MIN_SHARED_KEYPOINTS = 3
MATCH_RATIO = 0.9
REPROJECTION_TOLERANCE = 1.5  # pixels of the thumbnail
MAX_MAGNIFICATION = 2.0
MIN_SCORE = 10


@dataclass(frozen=True, eq=False)
class Signature:
    """What is kept of one image, small and picklable, to compare it with all others (11 KB).

    Attributes:
        hash: 64-bit DCT hash.
        points: float32 of shape (N, 2), x and y of the N keypoints in pixels of the thumbnail.
        descriptors: uint8 of shape (N, 128), the SIFT descriptors of these points.
    """

    hash: int
    points: np.ndarray
    descriptors: np.ndarray


class DuplicatePair(NamedTuple):
    """The ids of two images that show the same lesion, the smaller one first.

    Attributes:
        hash_distance: bits in which the two hashes differ, 0 to 64.
        score: keypoints of the first image that one similarity transform maps onto the second,
            plus the same from the second to the first.
    """

    first: str
    second: str
    hash_distance: int
    score: int


def signature(image: np.ndarray) -> Signature:
    """Summarise one image, uint8 of shape (H, W, 3) in BGR order, of any size."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    grey = cv2.resize(grey, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT.create(nfeatures=MAX_KEYPOINTS, contrastThreshold=0.01, edgeThreshold=12)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        descriptors = np.empty((0, 128))
    return Signature(
        hash=_hash(grey),
        points=np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2),
        descriptors=descriptors.astype(np.uint8),
    )


def find_near_duplicates(signatures: Mapping[str, Signature]) -> list[DuplicatePair]:
    """Return the pairs of images that show the same lesion, sorted by id.

    ``signatures`` are by image id; their order does not matter.
    """
    ids = sorted(signatures)
    hashes = np.array([signatures[i].hash for i in ids], np.uint64)
    points = [signatures[i].points for i in ids]
    features = [_root_sift(signatures[i].descriptors) for i in ids]
    pairs = []
    for i, j in sorted(_close_hashes(hashes) | _shared_features(features)):
        if min(len(points[i]), len(points[j])) < 2:  # the ratio test needs a second best
            continue
        similarity = features[i] @ features[j].T
        forward, backward = _matches(similarity), _matches(similarity.T)
        if len(forward[0]) + len(backward[0]) < MIN_SCORE:  # cannot score enough: save the fit
            continue
        score = _aligned(points[i][forward[0]], points[j][forward[1]])
        score += _aligned(points[j][backward[0]], points[i][backward[1]])
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
    matcher = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": 48})
    matcher.add([np.concatenate(features)])
    votes: Counter[tuple[int, int]] = Counter()
    for i in np.unique(owner).tolist():
        for matches in matcher.knnMatch(features[i], k=NEIGHBOURS):
            others = {int(owner[match.trainIdx]) for match in matches} - {i}
            votes.update((min(i, j), max(i, j)) for j in others)
    return {pair for pair, count in votes.items() if count >= MIN_SHARED_KEYPOINTS}


def _matches(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of (N, M) dot products with one clear best column, and these columns."""
    second, first = np.partition(similarity, -2, axis=1)[:, -2:].T
    # Lowe's ratio test (IJCV 2004); 1 - dot product is half the squared distance.
    rows = np.flatnonzero(1 - first < MATCH_RATIO**2 * (1 - second))
    return rows, similarity[rows].argmax(axis=1)


def _aligned(source: np.ndarray, target: np.ndarray) -> int:
    """Count the source points that one similarity transform maps onto their targets.

    Both are float32 of shape (N, 2), pixels of the thumbnail; points on one spot count once.
    """
    if len(source) < 3:  # two points always fit
        return 0
    transform, inliers = cv2.estimateAffinePartial2D(
        source, target, ransacReprojThreshold=REPROJECTION_TOLERANCE
    )
    if transform is None:
        return 0
    magnification = np.hypot(transform[0, 0], transform[0, 1])
    if not 1 / MAX_MAGNIFICATION <= magnification <= MAX_MAGNIFICATION:
        return 0
    return len(np.unique(source[inliers.ravel() > 0].round(), axis=0))
