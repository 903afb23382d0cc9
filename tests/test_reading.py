"""Files as they come: pydicom's own, broken ones, odd containers and absurd headers."""

from __future__ import annotations

import io
import math
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import imagecodecs
import numpy as np
import pydicom
import pytest
from conftest import (
    CORPUS,
    PYDICOM_FILES,
    Array,
    Factory,
    Run,
    convert,
    data_set,
    decoded,
    needs_corpus,
    read_png,
    still,
    with_syntax,
)
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

import dicom_converter as dc

RAMP = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80
DEEP = np.rint(RAMP / RAMP.max() * 65535).astype(np.uint16)


def is_dicom_file(path: Path) -> bool:
    """Tell DICOM files of pydicom from its JSON, dumps and text."""
    return path.is_file() and path.suffix in ("", ".dcm") and path.name != "README"


# Files that ship inside pydicom and cannot be shown, with what is said of them.
UNSHOWN = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "the code stream is",
    "MR_truncated.dcm": "declares 64 x 64 pixels but holds 8130 bytes",
    "no_meta.dcm": "not a DICOM file",  # a stray byte comes first
    "meta_missing_tsyntax.dcm": "Rows is missing or 0",
    "nested_priv_SQ.dcm": "Rows is missing or 0",
    "rtplan_truncated.dcm": "the file ends inside (300a,00b0)",
}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PYDICOM_FILES.rglob("*")) if is_dicom_file(path)],
    ids=lambda path: path.relative_to(PYDICOM_FILES).as_posix(),
)
@pytest.mark.filterwarnings("ignore")
def test_every_file_of_pydicom_converts_or_says_why(path: Path, tmp_path: Path) -> None:
    outcome = convert(path, tmp_path)
    suffixes = {output.suffix for output in outcome.outputs}
    if path.name in UNSHOWN:
        assert outcome.status == dc.Status.FAILED
        assert outcome.reason.startswith(UNSHOWN[path.name])
        assert suffixes <= {".txt"}
    elif {"PixelData", "WaveformSequence"} & {*pydicom.dcmread(path, force=True).dir()}:
        assert outcome.status == dc.Status.CONVERTED, outcome.reason
        assert suffixes in ({".png", ".txt"}, {".gif", ".mp4", ".txt"})
    elif re.search("Kind .* Image Storage", outcome.outputs[0].read_text(encoding="utf-8")):
        assert outcome.status == dc.Status.FAILED
        assert (
            outcome.reason
            == "an image without its pixels: the file is truncated, stripped or damaged"
        )
    else:
        assert outcome.status == dc.Status.TEXT_ONLY, outcome.reason
        assert suffixes == {".txt"}


# Corpus files without a picture in this version, by the beginning of the reason.
CORPUS_REASONS = (
    "an image without its pixels",  # stripped on purpose: 51 of the DICOMDIR samples and 3 others
    "the file ends inside its pixel data",
    *UNSHOWN.values(),
)


@needs_corpus
def test_the_corpus_comes_out_whole(tmp_path: Path) -> None:
    reasons = []
    for source in dc.find_sources([CORPUS], tmp_path):
        outcome = dc.convert(source, dc.Options(output=tmp_path))
        if outcome.status == dc.Status.FAILED:
            reasons.append((source.path.name, outcome.reason))
        elif outcome.status == dc.Status.CONVERTED:
            assert outcome.instance
            assert len(outcome.outputs) in (2, 3) or outcome.instance.kind == "slide"
            assert all(output.stat().st_size for output in outcome.outputs)
    unknown = [
        reason for reason in reasons if not reason[1].lower().startswith(lowered(CORPUS_REASONS))
    ]
    assert not unknown
    assert sum(not reason[1].startswith("an image without") for reason in reasons) <= 6


def lowered(reasons: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(reason.lower() for reason in reasons)


@pytest.mark.parametrize(
    "path",
    [
        PYDICOM_FILES / "JPEG-lossy.dcm",
        pytest.param(
            CORPUS / "pydicom+pylibjpeg-data/ljdata/ds/JPEGExtended/RG2_JPLY.dcm",
            marks=needs_corpus,
        ),
    ],
    ids=lambda path: str(path.stem),
)
def test_12_bit_jpeg_that_pylibjpeg_refuses(path: Path, tmp_path: Path) -> None:
    picture = still(path, tmp_path)
    assert picture.dtype == np.uint16
    assert picture.max() > 60000
    assert len(np.unique(picture)) > 100


def lossless_code(pixels: Array, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12, **options))


@pytest.mark.parametrize(
    ("syntax", "code"),
    [
        pytest.param(JPEGLossless, lossless_code(RAMP, predictor=6), id="lossless"),
        pytest.param(JPEGLosslessSV1, lossless_code(RAMP, predictor=1), id="lossless SV1"),
        pytest.param(JPEGLSLossless, bytes(imagecodecs.jpegls_encode(RAMP)), id="JPEG-LS"),
        pytest.param(
            JPEG2000Lossless,
            bytes(imagecodecs.jpeg2k_encode(RAMP, codecformat="j2k", reversible=True, level=0)),
            id="JPEG 2000",
        ),
        pytest.param(
            JPEG2000Lossless,
            bytes(imagecodecs.jpeg2k_encode(RAMP, codecformat="jp2", reversible=True, level=0)),
            id="JPEG 2000 in JP2",
        ),
        pytest.param(HTJ2KLossless, bytes(imagecodecs.htj2k_encode(RAMP)), id="HTJ2K"),
        pytest.param(
            JPEGLosslessSV1, bytes(imagecodecs.jpegls_encode(RAMP)), id="wrong syntax in the header"
        ),
    ],
)
def test_lossless_code_streams(
    dicom_file: Factory, tmp_path: Path, syntax: str, code: bytes
) -> None:
    path = dicom_file(RAMP, [code], syntax, BitsStored=12, HighBit=11)
    assert np.array_equal(still(path, tmp_path / "out"), DEEP)


def test_a_signed_jpeg_2000_stream_under_an_unsigned_header(
    dicom_file: Factory, tmp_path: Path
) -> None:
    signed = RAMP.astype(np.int16) - 2000
    code = bytes(imagecodecs.jpeg2k_encode(signed, codecformat="j2k", reversible=True, level=0))
    for representation in (0, 1):
        path = dicom_file(signed, [code], JPEG2000Lossless, PixelRepresentation=representation)
        outcome = convert(path, tmp_path / "out")
        assert np.array_equal(read_png(outcome.outputs[0]), DEEP)
        assert len(outcome.warnings) == 1 - representation


