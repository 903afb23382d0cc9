"""Color: YBR spaces, palettes, planes, and JPEG code streams whose labels lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from conftest import (
    CORPUS,
    PYDICOM_FILES,
    Array,
    Factory,
    assert_decoders_agree,
    convert,
    decoded,
    needs_corpus,
    psnr,
    read_png,
    rendered,
    still,
)
from PIL import Image, ImageCms
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1

import dicom_converter as dc

RGB = np.random.default_rng(5).integers(0, 256, (4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("partial", "ybr", "rgb"),
    [
        # C.7.6.3.1.2: R = Y + 1.402 (Cr-128), G = Y - 0.3441 (Cb-128) - 0.7141 (Cr-128) ...
        pytest.param(False, (0, 128, 128), (0, 0, 0), id="black"),
        pytest.param(False, (255, 128, 128), (255, 255, 255), id="white"),
        pytest.param(False, (76, 85, 255), (254, 0, 0), id="red"),
        pytest.param(False, (150, 44, 21), (0, 255, 1), id="green"),
        pytest.param(False, (29, 255, 107), (0, 0, 254), id="blue"),
        pytest.param(True, (16, 128, 128), (0, 0, 0), id="studio black"),
        pytest.param(True, (235, 128, 128), (255, 255, 255), id="studio white"),
        pytest.param(True, (81, 90, 240), (254, 0, 0), id="studio red"),
        pytest.param(True, (4, 128, 128), (0, 0, 0), id="below studio black"),
    ],
)
@pytest.mark.parametrize("scale", [1, 257], ids=["8 bit", "16 bit"])
def test_ybr_to_rgb(partial: bool, ybr: tuple[int, ...], rgb: tuple[int, ...], scale: int) -> None:
    stored = np.array([[ybr]], np.uint8 if scale == 1 else np.uint16)
    picture = dc.ybr_to_rgb(stored * scale, partial=partial).astype(int)
    assert np.abs(picture[0, 0] / scale - rgb).max() <= 2


def test_rgb_comes_out_as_it_is(dicom_file: Factory, tmp_path: Path) -> None:
    assert np.array_equal(still(dicom_file(RGB), tmp_path / "out"), RGB)


def test_planes(dicom_file: Factory, tmp_path: Path) -> None:
    planes = np.ascontiguousarray(np.moveaxis(RGB, -1, 0)).tobytes()
    path = dicom_file(RGB, PixelData=planes, PlanarConfiguration=1)
    assert np.array_equal(still(path, tmp_path / "out"), RGB)


def test_16_bit_color_keeps_its_depth_unless_told_otherwise(
    dicom_file: Factory, tmp_path: Path
) -> None:
    deep = (RGB.astype(np.uint16) << 4 | 7) & 0x0FFF
    path = dicom_file(deep, BitsStored=12, HighBit=11)
    assert np.array_equal(still(path, tmp_path / "a"), np.rint(deep / 4095 * 65535))
    assert np.array_equal(still(path, tmp_path / "b", png_bits=8), np.rint(deep / 4095 * 255))


@pytest.mark.parametrize("frames", [1, 3])
def test_native_ybr_full_422(dicom_file: Factory, tmp_path: Path, frames: int) -> None:
    luma = np.arange(frames * 2 * 4, dtype=np.uint8).reshape(frames, 2, 4) * 7
    stored = bytearray()
    for y1, y2 in luma.reshape(-1, 2):
        stored += bytes((y1, y2, 128, 128))
    elements: dict[str, Any] = {"PixelData": bytes(stored), "NumberOfFrames": frames}
    pixels = np.zeros((2, 4, 3), np.uint8)
    path = dicom_file(pixels, PhotometricInterpretation="YBR_FULL_422", **elements)
    if frames == 1:
        assert np.array_equal(still(path, tmp_path / "out"), np.repeat(luma[0][..., None], 3, 2))
        return
    assert np.array_equal([stored[..., 0] for stored, _ in decoded(path)[2]], luma)


INDICES = np.arange(6, dtype=np.uint8).reshape(2, 3)
ENTRIES = np.array([[10, 20, 30, 40], [50, 60, 70, 80], [90, 100, 110, 255]], np.uint16)


def palette_elements(
    entries: Array, first: int = 1, bits: int = 16, *, packed: bool = False
) -> dict[str, Any]:
    """Return the elements of a palette of *entries* (3, n)."""
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color, channel in zip(("Red", "Green", "Blue"), entries, strict=True):
        name = f"{color}PaletteColorLookupTable"
        elements[f"{name}Descriptor"] = DataElement(
            f"{name}Descriptor", "US", [entries.shape[1], first, bits]
        )
        elements[f"{name}Data"] = channel.astype(np.uint8 if packed else "<u2").tobytes()
    return elements


@pytest.mark.parametrize(
    ("elements", "levels"),
    [
        pytest.param(palette_elements(ENTRIES << 8), ENTRIES, id="8 bits in the high byte"),
        pytest.param(palette_elements(ENTRIES * 257), ENTRIES, id="8 bits in both bytes"),
        pytest.param(palette_elements(ENTRIES), ENTRIES, id="8 bits in 16 that say 16"),
        pytest.param(palette_elements(ENTRIES, bits=8, packed=True), ENTRIES, id="two to a word"),
        pytest.param(palette_elements(ENTRIES * 200), ENTRIES * 200, id="16 bits"),
        pytest.param(
            palette_elements(ENTRIES * 16 + 1, bits=12),
            np.rint((ENTRIES * 16 + 1) / 4095 * 65535),
            id="12 bits",
        ),
        pytest.param(palette_elements(ENTRIES * 200, bits=12), ENTRIES * 200, id="16 that say 12"),
    ],
)
def test_palette(
    dicom_file: Factory, tmp_path: Path, elements: dict[str, Any], levels: Array
) -> None:
    picture = still(dicom_file(INDICES, **elements), tmp_path / "out")
    clamped = np.clip(INDICES.astype(int) - 1, 0, 3)  # the ends hold beyond the table
    assert np.array_equal(picture, np.moveaxis(levels[:, clamped], 0, -1))


def test_each_palette_begins_at_its_own_value(dicom_file: Factory, tmp_path: Path) -> None:
    elements = palette_elements(ENTRIES)
    for name, first in (("Green", 0), ("Blue", 3)):
        tag = f"{name}PaletteColorLookupTableDescriptor"
        elements[tag] = DataElement(tag, "US", [4, first, 16])
    picture = still(dicom_file(INDICES, **elements), tmp_path / "out")
    for channel, first in enumerate((1, 0, 3)):
        clamped = np.clip(INDICES.astype(int) - first, 0, 3)
        assert np.array_equal(picture[..., channel], ENTRIES[channel][clamped])


def test_a_negative_first_value_of_signed_palettes(dicom_file: Factory, tmp_path: Path) -> None:
    elements = palette_elements(ENTRIES, first=0xFFFF)  # -1
    path = dicom_file(INDICES.astype(np.int8) - 1, PixelRepresentation=1, **elements)
    clamped = np.clip(INDICES.astype(int), 0, 3)
    assert np.array_equal(still(path, tmp_path), np.moveaxis(ENTRIES[:, clamped], 0, -1))


def test_a_palette_without_tables_is_refused(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(dicom_file(INDICES, PhotometricInterpretation="PALETTE COLOR"), tmp_path)
    assert outcome.status == dc.Status.FAILED
    assert "Red Palette Color Lookup Table" in outcome.reason


def smooth_color(rows: int = 64, columns: int = 96) -> Array:
    """Return a smooth RGB picture, which JPEG hardly changes."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x * 2, y * 3, 200 - x - y], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("photometric", "space"),
    [("YBR_FULL_422", "YCBCR"), ("YBR_FULL", "YCBCR"), ("RGB", "RGB")],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_jpeg_color_follows_the_label_where_the_stream_is_silent(
    dicom_file: Factory, photometric: str, space: str, frames: int
) -> None:
    picture = smooth_color()
    code = without_segments(
        bytes(imagecodecs.jpeg8_encode(picture, 95, colorspace="RGB", outcolorspace=space)),
        (0xE0, 0xEE),
    )
    path = dicom_file(
        np.stack([picture] * frames),
        [code] * frames,
        JPEGBaseline8Bit,
        PhotometricInterpretation=photometric,
    )
    pictures = rendered(path)
    assert len(pictures) == frames
    assert all(psnr(picture, shown) > 38 for shown in pictures)


