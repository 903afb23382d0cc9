"""The grayscale pipeline: rows of numbers from the formulas of PS3.3 C.11."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Array, Factory, convert, data_set, still
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

import dicom_converter as dc

LINEAR, EXACT, SIGMOID = dc.VoiFunction.LINEAR, dc.VoiFunction.LINEAR_EXACT, dc.VoiFunction.SIGMOID


@pytest.mark.parametrize(
    ("word", "bits_stored", "high_bit", "signed", "value"),
    [
        pytest.param(0x0FFF, 12, 11, False, 4095, id="all stored bits"),
        pytest.param(0xF123, 12, 11, False, 0x123, id="bits above High Bit are masked"),
        pytest.param(0x1230, 12, 15, False, 0x123, id="High Bit 15 shifts down"),
        pytest.param(0x0FFF, 12, 11, True, -1, id="sign extended from Bits Stored"),
        pytest.param(0x0800, 12, 11, True, -2048, id="least signed"),
        pytest.param(0x07FF, 12, 11, True, 2047, id="greatest signed"),
        pytest.param(0xFFFF, 16, 15, True, -1, id="16 bits signed"),
        pytest.param(0x0001, 1, 0, False, 1, id="one bit"),
    ],
)
def test_stored_values(
    word: int, bits_stored: int, high_bit: int, signed: bool, value: int
) -> None:
    samples = dc.SampleFormat(bits_stored, high_bit, signed)
    assert dc.stored_values(np.array([word], np.uint16), samples) == [value]
    assert dc.stored_values(np.array([word], np.uint16).view(np.int16), samples) == [value]


@pytest.mark.parametrize(
    ("function", "center", "width", "value", "level"),
    [
        # C.11.2.1.2.1: x <= c - 0.5 - (w-1)/2 -> 0, x > c - 0.5 + (w-1)/2 -> 1, a line between.
        pytest.param(LINEAR, 2048, 4096, 0, 0, id="identity, least"),
        pytest.param(LINEAR, 2048, 4096, 4095, 1, id="identity, greatest"),
        pytest.param(LINEAR, 2048, 4096, 1365, 1 / 3, id="identity, a third"),
        pytest.param(LINEAR, 0, 100, -50, 0, id="note 4, bottom"),
        pytest.param(LINEAR, 0, 100, -0.5, 0.5, id="note 4, half a unit off center"),
        pytest.param(LINEAR, 0, 100, 49, 1, id="note 4, top"),
        pytest.param(LINEAR, 0, 100, -1000, 0, id="below"),
        pytest.param(LINEAR, 0, 100, 1000, 1, id="above"),
        pytest.param(LINEAR, 0, 1, -1, 0, id="width 1 is a threshold: below"),
        pytest.param(LINEAR, 0, 1, -0.5, 0, id="width 1 is a threshold: at"),
        pytest.param(LINEAR, 0, 1, 0, 1, id="width 1 is a threshold: above"),
        # C.11.2.1.3.2: no half units.
        pytest.param(EXACT, 0, 100, -50, 0, id="exact, bottom"),
        pytest.param(EXACT, 0, 100, 0, 0.5, id="exact, center"),
        pytest.param(EXACT, 0, 100, 25, 0.75, id="exact, three quarters"),
        pytest.param(EXACT, 0, 100, 50, 1, id="exact, top"),
        pytest.param(EXACT, 0.25, 0.5, 0.125, 0.25, id="exact, width below 1"),
        # C.11.2.1.3.1
        pytest.param(SIGMOID, 100, 40, 100, 0.5, id="sigmoid, center"),
        pytest.param(SIGMOID, 100, 40, 110, 1 / (1 + np.exp(-1)), id="sigmoid, above"),
        pytest.param(SIGMOID, 100, 40, 80, 1 / (1 + np.exp(2)), id="sigmoid, below"),
        pytest.param(SIGMOID, 0, 1, -1e6, 0, id="sigmoid, far below does not overflow"),
        pytest.param(EXACT, 0, 1e-304, 1e6, 1, id="exact, by a tiny width it does not either"),
    ],
)
def test_window(
    function: dc.VoiFunction, center: float, width: float, value: float, level: float
) -> None:
    window = dc.Window(center, width, function)
    assert dc.voi_values(np.array([float(value)]), window)[0] == pytest.approx(level)


def table(entries: list[int], first: int = 0, bits: int = 16) -> dc.LookupTable:
    return dc.LookupTable(first, bits, np.array(entries, "<u2").tobytes())


@pytest.mark.parametrize(
    ("value", "entry"),
    [(9, 100), (10, 100), (11, 200), (12, 300), (13, 300), (-40, 100), (10.6, 200)],
)
def test_lookup_table_holds_beyond_its_ends(value: float, entry: int) -> None:
    assert dc.looked_up(np.array([value]), table([100, 200, 300], first=10)) == [entry]


def test_voi_lut_is_scaled_by_its_own_depth() -> None:
    levels = dc.voi_values(np.array([0.0, 1.0]), table([0, 2048], bits=12))
    assert levels == pytest.approx([0, 2048 / 4095])


def lut_item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def voi_luts(**elements: Any) -> Dataset:
    group = Dataset()
    group.VOILUTSequence = [lut_item(**elements)]
    return group


@pytest.mark.parametrize(
    ("descriptor", "data", "signed", "first", "bits", "entries"),
    [
        pytest.param([3, 5, 16], [1, 2, 65535], False, 5, 16, [1, 2, 65535], id="plain"),
        pytest.param([2, 65526, 16], [7, 65535], True, -10, 16, [7, 65535], id="negative first"),
        pytest.param([4, 0, 8], [0x0201, 0x0403], False, 0, 8, [1, 2, 3, 4], id="two to a word"),
        pytest.param([3, 0, 8], [0x0201, 0x0003], False, 0, 8, [1, 2, 3], id="odd, two to a word"),
        pytest.param([2, 0, 8], [10, 4000], False, 0, 12, [10, 4000], id="depth that lies"),
        pytest.param([2, 0, 0], [10, 255], False, 0, 8, [10, 255], id="depth 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:the VOI LUT says")
def test_lookup_table_is_read(
    descriptor: list[int], data: list[int], signed: bool, first: int, bits: int, entries: list[int]
) -> None:
    group = voi_luts(LUTDescriptor=descriptor, LUTData=np.array(data, "<u2").tobytes())
    (found,) = dc.lookup_tables(group, "VOI LUT", signed)
    assert (found.first_value, found.bits) == (first, bits)
    assert np.frombuffer(found.entries, "<u2").tolist() == entries


def test_lookup_table_of_0_entries_has_65536() -> None:
    group = voi_luts(LUTDescriptor=[0, 0, 16], LUTData=np.arange(65536, dtype="<u2").tobytes())
    (found,) = dc.lookup_tables(group, "VOI LUT", False)
    assert len(found.entries) == 2 * 65536


def picture_of(dicom_file: Factory, tmp_path: Path, pixels: Array, **elements: Any) -> Array:
    return still(dicom_file(pixels, **elements), tmp_path / "out")


RAMP = np.arange(8, dtype=np.uint16).reshape(2, 4)


def test_no_window_spreads_the_picture_over_all_levels(dicom_file: Factory, tmp_path: Path) -> None:
    picture = picture_of(dicom_file, tmp_path, RAMP + 100)
    assert picture.dtype == np.uint16
    assert picture.tolist() == np.rint(RAMP / 7 * 65535).tolist()


def test_monochrome1_is_inverted_once(dicom_file: Factory, tmp_path: Path) -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    picture = picture_of(dicom_file, tmp_path, RAMP, **elements)
    assert picture.tolist() == np.rint((7 - RAMP) / 7 * 65535).tolist()


def test_first_window_acts_on_rescaled_values(dicom_file: Factory, tmp_path: Path) -> None:
    elements = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    windows = {"WindowCenter": [-993, 40], "WindowWidth": [15, 400]}
    picture = picture_of(dicom_file, tmp_path, RAMP, **elements, **windows)
    expected = np.clip((RAMP * 2.0 - 1000 + 993.5) / 14 + 0.5, 0, 1)
    assert picture.tolist() == np.rint(expected * 65535).tolist()


def test_voi_lut_is_preferred_to_a_window(dicom_file: Factory, tmp_path: Path) -> None:
    entries = np.array([0, 10, 20, 30, 40, 50, 60, 255], "<u2")
    item = lut_item(LUTDescriptor=[8, 0, 8], LUTData=entries.tobytes())
    picture = picture_of(
        dicom_file, tmp_path, RAMP, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2
    )
    assert picture.ravel().tolist() == [257 * entry for entry in entries.tolist()]


@pytest.mark.parametrize(
    ("sop_class", "applied"),
    [("1.2.840.10008.5.1.4.1.1.7", True), ("1.2.840.10008.5.1.4.1.1.12.1", False)],
    ids=["secondary capture", "x-ray angiography"],
)
def test_modality_step_is_not_for_display_of_angiography(
    dicom_file: Factory, tmp_path: Path, sop_class: str, applied: bool
) -> None:
    entries = np.array([0, 1, 4, 9, 16, 25, 36, 49], "<u2")
    item = lut_item(LUTDescriptor=[8, 0, 16], LUTData=entries.tobytes(), ModalityLUTType="US")
    picture = picture_of(
        dicom_file, tmp_path, RAMP, ModalityLUTSequence=[item], SOPClassUID=sop_class
    )
    inverted = {"RescaleSlope": -1, "RescaleIntercept": 7, "SOPClassUID": sop_class}
    rescaled = still(dicom_file(RAMP, **inverted), tmp_path / "rescaled")
    assert (rescaled[0, 0] == 0) == (not applied)
    levels = entries / 49 if applied else RAMP.ravel() / 7
    assert picture.ravel().tolist() == np.rint(levels * 65535).tolist()


def test_padding_is_black_and_not_part_of_the_range(dicom_file: Factory, tmp_path: Path) -> None:
    pixels = np.array([[-2000, 10, 20, 30]], np.int16)
    padding = DataElement("PixelPaddingValue", "US", 63536)  # the wrong one of US and SS
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    picture = picture_of(dicom_file, tmp_path, pixels, PixelPaddingValue=padding, **inverted)
    assert picture.tolist() == [[0, 65535, 32768, 0]]


@pytest.mark.parametrize("dtype", [np.uint32, np.int32], ids=["unsigned", "signed"])
def test_32_bit_integers(dicom_file: Factory, tmp_path: Path, dtype: Any) -> None:
    pixels = np.array([[0, 1_000_000, 2_000_000, 4_000_000]], dtype)
    picture = picture_of(dicom_file, tmp_path, pixels)
    assert picture.tolist() == [[0, 16384, 32768, 65535]]


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point(dicom_file: Factory, tmp_path: Path, keyword: str) -> None:
    dtype = np.float32 if keyword.startswith("Float") else np.float64
    pixels = np.array([[-1.5, 0, np.nan, 1.5]], dtype)
    path = dicom_file(
        pixels, PixelData=None, BitsStored=None, HighBit=None, **{keyword: pixels.tobytes()}
    )
    assert still(path, tmp_path / "out").tolist() == [[0, 32768, 0, 65535]]


def test_one_bit(dicom_file: Factory, tmp_path: Path) -> None:
    pixels = np.zeros((2, 4), np.uint8)
    bits = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": b"\x5a\x00"}
    picture = picture_of(dicom_file, tmp_path, pixels, **bits)
    assert picture.tolist() == [[0, 65535, 0, 65535], [65535, 0, 65535, 0]]


def test_a_uniform_picture_shows_its_level(dicom_file: Factory, tmp_path: Path) -> None:
    picture = picture_of(dicom_file, tmp_path, np.full((2, 2), 200, np.uint8))
    assert (picture == 200 * 257).all()


@pytest.mark.parametrize("value", [0, 1.5, -900])
def test_a_uniform_picture_of_floats_is_mid_gray(
    dicom_file: Factory, tmp_path: Path, value: float
) -> None:
    raw = np.full((2, 2), value, "<f4").tobytes()
    elements = {"FloatPixelData": DataElement("FloatPixelData", "OF", raw), "PixelData": None}
    picture = picture_of(dicom_file, tmp_path, np.zeros((2, 2), np.float32), **elements)
    assert np.abs(picture.astype(int) - 32768).max() <= 1


def test_a_full_mask_of_one_bit_is_white(dicom_file: Factory, tmp_path: Path) -> None:
    bits = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": b"\xff\x00"}
    assert picture_of(dicom_file, tmp_path, np.zeros((2, 4), np.uint8), **bits).all()


@pytest.mark.parametrize(
    ("center", "width"), [(5000, 100), (-5000, 100), (100, 0), ("x", "y")], ids=str
)
def test_a_window_that_shows_nothing_gives_way_to_min_max(
    dicom_file: Factory, tmp_path: Path, center: Any, width: Any
) -> None:
    path = dicom_file(RAMP)
    raw = path.read_bytes()
    tail = raw.index(b"\xe0\x7f\x10\x00")
    elements = b"".join(
        b"\x28\x00" + tag + b"DS" + len(value).to_bytes(2, "little") + value
        for tag, value in ((b"\x50\x10", even(center)), (b"\x51\x10", even(width)))
    )
    path.write_bytes(raw[:tail] + elements + raw[tail:])
    outcome = convert(path, tmp_path / "out")
    assert outcome.warnings
    assert still(path, tmp_path / "out").tolist() == np.rint(RAMP / 7 * 65535).tolist()


def even(value: Any) -> bytes:
    text = str(value).encode()
    return text + b" " * (len(text) % 2)


def test_a_window_with_little_in_it_is_kept() -> None:
    window = dc.Window(40, 80)
    transform = transform_with(window)
    stored = np.full((100, 100), 3000, np.int16)
    stored[0, 0] = 40
    assert dc.settled_transforms((transform,), lambda: [(stored, "MONOCHROME2")], "auto") == (
        transform,
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_some_pixels_tell_of_a_blank_picture_what_all_do(bits: int) -> None:
    random = np.random.default_rng(14)
    seen = set()
    for _ in range(400):
        center, width = float(random.integers(-200, 1300)), random.choice([1.0, 2, 40, 4000])
        samples = dc.SampleFormat(16, 15, True, padding=(0, 40) if random.random() < 0.3 else None)
        transform = replace(transform_with(dc.Window(center, width)), samples=samples)
        transform = replace(transform, invert=random.random() < 0.5)
        stored = np.full(random.integers(1, 40, 2), random.choice([0, 500, 1000]), np.int16)
        stored.flat[random.integers(stored.size)] = random.integers(0, 1000)
        values = stored[~dc.padding_mask(stored, samples)].astype(np.int64)
        shown = dc.quantized(dc.gray_levels(values, transform), 8)
        blank = bool((shown == 0).all() or (shown == 255).all())
        assert dc.is_blank(stored, transform, bits) == blank
        seen.add(blank)
    assert seen == {False, True}


def transform_with(voi: dc.Window | None) -> dc.GrayscaleTransform:
    return dc.GrayscaleTransform(dc.SampleFormat(16, 15, True), dc.Rescale(), voi, "", False)


def test_min_max_is_that_of_the_whole_clip() -> None:
    frames = [(np.full((2, 2), level, np.int16), "MONOCHROME2") for level in (-100, 50, 300)]
    (settled,) = dc.settled_transforms((transform_with(None),), lambda: frames, "auto")
    pictures = [int(dc.gray_picture(stored, settled, 8)[0, 0]) for stored, _ in frames]
    assert pictures == [0, 96, 255]


def test_each_frame_gets_the_rescale_and_window_of_its_functional_group() -> None:
    groups = []
    for slope, center in ((1, 4), (10, 40)):
        group, modality, voi = Dataset(), Dataset(), Dataset()
        modality.RescaleSlope, modality.RescaleIntercept = slope, 0
        voi.WindowCenter, voi.WindowWidth = center, 8
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [modality], [voi]
        groups.append(group)
    ds = data_set(np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=groups)
    image = dc.image_pixel(ds, dc.PixelLocation("PixelData", "OW", 0, 32, None))
    first, second = dc.grayscale_transforms(ds, image, "auto")
    assert (first.modality, first.voi) == (dc.Rescale(1), dc.Window(4, 8, number=1))
    assert (second.modality, second.voi) == (dc.Rescale(10), dc.Window(40, 8, number=1))


def test_shared_functional_group_is_overridden_by_the_frame() -> None:
    shared, group, modality, own = Dataset(), Dataset(), Dataset(), Dataset()
    modality.RescaleSlope, own.RescaleSlope = 3, 5
    shared.PixelValueTransformationSequence = [modality]
    group.PixelValueTransformationSequence = [own]
    ds = data_set(
        np.stack([RAMP, RAMP]),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group, Dataset()],
    )
    image = dc.image_pixel(ds, dc.PixelLocation("PixelData", "OW", 0, 32, None))
    transforms = dc.grayscale_transforms(ds, image, "auto")
    assert [transform.modality for transform in transforms] == [dc.Rescale(5), dc.Rescale(3)]


def test_8_bit_option_gives_the_same_picture_in_256_levels(
    dicom_file: Factory, tmp_path: Path
) -> None:
    picture = still(dicom_file(RAMP), tmp_path / "out", png_bits=8)
    assert picture.dtype == np.uint8
    assert picture.tolist() == np.rint(RAMP / 7 * 255).tolist()


@pytest.mark.parametrize(
    ("pixels", "bits", "padding"),
    [
        pytest.param([-2000, 10, 20, 30], 12, ("US", 63536), id="12 bits signed, as US"),
        pytest.param([-2000, 10, 20, 30], 12, ("US", 2096), id="12 bits signed, as 12 bits"),
        pytest.param([-2000, 10, 20, 30], 16, ("SS", -2000), id="16 bits signed"),
        pytest.param([65535, 10, 20, 30], 16, ("SS", -1), id="16 bits unsigned, as SS"),
        pytest.param([63536, 10, 20, 30], 16, ("SS", -2000), id="unsigned beyond SS"),
    ],
)
def test_padding_of_the_wrong_type(
    dicom_file: Factory, tmp_path: Path, pixels: list[int], bits: int, padding: tuple[str, int]
) -> None:
    words = np.array([pixels], np.int16 if min(pixels) < 0 else np.uint16)
    element = DataElement("PixelPaddingValue", *padding)
    path = dicom_file(words, BitsStored=bits, HighBit=bits - 1, PixelPaddingValue=element)
    assert still(path, tmp_path / "out").tolist() == [[0, 0, 32768, 65535]]


def test_padding_range(dicom_file: Factory, tmp_path: Path) -> None:
    pixels = np.array([[5, 6, 7, 10, 20, 30]], np.uint16)
    path = dicom_file(pixels, PixelPaddingValue=7, PixelPaddingRangeLimit=5)
    assert still(path, tmp_path / "out").tolist() == [[0, 0, 0, 0, 32768, 65535]]


def test_a_range_limit_that_is_no_number_is_told_without_a_padding_value_too() -> None:
    ds, tag = data_set(np.stack([RAMP, RAMP])), Tag("PixelPaddingRangeLimit")
    ds[tag] = RawDataElement(tag, "US", 3, b"\0\0\0", 0, False, True)
    image = dc.image_pixel(ds, dc.PixelLocation("PixelData", "OW", 0, 32, None))
    with pytest.warns(UserWarning, match=r"\(0028,0121\) is not a number"):
        assert dc.sample_format(ds, image).padding is None


def test_blank_windows_keep_their_place() -> None:
    ds = data_set()
    for tag, text in ((0x00281050, b"\\40"), (0x00281051, b"100\\200")):
        ds[tag] = RawDataElement(Tag(tag), "DS", len(text), text, 0, False, True)
    with pytest.warns(UserWarning, match="without center or width"):
        assert dc.stored_windows(ds) == [dc.Window(40, 200, number=2)]


def test_frames_without_a_window_leave_those_of_the_others() -> None:
    windowed, still_open = transform_with(dc.Window(100, 200)), transform_with(None)
    frames = [(np.full((2, 2), level, np.int16), "MONOCHROME2") for level in (50, 0, 300)]
    settled = dc.settled_transforms((windowed, still_open, windowed), lambda: frames, "auto")
    assert settled[0] == settled[2] == windowed
    assert settled[1].voi == dc.Window(150, 300, EXACT)


ONE_ENTRY = lut_item(LUTDescriptor=[1, 0, 16], LUTData=b"\0\0")


@pytest.mark.parametrize(
    ("modality", "signed", "first"),
    [
        pytest.param({"RescaleIntercept": -1024}, 0, -1024, id="negative intercept"),
        pytest.param({}, 1, -1024, id="signed pixels"),
        pytest.param({}, 0, 64512, id="unsigned"),
        pytest.param({"ModalityLUTSequence": [ONE_ENTRY]}, 1, 64512, id="behind a table"),
    ],
)
def test_sign_of_the_first_value_of_a_voi_lut(
    modality: dict[str, Any], signed: int, first: int
) -> None:
    tables = [lut_item(LUTDescriptor=[2, 64512, 8], LUTData=b"\0\xff")]
    ds = data_set(RAMP, PixelRepresentation=signed, VOILUTSequence=tables, **modality)
    image = dc.image_pixel(ds, dc.PixelLocation("PixelData", "OW", 0, RAMP.nbytes, None))
    found = dc.grayscale_transforms(ds, image, "auto")[0].voi
    assert isinstance(found, dc.LookupTable)
    assert found.first_value == first


@pytest.mark.parametrize(
    ("elements", "warning"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "Rescale Slope is 0, taken as 1"),
        (
            {"PresentationLUTShape": "INVERSE"},
            "Presentation LUT Shape INVERSE contradicts MONOCHROME2: the shape was followed",
        ),
        (
            {"VOILUTFunction": "CUBIC", "WindowCenter": 4, "WindowWidth": 8},
            "VOI LUT Function is CUBIC, taken as LINEAR",
        ),
    ],
    ids=str,
)
def test_repairs_are_warned_of(
    dicom_file: Factory, tmp_path: Path, elements: dict[str, Any], warning: str
) -> None:
    assert convert(dicom_file(RAMP, **elements), tmp_path / "out").warnings == (warning,)


@pytest.mark.filterwarnings("ignore:the VOI LUT holds")
def test_a_short_lut_is_used_as_far_as_it_goes() -> None:
    group = voi_luts(LUTDescriptor=[9, 0, 16], LUTData=np.array([1, 2, 3], "<u2").tobytes())
    (found,) = dc.lookup_tables(group, "VOI LUT", False)
    assert len(found.entries) == 6


def test_an_incomplete_lut_is_left_out() -> None:
    with pytest.warns(UserWarning, match="the VOI LUT is incomplete and was left out"):
        assert dc.lookup_tables(voi_luts(LUTDescriptor=[9, 0, 16]), "VOI LUT", False) == []


def test_an_infinite_value_does_not_make_a_blank_picture_show_something() -> None:
    stored = np.zeros((32, 32), np.float32)
    stored[3, 5] = np.inf
    samples = dc.SampleFormat(32, 31, signed=True)
    far = dc.Window(100_000, 10)
    transform = dc.GrayscaleTransform(samples, dc.Rescale(), far, "as stored", invert=False)
    assert dc.is_blank(stored, transform)
    assert not dc.is_blank(stored, replace(transform, samples=replace(samples, first_color=9)))
