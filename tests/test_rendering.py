"""What is chosen and drawn: windows by name, overlays, shutters, square pixels, single frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import (
    CORPUS,
    SAMPLES,
    Array,
    Factory,
    Run,
    convert,
    data_set,
    needs_corpus,
    read_png,
    still,
)
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

import dicom_converter as dc

RAMP = np.arange(8, dtype=np.uint16).reshape(2, 4)
DARK = np.zeros((4, 6), np.uint8)
STORED = [
    dc.Window(40, 400, explanation="SOFT", number=1),
    dc.Window(-600, 1500, explanation="My Lung", number=2),
]
TABLE = dc.LookupTable(0, 8, b"\0\0\xff\0", "CURVE")


@pytest.mark.parametrize(
    ("choice", "stored", "modality", "voi"),
    [
        pytest.param("auto", STORED, "CT", STORED[0], id="auto: the first"),
        pytest.param("auto", [TABLE, *STORED], "CT", TABLE, id="auto: a table goes first"),
        pytest.param("auto", [], "CT", None, id="auto: none stored"),
        pytest.param("full", STORED, "CT", None, id="full"),
        pytest.param(2, STORED, "MR", STORED[1], id="second"),
        pytest.param(1, [TABLE, *STORED], "MR", STORED[0], id="numbers count windows"),
        pytest.param(
            1, [TABLE], "MR", TABLE, id="numbers count tables where there is nothing else"
        ),
        pytest.param(dc.Window(7, 9), STORED, "MR", dc.Window(7, 9), id="center and width"),
        pytest.param("my lung", STORED, "MR", STORED[1], id="the name of a stored one"),
        pytest.param("curve", [TABLE], "MR", TABLE, id="the name of a table"),
        pytest.param("lung", STORED, "CT", dc.Window(-600, 1500, explanation="lung"), id="of CT"),
        pytest.param(
            "Brain", [], "CT", dc.Window(40, 80, explanation="Brain"), id="of CT, any case"
        ),
    ],
)
def test_choice_of_the_window(
    choice: Any, stored: list[Any], modality: str, voi: dc.Window | None
) -> None:
    assert dc.chosen_voi(stored, choice, modality)[0] == voi


@pytest.mark.parametrize(
    ("choice", "modality", "reason"),
    [
        (3, "CT", "has no window number 3: it stores 2"),
        ("lung", "MR", "the window lung is one of CT, this is MR"),
        ("retina", "CT", "has no window called retina: My Lung, SOFT, abdomen, angio"),
    ],
)
def test_a_window_that_cannot_be_had(choice: Any, modality: str, reason: str) -> None:
    with pytest.raises(dc.ConversionError, match=reason):
        dc.chosen_voi(STORED, choice, modality)


@pytest.mark.parametrize(
    ("argument", "choice"),
    [
        ("auto", "auto"),
        ("FULL", "full"),
        ("2", 2),
        ("40,400", dc.Window(40, 400)),
        ("-600,1500.5", dc.Window(-600, 1500.5)),
        ("-.5e2,1e+3", dc.Window(-50, 1000)),
        ("lung", "lung"),
        (" full ", "full"),
        ("+1e2,4e2", dc.Window(100, 400)),
        ("Soft Tissue", "Soft Tissue"),
    ],
)
def test_the_window_option(argument: str, choice: Any) -> None:
    for arguments in ([f"--window={argument}"], ["--window", argument], [f"--win={argument}", "x"]):
        assert dc.parse_args(arguments)[1].window == choice


@pytest.mark.parametrize(
    "argument", ["", " ", "0", "40,", "40,0", "1,2,3", "-5", "40,-3", "nan,nan", "lung,bone"]
)
def test_an_absurd_window_is_a_usage_error(argument: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        dc.parse_args([f"--window={argument}"])
    assert stopped.value.code == 2


def test_presets_want_hounsfield_units(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(dicom_file(RAMP, Modality="CT"), tmp_path / "out", window="lung")
    assert outcome.reason == "windows of CT want Hounsfield units, which this one lacks"
    outcome = convert(dicom_file(RAMP, Modality="MR"), tmp_path / "out", window="lung")
    assert outcome.reason == "the window lung is one of CT, this is MR"
    path = dicom_file(RAMP, Modality="CT", RescaleIntercept="-1024", RescaleSlope="1")
    assert convert(path, tmp_path / "out", window="lung").status == dc.Status.CONVERTED


@pytest.mark.parametrize("window", ["lung", "3", "retina"])
def test_among_many_files_those_without_the_window_are_shown_by_default(
    run: Callable[..., Run], dicom_file: Factory, window: str
) -> None:
    path = dicom_file(RAMP, name="mr", Modality="MR")
    clip = dicom_file(np.stack([RAMP, RAMP]), name="xa", Modality="XA")
    plain = run(path.parent, "--no-mp4").output
    expected = {name: (plain / name).read_bytes() for name in ("mr.png", "xa.gif")}
    result = run(path.parent, "--no-mp4", "--window", window)
    assert result.code == 0
    assert {name: (plain / name).read_bytes() for name in expected} == expected
    assert result.err.count("; shown as by default\n") == 2
    source = dc.Source(path, plain, "mr", named=True, listed=True)  # of a DICOMDIR
    choice = dc.window_choice(window)
    assert dc.convert(source, dc.Options(window=choice)).status == dc.Status.CONVERTED
    for named in (path, clip):
        failed = run(named, "--window", window)
        assert (failed.code, len(failed.err.splitlines())) == (1, 1)


def test_windows_of_the_ct_sample_differ(tmp_path: Path) -> None:
    pictures = {
        name: still(SAMPLES / "DCM00000", tmp_path / str(number), window=choice)
        for number, (name, choice) in enumerate(
            {"auto": "auto", "first": 1, "lung": "LUNG", "second": 2, "bone": "bone"}.items()
        )
    }
    assert np.array_equal(pictures["auto"], pictures["first"])
    assert np.array_equal(pictures["lung"], pictures["second"])
    lung = pictures["lung"][252, 168], pictures["auto"][252, 168], pictures["bone"][252, 168]
    assert lung[0] > 10_000 > lung[1] == lung[2] == 0


def test_an_explicit_window_is_kept_though_it_shows_nothing(
    dicom_file: Factory, tmp_path: Path
) -> None:
    path = dicom_file(RAMP)
    assert not still(path, tmp_path / "out", window=dc.Window(5000, 10)).any()


def test_the_text_says_which_window(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(RAMP, WindowCenter=[4, 2], WindowWidth=[8, 2])
    for choice, said in (
        ("auto", "center 4, width 8, LINEAR (first of 2 stored windows)"),
        (2, "center 2, width 2, LINEAR (number 2 of those stored)"),
        (dc.Window(1, 5), "center 1, width 5, LINEAR (as asked for)"),
        ("full", "(min-max of all pixels without padding, as asked for)"),
    ):
        outcome = convert(path, tmp_path / "out", window=choice)
        assert said in outcome.outputs[1].read_text(encoding="utf-8")


# --- Overlays -------------------------------------------------------------------------------------


def overlay_elements(
    plane: Array,
    origin: tuple[int, int] = (1, 1),
    group: int = 0x6000,
    more: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Return the elements of an overlay; *plane* is ([frames,] rows, columns) of 0 and 1."""
    bits = np.packbits(plane.ravel(), bitorder="little").tobytes()
    values: dict[int, tuple[str, Any]] = {
        0x10: ("US", plane.shape[-2]),
        0x11: ("US", plane.shape[-1]),
        0x40: ("CS", "G"),
        0x50: ("SS", list(origin)),
        0x100: ("US", 1),
        0x102: ("US", 0),
        0x3000: ("OW", bits + b"\0" * (len(bits) % 2)),
    }
    for keyword, tag, vr in (("start", 0x51, "US"), ("frames", 0x15, "IS")):
        if more and keyword in more:
            values[tag] = (vr, more[keyword])
    return {
        f"{group:x}{element:x}": DataElement(group << 16 | element, vr, value)
        for element, (vr, value) in values.items()
    }


CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@pytest.mark.parametrize(
    ("origin", "rows", "columns"),
    [
        pytest.param((1, 1), slice(0, 3), slice(0, 3), id="top left"),
        pytest.param((2, 4), slice(1, 4), slice(3, 6), id="row and column"),
        pytest.param((0, -1), slice(-1, 2), slice(-2, 1), id="partly above and left"),
        pytest.param((3, 5), slice(2, 5), slice(4, 7), id="partly below and right"),
        pytest.param((90, 90), slice(89, 92), slice(89, 92), id="outside"),
    ],
)
def test_overlay_at_any_origin(
    dicom_file: Factory, tmp_path: Path, origin: tuple[int, int], rows: slice, columns: slice
) -> None:
    canvas = np.zeros((200, 200), np.uint8)
    canvas[rows.start + 50 : rows.stop + 50, columns.start + 50 : columns.stop + 50] = CROSS * 255
    path = dicom_file(DARK, **overlay_elements(CROSS, origin))
    assert np.array_equal(still(path, tmp_path / "a", png_bits=8), canvas[50:54, 50:56])
    assert not still(path, tmp_path / "b", overlays=False).any()


def test_two_overlays_on_color(dicom_file: Factory, tmp_path: Path) -> None:
    color = np.full((4, 6, 3), 7, np.uint8)
    elements = overlay_elements(CROSS) | overlay_elements(CROSS, (2, 4), 0x6002)
    picture = still(dicom_file(color, **elements), tmp_path)
    assert (picture == 255).all(axis=2).sum() == 10
    assert (picture == 7).all(axis=2).sum() == 14


