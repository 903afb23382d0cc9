"""Presentation states: how they show the images that they name, in the second round."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pydicom
import pytest
import states as ps
from conftest import CORPUS, Array, Run, data_set, needs_corpus, needs_program, read_png
from PIL import Image
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid
from states import annotation, area, figure, layer, overlay, shutter, state, turned, window, words
from test_batch import contents
from test_color import icc_profile, of_segment, segment

import dicom_converter as dc

Runner = Callable[..., Run]
Shown = Callable[..., Run]
YELLOW, RED, GREEN, BLUE = (255, 255, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)
# CIELab of these colors for D50, as DICOM holds it (PS3.3 C.10.7.1.1)
LAB = {
    (255, 255, 0): (63977, 29047, 57009),
    RED: (35579, 53662, 50858),
    GREEN: (57553, 12524, 53710),
    BLUE: (19379, 50449, 4104),
}
TURNS = [(rotation, flip) for rotation in (0, 90, 180, 270) for flip in (False, True)]
TURN_NAMES = [f"{rotation}{' flipped' if flip else ''}" for rotation, flip in TURNS]
every_turn = pytest.mark.parametrize(("rotation", "flip"), TURNS, ids=TURN_NAMES)


@pytest.fixture
def shown(run: Runner, tmp_path: Path) -> Shown:
    """Return a function that writes data sets under their names and converts the folder."""

    def call(*options: str, output: Path | None = None, **files: Dataset) -> Run:
        for name, ds in files.items():
            ps.write(tmp_path / "in" / name, ds)
        return run(tmp_path / "in", "--study", *options, output=output)

    return call


def image(pixels: Array, **elements: Any) -> Dataset:
    """Return a picture of *pixels*; words hold 12 bits."""
    bits = {"BitsStored": 12, "HighBit": 11} if pixels.dtype.itemsize == 2 else {}
    return data_set(pixels, **ps.image_elements(**(bits | elements)))


def flat(rows: int = 48, columns: int = 64, level: int = 2048, **elements: Any) -> Dataset:
    """Return a picture that is all of one level."""
    return image(np.full((rows, columns), level, np.uint16), **elements)


def noise(rows: int = 24, columns: int = 40, seed: int = 0, **elements: Any) -> Dataset:
    """Return a picture whose pixels all differ from their neighbors."""
    rng = np.random.default_rng(seed)
    return image(rng.integers(0, 4096, (rows, columns), np.uint16), **elements)


def levels(picture: Array) -> Array:
    """Return a picture of any depth in levels of 8 bits, as float."""
    return np.asarray(picture, float) / (np.iinfo(picture.dtype).max / 255)


def picture_of(result: Run, name: str = "STATE") -> Array:
    """Return a picture as levels of 8 bits."""
    return levels(read_png(result.output / f"{name}.png"))


def colored(picture: Array) -> Array:
    """Return *picture* with three channels."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, axis=2)


def stored(ds: Dataset, frame: int = 0) -> Array:
    """Return the stored values of an image, or of one of its frames, from 0."""
    values: Array = ds.pixel_array.astype(float)
    return values[frame] if values.ndim > 2 else values


def whole_range(ds: Dataset, frame: int = 0) -> Array:
    """Return the levels of 12 bits that go through no step at all."""
    return stored(ds, frame) / 4095 * 255


def linear(values: Array, center: float, width: float) -> Array:
    """Return levels by a window (PS3.3 C.11.2.1.2.1)."""
    return np.asarray(np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255)


def facing(picture: Array, rotation: int, flip: bool) -> Array:
    """Return *picture* turned clockwise, then flipped from left to right."""
    found = np.rot90(picture, -rotation // 90)
    return found[:, ::-1] if flip else found


def pngs(result: Run, stem: str = "STATE") -> list[str]:
    """Return the pictures and clips of a state."""
    found = re.compile(rf"{stem}(-\d+)?\.(png|gif|mp4)$")
    return [name for name in result.files() if found.search(name)]


def summary(result: Run, name: str = "STATE") -> str:
    """Return what a TXT says above the list of elements."""
    return (result.output / f"{name}.txt").read_text("utf-8").partition("\nELEMENTS\n")[0]


def gif_frames(path: Path) -> list[Array]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


# --- The states of this file are valid ------------------------------------------------------------


def one_of_each() -> dict[str, Dataset]:
    """Return states that have all that is tested here."""
    one, other = noise(), noise(seed=1)
    frames = image(np.zeros((3, 8, 8), np.uint16))
    ramp = np.arange(256)
    bits = np.eye(24, 40, dtype=bool)
    turn = turned(90, True)
    return {
        "plain": state(one),
        "levels": state(one, ps.rescale(2, -100), window(40, 400), ps.shape("INVERSE")),
        "functions": state(one, window(40, 400, "SIGMOID")),
        "tables": state(
            one,
            ps.modality_table(ramp, -100, 8, signed=True),
            ps.voi_table(ramp * 4, 0, 10),
            ps.presentation_table(ramp * 16, 12),
        ),
        "scopes": state(
            [one, other], window(40, 400, images=[one]), window(50, 300, images=[other])
        ),
        "frames": state((frames, [3, 1]), window(40, 400, images=[(frames, [1])])),
        "shutter": state(
            one,
            shutter(500, rectangle=(2, 9, 3, 8), circle=(9, 9, 5), polygon=(1, 1, 9, 9, 1, 9)),
        ),
        "bitmap": state(one, ps.bitmap_shutter(bits, 0x8000)),
        "turned": state(one, turn, area((2, 3, 30, 20), turn, spacing=(0.5, 0.25))),
        "magnified": state(one, area((1, 1, 40, 24), magnified=2)),
        "figures": state(
            one,
            *(layer(f"L{number}", number, gray=0xFFFF, lab=LAB[RED]) for number in (1, 2)),
            annotation(
                "L1",
                figure("POINT", [(1, 1)]),
                figure("POLYLINE", [(1, 1), (9, 1), (9, 9), (1, 1)], filled=True),
                figure("INTERPOLATED", [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)], "DISPLAY"),
                figure("CIRCLE", [(9, 9), (9, 12)]),
                figure("ELLIPSE", [(1, 5), (9, 5), (5, 3), (5, 7)]),
            ),
            annotation("L2", words("text", box=((1, 1), (9, 9)), anchor=(12, 12), visible=True)),
        ),
        "overlays": state(
            one, overlay(bits), overlay(bits, 0x6002), overlay(None, 0x6004, "LAYER")
        ),
    }