def test_lossy_code_streams(dicom_file: Factory, tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16) * 16
    expected = smooth / smooth.max() * 255
    for name, syntax, code, pixels in (
        ("8", JPEGBaseline8Bit, imagecodecs.jpeg8_encode((smooth >> 3).astype("u1"), 95), "u1"),
        ("12", JPEGExtended12Bit, imagecodecs.jpeg8_encode(smooth, 95, bitspersample=12), "u2"),
    ):
        bits = {} if pixels == "u1" else {"BitsStored": 12, "HighBit": 11}
        path = dicom_file(smooth.astype(pixels), [bytes(code)], syntax, name=name, **bits)
        picture = still(path, tmp_path / "out", png_bits=8)
        assert np.abs(picture - expected).max() <= 6


def test_rle(tmp_path: Path) -> None:
    ds = data_set(RAMP)
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(still(tmp_path / "rle.dcm", tmp_path / "out"), DEEP)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_native_encodings(dicom_file: Factory, tmp_path: Path, syntax: str) -> None:
    assert np.array_equal(still(dicom_file(RAMP, syntax=syntax), tmp_path / "out"), DEEP)


def test_big_endian(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP, syntax=ExplicitVRBigEndian, PixelData=RAMP.astype(">u2").tobytes())
    assert np.array_equal(still(path, tmp_path / "out"), DEEP)


def bare(path: Path) -> bytes:
    """Return the data set of *path* without preamble and file meta."""
    ds = pydicom.dcmread(path)
    buffer = io.BytesIO()
    implicit, little = ds.original_encoding
    ds.save_as(buffer, implicit_vr=implicit, little_endian=bool(little), force_encoding=True)
    raw = buffer.getvalue()
    start = raw.index(b"\x08\x00\x16\x00")
    return raw[start:]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.1"])
def test_a_bare_data_set(dicom_file: Factory, tmp_path: Path, syntax: str) -> None:
    path = dicom_file(RAMP, syntax=syntax)
    path.write_bytes(bare(path))
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED
    assert outcome.warnings[0].startswith("no transfer syntax is declared")
    assert np.array_equal(read_png(outcome.outputs[0]), DEEP)


def test_a_deflated_data_set_with_a_zlib_header(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP, syntax=DeflatedExplicitVRLittleEndian)
    raw = path.read_bytes()
    meta_end = 132 + 12 + struct.unpack("<L", raw[140:144])[0]
    path.write_bytes(raw[:meta_end] + zlib.compress(zlib.decompress(raw[meta_end:], -15)))
    assert np.array_equal(still(path, tmp_path / "out"), DEEP)


def test_frames_split_over_fragments(dicom_file: Factory) -> None:
    frames = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    codes = [lossless_code(np.ascontiguousarray(frame), predictor=1) for frame in frames]
    for table in (True, False):
        path = dicom_file(frames, codes, JPEGLosslessSV1, BitsStored=12, HighBit=11)
        ds = pydicom.dcmread(path)
        ds.PixelData = encapsulate(codes, fragments_per_frame=2, has_bot=table)
        ds.save_as(path)
        header, _, found = decoded(path)
        assert header.pixels
        assert header.pixels.fragments == 6
        assert np.array_equal([stored for stored, _ in found], frames)


@pytest.mark.parametrize("compressed", [False, True], ids=["native", "compressed"])
@pytest.mark.parametrize(
    ("declared", "shown", "warning"),
    [
        (None, 3, "Number of Frames is missing: the pixel data hold 3"),
        (0, 3, "Number of Frames is missing: the pixel data hold 3"),
        (2, 2, "holds 3 frames, but declares 2: the rest was left out"),
        (1, 1, "holds 3 frames, but declares 1: the rest was left out"),
    ],
)
def test_more_frames_than_declared(
    dicom_file: Factory,
    tmp_path: Path,
    compressed: bool,
    declared: int | None,
    shown: int,
    warning: str,
) -> None:
    codes = [CODE] * 3 if compressed else []
    syntax = JPEGLosslessSV1 if compressed else "1.2.840.10008.1.2.1"
    frames = {"NumberOfFrames": declared, "BitsStored": 12, "HighBit": 11}
    path = dicom_file(np.stack([RAMP] * 3), codes, syntax, **frames)
    outcome = convert(path, tmp_path / "out")
    assert outcome.warnings == (warning,)
    text = outcome.outputs[-1].read_text(encoding="utf-8")
    assert f"  Frames         {shown}\n" in text


@pytest.mark.parametrize("keyword", ["SamplesPerPixel", "PixelRepresentation", "HighBit"])
def test_missing_attributes_that_can_be_filled_in(
    dicom_file: Factory, tmp_path: Path, keyword: str
) -> None:
    outcome = convert(dicom_file(RAMP, **{keyword: None}), tmp_path / "out")
    assert np.array_equal(read_png(outcome.outputs[0]), DEEP)
    assert len(outcome.warnings) == 1


def test_missing_samples_per_pixel_of_color(dicom_file: Factory, tmp_path: Path) -> None:
    color = np.random.default_rng(3).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(still(dicom_file(color, SamplesPerPixel=None), tmp_path), color)


ABSURD = [
    ({"Rows": 0}, "Rows is missing or 0"),
    ({"Columns": None}, "Columns is missing or 0"),
    ({"Rows": 65535, "Columns": 65535}, "too many for memory"),
    ({"Rows": 20000, "Columns": 20000}, "declares 20000 x 20000 pixels but holds 96 bytes"),
    ({"NumberOfFrames": 1_000_000_000}, "declares 1000000000 frames of 8 x 6 pixels but"),
    ({"SamplesPerPixel": 4}, "4 samples a pixel"),
    ({"BitsAllocated": 24}, "Bits Allocated is 24"),
    ({"BitsAllocated": None}, "Bits Allocated is missing"),
    ({"PixelData": b"\0\0"}, "declares 8 x 6 pixels but holds 2 bytes"),
]


@pytest.mark.parametrize(("elements", "reason"), ABSURD, ids=lambda value: str(value)[:40])
def test_absurd_attributes(
    run: Callable[..., Run], dicom_file: Factory, elements: dict[str, Any], reason: str
) -> None:
    path = dicom_file(RAMP, **elements)
    result = run(path)
    assert result.code == 1
    assert result.err.startswith(f"dicom_converter: {path}: ")
    assert reason in result.err
    assert len(result.err.splitlines()) == 1
    assert result.files() == ["image.txt"]