def test_an_embedded_overlay(dicom_file: Factory, tmp_path: Path) -> None:
    pixels = RAMP.copy()
    pixels[1, 2] |= 1 << 13
    pixels[0, 0] |= 1 << 15  # a bit that no group describes is never shown
    elements = overlay_elements(np.zeros((2, 4), np.uint8))
    del elements["60003000"]
    elements["6000102"] = DataElement(0x60000102, "US", 13)
    elements["6000100"] = DataElement(0x60000100, "US", 16)
    path = dicom_file(pixels, BitsStored=12, HighBit=11, **elements)
    expected = np.rint(RAMP / 7 * 255)
    expected[1, 2] = 255
    assert np.array_equal(still(path, tmp_path, png_bits=8), expected)


@pytest.mark.parametrize("position", [None, 9, 16, 65535, -1])
def test_a_plane_that_is_nowhere_is_left_out(
    dicom_file: Factory, tmp_path: Path, position: int | None
) -> None:
    elements = overlay_elements(np.zeros((2, 4), np.uint8))
    del elements["60003000"], elements["6000102"]
    if position is not None:
        elements["6000102"] = DataElement(0x60000102, "SS" if position < 0 else "US", position)
    path = dicom_file(RAMP << 4 | 1, BitsStored=12, HighBit=15, **elements)
    assert np.array_equal(still(path, tmp_path, png_bits=8), np.rint(RAMP / 7 * 255))


@pytest.mark.parametrize(
    ("more", "drawn"),
    [
        pytest.param({}, [1, 1, 1], id="on all frames"),
        pytest.param({"start": 2}, [0, 1, 0], id="on the second"),
        pytest.param({"frames": 2, "start": 2}, [0, 1, 2], id="two planes from the second on"),
        pytest.param({"frames": 3}, [1, 2, 3], id="a plane for each"),
    ],
)
def test_overlays_of_clips(more: dict[str, int], drawn: list[int]) -> None:
    planes = np.zeros((3, 3, 5), np.uint8)
    for number in range(3):
        planes[number, 0, : number + 1] = 1
    elements = overlay_elements(planes, more=more)
    ds = data_set(np.zeros((3, 3, 5), np.uint8), **elements)
    image = dc.image_pixel(ds, dc.PixelLocation("PixelData", "OW", 0, 45, None))
    overlays = tuple(dc.overlays_of(ds, image).values())
    look = dc.Look(dc.sample_format(ds, image), overlays=overlays)
    empty = np.zeros((3, 5), np.uint8)
    found = [int((dc.covered(empty, look, index, empty) > 0).sum()) for index in range(3)]
    assert found == drawn


