"""Slides: pictures put together from tiles, by stated and by implied places, whole and reduced."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from conftest import CORPUS, Array, Factory, convert, data_set, needs_corpus, read_png
from pydicom.dataset import Dataset

import dicom_converter as dc

HIGHDICOM = CORPUS / "ImagingDataCommons+highdicom/data/test_files"
SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def item(**elements: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def cut(whole: Array, rows: int, columns: int, fill: int = 0) -> Array:
    """Return the tiles of *whole* in their implied order; what is beyond it holds *fill*."""
    down, across = -(-whole.shape[0] // rows), -(-whole.shape[1] // columns)
    shape = (down * rows, across * columns, *whole.shape[2:])
    full = np.full(shape, fill, whole.dtype)
    full[: whole.shape[0], : whole.shape[1]] = whole
    grid = full.reshape(down, rows, across, columns, *whole.shape[2:])
    return np.ascontiguousarray(grid.swapaxes(1, 2).reshape(-1, rows, columns, *whole.shape[2:]))


def tiled(whole: Array, rows: int = 4, columns: int = 4, **elements: Any) -> tuple[Array, Any]:
    """Return what `data_set` wants for a slide of *whole* in TILED_FULL."""
    known = {
        "SOPClassUID": SLIDE,
        "DimensionOrganizationType": "TILED_FULL",
        "TotalPixelMatrixRows": whole.shape[0],
        "TotalPixelMatrixColumns": whole.shape[1],
    }
    return cut(whole, rows, columns, fill=77), known | elements


def placed(*places: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    """Return the elements of TILED_SPARSE with tiles at *places* (row, column), from 1."""
    frames = []
    for at, (row, column) in enumerate(places):
        lies = Dataset()
        lies.add_new("RowPositionInTotalImagePixelMatrix", *vr_of(row))
        lies.add_new("ColumnPositionInTotalImagePixelMatrix", *vr_of(column))
        if "z" in more:
            lies.ZOffsetInSlideCoordinateSystem = str(more["z"][at])
        frame = item(PlanePositionSlideSequence=[lies])
        if "paths" in more:
            path = item(OpticalPathIdentifier=more["paths"][at])
            frame.OpticalPathIdentificationSequence = [path]
        frames.append(frame)
    return {
        "DimensionOrganizationType": "TILED_SPARSE",
        "PerFrameFunctionalGroupsSequence": frames,
    }


def vr_of(value: Any) -> tuple[str, Any]:
    return ("FD", value) if isinstance(value, float) else ("SL", value)


def pictures(outcome: dc.Outcome) -> list[Array]:
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    assert {path.suffix for path in outcome.outputs} == {".png", ".txt"}
    return [read_png(path) for path in outcome.outputs if path.suffix == ".png"]


RNG = np.random.default_rng(12)
COLOR = RNG.integers(0, 256, (10, 14, 3), np.uint8)  # 3 x 4 tiles of 4 x 4, the last ones cut


# --- The corpus -----------------------------------------------------------------------------------


def assembled(path: Path) -> dict[Any, Array]:
    """Return the pictures of a file by segment, by plain loops over what pydicom decodes."""
    ds = pydicom.dcmread(path)
    stored = ds.pixel_array
    found: dict[Any, Array] = {}
    shape = (ds.TotalPixelMatrixRows, ds.TotalPixelMatrixColumns, *stored.shape[3:])
    across = -(-ds.TotalPixelMatrixColumns // ds.Columns)
    each = across * -(-ds.TotalPixelMatrixRows // ds.Rows)
    groups = ds.get("PerFrameFunctionalGroupsSequence")
    for index, tile in enumerate(stored):
        if groups:
            lies = groups[index].PlanePositionSlideSequence[0]
            top = lies.RowPositionInTotalImagePixelMatrix - 1
            left = lies.ColumnPositionInTotalImagePixelMatrix - 1
            of = groups[index].get("SegmentIdentificationSequence")
            segment = of[0].ReferencedSegmentNumber if of else None
        else:
            top, left = index % each // across * ds.Rows, index % across * ds.Columns
            segment = index // each + 1 if "SegmentSequence" in ds else None
        whole = found.setdefault(segment, np.zeros(shape, stored.dtype))
        part = whole[top : top + ds.Rows, left : left + ds.Columns]
        part[:] = tile[: part.shape[0], : part.shape[1]]
    return dict(sorted(found.items(), key=lambda one: one[0] or 0))


@needs_corpus
@pytest.mark.parametrize("name", ["", "_control", "_dots", "_numbers", "_jpegls", "_jpegls_nobot"])
def test_slides_of_the_corpus_in_color(name: str, tmp_path: Path) -> None:
    path = HIGHDICOM / f"sm_image{name}.dcm"
    outcome = convert(path, tmp_path)
    assert np.array_equal(pictures(outcome)[0], assembled(path)[None])
    assert outcome.warnings == ()
    assert outcome.remark == "50 x 50 pixels of 25 tiles of 10 x 10"


@needs_corpus
@pytest.mark.parametrize("name", ["grayscale", "grayscale_reversed"])
def test_slides_of_the_corpus_in_gray(name: str, tmp_path: Path) -> None:
    path = HIGHDICOM / f"sm_image_{name}.dcm"
    (picture,) = pictures(convert(path, tmp_path))
    whole = assembled(path)[None].astype(float)
    levels = (whole - whole.min()) / (whole.max() - whole.min()) * 65535
    assert np.abs(picture - levels).max() <= 0.5


@needs_corpus
@pytest.mark.parametrize("name", ["control", "dots", "numbers", "dots_tiled_full"])
def test_segments_of_slides_of_the_corpus(name: str, tmp_path: Path) -> None:
    path = HIGHDICOM / f"seg_image_sm_{name}.dcm"
    outcome, expected = convert(path, tmp_path), assembled(path)
    found = pictures(outcome)
    assert len(found) == len(expected) > 10
    for (number, whole), picture, fact in zip(
        expected.items(), found, outcome.facts[-len(found) :], strict=True
    ):
        assert np.array_equal(picture, whole.astype(np.uint16) * 65535)
        assert fact[1].startswith(f"segment {number} RGB(")


@needs_corpus
def test_label_maps_of_slides_of_the_corpus(tmp_path: Path) -> None:
    path = HIGHDICOM / "seg_image_sm_control_labelmap.dcm"
    whole = assembled(path)[None].astype(float)
    (picture,) = pictures(convert(path, tmp_path, png_bits=8))
    levels = np.clip((whole - 1) / 19, 0, 1) * 255  # 0 is padding there, and no color is stored
    assert np.abs(picture - levels).max() <= 0.5
    (colored,) = pictures(convert(path.with_stem(f"{path.stem}_palette_color"), tmp_path))
    labels = {
        int(label): {*map(tuple, colored[whole == label].tolist())} for label in {*whole.flat}
    }
    assert {len(colors) for colors in labels.values()} == {1}
    assert labels[0] == {(0, 0, 0)}
    assert len(set.union(*labels.values())) == len(labels)


# --- Places ---------------------------------------------------------------------------------------


def test_tiles_at_the_edges_are_cut(dicom_file: Factory, tmp_path: Path) -> None:
    tiles, known = tiled(COLOR)
    outcome = convert(dicom_file(tiles, **known), tmp_path / "out")
    assert np.array_equal(pictures(outcome)[0], COLOR)
    assert outcome.warnings == ()
    text = (tmp_path / "out/image.txt").read_text("utf-8")
    assert "Size           14 x 10 pixels" in text
    assert "Slide          14 x 10 pixels of 12 tiles of 4 x 4\n" in text
    assert "Frame rate" not in text
    assert "Picture " not in text


@pytest.mark.parametrize("form", ["full", "sparse"])
def test_paths_and_focal_planes_are_pictures_in_order(
    form: str, dicom_file: Factory, tmp_path: Path
) -> None:
    wholes = RNG.integers(0, 256, (2, 3, 6, 8), np.uint8)  # paths, planes
    tiles = np.concatenate([cut(whole, 4, 4) for path in wholes for whole in path])
    known = {
        "SOPClassUID": SLIDE,
        "TotalPixelMatrixRows": 6,
        "TotalPixelMatrixColumns": 8,
        "TotalPixelMatrixFocalPlanes": 3,
        "OpticalPathSequence": [item(OpticalPathIdentifier=of) for of in ("b", "a")],
        "WindowCenter": "128",
        "WindowWidth": "256",
    }
    if form == "full":
        known["DimensionOrganizationType"] = "TILED_FULL"
    else:
        order = RNG.permutation(24)
        tiles = np.ascontiguousarray(tiles[order])
        places = [((1, 1), (1, 5), (5, 1), (5, 5))[at % 4] for at in order]
        paths, z = ["ba"[at // 12] for at in order], [(0, 0.5, 2)[at // 4 % 3] for at in order]
        known |= placed(*places, paths=paths, z=z)
    outcome = convert(dicom_file(tiles, **known), tmp_path / "out", png_bits=8)
    assert np.array_equal(pictures(outcome), wholes.reshape(6, 6, 8))
    assert [path.name for path in outcome.outputs[:2]] == ["image-0001.png", "image-0002.png"]
    assert [text for label, text in outcome.facts if label.startswith("Picture")] == [
        f"optical path {path}, focal plane {plane}" for path in (1, 2) for plane in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("places", "heights", "declared", "planes"),
    [
        pytest.param([(1, 1), (5, 1)], (0, 0.3), 1, 1, id="one is declared"),
        pytest.param([(1, 1), (5, 1)], (0, 0.3), 0, 1, id="none lies above another"),
        pytest.param([(1, 1), (5, 1)], (0, 0.3), 2, 2, id="two are declared"),
        pytest.param([(1, 1), (1, 1)], (0, 0.3), 0, 2, id="one above the other"),
        pytest.param([(1, 1), (1, 1)], (0, 0), 0, 1, id="one over the other"),
    ],
)
def test_heights_are_planes_only_where_tiles_lie_above_each_other(
    places: Any, heights: Any, declared: int, planes: int, dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, known = tiled(COLOR[:8, :4], TotalPixelMatrixFocalPlanes=declared)
    known |= placed(*places, z=heights)
    found = pictures(convert(dicom_file(tiles, **known), tmp_path))
    assert len(found) == planes
    assert planes == 2 or places[0] == places[1] or np.array_equal(found[0], COLOR[:8, :4])


@pytest.mark.parametrize("kind", ["slide", "label map"])
def test_planes_that_are_not_declared_follow_from_the_number_of_tiles(
    kind: str, dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, known = tiled(COLOR[:8, :8, 0])
    if kind == "label map":
        known |= {"SOPClassUID": LABEL_MAP, "SegmentationType": "LABELMAP"}
        known["SegmentSequence"] = [item(SegmentNumber=n, SegmentLabel=f"{n}") for n in (1, 2)]
    else:
        known["OpticalPathSequence"] = [item(OpticalPathIdentifier="1")]
    outcome = convert(dicom_file(np.concatenate([tiles, tiles]), **known), tmp_path)
    assert [text for label, text in outcome.facts if label.startswith("Picture")] == [
        "focal plane 1",
        "focal plane 2",
    ]


def test_a_path_that_is_not_described_is_the_first(dicom_file: Factory, tmp_path: Path) -> None:
    tiles, known = tiled(COLOR[:8, :4])
    known |= placed((1, 1), (5, 1), paths=["a", "unknown"])
    known["OpticalPathSequence"] = [item(OpticalPathIdentifier=of) for of in ("a", "b")]
    (picture,) = pictures(convert(dicom_file(tiles, **known), tmp_path))
    assert np.array_equal(picture, COLOR[:8, :4])


def test_frames_beyond_the_last_segment_are_its_own_and_all_share_a_window(
    dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, known = tiled(np.zeros((4, 4), np.uint8), TotalPixelMatrixFocalPlanes=1)
    known |= {"SOPClassUID": SEGMENTATION, "SegmentationType": "BINARY"}
    known["SegmentSequence"] = [item(SegmentNumber=n, SegmentLabel=f"{n}") for n in (3, 5)]
    tiles = np.concatenate([tiles + 1, *[tiles] * 3])
    outcome = convert(dicom_file(tiles, **known), tmp_path, png_bits=8)
    assert [text for _, text in outcome.facts[-2:]] == ["segment 3 3", "segment 5 5"]
    assert [{*picture.flat} for picture in pictures(outcome)] == [{255}, {0}]


@pytest.mark.parametrize(
    ("kind", "lab", "level"),
    [
        ("color", None, 255),
        ("gray", None, 0),
        ("segmentation", None, 0),
        ("color", [0, 32896, 32896], 0),
        ("gray", [65535, 32896, 32896], 255),
    ],
)
def test_what_no_tile_covers(
    kind: str, lab: Any, level: int, dicom_file: Factory, tmp_path: Path
) -> None:
    tile = np.full((1, 4, 4, 3) if kind == "color" else (1, 4, 4), 9, np.uint8)
    _, known = tiled(np.zeros((8, 12), np.uint8), RecommendedAbsentPixelCIELabValue=lab or [])
    known |= placed((3, 6), WindowCenter="9") | {"WindowCenter": "128", "WindowWidth": "256"}
    if kind == "segmentation":
        known |= {"SOPClassUID": LABEL_MAP, "SegmentationType": "LABELMAP"}
        known["SegmentSequence"] = [item(SegmentNumber=9, SegmentLabel="nine")]
    (picture,) = pictures(convert(dicom_file(tile, **known), tmp_path, png_bits=8))
    expected = np.full((8, 12, *tile.shape[3:]), level, np.uint8)
    expected[2:6, 5:9] = 9
    assert np.array_equal(picture, expected)


def test_tiles_over_each_other_and_over_the_edge(dicom_file: Factory, tmp_path: Path) -> None:
    tiles = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (10, 20, 30, 40)])
    _, known = tiled(np.zeros((8, 8), np.uint8))
    known |= placed((1, 1), (3, 3), (-1, -2), (7, 8))
    (picture,) = pictures(convert(dicom_file(tiles, **known), tmp_path))
    expected = np.full((8, 8), 255, np.uint8)
    expected[:4, :4], expected[2:6, 2:6], expected[:2, :1], expected[6:, 7:] = 10, 20, 30, 40
    assert np.array_equal(picture[..., 0], expected)


@pytest.mark.parametrize("parts", [None, 1, 3])
def test_a_part_of_a_concatenation_lies_where_its_offset_says(
    parts: int | None, dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, known = tiled(COLOR)
    known |= {"ConcatenationUID": "1.2.3", "ConcatenationFrameOffsetNumber": 4}
    known |= {"InConcatenationTotalNumber": parts} if parts else {}
    outcome = convert(dicom_file(tiles[4:8], **known), tmp_path)
    expected = np.full_like(COLOR, 255)
    expected[4:8] = COLOR[4:8]
    assert np.array_equal(pictures(outcome)[0], expected)
    note = "a part of a concatenation: other files hold the other tiles"
    assert outcome.warnings == (() if parts == 1 else (note,))


@pytest.mark.parametrize(
    ("rows", "frames", "kind"), [(4, 1, "still"), (7, 1, "slide"), (4, 2, "slide")]
)
def test_one_frame_that_is_the_whole_is_a_still(
    rows: int, frames: int, kind: str, dicom_file: Factory, tmp_path: Path
) -> None:
    _, known = tiled(COLOR[:4, :4], TotalPixelMatrixRows=rows)
    tiles = np.stack([COLOR[:4, :4]] * frames)
    outcome = convert(dicom_file(tiles, **known), tmp_path)
    assert outcome.instance
    assert outcome.instance.kind == kind
    assert [picture.shape for picture in pictures(outcome)] == [(rows, 4, 3)] * frames


# --- How they are shown ---------------------------------------------------------------------------


def test_a_slide_is_reduced_by_means_of_whole_squares(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dc, "MAX_SIDE", 8)
    whole = RNG.integers(0, 256, (15, 24, 3), np.uint8)
    tiles, known = tiled(whole, 6, 12, PixelSpacing=["0.01", "0.01"])
    outcome = convert(dicom_file(tiles, **known), tmp_path)
    assert outcome.remark == "24 x 15 pixels of 6 tiles of 12 x 6, reduced 3 times"
    (picture,) = pictures(outcome)
    assert picture.shape == (5, 8, 3)
    means = whole.reshape(5, 3, 8, 3, 3).mean(axis=(1, 3))
    assert np.abs(picture - means).max() <= 0.5
    raw = outcome.outputs[0].read_bytes()
    at = raw.index(b"pHYs")
    assert struct.unpack(">LL", raw[at + 4 : at + 12]) == (33333, 33333)


@pytest.mark.parametrize("factor", [2, 3, 5, 7])
def test_no_seams_show_where_tiles_are_no_multiple_of_the_factor(
    factor: int, dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 210
    monkeypatch.setattr(dc, "MAX_SIDE", side // factor)
    ramp = np.add.outer(np.arange(side), np.arange(side)) * 255 / (2 * side - 2)
    whole = np.rint(ramp).astype(np.uint8)[..., np.newaxis].repeat(3, axis=2)
    tiles, known = tiled(whole, 11, 16)
    (picture,) = pictures(convert(dicom_file(tiles, **known), tmp_path))
    size = side // factor
    means = whole.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    off = factor * 255 / (2 * side)  # half a pixel, down and across
    assert np.abs(picture - means).max() <= 1 + off
    steps = np.diff(picture[..., 0].astype(int), axis=1)
    assert steps.min() >= 0
    assert steps.max() <= 1 + 2 * off
    whole[:] = 200
    tiles, _ = tiled(whole, 11, 16)  # of which those at the edges hold something else beyond
    (picture,) = pictures(convert(dicom_file(tiles, **known), tmp_path))
    assert {*picture.flat} == {200}


@pytest.mark.parametrize("window", [None, "27000"])
def test_each_path_has_gray_levels_of_its_own(
    window: str | None, dicom_file: Factory, tmp_path: Path
) -> None:
    """Without a window, or with one that shows nothing of one path; planes of one share theirs."""
    wholes = RNG.integers(1, 100, (2, 2, 6, 8), np.uint16)  # paths, planes
    wholes[0, 0, 0, 0], wholes[0, 1, 0, 0], wholes[1] = 0, 200, wholes[1] * 500
    tiles = np.concatenate([cut(whole, 3, 4) for path in wholes for whole in path])
    _, known = tiled(wholes[0, 0], TotalPixelMatrixFocalPlanes=2)
    known["OpticalPathSequence"] = [item(OpticalPathIdentifier=of) for of in ("a", "b")]
    known |= {"WindowCenter": window, "WindowWidth": "50000"} if window else {}
    outcome = convert(dicom_file(tiles, **known), tmp_path)
    low, high = ([0, wholes[1].min()], [200, wholes[1].max()])
    if window:  # LINEAR: half a unit off
        low[1], high[1] = 27000 - 0.5 - 24999.5, 27000 - 0.5 + 24999.5
    for path, found in enumerate(np.reshape(pictures(outcome), wholes.shape)):
        levels = np.clip((wholes[path].astype(float) - low[path]) / (high[path] - low[path]), 0, 1)
        assert np.abs(found - 65535 * levels).max() <= 0.5
    assert len(outcome.warnings) == bool(window)
    assert "center 100, width 200, LINEAR_EXACT" in dict(outcome.facts)["Window"]
    assert "other frames have their own" in dict(outcome.facts)["Window"]


def test_a_lost_tile_and_an_own_rescale_leave_levels_in_place(
    dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, known = tiled(np.arange(3, dtype=np.uint8).repeat(16).reshape(12, 4))
    known |= placed((99, 1), (5, 1), (9, 1), paths=["a", "b", "b"])
    known["OpticalPathSequence"] = [item(OpticalPathIdentifier=of) for of in ("a", "b")]
    for n, frame in enumerate(known["PerFrameFunctionalGroupsSequence"]):
        rescale = item(RescaleSlope="1", RescaleIntercept=str(10 * n))
        frame.PixelValueTransformationSequence = [rescale]
    outcome = convert(dicom_file(tiles, **known), tmp_path, png_bits=8)
    assert pictures(outcome)[0][:, 0].tolist() == [0] * 8 + [255] * 4
    assert "center 16.5, width 11, LINEAR_EXACT" in dict(outcome.facts)["Window"]


def test_labels_are_not_mixed(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dc, "MAX_SIDE", 10)
    whole = RNG.integers(0, 2, (40, 40), np.uint8) * 9
    tiles, known = tiled(whole, 7, 9, SOPClassUID=LABEL_MAP, SegmentationType="LABELMAP")
    known["SegmentSequence"] = [item(SegmentNumber=9, SegmentLabel="nine")]
    outcome = convert(dicom_file(tiles, **known), tmp_path, png_bits=8, window="full")
    (picture,) = pictures(outcome)
    assert picture.shape == (10, 10)
    assert {*picture.flat} == {0, 30}  # of 0..77, which the cut tiles hold


@pytest.mark.parametrize("whole", [4, 8])
def test_labels_that_are_stretched_are_not_mixed(
    whole: int, dicom_file: Factory, tmp_path: Path
) -> None:
    """As a still, and as a slide."""
    labels = RNG.integers(1, 3, (whole, whole), np.uint8)
    tiles, known = tiled(labels, SOPClassUID=LABEL_MAP, SegmentationType="LABELMAP")
    known |= {"SegmentSequence": [item(SegmentNumber=2)], "PixelAspectRatio": [2, 1]}
    tiles = tiles[0] if len(tiles) == 1 else tiles
    (picture,) = pictures(convert(dicom_file(tiles, **known), tmp_path, png_bits=8))
    assert np.array_equal(picture, (labels.repeat(2, axis=0) - 1) * 255)


def test_labels_under_a_state_are_not_mixed_either() -> None:
    labels = RNG.integers(0, 2, (9, 9), np.uint8) * 255
    for side in (5, 20):
        placement = dc.Placement((0, 0, 9, 9), (side, side))
        assert {*dc.placed(labels, placement, cv2.INTER_NEAREST_EXACT).flat} == {0, 255}
        assert len({*dc.placed(labels, placement).flat}) > 2


def test_pixels_almost_square_are_not_reduced_for_it(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dc, "MAX_SIDE", 14)
    for high in "9999", "10001":
        tiles, known = tiled(COLOR, PixelAspectRatio=[high, "10000"])
        assert np.array_equal(pictures(convert(dicom_file(tiles, **known), tmp_path))[0], COLOR)


def test_pixels_that_are_not_square_are_stretched_together(
    dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, known = tiled(COLOR, PixelAspectRatio=[2, 1])
    path = dicom_file(tiles, **known)
    stretched = cv2.resize(COLOR, (14, 20), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(pictures(convert(path, tmp_path))[0], stretched)
    native = pictures(convert(path, tmp_path, native_pixels=True))[0]
    assert np.array_equal(native, COLOR)


def test_the_options_of_clips_do_not_matter(dicom_file: Factory, tmp_path: Path) -> None:
    tiles, known = tiled(COLOR)
    path = dicom_file(tiles, **known)
    outcome = convert(path, tmp_path, frames="1", gif=False, mp4=False, frame_rate=None)
    assert len(pictures(outcome)) == 1
    assert outcome.warnings == ("tiles of a slide are not written one by one",)
    assert convert(path, tmp_path, resume=True).status == dc.Status.DONE
    assert convert(path, tmp_path, resume=True, png_bits=8).status == dc.Status.CONVERTED


def test_no_clip_of_a_series_takes_slides(dicom_file: Factory, tmp_path: Path) -> None:
    tiles, known = tiled(COLOR, SeriesInstanceUID="1.2", StudyInstanceUID="1.1")
    outcomes = [convert(dicom_file(tiles, name=f"{at}.dcm", **known), tmp_path) for at in range(3)]
    assert [one.instance.kind for one in outcomes if one.instance] == ["slide"] * 3
    assert dc.clips_of(outcomes) == []
    tally = dc.Tally()
    for one in outcomes:
        tally.add(one)
    assert tally.pictures == 3


# --- Hostile ones ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (
            {"TotalPixelMatrixRows": (1 << 32) - 1, "TotalPixelMatrixColumns": (1 << 32) - 1},
            "declares 4294967295 x 4294967295 pixels of 1 tiles: too many",
        ),
        (placed((-3, 1)), "none of its tiles"),
        (placed((1, 9)), "none of its tiles"),
        (placed((2.0**40, -(2.0**40))), "none of its tiles"),
        (placed((float("nan"), 1)), "none of its tiles"),
        (placed((1, float("inf"))), "none of its tiles"),
    ],
)
def test_what_cannot_be_put_together_fails(
    known: dict[str, Any], reason: str, dicom_file: Factory, tmp_path: Path
) -> None:
    tiles, usual = tiled(COLOR[:8, :8])
    outcome = convert(dicom_file(tiles[:1], **usual | known), tmp_path)
    assert outcome.status == dc.Status.FAILED
    assert outcome.reason.startswith(reason)
    assert "\n" not in outcome.reason


def test_lost_tiles_are_counted(dicom_file: Factory, tmp_path: Path) -> None:
    tiles, known = tiled(COLOR[:8, :8])
    known |= placed((1, 1), (1, 5), (99, 1), (float("nan"), 1))
    outcome = convert(dicom_file(tiles, **known), tmp_path)
    assert outcome.warnings == (
        "(0048,021f) is not a number and was left out",
        "2 tiles lie beside the picture, or nowhere, and were left out",
    ) or outcome.warnings == ("2 tiles lie beside the picture, or nowhere, and were left out",)
    assert np.array_equal(pictures(outcome)[0][:4], COLOR[:4, :8])


def test_too_many_pictures_and_tiles_fail(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = np.zeros((12, 4, 4), np.uint8)
    _, known = tiled(np.zeros((4, 8), np.uint8))
    path = dicom_file(tiles, **known)  # six pictures: whatever the header says of paths
    assert len(pictures(convert(path, tmp_path))) == 6
    for bound, least in (("MAX_SLIDES", 5), ("MAX_SLIDE_PIXELS", 191), ("MAX_TILES", 11)):
        with monkeypatch.context() as patch:
            patch.setattr(dc, bound, least)
            assert convert(path, tmp_path).reason.endswith("too many")


def test_very_many_tiles_of_one_pixel(dicom_file: Factory, tmp_path: Path) -> None:
    whole = RNG.integers(0, 256, (100, 200), np.uint8)
    tiles, known = tiled(whole, 1, 1, WindowCenter="128", WindowWidth="256")
    began = time.perf_counter()
    (picture,) = pictures(convert(dicom_file(tiles, **known), tmp_path, png_bits=8))
    assert time.perf_counter() - began < 30  # 3 s
    assert np.array_equal(picture, whole)


def test_places_of_any_file_end(tmp_path: Path) -> None:
    ds = data_set(np.zeros((3, 4, 4), np.uint8), TotalPixelMatrixRows=9, TotalPixelMatrixColumns=1)
    ds.ConcatenationFrameOffsetNumber = (1 << 32) - 1
    ds.TotalPixelMatrixFocalPlanes = (1 << 32) - 1
    path = tmp_path / "far.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert len(pictures(convert(path, tmp_path))) in (1, 2)


def test_pictures_that_are_almost_all_absent_are_refused(
    dicom_file: Factory, tmp_path: Path
) -> None:
    """Three of 16384 x 16384 pixels, each with one tile of one pixel."""
    tiles, known = tiled(COLOR[:1, :3, 0], 1, 1)
    known |= placed(*[(1, 1)] * 3, z=(0, 1, 2))
    known |= {"TotalPixelMatrixRows": 16_384, "TotalPixelMatrixColumns": 16_384}
    outcome = convert(dicom_file(tiles, **known), tmp_path)
    assert outcome.status == dc.Status.FAILED
    assert outcome.reason == "declares 3 pictures of 16384 x 16384: too many"
