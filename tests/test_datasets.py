"""Registration of converted data sets, on import and by hand."""

import json
import shutil

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from tiny import run_python

from lesion_d2.data.datasets import load_split, register_converted, register_dataset
from lesion_d2.errors import LesionError

LIST_NAMES = (
    "from detectron2.data import DatasetCatalog as catalog;"
    "print(*(name for name in catalog if name.startswith(('isic2018', 'tiny'))))"
)
NAMES = [f"{name}_{split}" for name in ("isic2018", "tiny") for split in ("train", "val", "test")]


def test_importing_it_registers_the_standard_and_the_converted_sets(tiny_root):
    code = f"import lesion_d2.data.datasets;{LIST_NAMES}"
    status, stdout, stderr = run_python("-c", code, DETECTRON2_DATASETS=str(tiny_root.parent))
    assert status == 0, stderr
    assert sorted(stdout.split()) == sorted(NAMES)


def test_import_is_light():
    code = (
        "import sys, lesion_d2, lesion_d2.commands.convert, lesion_d2.synthetic;"
        "print({'torch', 'detectron2'} & set(sys.modules))"
    )
    assert run_python("-c", code) == (0, "set()\n", "")


def test_without_detectron2_one_line_says_how_to_install_it():
    code = (
        "import sys; sys.modules['detectron2'] = None; import lesion_d2;"
        "from lesion_d2.errors import run_tool;"
        "run_tool(lambda: lesion_d2.LesionPredictor.from_config('configs/demo.yaml'))"
    )
    status, _, stderr = run_python("-c", code)
    assert status == 1
    (line,) = stderr.splitlines()
    assert line.startswith("error: this needs Detectron2, which pip cannot find under that name")
    assert "make install" in line


def test_records_say_what_detectron2_needs(tiny_root):
    for split, size in (("train", 13), ("val", 5), ("test", 6)):
        images = json.loads((tiny_root / f"{split}.json").read_text())["images"]
        records = DatasetCatalog.get(f"tiny_{split}")
        assert len(records) == len(images) == size
        for record, image in zip(records, images, strict=True):
            assert record["file_name"] == str(tiny_root / image["file_name"])
            assert record["isic_id"] == image["isic_id"]
            assert record["image_id"] == image["id"]
            assert (record["height"], record["width"]) == (image["height"], image["width"])
            assert [entry["category_id"] for entry in record["annotations"]] == [0]
    metadata = MetadataCatalog.get("tiny_val")
    assert metadata.thing_classes == ["lesion"]
    assert metadata.json_file == str(tiny_root / "val.json")
    assert metadata.image_root == str(tiny_root)


def test_a_name_can_be_registered_again_and_moved(tiny_root, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "copy")
    for root in (tiny_root, tiny_root, tmp_path / "copy"):
        register_dataset("twice", root)
        (first, *_) = DatasetCatalog.get("twice_test")
        assert first["file_name"].startswith(str(root))
        assert MetadataCatalog.get("twice_test").json_file == str(root / "test.json")


def test_registering_all_again_is_harmless(tiny_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tiny_root.parent))
    register_converted()
    register_converted()
    assert len(DatasetCatalog.get("tiny_train")) == 13


def test_a_missing_json_gives_the_command(tmp_path):
    register_dataset("nowhere", tmp_path)
    with pytest.raises(LesionError, match=r"val\.json: .*`tools/convert_isic\.py .* --output"):
        DatasetCatalog.get("nowhere_val")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"images": 1}', '{"images": [{"id": 1}]}', "[" * 200_000, "\xff"],
    ids=range(8),
)
def test_a_damaged_json_is_one_error(content, tmp_path):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(LesionError, match=r"train\.json.*convert again"):
        load_split("damaged_train", tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rle: rle.update(counts=rle["counts"][:6]), "a mask with damaged run lengths"),
        (lambda rle: rle.update(size=rle["size"][::-1]), "a mask of height x width"),
    ],
)
def test_a_damaged_mask_is_one_error(change, reason, tiny_root, tmp_path):
    content = json.loads((tiny_root / "val.json").read_text())
    change(content["annotations"][1]["segmentation"])
    (tmp_path / "val.json").write_text(json.dumps(content))
    isic_id = content["images"][1]["isic_id"]
    with pytest.raises(LesionError, match=rf"val\.json: {isic_id}: {reason}.*convert again"):
        load_split("damaged_val", tmp_path, "val")