@pytest.mark.filterwarnings("ignore:the overlay data are shorter")
def test_short_overlay_data(dicom_file: Factory, tmp_path: Path) -> None:
    elements = overlay_elements(np.ones((4, 6), np.uint8))
    elements["60003000"] = DataElement(0x60003000, "OW", b"\xff\x03")
    outcome = convert(dicom_file(DARK, **elements), tmp_path)
    assert outcome.warnings == ("the overlay data are shorter than their plane: the rest is empty",)
    assert (read_png(outcome.outputs[0]) > 0).sum() == 10


def test_bits_that_no_data_hold_are_0() -> None:
    for start, size in ((0, 100), (9, 5000), (30, 70_000)):
        np.full(start + size, 7, np.uint8)  # NumPy would show what lay in memory before
        assert not dc.unpacked_bits(b"", start, size).any()
        assert not dc.unpacked_bits(b"\0", start, size).any()


@pytest.mark.parametrize("vr", ["OW", "OB"])
def test_overlay_of_a_big_endian_file(dicom_file: Factory, tmp_path: Path, vr: str) -> None:
    elements = overlay_elements(np.eye(4, 6, dtype=np.uint8))
    data = elements["60003000"].value
    if vr == "OW":  # bytes of OB have no order (PS3.5 6.2)
        data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    elements["60003000"] = DataElement(0x60003000, vr, data)
    path = dicom_file(DARK, syntax=ExplicitVRBigEndian, **elements)
    assert np.array_equal(still(path, tmp_path, png_bits=8), np.eye(4, 6) * 255)


# --- Shutters -------------------------------------------------------------------------------------

RECTANGLE = {
    "ShutterLeftVerticalEdge": 2,
    "ShutterRightVerticalEdge": 5,
    "ShutterUpperHorizontalEdge": 2,
    "ShutterLowerHorizontalEdge": 3,
}
CIRCLE = {"CenterOfCircularShutter": [3, 4], "RadiusOfCircularShutter": 1}
POLYGON = {"VerticesOfThePolygonalShutter": [1, 1, 1, 6, 4, 6]}


def shutter_rows(*rows: str) -> Array:
    return np.array([[char == "x" for char in row] for row in rows])


