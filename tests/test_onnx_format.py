"""What takes an ONNX file apart, without torch and ONNX Runtime; see test_onnx.py for the rest."""

import pytest

from lesion_d2.config.load import PRETRAINED_FILE
from lesion_d2.onnx_format import read_arrays, read_texts

NUMBER = b"\x80" * 8 + b"\x40"  # 2 ** 62
FIELDS = {  # that are added to a file
    "domain of operators": (read_texts, b"\x42\x0a\x08" + NUMBER),
    "name of metadata": (read_texts, b"\x72\x0d\x12\x01x\x08" + NUMBER),
    "domain of a node": (read_texts, b"\x3a\x0c\x0a\x0a\x38" + NUMBER),
    "name of a tensor": (read_arrays, b"\x3a\x0c\x2a\x0a\x40" + NUMBER),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_number_for_a_text_takes_no_memory(field):
    read, added = FIELDS[field]
    data = PRETRAINED_FILE.read_bytes()
    assert read(data)
    with pytest.raises(ValueError, match="a number where a text belongs"):
        read(data + added)