def without_segments(code: bytes, markers: tuple[int, ...]) -> bytes:
    """Return a JPEG stream without the APP segments *markers*, which tell its color space."""
    at = 2
    while code[at] == 0xFF and code[at + 1] != 0xDA:
        length = 2 + int.from_bytes(code[at + 2 : at + 4], "big")
        if code[at + 1] in markers:
            code = code[:at] + code[at + length :]
        else:
            at += length
    return code


@pytest.mark.filterwarnings("ignore:The .0028,0004. 'Photometric Interpretation'")
def test_a_jfif_stream_labelled_rgb_is_converted(dicom_file: Factory, tmp_path: Path) -> None:
    picture = smooth_color()
    code = bytes(imagecodecs.jpeg8_encode(picture, 95))
    assert b"JFIF" in code[:32]
    path = dicom_file(picture, [code], JPEGBaseline8Bit)
    assert psnr(picture, still(path, tmp_path / "out")) > 38


def test_lossless_jpeg_color_is_exact(dicom_file: Factory, tmp_path: Path) -> None:
    code = bytes(imagecodecs.jpeg8_encode(RGB, lossless=True, predictor=1, bitspersample=8))
    path = dicom_file(RGB, [code], JPEGLosslessSV1)
    assert np.array_equal(still(path, tmp_path / "out"), RGB)