@pytest.mark.parametrize(
    ("shape", "elements", "visible"),
    [
        ("RECTANGULAR", RECTANGLE, shutter_rows("......", ".xxxx.", ".xxxx.", "......")),
        ("CIRCULAR", CIRCLE, shutter_rows("......", "...x..", "..xxx.", "...x..")),
        ("POLYGONAL", POLYGON, shutter_rows("xxxxxx", ".xxxxx", "...xxx", ".....x")),
        (
            ["RECTANGULAR", "CIRCULAR"],
            RECTANGLE | CIRCLE,
            shutter_rows("......", "...x..", "..xxx.", "......"),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [None, 65535], ids=["black", "white"])
def test_shutter(
    dicom_file: Factory,
    tmp_path: Path,
    shape: Any,
    elements: dict[str, Any],
    visible: Array,
    value: int | None,
) -> None:
    if value:
        elements = elements | {"ShutterPresentationValue": value}
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) + 100
    path = dicom_file(pixels, ShutterShape=shape, WindowCenter=128, WindowWidth=256, **elements)
    picture = still(path, tmp_path / "a", png_bits=8)
    assert np.array_equal(picture, np.where(visible, pixels, 255 if value else 0))
    assert np.array_equal(still(path, tmp_path / "b", png_bits=8, shutter=False), pixels)


@pytest.mark.parametrize(
    ("elements", "warning"),
    [
        ({"ShutterShape": "CIRCULAR"}, "a CIRCULAR shutter is not whole and was left out"),
        ({"ShutterShape": "OVAL"}, "a shutter is of no known shape and was left out"),
        (
            {"ShutterShape": "RECTANGULAR", **RECTANGLE, "ShutterLeftVerticalEdge": 99},
            "the display shutter would hide everything and was left out",
        ),
    ],
    ids=str,
)
def test_a_broken_shutter_hides_nothing(
    dicom_file: Factory, tmp_path: Path, elements: dict[str, Any], warning: str
) -> None:
    path = dicom_file(DARK + 9, WindowCenter=8, WindowWidth=16, **elements)
    for _ in range(2):  # the second file of a run is warned of too
        outcome = convert(path, tmp_path)
        assert outcome.warnings == (warning,)
        assert read_png(outcome.outputs[0]).all()


def test_a_colored_shutter_around_a_color_image(dicom_file: Factory, tmp_path: Path) -> None:
    lab = [int(54.29 * 655.35), int((80.81 + 128) * 257), int((69.89 + 128) * 257)]  # red, D50
    color = np.full((4, 6, 3), 50, np.uint8)
    elements = {"ShutterShape": "RECTANGULAR", **RECTANGLE}
    path = dicom_file(color, ShutterPresentationColorCIELabValue=lab, **elements)
    picture = still(path, tmp_path)
    assert np.abs(picture[0, 0].astype(int) - (255, 0, 0)).max() <= 4
    assert picture[1, 1].tolist() == [50, 50, 50]


def test_a_color_is_not_for_the_shutter_of_a_gray_image(
    dicom_file: Factory, tmp_path: Path
) -> None:
    lab = [int(54.29 * 655.35), int((80.81 + 128) * 257), int((69.89 + 128) * 257)]  # red, D50
    elements = {"ShutterShape": "RECTANGULAR", **RECTANGLE, "ShutterPresentationValue": 0x8000}
    path = dicom_file(DARK + 9, ShutterPresentationColorCIELabValue=lab, **elements)
    assert still(path, tmp_path, png_bits=8)[0, 0] == 128


def test_a_circular_shutter_is_round_on_pixels_that_are_not_square(
    dicom_file: Factory, tmp_path: Path
) -> None:
    circle = {"CenterOfCircularShutter": [11, 21], "RadiusOfCircularShutter": 16}  # columns
    elements = {"ShutterShape": "CIRCULAR", "PixelSpacing": [2, 1], **circle}
    path = dicom_file(np.full((21, 41), 9, np.uint8), WindowCenter=5, WindowWidth=9, **elements)
    rows, columns = np.nonzero(still(path, tmp_path, native_pixels=True, png_bits=8))
    assert [int(np.ptp(rows)), int(np.ptp(columns))] == [16, 32]
    rows, columns = np.nonzero(still(path, tmp_path, png_bits=8) > 127)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1


def test_each_frame_has_the_shutter_of_its_functional_group() -> None:
    groups = []
    for left in (1, 4):
        group, shutter = Dataset(), Dataset()
        shutter.ShutterShape = "RECTANGULAR"
        for keyword, value in (RECTANGLE | {"ShutterLeftVerticalEdge": left}).items():
            setattr(shutter, keyword, value)
        group.FrameDisplayShutterSequence = [shutter]
        groups.append(group)
    ds = data_set(np.zeros((2, 4, 6), np.uint8), PerFrameFunctionalGroupsSequence=groups)
    image = dc.image_pixel(ds, dc.PixelLocation("PixelData", "OW", 0, 48, None))
    edges = [shutter.edges for shutter in dc.shutters_of(ds, image)]
    assert edges == [(0, 4, 1, 2), (3, 4, 1, 2)]


# --- Geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "shape"),
    [
        pytest.param({"PixelSpacing": [0.4, 0.2]}, (80, 60), id="high pixels: rows are stretched"),
        pytest.param({"PixelSpacing": [0.2, 0.3]}, (40, 90), id="wide pixels: columns are"),
        pytest.param({"ImagerPixelSpacing": [0.3, 0.2]}, (60, 60), id="imager spacing"),
        pytest.param({"PixelAspectRatio": [4, 3]}, (53, 60), id="ratio is vertical by horizontal"),
        pytest.param(
            {"PixelAspectRatio": [2, 1], "PixelSpacing": [0.2, 0.2]}, (40, 60), id="spacing first"
        ),
        pytest.param({"PixelSpacing": [0.2, 0.2005]}, (40, 60), id="square to the eye"),
        pytest.param({"PixelSpacing": [0, 0.2]}, (40, 60), id="zero"),
        pytest.param({}, (40, 60), id="nothing said"),
    ],
)
@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
def test_pixels_come_out_square(
    dicom_file: Factory,
    tmp_path: Path,
    elements: dict[str, Any],
    shape: tuple[int, ...],
    color: bool,
) -> None:
    pixels = np.zeros((40, 60, 3) if color else (40, 60), np.uint8)
    path = dicom_file(pixels, **elements)
    assert still(path, tmp_path / "a").shape[:2] == shape
    assert still(path, tmp_path / "b", native_pixels=True).shape[:2] == (40, 60)