def test_a_billion_compressed_frames(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP, [lossless_code(RAMP)], JPEGLosslessSV1, NumberOfFrames=10**9)
    assert "holds 1 fragments" in convert(path, tmp_path).reason


CODE = lossless_code(RAMP, predictor=1)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(CODE[:-40], "truncated: its end marker is missing", id="cut"),
        pytest.param(CODE[:12], "no frame header", id="header alone"),
        pytest.param(b"\0" * 64, "neither JPEG, JPEG-LS, JPEG 2000 nor JPEG XL", id="zeros"),
        pytest.param(lossless_code(RAMP[:4]), "the code stream is 8 x 4, the header", id="size"),
        pytest.param(bytes(imagecodecs.htj2k_encode(RAMP))[:-20], "decode", id="HTJ2K cut"),
        pytest.param(bytes(imagecodecs.jpegls_encode(RAMP))[:-20], "end marker", id="LS cut"),
    ],
)
def test_broken_code_streams(
    run: Callable[..., Run], dicom_file: Factory, code: bytes, reason: str
) -> None:
    path = dicom_file(RAMP, [code], JPEGLosslessSV1, BitsStored=12, HighBit=11)
    result = run(path)
    assert result.code == 1
    assert reason in result.err
    assert len(result.err.splitlines()) == 1
    assert result.files() == ["image.txt"]


def test_a_jpeg_whose_first_marker_is_damaged(dicom_file: Factory, tmp_path: Path) -> None:
    code = bytes(imagecodecs.jpeg8_encode((RAMP >> 4).astype(np.uint8)))
    path = dicom_file(RAMP.astype(np.uint8), [code[:2] + b"\x8d" + code[3:]], JPEGBaseline8Bit)
    assert convert(path, tmp_path / "out").status == dc.Status.CONVERTED


def test_an_empty_box_in_a_jp2_container_does_not_hang(dicom_file: Factory, tmp_path: Path) -> None:
    code = bytearray(imagecodecs.jpeg2k_encode(RAMP, codecformat="jp2", reversible=True, level=0))
    code[12:16] = bytes(4)  # the length of the box behind the signature
    path = dicom_file(RAMP, [bytes(code)], JPEG2000Lossless)
    assert "failed to read the header" in convert(path, tmp_path / "out").reason


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        (uid.UID("1.2.840.10008.1.2.4.94"), "JPIP: the pixels are on a server: http://x.invalid/1"),
        (uid.UID("1.2.840.10008.1.2.4.95"), "JPIP: the pixels are on a server: http://x.invalid/1"),
        (uid.JPIPHTJ2KReferenced, "JPIP: the pixels are on a server: http://x.invalid/1"),
        (uid.JPIPHTJ2KReferencedDeflate, "JPIP: the pixels are on a server: http://x.invalid/1"),
        (uid.SMPTEST211020UncompressedProgressiveActiveVideo, "SMPTE ST 2110: a live stream"),
        (uid.SMPTEST211020UncompressedInterlacedActiveVideo, "SMPTE ST 2110: a live stream"),
        (uid.SMPTEST211030PCMDigitalAudio, "SMPTE ST 2110: a live stream"),
    ],
)
def test_pixels_that_no_file_holds(
    run: Callable[..., Run], dicom_file: Factory, syntax: uid.UID, reason: str
) -> None:
    is_jpip = reason.startswith("JPIP")
    url = {"PixelDataProviderURL": "http://x.invalid/1"} if is_jpip else {}
    path = dicom_file(RAMP, PixelData=None, **url)
    raw = with_syntax(path.read_bytes(), syntax)
    if syntax in dc.DEFLATED_SYNTAXES:
        start = 144 + int.from_bytes(raw[140:144], "little")
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        raw = raw[:start] + deflate.compress(raw[start:]) + deflate.flush()
    path.write_bytes(raw)
    result = run(path)
    assert result.code == 1
    assert reason in result.err
    assert len(result.err.splitlines()) == 1
    assert result.files() == ["image.txt"]
    assert "(0010,0010)" in (result.output / "image.txt").read_text("utf-8")


