"""Loaders whose order and randomness are functions of seed and iteration."""

from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from lesion_d2.data.loader import (
    PositionSampler,
    ShuffledEpochs,
    build_test_loader,
    build_train_loader,
    build_validation_loss_loader,
    load_members,
)
from lesion_d2.errors import LesionError

FLIPS = ("none", "vertical", "horizontal")


def stream(count=7, seed=0):
    return ShuffledEpochs([{"image_id": number} for number in range(count)], seed)


def ids(dataset, positions):
    return [dataset[position]["image_id"] for position in positions]


def test_each_epoch_deals_each_member_once_in_a_new_order():
    dataset = stream()
    epochs = [tuple(ids(dataset, range(7 * e, 7 * e + 7))) for e in range(20)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) == 20


def test_the_stream_is_a_function_of_seed_and_position():
    positions = [30, 2, 16, 2, 29, 0, 15]
    expected = {position: item for position, item in enumerate(islice(stream(), 35))}
    dataset = stream()
    assert [dataset[position] for position in positions] == [expected[p] for p in positions]
    assert ids(stream(seed=1), range(7)) != ids(stream(seed=0), range(7))


def test_each_sample_has_its_own_augmentation_seed():
    seeds = [tuple(stream(seed=seed)[p]["sample_seed"]) for seed in (0, 1) for p in range(30)]
    assert len(set(seeds)) == 60


@pytest.mark.parametrize("first", [0, 5])
def test_one_process_takes_consecutive_positions(first):
    found = list(islice(PositionSampler(4, first), 24))
    assert found == list(range(4 * first, 4 * first + 24))


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_step_of_one(processes, first, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        positions = list(islice(PositionSampler(4, first), 3 * 4 // processes))
        shares.append(np.reshape(positions, (3, 4 // processes)))
    steps = np.concatenate(shares, axis=1)
    np.testing.assert_array_equal(steps, 4 * first + np.arange(12).reshape(3, 4))


@pytest.fixture
def batches(tiny_cfg, tmp_path):
    """Function (iterations, first iteration, workers, *overrides) -> training batches."""

    def read(count, first=0, workers=0, *opts):
        loader = build_train_loader(tiny_cfg(tmp_path, "DATALOADER.NUM_WORKERS", workers, *opts))
        loader.dataset.sampler.first_iteration = first
        return list(islice(loader, count))

    return read


def same(left, right):
    return len(left) == len(right) and all(
        a["image_id"] == b["image_id"]
        and torch.equal(a["image"], b["image"])
        and torch.equal(a["instances"].gt_masks.tensor, b["instances"].gt_masks.tensor)
        for one, other in zip(left, right, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(workers, batches):
    # 26 iterations of 2: past the first epoch of 39 members, where the order is dealt anew.
    straight = batches(26)
    assert same(batches(26, 0, workers), straight)
    assert same(batches(9, 17, workers), straight[17:])
    assert not same(batches(9, 16, workers), straight[17:])


def test_the_order_follows_the_seed(batches):
    assert not same(batches(3, 0, 0, "SEED", 1), batches(3))


def test_starting_a_loader_draws_nothing_from_the_models_generator(batches):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    batches(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_and_members_of_training(batches):
    found = [sample for batch in batches(26) for sample in batch]
    assert len(found) == 52
    assert {sample["flip"] for sample in found} == set(FLIPS)
    assert len({sample["image_id"] for sample in found[:39]}) == 39


def image_ids(loader):
    return [sample["image_id"] for batch in loader for sample in batch]


@pytest.mark.parametrize(("split", "expected"), [("val", 15), ("test", 6)])
def test_flips_are_members_of_validation_but_not_of_test(split, expected, tiny_cfg, tmp_path):
    cfg = tiny_cfg(tmp_path, "INPUT.MEMBER_FLIPS_VAL", FLIPS)
    found = image_ids(build_test_loader(cfg, f"tiny_{split}"))
    assert len(set(found)) == len(found) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(0, range(15)), (5, range(0, 15, 3)), (4, (0, 3, 7, 11)), (99, range(15))],
)
def test_validation_losses_take_evenly_spaced_members(limit, expected, tiny_cfg, tmp_path):
    opts = ("INPUT.MEMBER_FLIPS_VAL", FLIPS, "TEST.LOSS_IMAGES", limit)
    cfg = tiny_cfg(tmp_path, *opts)
    members = load_members(("tiny_val",), FLIPS)
    loader = build_validation_loss_loader(cfg)
    assert image_ids(loader) == [members[index]["image_id"] for index in expected]
    assert all("instances" in sample for batch in loader for sample in batch)


def test_an_unknown_data_set():
    with pytest.raises(LesionError, match=r"'unheard_of' .*DETECTRON2_DATASETS"):
        load_members(("unheard_of",), FLIPS)


@pytest.mark.parametrize("names", [(), ("hollow",)])
def test_no_image(names):
    DatasetCatalog.register("hollow", lambda: [])
    try:
        with pytest.raises(LesionError, match="no image"):
            load_members(names, FLIPS)
    finally:
        DatasetCatalog.remove("hollow")
