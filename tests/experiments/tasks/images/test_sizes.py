"""A picture's size is read from its header: what is too large is refused by name and never decoded."""

import struct
import zlib
from pathlib import Path

import pytest

from mat.errors import InputError
from mat.experiments.tasks import cifar10, imagenet
from mat.experiments.tasks.images import hub


def png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and has no pixels: who decodes it fails by another message."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content)) + idat


@pytest.mark.parametrize("side", [12_000, 30_000])
def test_a_huge_picture_of_imagenet_is_refused_by_its_name(tmp_path, side):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(InputError, match=r"huge\.png.*(12000x12000 pixels|decompression bomb)"):
        imagenet._decode(path, 64)


def test_a_huge_picture_in_a_file_of_the_hub_is_refused_by_its_size():
    with pytest.raises(InputError, match="got 12000x12000 in row 3 of train"):
        hub._decode(cifar10.IMAGES, {"bytes": png_header(12_000, 12_000)}, Path("train.parquet"), 3)


@pytest.mark.parametrize("name", ["../..", "/etc", ".", "..", "a/b", "", "a\0"])
def test_a_class_of_imagenet_is_one_folder_and_leads_nowhere_else(name):
    with pytest.raises(InputError, match="names of folders"):
        imagenet.Settings(classes=("tench", name))