@pytest.mark.parametrize("part", [0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("compressed", [False, True], ids=["native", "compressed"])
def test_truncated_files_fail_and_leave_no_picture(
    dicom_file: Factory, tmp_path: Path, part: float, compressed: bool
) -> None:
    noise = np.random.default_rng(1).integers(0, 4096, (64, 64), np.uint16)
    codes = [lossless_code(noise, predictor=1)] if compressed else []
    syntax = JPEGLosslessSV1 if compressed else "1.2.840.10008.1.2.1"
    path = dicom_file(noise, codes, syntax, BitsStored=12, HighBit=11)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert {output.suffix for output in outcome.outputs} <= {".txt"}


def test_a_broken_frame_leaves_no_clip(dicom_file: Factory, tmp_path: Path) -> None:
    frames = np.stack([RAMP] * 12)
    codes = [CODE] * 11 + [CODE[:-30]]
    path = dicom_file(
        frames, codes, JPEGLosslessSV1, BitsStored=12, HighBit=11, WindowCenter=99, WindowWidth=99
    )
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["image.txt"]


def test_elements_after_the_pixels_are_read(dicom_file: Factory) -> None:
    path = dicom_file(RAMP, DataSetTrailingPadding=b"\0\0")
    with path.open("rb") as file:
        assert "DataSetTrailingPadding" in dc.read_header(file).data_set


def test_deep_nesting_ends_in_a_reason(tmp_path: Path) -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nested = b"\x08\x00\x40\x11\xff\xff\xff\xff" + item
    path = tmp_path / "deep.dcm"
    path.write_bytes(b"\x08\x00\x16\x00\x04\x00\x00\x001.2\0" + nested * 5000)
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert outcome.reason == "its sequences are nested too deeply"


@pytest.mark.parametrize(
    ("elements", "durations", "origin"),
    [
        ({"FrameTime": 66.7}, [Fraction(667, 10000)] * 3, "Frame Time"),
        (
            {"FrameTimeVector": [0, 40, 60.5], "FrameIncrementPointer": 0x00181065},
            [Fraction(40, 1000), Fraction(605, 10000), Fraction(605, 10000)],
            "Frame Time Vector",
        ),
        (
            {
                "FrameTimeVector": [0, 40, 60],
                "FrameTime": 50,
                "FrameIncrementPointer": 0x00181063,
            },
            [Fraction(1, 20)] * 3,
            "Frame Time",
        ),
        ({"FrameTimeVector": [0, 40], "CineRate": 25}, [Fraction(1, 25)] * 3, "Cine Rate"),
        (
            {"RecommendedDisplayFrameRate": 15, "CineRate": 25},
            [Fraction(1, 15)] * 3,
            "Recommended Display Frame Rate",
        ),
        ({"ActualFrameDuration": 33}, [Fraction(33, 1000)] * 3, "Actual Frame Duration"),
        ({"EffectiveDuration": 1.5}, [Fraction(1, 2)] * 3, "Effective Duration"),
        ({"FrameTime": 0}, [], ""),
        ({}, [], ""),
    ],
    ids=str,
)
def test_recorded_timing(elements: dict[str, Any], durations: list[Fraction], origin: str) -> None:
    ds = data_set(**elements)
    found, attribute = dc.recorded_durations(ds, 3)
    assert (list(found), attribute) == (durations, origin)


def test_recorded_timing_of_functional_groups() -> None:
    groups = []
    for seconds in ("00.0", "00.5", "01.5"):
        group, content = Dataset(), Dataset()
        content.FrameReferenceDateTime = f"202001021011{seconds}"
        group.FrameContentSequence = [content]
        groups.append(group)
    ds = data_set(PerFrameFunctionalGroupsSequence=groups)
    assert dc.recorded_durations(ds, 3)[0] == (Fraction(1, 2), Fraction(1), Fraction(1))


@pytest.mark.parametrize(
    ("rate", "elements", "used"),
    [
        (10, {"FrameTime": 66.7}, "10 fps; recorded at 14.99 (Frame Time), `--fps auto` keeps it"),
        (None, {"FrameTime": 66.7}, "14.99 fps, as recorded (Frame Time)"),
        (10, {"FrameTime": 100}, "10 fps, as recorded (Frame Time)"),
        (None, {}, "10 fps; no rate is recorded"),
        (25, {}, "25 fps; no rate is recorded"),
    ],
)
def test_the_rate_used_is_said(rate: int | None, elements: dict[str, Any], used: str) -> None:
    recorded = dc.recorded_durations(data_set(**elements), 3)
    timing = dc.timing_of(*recorded, 3, Fraction(rate) if rate else None)
    assert timing.used == used
    assert len(timing.durations) == 3


def test_a_still_with_the_times_of_a_clip(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP, FrameTimeVector=[0], FrameIncrementPointer=0x00181065)
    assert np.array_equal(still(path, tmp_path / "out"), DEEP)


def test_a_rate_out_of_all_proportion_is_left_out() -> None:
    with pytest.warns(UserWarning, match="out of all proportion"):
        timing = dc.timing_of(*dc.recorded_durations(data_set(FrameTime=1e9), 3), 3, None)
    assert set(timing.durations) == {Fraction(1, 10)}


def test_one_broken_byte_of_rle_stops_nothing(
    run: Callable[..., Run], dicom_file: Factory, tmp_path: Path
) -> None:
    dicom_file(RAMP, name="b.dcm")
    ds = data_set(RAMP)
    ds.compress(RLELossless)
    path = tmp_path / "in" / "a.dcm"
    ds.save_as(path)
    raw = bytearray(path.read_bytes())
    first_run = raw.rindex(b"\xfe\xff\x00\xe0") + 8 + 64
    for value in (0x81, 0x7F, 0x80):
        raw[first_run] = value
        path.write_bytes(raw)
        result = run(tmp_path / "in")
        assert set(result.files()) >= {"a.txt", "b.png", "b.txt"}
        assert len(result.err.splitlines()) == 1  # the reason, or a warning of excess data


@pytest.mark.parametrize("bits", [12, 16])
def test_a_signed_8_bit_stream_in_16_bits_keeps_its_sign(
    dicom_file: Factory, tmp_path: Path, bits: int
) -> None:
    stored = np.array([[-24, -1, 0, 100]], np.int8).repeat(4, axis=0)
    code = bytes(imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True, level=0))
    depth = {"BitsStored": bits, "HighBit": bits - 1}
    path = dicom_file(stored.astype(np.int16), [code], JPEG2000Lossless, **depth)
    expected = np.rint((stored[0].astype(int) + 24) / 124 * 65535)
    assert np.array_equal(still(path, tmp_path / "out")[0], expected)


@pytest.mark.parametrize("size", [(7, 9), (17, 19), (33, 35), (65, 65)], ids=str)
def test_frames_of_one_bit_that_end_inside_a_byte(
    dicom_file: Factory, size: tuple[int, int]
) -> None:
    frames = np.random.default_rng(2).integers(0, 2, (7, *size), np.uint8)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    bits = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    path = dicom_file(frames, PixelData=packed + b"\0" * (len(packed) % 2), **bits)
    assert np.array_equal([stored for stored, _ in decoded(path)[2]], frames)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\xfe\xff\xdd\xe0\0\0\0\0", id="stray delimiter"),
        pytest.param(b"\xfe\xff\x00\xe0\x04\0\0\0abcd", id="stray item"),
        pytest.param(b"\0" * 1000, id="zeros"),
        pytest.param(b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0abcd", id="padding"),
        pytest.param(b"\xe1\x7f\x10\x10SQ\0\0\xff\xff\xff\xffgarbage!garbage!", id="broken"),
        pytest.param(b"\xe1\x7f\x10\x10", id="cut"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_garbage_after_the_pixels_loses_nothing(
    dicom_file: Factory, tmp_path: Path, tail: bytes
) -> None:
    path = dicom_file(RAMP)
    path.write_bytes(path.read_bytes() + tail)
    assert np.array_equal(still(path, tmp_path / "out"), DEEP)


def test_an_empty_element_of_unknown_type(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP)
    raw = path.read_bytes()
    at = raw.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(raw[:at] + b"\x08\x00\x00\x32ZZ\0\0" + raw[at:])
    assert np.array_equal(still(path, tmp_path / "out"), DEEP)


def test_deep_nesting_of_defined_length(dicom_file: Factory, tmp_path: Path) -> None:
    nested = b""
    for _ in range(2000):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(nested)) + nested
        nested = b"\x08\x00\x40\x11SQ\0\0" + struct.pack("<L", len(item)) + item
    path = dicom_file(RAMP)
    raw = path.read_bytes()
    at = raw.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(raw[:at] + nested + raw[at:])
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED
    assert np.array_equal(read_png(outcome.outputs[0]), DEEP)


@pytest.mark.parametrize("end", [140, 150, 200, 250])
def test_a_file_cut_in_its_file_meta_information(
    dicom_file: Factory, tmp_path: Path, end: int
) -> None:
    path = dicom_file(RAMP)
    path.write_bytes(path.read_bytes()[:end])
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert "the file ends" in outcome.reason or "truncated" in outcome.reason


def test_a_file_cut_anywhere_is_never_a_success(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP)
    raw = path.read_bytes()
    whole = len(raw)
    for end in range(132, whole):
        path.write_bytes(raw[:end])
        outcome = convert(path, tmp_path / "out")
        assert outcome.status == dc.Status.FAILED, (end, outcome.reason)
        assert "Error" not in outcome.reason, (end, outcome.reason)
        assert "error" not in outcome.reason, (end, outcome.reason)


def test_mixed_time_zones_of_frames() -> None:
    groups = []
    for moment in ("20200102101100.0+0100", "20200102101100.5", "20200102101101.0+0100"):
        group, content = Dataset(), Dataset()
        content.FrameReferenceDateTime = moment
        group.FrameContentSequence = [content]
        groups.append(group)
    ds = data_set(PerFrameFunctionalGroupsSequence=groups)
    assert dc.recorded_durations(ds, 3)[0] == (Fraction(1, 2),) * 3


@pytest.mark.parametrize(
    "elements",
    [
        {"FrameTime": "33.3333333"},
        {"FrameTime": "33.3333333333333"},
        {"CineRate": "29"},
        {"EffectiveDuration": 3.1415926535},
        {"FrameTimeVector": ["0", "33.3333333", "33.3666667"], "FrameIncrementPointer": 0x00181065},
    ],
    ids=str,
)
def test_recorded_times_of_many_digits_make_a_clip(
    dicom_file: Factory, tmp_path: Path, elements: dict[str, Any]
) -> None:
    path = dicom_file(np.stack([RAMP] * 3), **elements)
    outcome = convert(path, tmp_path / "out", frame_rate=None)
    assert outcome.status == dc.Status.CONVERTED, outcome.reason


def test_native_422_of_three_samples_is_refused(dicom_file: Factory, tmp_path: Path) -> None:
    color = np.zeros((4, 6, 3), np.uint8)
    outcome = convert(dicom_file(color, PhotometricInterpretation="YBR_FULL_422"), tmp_path)
    assert outcome.reason == "YBR_..._422 with three samples a pixel: its colors cannot be known"


def packed(pixels: Array) -> bytes:
    """Return samples of 12 bits without gaps between them, by integers of any length."""
    joined = sum(int(value) << 12 * place for place, value in enumerate(pixels.ravel()))
    return joined.to_bytes(math.ceil(pixels.size * 12 / 16) * 2, "little")


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (3, 3, 5)], ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_packed_samples_of_12_bits(
    dicom_file: Factory, shape: tuple[int, ...], *, signed: bool
) -> None:
    stored = (np.arange(math.prod(shape), dtype=np.uint16) * 997 % 4096).reshape(shape)
    elements = {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}
    path = dicom_file(stored, **elements, PixelRepresentation=int(signed), PixelData=packed(stored))
    header, image, frames = decoded(path)
    np.testing.assert_array_equal(np.reshape([frame for frame, _ in frames], shape), stored)
    values = dc.stored_values(frames[0][0], dc.sample_format(header.data_set, image))
    first = stored.reshape(-1, *shape[-2:])[0].astype(int)
    np.testing.assert_array_equal(values, np.where(signed & (first > 2047), first - 4096, first))


def test_packed_samples_that_are_cut_short(dicom_file: Factory, tmp_path: Path) -> None:
    stored = np.zeros((4, 6), np.uint16)
    elements = {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}
    path = dicom_file(stored, **elements, PixelData=packed(stored)[:-2])
    assert convert(path, tmp_path / "out").reason == "declares 6 x 4 pixels but holds 34 bytes"


def test_compressed_pixels_are_not_packed(dicom_file: Factory) -> None:
    path = dicom_file(RAMP, [imagecodecs.jpegls_encode(RAMP)], JPEGLSLossless, BitsAllocated=12)
    with pytest.warns(UserWarning, match="Bits Allocated is 12, taken as 16"):
        np.testing.assert_array_equal(decoded(path)[2][0][0], RAMP)


def test_one_bit_color_is_refused(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(np.zeros((8, 8, 3), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    assert convert(path, tmp_path).reason == "color of 1 bits a sample cannot be shown"


@needs_corpus
def test_the_packed_file_of_the_corpus(tmp_path: Path) -> None:
    (path,) = CORPUS.rglob("GH340.dcm")
    picture = still(path, tmp_path)
    assert picture.shape == (256, 256)
    corner, brain = picture[:30, :30], picture[100:160, 100:160]
    assert corner.mean() < 3000 < 15000 < brain.mean()


def test_color_that_is_not_known_is_refused(dicom_file: Factory, tmp_path: Path) -> None:
    color = np.zeros((4, 6, 3), np.uint8)
    outcome = convert(dicom_file(color, PhotometricInterpretation="HSV"), tmp_path)
    assert outcome.reason == "color of Photometric Interpretation HSV cannot be shown"


FRAMES = np.stack([RAMP, RAMP[::-1], RAMP // 2, RAMP[:, ::-1], 3839 - RAMP])
FRAME_CODES = [
    code + bytes(len(code) % 2) for code in map(bytes, map(imagecodecs.jpegls_encode, FRAMES))
]
OFFSETS = [sum(len(code) + 8 for code in FRAME_CODES[:index]) for index in range(len(FRAMES))]


def items(*values: bytes) -> bytes:
    """Return encapsulated *values*, the first of which is the Basic Offset Table (PS3.5 A.4)."""
    heads = (b"\xfe\xff\x00\xe0" + struct.pack("<L", len(value)) for value in values)
    joined = b"".join(head + value for head, value in zip(heads, values, strict=True))
    return joined + b"\xfe\xff\xdd\xe0" + bytes(4)


def table(offsets: list[int], size: str = "L") -> bytes:
    """Return *offsets* as an offset table: 32 bits in the basic one, 64 ("Q") in the extended."""
    return struct.pack(f"<{len(offsets)}{size}", *offsets)


@pytest.mark.parametrize(
    "basic",
    [
        pytest.param([], id="empty"),
        pytest.param(OFFSETS, id="right"),
        pytest.param([offset + 4 for offset in OFFSETS], id="shifted"),
        pytest.param([0] * 5, id="zeros"),
        pytest.param([0, 1 << 31, (1 << 32) - 1, 5, 7], id="beyond the file"),
        pytest.param(OFFSETS[:3], id="too short"),
        pytest.param([*OFFSETS, 9999], id="too long"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\1\2"], ids=["", "no whole numbers"])
def test_basic_offset_tables(dicom_file: Factory, basic: list[int], rest: bytes) -> None:
    path = dicom_file(
        FRAMES, FRAME_CODES, JPEGLSLossless, PixelData=items(table(basic) + rest, *FRAME_CODES)
    )
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES)


HALVES = [half for code in FRAME_CODES for half in (code[:20], code[20:])]
SPLIT_OFFSETS = [offset + 8 * index for index, offset in enumerate(OFFSETS)]


@pytest.mark.parametrize(
    "basic",
    [
        pytest.param([], id="empty"),
        pytest.param(SPLIT_OFFSETS, id="right"),
        pytest.param(OFFSETS, id="as if not split"),
        pytest.param([offset + 28 for offset in SPLIT_OFFSETS], id="second halves"),
        pytest.param(SPLIT_OFFSETS[:2], id="too short"),
    ],
)
def test_offset_tables_of_split_frames(dicom_file: Factory, basic: list[int]) -> None:
    pixel_data = items(table(basic), *HALVES)
    path = dicom_file(FRAMES, FRAME_CODES, JPEGLSLossless, PixelData=pixel_data)
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES)


@pytest.mark.parametrize("extended", [False, True], ids=["basic", "extended"])
def test_split_frames_that_only_a_table_tells_apart(dicom_file: Factory, *, extended: bool) -> None:
    raw = [frame.tobytes() for frame in FRAMES]
    halves = [half for code in raw for half in (code[:20], code[20:])]
    offsets = [index * (len(raw[0]) + 16) for index in range(len(raw))]
    tables = {"ExtendedOffsetTable": table(offsets, "Q")} if extended else {}
    pixel_data = items(b"" if extended else table(offsets), *halves)
    path = dicom_file(FRAMES, raw, dc.ENCAPSULATED_UNCOMPRESSED, PixelData=pixel_data, **tables)
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES)


@pytest.mark.parametrize("numbers", [[0] * 5, [1, 2, 3, 4, 5], [0, 1, 2, 3, 5]], ids=str)
def test_split_frames_that_nothing_tells_apart(
    dicom_file: Factory, tmp_path: Path, numbers: list[int]
) -> None:
    raw = [frame.tobytes() for frame in FRAMES]
    halves = [half for code in raw for half in (code[:20], code[20:])]
    offsets = [number * (len(raw[0]) + 16) for number in numbers]  # the sixth is the end
    pixel_data = items(table(offsets), *halves)
    path = dicom_file(FRAMES, raw, dc.ENCAPSULATED_UNCOMPRESSED, PixelData=pixel_data)
    reason = convert(path, tmp_path / "out").reason
    assert reason == "holds 10 fragments, and nothing tells its frames apart"


def test_excess_frames_are_left_out(dicom_file: Factory) -> None:
    path = dicom_file(FRAMES, FRAME_CODES, JPEGLSLossless, NumberOfFrames=3)
    with pytest.warns(UserWarning, match="holds 5 frames, but declares 3"):
        found = [stored for stored, _ in decoded(path)[2]]
    np.testing.assert_array_equal(found, FRAMES[:3])


@pytest.mark.parametrize(
    ("offsets", "lengths"),
    [
        pytest.param(table(OFFSETS, "Q"), table([*map(len, FRAME_CODES)], "Q"), id="right"),
        pytest.param(table([x + 4 for x in OFFSETS], "Q"), table([9] * 5, "Q"), id="shifted"),
        pytest.param(table([1 << 63] * 5, "Q"), table([1 << 63] * 5, "Q"), id="beyond the file"),
        pytest.param(table(OFFSETS[:2], "Q"), table([9, 9], "Q"), id="too short"),
        pytest.param(table([0] * 5, "Q"), table([1], "Q"), id="unequal"),
        pytest.param(bytes(13), bytes(13), id="no whole numbers"),
    ],
)
def test_extended_offset_tables(dicom_file: Factory, offsets: bytes, lengths: bytes) -> None:
    tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    path = dicom_file(
        FRAMES, FRAME_CODES, JPEGLSLossless, PixelData=items(b"", *FRAME_CODES), **tables
    )
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (RLELossless, None),
        (dc.DEFLATED_IMAGE_FRAME, lambda frame: deflated(frame.tobytes())),
        (dc.JPEG_XL_SYNTAXES[0], lambda frame: imagecodecs.jpegxl_encode(frame, lossless=True)),
        (
            JPEG2000Lossless,
            lambda frame: imagecodecs.jpeg2k_encode(frame, level=0, codecformat="jp2"),
        ),
        (JPEGLSLossless, imagecodecs.jpegls_encode),
    ],
    ids=["RLE", "deflated", "JPEG XL", "JP2", "JPEG-LS"],
)
@pytest.mark.parametrize("declared", [None, 1, 3])
def test_frames_that_the_header_does_not_count(
    dicom_file: Factory, syntax: str, encode: Callable[[Array], bytes] | None, declared: int | None
) -> None:
    if encode is None:
        ds = data_set(FRAMES)
        ds.compress(RLELossless)
        codes = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=5))
    else:
        codes = [bytes(encode(frame)) for frame in FRAMES]
    codes = [code + bytes(len(code) % 2) for code in codes]
    path = dicom_file(FRAMES, codes, syntax, PixelData=items(b"", *codes), NumberOfFrames=declared)
    with pytest.warns(UserWarning, match="hold") as caught:
        found = [stored for stored, _ in decoded(path)[2]]
    np.testing.assert_array_equal(found, FRAMES[: declared or 5])
    said = "Number of Frames is missing: the pixel data hold 5"
    rest = f"holds 5 frames, but declares {declared}: the rest was left out"
    assert (rest if declared else said) in {str(warning.message) for warning in caught}


@pytest.mark.parametrize("form", ["jp2", "jxl"])
def test_split_frames_of_boxes_and_jpeg_xl(dicom_file: Factory, form: str) -> None:
    if form == "jp2":
        codes = [bytes(imagecodecs.jpeg2k_encode(f, level=0, codecformat="jp2")) for f in FRAMES]
    else:
        codes = [bytes(imagecodecs.jpegxl_encode(frame, lossless=True)) for frame in FRAMES]
    halves = [half for code in codes for half in (code[:14], code[14:] + bytes(len(code) % 2))]
    syntax = JPEG2000Lossless if form == "jp2" else dc.JPEG_XL_SYNTAXES[0]
    path = dicom_file(FRAMES, codes, syntax, PixelData=items(b"", *halves))
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES)


def test_fewer_code_streams_than_declared(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(FRAMES, FRAME_CODES, JPEGLSLossless, PixelData=items(b"", *HALVES[:8]))
    reason = convert(path, tmp_path / "out").reason
    assert reason == "declares 5 frames but holds 4 code streams"


@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 8), (16, 10)])
def test_a_stream_that_is_deeper_than_its_header_says(
    dicom_file: Factory, tmp_path: Path, allocated: int, stored: int
) -> None:
    deep = (np.arange(64, dtype=np.uint16) * 65).reshape(8, 8)
    code = lossless_code(deep, predictor=1)
    header = {"BitsAllocated": allocated, "BitsStored": stored, "HighBit": stored - 1}
    path = dicom_file(deep, [code], JPEGLossless, **header)
    outcome = convert(path, tmp_path / "out")
    warning = f"the code stream holds 12 bits, the header says {stored}"
    assert (warning in outcome.warnings) == (stored == 8)
    picture = read_png(outcome.outputs[0])
    np.testing.assert_array_equal(picture, np.rint(deep / deep.max() * 65535))


