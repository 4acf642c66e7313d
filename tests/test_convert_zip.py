"""Zip archives in place of folders: the same data set, and members that mean harm."""

import io
import stat
import warnings
import zipfile

import pytest
from convert_archive import audit_rows, folder_bytes, lesion_pair, make_archive
from picture_files import encode

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.errors import LesionError

IMAGE, MASK = lesion_pair(1)
JPEG, PNG = encode(IMAGE, "JPEG"), encode(MASK, "PNG")


def pack(path, files, compression=zipfile.ZIP_STORED):
    """Write a zip archive of {name or ZipInfo: content}."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zipped(folder, path, compression):
    files = {p.relative_to(folder.parent).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    return pack(path, files, compression)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_as_from_folders(packed, workers, tmp_path):
    archive = make_archive(tmp_path, 6)
    convert(archive.options())
    images = zipped(archive.images, tmp_path / "images.zip", packed)
    masks = zipped(archive.masks, tmp_path / "masks.zip", packed)
    folders, output = {"all": (images, masks)}, tmp_path / "out"
    options = archive.options(folders=folders, output=output, workers=workers)
    assert convert(options).rows == []
    assert folder_bytes(output) == folder_bytes(archive.output)


def test_several_archives_and_a_folder(tmp_path):
    archive = make_archive(tmp_path, 6)
    first, second, *_ = sorted(archive.images.iterdir())
    parts = [pack(tmp_path / f"{f.stem}.zip", {f.name: f.read_bytes()}) for f in (first, second)]
    first.unlink()
    second.unlink()
    options = archive.options(folders={"all": ([*parts, archive.images], [archive.masks])})
    assert sum(convert(options).splits.values()) == 6


def test_images_and_masks_in_one_archive(tmp_path):
    files = {"a.jpg": JPEG, "sub\\a_mask.png": PNG, "__MACOSX/._a.jpg": b"x"}
    both = pack(tmp_path / "both.zip", files)
    summary = convert(ConvertOptions({"all": (both, both)}, tmp_path / "out", group=False))
    assert sum(summary.splits.values()) == 1
    rows = [(row.file, row.reason) for row in summary.rows]
    assert rows == [("__MACOSX/._a.jpg", "not_an_image")]


def stored():
    """Return the bytes of an archive that holds bad.jpg as it is."""
    stream = io.BytesIO()
    pack(stream, {"bad.jpg": JPEG})
    return bytearray(stream.getvalue())


def encrypted():
    """A member whose flag says that it is encrypted."""
    data = stored()
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + place] |= 1
    return bytes(data)


def changed_byte():
    data = stored()
    data[data.index(JPEG) + len(JPEG) // 2] ^= 255
    return bytes(data)


def unknown_compression():
    data = stored()
    for signature, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(signature) + place] = 77  # no method has this number
    return bytes(data)


def there_twice():
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("bad.jpg", JPEG)
    return stream.getvalue()


def of(files):
    stream = io.BytesIO()
    pack(stream, files, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def link():
    info = zipfile.ZipInfo("bad.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return of({info: b"/etc/passwd"})


def bomb():
    """700 MB that begin like a picture, packed into less than a megabyte."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bad.bmp", "w", force_zip64=True) as member,
    ):
        member.write(b"BM")
        for _ in range(700):
            member.write(bytes(2**20))
    return stream.getvalue()


# An archive that also holds bad.*; words of the row; its reason.
MEMBERS = {
    "encrypted": (encrypted, "encrypted", "image_unreadable"),
    "changed": (changed_byte, "CRC", "image_unreadable"),
    "packed in an unknown way": (unknown_compression, "compression", "image_unreadable"),
    "a link": (link, "no JPEG", "image_unreadable"),
    "a bomb": (bomb, "bytes, at most", "image_too_large"),
    "no image": (lambda: of({"bad.jpg": b"text"}), "no JPEG", "image_unreadable"),
    "twice": (there_twice, "2 images", "duplicate_id"),
    "above the archive": (lambda: of({"../bad.jpg": JPEG}), "leads out", "unsafe_path"),
    "at the root": (lambda: of({"/bad.jpg": JPEG}), "leads out", "unsafe_path"),
}  # fmt: skip


@pytest.mark.parametrize("case", MEMBERS)
def test_members_that_cannot_be_used(case, tmp_path):
    make, words, reason = MEMBERS[case]
    path = tmp_path / "bad.zip"
    path.write_bytes(make())
    good = pack(tmp_path / "good.zip", {"a.jpg": JPEG})
    masks = pack(tmp_path / "masks.zip", {"a.png": PNG, "bad_mask.png": PNG})
    output = tmp_path / "deep" / "out"
    summary = convert(ConvertOptions({"all": ([good, path], masks)}, output, group=False))
    assert sum(summary.splits.values()) == 1
    assert [row.detail for row in summary.rows if row.reason == reason and words in row.detail]
    assert [p.name for p in (output / "images").iterdir()] == ["a.jpg"]
    assert not (tmp_path / "deep" / "bad.jpg").exists()
    assert {row["reason"] for row in audit_rows(output)} <= {reason, "mask_without_image"}


@pytest.mark.parametrize("content", [b"", b"text", of({"a.jpg": JPEG})[:-30]])
def test_what_is_no_archive(content, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(LesionError, match=r"x\.zip: neither a folder nor a whole zip archive"):
        convert(ConvertOptions({"all": (path, path)}, tmp_path / "out"))


def test_a_missing_archive(tmp_path):
    with pytest.raises(LesionError, match=r"none\.zip: cannot be read as a folder"):
        convert(ConvertOptions({"all": (tmp_path / "none.zip",) * 2}, tmp_path / "out"))


def test_an_archive_that_was_written_anew_is_read_anew(tmp_path):
    output = tmp_path / "out"
    for number in (1, 2):
        picture, mask = (encode(pixels, "PNG") for pixels in lesion_pair(number))
        path = pack(tmp_path / "x.zip", {"a.png": picture, "a_mask.png": mask})
        convert(ConvertOptions({"all": (path, path)}, output, group=False, overwrite=True))
        (found,) = (output / "images").iterdir()
        assert found.read_bytes() == picture