def test_a_circle_of_non_square_pixels_is_round_again(dicom_file: Factory, tmp_path: Path) -> None:
    pixels = np.zeros((50, 100), np.uint8)
    cv2.ellipse(pixels, (50, 25), (40, 20), 0, 0, 360, 255, -1)
    picture = still(dicom_file(pixels, PixelSpacing=[2, 1]), tmp_path, png_bits=8)
    rows, columns = np.nonzero(picture > 127)
    assert picture.shape == (100, 100)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2


def test_ultrasound_regions_tell_the_spacing() -> None:
    region, doppler = Dataset(), Dataset()
    region.RegionSpatialFormat, region.PhysicalDeltaX, region.PhysicalDeltaY = 1, 0.02, 0.03
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    doppler.RegionSpatialFormat, doppler.PhysicalDeltaX, doppler.PhysicalDeltaY = 3, 0.001, 2.5
    ds = data_set(SequenceOfUltrasoundRegions=[doppler, region])
    assert dc.pixel_aspect(ds) == pytest.approx(1.5)


def test_an_absurd_spacing_is_left_out() -> None:
    for ratio, aspect in ((None, 1), ([2, 1], 2)):
        ds = data_set(PixelSpacing=[1000, 0.001])
        if ratio:
            ds.PixelAspectRatio = ratio
        with pytest.warns(UserWarning, match="was left out"):
            assert dc.pixel_aspect(ds) == aspect


def test_ultrasound_regions_that_are_not_in_cm_say_nothing() -> None:
    region = Dataset()
    region.RegionSpatialFormat, region.PhysicalDeltaX, region.PhysicalDeltaY = 1, 0.02, 0.04
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 4, 3  # seconds
    assert dc.pixel_aspect(data_set(SequenceOfUltrasoundRegions=[region])) == 1


# --- Frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "count", "frames"),
    [
        ("", 5, []),
        ("all", 3, [0, 1, 2]),
        ("1", 5, [0]),
        ("2-4", 5, [1, 2, 3]),
        ("middle", 5, [2]),
        ("middle", 4, [1]),
        ("5,1,2-2,middle", 5, [0, 1, 2, 4]),
    ],
)
def test_chosen_frames(selection: str, count: int, frames: list[int]) -> None:
    assert dc.chosen_frames(selection, count) == frames


def test_a_frame_that_is_not_there_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="there is no frame 9: the last is 5"):
        assert dc.chosen_frames("4-9", 5) == [3, 4]