def test_overlay_bits_above_a_deep_stream_stay_hidden(dicom_file: Factory, tmp_path: Path) -> None:
    marked = RAMP | 0xF000
    path = dicom_file(
        marked,
        [imagecodecs.jpeg8_encode(marked, lossless=True)],
        JPEGLossless,
        BitsStored=12,
        HighBit=11,
    )
    assert np.array_equal(still(path, tmp_path), DEEP)


@pytest.mark.parametrize("bits", [1, 8, 12])
def test_packed_words_of_big_endian_files(dicom_file: Factory, bits: int) -> None:
    pixels = (np.arange(60, dtype=np.uint16) * 997 % (1 << bits)).reshape(4, 3, 5)
    joined = sum(int(value) << bits * place for place, value in enumerate(pixels.ravel()))
    little = joined.to_bytes(math.ceil(60 * bits / 16) * 2, "little")
    header = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    swapped = np.frombuffer(little, "<u2").astype(">u2").tobytes()
    path = dicom_file(pixels, **header, PixelData=little)
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], pixels)
    path = dicom_file(pixels, (), ExplicitVRBigEndian, **header, PixelData=swapped)
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], pixels)


def test_items_with_a_length_under_a_native_syntax(dicom_file: Factory) -> None:
    path = dicom_file(RAMP, [CODE], JPEGLosslessSV1, BitsStored=12, HighBit=11)
    raw = with_syntax(path.read_bytes(), uid.ExplicitVRLittleEndian)
    at = raw.index(b"\xe0\x7f\x10\x00OB\0\0") + 8
    path.write_bytes(raw[:at] + struct.pack("<L", len(raw) - at - 4) + raw[at + 4 :])
    with pytest.warns(UserWarning, match="the pixels are JPEG, though declared"):
        np.testing.assert_array_equal(decoded(path)[2][0][0], RAMP)