@needs_program("dcmpschk")
@pytest.mark.parametrize("name", one_of_each())
def test_the_states_of_this_file_are_valid(name: str, tmp_path: Path) -> None:
    ds = one_of_each()[name]
    path = ps.write(tmp_path / "STATE", ds)
    done = subprocess.run(["dcmpschk", str(path)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - an oracle
    said = done.stdout + done.stderr
    assert "Test passed" in said
    assert not re.search(r"(?im)^(E|F):|error", said), said


# --- DCMTK as an oracle ---------------------------------------------------------------------------


def dcmtk_picture(state_path: Path, image_path: Path, folder: Path, frame: int = 1) -> Array:
    """Return what dcmp2pgm makes of an image under a state: levels of 8 bits, as float.

    It leaves out the displayed area, geometric shutters, overlays and annotations, and writes other
    files into the folder that it runs in.
    """
    folder.mkdir(exist_ok=True)
    target = folder / "dcmtk.pgm"
    target.unlink(missing_ok=True)
    paths = ["-p", str(state_path), str(image_path), str(target)]
    command = ["dcmp2pgm", "-f", str(frame), *paths]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)  # noqa: S603 - an oracle
    assert done.returncode == 0, done.stderr
    return levels(read_png(target))


def share_apart(ours: Array, theirs: Array, by: int = 1) -> float:
    """Return on which share of the pixels our levels, rounded, are further apart than *by*."""
    if ours.shape != theirs.shape:
        return 1
    return float((np.abs(np.rint(ours) - theirs) > by).mean())


Format = tuple[type[np.generic], int]  # of the words, bits stored
FORMATS: dict[str, Format] = {
    "8 bits": (np.uint8, 8),
    "8 bits signed": (np.int8, 8),
    "12 bits": (np.uint16, 12),
    "12 bits signed": (np.int16, 12),
    "16 bits": (np.uint16, 16),
    "16 bits signed": (np.int16, 16),
}


def gray_steps(low: int, high: int) -> dict[str, list[Dataset]]:
    """Return parts of states for images whose stored values go from *low* to *high*."""
    span = high - low
    center, width, signed = low + 0.6 * span, span // 2, low < 0
    rising = np.rint(4095 * np.linspace(0, 1, min(1000, span)) ** 1.2).astype(int)
    linear_step = window(1.5 * center - 20, 1.5 * width)
    modality = ps.modality_table(rising, low + span // 5, 12, signed=signed)
    softcopy = ps.voi_table(rising[::-1], low + span // 5, 12, signed=signed)
    tables = {
        (count, bits): ps.presentation_table(
            np.rint(np.linspace(0, 1, count) ** power * ((1 << bits) - 1)).astype(int), bits
        )
        for count, bits, power in ((1024, 8, 1.3), (1000, 10, 0.7), (4096, 12, 1.3), (2048, 16, 1))
    }
    return {
        "nothing": [],
        "rescale": [ps.rescale(1.5, -20)],
        "negative slope": [ps.rescale(-1.5, 20)],
        "window": [window(center, width)],
        "narrow window": [window(center, max(2, span // 60))],
        "rescale and window": [ps.rescale(1.5, -20), linear_step],
        "modality table": [modality],
        "VOI table": [softcopy],
        "both tables": [modality, ps.voi_table(rising[::-1], 1000, 12)],
        "inverse": [ps.shape("INVERSE")],
        "window, inverse": [window(center, width), ps.shape("INVERSE")],
        "VOI table, inverse": [softcopy, ps.shape("INVERSE")],
        **{
            f"{count} entries of {bits} bits": [window(center, width), table]
            for (count, bits), table in tables.items()
        },
        "presentation table alone": [tables[1024, 8]],
        "three tables": [modality, ps.voi_table(rising, 1000, 12), tables[4096, 12]],
    }


# Where ours may be two levels apart from DCMTK's: it cuts off what rescale makes of 8 bits to 8
# bits, and what the window makes of that once more.
CUT_TWICE = {("8 bits", "rescale and window"), ("8 bits signed", "rescale and window")}


@needs_program("dcmp2pgm")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", FORMATS)
def test_gray_levels_agree_with_dcmtk(
    name: str, photometric: str, shown: Shown, tmp_path: Path
) -> None:
    """What the image says of its window, rescale and MONOCHROME1 counts for nothing."""
    kind, bits = FORMATS[name]
    low = -(1 << (bits - 1)) if np.issubdtype(kind, np.signedinteger) else 0
    high = low + (1 << bits) - 1
    pixels = np.linspace(low, high, 64 * 64).round().astype(kind).reshape(64, 64)
    elements = {"WindowCenter": 3, "WindowWidth": 9, "RescaleSlope": 3, "RescaleIntercept": 7}
    form = {"BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": photometric}
    ds = image(pixels, **form, **elements)
    steps = gray_steps(low, high)
    made = {f"S{number}": state(ds, *parts) for number, parts in enumerate(steps.values())}
    result = shown(IM=ds, **made)
    apart = {}
    for stem, step in zip(made, steps, strict=True):
        theirs = dcmtk_picture(tmp_path / "in" / stem, tmp_path / "in" / "IM", tmp_path / "dcmtk")
        share = share_apart(picture_of(result, stem), theirs, 1 + ((name, step) in CUT_TWICE))
        if share > 0.001:
            apart[step] = share
    assert not apart


@needs_program("dcmp2pgm")
def test_turned_pictures_agree_with_dcmtk(shown: Shown, tmp_path: Path) -> None:
    ds = noise()
    made = {f"S{number}": state(ds, turned(*turn)) for number, turn in enumerate(TURNS)}
    result = shown(IM=ds, **made)
    for stem, turn in zip(made, TURNS, strict=True):
        theirs = dcmtk_picture(tmp_path / "in" / stem, tmp_path / "in" / "IM", tmp_path / "dcmtk")
        assert share_apart(facing(whole_range(ds), *turn), theirs) == 0
        assert share_apart(picture_of(result, stem), theirs) == 0


@needs_program("dcmp2pgm")
@pytest.mark.parametrize("level", [0, 0x4000, 0xFFFF])
def test_bitmap_shutters_agree_with_dcmtk(level: int, shown: Shown, tmp_path: Path) -> None:
    """Not turned: DCMTK turns the image and leaves its bitmap shutter as it is."""
    ds = noise()
    hidden = np.random.default_rng(1).random((24, 40)) < 0.3
    covered = ps.bitmap_shutter(hidden, level)
    made = {"PLAIN": state(ds, covered), "INVERSE": state(ds, covered, ps.shape("INVERSE"))}
    result = shown(IM=ds, **made)
    for stem in made:
        theirs = dcmtk_picture(tmp_path / "in" / stem, tmp_path / "in" / "IM", tmp_path / "dcmtk")
        assert share_apart(picture_of(result, stem), theirs) == 0


@needs_program("dcmp2pgm")
def test_scopes_agree_with_dcmtk(shown: Shown, tmp_path: Path) -> None:
    first, second = noise(), noise(seed=1)
    windows = window(1000, 900, images=[first]), window(3000, 1500, images=[second])
    result = shown(B=first, A=second, STATE=state([first, second], *windows))
    assert pngs(result) == ["STATE-0001.png", "STATE-0002.png"]
    for number, (name, ds) in enumerate({"B": first, "A": second}.items(), 1):
        theirs = dcmtk_picture(tmp_path / "in" / "STATE", tmp_path / "in" / name, tmp_path / "x")
        ours = picture_of(result, f"STATE-000{number}")
        assert share_apart(ours, theirs) == 0
        center, width = ((1000, 900), (3000, 1500))[number - 1]
        assert np.abs(ours - linear(stored(ds), center, width)).max() < 0.01


@needs_program("dcmp2pgm")
def test_scopes_of_frames_agree_with_dcmtk(shown: Shown, tmp_path: Path) -> None:
    """The first window that holds for a frame counts, not the first of all; order as named."""
    rng = np.random.default_rng(0)
    ds = image(rng.integers(0, 4096, (4, 24, 40), np.uint16))
    windows = window(1000, 900, images=[(ds, [2])]), window(3000, 1500, images=[(ds, [1, 4])])
    result = shown(IM=ds, STATE=state((ds, [4, 2, 1]), *windows))
    assert pngs(result) == [f"STATE-000{number}.png" for number in (1, 2, 3)]
    for number, frame in enumerate((4, 2, 1), 1):
        paths = tmp_path / "in" / "STATE", tmp_path / "in" / "IM"
        theirs = dcmtk_picture(*paths, tmp_path / "dcmtk", frame)
        assert share_apart(picture_of(result, f"STATE-000{number}"), theirs) == 0


def from_corpus(folder: Path, *names: str) -> Path:
    """Copy files of the corpus to one folder and return that."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        found = sorted(CORPUS.rglob(name))
        (folder / name).write_bytes(found[0].read_bytes())
    return folder


@needs_corpus
@needs_program("dcmp2pgm")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("state_name", "image_name", "frames"),
    [
        ("prLUTs.dcm", "imageForPrLUTs.dcm", {"prLUTs": 1}),
        ("PS_0002", "IM_0001", {"PS_0002-0001": 9, "PS_0002-0002": 10}),
    ],
    ids=["tables", "frames"],
)
def test_real_states_agree_with_dcmtk(
    state_name: str, image_name: str, frames: dict[str, int], run: Runner, tmp_path: Path
) -> None:
    folder = from_corpus(tmp_path / "in", state_name, image_name)
    result = run(folder, "--study")
    stem = state_name.removesuffix(".dcm")
    assert pngs(result, stem) == [f"{name}.png" for name in frames]
    for name, frame in frames.items():
        paths = folder / state_name, folder / image_name
        theirs = dcmtk_picture(*paths, tmp_path / "dcmtk", frame)
        assert share_apart(picture_of(result, name), theirs) <= 0.001


@needs_corpus
@pytest.mark.filterwarnings("ignore")
def test_the_overlays_of_a_real_state_are_all_shown(run: Runner, tmp_path: Path) -> None:
    """Of the image, two of them in its pixels' words; and of the state; each on its layer."""
    folder = from_corpus(tmp_path / "in", "prOverlay.dcm", "overlay.dcm")
    ours = read_png(run(folder, "--study").output / "prOverlay.png")
    picture, shows = (pydicom.dcmread(folder / name) for name in ("overlay.dcm", "prOverlay.dcm"))
    planes = np.zeros((512, 512), bool)
    for group in range(0x6000, 0x600C, 2):
        ds = picture if group < 0x6008 else shows
        if group << 16 | 0x3000 in ds:
            bits = np.frombuffer(ds[group << 16 | 0x3000].value, np.uint8)
            plane = np.unpackbits(bits, bitorder="little")[: 512 * 512].reshape(512, 512) > 0
        else:
            position = ds[group << 16 | 0x0102].value
            plane = np.frombuffer(ds.PixelData, "<u2").reshape(512, 512) >> position & 1 > 0
        assert plane.any()
        planes |= plane
    assert ours.ndim == 2
    assert (levels(ours)[planes] == 255).all()
    below = (np.frombuffer(picture.PixelData, "<u2").reshape(512, 512) & 0xFFF) / 4095 * 255
    assert np.abs(levels(ours) - below)[~planes].max() < 0.01


# --- Gray levels that DCMTK does not have ---------------------------------------------------------


@pytest.mark.parametrize("width", [1, 10, 700])
def test_functions_of_windows(width: float, shown: Shown) -> None:
    """DCMTK takes each of them for LINEAR in states."""
    ds = image(np.arange(4096, dtype=np.uint16).reshape(64, 64), VOILUTFunction="SIGMOID")
    values = stored(ds) * 2 - 1000
    expected = {
        "LINEAR": np.where(values <= 1999.5, 0, 255.0)
        if width == 1
        else linear(values, 2000, width),
        "LINEAR_EXACT": np.clip((values - 2000) / width + 0.5, 0, 1) * 255,
        "SIGMOID": 255 / (1 + np.exp(np.clip(-4 * (values - 2000) / width, -700, 700))),
    }
    made = {
        name.replace("_", ""): state(ds, ps.rescale(2, -1000), window(2000, width, name))
        for name in expected
    }
    result = shown(IM=ds, **made)
    for name, levels_expected in expected.items():
        ours = picture_of(result, name.replace("_", ""))
        assert np.abs(ours - levels_expected).max() < 0.01, name


def test_what_a_state_lacks_is_not_taken_from_the_image(shown: Shown) -> None:
    """Its rescale, window, shutter, overlays, inversion and aspect are all replaced."""
    ds = image(
        np.random.default_rng(0).integers(0, 4096, (24, 40), np.uint16),
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
        RescaleSlope=3,
        RescaleIntercept=-1000,
        WindowCenter=100,
        WindowWidth=50,
        PixelAspectRatio=[2, 1],
    )
    for part in (
        shutter(0xFFFF, circle=(9, 9, 5)),
        overlay(np.eye(24, 40, dtype=bool), layer=None),
    ):
        ps.add(ds, part)
    result = shown(IM=ds, STATE=state(ds))
    ours = read_png(result.output / "STATE.png")
    assert ours.dtype == np.uint16
    assert np.abs(levels(ours) - whole_range(ds)).max() < 0.01


def test_functional_groups_of_the_image_count_for_nothing(shown: Shown) -> None:
    ds = image(np.random.default_rng(0).integers(0, 4096, (2, 24, 40), np.uint16))
    groups = []
    for number in range(2):
        group, values, voi = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = number + 2, 5, "US"
        voi.WindowCenter, voi.WindowWidth = 100, 50
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [values], [voi]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence, ds.SharedFunctionalGroupsSequence = groups, [Dataset()]
    result = shown(IM=ds, STATE=state((ds, [2]), window(1000, 900)))
    assert np.abs(picture_of(result) - linear(stored(ds, 1), 1000, 900)).max() < 0.01


def test_frames_that_no_state_names_are_shown_as_before(shown: Shown, tmp_path: Path) -> None:
    ds = image(np.random.default_rng(0).integers(0, 4096, (3, 24, 40), np.uint16))
    alone = shown(IM=ds, output=tmp_path / "alone")
    beside = shown(IM=ds, STATE=state((ds, [2]), window(1000, 900)))
    for suffix in ("gif", "mp4"):
        ours = (beside.output / f"IM.{suffix}").read_bytes()
        assert ours == (alone.output / f"IM.{suffix}").read_bytes()
    assert pngs(beside) == ["STATE.png"]


def test_a_modality_table_for_each_image(shown: Shown) -> None:
    """Sup 231: the step is chosen by image and frame (PS3.3 C.11.35)."""
    first = noise()
    second = image(np.random.default_rng(1).integers(0, 4096, (3, 24, 40), np.uint16))
    scopes: list[tuple[ps.Named, float, float]] = [
        (first, 2, -100),
        ((second, [1]), 3, 7),
        ((second, [2]), 1, 0),
    ]
    steps = Dataset()
    steps.VariableModalityLUTSequence = [
        ps.scoped(ps.rescale(slope, intercept), [scope]) for scope, slope, intercept in scopes
    ]
    named: list[ps.Named] = [first, (second, [1, 2])]
    parts = steps, window(3000, 4000)
    result = shown(A=first, B=second, STATE=state(named, *parts, kind=ps.VARIABLE_LUT))
    values = [stored(first) * 2 - 100, stored(second, 0) * 3 + 7, stored(second, 1)]
    for number, each in enumerate(values, 1):
        ours = picture_of(result, f"STATE-000{number}")
        assert np.abs(ours - linear(each, 3000, 4000)).max() < 0.01


def test_a_palette_of_the_state_colors_gray(shown: Shown) -> None:
    ramp = np.arange(256)
    ds = noise(WindowCenter=5, WindowWidth=9)
    colors = ps.palette(ramp, 255 - ramp, np.full(256, 99))
    result = shown(
        IM=ds, STATE=state(ds, window(2000, 3000), colors, turned(90), kind=ps.PSEUDO_COLOR)
    )
    gray = np.rot90(linear(stored(ds), 2000, 3000), -1)
    expected = np.stack([gray, 255 - gray, np.full(gray.shape, 99)], axis=2)
    assert np.abs(picture_of(result) - expected).max() <= 2


def test_colors_stay_under_a_state_of_color(shown: Shown) -> None:
    ds = image(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8), WindowWidth=9)
    turn = turned(270, True)
    parts = turn, area((5, 3, 30, 20), turn), shutter(0, LAB[RED], rectangle=(1, 40, 1, 10))
    result = shown(IM=ds, STATE=state(ds, *parts, kind=ps.COLOR))
    expected = ds.pixel_array.astype(float)
    expected[10:] = RED
    assert np.abs(picture_of(result) - facing(expected[2:20, 4:30], 270, True)).max() <= 2


def test_a_palette_of_the_state_takes_the_place_of_a_supplemental_one(shown: Shown) -> None:
    """All values go through it, and its profile is that of the PNG."""
    ds, ramp = noise(PixelPresentation="COLOR"), np.arange(256)
    entries = np.full(16, 50_000)
    own, profile = ps.palette(entries, entries, entries, 16), icc_profile(swapped=True)
    for name in ("Red", "Green", "Blue"):
        own[f"{name}PaletteColorLookupTableDescriptor"].value = [16, 2000, 16]
    ps.add(ds, own)
    colors = np.stack([ramp, 255 - ramp, ramp // 2], axis=1)
    red, green, blue = colors.T
    parts = ps.palette(red, green, blue), window(1000, 2001)
    for color in ("Red", "Green", "Blue"):  # the first value is always of the first entry
        parts[0][f"{color}PaletteColorLookupTableDescriptor"].value = [256, 77, 8]
    result = shown(IM=ds, STATE=state(ds, *parts, kind=ps.PSEUDO_COLOR, ICCProfile=profile))
    expected = colors[np.rint(linear(stored(ds), 1000, 2001)).astype(int)]
    assert np.abs(picture_of(result) - expected).max() <= 1
    with Image.open(result.output / "STATE.png") as picture:
        assert picture.info["icc_profile"] == profile


def test_a_palette_of_16_bits_keeps_them(shown: Shown) -> None:
    ds, ramp = noise(), np.linspace(0, 65535, 4096).round().astype(int)
    parts = ps.palette(ramp, ramp[::-1], ramp // 2, 16)
    result = shown(IM=ds, STATE=state(ds, parts, kind=ps.PSEUDO_COLOR))
    picture = read_png(result.output / "STATE.png")
    assert picture.dtype == np.uint16
    expected = np.stack([ramp, ramp[::-1], ramp // 2], axis=1)[stored(ds).astype(int)]
    assert np.abs(picture.astype(int) - expected).max() <= 20  # half a step of 12 bits


@pytest.mark.parametrize("kind", [ps.GRAY, ps.VARIABLE_LUT])
def test_a_gray_picture_has_no_profile_of_colors(kind: UID, shown: Shown) -> None:
    """ISO/IEC 15948 11.3.2.3 forbids it."""
    ds = noise()
    result = shown(IM=ds, STATE=state(ds, kind=kind, ICCProfile=icc_profile(swapped=True)))
    with Image.open(result.output / "STATE.png") as picture:
        assert "icc_profile" not in picture.info


def test_pixels_that_are_nearly_square_are_not_resampled(shown: Shown) -> None:
    """As those of images; the TXT and the size in mm have what is stored."""
    ds = noise()
    shape = area((1, 1, 40, 24), spacing=(0.1395, 0.1388))
    assert np.abs(picture_of(shown(IM=ds, STATE=state(ds, shape))) - whole_range(ds)).max() < 0.01


def test_one_that_cannot_be_shown_does_not_take_the_others(shown: Shown) -> None:
    """Of 32 bits there is no palette."""
    wide, ds, ramp = image(np.eye(24, 40, dtype=np.uint32)), noise(), np.arange(256)
    its_state = state([wide, ds], ps.palette(ramp, ramp, ramp), kind=ps.PSEUDO_COLOR)
    result = shown(WIDE=wide, IM=ds, STATE=its_state)
    assert pngs(result) == ["STATE-0002.png"]
    assert np.abs(picture_of(result, "STATE-0002")[..., 0] - whole_range(ds)).max() <= 0.51
    assert re.search(r"  Note +WIDE: .*bits", summary(result))


def test_one_frame_has_the_color_of_its_segment(shown: Shown) -> None:
    known: dict[str, Any] = {
        "SOPClassUID": pydicom.uid.SegmentationStorage,
        "SegmentationType": "BINARY",
        "SegmentSequence": [segment(1, [*LAB[RED]]), segment(2, [*LAB[BLUE]])],
        "PerFrameFunctionalGroupsSequence": [of_segment(number) for number in (1, 2, 1)],
    }
    ds = image(np.ones((3, 8, 8), np.uint8), **known)
    result = shown(SEG=ds, STATE=state((ds, [2, 1]), kind=ps.COLOR))
    assert_color(picture_of(result, "STATE-0001"), 4, 4, BLUE)
    assert_color(picture_of(result, "STATE-0002"), 4, 4, RED)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_table_of_the_presentation_counts_alone(depth: int, shown: Shown) -> None:
    """Whatever shape stands beside it, and whatever it says of its first value."""
    ds, ramp = noise(), np.linspace(0, 2**depth - 1, 256).astype(int)
    tabled = ps.presentation_table(ramp, depth)
    tabled.PresentationLUTSequence[0].LUTDescriptor = [256, 100, depth]
    ours = picture_of(shown(IM=ds, STATE=state(ds, tabled, PresentationLUTShape="INVERSE")))
    assert np.abs(ours - whole_range(ds)).max() < 1


# --- Displayed area -------------------------------------------------------------------------------


@every_turn
def test_the_displayed_area_is_cut_out(rotation: int, flip: bool, shown: Shown) -> None:
    ds, turn = noise(), turned(rotation, flip)
    result = shown(
        IM=ds,
        WHOLE=state(ds, turn),
        PART=state(ds, turn, area((5, 3, 30, 20), turn)),
        PIXEL=state(ds, turn, area((7, 9, 7, 9), turn)),
    )
    pixels = whole_range(ds)
    for name, part in (
        ("WHOLE", pixels),
        ("PART", pixels[2:20, 4:30]),
        ("PIXEL", pixels[8:9, 6:7]),
    ):
        expected = facing(part, rotation, flip)
        ours = picture_of(result, name)
        assert ours.shape == expected.shape, name
        assert np.abs(ours - expected).max() < 0.01, name


@every_turn
def test_a_larger_canvas_is_black_around_the_image(rotation: int, flip: bool, shown: Shown) -> None:
    ds, turn = noise(), turned(rotation, flip)
    made = {
        "AROUND": state(ds, turn, area((-3, -1, 42, 28), turn), ps.shape("INVERSE")),
        "CORNER": state(ds, turn, area((31, 21, 50, 30), turn), ps.shape("INVERSE")),
    }
    result = shown(IM=ds, **made)
    canvas = np.zeros((100, 100))
    canvas[30:54, 30:70] = 255 - whole_range(ds)  # pixel 1\1 is at [30, 30]
    for name, (left, top, right, bottom) in (
        ("AROUND", (-3, -1, 42, 28)),
        ("CORNER", (31, 21, 50, 30)),
    ):
        expected = facing(canvas[29 + top : 30 + bottom, 29 + left : 30 + right], rotation, flip)
        ours = picture_of(result, name)
        assert ours.shape == expected.shape, name
        assert np.abs(ours - expected).max() < 0.01, name


def test_the_corners_are_those_of_the_picture_named_in_the_image(shown: Shown) -> None:
    """The standard's example (PS3.3 C.10.4): 4 columns, 3 rows, turned clockwise by 90."""
    ds = noise(3, 4)
    result = shown(IM=ds, STATE=state(ds, turned(90), ps.displayed((1, 3), (4, 1))))
    assert np.abs(picture_of(result) - np.rot90(whole_range(ds), -1)).max() < 0.01


@pytest.mark.parametrize(
    ("first", "last"), [((0, 0), (40, 24)), ((0, 0), (39, 23))], ids=["ends", "indices"]
)
def test_corners_that_count_from_0_mean_the_whole_image(
    first: tuple[int, int], last: tuple[int, int], shown: Shown
) -> None:
    """As Softneta and Lunit write them."""
    ds = noise()
    ours = picture_of(shown(IM=ds, STATE=state(ds, ps.displayed(first, last))))
    assert ours.shape == (24, 40)
    assert np.abs(ours - whole_range(ds)).max() < 0.01


def quarters(rows: int = 16, columns: int = 24) -> Dataset:
    """Return a picture whose four quarters have levels of their own."""
    pixels = np.repeat(np.repeat([[400, 1200], [2400, 3600]], rows // 2, 0), columns // 2, 1)
    return image(pixels.astype(np.uint16))


def assert_quarters(ours: Array, rows: int, columns: int, rotation: int = 0) -> None:
    """Check the middle of each of the `quarters` in a picture of *rows* and *columns*."""
    assert ours.shape == (rows, columns)
    tops = np.rot90(np.array([[400, 1200], [2400, 3600]]) / 4095 * 255, -rotation // 90)
    for down, right in product((0, 1), repeat=2):
        y, x = ((1, 3)[far] * size // 4 for far, size in ((down, rows), (right, columns)))
        found = ours[y - rows // 8 : y + rows // 8, x - columns // 8 : x + columns // 8]
        assert np.abs(found - tops[down, right]).max() < 0.1


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ({"ratio": (2, 1)}, 32, 24),
        ({"ratio": (1, 2)}, 16, 48),
        ({"spacing": (0.5, 0.25)}, 32, 24),
        ({"spacing": (0.25, 0.5)}, 16, 48),
        ({"ratio": (0, 0)}, 16, 24),
        ({"spacing": (0, 0)}, 16, 24),
        ({"ratio": ()}, 16, 24),
        ({"mode": "TRUE SIZE", "spacing": (0.5, 0.5)}, 16, 24),
        ({"mode": "MAGNIFY", "magnified": 2}, 32, 48),
        ({"mode": "MAGNIFY", "magnified": 0.5}, 8, 12),
        ({"mode": "MAGNIFY", "magnified": 2, "ratio": (2, 1)}, 64, 48),
    ],
    ids=str,
)
@pytest.mark.parametrize("rotation", [0, 90])
def test_pixels_become_square_and_are_magnified(
    shape: dict[str, Any], rows: int, columns: int, rotation: int, shown: Shown
) -> None:
    """A ratio is vertical to horizontal in the image, whichever way that is turned."""
    ds, turn = quarters(), turned(rotation)
    result = shown(IM=ds, STATE=state(ds, turn, area((1, 1, 24, 16), turn, **shape)))
    size = (columns, rows) if rotation else (rows, columns)
    assert_quarters(picture_of(result), *size, rotation)


def test_the_shape_of_pixels_is_that_of_the_state(shown: Shown) -> None:
    """That of the image is for states that lack it, though they must not."""
    ds = quarters()
    ds.PixelAspectRatio = [2, 1]
    result = shown(
        IM=ds,
        SQUARE=state(ds, area((1, 1, 24, 16))),
        NONE=state(ds, area((1, 1, 24, 16), ratio=())),
    )
    assert_quarters(picture_of(result, "SQUARE"), 16, 24)
    assert_quarters(picture_of(result, "NONE"), 32, 24)


def test_each_image_has_its_own_area(shown: Shown) -> None:
    first, second = noise(), noise(seed=1)
    areas = area((5, 3, 30, 20), images=[first]), area((1, 1, 9, 9), images=[second])
    result = shown(A=first, B=second, STATE=state([first, second], *areas))
    for number, (ds, part) in enumerate(((first, np.s_[2:20, 4:30]), (second, np.s_[0:9, 0:9])), 1):
        ours = picture_of(result, f"STATE-000{number}")
        assert ours.shape == whole_range(ds)[part].shape
        assert np.abs(ours - whole_range(ds)[part]).max() < 0.01


@pytest.mark.parametrize("by", [0.5, 0.25])
def test_reduction_loses_no_line(by: float, shown: Shown) -> None:
    """One of an overlay stays whole, one of the picture is averaged with what is beside it."""
    pixels, bits = np.zeros((64, 64), np.uint16), np.zeros((64, 64), bool)
    pixels[:, 21], bits[:, 33], bits[41] = 4095, True, True
    ds = image(pixels)
    parts = area((1, 1, 64, 64), magnified=by), layer("LAYER", 1, gray=0xFFFF), overlay(bits)
    ours = picture_of(shown(IM=ds, STATE=state(ds, *parts)))
    assert ours.shape == (64 * by, 64 * by)
    expected = np.zeros((int(64 * by), int(64 * by)))
    expected[:, int(21 * by)] = 255 * by
    expected[:, int(33 * by)] = expected[int(41 * by)] = 255
    assert np.abs(ours - expected).max() <= 0.51


def test_magnification_is_that_of_its_mode(shown: Shown) -> None:
    ds = noise()
    fitted = area((1, 1, 40, 24))
    fitted.DisplayedAreaSelectionSequence[0].PresentationPixelMagnificationRatio = 3.0
    assert picture_of(shown(IM=ds, STATE=state(ds, fitted))).shape == (24, 40)


@pytest.mark.parametrize("last", [(600, 600), (16_384, 8192)], ids=["beside", "large"])
def test_an_area_out_of_proportion_is_the_whole_image(last: tuple[int, int], shown: Shown) -> None:
    ds = noise()
    first = (500, 500) if last == (600, 600) else (1, 1)
    result = shown(IM=ds, STATE=state(ds, ps.displayed(first, last)))
    ours = picture_of(result)
    assert ours.shape == (24, 40)
    assert np.abs(ours - whole_range(ds)).max() < 0.01
    assert re.search(r"  Note +the displayed area .*whole image", summary(result))


def test_a_rotation_that_is_no_quarter_is_told(shown: Shown) -> None:
    ds = noise()
    result = shown(IM=ds, STATE=state(ds, ImageRotation=45))
    assert np.abs(picture_of(result) - whole_range(ds)).max() < 0.01
    assert re.search(r"  Note +a rotation by 45 degrees was left out", summary(result))


def test_an_empty_scope_is_that_of_all(shown: Shown) -> None:
    ds = flat()
    parts = window(2000, 1000), area((5, 5, 44, 44)), annotation("L", square(20, 16))
    its_state = state(ds, *parts)
    for name in ("SoftcopyVOILUT", "DisplayedAreaSelection", "GraphicAnnotation"):
        its_state[f"{name}Sequence"].value[0].ReferencedImageSequence = []
    ours = picture_of(shown(IM=ds, STATE=its_state))
    assert ours.shape[:2] == (40, 40)
    assert_color(ours, 24, 20, YELLOW)
    assert_color(ours, 2, 2, [float(linear(np.array(2048), 2000, 1000))] * 3, 1)


# --- Shutters -------------------------------------------------------------------------------------

Y, X = np.mgrid[1:25, 1:41]  # rows and columns of `noise` as DICOM counts them
SHUTTERS: dict[str, tuple[dict[str, Sequence[int]], Array]] = {  # what is seen: above 0
    "rectangle": (
        {"rectangle": (8, 25, 6, 15)},
        np.minimum(np.minimum(X - 7.5, 25.5 - X), np.minimum(Y - 5.5, 15.5 - Y)),
    ),
    "circle": ({"circle": (12, 20, 8)}, 8 - np.hypot(Y - 12, X - 20)),
    "polygon": (
        {"polygon": (4, 4, 4, 36, 20, 20)},
        np.minimum(Y - 4, np.minimum(4 + X - 4 - Y, 40 - X - Y) / np.sqrt(2)),
    ),
}
SHUTTERS["rectangle and circle"] = (
    SHUTTERS["rectangle"][0] | SHUTTERS["circle"][0],
    np.minimum(SHUTTERS["rectangle"][1], SHUTTERS["circle"][1]),
)


@pytest.mark.parametrize("name", SHUTTERS)
def test_shutters_hide_in_the_gray_of_the_state(name: str, shown: Shown) -> None:
    """They lie on the image, and turn with it; what several shapes leave is where they meet."""
    shapes, inside = SHUTTERS[name]
    ds, turn = noise(), turned(90, True)
    covered = shutter(0x8000, **shapes)
    ps.add(ds, shutter(0, rectangle=(1, 3, 1, 3)))  # its own, which counts for nothing
    result = shown(
        IM=ds,
        PLAIN=state(ds, covered),
        TURNED=state(ds, covered, turn, area((5, 3, 30, 20), turn), ps.shape("INVERSE")),
    )
    pixels = whole_range(ds)
    for stem, place, picture in (
        ("PLAIN", lambda each: each, pixels),
        ("TURNED", lambda each: facing(each[2:20, 4:30], 90, True), 255 - pixels),
    ):
        ours, depth = picture_of(result, stem), place(inside)
        assert np.abs(ours - place(picture))[depth >= 0.5].max() < 0.01
        assert np.abs(ours - 0x8000 / 65535 * 255)[depth <= -0.9].max() < 0.01


def test_a_bitmap_shutter_turns_with_the_image(shown: Shown) -> None:
    ds, turn = noise(), turned(90)
    hidden = np.random.default_rng(1).random((24, 40)) < 0.3
    parts = ps.bitmap_shutter(hidden, 0xFFFF), turn, area((5, 3, 30, 20), turn)
    expected = facing(np.where(hidden, 255, whole_range(ds))[2:20, 4:30], 90, False)
    ours = picture_of(shown(IM=ds, STATE=state(ds, *parts)))
    assert np.abs(ours - expected).max() < 0.01


def test_the_group_of_a_bitmap_shutter_is_no_overlay(shown: Shown) -> None:
    """Though it is activated."""
    ds, hidden = noise(), planes(1)[0]
    both = ps.bitmap_shutter(hidden, 0x4000), overlay(None), layer("LAYER", 1, gray=0xFFFF)
    ours = picture_of(shown(IM=ds, STATE=state(ds, *both)))
    expected = np.where(hidden, 0x4000 / 65535 * 255, whole_range(ds))
    assert np.abs(ours - expected).max() < 0.01


# --- Overlays -------------------------------------------------------------------------------------


def planes(count: int) -> Array:
    """Return planes of bits that all differ, for `noise`."""
    return np.random.default_rng(7).random((count, 24, 40)) < 0.2


def with_embedded(ds: Dataset, plane: Array, group: int = 0x6000, position: int = 15) -> Dataset:
    """Put *plane* into the words of the pixels of *ds*."""
    words = ds.pixel_array | (plane.astype(np.uint16) << position)
    ds.PixelData = words.astype("<u2").tobytes()
    part = overlay(plane, group, layer=None)
    del part[group << 16 | 0x3000]
    part[group << 16 | 0x0100].value, part[group << 16 | 0x0102].value = 16, position
    ps.add(ds, part)
    return ds


@dataclass(frozen=True)
class Activation:
    """Whose planes an image and a state have, on which layer, and which is shown: None for none."""

    own: int | None = None  # of the state
    of_image: int | None = None
    embedded: int | None = None
    layer: str | None = "LAYER"
    expected: int | None = None


ACTIVATIONS = {
    "of the state": Activation(own=0, expected=0),
    "of the image": Activation(of_image=1, expected=1),
    "in the words of the pixels": Activation(embedded=2, expected=2),
    "of the state before that of the image": Activation(own=0, of_image=1, expected=0),
    "of the state before one in the pixels": Activation(own=0, embedded=2, expected=0),
    "on no layer": Activation(own=0, layer=None),
    "of the image, on no layer": Activation(of_image=1, layer=None),
    "on an empty layer": Activation(own=0, of_image=1, layer=""),
    "in the pixels, on an empty layer": Activation(embedded=2, layer=""),
    "of nobody": Activation(),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_overlays_are_shown_where_a_layer_activates_them(name: str, shown: Shown) -> None:
    case, bits = ACTIVATIONS[name], planes(3)
    ds = noise()
    pixels = whole_range(ds)
    if case.of_image is not None:
        ps.add(ds, overlay(bits[case.of_image], layer=None))
    if case.embedded is not None:
        with_embedded(ds, bits[case.embedded])
    own = overlay(None if case.own is None else bits[case.own], layer=case.layer)
    result = shown(IM=ds, STATE=state(ds, layer("LAYER", 1, gray=0x8000), own))
    ours = read_png(result.output / "STATE.png")
    expected = pixels if case.expected is None else np.where(bits[case.expected], 127.5, pixels)
    assert ours.ndim == 2
    assert np.abs(levels(ours) - expected).max() <= 0.51  # colors have 8 bits


@every_turn
def test_overlays_lie_on_the_image(rotation: int, flip: bool, shown: Shown) -> None:
    """Smaller ones, and such as leave it, at their origin; turned and cut out with it."""
    ds, turn, bits = noise(), turned(rotation, flip), planes(1)[0]
    parts = turn, area((-3, -1, 30, 20), turn), layer("LAYER", 1, gray=0xFFFF)
    drawn = overlay(bits, origin=(-4, 11)), overlay(bits[:5, :7], 0x601E, origin=(3, 4))
    result = shown(IM=ds, STATE=state(ds, *parts, *drawn))
    canvas = np.zeros((100, 100))
    canvas[30:54, 30:70] = whole_range(ds)
    canvas[25:49, 40:80][bits] = 255
    canvas[32:37, 33:40][bits[:5, :7]] = 255
    outside = np.ones((100, 100), bool)
    outside[30:54, 30:70] = False
    expected, beyond = (facing(each[28:50, 26:60], rotation, flip) for each in (canvas, outside))
    ours = picture_of(result)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected)[~beyond].max() < 0.01


def overlay_of_frames(bits: Array, origin: int | None, layer: str | None = "LAYER") -> Dataset:
    """Return an overlay of a plane for each frame from *origin* on, from 1."""
    part = overlay(bits[0], layer=layer)
    part[0x60003000].value = np.packbits(bits.ravel(), bitorder="little").tobytes()
    part.add_new(0x60000015, "IS", str(len(bits)))
    if origin:
        part.add_new(0x60000051, "US", origin)
    return part


@pytest.mark.parametrize("of_image", [True, False], ids=["of the image", "of the state"])
@pytest.mark.parametrize("origin", [None, 1, 2])
def test_one_frame_of_a_clip_has_its_own_plane(
    of_image: bool, origin: int | None, shown: Shown
) -> None:
    ds, bits = image(np.full((4, 24, 40), 1000, np.uint16)), planes(4)
    own = overlay_of_frames(bits[: 5 - (origin or 1)], origin, None if of_image else "LAYER")
    if of_image:
        ps.add(ds, own)
        own = overlay(None)
    parts = layer("LAYER", 1, gray=0xFFFF), own
    result = shown("--no-gif", "--no-mp4", IM=ds, STATE=state((ds, [4, 3, 1]), *parts))
    for number, frame in enumerate((4, 3, 1), 1):
        at = frame - (origin or 1)
        expected = np.where(bits[at], 255, 1000 / 4095 * 255) if at >= 0 else whole_range(ds)
        ours = picture_of(result, f"STATE-{number:04}")
        assert np.abs(ours - expected).max() <= 0.51, frame


def test_a_large_overlay_of_little_data_costs_little(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds, part = flat(8, 8), overlay(np.ones((8, 8), bool))
    part[0x60000010].value = part[0x60000011].value = 16_384
    sizes, unpacked = [], dc.unpacked_bits

    def counted(raw: bytes, start: int, size: int) -> Array:
        sizes.append(size)
        return unpacked(raw, start, size)

    monkeypatch.setattr(dc, "unpacked_bits", counted)
    result = shown(IM=ds, STATE=state(ds, layer("LAYER", 1, gray=0xFFFF), part))
    ours = picture_of(result)
    assert (ours[0] == 255).all()
    assert np.abs(ours[1:] - whole_range(ds)[1:]).max() <= 0.51
    assert sizes
    assert max(sizes) <= 16_384


# --- Layers ---------------------------------------------------------------------------------------


def square(x: float, y: float, size: float = 16, **kind: Any) -> Dataset:
    """Return a filled square on the image."""
    ends = [(x, y), (x + size, y), (x + size, y + size), (x, y + size), (x, y)]
    return figure("POLYLINE", ends, filled=True, **kind)


def assert_color(picture: Array, x: int, y: int, color: Sequence[float], bound: float = 12) -> None:
    """Check the color of *picture* at a pixel."""
    found = colored(picture)[y, x]
    assert np.abs(found - color).max() <= bound, (found, color)


@pytest.mark.parametrize(
    ("colors", "own", "expected"),
    [
        ({}, (), YELLOW),
        ({"gray": 0xFFFF}, (), (255, 255, 255)),
        ({"gray": 0x8000}, (), (127.5, 127.5, 127.5)),
        ({"rgb": (0xFFFF, 0, 0)}, (), RED),
        ({"gray": 0x8000, "rgb": (0, 0xFFFF, 0)}, (), GREEN),
        ({"gray": 0x8000, "rgb": (0, 0xFFFF, 0), "lab": LAB[BLUE]}, (), BLUE),
        ({"lab": LAB[RED]}, (), RED),
        ({"lab": LAB[YELLOW]}, (), YELLOW),
        ({"gray": 0x8000, "rgb": (0, 0xFFFF, 0), "lab": LAB[BLUE]}, LAB[RED], RED),
        ({"gray": 0x8000}, LAB[GREEN], GREEN),
        ({}, LAB[GREEN], GREEN),
    ],
    ids=str,
)
def test_the_color_of_a_figure(
    colors: dict[str, Any], own: Sequence[int], expected: Sequence[float], shown: Shown
) -> None:
    """Of its own line, else CIELab, RGB, gray of its layer, else yellow."""
    ds = flat()
    parts = layer("L", 1, **colors), annotation("L", square(20, 16, lab=own))
    result = shown(IM=ds, STATE=state(ds, *parts))
    raw = read_png(result.output / "STATE.png")
    is_gray = len(set(expected)) == 1
    assert raw.ndim == (2 if is_gray else 3)
    assert raw.dtype == np.uint16 or not is_gray
    assert_color(levels(raw), 28, 24, expected)
    assert_color(levels(raw), 60, 44, [127.5] * 3, 1)


@pytest.mark.parametrize(
    ("style", "inside", "line"),
    [
        ({"lab": LAB[RED]}, RED, RED),
        ({"lab": LAB[RED], "fill": LAB[GREEN]}, GREEN, RED),
        ({"lab": LAB[RED], "fill": LAB[GREEN], "fill_opacity": 0.25}, [95.6, 159.4, 95.6], RED),
        ({"lab": LAB[RED], "fill": LAB[GREEN], "fill_opacity": 0.0}, [127.5] * 3, RED),
        ({"lab": LAB[RED], "fill": LAB[GREEN], "opacity": 0.0}, GREEN, GREEN),
        ({"fill": LAB[BLUE], "opacity": float("nan")}, BLUE, YELLOW),
        ({"lab": LAB[RED], "opacity": 0.0, "fill_opacity": 0.0, "fill": LAB[RED]}, None, None),
    ],
    ids=str,
)
def test_how_much_a_figure_hides(
    style: dict[str, Any], inside: Any, line: Any, shown: Shown
) -> None:
    """What fills it has a color and an opacity of its own (PS3.3 C.10.5.1.2)."""
    ds, points = flat(), [(20, 16), (44, 16), (44, 32), (20, 32), (20, 16)]
    item = annotation("L", figure("POLYLINE", points, filled=True, **style))
    ours = picture_of(shown(IM=ds, STATE=state(ds, item)))
    if inside is None:
        assert np.abs(ours - 127.5).max() < 1
        return
    assert_color(ours, 32, 24, inside, 2)
    assert np.abs(colored(ours)[15:17, 32] - line).max(axis=1).min() < 110  # a thin line
    assert_color(ours, 4, 4, [127.5] * 3, 1)


def test_a_layer_that_is_not_described_comes_last(shown: Shown) -> None:
    ds = flat()
    undescribed = annotation("UNKNOWN", square(20, 16))
    known = layer("L", 9, rgb=(0xFFFF, 0, 0)), annotation("L", square(28, 16))
    ds_state = state(ds, undescribed, *known)
    kept = [one for one in ds_state.GraphicLayerSequence if one.GraphicLayer == "L"]
    ds_state.GraphicLayerSequence = kept
    ours = picture_of(shown(IM=ds, STATE=ds_state))
    assert_color(ours, 31, 24, YELLOW)
    assert_color(ours, 40, 24, RED)


@pytest.mark.parametrize("reverse", [False, True])
def test_higher_layers_cover_lower_ones(reverse: bool, shown: Shown) -> None:
    """By their order, which is not that in which they, or what is on them, stand in the file."""
    ds = flat()
    described = [layer("HIGH", 20, lab=LAB[RED]), layer("LOW", -3, lab=LAB[GREEN])]
    drawn = [annotation("HIGH", square(20, 16)), annotation("LOW", square(28, 16))]
    order = slice(None, None, -1 if reverse else 1)
    ours = picture_of(shown(IM=ds, STATE=state(ds, *described[order], *drawn[order])))
    assert_color(ours, 24, 24, RED)
    assert_color(ours, 32, 24, RED)
    assert_color(ours, 40, 24, GREEN)


def test_figures_cover_overlays_of_their_layer_and_overlays_those_of_lower_ones(
    shown: Shown,
) -> None:
    ds, everywhere = flat(), np.ones((48, 64), bool)
    left = everywhere.copy()
    left[:, 32:] = False
    parts = [
        layer("LOW", 1, lab=LAB[RED]),
        layer("MIDDLE", 2, lab=LAB[GREEN]),
        layer("HIGH", 3, lab=LAB[BLUE]),
        overlay(everywhere, 0x6000, "MIDDLE"),
        overlay(left, 0x6002, "HIGH"),
        annotation("LOW", square(40, 4)),
        annotation("MIDDLE", square(40, 26, lab=LAB[YELLOW]), square(24, 26)),
        annotation("HIGH", square(4, 4, lab=LAB[RED])),
    ]
    ours = picture_of(shown(IM=ds, STATE=state(ds, *parts)))
    assert_color(ours, 48, 12, GREEN)  # what is on LOW lies under the overlay of MIDDLE
    assert_color(ours, 48, 34, YELLOW)  # what is on MIDDLE over it
    assert_color(ours, 28, 34, BLUE)  # but under that of HIGH
    assert_color(ours, 12, 12, RED)
    assert_color(ours, 12, 40, BLUE)


def test_texts_cover_figures_of_their_layer(shown: Shown) -> None:
    """Also where they stand before them in the file."""
    ds = flat(32, 64)
    text = annotation("L", words("IIII", box=((8, 8), (56, 16))))
    below = annotation("L", square(2, 2, 28, lab=LAB[BLUE]))
    result = shown(IM=ds, STATE=state(ds, text, below), ALONE=state(ds, text))
    ours = picture_of(result)
    assert_color(ours, 24 * 8, 28 * 8, BLUE)
    letters = ink_of(picture_of(result, "ALONE")) > 0.9
    assert letters.any()
    assert (ink_of(ours)[letters] > 0.8).all()


def test_annotations_are_for_the_images_that_they_name(shown: Shown) -> None:
    first = flat()
    second = image(np.full((3, 48, 64), 2048, np.uint16))
    drawn = [
        annotation("L", square(4, 4), images=[first]),
        annotation("L", square(40, 4), images=[(second, [3])]),
        annotation("L", square(22, 26)),
    ]
    named: list[ps.Named] = [first, (second, [1, 3])]
    result = shown(A=first, B=second, STATE=state(named, *drawn))
    for number, here in ((1, (12, 12)), (2, None), (3, (48, 12))):
        ours = picture_of(result, f"STATE-000{number}")
        assert_color(ours, 30, 34, YELLOW)
        for place in ((12, 12), (48, 12)):
            assert_color(ours, *place, YELLOW if place == here else [127.5] * 3)


# --- Figures --------------------------------------------------------------------------------------

Points = Array  # (n, 2): x, y
Place = Callable[[Points], Points]  # from where a figure is given to pixels of the picture
ROWS, COLUMNS = 48, 64


@dataclass(frozen=True)
class Geometry:
    """How the picture of a state lies to an image of `ROWS` and `COLUMNS`."""

    rotation: int
    flip: bool
    cropped: bool
    tall: bool  # pixels, twice as high as wide

    @property
    def name(self) -> str:
        """A name for a file."""
        return f"T{self.rotation}{'F' * self.flip}{'C' * self.cropped}{'H' * self.tall}"

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """The displayed area in pixels from 1."""
        return (9, 5, 56, 44) if self.cropped else (1, 1, COLUMNS, ROWS)

    @property
    def parts(self) -> tuple[Dataset, Dataset]:
        """What says so in a state."""
        turn = turned(self.rotation, self.flip)
        return turn, area(self.rectangle, turn, ratio=(2, 1) if self.tall else (1, 1))

    def size(self) -> tuple[int, int]:
        """Return the width and the height of the picture."""
        left, top, right, bottom = self.rectangle
        size = right + 1 - left, (bottom + 1 - top) * (1 + self.tall)
        return size if self.rotation % 180 == 0 else size[::-1]

    def seen(self, points: Points) -> Points:
        """Return where points of the image, from its outer corner, lie in the picture."""
        left, top, right, bottom = self.rectangle
        x, y = points[:, 0] - (left - 1), (points[:, 1] - (top - 1)) * (1 + self.tall)
        width, height = right + 1 - left, (bottom + 1 - top) * (1 + self.tall)
        for _ in range(self.rotation // 90):
            x, y, width, height = height - y, x, height, width
        return np.stack([width - x if self.flip else x, y], axis=1)

    def place(self, units: str) -> Place:
        """Return how points in *units* come to the picture."""
        return self.seen if units == "PIXEL" else lambda points: points * self.size()


GEOMETRIES = [
    Geometry(*turn, cropped, tall)
    for turn, cropped, tall in product(TURNS, (False, True), (False, True))
]


def along(points: Points) -> Points:
    """Return points at most half a pixel apart on the lines through *points*."""
    parts = [
        np.linspace(start, end, 2 + int(2 * np.hypot(*(end - start))))
        for start, end in pairwise(points)
    ]
    return np.concatenate(parts)


def ellipse(points: Points) -> Points:
    """Return points on the ellipse through the ends of two axes, also where it was sheared."""
    center, angle = points.mean(axis=0), np.linspace(0, 2 * np.pi, 241)[:, np.newaxis]
    first, second = (points[1] - points[0]) / 2, (points[3] - points[2]) / 2
    return np.asarray(center + first * np.cos(angle) + second * np.sin(angle))


def circle(points: Points) -> Points:
    """Return points on the circle about the first of two points through the second."""
    radius = np.hypot(*(points[1] - points[0]))
    return ellipse(points[0] + radius * np.array([(-1, 0), (1, 0), (0, -1), (0, 1)]))


def around(count: int, turn: float = 360, center: tuple[float, float] = (32.3, 24.2)) -> Points:
    """Return points of a circle on the image, all around or of a part of it."""
    angle = np.radians(np.linspace(0, turn, count))
    return np.stack([center[0] + 11 * np.cos(angle), center[1] + 11 * np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Figure:
    """A graphic object, in pixels of the image, and where its line is in the picture."""

    kind: str
    points: Sequence[tuple[float, float]] | Points
    line: Callable[[Points, Place], Points]
    filled: bool = False
    sure: tuple[int, int | None] = 0, None  # the part of the line that is certain
    loose: float = 2  # px about the line where there may be ink

    def at(self, units: str) -> Points:
        """Return the points in *units*."""
        return np.asarray(np.array(self.points) / ([1, 1] if units == "PIXEL" else [COLUMNS, ROWS]))


def straight(points: Points, place: Place) -> Points:
    return along(place(points))


def round_about(points: Points, place: Place) -> Points:
    return circle(place(points))


def oblong(points: Points, place: Place) -> Points:
    return ellipse(place(points))


def through(points: Points, place: Place) -> Points:
    """Return the curve through points that lie on a circle of the image, all or half of it."""
    turn = 360 if np.allclose(points[0], points[-1]) else 180
    unit = 1 if points.max() > 1 else [COLUMNS, ROWS]
    return place(np.asarray(around(361, turn) / unit))


TRIANGLE = [(14.5, 10.5), (44.5, 12.5), (50.5, 36.5), (14.5, 10.5)]
OBLIQUE = [(18.5, 18.5), (46.5, 32.5), (35.5, 19.5), (29.5, 31.5)]
FIGURES = {
    "point": Figure("POINT", [(30.5, 20.5)], lambda points, place: place(points), loose=9),
    "open polyline": Figure("POLYLINE", TRIANGLE[:3], straight),
    "closed polyline": Figure("POLYLINE", TRIANGLE, straight),
    "filled polyline": Figure("POLYLINE", TRIANGLE, straight, filled=True),
    "open curve": Figure("INTERPOLATED", around(5, 180), through, sure=(90, 271), loose=4.5),
    "closed curve": Figure("INTERPOLATED", around(7), through, loose=2.5),
    "filled curve": Figure("INTERPOLATED", around(7), through, filled=True, loose=2.5),
    "circle": Figure("CIRCLE", [(32.5, 24.5), (38.5, 30.5)], round_about),
    "filled circle": Figure("CIRCLE", [(32.5, 24.5), (38.5, 30.5)], round_about, filled=True),
    "oblique ellipse": Figure("ELLIPSE", OBLIQUE, oblong),
    "filled ellipse": Figure("ELLIPSE", OBLIQUE, oblong, filled=True),
    "ellipse, minor axis first": Figure("ELLIPSE", OBLIQUE[2:] + OBLIQUE[:2], oblong),
}


def ink_of(picture: Array) -> Array:
    """Return how yellow each pixel is, 0..1."""
    picture = colored(picture)
    return np.asarray(np.clip(picture[..., :2].min(axis=2) - picture[..., 2], 0, 255) / 255)


def nearby(values: Array, points: Points) -> Array:
    """Return the highest of *values* in the 3 x 3 pixels about each of *points* that is inside."""
    rows, columns = values.shape
    inside = points[((points >= 0) & (points < [columns, rows])).all(axis=1)].astype(int)
    highest = cv2.dilate(values, np.ones((3, 3), np.uint8))
    return np.asarray(highest[inside[:, 1], inside[:, 0]])


def distances(size: tuple[int, int], line: Points) -> Array:
    """Return how far the centers of pixels are from *line*, (height, width), to a quarter px."""
    fine, (width, height) = 4, size
    blank = np.ones((fine * height, fine * width), np.uint8)
    inside = line[((line >= 0) & (line < size)).all(axis=1)]
    x, y = (inside * fine).astype(int).T
    blank[y, x] = 0
    found = cv2.distanceTransform(blank, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / fine
    return np.asarray(found[fine // 2 :: fine, fine // 2 :: fine])


def fault_of(picture: Array, size: tuple[int, int], line: Points, drawn: Figure) -> str:
    """Say what is wrong with a figure on a flat picture, "" for nothing."""
    if picture.shape != (size[1], size[0], 3):
        return f"the picture is {picture.shape}"
    ink, away = ink_of(picture), distances(size, line)
    inside = np.zeros(away.shape, np.uint8)
    if drawn.filled:
        cv2.fillPoly(inside, [np.rint(line * 16 - 8).astype(np.int32)], 1, shift=4)
    untouched = np.abs(picture - 127.5).max(axis=2) < 1
    near = (away < 3) & (inside == 0)
    faults = {
        "no line at": (nearby(ink, line[slice(*drawn.sure)]) < 0.3).any(),
        "ink elsewhere": (ink[(away > drawn.loose) & (inside == 0)] > 0.1).any(),
        "touched elsewhere": (~untouched[(away > drawn.loose + 4) & (inside == 0)]).any(),
        "not filled": (ink[(away > 2) & (inside > 0)] < 0.9).any(),
        "no halo": not (picture[near].max(axis=1) < 90).any(),
    }
    return ", ".join(fault for fault, is_so in faults.items() if is_so)


@pytest.mark.parametrize("units", ["PIXEL", "DISPLAY"])
@pytest.mark.parametrize("name", FIGURES)
def test_figures_lie_where_they_should(name: str, units: str, shown: Shown) -> None:
    """Turned, flipped, cut out and on pixels that are not square, in each combination."""
    drawn, ds = FIGURES[name], flat()
    points = drawn.at(units)
    given = [(float(x), float(y)) for x, y in points]
    item = partial(figure, drawn.kind, given, units, filled=drawn.filled)
    made = {each.name: state(ds, *each.parts, annotation("L", item())) for each in GEOMETRIES}
    result = shown(IM=ds, **made)
    faults = {}
    for each in GEOMETRIES:
        line = drawn.line(points, each.place(units))
        if fault := fault_of(picture_of(result, each.name), each.size(), line, drawn):
            faults[each.name] = fault
    assert not faults


@pytest.mark.parametrize("by", [0.5, 3])
def test_figures_lie_where_they_should_when_magnified(by: float, shown: Shown) -> None:
    ds, drawn = flat(), FIGURES["closed polyline"]
    points = drawn.at("PIXEL")
    magnified = area((9, 5, 56, 44), magnified=by)
    item = annotation("L", figure("POLYLINE", TRIANGLE))
    ours = picture_of(shown(IM=ds, STATE=state(ds, magnified, item)))
    line = along((points - [8, 4]) * by)
    assert not fault_of(ours, (round(48 * by), round(40 * by)), line, drawn)


def test_lines_are_as_thick_as_the_picture_is_large(shown: Shown) -> None:
    """One pixel for each 512 of the longer side, rounded; at least one."""
    for by, thickness in ((1, 1), (24, 3)):
        ds = flat(32, 64)
        item = annotation("L", figure("POLYLINE", [(32, 8), (32, 24)]))
        result = shown(IM=ds, STATE=state(ds, area((1, 1, 64, 32), magnified=by), item))
        ink = ink_of(picture_of(result))
        # smooth lines of OpenCV are up to two pixels wider than asked for, but for the thinnest
        across = ink[16 * by].sum()
        assert thickness - 0.5 <= across <= thickness + (0.5 if thickness == 1 else 2.5)


def test_compound_graphics_are_drawn_as_their_simple_ones(shown: Shown) -> None:
    """Each has simple objects that say the same (PS3.3 C.10.5.1.3), or it would be drawn twice."""
    ds = flat()
    item = annotation("L", figure("POLYLINE", TRIANGLE))
    compound = Dataset()
    compound.CompoundGraphicType, compound.CompoundGraphicUnits = "RECTANGLE", "PIXEL"
    compound.CompoundGraphicInstanceID, compound.GraphicDimensions = 1, 2
    compound.NumberOfGraphicPoints, compound.GraphicFilled = 2, "N"
    compound.GraphicData = [40.0, 40.0, 60.0, 46.0]
    plain = state(ds, item)
    item.GraphicAnnotationSequence[0].CompoundGraphicSequence = [compound]
    item.GraphicAnnotationSequence[0].GraphicObjectSequence[0].CompoundGraphicInstanceID = 1
    result = shown(IM=ds, PLAIN=plain, STATE=state(ds, item))
    assert (picture_of(result) == picture_of(result, "PLAIN")).all()
    assert ink_of(picture_of(result)).any()


def test_an_open_line_is_not_filled(shown: Shown) -> None:
    ds = flat()
    open_line = figure("POLYLINE", [(10, 10), (50, 10), (50, 40), (10, 40)], filled=True)
    ours = picture_of(shown(IM=ds, STATE=state(ds, annotation("L", open_line))))
    assert_color(ours, 30, 25, [127.5] * 3, 1)
    assert ink_of(ours)[25, 49:51].max() > 0.5


def test_figures_on_all_of_a_slide_are_left_out(shown: Shown) -> None:
    ds = flat()
    matrix = figure("POLYLINE", [(10, 10), (50, 10)], "MATRIX")
    result = shown(IM=ds, STATE=state(ds, annotation("L", matrix, square(20, 26))))
    ink = ink_of(picture_of(result))
    assert ink[34, 28] > 0.9
    assert ink[:20].max() < 0.1
    assert re.search(r"  Note +a figure was left out", summary(result))


def test_a_line_has_its_own_thickness(shown: Shown) -> None:
    ds, across = flat(), []
    for thickness in (1.0, 3.0):
        line = figure("POLYLINE", [(32, 8), (32, 40)], lab=LAB[YELLOW])
        line.LineStyleSequence[0].LineThickness = thickness
        result = shown(IM=ds, STATE=state(ds, annotation("L", line)))
        across.append(ink_of(picture_of(result))[24].sum())
    assert across[1] >= across[0] + 1.5


def test_a_closed_curve_is_smooth_where_it_closes(shown: Shown) -> None:
    """There it is as round as at its other points: it looks alike from all four sides."""
    points = [(49.5, 32.5), (32.5, 49.5), (15.5, 32.5), (32.5, 15.5), (49.5, 32.5)]
    ds = flat(64, 64)
    curve = annotation("L", figure("INTERPOLATED", points))
    ours = ink_of(picture_of(shown(IM=ds, STATE=state(ds, curve))))
    ours = ours[: 2 * 32 + 1, : 2 * 32 + 1]
    for turn in range(1, 4):
        turned_ink = np.rot90(np.pad(ours, ((0, 1), (0, 1))), turn)  # about (32.5, 32.5)
        near = cv2.dilate(np.ascontiguousarray(turned_ink), np.ones((3, 3), np.uint8))
        assert (near[:64, :64][ours > 0.6] > 0.3).all()


def test_a_compound_figure_without_simple_ones_is_told(shown: Shown) -> None:
    ds, said = flat(), {}
    for number in (1, 2):
        item = annotation("L", figure("POLYLINE", TRIANGLE))
        note = item.GraphicAnnotationSequence[0]
        compound = Dataset()
        compound.CompoundGraphicType, compound.CompoundGraphicInstanceID = "RULER", number
        note.CompoundGraphicSequence = [compound]
        note.GraphicObjectSequence[0].CompoundGraphicInstanceID = 1
        said[number] = summary(shown(IM=ds, STATE=state(ds, item)))
    assert "compound" not in said[1]
    assert re.search(r"  Note +a compound figure was left out", said[2])


# --- Texts ----------------------------------------------------------------------------------------


def extent(ink: Array) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom of what is inked."""
    y, x = np.nonzero(ink > 0.5)
    assert x.size, "there is no ink"
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


@pytest.mark.parametrize(("side", "factor"), [(16, 32), (60, 9), (512, 1), (520, 1)])
def test_small_pictures_with_texts_are_enlarged(side: int, factor: int, shown: Shown) -> None:
    """By the least whole factor that reaches 512, so that texts can be read."""
    ds = flat(side // 4, side)
    text = annotation("L", words("I", box=((1, 1), (9, 4))))
    line = annotation("L", figure("POINT", [(2, 2)]))
    result = shown(IM=ds, TEXT=state(ds, text), LINE=state(ds, line))
    assert picture_of(result, "TEXT").shape[:2] == (side // 4 * factor, side * factor)
    assert picture_of(result, "LINE").shape[:2] == (side // 4, side)


@pytest.mark.parametrize("units", ["PIXEL", "DISPLAY"])
@pytest.mark.parametrize("justified", ["LEFT", "CENTER", "RIGHT"])
def test_texts_stand_in_their_box(justified: str, units: str, shown: Shown) -> None:
    ds = flat(32, 64)
    box = ((8, 8), (56, 16)) if units == "PIXEL" else ((0.125, 0.25), (0.875, 0.5))
    text = words("II", box=box, justified=justified, units=units)
    ink = ink_of(picture_of(shown(IM=ds, STATE=state(ds, annotation("L", text)))))
    assert ink.shape == (256, 512)
    left, top, right, bottom = extent(ink)
    assert left >= 64 - 2
    assert right <= 448 + 2
    assert top >= 64 - 2
    assert top < 128
    assert bottom <= 128 + 24
    gaps = left - 64, 448 - right
    near = {"LEFT": gaps[0], "RIGHT": gaps[1], "CENTER": abs(gaps[0] - gaps[1]) / 2}[justified]
    assert near < 40
    assert right - left < 200


@every_turn
def test_texts_can_be_read_however_the_image_is_turned(
    rotation: int, flip: bool, shown: Shown
) -> None:
    """The box of one that is on the image turns with it, its letters do not."""
    ds, turn = flat(32, 32), turned(rotation, flip)
    fixed = annotation("L", words("FLR 7", box=((0.2, 0.1), (0.8, 0.3)), units="DISPLAY"))
    ends = [(float(x), float(y)) for x, y in ps.corners((4, 14, 12, 22), rotation, flip)]
    on_image = annotation("L", words("F", box=(ends[0], ends[1])))
    upright = annotation("L", words("F", box=((4, 14), (12, 22))))
    result = shown(
        IM=ds,
        FIXED=state(ds, fixed),
        TURNED=state(ds, fixed, turn),
        UPRIGHT=state(ds, upright),
        ON=state(ds, on_image, turn),
    )
    assert ink_of(picture_of(result, "FIXED")).any()
    assert (picture_of(result, "FIXED") == picture_of(result, "TURNED")).all()
    letters = []
    for name in ("UPRIGHT", "ON"):
        ink = ink_of(picture_of(result, name))
        left, top, right, bottom = extent(ink)
        letters.append(ink[top:bottom, left:right] > 0.5)
    assert letters[0].shape == letters[1].shape
    assert (letters[0] == letters[1]).all()
    y, x = np.nonzero(facing(np.pad(np.ones((8, 8)), ((14, 10), (4, 20))), rotation, flip))
    assert 16 * x.min() - 2 <= left <= right <= 16 * (x.max() + 1) + 2
    assert 16 * y.min() - 2 <= top <= 16 * (y.max() + 1)


@pytest.mark.parametrize("visible", [True, False])
def test_a_line_leads_from_a_visible_anchor_to_its_text(visible: bool, shown: Shown) -> None:
    ds = flat(32, 64)
    text = words("II", box=((40, 12), (60, 20)), anchor=(8, 16), visible=visible)
    ink = ink_of(picture_of(shown(IM=ds, STATE=state(ds, annotation("L", text)))))
    assert ink[:, 320:].any()
    assert ink[120:136, 58:72].any() == visible
    for x in range(80, 300, 20):
        assert ink[:, x : x + 10].any() == visible


def test_a_text_with_an_anchor_alone_stands_beside_it(shown: Shown) -> None:
    ds = flat(32, 64)
    text = annotation("L", words("II", anchor=(16, 16)))
    left, top, right, bottom = extent(ink_of(picture_of(shown(IM=ds, STATE=state(ds, text)))))
    assert left >= 128 - 2 or top >= 128 - 2
    assert right - 128 < 150
    assert abs(bottom - 128) < 150


def test_lines_of_a_text_stand_below_each_other(shown: Shown) -> None:
    ds = flat(32, 64)
    made = {
        name: state(ds, annotation("L", words(value, box=((8, 4), (56, 28)))))
        for name, value in (("ONE", "II"), ("TWO", "II\r\nII"))
    }
    result = shown(IM=ds, **made)
    (_, top, _, bottom), (_, other_top, _, other_bottom) = (
        extent(ink_of(picture_of(result, name))) for name in made
    )
    assert abs(top - other_top) < 12
    assert other_bottom > bottom + 8
    rows = np.flatnonzero((ink_of(picture_of(result, "TWO")) > 0.5).any(axis=1))
    assert (np.diff(rows) > 1).sum() == 1


LANGUAGES = {
    "GB18030": ("GB18030", "左肺"),
    "ISO 2022 IR 87": (["", "ISO 2022 IR 87"], "左肺"),
    "ISO_IR 192": ("ISO_IR 192", "左肺"),
    "ISO_IR 100": ("ISO_IR 100", "é°"),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_texts_are_in_the_character_set_of_the_state(name: str, shown: Shown) -> None:
    character_set, value = LANGUAGES[name]
    ds = flat(32, 64)
    drawn = {"STATE": (character_set, value), "UNICODE": ("ISO_IR 192", value)}
    drawn["UNKNOWN"] = ("ISO_IR 100", "??")
    made = {
        stem: state(
            ds,
            annotation("L", words(text, box=((8, 4), (56, 28)))),
            SpecificCharacterSet=characters,
        )
        for stem, (characters, text) in drawn.items()
    }
    result = shown(IM=ds, **made)
    own, same, unknown = (ink_of(picture_of(result, stem)) for stem in made)
    assert (own > 0.5).sum() > 20
    assert (own == same).all()
    assert (own != unknown).any()


def test_texts_have_their_own_color(shown: Shown) -> None:
    ds, style = flat(16, 64), Dataset()
    text = words("IIII", box=((8, 4), (56, 12)))
    style.TextColorCIELabValue = [*LAB[GREEN]]
    text.TextStyleSequence = [style]
    ours = picture_of(shown(IM=ds, STATE=state(ds, annotation("L", text))))
    assert (np.abs(ours - GREEN).max(axis=2) < 30).sum() > 20
    assert ink_of(ours).max() < 0.5


def test_texts_larger_than_the_picture_are_told(shown: Shown) -> None:
    ds = flat(16, 64)
    made = {
        name: state(ds, annotation("L", words(value, box=((8, 4), (56, 12)))))
        for name, value in (("SHORT", "II"), ("LONG", "W" * 200))
    }
    result = shown(IM=ds, **made)
    assert "  Note" not in summary(result, "SHORT")
    assert re.search(r"  Note +a text is larger than the picture", summary(result, "LONG"))


def test_texts_beside_opposite_corners_are_left_out(shown: Shown) -> None:
    """Though the picture lies between their box and their anchor."""
    ds = flat()
    away = words("AWAY", box=((-60, -60), (-40, -50)), anchor=(120, 90), visible=True)
    result = shown(IM=ds, STATE=state(ds, annotation("L", away)))
    assert ink_of(picture_of(result)).max() < 0.1
    assert re.search(r"  Note +a text that lies outside .*left out", summary(result))


# --- Files and names ------------------------------------------------------------------------------


def clip(count: int = 3, **elements: Any) -> Dataset:
    """Return a picture of several frames that all differ, 64 x 64.

    Of 32 x 32 the encoder of MP4 does not always write the same bytes.
    """
    rng = np.random.default_rng(count)
    coarse = rng.integers(0, 4096, (count, 8, 8), np.uint16)
    return image(np.repeat(np.repeat(coarse, 8, 1), 8, 2), **elements)


@pytest.mark.parametrize("frames", [(), (1, 2, 3)], ids=["none", "all"])
def test_a_clip_under_a_state_is_a_clip(frames: Sequence[int], shown: Shown) -> None:
    ds = clip()
    named = (ds, frames) if frames else ds
    drawn = annotation("L", figure("POLYLINE", [(0, 32), (64, 32)]))
    result = shown(IM=ds, STATE=state(named, window(2000, 3000), turned(90), drawn))
    assert pngs(result) == ["STATE.gif", "STATE.mp4"]
    shown_frames = gif_frames(result.output / "STATE.gif")
    with av.open(str(result.output / "STATE.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
    assert len(shown_frames) == 3
    for index, frame in enumerate(shown_frames):
        expected = np.rot90(linear(stored(ds, index), 2000, 3000), -1)
        assert np.abs(frame[:, :8].mean(axis=2) - expected[:, :8]).mean() < 8
        assert ink_of(frame.astype(float))[:, 30:34].max() > 0.6


def test_a_file_of_many_named_frames_is_read_once(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds, other, read = clip(40), noise(), Counter[str]()
    whole = dc.opened_slice

    def counted(one: dc.Slice) -> Any:
        read[one.source.own_name] += 1
        return whole(one)

    monkeypatch.setattr(dc, "opened_slice", counted)
    result = shown(IM=ds, A=other, STATE=state([other, (ds, range(1, 40))], window(2000, 3000)))
    assert read == {"IM": 1, "A": 1}
    assert len(pngs(result)) == 40
    assert "(40 pictures)" in result.out
    for number in (2, 21, 40):
        expected = linear(stored(ds, number - 2), 2000, 3000)
        assert np.abs(picture_of(result, f"STATE-{number:04}") - expected).max() < 0.01


def test_only_what_is_written_is_counted_and_told(shown: Shown) -> None:
    """Neither an image that the state is not for, nor a clip that no option asks for."""
    ds, color = noise(), image(np.zeros((4, 4, 3), np.uint8))
    result = shown(A=ds, B=color, STATE=state([ds, color]))
    assert "STATE-0001.png, .txt\n" in result.out
    ds = clip()
    result = shown("--no-gif", "--no-mp4", IM=ds, STATE=state(ds))
    assert pngs(result) == []
    assert len(re.findall("^  Picture ", summary(result), re.MULTILINE)) == 1  # why there is none


def test_stills_and_clips_of_a_state_are_numbered_as_named(shown: Shown) -> None:
    one, several, other = noise(), clip(), clip(4)
    named: list[ps.Named] = [several, one, (other, [4, 2])]
    result = shown(A=one, B=several, C=other, STATE=state(named, window(2000, 3000)))
    assert pngs(result) == [
        "STATE-0001.gif",
        "STATE-0001.mp4",
        "STATE-0002.png",
        "STATE-0003.png",
        "STATE-0004.png",
    ]
    assert np.abs(picture_of(result, "STATE-0002") - linear(stored(one), 2000, 3000)).max() < 0.01
    for number, frame in ((3, 4), (4, 2)):
        expected = linear(stored(other, frame - 1), 2000, 3000)
        assert np.abs(picture_of(result, f"STATE-000{number}") - expected).max() < 0.01
    texts = [name for name in result.files() if name.startswith("STATE") and name.endswith("txt")]
    assert texts == ["STATE.txt"]


def test_options_of_clips_hold_for_states(shown: Shown) -> None:
    ds = clip()
    assert pngs(shown("--no-gif", IM=ds, STATE=state(ds))) == ["STATE.mp4"]


def test_several_states_of_one_image(shown: Shown, tmp_path: Path) -> None:
    """Each has its own picture, and that of the image is as if there were none."""
    ds = noise(WindowCenter=500, WindowWidth=900)
    alone = shown(IM=ds, output=tmp_path / "alone")
    centers = {"S1": 1000, "S2": 2000, "S3": 3000}
    made = {name: state(ds, window(center, 900)) for name, center in centers.items()}
    result = shown(IM=ds, **made)
    for name, center in centers.items():
        assert np.abs(picture_of(result, name) - linear(stored(ds), center, 900)).max() < 0.01
    ours = read_png(result.output / "IM.png")
    assert (ours == read_png(alone.output / "IM.png")).all()


def test_outputs_lie_where_the_state_lies(run: Runner, tmp_path: Path) -> None:
    ds = noise()
    ps.write(tmp_path / "in" / "images" / "IM.dcm", ds)
    ps.write(tmp_path / "in" / "states" / "deep" / "ONE.dcm", state(ds))
    result = run(tmp_path / "in", "--study")
    assert "states/deep/ONE.png" in result.files()
    assert "states/deep/ONE.txt" in result.files()


def test_images_and_states_in_an_archive(run: Runner, tmp_path: Path) -> None:
    ds = noise()
    ps.write(tmp_path / "IM", ds)
    ps.write(tmp_path / "STATE", state(ds, window(1000, 900)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("STATE", "IM"):
            archive.write(tmp_path / name, name)
    result = run(tmp_path / "a.zip", "--study")
    (name,) = pngs(result)
    assert np.abs(picture_of(result, name[:-4]) - linear(stored(ds), 1000, 900)).max() < 0.01


def test_without_the_option_a_state_is_text(run: Runner, tmp_path: Path) -> None:
    ds = noise()
    ps.write(tmp_path / "in" / "IM", ds)
    ps.write(tmp_path / "in" / "STATE", state(ds))
    result = run(tmp_path / "in")
    assert result.code == 0
    assert result.files() == ["IM.png", "IM.txt", "STATE.txt"]
    assert "1 text only" in result.out


def test_pictures_of_8_bits(shown: Shown) -> None:
    ds = noise()
    lined = state(ds, annotation("L", figure("POINT", [(2, 2)])))
    result = shown("--8bit", IM=ds, STATE=state(ds, window(1000, 900)), LINED=lined)
    ours = read_png(result.output / "STATE.png")
    assert ours.dtype == np.uint8
    assert ours.ndim == 2
    assert np.abs(ours - linear(stored(ds), 1000, 900)).max() <= 0.51
    assert read_png(result.output / "LINED.png").shape == (24, 40, 3)


def test_names_are_left_out_with_what_may_hold_them(shown: Shown) -> None:
    """Texts and overlays; figures stay."""
    ds = flat(32, 64)
    text = annotation("L", words("SECRET", box=((8, 8), (56, 16))))
    bits = overlay(np.eye(32, 64, dtype=bool), layer="L")
    drawn = annotation("L", square(20, 8))
    made = {"HIDDEN": state(ds, text, bits), "FIGURE": state(ds, text, bits, drawn)}
    result = shown("--no-names", IM=ds, **made)
    ours = picture_of(result, "HIDDEN")
    assert np.abs(ours - 127.5).max() < 1
    ink = ink_of(picture_of(result, "FIGURE"))
    assert ink[ink.shape[0] // 2, 28 * ink.shape[1] // 64] > 0.9
    for name in made:
        assert "SECRET" not in (result.output / f"{name}.txt").read_text("utf-8")


def test_a_text_on_one_frame_enlarges_all(shown: Shown) -> None:
    ds = image(np.full((3, 16, 32), 2048, np.uint16))
    text = annotation("L", words("II", box=((4, 4), (28, 12))), images=[(ds, [2])])
    result = shown(IM=ds, STATE=state(ds, text))
    assert pngs(result) == ["STATE.gif", "STATE.mp4"]
    frames = gif_frames(result.output / "STATE.gif")
    assert [frame.shape for frame in frames] == [(256, 512, 3)] * 3
    drawn = [bool((ink_of(frame.astype(float)) > 0.5).any()) for frame in frames]
    assert drawn == [False, True, False]
    assert all((np.abs(levels(frame) - 127.5) < 8).all() for frame in frames[::2])
    with av.open(str(result.output / "STATE.mp4")) as container:
        sizes = [(one.height, one.width) for one in container.decode(video=0)]
    assert sizes == [(256, 512)] * 3


def test_frames_of_other_areas_lie_unscaled_on_black(shown: Shown) -> None:
    pixels = np.tile(np.arange(1000, 4000, 75), (2, 24, 1)).astype(np.uint16)  # of no black
    ds = image(pixels)
    areas = area((3, 2, 22, 13), images=[(ds, [1])]), area((9, 5, 40, 24), images=[(ds, [2])])
    result = shown(IM=ds, STATE=state(ds, *areas))
    assert pngs(result) == ["STATE.gif", "STATE.mp4"]
    small, large = (levels(one) for one in gif_frames(result.output / "STATE.gif"))
    assert small.shape == large.shape == (20, 32, 3)
    expected = whole_range(ds)
    assert np.abs(small[:12, :20, 0] - expected[1:13, 2:22]).max() <= 8
    assert np.abs(large[..., 0] - expected[4:24, 8:40]).max() <= 8
    assert small[12:].max() < 8
    assert small[:, 20:].max() < 8


def test_the_option_of_frames_is_not_for_states(shown: Shown, tmp_path: Path) -> None:
    one, several = noise(), clip()
    its_state = state([one, several, (clip(4, SOPInstanceUID=several.SOPInstanceUID), [2])])
    plain = shown(IM=one, CLIP=several, STATE=its_state)
    chosen = shown("--frames", "1", output=tmp_path / "chosen")
    assert "CLIP-0001.png" in chosen.files()
    assert pngs(plain) == pngs(chosen) == ["STATE-0001.png", "STATE-0002.gif", "STATE-0002.mp4"]
    for name in pngs(plain):
        assert (plain.output / name).read_bytes() == (chosen.output / name).read_bytes()
    assert summary(plain).partition("  Picture")[2] == summary(chosen).partition("  Picture")[2]


def test_what_may_hold_names_is_left_out_of_the_notes(shown: Shown) -> None:
    """UIDs, and values that are no term of the standard; a bitmap is not drawn."""
    ds, missing = noise(), noise(seed=1, SOPInstanceUID="1.2.77777.19561103")
    odd = figure("POLYLINE", [(1, 1), (9, 9)])
    odd.GraphicType = "DOE JOHN"
    hidden = ps.bitmap_shutter(planes(1)[0], 0xFFFF)
    hidden.ShutterShape = ["BITMAP", "DOE JOHN"]
    options = "--no-names", "--no-gif"
    result = shown(*options, IM=ds, STATE=state([ds, missing], hidden, annotation("L", odd)))
    assert np.abs(picture_of(result) - whole_range(ds)).max() < 0.01
    said = summary(result)
    assert re.search(r"  Note +refers to what is not among the inputs, or failed: 1\n", said)
    assert "a figure was left out" in said
    assert "a shutter is of no known shape" in said
    assert "the bitmap of a shutter is missing, or left out as it might tell names" in said
    for found in (said, result.err, result.out, (result.output / "index.html").read_text("utf-8")):
        assert not re.search("DOE|19561103", found)
    assert "19561103" not in (result.output / "STATE.txt").read_text("utf-8")


def test_labels_of_states_are_left_out_with_names(shown: Shown) -> None:
    ds = noise()
    its_state = state(ds, ContentLabel="DOE")
    for options, there in (((), True), (("--no-names",), False)):
        result = shown(*options, IM=ds, STATE=its_state)
        for name in ("STATE.txt", "index.html"):
            assert ("DOE" in (result.output / name).read_text("utf-8")) == there, name


# --- What the text says ---------------------------------------------------------------------------


def test_the_text_says_what_was_applied(shown: Shown) -> None:
    ds, turn = flat(), turned(90, True)
    parts = [
        ps.rescale(2, -1000),
        window(1234, 567, "SIGMOID"),
        ps.shape("INVERSE"),
        turn,
        area((5, 3, 30, 20), turn),
        annotation("L", figure("POINT", [(9, 9)]), figure("CIRCLE", [(20, 9), (20, 12)])),
        annotation("L", words("first", box=((5, 5), (20, 9)))),
    ]
    said = summary(shown(IM=ds, STATE=state(ds, *parts)))
    for expected in ("1234", "567", "SIGMOID", "90", "2 figures", "1 text"):
        assert expected in said, expected
    assert re.search(r"(?i)inver", said)
    assert re.search(r"(?i)flip|mirror", said)
    assert "5 to 30" in said
    assert "3 to 20" in said
    assert re.search(r"Written +STATE\.png", said)


def test_the_text_names_tables(shown: Shown) -> None:
    ramp = np.arange(256)
    ds = noise()
    tables = ps.modality_table(ramp, 0, 8), ps.voi_table(ramp, 0, 8), ps.presentation_table(ramp, 8)
    assert len(re.findall(r"(?i)table|LUT", summary(shown(IM=ds, STATE=state(ds, *tables))))) >= 2


def test_missing_images_are_named(shown: Shown) -> None:
    """The others are shown."""
    there, missing = noise(), noise(seed=1)
    result = shown(IM=there, STATE=state([missing, there], window(1000, 900)))
    assert len(pngs(result)) == 1
    assert missing.SOPInstanceUID in summary(result)
    assert there.SOPInstanceUID not in summary(result)
    ours = picture_of(result, pngs(result)[0][:-4])
    assert np.abs(ours - linear(stored(there), 1000, 900)).max() < 0.01


def test_a_state_of_absent_images_is_text(shown: Shown) -> None:
    missing = [noise(), noise(seed=1)]
    result = shown(IM=noise(seed=2), STATE=state(missing))
    assert pngs(result) == []
    assert "1 text only" in result.out
    assert all(one.SOPInstanceUID in summary(result) for one in missing)


def test_the_image_of_another_patient_is_another(shown: Shown) -> None:
    """Though its UID is the same."""
    ours = noise(PatientID="A", PatientName="A")
    theirs = noise(seed=1, PatientID="B", PatientName="B", SOPInstanceUID=ours.SOPInstanceUID)
    result = shown(A=theirs, B=ours, C=theirs, STATE=state(ours))
    assert np.abs(picture_of(result) - whole_range(ours)).max() < 0.01


def test_the_image_of_another_patient_is_not_shown_as_if_it_were_the_right_one(
    shown: Shown,
) -> None:
    ours = noise(PatientID="A", PatientName="A")
    theirs = noise(seed=1, PatientID="B", PatientName="B", SOPInstanceUID=ours.SOPInstanceUID)
    result = shown(A=theirs, STATE=state(ours))
    noted = re.search(r"  Note +.*patient", summary(result))
    assert noted or (not pngs(result) and ours.SOPInstanceUID in summary(result))


def other_kind(number: int) -> Callable[[], tuple[Dataset, Dataset]]:
    def make() -> tuple[Dataset, Dataset]:
        ds = noise()
        return ds, state(ds, kind=pydicom.uid.UID(f"{ps.PREFIX}{number}"))

    return make


def with_mask() -> tuple[Dataset, Dataset]:
    ds, mask = clip(), Dataset()
    mask.MaskOperation, mask.MaskFrameNumbers = "AVG_SUB", [1]
    return ds, state(ds, MaskSubtractionSequence=[mask], RecommendedViewingMode="SUB")


def gray_of_color() -> tuple[Dataset, Dataset]:
    ds = image(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8))
    return ds, state(ds, window(100, 200))


REFUSED = {
    "blending": (other_kind(4), "lending"),
    "XA": (other_kind(5), "XA"),
    "planar MPR": (other_kind(6), "lanar"),
    "advanced blending": (other_kind(8), "lending"),
    "volume rendering": (other_kind(9), "olume"),
    "mask": (with_mask, "(?i)mask|subtraction"),
    "gray of color": (gray_of_color, "color|gray images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_shown_says_why_in_one_line(name: str, shown: Shown) -> None:
    make, expected = REFUSED[name]
    ds, its_state = make()
    result = shown(IM=ds, STATE=its_state)
    assert pngs(result) == []
    assert pngs(result, "IM")
    reasons = re.findall(r"^  (?:Picture|Note) +(.*)$", summary(result), re.MULTILINE)
    assert any(re.search(expected, reason) for reason in reasons), reasons
    assert "Traceback" not in result.err


def test_the_text_tells_each_way_in_which_frames_are_shown(shown: Shown) -> None:
    ds = image(np.full((4, 24, 40), 2048, np.uint16))
    parts = [
        ps.rescale(2, -1000),
        annotation("L", figure("POINT", [(9, 9)]), images=[(ds, [2])]),
        window(500, 900, images=[(ds, [1, 2])]),
        window(70, 900, images=[(ds, [3, 4])]),
    ]
    said = summary(shown(IM=ds, STATE=state(ds, *parts)))
    found = dict(re.findall(r"^  (Picture as in frame \d+) +(.*)$", said, re.MULTILINE))
    assert [*found] == [f"Picture as in frame {number}" for number in (1, 2, 3)]
    for told, (level, figures) in zip(
        found.values(), (("500", 0), ("500", 1), ("70", 0)), strict=True
    ):
        assert told.startswith("IM: rescale 2, -1000; ")
        assert f"center {level}, width 900" in told
        assert ("1 figures" in told) == (figures == 1)
    assert "Picture  " not in said


def test_the_text_names_modality_table_and_palette(shown: Shown) -> None:
    ds, ramp = noise(), np.arange(256)
    parts = ps.modality_table(ramp, 0, 8), ps.palette(ramp, ramp, ramp)
    said = summary(shown(IM=ds, STATE=state(ds, *parts, kind=ps.PSEUDO_COLOR)))
    assert re.search(r"  Picture +IM: modality table; .*; palette; ", said)


def test_of_several_studies_the_image_of_the_own_is_shown(shown: Shown) -> None:
    """Of two files with one UID."""
    here = noise()
    there = noise(seed=1, SOPInstanceUID=here.SOPInstanceUID, StudyInstanceUID="1.2.9")
    made = {"HERE": state(here), "THERE": state(there)}
    result = shown(A=here, B=there, **made)
    for name, ds in (("HERE", here), ("THERE", there)):
        assert np.abs(picture_of(result, name) - whole_range(ds)).max() < 0.01


def test_slides_and_videos_are_no_image_of_a_state(shown: Shown) -> None:
    slide = image(
        np.zeros((4, 8, 8, 3), np.uint8),
        SOPClassUID=pydicom.uid.VLWholeSlideMicroscopyImageStorage,
        DimensionOrganizationType="TILED_FULL",
        TotalPixelMatrixRows=16,
        TotalPixelMatrixColumns=16,
    )
    stream = (shown(IM=clip()).output / "IM.mp4").read_bytes()
    video = data_set(
        np.zeros((2, 64, 64, 3), np.uint8),
        [stream],
        pydicom.uid.MPEG4HP41,
        **ps.image_elements(SOPClassUID=pydicom.uid.VideoEndoscopicImageStorage),
    )
    its_state = state([slide, video], kind=ps.COLOR)
    result = shown(SLIDE=slide, VIDEO=video, STATE=its_state)
    assert {"SLIDE.png", "VIDEO.mp4"} <= {*result.files()}
    assert pngs(result) == []
    noted = r"  Note +no image that states are applied to: SLIDE, VIDEO\n"
    assert re.search(noted, summary(result))


# --- Again ----------------------------------------------------------------------------------------


def test_nothing_is_done_twice(shown: Shown) -> None:
    one, several, missing = noise(), clip(), noise(seed=9)
    made = {
        "S1": state([one, several], window(1000, 900)),
        "S2": state(missing),
        "S3": state((several, [2])),
    }
    first = shown(A=one, B=several, **made)
    times = {path: path.stat().st_mtime_ns for path in first.output.rglob("*.png")}
    again = shown("--resume")
    assert times == {path: path.stat().st_mtime_ns for path in again.output.rglob("*.png")}
    assert again.code == first.code
    assert "->" not in again.out
    assert re.fullmatch(r"\d+ done before(, .*)?", again.out.splitlines()[-1])
    assert "converted" not in again.out


def test_what_has_changed_is_done_again(shown: Shown) -> None:
    ds = noise()
    its_state = state(ds, window(1000, 900))
    other = state(ds, window(500, 900))
    result = shown(IM=ds, STATE=its_state, OTHER=other)
    assert np.abs(picture_of(result) - linear(stored(ds), 1000, 900)).max() < 0.01
    its_state.SoftcopyVOILUTSequence[0].WindowCenter = "2000"
    result = shown("--resume", STATE=its_state)
    assert np.abs(picture_of(result) - linear(stored(ds), 2000, 900)).max() < 0.01
    assert "OTHER" not in result.out
    ds.PixelData = noise(seed=5).PixelData
    result = shown("--resume", IM=ds)
    assert np.abs(picture_of(result) - linear(stored(ds), 2000, 900)).max() < 0.01
    assert np.abs(picture_of(result, "OTHER") - linear(stored(ds), 500, 900)).max() < 0.01


def test_an_image_that_has_come_is_shown_by_the_next_run(shown: Shown) -> None:
    one, late = noise(), noise(seed=1)
    result = shown(A=one, STATE=state(late))
    assert pngs(result) == []
    result = shown("--resume", B=late)
    assert np.abs(picture_of(result) - whole_range(late)).max() < 0.01


def test_two_runs_make_the_same(shown: Shown, tmp_path: Path) -> None:
    one, several = noise(), clip()
    drawn = annotation("L", square(4, 4), words("text", box=((1, 1), (9, 9))))
    made = {
        "S1": state([one, several], drawn, window(1000, 900)),
        "S2": state((several, [3, 1]), turned(90)),
        "S3": state(noise(seed=9)),
    }
    first = shown(IM=one, CLIP=several, **made)
    second = shown(output=tmp_path / "again")
    ours, theirs = contents(first.output), contents(second.output)
    assert ours.keys() == theirs.keys()
    assert {"S1-0001.png", "S1-0002.gif", "S2-0002.png"} <= {Path(key).name for key in ours}
    assert [name for name in ours if ours[name] != theirs[name]] == []


# --- What no file should hold ---------------------------------------------------------------------

NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", [*NOT_FINITE, 3e38], ids=str)
def test_points_without_a_place(value: float, shown: Shown) -> None:
    """The figure is left out with a note where they are not finite; others are drawn."""
    ds = flat()
    bad = [
        figure(kind, [(value, 3), (20, 9), (30, 9), (9, value)][:count])
        for kind, count in (("POLYLINE", 3), ("POINT", 1), ("CIRCLE", 2), ("ELLIPSE", 4))
    ]
    bad.append(words("II", anchor=(value, value), visible=True))
    result = shown(IM=ds, STATE=state(ds, annotation("L", *bad, square(20, 16))))
    ours = picture_of(result)
    scale = ours.shape[1] // 64
    assert_color(ours, 28 * scale, 24 * scale, YELLOW)
    if not np.isfinite(value):
        assert re.search(r"  Note +.*(left out|finite)", summary(result))


def test_lines_that_leave_the_picture_are_cut(shown: Shown) -> None:
    ds = flat()
    far = figure("POLYLINE", [(-9000, -9000 + 10.5), (1e6, 1e6 + 10.5)])
    ring = figure("CIRCLE", [(-9000, 24), (40.5, 24)])
    result = shown(IM=ds, STATE=state(ds, annotation("L", far, ring)))
    ink = ink_of(picture_of(result))
    places = np.array([(x + 0.5, x + 11) for x in range(2, 30)])
    assert (nearby(ink, places) > 0.3).all()
    assert (nearby(ink, np.array([(40.5, 5.5), (40.5, 24.5), (40.5, 40.5)])) > 0.3).all()


def test_a_figure_of_very_many_points_is_left_out(shown: Shown) -> None:
    ds = flat()
    many = figure("POLYLINE", [(1, 1), (2, 2)])
    count = 1_000_001
    raw = np.random.default_rng(0).random(2 * count, np.float32).tobytes()
    tag = Tag("GraphicData")
    many[tag] = RawDataElement(tag, "FL", len(raw), raw, 0, True, True)
    del many.NumberOfGraphicPoints
    its_state = state(ds, annotation("L", many, square(20, 16)))
    its_state.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    result = shown(IM=ds, STATE=its_state)
    ours = picture_of(result)
    assert_color(ours, 28, 24, YELLOW)
    assert ink_of(ours)[:8, :8].max() < 0.1
    assert re.search(r"  Note +.*(points|left out)", summary(result))


@pytest.mark.parametrize(
    "points",
    [[], [(1.0, 1.0)], [(5.0, 5.0)] * 4, [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]],
    ids=["none", "one", "equal", "three"],
)
def test_figures_of_the_wrong_number_of_points(
    points: list[tuple[float, float]], shown: Shown
) -> None:
    """They stop nothing else."""
    ds = flat()
    kinds = ("POINT", "POLYLINE", "INTERPOLATED", "CIRCLE", "ELLIPSE", "STAR")
    bad = [figure(kind, points, filled=True) for kind in kinds]
    result = shown(IM=ds, STATE=state(ds, annotation("L", *bad, square(40, 26))))
    assert_color(picture_of(result), 48, 34, YELLOW)


def test_a_text_of_no_words_is_no_fault(shown: Shown) -> None:
    ds = flat()
    result = shown(IM=ds, STATE=state(ds, annotation("L", words("", anchor=(32, 24)))))
    assert np.abs(picture_of(result) - 127.5).max() < 1
    assert "Note" not in summary(result)


def test_long_texts_are_cut(shown: Shown) -> None:
    ds = flat(32, 64)
    with disable_value_validation():  # of ST, which has 1024 letters
        text = words("word " * 13_000, box=((8, 8), (56, 16)))
        result = shown(IM=ds, STATE=state(ds, annotation("L", text)))
    assert ink_of(picture_of(result)).any()
    assert re.search(r"  Note +.*text", summary(result))


def test_a_state_that_names_itself_is_text(shown: Shown) -> None:
    ds = noise()
    its_state = state(ds)
    own = its_state.SOPInstanceUID
    its_state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = own
    result = shown(IM=ds, STATE=its_state)
    assert pngs(result) == []
    assert "text only" in result.out


def test_pictures_without_end_are_bounded(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dc.MAX_SHOWN == 1000
    monkeypatch.setattr(dc, "MAX_SHOWN", 20)
    ds = image(np.zeros((30, 4, 4), np.uint16))
    result = shown("--no-gif", "--no-mp4", IM=ds, STATE=state((ds, range(1, 30))))
    assert pngs(result) == [f"STATE-{number:04}.png" for number in range(1, 21)]
    assert re.search(r"  Note +.*9 more are named", summary(result))


def test_images_without_end_are_bounded(shown: Shown) -> None:
    ds = noise()
    its_state = state(ds)
    items = its_state.ReferencedSeriesSequence[0].ReferencedImageSequence
    for number in range(3000):
        item = Dataset()
        item.ReferencedSOPClassUID = items[0].ReferencedSOPClassUID
        item.ReferencedSOPInstanceUID = f"1.2.3.{number}"
        items.append(item)
    result = shown(IM=ds, STATE=its_state)
    assert len(pngs(result)) == 1
    assert re.search(r"  Note +.*1000", summary(result))
    assert len(summary(result)) < 100_000
    assert all(len(line) < 4000 for line in result.err.splitlines())


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ((-(2**31), -(2**31)), (2**31 - 1, 2**31 - 1)),
        ((1, 1), (2**31 - 1, 1)),
        ((500, 500), (600, 600)),
        ((1, 1), (50_000, 50_000)),
    ],
    ids=["all", "wide", "beside", "large"],
)
def test_areas_of_any_size_end(first: tuple[int, int], last: tuple[int, int], shown: Shown) -> None:
    ds = noise()
    result = shown(IM=ds, STATE=state(ds, ps.displayed(first, last)), GOOD=state(ds))
    assert np.abs(picture_of(result, "GOOD") - whole_range(ds)).max() < 0.01
    assert "Traceback" not in result.err
    for name in pngs(result):
        assert read_png(result.output / name).size < 1 << 26


@pytest.mark.parametrize(
    "by", [0, -1, 1e-9, 1e9, float("nan"), float("inf")], ids=lambda by: f"{by:g}"
)
def test_magnification_of_any_size_ends(by: float, shown: Shown) -> None:
    ds = noise()
    result = shown(IM=ds, STATE=state(ds, area((1, 1, 40, 24), magnified=by)))
    assert "Traceback" not in result.err
    (name,) = pngs(result)
    assert read_png(result.output / name).size < 1 << 26


@pytest.mark.parametrize(
    "changes",
    [
        {"DisplayedAreaSelectionSequence": None},
        {"PresentationLUTShape": None},
        {"PresentationLUTShape": "LIN OD"},
        {"ImageRotation": 45},
        {"PatientName": ""},
    ],
    ids=str,
)
def test_what_a_state_lacks_or_has_wrong_stops_nothing(
    changes: dict[str, Any], shown: Shown
) -> None:
    ds = noise()
    ours = picture_of(shown(IM=ds, STATE=state(ds, **changes)))
    assert np.abs(ours - whole_range(ds)).max() < 0.01


def test_the_shutter_is_round_on_the_pixels_of_the_state(shown: Shown) -> None:
    """Whose shape, like all else, is not that of the image."""
    ds = noise(PixelAspectRatio=[2, 1])
    result = shown(IM=ds, STATE=state(ds, shutter(0, circle=(12, 20, 8))))
    seen = np.hypot(Y - 12, X - 20)
    ours = picture_of(result)
    assert np.abs(ours - whole_range(ds))[seen <= 7].max() < 0.01
    assert ours[seen >= 9.5].max() == 0


def test_the_rescale_of_a_state_holds_for_any_kind_of_image(shown: Shown) -> None:
    """Of XA and XRF that of the image would not be applied (PS3.3 C.8.7.1.1.2)."""
    ds = noise(SOPClassUID=pydicom.uid.XRayAngiographicImageStorage, Modality="XA")
    result = shown(IM=ds, STATE=state(ds, ps.rescale(-1, 4095), window(2000, 3000)))
    assert np.abs(picture_of(result) - linear(4095 - stored(ds), 2000, 3000)).max() < 0.01


def test_a_clip_has_what_is_meant_for_each_of_its_frames(shown: Shown) -> None:
    ds = image(np.full((3, 48, 64), 2048, np.uint16))
    drawn = annotation("L", square(4, 4), images=[(ds, [2])])
    windows = window(2048, 1000, images=[(ds, [1, 2])]), window(0, 1000, images=[(ds, [3])])
    result = shown(IM=ds, STATE=state(ds, drawn, *windows))
    frames = [frame.astype(float) for frame in gif_frames(result.output / "STATE.gif")]
    assert [bool(ink_of(frame)[8:16, 8:16].min() > 0.5) for frame in frames] == [False, True, False]
    assert [round(frame[40, 50, 0] / 64) for frame in frames] == [2, 2, 4]


def test_a_clip_whose_frames_have_areas_of_their_own_ends(shown: Shown) -> None:
    """All its frames have one size, or it says why there is none."""
    ds = clip()
    areas = area((1, 1, 64, 64), images=[(ds, [1])]), area((1, 1, 16, 8), images=[(ds, [2, 3])])
    result = shown(IM=ds, STATE=state(ds, *areas), GOOD=state(ds))
    assert {"GOOD.gif", "GOOD.mp4", "STATE.txt"} <= {*result.files()}
    if pngs(result):
        assert len({frame.shape for frame in gif_frames(result.output / "STATE.gif")}) == 1
    else:
        assert re.search(r"  (Picture|Note) +.*(area|size|frame)", summary(result))


def test_a_wrong_series_is_no_other_image(shown: Shown) -> None:
    ds = noise()
    its_state = state(ds)
    its_state.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()
    assert np.abs(picture_of(shown(IM=ds, STATE=its_state)) - whole_range(ds)).max() < 0.01


def test_frames_that_are_not_there_are_said(shown: Shown) -> None:
    ds = clip()
    result = shown(IM=ds, STATE=state((ds, [2, 99])))
    (name,) = pngs(result)
    assert np.abs(picture_of(result, name[:-4]) - whole_range(ds, 1)).max() < 0.01
    assert "99" in summary(result)


def test_a_state_that_is_cut_off_fails(run: Runner, tmp_path: Path) -> None:
    ds = noise()
    ps.write(tmp_path / "in" / "IM", ds)
    path = ps.write(tmp_path / "in" / "STATE", state(ds, overlay(planes(1)[0])))
    path.write_bytes(path.read_bytes()[:-20])
    result = run(tmp_path / "in", "--study")
    assert result.code == 1
    assert pngs(result) == []


def test_an_image_that_fails_is_said(run: Runner, tmp_path: Path) -> None:
    one, other = noise(), noise(seed=1)
    path = ps.write(tmp_path / "in" / "IM", one)
    path.write_bytes(path.read_bytes()[:-200])
    ps.write(tmp_path / "in" / "OTHER", other)
    ps.write(tmp_path / "in" / "STATE", state([one, other]))
    result = run(tmp_path / "in", "--study")
    assert result.code == 1
    assert len(pngs(result)) == 1
    assert one.SOPInstanceUID in summary(result)