@pytest.mark.parametrize("argument", ["", "0", "x", "3-2", "1,,2", "-1", "1-", "all,0"])
def test_an_absurd_selection_is_a_usage_error(argument: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        dc.parse_args([f"--frames={argument}"])
    assert stopped.value.code == 2


@pytest.mark.parametrize("clips", [True, False], ids=["with clips", "alone"])
def test_frames_of_a_clip_as_stills(dicom_file: Factory, tmp_path: Path, clips: bool) -> None:
    frames = np.stack([RAMP + 1000 * number for number in range(12)])
    path = dicom_file(frames, name="run.dcm")
    outcome = convert(path, tmp_path / "out", frames="2,11-12", gif=clips, mp4=clips)
    stills = [output for output in outcome.outputs if output.suffix == ".png"]
    assert [still.name for still in stills] == ["run-0002.png", "run-0011.png", "run-0012.png"]
    for still_path, number in zip(stills, (1, 10, 11), strict=True):
        picture = read_png(still_path)
        assert picture.dtype == np.uint16
        assert np.array_equal(picture, np.rint(frames[number] / frames.max() * 65535))
    assert len(outcome.outputs) == (6 if clips else 4)


# --- The corpus -----------------------------------------------------------------------------------


@needs_corpus
def test_supplemental_palette_of_the_corpus(tmp_path: Path) -> None:
    path = CORPUS / "pypi_pydicom-data/data_store/data/eCT_Supplemental.dcm"
    outcome = convert(path, tmp_path, frames="1")
    picture = read_png(next(output for output in outcome.outputs if output.suffix == ".png"))
    colored = np.ptp(picture.astype(int), axis=2) > 1000
    assert 0.001 < colored.mean() < 0.5
    assert outcome.warnings == ()  # the stored window, under which all that is gray is black
    assert picture[~colored].max() < 40000


# --- What went wrong once -------------------------------------------------------------------------


def test_a_still_named_like_a_frame_of_a_clip_keeps_its_picture(
    dicom_file: Factory, tmp_path: Path
) -> None:
    dicom_file(np.stack([RAMP] * 12), name="RUN.dcm")
    path = dicom_file(RAMP[::-1], name="RUN-0010.dcm")
    names = {source.path.name: source.name for source in dc.find_sources([path.parent], tmp_path)}
    assert names == {"RUN.dcm": "RUN", "RUN-0010.dcm": "RUN-0010.dcm"}


def test_a_dropped_window_keeps_the_numbers_of_the_rest(
    dicom_file: Factory, tmp_path: Path
) -> None:
    path = dicom_file(RAMP, WindowCenter=[40, 4, 1000], WindowWidth=[0, 8, 100])
    picture = still(path, tmp_path / "out", window=2)
    assert np.array_equal(picture, np.rint(np.clip((RAMP - 3.5) / 7 + 0.5, 0, 1) * 65535))
    assert "number 1" in convert(path, tmp_path / "out", window=1).reason


@pytest.mark.parametrize("item", [Dataset(), None], ids=["empty", "no data"])
@pytest.mark.parametrize("name", ["VOI LUT", "Modality LUT"])
def test_a_broken_lut_gives_way_to_the_window_and_the_rescale(
    dicom_file: Factory, tmp_path: Path, item: Dataset | None, name: str
) -> None:
    if item is None:
        item = Dataset()
        item.LUTDescriptor = [8, 0, 16]
    steps: dict[str, Any] = {
        "RescaleSlope": 2,
        "RescaleIntercept": 1,
        "WindowCenter": 8.5,
        "WindowWidth": 15,
    }
    steps[f"{name.replace(' ', '')}Sequence"] = [item]
    outcome = convert(dicom_file(RAMP, **steps), tmp_path)
    assert outcome.warnings == (f"the {name} is incomplete and was left out",)
    assert np.array_equal(read_png(outcome.outputs[0]), np.rint(RAMP / 7 * 65535))


@pytest.mark.parametrize(
    ("modality", "samples", "negative"),
    [
        (dc.Rescale(-1, 0), dc.SampleFormat(4, 3, False), True),
        (dc.Rescale(1, 32768), dc.SampleFormat(16, 15, True), False),
        (dc.Rescale(1, -1024), dc.SampleFormat(12, 11, False), True),
        (dc.Rescale(), dc.SampleFormat(16, 15, True), True),
        (dc.LookupTable(0, 16, b"\0\0"), dc.SampleFormat(16, 15, True), False),
    ],
)
def test_which_modality_steps_reach_below_zero(
    modality: Any, samples: dc.SampleFormat, negative: bool
) -> None:
    assert (dc.modality_ends(modality, samples)[0] < 0) == negative


def test_padding_beyond_the_stored_bits_spares_saturated_pixels(
    dicom_file: Factory, tmp_path: Path
) -> None:
    pixels = np.array([[0, 100, 2000, 4095]], np.uint16)
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "PixelPaddingValue": 65535}
    picture = still(dicom_file(pixels, BitsStored=12, HighBit=11, **window), tmp_path)
    assert np.array_equal(picture, np.rint(pixels / 4095 * 65535))