def test_the_head_of_a_stream_may_be_in_fragments(dicom_file: Factory, tmp_path: Path) -> None:
    signed = (RAMP.astype(np.int32) - 2000).astype(np.int16)
    code = bytes(imagecodecs.jpeg2k_encode(signed, level=0))
    parts = [code[at : at + 20] for at in range(0, len(code), 20)]
    parts[-1] += bytes(len(parts[-1]) % 2)
    pixel_data = items(b"", *parts)
    path = dicom_file(signed, [code], JPEG2000Lossless, PixelData=pixel_data, PixelRepresentation=0)
    outcome = convert(path, tmp_path / "out")
    assert outcome.warnings[0].startswith("the code stream is signed")
    expected = (signed - signed.min()) / np.ptp(signed.astype(int)) * 65535
    assert np.abs(read_png(outcome.outputs[0]) - expected).max() < 1


def test_a_deflated_frame_inflates_no_further_than_it_may(dicom_file: Factory) -> None:
    bomb = deflated(bytes(50_000_000))
    path = dicom_file(RAMP, [bomb], dc.DEFLATED_IMAGE_FRAME)
    tracemalloc.start()
    try:
        assert not decoded(path)[2][0][0].any()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def deflated(raw: bytes) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    code = deflate.compress(raw) + deflate.flush()
    return code + bytes(len(code) % 2)