@pytest.mark.parametrize(
    "path", sorted(PYDICOM_FILES.glob("SC_*jpeg*.dcm")), ids=lambda path: str(path.stem)
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_fast_decoder_gives_what_pylibjpeg_gives(path: Path) -> None:
    assert_decoders_agree(path, lossy_difference=2)


def segment_words(*values: int) -> Array:
    return np.array(values, np.uint16)


@pytest.mark.parametrize(
    ("data", "entries", "expanded"),
    [
        pytest.param(segment_words(0, 3, 7, 8, 9), 3, [7, 8, 9], id="discrete"),
        pytest.param(
            segment_words(0, 1, 0, 1, 5, 50),
            6,
            [0, 10, 20, 30, 40, 50],
            id="linear, exclusive start",
        ),
        pytest.param(segment_words(0, 1, 9, 1, 2, 9), 3, [9, 9, 9], id="linear, level"),
        pytest.param(segment_words(0, 1, 9, 1, 3, 0), 4, [9, 6, 3, 0], id="linear, falling"),
        pytest.param(
            # two segments again, from the byte offset 6 (the fourth word)
            segment_words(0, 1, 0, 1, 2, 20, 0, 1, 5, 2, 2, 6, 0),
            7,
            [0, 10, 20, 5, 12, 20, 5],
            id="indirect, by byte offset",
        ),
        pytest.param(segment_words(0, 4, 1, 2, 3, 4), 2, [1, 2], id="no more than declared"),
        pytest.param(
            np.array([0, 1, 0, 1, 2, 20, 2, 1, 3, 0, 0, 0], np.uint8),
            5,
            [0, 10, 20, 20, 20],
            id="8 bits: offset in 4 bytes, least significant first",
        ),
    ],
)
def test_segmented_palette(data: Array, entries: int, expanded: list[int]) -> None:
    assert dc.expanded_segments(data, entries).tolist() == expanded


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(segment_words(1, 2, 3), id="linear first"),
        pytest.param(segment_words(2, 1, 0, 0), id="indirect first"),
        pytest.param(segment_words(0, 1, 5, 2, 1, 6, 0), id="indirect to itself"),
        pytest.param(segment_words(0, 1, 5, 3, 1, 6), id="unknown opcode"),
        pytest.param(segment_words(), id="empty"),
    ],
)
def test_a_broken_segmented_palette_is_refused(data: Array) -> None:
    with pytest.raises(dc.ConversionError, match="segmented palette"):
        dc.expanded_segments(data, 100)


@pytest.mark.parametrize("name", ["spring", "summer", "fall", "winter"])
def test_segmented_palettes_of_the_standard(name: str) -> None:
    ds = pydicom.dcmread(PYDICOM_FILES.parent / "palettes" / f"{name}.dcm")
    channels = [dc.palette_channel(ds, color)[0] for color in ("Red", "Green", "Blue")]
    expected = apply_color_lut(np.arange(256, dtype=np.uint8), ds)
    assert np.array_equal(np.stack(channels, axis=-1), expected)


def test_a_segmented_palette_is_shown(dicom_file: Factory, tmp_path: Path) -> None:
    elements = palette_elements(ENTRIES, first=0)
    for color in ("Red", "Green", "Blue"):
        del elements[f"{color}PaletteColorLookupTableData"]
        segments = segment_words(0, 1, 0, 1, 3, 30).astype("<u2").tobytes()
        elements[f"Segmented{color}PaletteColorLookupTableData"] = segments
    picture = still(dicom_file(INDICES, **elements), tmp_path)
    assert picture[..., 0].ravel().tolist() == [0, 10, 20, 30, 30, 30]