def test_padding_of_double_float(dicom_file: Factory, tmp_path: Path) -> None:
    pixels = np.array([[-9999, 0, 0.5, 1]], np.float64)
    elements = {"DoubleFloatPixelData": pixels.tobytes(), "DoubleFloatPixelPaddingValue": -9999.0}
    path = dicom_file(pixels, PixelData=None, BitsStored=None, HighBit=None, **elements)
    assert still(path, tmp_path).tolist() == [[0, 0, 32768, 65535]]


def test_padding_does_not_hide_that_a_window_shows_nothing(
    dicom_file: Factory, tmp_path: Path
) -> None:
    pixels = np.array([[0, 40000, 50000, 60000]], np.uint16)
    path = dicom_file(pixels, PixelPaddingValue=0, WindowCenter=2725, WindowWidth=5310)
    assert still(path, tmp_path).tolist() == [[0, 0, 32768, 65535]]


@pytest.mark.parametrize("far", [60, 10_000, 10**9], ids=str)
def test_polygons_that_reach_beyond_the_picture(far: int) -> None:
    middle = 50
    vertices = (
        (middle, -far),
        (-far, middle),
        (middle, 100 + far),
        (100 + far, middle),
    )
    hidden = dc.shutter_mask(dc.Shutter(vertices=vertices), 100, 100)
    corners = far == 60
    assert hidden.mean() < (0.02 if corners else 0.0001)


def test_a_polygon_beside_the_picture_hides_all_and_is_left_out(
    dicom_file: Factory, tmp_path: Path
) -> None:
    vertices = {"VerticesOfThePolygonalShutter": [900, 900, 900, 950, 950, 950]}
    path = dicom_file(DARK + 9, ShutterShape="POLYGONAL", **vertices)
    assert "hide everything" in convert(path, tmp_path).warnings[0]


def test_hostile_numbers_in_a_circle(dicom_file: Factory, tmp_path: Path) -> None:
    center = DataElement("CenterOfCircularShutter", "DS", ["1e30", "1e30"])
    elements = {"ShutterShape": "CIRCULAR", "RadiusOfCircularShutter": 5}
    path = dicom_file(DARK + 9, CenterOfCircularShutter=center, **elements)
    assert convert(path, tmp_path).status == dc.Status.CONVERTED


def test_a_huge_overlay_is_left_out(dicom_file: Factory, tmp_path: Path) -> None:
    elements = overlay_elements(CROSS)
    for tag in (0x60000010, 0x60000011):
        elements[f"{tag:x}"] = DataElement(tag, "US", 65535)
    del elements["600010"], elements["600011"]
    outcome = convert(dicom_file(DARK, **elements), tmp_path)
    assert outcome.warnings == ("an overlay of 65535 x 65535 pixels was left out",)


def test_overlays_counted_from_0_are_drawn(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(DARK, **overlay_elements(CROSS, more={"start": 0, "frames": 0}))
    assert (still(path, tmp_path) > 0).sum() == 5


def test_stretched_facts(dicom_file: Factory, tmp_path: Path) -> None:
    for spacing, said in (([1, 2], "shown 2 times as wide"), ([2, 1], "shown 2 times as high")):
        text = convert(dicom_file(RAMP, PixelSpacing=spacing), tmp_path).outputs[1].read_text()
        assert said in text
    text = convert(dicom_file(RAMP, PixelSpacing=[1.005, 1]), tmp_path).outputs[1].read_text()
    assert "times as" not in text


def test_a_window_for_color_is_warned_of(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(np.zeros((2, 2, 3), np.uint8))
    (warning,) = convert(path, tmp_path, window="lung").warnings
    assert warning.startswith("windows are for gray images")


def test_a_clip_too_large_for_a_gif_is_warned_of(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(np.zeros((2, 4000, 8), np.uint8), PixelSpacing=[20, 1])
    outcome = convert(path, tmp_path / "out")
    assert [output.suffix for output in outcome.outputs] == [".txt"]
    assert len(outcome.warnings) == 2