@pytest.mark.parametrize("damage", ["garbage", "bomb", "ratio"])
def test_deflated_data_sets_that_are_refused(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(dc, "SMALL_EXPANDED_BYTES", 1 << 20)
    path = dicom_file(RAMP, (), DeflatedExplicitVRLittleEndian)
    raw = path.read_bytes()
    if damage == "bomb":
        monkeypatch.setattr(dc, "MAX_INFLATED_BYTES", 100)
        reason = "the data set inflates to more than 100 bytes"
    elif damage == "ratio":
        path.write_bytes(raw[: 132 + 12 + int.from_bytes(raw[140:144], "little")])
        with path.open("ab") as file:
            length = file.write(deflated(bytes(5_000_000)))
        reason = f"the data set inflates to more than {max(500 * length, 1 << 20)} bytes"
    else:
        at = 132 + 12 + int.from_bytes(raw[140:144], "little")
        path.write_bytes(raw[:at] + b"\xff" * 50)
        reason = "the deflated data set is damaged"
    assert convert(path, tmp_path / "out").reason == reason


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        pytest.param(uid.JPEGLSLossless, imagecodecs.jpegls_encode, id="JPEG-LS"),
        pytest.param(uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode, id="JPEG 2000"),
        pytest.param(dc.JPEG_XL_SYNTAXES[0], imagecodecs.jpegxl_encode, id="JPEG XL"),
        pytest.param(dc.DEFLATED_IMAGE_FRAME, lambda f: deflated(f.tobytes()), id="deflated"),
    ],
)
def test_a_small_stream_of_a_huge_picture_is_refused(
    dicom_file: Factory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    syntax: str,
    encode: Callable[[Array], bytes],
) -> None:
    uniform = np.zeros((1024, 1024), np.uint8)
    code = bytes(encode(uniform))
    path = dicom_file(uniform, [code], syntax)
    assert convert(path, tmp_path).status == dc.Status.CONVERTED  # a small one may be uniform
    monkeypatch.setattr(dc, "SMALL_EXPANDED_BYTES", 1 << 16)
    reason = convert(path, tmp_path).reason
    assert re.fullmatch(r"declares 1024 x 1024 pixels but holds \d+ bytes: too few .*", reason)


def test_a_stream_of_more_samples_than_declared(dicom_file: Factory, tmp_path: Path) -> None:
    code = bytes(imagecodecs.jpeg2k_encode(np.zeros((6, 8, 3), np.uint8), level=0))
    reason = convert(dicom_file(RAMP, [code], uid.JPEG2000), tmp_path).reason
    assert reason == "the code stream holds 3 samples a pixel, the header says 1"