def test_supplemental_palette(dicom_file: Factory, tmp_path: Path) -> None:
    elements = palette_elements(ENTRIES, first=3) | {"PhotometricInterpretation": "MONOCHROME2"}
    window = {"WindowCenter": 2, "WindowWidth": 4, "PixelPresentation": "MIXED"}
    picture = still(dicom_file(INDICES, **elements, **window), tmp_path, png_bits=8)
    assert picture.reshape(-1, 3).tolist() == [
        [0, 0, 0],
        [85, 85, 85],
        [170, 170, 170],
        [10, 50, 90],
        [20, 60, 100],
        [30, 70, 110],
    ]
    plain = still(dicom_file(INDICES, **elements), tmp_path / "plain")
    assert plain.ndim == 2


@pytest.mark.parametrize(
    ("window", "grays"),
    [({}, [0, 128, 255]), ({"WindowCenter": -9, "WindowWidth": 2}, [255, 255, 255])],
    ids=["min-max", "stored, one white among colors"],
)
def test_colors_of_a_supplemental_palette_do_not_count_as_gray(
    dicom_file: Factory, tmp_path: Path, window: dict[str, int], grays: list[int]
) -> None:
    elements = palette_elements(ENTRIES, first=3) | {"PhotometricInterpretation": "MONOCHROME2"}
    path = dicom_file(INDICES, **elements, **window, PixelPresentation="MIXED")
    picture = still(path, tmp_path, png_bits=8).reshape(-1, 3)
    assert picture[:4, 0].tolist() == [*grays, 10]


