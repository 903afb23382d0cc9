"""Files that lie about their lengths, end too early or too late, or nest without measure."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from conftest import convert, data_set, read_png
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

import dicom_converter as dc

STORED = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
PICTURE = np.rint(STORED / STORED.max() * 65535)
CODE = bytes(imagecodecs.jpegls_encode(STORED))
CODE += bytes(len(CODE) % 2)
ITEM, ITEM_END, END = (
    struct.pack("<HHL", 0xFFFE, element, 0) for element in (0xE000, 0xE00D, 0xE0DD)
)
UNDEFINED = b"\xff\xff\xff\xff"
BEFORE_PIXELS = b"\x10\x00\x10\x00"  # (0010,0010) Patient's Name
NOT_AS_DECLARED = "the pixel data do not end as declared, but all frames are there"


def file_of(syntax: str = ExplicitVRLittleEndian, frames: int = 1) -> bytes:
    """Return a file of *frames* times `STORED`."""
    pixels = np.stack([STORED] * frames) if frames > 1 else STORED
    codes = [CODE] * frames if syntax == JPEGLSLossless else []
    file = io.BytesIO()
    data_set(pixels, codes, syntax).save_as(file, enforce_file_format=True)
    return file.getvalue()


NATIVE, COMPRESSED, IMPLICIT = map(
    file_of, (ExplicitVRLittleEndian, JPEGLSLossless, ImplicitVRLittleEndian)
)


def with_length(raw: bytes, head: bytes, length: int) -> bytes:
    """Return *raw* with another *length* (32 bits) behind the *head* of an element."""
    at = raw.index(head) + len(head)
    return raw[:at] + struct.pack("<L", length) + raw[at + 4 :]


def pixel_length(raw: bytes, length: int) -> bytes:
    vr = b"OB" if b"\xe0\x7f\x10\x00OB" in raw else b"OW"
    return with_length(raw, b"\xe0\x7f\x10\x00" + vr + b"\0\0", length)


def inserted(raw: bytes, element: bytes) -> bytes:
    at = raw.index(BEFORE_PIXELS)
    return raw[:at] + element + raw[at:]


def nested(depth: int, head: bytes) -> bytes:
    """Return sequences of undefined length, one in the other, *depth* deep."""
    start, end = head + UNDEFINED + ITEM[:4] + UNDEFINED, ITEM_END + END
    return start * depth + end * depth


ITEMS_LENGTH = len(COMPRESSED) - COMPRESSED.index(b"\xe0\x7f\x10\x00OB\0\0") - 12
EXPLICIT_SQ, UNKNOWN_SQ = b"\x09\x00\x01\x10SQ\0\0", b"\x09\x00\x01\x10"


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        pytest.param(pixel_length(NATIVE, 5000), NOT_AS_DECLARED, id="pixels longer than the file"),
        pytest.param(pixel_length(NATIVE, 0xFFFFFFFE), NOT_AS_DECLARED, id="pixels of 4 GB"),
        pytest.param(pixel_length(NATIVE, 0xFFFFFFFF), NOT_AS_DECLARED, id="pixels without length"),
        pytest.param(COMPRESSED[:-8], NOT_AS_DECLARED, id="no delimiter"),
        pytest.param(COMPRESSED[:-3], NOT_AS_DECLARED, id="half a delimiter"),
        pytest.param(pixel_length(COMPRESSED, ITEMS_LENGTH), "", id="items with a length"),
        pytest.param(
            pixel_length(COMPRESSED[:-8], ITEMS_LENGTH - 8),
            "",
            id="items with a length and no delimiter",
        ),
        *(
            pytest.param(raw + padding, "", id=f"{kind} and {name}")
            for kind, raw in (("native", NATIVE), ("compressed", COMPRESSED))
            for name, padding in (
                ("zeros", bytes(1000)),
                ("ones", b"\xff" * 1000),
                ("blanks", b" " * 1000),
                ("another file", NATIVE[:400]),
            )
        ),
        *(
            pytest.param(
                with_length(NATIVE, b"\x02\x00\x00\x00UL\4\0", length), "", id=f"meta of {length}"
            )
            for length in (0, 4, 100_000, 0xFFFFFFFF)
        ),
        pytest.param(
            inserted(NATIVE, b"\x10\0\0\0UL\4\0\xff\xff\0\0"), "", id="group length that lies"
        ),
        pytest.param(inserted(NATIVE, END), "", id="stray delimiter"),
        pytest.param(inserted(NATIVE, ITEM), "", id="stray item"),
        pytest.param(inserted(NATIVE, b"\x09\0\x10\0LO\3\0abc"), "", id="odd length"),
        pytest.param(
            inserted(NATIVE, b"\x08\0\x40\x11SQ\0\0\x08\0\0\0" + ITEM[:4] + b"\x40\0\0\0"),
            "",
            id="item longer than its sequence",
        ),
        *(
            pytest.param(inserted(raw, element), "", id=f"{depth} {kind}")
            for depth in (1, 31, 32, 33, 100)
            for kind, raw, element in (
                ("explicit", NATIVE, nested(depth, EXPLICIT_SQ)),
                ("implicit", IMPLICIT, nested(depth, UNKNOWN_SQ)),
                ("in UN", NATIVE, UNKNOWN_SQ + b"UN\0\0" + nested(depth, UNKNOWN_SQ)[4:]),
            )
        ),
    ],
)
def test_what_lengths_and_ends_may_be(raw: bytes, note: str, tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(raw)
    outcome = convert(tmp_path / "image.dcm", tmp_path / "out")
    assert (outcome.status, outcome.reason) == (dc.Status.CONVERTED, "")
    assert outcome.warnings == ((note,) if note else ())
    np.testing.assert_array_equal(read_png(outcome.outputs[0]), PICTURE)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(
            pixel_length(NATIVE, 100), "declares 8 x 8 pixels but holds 100 bytes", id="too short"
        ),
        pytest.param(
            file_of(JPEGLSLossless, 3)[:-30],
            "the file ends inside its pixel data: it is truncated",
            id="cut in the last frame",
        ),
        pytest.param(
            inserted(NATIVE, b"\x09\0\x10\0OB\0\0\xf0\xff\xff\xff"),
            "the file ends inside (0009,0010): it is truncated",
            id="element of 4 GB",
        ),
        pytest.param(
            inserted(NATIVE, b"\x08\0\x40\x11SQ\0\0" + UNDEFINED + ITEM),
            "a sequence of its header has no end: it is damaged",
            id="sequence without end",
        ),
        pytest.param(
            inserted(NATIVE, ITEM_END),
            "an image without its pixels: the file is truncated, stripped or damaged",
            id="stray end of an item",
        ),
        *(
            pytest.param(inserted(raw, nested(depth, head)), reason, id=name)
            for depth, reason in (
                (5000, "its sequences are nested too deeply"),
                (200_000, "its header holds more than 500,000 elements and items"),
            )
            for name, raw, head in (
                (f"{depth} explicit", NATIVE, EXPLICIT_SQ),
                (f"{depth} implicit", IMPLICIT, UNKNOWN_SQ),
            )
        ),
    ],
)
def test_what_lengths_and_ends_may_not_be(raw: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(raw)
    outcome = convert(tmp_path / "image.dcm", tmp_path / "out")
    assert (outcome.status, outcome.reason) == (dc.Status.FAILED, reason)
    assert {path.suffix for path in outcome.outputs} <= {".txt"}


def test_nesting_that_the_command_line_can_stand(tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(inserted(NATIVE, nested(1000, EXPLICIT_SQ)))
    limit = sys.getrecursionlimit()
    try:
        assert dc.main([str(tmp_path / "image.dcm"), "-q", "-o", str(tmp_path / "out")]) == 0
    finally:
        sys.setrecursionlimit(limit)
    np.testing.assert_array_equal(read_png(tmp_path / "out" / "image.png"), PICTURE)


def test_nesting_is_shown_as_deep_as_the_text_says(tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(inserted(NATIVE, nested(40, EXPLICIT_SQ)))
    lines = convert(tmp_path / "image.dcm", tmp_path).outputs[1].read_text("utf-8").splitlines()
    deepest = [line for line in lines if line.endswith("... nested too deeply to be shown")]
    assert len(deepest) == 1
    assert sum("(0009,1001) SQ" in line for line in lines) == dc.MAX_NESTING_SHOWN + 1