@pytest.mark.parametrize("syntax", [dc.ENCAPSULATED_UNCOMPRESSED, dc.DEFLATED_IMAGE_FRAME])
@pytest.mark.parametrize("label", ["YBR_FULL_422", "YBR_PARTIAL_422"])
def test_halved_chroma_of_encapsulated_frames(dicom_file: Factory, syntax: str, label: str) -> None:
    raw = bytes((100, 200, 120, 130)) * 24
    code = deflated(raw) if syntax == dc.DEFLATED_IMAGE_FRAME else raw
    color = np.zeros((2, 6, 8, 3), np.uint8)
    path = dicom_file(color, [code] * 2, syntax, PhotometricInterpretation=label)
    for stored, photometric in decoded(path)[2]:
        assert stored[0, :3].tolist() == [[100, 120, 130], [200, 120, 130], [100, 120, 130]]
        assert photometric == label


ITEM = b"\xfe\xff\x00\xe0"


@pytest.mark.parametrize(
    ("form", "bound"),
    [
        ("elements", 5_000),
        ("elements of an item", 5_000),
        ("items", dc.MAX_ELEMENTS),
        ("items without end", 5_000),
    ],
)
def test_a_header_of_too_many_elements_is_refused(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, bound: int
) -> None:
    monkeypatch.setattr(dc, "MAX_ELEMENTS", bound)
    many = (ITEM + bytes(4)) * 2 * bound
    if form.startswith("elements"):  # of groups 0041 on
        heads = np.zeros((2 * bound, 2), np.uint32)
        number = np.arange(2 * bound)
        heads[:, 0] = (number % 600 << 16) + 0x41 + number // 600
        heads[:, 1] = int.from_bytes(b"CS", "little")
        many = heads.astype("<u4").tobytes()
    length = len(many).to_bytes(4, "little")
    if form == "elements of an item":
        many, length = ITEM + length + many, (len(many) + 8).to_bytes(4, "little")
    if form == "items without end":
        length = b"\xff" * 4
    raw = dicom_file(RAMP).read_bytes()
    at = raw.index(b"\xe0\x7f\x10\x00")
    sequence = b"" if form == "elements" else b"\x40\0\x75\x02SQ\0\0" + length
    path = tmp_path / "many.dcm"
    path.write_bytes(raw[:at] + sequence + many)
    read = Mock(wraps=dc.elements_until)
    monkeypatch.setattr(dc, "elements_until", read)
    outcome = convert(path, tmp_path / "out")
    assert outcome.reason == f"its header holds more than {bound:,} elements and items"
    assert read.call_count == 1  # of the file meta: no object is made of the rest


def test_many_fragments_are_no_elements(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dc, "MAX_ELEMENTS", 60)
    path = dicom_file(np.stack([RAMP] * 99), [lossless_code(RAMP)] * 99, JPEGLosslessSV1)
    assert convert(path, tmp_path, gif=False, mp4=False).status == dc.Status.CONVERTED
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(b"\xfc\xff\xfc\xffOB\0\0\0\0\0\0" * 99)
    assert "elements" in convert(path, tmp_path).reason


def test_odd_columns_of_native_422(dicom_file: Factory, tmp_path: Path) -> None:
    color = np.zeros((4, 5, 3), np.uint8)
    header = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": bytes(48)}
    reason = convert(dicom_file(color, **header), tmp_path).reason
    assert reason == "YBR_FULL_422 without compression needs an even number of columns"


def test_it_does_not_fit_in_memory(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(dc, "look_of", full)
    assert convert(dicom_file(RAMP), tmp_path).reason == "it does not fit in memory"


@pytest.mark.parametrize("columns", [4600, 4608, 4800])
def test_no_width_is_taken_for_a_color_space(columns: int) -> None:
    sides = b"".join(side.to_bytes(4, "big") for side in (columns, 16, 0, 0, columns, 16, 0, 0))
    components = bytes((7, 1, 1)) * 3
    head = b"\xff\x4f\xff\x51\0\x2f\0\0" + sides + b"\0\3" + components + b"\xff\x90"
    assert dc.jpeg_2000_head(head, 0).color == ""


def test_signed_values_of_few_bits_in_an_unsigned_stream(
    dicom_file: Factory, tmp_path: Path
) -> None:
    values = np.arange(-32, 32, dtype=np.int16).reshape(8, 8) * 10
    words = (values & 0x3FF).astype(np.uint16)  # two's complement of 10 bits
    header = {"BitsStored": 10, "HighBit": 9, "PixelRepresentation": 1}
    path = dicom_file(words, [lossless_code(words, predictor=1)], JPEGLossless, **header)
    outcome = convert(path, tmp_path / "out")
    assert not outcome.warnings
    expected = (values - values.min()) / np.ptp(values) * 65535
    np.testing.assert_array_equal(read_png(outcome.outputs[0]), np.rint(expected))


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("table_is", ["empty", "right"])
def test_rle_frames_in_two_fragments(dicom_file: Factory, frames: int, table_is: str) -> None:
    ds = data_set(FRAMES[:frames])
    ds.compress(RLELossless)
    codes = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=frames))
    halves = [half for code in codes for half in (code[:30], code[30:])]
    offsets = [sum(len(code) + 16 for code in codes[:index]) for index in range(frames)]
    pixel_data = items(table(offsets) if table_is == "right" else b"", *halves)
    path = dicom_file(FRAMES[:frames], codes, RLELossless, PixelData=pixel_data)
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES[:frames])


def test_an_empty_fragment_before_the_frames(dicom_file: Factory) -> None:
    pixel_data = items(b"", b"", *FRAME_CODES)
    path = dicom_file(FRAMES, FRAME_CODES, JPEGLSLossless, PixelData=pixel_data)
    np.testing.assert_array_equal([stored for stored, _ in decoded(path)[2]], FRAMES)


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("LO", b"12", (12,)),
        ("LO", b"", ()),
        ("CS", b"\\", ()),
        ("US", b"\3\0\4\0", (3, 4)),
        ("FD", b"", ()),
    ],
)
def test_numbers_may_be_of_another_vr_or_empty(vr: str, raw: bytes, expected: Any) -> None:
    ds = Dataset()
    ds.update({Tag("Rows"): RawDataElement(Tag("Rows"), vr, len(raw), raw, 0, False, True)})
    assert dc.numbers(ds, "Rows") == expected