def adobe(transform: int) -> bytes:
    """Return Adobe's APP14 segment."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


@pytest.mark.parametrize(
    ("label", "space", "subsampling", "segment"),
    [
        pytest.param("RGB", "YCBCR", "420", b"", id="labelled RGB, halved chroma"),
        pytest.param("RGB", "YCBCR", "444", adobe(1), id="labelled RGB, Adobe says YCbCr"),
        pytest.param("YBR_FULL", "RGB", "444", adobe(0), id="labelled YBR, Adobe says RGB"),
    ],
)
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.filterwarnings("ignore:the code stream decodes to")
@pytest.mark.filterwarnings("ignore:The .0028,0004. 'Photometric Interpretation'")
def test_jpeg_labels_that_lie(
    dicom_file: Factory, label: str, space: str, subsampling: str, segment: bytes, frames: int
) -> None:
    picture = smooth_color()
    code = bytes(
        imagecodecs.jpeg8_encode(
            picture, 95, colorspace="RGB", outcolorspace=space, subsampling=subsampling
        )
    )
    silent = without_segments(code, (0xE0, 0xEE))
    codes = [silent[:2] + segment + silent[2:]] * frames
    path = dicom_file(
        np.stack([picture] * frames), codes, JPEGBaseline8Bit, PhotometricInterpretation=label
    )
    assert all(psnr(picture, shown) > 36 for shown in rendered(path))


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_422", "YBR_FULL_422"])
def test_native_422_with_color(dicom_file: Factory, tmp_path: Path, photometric: str) -> None:
    # two pixels of studio or full-range red, Y1 Y2 Cb Cr
    stored = bytes((81, 81, 90, 240) if "PARTIAL" in photometric else (76, 76, 85, 255))
    path = dicom_file(
        np.zeros((1, 2, 3), np.uint8), PhotometricInterpretation=photometric, PixelData=stored
    )
    picture = still(path, tmp_path)
    assert np.abs(picture.astype(int) - (255, 0, 0)).max() <= 2


def icc_profile(*, swapped: bool) -> bytes:
    """Return an sRGB profile, or one in which red and green change places."""
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if swapped:
        raw = raw.replace(b"rXYZ", b"tmp!", 1).replace(b"gXYZ", b"rXYZ", 1)
        raw = raw.replace(b"tmp!", b"gXYZ", 1).replace(b"s\0R\0G\0B", b"o\0d\0d\0 ")
    return bytes(raw)


def test_icc_profile_goes_into_the_png(dicom_file: Factory, tmp_path: Path) -> None:
    profile = icc_profile(swapped=True)
    outcome = convert(dicom_file(RGB, ICCProfile=profile), tmp_path)
    assert np.array_equal(read_png(outcome.outputs[0]), RGB)
    with Image.open(outcome.outputs[0]) as image:
        assert image.info["icc_profile"] == profile


def test_clips_are_converted_to_srgb(dicom_file: Factory, tmp_path: Path) -> None:
    scene = np.full((3, 16, 16, 3), (200, 30, 30), np.uint8)
    for swapped, shown in ((True, (30, 200, 30)), (False, (200, 30, 30))):
        path = dicom_file(scene, ICCProfile=icc_profile(swapped=swapped))
        gif = convert(path, tmp_path / str(swapped), mp4=False).outputs[0]
        with Image.open(gif) as image:
            found = np.asarray(image.convert("RGB"))[8, 8].astype(int)
        assert np.abs(found - shown).max() <= 3


@pytest.mark.parametrize("profile", [b"", b"no profile", icc_profile(swapped=False)[:200]])
def test_a_broken_icc_profile_is_left_out(
    dicom_file: Factory, tmp_path: Path, profile: bytes
) -> None:
    path = dicom_file(RGB, ICCProfile=profile)
    assert b"iCCP" not in convert(path, tmp_path).outputs[0].read_bytes()


@pytest.mark.parametrize("label", ["RGB", "YBR_RCT", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.filterwarnings("ignore:the code stream decodes to RGB")
def test_jpeg_2000_with_its_own_transform_is_not_converted_again(
    dicom_file: Factory, tmp_path: Path, label: str
) -> None:
    code = bytes(
        imagecodecs.jpeg2k_encode(RGB, codecformat="j2k", reversible=True, level=0, mct=True)
    )
    path = dicom_file(RGB, [code], JPEG2000Lossless, PhotometricInterpretation=label)
    assert np.array_equal(still(path, tmp_path), RGB)


def test_jpeg_2000_without_transform_follows_its_label(dicom_file: Factory, tmp_path: Path) -> None:
    ybr = np.array([[[76, 85, 255], [255, 128, 128]]], np.uint8).repeat(2, axis=0)
    code = bytes(
        imagecodecs.jpeg2k_encode(ybr, codecformat="j2k", reversible=True, level=0, mct=False)
    )
    path = dicom_file(ybr, [code], JPEG2000Lossless, PhotometricInterpretation="YBR_FULL")
    assert np.abs(still(path, tmp_path)[0].astype(int) - [(254, 0, 0), (255, 255, 255)]).max() <= 2


@pytest.mark.filterwarnings("ignore:the Red palette holds")
def test_a_palette_of_fewer_words_than_declared(dicom_file: Factory, tmp_path: Path) -> None:
    entries = np.arange(200, dtype=np.uint16)[None].repeat(3, axis=0) * 300
    elements = palette_elements(entries)
    for color in ("Red", "Green", "Blue"):
        name = f"{color}PaletteColorLookupTableDescriptor"
        elements[name] = DataElement(name, "US", [256, 0, 16])
    picture = still(dicom_file(INDICES, **elements), tmp_path)
    assert picture[..., 0].ravel().tolist() == [0, 300, 600, 900, 1200, 1500]


def test_a_segmented_palette_that_expands_to_nothing_ends() -> None:
    empty = [0, 0] * 2000
    replays = [2, 2000, 0, 0] * 2000
    data = segment_words(0, 1, 5, *empty, *replays)
    with pytest.raises(dc.ConversionError, match="segmented palette"):
        dc.expanded_segments(data, 65536)


def test_color_of_8_bits_under_a_header_of_16(dicom_file: Factory, tmp_path: Path) -> None:
    picture = smooth_color()
    code = bytes(imagecodecs.jpeg8_encode(picture, 95))
    path = dicom_file(
        picture.astype(np.uint16), [code], JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL"
    )
    assert psnr(picture, still(path, tmp_path, png_bits=8)) > 36


@pytest.mark.parametrize("photometric", ["YBR_FULL", "RGB"])
def test_a_container_that_says_sycc_is_converted_once(
    dicom_file: Factory, tmp_path: Path, photometric: str
) -> None:
    rgb = np.full((16, 16, 3), (201, 62, 33), np.uint8)
    ycc = np.array(Image.fromarray(rgb).convert("YCbCr"))
    code = bytearray(imagecodecs.jpeg2k_encode(ycc, level=0, codecformat="jp2", mct=False))
    at = code.index(b"colr") + 7
    code[at : at + 4] = (18).to_bytes(4, "big")
    code += bytes(len(code) % 2)
    path = dicom_file(rgb, [bytes(code)], JPEG2000, PhotometricInterpretation=photometric)
    assert np.abs(still(path, tmp_path / "out").astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(
    ("steps", "color"), [((1, 1, 1), ""), ((1, 2, 2), "RGB")], ids=["alike", "halved"]
)
def test_subsampled_components_of_jpeg_2000(steps: tuple[int, ...], color: str) -> None:
    size = (16).to_bytes(4, "big") * 2 + bytes(24)
    components = b"".join(bytes((7, step, step)) for step in steps)
    head = b"\xff\x4f\xff\x51\0\x2f\0\0" + size + b"\0\3" + components + b"\xff\x90"
    assert dc.jpeg_2000_head(head, 0) == dc.CodeStream("JPEG 2000", 16, 16, color, 8, samples=3)


# --- Segmentations (PS3.3 C.8.20.2) ---------------------------------------------------------------


BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
XYZ_OF_SRGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
)


def lab_in_srgb(lab: list[int]) -> Array:
    """Return a stored CIELab color in sRGB, by the textbook: D50, Bradford, D65, IEC 61966-2-1.

    The transform of LittleCMS, in 8 bits, is up to 13 levels off in dark channels.
    """
    lightness, a, b = lab[0] * 100 / 65535, lab[1] / 257 - 128, lab[2] / 257 - 128
    f = (lightness + 16) / 116 + np.array([a / 500, 0, -b / 200])
    d50, d65 = np.array([0.96422, 1, 0.82521]), np.array([0.95047, 1, 1.08883])
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * d50
    adapted = np.linalg.solve(BRADFORD, (BRADFORD @ d65) / (BRADFORD @ d50) * (BRADFORD @ xyz))
    linear = np.clip(np.linalg.solve(XYZ_OF_SRGB, adapted), 0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def segment(number: int, lab: list[int] | None = None, label: str = "") -> Dataset:
    ds = Dataset()
    ds.SegmentNumber, ds.SegmentLabel = number, label
    if lab:
        ds.RecommendedDisplayCIELabValue = lab
    return ds


def of_segment(number: int) -> Dataset:
    ds, group = Dataset(), Dataset()
    group.ReferencedSegmentNumber = number
    ds.SegmentIdentificationSequence = [group]
    return ds


def stills_of(outcome: dc.Outcome) -> list[Array]:
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    return [read_png(path) for path in outcome.outputs if path.suffix == ".png"]


RED, GREEN = [35000, 50000, 48000], [43803, 26565, 37722]
SEGMENTATION = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "SegmentationType": "BINARY"}


@needs_corpus
@pytest.mark.parametrize(
    "name",
    [
        "robyoung+dicom-test-files/data/dcmqi/segmentations/partial_overlaps.dcm",
        "robyoung+dicom-test-files/data/dcmqi/segmentations/23x38x3/seg/label.seg",
        "robyoung+dicom-test-files/data/dcmqi/sr-example/seg.dcm",
        "pypi_pydicom-data/data_store/data/liver.dcm",
        "pydicom+pydicom-data/data_store/data/liver_nonbyte_aligned.dcm",
        "pydicom+pydicom/src/pydicom/data/test_files/liver_expb_1frame.dcm",
        "QIICR+dcmqi/data/segmentations/sparse-labelmap-noppv.dcm",
        "QIICR+dcmqi/data/segmentations/sparse-labelmap-ppv5.dcm",
    ],
)
def test_segments_of_the_corpus_have_their_colors_over_black(name: str, tmp_path: Path) -> None:
    ds = pydicom.dcmread(CORPUS / name)
    stored = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    colors = {one.SegmentNumber: one.RecommendedDisplayCIELabValue for one in ds.SegmentSequence}
    outcome = convert(CORPUS / name, tmp_path, frames="all", native_pixels=True)
    stills = stills_of(outcome)
    assert len(stills) == len(stored)
    found = 0
    for index, picture in enumerate(stills):
        assert picture.dtype == np.uint8
        identified = ds.PerFrameFunctionalGroupsSequence[index].get("SegmentIdentificationSequence")
        for number, lab in colors.items():
            if identified:
                of = stored[index] > 0 if identified[0].ReferencedSegmentNumber == number else None
            else:
                of = stored[index] == number
            if of is not None and of.any() and number:
                found += 1
                assert np.abs(picture[of] - lab_in_srgb(list(lab))).max() <= 2
        assert not picture[stored[index] == ds.get("PixelPaddingValue", 0)].any()
        assert not picture[stored[index] == 0].any()
    assert found
    told = [
        (one.SegmentLabel, lab_in_srgb(list(one.RecommendedDisplayCIELabValue)))
        for one in ds.SegmentSequence
        if one.SegmentNumber
    ]
    said = re.findall(r"(.*?) \(#(\w{6})\)(?:, )?", dict(outcome.facts)["Segments"])
    assert [name for name, _ in said] == [name for name, _ in told]
    for (_, color), (_, levels) in zip(said, told, strict=True):
        assert np.abs(np.array([*bytes.fromhex(color)], float) - levels).max() <= 2


def test_each_frame_has_the_color_of_its_segment(dicom_file: Factory, tmp_path: Path) -> None:
    frames = np.zeros((4, 2, 2), np.uint8)
    frames[:, 0, 1] = 1
    segments = [segment(1, RED), segment(2), segment(3, GREEN)]
    groups = [of_segment(number) for number in (3, 1, 2, 9)]
    path = dicom_file(
        frames, SegmentSequence=segments, PerFrameFunctionalGroupsSequence=groups, **SEGMENTATION
    )
    white = np.array([255, 255, 255])
    expected = [lab_in_srgb(GREEN), lab_in_srgb(RED), white, white]
    outcome = convert(path, tmp_path, frames="all")
    for picture, color in zip(stills_of(outcome), expected, strict=True):
        assert np.abs(picture[0, 1] - color).max() <= 2
        assert not picture[picture != picture[0, 1]].any()
    assert outcome.warnings == ()


@pytest.mark.parametrize("shared", [True, False])
def test_the_segment_of_all_frames_may_be_shared_or_the_only_one(
    shared: bool, dicom_file: Factory, tmp_path: Path
) -> None:
    known: dict[str, Any] = {"SegmentSequence": [segment(1, RED)]}
    if shared:
        known["SegmentSequence"] += [segment(2, GREEN)]
        known["SharedFunctionalGroupsSequence"] = [of_segment(2)]
    path = dicom_file(np.ones((2, 2, 2), np.uint8), **known, **SEGMENTATION)
    for picture in stills_of(convert(path, tmp_path, frames="all")):
        assert np.abs(picture - lab_in_srgb(GREEN if shared else RED)).max() <= 2


def test_the_implied_order_of_tiles_tells_segments(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(
        np.ones((4, 2, 2), np.uint8),
        SegmentSequence=[segment(1, RED), segment(2, GREEN)],
        DimensionOrganizationType="TILED_FULL",
        TotalPixelMatrixRows=2,
        TotalPixelMatrixColumns=4,
        **SEGMENTATION,
    )
    red, green = stills_of(convert(path, tmp_path))
    assert red.shape == green.shape == (2, 4, 3)
    assert np.abs(red - lab_in_srgb(RED)).max() <= 2
    assert np.abs(green - lab_in_srgb(GREEN)).max() <= 2


@pytest.mark.parametrize("color", [RED, None])
@pytest.mark.parametrize("most", [255, 100, None, 0])
def test_fractions_scale_the_color(
    most: Any, color: list[int] | None, dicom_file: Factory, tmp_path: Path
) -> None:
    stored = np.array([[0, 25, 50, 100, 255]], np.uint8)
    known: dict[str, Any] = SEGMENTATION | {"SegmentationType": "FRACTIONAL"}
    known["SegmentSequence"] = [segment(1, color)]
    if most is not None:
        known["MaximumFractionalValue"] = most
    path, share = dicom_file(stored, **known), np.minimum(stored / (most or 255), 1)
    outcome = convert(path, tmp_path, png_bits=8)
    (picture,) = stills_of(outcome)
    if color:
        assert np.abs(picture - share[..., np.newaxis] * lab_in_srgb(RED)).max() <= 2.5
        return
    assert np.abs(picture - 255 * share).max() <= 0.5
    window = f'width {most or 255}, LINEAR_EXACT "Maximum Fractional Value" (as stored)'
    assert window in dict(outcome.facts)["Window"]
    (picture,) = stills_of(convert(path, tmp_path, png_bits=8, window="full"))
    assert np.array_equal(picture, stored)
    known |= {"WindowCenter": "50", "WindowWidth": "2"}
    outcome = convert(dicom_file(stored, **known), tmp_path)
    assert "width 2, LINEAR (as stored)" in dict(outcome.facts)["Window"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_of_a_label_map_are_segments(
    dtype: Any, dicom_file: Factory, tmp_path: Path
) -> None:
    stored = np.array([[0, 1, 2, 3, 7, 200]], dtype)
    known = SEGMENTATION | {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7",
        "SegmentationType": "LABELMAP",
        "PixelPaddingValue": 7,
        "SegmentSequence": [segment(0, RED), segment(1, RED), segment(2), segment(3, GREEN)],
    }
    picture = still(dicom_file(stored, **known), tmp_path)
    red, green, white = lab_in_srgb(RED), lab_in_srgb(GREEN), [255] * 3
    expected = np.array([[[0] * 3, red, white, green, [0] * 3, white]])
    assert np.abs(picture - expected).max() <= 2
    known["SegmentSequence"] = [segment(number) for number in range(4)]
    assert still(dicom_file(stored, **known), tmp_path).ndim == 2  # as without segments


def test_a_label_map_may_have_more_than_256_segments(dicom_file: Factory, tmp_path: Path) -> None:
    known: dict[str, Any] = SEGMENTATION | {"SegmentationType": "LABELMAP"}
    known["SegmentSequence"] = [segment(255, RED), segment(300, GREEN)]
    picture = still(dicom_file(np.array([[0, 255, 300]], np.uint16), **known), tmp_path)
    assert np.abs(picture - [[0] * 3, lab_in_srgb(RED), lab_in_srgb(GREEN)]).max() <= 2


@pytest.mark.parametrize("lightness", [0, 1, 4, 7, 9, 12])  # 8: where the cube root begins
def test_dark_colors(lightness: float) -> None:
    for a, b in (0, 0), (12, 5), (-12, 10), (5, -15):
        lab = [round(lightness * 655.35), round((a + 128) * 257), round((b + 128) * 257)]
        levels = 255 * np.array(dc.srgb_of_lab(lab))
        assert np.abs(levels - lab_in_srgb(lab)).max() <= 0.3


def test_a_segmentation_in_color_and_one_in_gray_make_no_clip() -> None:
    image = dc.ImagePixel(2, 2, 1, 1, "MONOCHROME2", 8, 8, 7, 0, 0, (2, 2))
    plain, gray, colored = Dataset(), Dataset(), Dataset()
    gray.SegmentSequence, colored.SegmentSequence = [segment(1)], [segment(1), segment(2, RED)]
    assert dc.stack_of(gray, image) == dc.stack_of(plain, image)
    assert dc.stack_of(colored, image) == dc.stack_of(plain, image).replace("gray", "color")


@pytest.mark.parametrize(
    "known",
    [
        {"SegmentSequence": [segment(1, [1, 2])]},
        {"SegmentSequence": [Dataset()]},
        {"SegmentSequence": [segment(1, RED)], "MaximumFractionalValue": 65535},
        {"SegmentSequence": [segment(1, RED)] * 3, "PixelRepresentation": 1},
        {"SegmentSequence": [segment(65535, RED)], "SegmentationType": "LABELMAP"},
    ],
)
def test_odd_segments_cost_no_picture(
    known: dict[str, Any], dicom_file: Factory, tmp_path: Path
) -> None:
    known = SEGMENTATION | {"SegmentationType": "FRACTIONAL"} | known
    assert still(dicom_file(np.eye(4, dtype=np.uint8), **known), tmp_path).shape[:2] == (4, 4)


def test_segments_that_are_not_described_share_one_palette() -> None:
    """As many as a file may name, each of them in a frame of its own."""
    ds = Dataset()
    ds.SegmentationType, ds.MaximumFractionalValue = "FRACTIONAL", 65535
    ds.SegmentSequence = [segment(1, RED)]
    ds.PerFrameFunctionalGroupsSequence = [of_segment(number) for number in range(1, 301)]
    image = dc.ImagePixel(1, 1, 300, 1, "MONOCHROME2", 8, 8, 7, 0, 0, (1, 1))
    palettes = dc.segment_palettes(ds, image)
    assert len(palettes) == 300
    assert len({id(palette) for palette in palettes}) == 2
    assert palettes[0] != palettes[1] == palettes[299]
