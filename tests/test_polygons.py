"""Polygons on pixel borders, against shapely and pycocotools."""

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from lesion_d2.images.polygons import count_corners, mask_polygons

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


SHAPES = [
    drawn("#"),
    drawn("."),
    drawn("#.", ".#"),
    drawn(".#", "#."),
    drawn("##.", "#.#", "###"),  # touches itself in a corner
    drawn("####", "#.##", "##.#", "####"),  # holes that touch in a corner
    drawn("#####", "#...#", "#.#.#", "#...#", "#####"),  # a region inside a hole
    drawn(".#.", "#.#", ".#."),
]


def shapes(mask):
    return [shapely.Polygon(p.exterior, p.holes) for p in mask_polygons(mask)]


def filled(geometry, height, width):
    y, x = np.mgrid[:height, :width] + 0.5
    return shapely.contains_xy(geometry, x, y)


@settings(max_examples=400, deadline=None)
@given(MASKS)
def test_filled_they_give_the_mask_back(mask):
    whole = shapely.MultiPolygon(shapes(mask))
    assert whole.is_valid, shapely.is_valid_reason(whole)
    assert whole.area == mask.sum()
    np.testing.assert_array_equal(filled(whole, *mask.shape), mask)


for _shape in SHAPES:
    test_filled_they_give_the_mask_back = example(_shape)(test_filled_they_give_the_mask_back)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_one_polygon_a_region_and_a_ring_a_hole(mask):
    polygons = mask_polygons(mask)
    labels, count = ndimage.label(mask)
    assert len(polygons) == count
    for polygon in polygons:
        inside = filled(shapely.Polygon(polygon.exterior), *mask.shape)
        region = filled(shapely.Polygon(polygon.exterior, polygon.holes), *mask.shape)
        assert len(np.unique(labels[region])) == 1
        assert len(polygon.holes) == ndimage.label(inside & ~region)[1]
    tops = [polygon.exterior[:, 1].min() for polygon in polygons]
    assert tops == sorted(tops)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_rings_are_short_turned_as_geojson_wants_and_end_in_corners(mask):
    polygons = mask_polygons(mask)
    corners = sum(len(ring) for p in polygons for ring in (p.exterior, *p.holes))
    assert count_corners(mask) == corners
    for polygon in polygons:
        assert shapely.LinearRing(polygon.exterior).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in polygon.holes)
        for ring in (polygon.exterior, *polygon.holes):
            steps = np.roll(ring, -1, axis=0) - ring
            sideways = steps[:, 1] == 0
            assert ((steps == 0).sum(axis=1) == 1).all()  # along one axis, and somewhere
            assert (sideways != np.roll(sideways, 1)).all()  # and a turn at each corner


@settings(max_examples=200, deadline=None)
@given(MASKS.filter(np.any))
def test_as_polygons_of_coco_they_lose_the_holes_alone(mask):
    rings = [polygon.exterior.ravel().tolist() for polygon in mask_polygons(mask)]
    rles = coco_mask.frPyObjects(rings, *mask.shape)
    outer = shapely.union_all([shapely.Polygon(p.exterior) for p in mask_polygons(mask)])
    expected = filled(outer, *mask.shape)
    np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(rles)), expected)


@pytest.mark.parametrize("view", [np.asfortranarray, lambda mask: mask[::-1, ::-1].copy()[::-1]])
def test_any_order_of_memory(view):
    mask = view(np.random.default_rng(0).random((9, 14)) < 0.5)
    np.testing.assert_array_equal(filled(shapely.MultiPolygon(shapes(mask)), 9, 14), mask)
