"""What several files say together: series, their order, their clips, and the shelf."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pydicom
import pytest
from conftest import CORPUS, Run, data_set, needs_corpus
from pydicom import Dataset, dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
)
from test_batch import cluster, command, contents, needs_dask, program

import dicom_converter as dc

Runner = Callable[..., Run]
AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]
STUDY, SERIES = "1.2.3", "1.2.3.4"


def slice_file(folder: Path, name: str, position: float, **elements: Any) -> Path:
    """Write a slice of 8 x 8 whose level tells its *position* in mm along the body."""
    level = round(100 + 10 * position)
    pixels = np.full((8, 8), level, np.uint16)
    pixels[:2] = [0, 1000, 0, 1000, 0, 1000, 0, 1000]
    defaults: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "Modality": "CT",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SeriesNumber": 3,
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": [0, 0, position],
        "WindowCenter": 500,
        "WindowWidth": 1000,
    }
    folder.mkdir(parents=True, exist_ok=True)
    found = {key: value for key, value in (defaults | elements).items() if value is not None}
    path = folder / name
    data_set(pixels, **found).save_as(path, enforce_file_format=True)
    return path


def slices(folder: Path, positions: Sequence[float], **elements: Any) -> Path:
    """Write slices at *positions* in mm, numbered and named as they come."""
    for number, position in enumerate(positions, 1):
        changes = {"InstanceNumber": number} | elements
        slice_file(folder, f"IM{number}", position, **changes)
    return folder


def reference(path: Path, *frames: int) -> Dataset:
    """Return the item by which states and lists of key images name a file, or *frames* of it."""
    ds, item = dcmread(path, stop_before_pixels=True), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    if frames:
        item.ReferencedFrameNumber = list(frames)
    return item


def state_file(path: Path, *images: Dataset, label: Any, **elements: Any) -> Path:
    """Write a state that shows *images* inverted."""
    group = Dataset()
    group.SeriesInstanceUID, group.ReferencedImageSequence = SERIES, list(images)
    defaults: dict[str, Any] = {
        "SOPClassUID": GrayscaleSoftcopyPresentationStateStorage,
        "Modality": "PR",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{SERIES}.1",
        "SeriesNumber": 90,
        "ContentLabel": label,
        "PresentationLUTShape": "INVERSE",
        "ReferencedSeriesSequence": [group],
    }
    data_set(**defaults | elements).save_as(path, enforce_file_format=True)
    return path


def key_file(
    path: Path, *images: Dataset, title: str = "113000=Of Interest", says: str = "", **elements: Any
) -> Path:
    """Write a list of key images with a title (its code=meaning), which *says* something."""
    items = [content_item("TEXT", TextValue=says)] if says else []
    items += [content_item("IMAGE", ReferencedSOPSequence=[image]) for image in images]
    code = Dataset()
    code.CodeValue, _, code.CodeMeaning = title.partition("=")
    code.CodingSchemeDesignator = "DCM"
    defaults: dict[str, Any] = {
        "SOPClassUID": KeyObjectSelectionDocumentStorage,
        "Modality": "KO",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{SERIES}.2",
        "SeriesNumber": 91,
        "ConceptNameCodeSequence": [code],
        "ContentSequence": items,
    }
    data_set(**defaults | elements).save_as(path, enforce_file_format=True)
    return path


def content_item(kind: str, **elements: Any) -> Dataset:
    item = Dataset()
    item.ValueType, item.RelationshipType = kind, "CONTAINS"
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def gif_frames(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def listed(text_path: Path) -> list[str]:
    """Return the names of the files that the TXT of a series lists, in order."""
    found = re.findall(r"^  Frame \d+ .*, (\S+)$", text_path.read_text("utf-8"), re.MULTILINE)
    return [str(name) for name in found]


def notes(text_path: Path) -> str:
    return "\n".join(re.findall(r"^  Note +(.*)$", text_path.read_text("utf-8"), re.MULTILINE))


def page_of(path: Path) -> tuple[Any, list[Any]]:
    """Return the head of the page at *path*, or of the index in a folder, and its series."""
    html = (path / "index.html" if path.is_dir() else path).read_text("utf-8")
    (found,) = re.findall(r"<script[^>]*application/json[^>]*>(.*?)</script>", html, re.DOTALL)
    head, *series = map(json.loads, found.strip().splitlines())
    return head, series


# --- Order ----------------------------------------------------------------------------------------


def test_slices_are_shown_by_position_whatever_their_names_and_numbers(
    run: Runner, tmp_path: Path
) -> None:
    places = [5.0, 2.5, 10.0, 0.0, 7.5]
    for number, place in enumerate(places, 1):
        slice_file(tmp_path / "in", f"IM{number}", place, InstanceNumber=None)
    result = run(tmp_path / "in", "--study")
    assert result.code == 0
    assert listed(result.output / "series-003.txt") == ["IM4", "IM2", "IM1", "IM5", "IM3"]
    levels = [int(frame[4, 4]) for frame in gif_frames(result.output / "series-003.gif")]
    assert levels == sorted(levels)
    assert len(set(levels)) == 5


def test_the_end_with_the_lower_instance_numbers_comes_first(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", [10, 7.5, 5, 2.5, 0])
    result = run(folder, "--study")
    assert listed(result.output / "series-003.txt") == ["IM1", "IM2", "IM3", "IM4", "IM5"]


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"ImageOrientationPatient": [0] * 6}, True),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, True),
        ({"ImageOrientationPatient": [3, 0, 0, 0, 3, 0]}, True),
        ({"ImagePositionPatient": [1e300, 1e300, 1e300]}, True),
        ({"ImagePositionPatient": [float("nan")] * 3}, True),
        ({"ImageOrientationPatient": None, "ImagePositionPatient": None}, False),
    ],
    ids=["zero", "parallel", "long", "far away", "no numbers", "absent"],
)
def test_positions_that_cannot_be_right_give_way_to_the_next_key(
    elements: dict[str, Any], said: bool, run: Runner, tmp_path: Path
) -> None:
    for number, place in enumerate([2, 1, 3], 1):
        changes = {"SliceLocation": place, "InstanceNumber": number} | elements
        slice_file(tmp_path / "in", f"IM{number}", place, **changes)
    result = run(tmp_path / "in", "--study")
    text = result.output / "series-003.txt"
    assert listed(text) == ["IM2", "IM1", "IM3"]
    assert "by slice location" in text.read_text("utf-8")
    assert ("positions and orientations" in notes(text)) == said


def test_what_has_no_place_comes_by_number_time_or_name(tmp_path: Path) -> None:
    nowhere = {"ImageOrientationPatient": None, "ImagePositionPatient": None}
    times = {10: "100001", 9: "100004", 1: "100002", 2: "100003"}
    paths = [
        slice_file(tmp_path, f"IM{n}", n, **nowhere, ContentDate="20200101", ContentTime=moment)
        for n, moment in times.items()
    ]
    members = [member(path) for path in paths]
    assert [one.path.name for one in dc.ordered(members).sources] == ["IM10", "IM1", "IM2", "IM9"]
    untimed = [
        (source, replace(one, moments=(None,) * len(one.moments))) for source, one in members
    ]
    assert dc.ordered(untimed).order == "file name"
    assert [one.path.name for one in dc.ordered(untimed).sources] == ["IM1", "IM2", "IM9", "IM10"]


def member(path: Path) -> dc.Member:
    with path.open("rb") as file:
        header = dc.read_header(file)
        return dc.Source(path), dc.instance_of(header, dc.content_of(header))


def test_times_of_day_without_a_date_are_times(tmp_path: Path) -> None:
    nowhere = {"ImageOrientationPatient": None, "ImagePositionPatient": None}
    times = {"a": "120000", "b": "101112.5", "c": "101101"}
    members = [
        member(slice_file(tmp_path, name, 0, **nowhere, AcquisitionTime=moment))
        for name, moment in times.items()
    ]
    assert members[1][1].texts["AcquisitionDateTime"] == "10:11:12"
    assert members[1][1].moments[-1] == pytest.approx(10 * 3600 + 11 * 60 + 12.5)
    series = dc.ordered(members)
    assert series.order == "time"
    assert [one.path.name for one in series.sources] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("elements", "steady"),
    [
        ({"ImageOrientationPatient": None, "ImagePositionPatient": None}, True),
        ({"ImagePositionPatient": [0, 0, 0]}, True),
        ({}, False),
        ({"ImageOrientationPatient": None}, False),
        ({"ImageOrientationPatient": None, "ImagePositionPatient": None, "gap": 60}, False),
    ],
    ids=["nowhere", "one place", "places", "bad places", "minutes apart"],
)
def test_only_moments_of_one_place_have_durations(
    elements: dict[str, Any], steady: bool, tmp_path: Path
) -> None:
    gap = elements.get("gap", 1)
    more = {key: value for key, value in elements.items() if key != "gap"}
    members = [
        member(
            slice_file(tmp_path, f"IM{n}", n, **more, InstanceNumber=n, TriggerTime=1000 * gap * n)
        )
        for n in range(4)
    ]
    durations = [one.duration for one in dc.ordered(members).slices]
    assert durations == [Fraction(1) if steady else None] * 4


def test_pictures_of_one_place_and_encoding_are_no_copies(tmp_path: Path) -> None:
    same = {"InstanceNumber": 1, "AcquisitionNumber": 1}
    members = [member(slice_file(tmp_path, name, 0, **same)) for name in ("a", "b")]
    kept, copies = dc.without_copies(members)
    assert (len(kept), copies) == (2, [])


def test_places_of_functional_groups_are_places(tmp_path: Path) -> None:
    for number, place in enumerate([2, 1, 3], 1):
        position, orientation = Dataset(), Dataset()
        position.ImagePositionPatient, orientation.ImageOrientationPatient = [0, 0, place], AXIAL
        shared = Dataset()
        shared.PlanePositionSequence, shared.PlaneOrientationSequence = [position], [orientation]
        nowhere = {"ImageOrientationPatient": None, "ImagePositionPatient": None}
        path = slice_file(tmp_path, f"IM{number}", place, **nowhere)
        ds = dcmread(path)
        ds.SharedFunctionalGroupsSequence = [shared]
        ds.save_as(path)
    series = dc.ordered([member(path) for path in sorted(tmp_path.iterdir())])
    assert series.order == "position"
    assert [one.path.name for one in series.sources] == ["IM2", "IM1", "IM3"]


def test_numbers_that_are_missing_do_not_turn_a_series_around(tmp_path: Path) -> None:
    members = [
        member(slice_file(tmp_path, f"IM{n}", n, InstanceNumber=n if n < 4 else None))
        for n in range(1, 6)
    ]
    assert [one.path.name for one in dc.ordered(members).sources] == [f"IM{n}" for n in range(1, 6)]


def test_volumes_that_lie_a_little_beside_each_other_are_volumes(tmp_path: Path) -> None:
    members = [
        member(
            slice_file(
                tmp_path,
                f"V{volume}S{place}",
                3 * place + 0.02 * volume,
                TemporalPositionIdentifier=volume + 1,
            )
        )
        for place in range(4)
        for volume in range(2)
    ]
    series = dc.ordered(members)
    assert not series.notes
    names = [one.path.name for one in series.sources]
    assert names == [f"V{volume}S{place}" for volume in range(2) for place in range(4)]


def test_two_patients_with_the_same_uids_keep_their_clips(run: Runner, tmp_path: Path) -> None:
    for patient in ("A", "B"):
        for number in range(3):
            slice_file(tmp_path / "in", f"{patient}{number}", number, PatientID=patient)
    slice_file(tmp_path / "in", "series-003.dcm", 9, SeriesInstanceUID="1.9")
    result = run(tmp_path / "in", "--study")
    clips = {tuple(listed(path)) for path in result.output.glob("series-003-*.txt")}
    assert clips == {("A0", "A1", "A2"), ("B0", "B1", "B2")}
    _, entries = page_of(result.output)
    for entry in entries:
        for clip in entry["clips"]:
            text = result.output / clip["links"][-1]
            assert f"ID             {entry['patient']['PatientID']}" in text.read_text("utf-8")


def test_one_patient_is_known_by_name_and_id(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(4), PatientID="1", PatientName="A^B")
    slice_file(folder, "IM5", 4, PatientID="1", PatientName="A^B", PatientSex="F")
    result = run(folder, "--study")
    assert len(listed(result.output / "series-003.txt")) == 5


def test_names_burned_into_one_slice_are_said_of_the_clip(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(4))
    slice_file(folder, "IM5", 4, BurnedInAnnotation="YES")
    result = run(folder, "--study")
    assert "names may be burned" in notes(result.output / "series-003.txt")
    _, (entry,) = page_of(result.output)
    assert entry["clips"][0]["burned"]


def test_all_that_failed_is_listed_on_the_page(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(4))
    cut = (folder / "IM3").read_bytes()
    (folder / "IM3").write_bytes(cut[:-40])
    (folder / "EMPTY.dcm").write_bytes(b"")
    head, _ = page_of(run(folder, "--study").output)
    assert [one["path"] for one in head["failed"]] == [
        str(folder / name) for name in ("EMPTY.dcm", "IM3")
    ]


def test_files_of_nobody_come_last(run: Runner, tmp_path: Path) -> None:
    slices(tmp_path / "in", range(3), PatientName="Zoe", PatientID="Z")
    nobody = {"PatientName": "", "PatientID": "", "SeriesInstanceUID": "1.9"}
    slice_file(tmp_path / "in", "A", 0, **nobody)
    _, entries = page_of(run(tmp_path / "in", "--study").output)
    assert [one["patient"].get("PatientName") for one in entries] == ["Zoe", None]


def test_the_beginnings_of_the_frames_of_a_series_are_on_the_page(
    run: Runner, tmp_path: Path
) -> None:
    for number, moment in enumerate((0, 100, 250, 350), 1):
        once = {"TriggerTime": moment, "ImagePositionPatient": [0, 0, 0]}
        slice_file(tmp_path / "in", f"IM{number}", number, InstanceNumber=number, **once)
    _, (entry,) = page_of(run(tmp_path / "in", "--study", "--fps", "auto").output)
    (clip,) = entry["clips"]
    assert clip["frames"] == 4
    assert clip["begins"] == pytest.approx([0, 0.1, 0.25, 0.35, 0.45])


def test_files_without_a_picture_are_on_the_page(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, kind in (("report", "88.11"), ("plan", "481.5")):
        ds = data_set(np.zeros((1, 1), np.uint8), SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}")
        del ds.PixelData, ds.Rows
        ds.save_as(tmp_path / "in" / name, enforce_file_format=True)
    _, entries = page_of(run(tmp_path / "in", "--study").output)
    names = [file["name"] for entry in entries for file in entry["files"]]
    assert sorted(names) == ["plan", "report"]


def test_the_beginnings_of_frames_are_on_the_page(run: Runner, tmp_path: Path) -> None:
    frames = np.zeros((4, 8, 8), np.uint16)
    frames[:, 0, 0] = 100
    vector: dict[str, Any] = {
        "FrameTimeVector": [0, 100, 300, 50],
        "FrameIncrementPointer": 0x00181065,
    }
    clip = data_set(frames, NumberOfFrames=4, SeriesInstanceUID=SERIES, **vector)
    (tmp_path / "in").mkdir()
    clip.save_as(tmp_path / "in" / "CLIP", enforce_file_format=True)
    for rate, begins in (("auto", [0, 0.1, 0.4, 0.45, 0.5]), ("5", None)):
        result = run(tmp_path / "in", "--study", "--fps", rate)
        _, (entry,) = page_of(result.output)
        assert entry["files"][0].get("begins") == (begins and pytest.approx(begins))


@pytest.mark.parametrize(
    "changes",
    [
        {"ConvolutionKernel": "B30f"},
        {"Units": "BQML"},
        {"CorrectedImage": ["ATTN"]},
        {"PixelPresentation": "MONOCHROME"},
        {"EchoNumbers": 2},
        {"EchoTime": 30},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "P"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "M"]},
        {"PixelSpacing": [1, 2]},
    ],
)
def test_what_cannot_be_in_one_clip(changes: dict[str, Any], tmp_path: Path) -> None:
    plain = {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "M"]}
    one = member(slice_file(tmp_path, "a", 0, **plain))
    other = member(slice_file(tmp_path, "b", 1, **(plain | changes)))
    alike = member(slice_file(tmp_path, "c", 2, **plain, AcquisitionNumber=7, RescaleSlope=2))
    assert one[1].stack == alike[1].stack != other[1].stack


def test_slices_seen_from_behind_are_in_the_same_order(tmp_path: Path) -> None:
    behind = {"ImageOrientationPatient": [1, 0, 0, 0, -1, 0]}
    members = [
        member(slice_file(tmp_path, f"IM{n}", n, InstanceNumber=n, **(behind if n % 2 else {})))
        for n in (3, 1, 4, 2)
    ]
    (stack,) = dc.stacks_of(members)
    assert [one.path.name for one in dc.ordered(stack).sources] == ["IM1", "IM2", "IM3", "IM4"]


def test_mosaics_come_by_number(tmp_path: Path) -> None:
    kind = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}
    members = [
        member(slice_file(tmp_path, f"IM{n}", place, **kind, InstanceNumber=n))
        for n, place in enumerate([3, 1, 2], 1)
    ]
    series = dc.ordered(members)
    assert series.order == "instance number"
    assert [one.path.name for one in series.sources] == ["IM1", "IM2", "IM3"]


@pytest.mark.parametrize(
    ("values", "told_by"),
    [
        ({"TemporalPositionIdentifier": (1, 2), "TriggerTime": (9, 8)}, "Temporal Position"),
        ({"FrameReferenceTime": (1, 2), "TriggerTime": (9, 8)}, "Frame Reference Time"),
        ({"TriggerTime": (1, 2), "DiffusionBValue": (9, 8)}, "Trigger Time"),
        ({"DiffusionBValue": (1, 2), "AcquisitionNumber": (9, 8)}, "Diffusion b-value"),
        ({"AcquisitionNumber": (1, 2), "AcquisitionTime": ("11", "10")}, "Acquisition Number"),
        ({"AcquisitionTime": ("10", "11"), "InstanceNumber": (9, 8)}, "Acquisition Time"),
        ({"InstanceNumber": (1, 2), "TriggerTime": (5, 5)}, "Instance Number"),
    ],
)
def test_what_tells_volumes_apart(
    values: dict[str, tuple[Any, Any]], told_by: str, tmp_path: Path
) -> None:
    members = [
        member(
            slice_file(
                tmp_path,
                f"{'BA'[volume]}{place}",
                place,
                **{keyword: pair[volume] for keyword, pair in values.items()},
            )
        )
        for place in range(3)
        for volume in range(2)
    ]
    series = dc.ordered(members)
    assert f"2 volumes one after the other by {told_by}" in series.order
    assert [one.path.name for one in series.sources] == ["B0", "B1", "B2", "A0", "A1", "A2"]
    assert not series.notes


@pytest.mark.parametrize(
    ("times", "durations"),
    [
        ([0, 1, 2], [1, 1, 1]),
        ([0, 1, 3], [1, 2, 2]),
        ([0, 1, 3.5], []),
        ([0, 0.0001, 0.0002], []),
        ([0, 11, 22], []),
        ([0, None, 2], []),
        ([2, 1, 0], []),
        ([1], []),
    ],
)
def test_steady_gaps(times: list[float | None], durations: list[float]) -> None:
    assert list(dc.steady_gaps(times, Fraction(1))) == durations


def test_names_are_sorted_as_people_do() -> None:
    names = ["IM10", "IM002", "IM2b", "IM1", "IM0010"]
    expected = ["IM1", "IM002", "IM0010", "IM10", "IM2b"]
    assert sorted(names, key=dc.natural_order) == expected


def test_of_very_many_lost_files_the_page_tells_the_number(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = slices(tmp_path / "in", range(3))
    for number in range(4):
        (folder / f"EMPTY{number}.dcm").write_bytes(b"")
    monkeypatch.setattr(dc, "MAX_LOST_SHOWN", 2)
    head, _ = page_of(run(folder, "--study").output)
    assert [Path(one["path"]).name for one in head["failed"]] == ["EMPTY0.dcm", "EMPTY1.dcm", "..."]
    assert head["failed"][-1]["reason"] == "and 2 more"


def test_what_a_file_belongs_to_is_bounded(tmp_path: Path) -> None:
    path = slice_file(tmp_path, "IM1", 0)
    ds = dcmread(path)
    ds.add_new("ImageType", "UT", "\\".join(["X" * 16_000] * 400))
    ds.add_new("ImagePositionPatient", "DS", [1] * 10_000)
    ds.save_as(path)
    _, instance = member(path)
    assert len(instance.stack) < 2000
    assert len(instance.position) < 9
    assert instance.normal == ()


def test_paths_that_begin_with_two_slashes_are_paths(run: Runner, tmp_path: Path) -> None:
    result = run(f"/{slices(tmp_path / 'in', range(3))}", "--study")
    assert result.code == 0
    assert listed(result.output / "series-003.txt") == ["IM1", "IM2", "IM3"]


def test_gray_stills_with_a_palette_of_their_own_are_a_kind(run: Runner, tmp_path: Path) -> None:
    table: dict[str, Any] = {"PixelPresentation": "MIXED"}
    for color in ("Red", "Green", "Blue"):
        table[f"{color}PaletteColorLookupTableDescriptor"] = [2, 4000, 8]
        table[f"{color}PaletteColorLookupTableData"] = b"\x40\xff"
    window = {"WindowCenter": None, "WindowWidth": None}
    folder = slices(tmp_path / "in", range(3), **window)
    for number in range(4, 7):
        path = slice_file(folder, f"IM{number}", number, **window, **table, InstanceNumber=number)
        ds = dcmread(path)
        pixels = ds.pixel_array.copy()
        pixels[0] = 4001
        ds.PixelData = pixels.tobytes()
        ds.save_as(path)
    output = run(folder, "--study").output
    assert listed(output / "series-003.txt") == ["IM1", "IM2", "IM3"]
    assert listed(output / "series-003-2.txt") == ["IM4", "IM5", "IM6"]
    assert "width 1000" in (output / "series-003-2.txt").read_text("utf-8")


def test_volumes_follow_each_other_by_what_tells_them_apart(run: Runner, tmp_path: Path) -> None:
    order = []
    for volume in range(3):
        for place in range(4):
            name = f"IM{random.Random(volume * 4 + place).randrange(10**6):06}"  # noqa: S311
            moment = {"TemporalPositionIdentifier": 3 - volume, "InstanceNumber": place + 1}
            slice_file(tmp_path / "in", name, place, **moment)
            order.append((3 - volume, place, name))
    result = run(tmp_path / "in", "--study")
    text = result.output / "series-003.txt"
    assert listed(text) == [name for *_, name in sorted(order)]
    told = "by position, 3 volumes one after the other by Temporal Position Identifier"
    assert told in text.read_text("utf-8")


def test_ragged_places_are_said(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", [0, 1, 2, 3, 3])
    result = run(folder, "--study")
    assert "from 1 to 2 files lie at a position" in notes(result.output / "series-003.txt")


def test_other_sizes_planes_and_localizers_are_clips_of_their_own(
    run: Runner, tmp_path: Path
) -> None:
    folder = slices(tmp_path / "in", [0, 1, 2, 3])
    kinds: list[dict[str, Any]] = [
        {"ImageOrientationPatient": CORONAL},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"PixelAspectRatio": [2, 1]},
        {"EchoTime": 50},
    ]
    for kind, changes in enumerate(kinds):
        for number in range(3):
            changes = {"InstanceNumber": 10 * kind + number + 11} | changes
            place = {"ImagePositionPatient": [0, number, 0]} if kind == 0 else {}
            slice_file(folder, f"K{kind}N{number}", number, **(changes | place))
    slice_file(folder, "ALONE", 9, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])
    result = run(folder, "--study")
    lists = {path.stem: listed(path) for path in result.output.glob("series-*.txt")}
    assert lists.pop("series-003") == ["IM1", "IM2", "IM3", "IM4"]
    assert lists == {
        f"series-003-{at}": [f"K{kind}N{n}" for n in range(3)]
        for at, kind in ((2, 0), (3, 2), (4, 3), (5, 1))
    }
    assert "another kind, size or orientation: 1: " in notes(result.output / "series-003.txt")
    assert (result.output / "ALONE.png").exists()


@pytest.mark.parametrize(("step", "turn"), [(10, 180), (22.5, 180), (20, 360), (15, 360)])
def test_slices_that_turn_are_one_clip_by_number(step: float, turn: int, tmp_path: Path) -> None:
    members = []
    for number in range(round(turn / step)):
        angle = np.radians(step * number)
        plane = [float(np.cos(angle)), float(np.sin(angle)), 0, 0, 0, -1]
        name, place = f"IM{100 - number}", {"ImageOrientationPatient": plane}
        members.append(member(slice_file(tmp_path, name, 0, InstanceNumber=number, **place)))
    (stack,) = dc.stacks_of(members)
    assert [one.path.name for one in dc.ordered(stack).sources] == [
        source.path.name for source, _ in members
    ]


def test_a_slice_without_a_place_is_one_among_others(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(4))
    slice_file(folder, "IM5", 4, InstanceNumber=5, ImageOrientationPatient=None)
    text = run(folder, "--study").output / "series-003.txt"
    assert listed(text) == [f"IM{n}" for n in range(1, 6)]
    assert "positions and orientations" in notes(text)


def test_single_planes_beside_a_stack_are_no_turn(tmp_path: Path) -> None:
    members = [member(slice_file(tmp_path, f"IM{n}", n, InstanceNumber=n)) for n in range(4)]
    for number, plane in enumerate((CORONAL, [0, 1, 0, 0, 0, -1]), 5):
        path = slice_file(tmp_path, f"IM{number}", 0, ImageOrientationPatient=plane)
        members.append(member(path))
    assert [len(stack) for stack in dc.stacks_of(members)] == [4, 1, 1]


def test_copies_are_shown_once(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", [0, 1, 2])
    (folder / "AGAIN").write_bytes((folder / "IM2").read_bytes())
    path = slice_file(folder, "ENCODED", 2, InstanceNumber=3)
    ds = dcmread(path)
    ds.compress(RLELossless)
    ds.save_as(path)
    result = run(folder, "--study")
    text = result.output / "series-003.txt"
    assert listed(text) == ["IM1", "AGAIN", "ENCODED"]
    assert "show once more what others do: 2: " in notes(text)


def test_gaps_and_uneven_spacing_are_said(run: Runner, tmp_path: Path) -> None:
    slices(tmp_path / "a", [0, 1, 2, 5, 6])
    slices(tmp_path / "b", [0, 1, 2.2, 3.2], SeriesInstanceUID="1.9", SeriesNumber=4)
    result = run(tmp_path / "a", "--study")
    expected = "there are gaps: most slices lie 1 mm apart, but 3 mm behind frame 3"
    assert expected in notes(result.output / "series-003.txt")
    assert expected in result.err
    result = run(tmp_path / "b", "--study")
    assert "slices lie from 1 to 1.2 mm apart" in notes(result.output / "series-004.txt")


@needs_corpus
def test_real_series_are_in_the_order_of_their_scanners() -> None:
    """By Series Instance UID; the places where a plain order of names is wrong."""
    expected: dict[tuple[str, str], list[Sequence[int]]] = {
        ("fo-dicom+fo-dicom", "abd1.zip.d"): [range(1, 6), range(6, 9), range(9, 12)],
        ("fo-dicom+fo-dicom-samples", "Patient1"): [range(1, 13)],
        ("dcm4che+dcm4che", "testdata/dicom"): [range(1, 17)],
        ("QIICR+dcmqi", "701-ADCb500"): [range(1, 21)],
        ("pydicom+pydicom", "CT2"): [[18, 180, 181, 182]],
        ("pydicom+pydicom", "CT5N"): [range(6, 11)],
        ("pydicom+pydicom", "MR700"): [range(1, 8)],
        **{("neurolabusc+dcm_qa_nih", f"mr_000{n}"): [range(1, 4)] for n in range(4, 8)},
    }
    for (repository, folder), orders in expected.items():
        by_series = defaultdict(list)
        for path in sorted((CORPUS / repository).rglob(f"{folder}/*")):
            found, _ = dc.attempt(partial(member, path), dc.Options())
            if found and found[1].kind == "still" and found[1].texts["SeriesInstanceUID"]:
                by_series[found[1].texts["SeriesInstanceUID"]].append(found)
        clips = [
            [one[1].number for one in stack]
            for members in by_series.values()
            for stack in map(in_order, dc.stacks_of(dc.without_copies(members)[0]))
            if len(stack) >= dc.MIN_SLICES
        ]
        assert clips == [list(order) for order in orders], folder


def in_order(stack: list[dc.Member]) -> list[dc.Member]:
    instances = dict(stack)
    return [(source, instances[source]) for source in dc.ordered(stack).sources]


# --- Pictures -------------------------------------------------------------------------------------


def alone(path: Path, window: Any) -> np.ndarray[Any, Any]:
    """Return the still *path* as its clip shows it: under *window*, in 8 bits."""
    with path.open("rb") as file:
        header = dc.read_header(file)
        assert header.pixels
        image = dc.as_its_stream(dc.image_pixel(header.data_set, header.pixels), header.pixels)
        (frame,) = dc.stored_frames(header, header.pixels, image)
        look = dc.look_of(header, image, dc.Options(window=window))
        return dc.render(look, 0, *frame, 8)


def window_of(text_path: Path) -> dc.Window:
    """Return the window that the TXT of a series names."""
    found = re.search(r"center ([^,]+), width ([^,]+), (\w+)", text_path.read_text("utf-8"))
    assert found
    return dc.Window(float(found[1]), float(found[2]), dc.VoiFunction(found[3]))


@needs_corpus
@pytest.mark.parametrize(
    "folder",
    [
        "fo-dicom+fo-dicom/Tests/FO-DICOM.Tests/Test Data/abd1.zip.d",
        "fo-dicom+fo-dicom-samples/Core/DICOM Media/Data/Patient1",
        "dcm4che+dcm4che/dcm4che-assembly/src/etc/testdata/dicom",
        "QIICR+dcmqi/data/paramaps/pm-example-dcm.zip.d/701-ADCb500",
        "pydicom+pydicom/src/pydicom/data/test_files/dicomdirtests/77654033/CT2",
        "pydicom+pydicom/src/pydicom/data/test_files/dicomdirtests/98892001/CT5N",
        "pydicom+pydicom/src/pydicom/data/test_files/dicomdirtests/98892003/MR700",
        "pydicom+pydicom/src/pydicom/data/test_files/dicomdirtests/98892003/MR2",
        *(f"neurolabusc+dcm_qa_nih/In/20180918GE/mr_000{number}" for number in range(4, 8)),
    ],
)
def test_each_frame_is_its_slice_as_rendered_alone(folder: str, run: Runner) -> None:
    result = run(CORPUS / folder, "--study", "--no-mp4")
    clips = list(result.output.rglob("series-*.gif"))
    assert clips
    for clip in clips:
        text = clip.with_suffix(".txt")
        window, names = window_of(text), listed(text)
        frames = gif_frames(clip)
        assert len(frames) == len(names) > 2
        for frame, name in zip(frames, names, strict=True):
            (path,) = (CORPUS / folder).rglob(name)
            assert np.array_equal(frame, alone(path, window)), name


def test_each_slice_has_its_own_rescale_and_all_one_window(run: Runner, tmp_path: Path) -> None:
    """As in PET: the same activity is other stored values in each slice."""
    folder = tmp_path / "in"
    for number in range(1, 6):
        pixels = np.array([[0, 4000 // number], [2000 // number, 1000 // number]], np.uint16)
        ds = data_set(
            pixels,
            Modality="PT",
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=SERIES,
            ImageOrientationPatient=AXIAL,
            ImagePositionPatient=[0, 0, number],
            RescaleSlope=number / 8,
            RescaleIntercept=0,
        )
        folder.mkdir(exist_ok=True)
        ds.save_as(folder / f"IM{number}", enforce_file_format=True)
    result = run(folder, "--study")
    frames = gif_frames(result.output / "series-000.gif")
    assert np.abs(np.array(frames, int) - np.array(frames[0], int)).max() <= 1
    assert [frames[0].min(), frames[0].max()] == [0, 255]
    assert "min-max" in (result.output / "series-000.txt").read_text("utf-8")


def test_windows_that_differ_give_way_to_that_in_the_middle(run: Runner, tmp_path: Path) -> None:
    for number in range(1, 6):
        changes = {"InstanceNumber": number, "WindowCenter": 100 * number}
        slice_file(tmp_path / "in", f"IM{number}", number, **changes)
    result = run(tmp_path / "in", "--study")
    text = (result.output / "series-003.txt").read_text("utf-8")
    assert "center 300, width 1000, LINEAR (that of the file in the middle" in text
    text = (
        run(tmp_path / "in", "--study", "--window", "40,400").output / "series-003.txt"
    ).read_text()
    assert "center 40, width 400, LINEAR (as asked for)" in text
    result = run(tmp_path / "in", "--study", "--window", "full")
    assert "min-max" in (result.output / "series-003.txt").read_text("utf-8")
    result = run(tmp_path / "in", "--study", "--window", "3")
    assert "has no window number 3" in notes(result.output / "series-003.txt")
    assert "center 300" in (result.output / "series-003.txt").read_text("utf-8")


def test_a_series_keeps_its_speed_where_it_has_one(run: Runner, tmp_path: Path) -> None:
    """Slices at one place are moments; those along the body are none, whenever they were taken."""
    for number in range(1, 6):
        when = {"InstanceNumber": number, "TriggerTime": 40 * number}
        slice_file(tmp_path / "heart", f"IM{number}", 0, **when)
        slice_file(tmp_path / "body", f"IM{number}", number, **when)
    for folder, auto, default in (("heart", 25, 10), ("body", 10, 10)):
        for option, rate in ((["--fps", "auto"], auto), ([], default), (["--fps", "5"], 5)):
            result = run(tmp_path / folder, "--study", *option, output=tmp_path / folder / "out")
            with av.open(str(result.output / "series-003.mp4")) as container:
                assert container.streams.video[0].average_rate == rate
    text = (tmp_path / "heart" / "out" / "series-003.txt").read_text("utf-8")
    assert "recorded at 25 (times of its files), `--fps auto` keeps it" in text


def test_options_of_clips_hold(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(4))
    result = run(folder, "--study", "--no-gif", "--frames", "all")
    ends = {"index.html", *(f"IM{n}.{end}" for n in range(1, 5) for end in ("png", "txt"))}
    assert {*result.files()} == ends | {"series-003.mp4", "series-003.txt"}
    result = run(folder, "--study", "--no-gif", "--no-mp4")
    assert {*result.files()} == ends | {"series-003.txt"}
    assert "0 done" not in result.out
    result = run(folder, "--study", "--resume", "--no-gif", "--no-mp4", "--8bit")
    assert "4 converted, 1 clip of a series" in result.out
    assert "series-003" not in result.out  # to which the depth of stills is nothing


def test_without_the_option_there_is_nothing_of_it(run: Runner, tmp_path: Path) -> None:
    result = run(slices(tmp_path / "in", range(4)))
    assert result.files() == [f"IM{n}.{end}" for n in range(1, 5) for end in ("png", "txt")]


def test_color_series_and_odd_sizes(run: Runner, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    for number in range(1, 4):
        ds = data_set(
            rng.integers(0, 255, (9, 7, 3), np.uint8),
            SeriesInstanceUID=SERIES,
            InstanceNumber=number,
            PixelAspectRatio=[1, 2],
        )
        ds.save_as(tmp_path / "in" / f"IM{number}", enforce_file_format=True)
    result = run(tmp_path / "in", "--study", "--window", "lung")
    with av.open(str(result.output / "series-000.gif")) as container:
        assert [(f.height, f.width) for f in container.decode(video=0)] == [(9, 14)] * 3
    assert "Window" not in (result.output / "series-000.txt").read_text("utf-8")


# --- Trouble --------------------------------------------------------------------------------------


def test_a_slice_that_fails_is_a_gap_that_is_said(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(6))
    cut = (folder / "IM3").read_bytes()
    (folder / "IM3").write_bytes(cut[:-40])
    result = run(folder, "--study")
    assert result.code == 1
    text = result.output / "series-003.txt"
    assert listed(text) == ["IM1", "IM2", "IM4", "IM5", "IM6"]
    assert f"could not be converted: 1: {folder / 'IM3'}" in notes(text)
    assert "2 mm behind frame 2" in notes(text)
    _, (series,) = page_of(result.output)
    assert [one["name"] for one in series["files"] if "failed" in one] == ["IM3"]


def test_a_slice_that_vanishes_between_the_rounds_is_named(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = slices(tmp_path / "in", range(4))
    works = dc.series_works

    def vanishing(shelf: dc.Shelf) -> Any:
        (folder / "IM3").unlink()
        return works(shelf)

    monkeypatch.setattr(dc, "series_works", vanishing)
    result = run(folder, "--study")
    assert result.code == 1
    assert "IM3" in result.err
    assert "series-003.gif" not in result.files()
    _, (series,) = page_of(result.output)
    assert series["clips"][0]["failed"]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    "changes", [{"PatientID": "ANOTHER"}, {"SOPInstanceUID": "1.2.3"}, {"ImageType": "DERIVED"}]
)
def test_a_slice_that_is_another_by_the_second_round_is_in_no_clip(
    changes: dict[str, str],
    number: int,
    run: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = slices(tmp_path / "in", range(4))
    works = dc.series_works

    def replacing(shelf: dc.Shelf) -> Any:
        slice_file(folder, f"IM{number}", number - 1, InstanceNumber=number, **changes)
        return works(shelf)

    with monkeypatch.context() as patched:
        patched.setattr(dc, "series_works", replacing)
        result = run(folder, "--study")
    assert result.code == 1
    assert f"IM{number}: it is another file by now" in result.err
    assert "series-003.gif" not in result.files()
    assert run(folder, "--study", "--resume").code == 0


def test_files_without_a_series_are_listed_by_folder(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in" / "deep", range(4), SeriesInstanceUID=None)
    slices(tmp_path / "in", range(4), SeriesInstanceUID=None, StudyInstanceUID=None)
    result = run(folder.parent, "--study")
    assert not list(result.output.rglob("series-*"))
    _, series = page_of(result.output)
    assert {one["folder"] for one in series} == {"deep", "."}


def test_patients_whose_series_share_a_uid_are_not_mixed(run: Runner, tmp_path: Path) -> None:
    for patient in ("A", "B"):
        slices(tmp_path / "in" / patient, range(3), PatientID=patient)
    result = run(tmp_path / "in", "--study")
    for patient in ("A", "B"):
        assert len(listed(result.output / patient / "series-003.txt")) == 3
    _, series = page_of(result.output)
    assert [(one["patient"]["PatientID"], one["of"][0]) for one in series] == [("A", 1), ("B", 2)]


def test_series_of_one_number_and_folder_get_names_of_their_own(
    run: Runner, tmp_path: Path
) -> None:
    for series in ("1.1", "1.2"):
        for number in range(3):
            name = f"S{series}N{number}"
            slice_file(tmp_path / "in", name, number, SeriesInstanceUID=series)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "series-003.gif").write_bytes(b"theirs")
    result = run(tmp_path / "in", "--study")
    assert (result.output / "series-003.gif").read_bytes() == b"theirs"
    texts = sorted(path.name for path in result.output.glob("series-*.txt"))
    assert texts == ["series-003-2-2.txt", "series-003-2.txt"]
    again = run(tmp_path / "in", "--study", "--resume")
    assert sorted(path.name for path in again.output.glob("series-*.txt")) == texts
    assert "6 done before, 2 clips of series" in again.out


HOSTILE = {
    "markup": "</script><img src=x onerror=alert(1)><!--",
    "right to left": "\u202egnp.exe\u2066",
    "control": "a\x1b[2Jb\x07c\x00d",
    "long": "<b>" * 22_000,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_text_and_short(value: str, run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(3))
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        for keyword in ("PatientName", "StudyDescription", "SeriesDescription", "InstitutionName"):
            ds.add_new(keyword, "UT", value)
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=True)
    result = run(folder, "--study")
    assert result.code == 0
    html = (result.output / "index.html").read_bytes()
    data = html[html.index(b"application/json") :].partition(b"</script>")[0]
    assert b"series-003.mp4" in data
    assert data.isascii()
    _, (series,) = page_of(result.output)
    assert series["study"]["StudyDescription"].isprintable()
    assert len(series["study"]["StudyDescription"]) <= 128


def test_what_is_no_page_of_ours_stays(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("theirs")
    run(folder, "--study")
    run(folder, "--study", "--resume")
    assert (tmp_path / "out" / "index.html").read_text() == "theirs"
    pages = [path.name for path in (tmp_path / "out").glob("*.html")]
    assert sorted(pages) == ["index-2.html", "index.html"]


def test_very_many_pictures_get_a_page_for_each_study(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in range(3):
        changes = {"StudyInstanceUID": f"1.{study}", "StudyDate": f"2020010{study + 1}"}
        slices(tmp_path / "in" / str(study), range(3), SeriesInstanceUID=f"1.{study}.1", **changes)
    monkeypatch.setattr(dc, "MAX_ON_PAGE", 8)
    result = run(tmp_path / "in", "--study")
    _, listed_studies = page_of(result.output)
    dates = [one["study"]["StudyDate"] for one in listed_studies]
    assert dates == ["2020-01-03", "2020-01-02", "2020-01-01"]
    for study in listed_studies:
        assert (study["files"], study["count"], study["modalities"]) == (3, 1, "CT")
        assert (study["failed"], study["burned"]) == (0, 0)
        assert "CT" in study["words"]
        _, (series,) = page_of(result.output / study["page"])
        assert [one["name"] for one in series["files"]] == ["IM1", "IM2", "IM3"]
    pages = [f"study-00{number}.html" for number in (1, 2, 3)]
    assert sorted(path.name for path in result.output.glob("*.html")) == ["index.html", *pages]
    shutil.copy(result.output / "study-001.html", result.output / "study-of mum.html")
    monkeypatch.undo()
    result = run(tmp_path / "in", "--study")
    assert sorted(path.name for path in result.output.glob("*.html")) == [
        "index.html",
        "study-of mum.html",
    ]


def test_a_study_of_no_dicom_gets_no_page(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes").write_text("nothing of DICOM")
    result = run(tmp_path / "in", "--study")
    assert result.code == 1
    assert not (result.output / "index.html").exists()


def test_what_a_file_belongs_to_may_be_unreadable(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still converted, and said."""

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(dc, "instance_of", fail)
    result = run(slice_file(tmp_path / "in", "IM1", 0))
    assert result.code == 0
    assert "IM1.png" in result.files()
    assert "what it belongs to cannot be read: odd (ValueError)" in result.err


# --- States and key images ------------------------------------------------------------------------


def test_a_list_of_key_images_names_what_shows_them(run: Runner, tmp_path: Path) -> None:
    """It comes after the states, whatever their names, and these after their images."""
    folder = slices(tmp_path / "in", range(3))
    slice_file(folder, "z", 3)
    last, state = (
        reference(folder / "z"),
        state_file(folder / "b", reference(folder / "z"), label="B"),
    )
    nobody = Dataset()
    nobody.ReferencedSOPInstanceUID = "1.9.9"
    other = key_file(folder / "0", last, title="113003=For Surgery", says="^")
    named = (reference(state), last, reference(folder / "IM2"), reference(other), nobody)
    key_file(folder / "a", *named, says="Compare\r\n with  2019")
    result = run(folder, "--study")
    ends = [line.partition(" -> ")[0].rpartition("/")[2] for line in result.out.splitlines()[:8]]
    assert ends == ["IM1", "IM2", "IM3", "z", "in: series-003", "b", "0", "a"]
    assert "2 text only" in result.out
    told = (result.output / "a.txt").read_text("utf-8")
    lines = re.findall(r"^  ((?:Title|Text|Image \d) +.*)$", told, re.MULTILINE)
    assert [line.split(maxsplit=1 + line.startswith("Image ")) for line in lines] == [
        ["Title", "Of Interest"],
        ["Text", "Compare with 2019"],
        ["Image", "1", "b.png, b.txt"],
        ["Image", "2", "z.png, z.txt"],
        ["Image", "3", "IM2.png, IM2.txt"],
    ]
    assert re.findall(
        r"not among the inputs, or failed: ([\d.]+), 1\.9\.9", told
    )  # no list names one
    _, entries = page_of(result.output)
    (shows,) = (one["shows"] for entry in entries for one in entry["files"] if one["name"] == "a")
    assert shows == [[f"{name}.png", "", 0] for name in ("b", "z", "IM2")]


def test_key_images_without_names(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(1))
    key_file(folder / "a", reference(folder / "IM1"), says="For Mrs. Smith")
    result = run(folder, "--study", "--no-names")
    for name in ("a.txt", "index.html"):
        made = (result.output / name).read_text("utf-8")
        assert "IM1.png" in made
        assert "Smith" not in made
        assert "Of Interest" not in made.partition("ELEMENTS")[0]


@pytest.mark.parametrize("code", ["113001", "113030", "113032", "113035", "113037", "113039"])
def test_what_is_rejected_or_just_listed_is_no_key_image(
    code: str, run: Runner, tmp_path: Path
) -> None:
    folder = slices(tmp_path / "in", range(1))
    key_file(folder / "a", reference(folder / "IM1"), title=f"{code}=Rejected")
    result = run(folder, "--study")
    _, entries = page_of(result.output)
    assert [one["series"]["SeriesDescription"] for one in entries[1:]] == ["Rejected"]
    assert entries[1]["files"][0]["shows"] == [["IM1.png", None, 0]]


def test_key_images_are_in_the_order_of_their_list(run: Runner, tmp_path: Path) -> None:
    folder = slices(tmp_path / "in", range(1))
    frames = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    data_set(frames, FrameTime=100).save_as(folder / "clip", enforce_file_format=True)
    clip, still = partial(reference, folder / "clip"), reference(folder / "IM1")
    key_file(folder / "a", clip(3), still, clip(1), clip(3))
    _, entries = page_of(run(folder, "--study").output)
    (known,) = (one["shows"] for each in entries for one in each["files"] if "shows" in one)
    order = [(of, frame) for of, _, frame in known if not of.endswith(".gif")]
    assert order == [("clip.mp4", 3), ("IM1.png", 0), ("clip.mp4", 1)]


def test_frames_of_key_clips_and_documents(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    frames = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    data_set(frames, FrameTime=100).save_as(folder / "clip", enforce_file_format=True)
    pdf: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1",
        "MIMETypeOfEncapsulatedDocument": "",
    }
    document = data_set(**pdf, EncapsulatedDocument=b"%PDF-1.4 ")
    document.save_as(folder / "page", enforce_file_format=True)
    clip = partial(reference, folder / "clip")  # of which it has no frame 9
    key_file(folder / "a", clip(4, 9), clip(2), reference(folder / "page"))
    known: list[Any] = []
    for more in ((), ("--frames", "2"), ("--no-mp4", "--no-gif")):
        result = run(folder, "--study", *more, output=tmp_path / f"out{len(known)}")
        assert "some of the frames" in result.err
        _, entries = page_of(result.output)
        known.append(
            next(one["shows"] for each in entries for one in each["files"] if "shows" in one)
        )
    page = ["page.pdf", "", 0]
    assert known[0] == [["clip.mp4", "", 4], ["clip.mp4", "", 2], page]
    assert known[1] == [["clip.mp4", "", 4], ["clip-0002.png", "", 0], page]
    assert known[2] == [["clip.txt", "", 0]] * 2 + [page]


@pytest.mark.parametrize("stranger", [False, True])
def test_images_of_another_patient_are_told(stranger: bool, run: Runner, tmp_path: Path) -> None:
    """By lists and by states; they are shown nevertheless."""
    folder = slices(tmp_path / "in", range(1))
    whose: dict[str, Any] = {"PatientID": "OTHER"} if stranger else {}
    key_file(folder / "list", reference(folder / "IM1"), **whose)
    state_file(folder / "state", reference(folder / "IM1"), label="A", **whose)
    output = run(folder, "--study").output
    for name in ("list", "state"):
        told = notes(output / f"{name}.txt")
        assert ("by its header of another patient: IM1" in told) == stranger, name
    assert "IM1.png" in (output / "list.txt").read_text("utf-8")
    assert (output / "state.png").exists()


@pytest.mark.parametrize("frames", [(), (1,)], ids=["all", "one"])
def test_an_absurd_number_of_frames_of_what_is_named(
    frames: Sequence[int], run: Runner, tmp_path: Path
) -> None:
    """Of a text and of a document: it costs nothing, and is not on the page."""
    (folder := tmp_path / "in").mkdir()
    known: dict[str, Any] = {"NumberOfFrames": "2000000000", "StudyInstanceUID": STUDY}
    report = data_set(None, SOPClassUID=BasicTextSRStorage, Modality="SR", **known)
    report.save_as(folder / "report", enforce_file_format=True)
    known["MIMETypeOfEncapsulatedDocument"] = "application/pdf"
    document = data_set(
        None, SOPClassUID=EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF-1.4 ", **known
    )
    document.save_as(folder / "paper", enforce_file_format=True)
    key_file(folder / "list", *(reference(folder / one, *frames) for one in ("report", "paper")))
    result = run(folder, "--study")
    assert result.code == 0
    assert {"list.txt", "paper.pdf", "paper.txt", "report.txt"} <= {*result.files()}
    told = (result.output / "list.txt").read_text("utf-8")
    assert re.findall(r"^  Image \d +(.*)$", told, re.MULTILINE) == [
        "report.txt",
        "paper.pdf, paper.txt",
    ]
    _, entries = page_of(result.output)
    files = [one for each in entries for one in each["files"]]
    assert {one["name"] for one in files} >= {"report", "paper", "list"}
    assert all(one["frames"] <= 1 for one in files)


# --- Again ----------------------------------------------------------------------------------------


def pictures_in(folder: Path) -> dict[str, bytes]:
    """Return what `contents` does, PNGs decoded: one process of hundreds deflates otherwise."""
    found = contents(folder)
    for name, data in found.items():
        if name.endswith(".png"):
            raw = np.frombuffer(data, np.uint8)
            found[name] = np.asarray(cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)).tobytes()
        elif name.endswith(".txt"):
            found[name] = re.sub(rb"\.png \d+ bytes", b".png", data)
    return found


@pytest.mark.skipif(os.name == "nt", reason="signals are of POSIX")
def test_a_second_round_that_is_killed_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    for series in range(6):
        uid, number = f"1.{series}", series + 1
        for at in range(8):
            slice_file(
                tmp_path / "in", f"S{series}N{at}", at, SeriesInstanceUID=uid, SeriesNumber=number
            )
    images = [reference(tmp_path / "in" / f"S{series}N0") for series in range(6)]
    for number in range(8):
        state_file(tmp_path / "in" / f"PR{number}", *images, label="A")
    key_file(tmp_path / "in" / "KO", *images)
    assert program("in", "-o", "calm", "-j", "2", "--study", cwd=tmp_path).returncode == 0
    arguments = command("in", "-o", "out", "-j", "2", "--study", "--resume")
    for kind, finished in (("series", 0), ("series", 3), ("PR", 0), ("PR", 4)):
        process = subprocess.Popen(  # noqa: S603 - our own script
            arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + 60
        while len(list((tmp_path / "out").glob(f"{kind}*.txt"))) <= finished:
            assert time.monotonic() < end
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
    last = program("in", "-o", "out", "-j", "2", "--study", "--resume", cwd=tmp_path)
    assert last.returncode == 0
    assert pictures_in(tmp_path / "out") == pictures_in(tmp_path / "calm")


@needs_dask
def test_a_cluster_makes_the_same_study(tmp_path: Path) -> None:
    for series in range(3):
        uid, number = f"1.{series}", series + 1
        for at in range(5):
            slice_file(
                tmp_path / "in", f"S{series}N{at}", at, SeriesInstanceUID=uid, SeriesNumber=number
            )
    image = reference(tmp_path / "in" / "S0N0")
    state = reference(state_file(tmp_path / "in" / "PR", image, label="A"))
    key_file(tmp_path / "in" / "KO", image, state)
    here = program("in", "-o", "here", "-j", "2", "--study", cwd=tmp_path)
    with cluster(tmp_path, 1) as (address, _):
        there = program("in", "-o", "there", "--dask", address, "--study", cwd=tmp_path)
        again = program("in", "-o", "there", "--dask", address, "--study", "--resume", cwd=tmp_path)
    assert (here.returncode, there.returncode, again.returncode) == (0, 0, 0)
    assert "17 done before, 3 clips of series" in again.stdout
    assert "PR.png" in (tmp_path / "there" / "KO.txt").read_text("utf-8")
    ours, theirs = contents(tmp_path / "here"), contents(tmp_path / "there")
    assert ours.keys() == theirs.keys()
    if dc.available_cores() == 2:
        assert ours == theirs


@pytest.mark.parametrize("hidden", [False, True])
def test_a_segmentation_is_called_after_its_segments_on_the_page(
    hidden: bool, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, background, liver, lesion = Dataset(), Dataset(), Dataset(), Dataset()
    code.CodeMeaning = "Lesion"
    background.SegmentNumber, background.SegmentLabel = 0, "Background"
    liver.SegmentNumber, liver.SegmentLabel = 2, "Liver"
    lesion.SegmentNumber, lesion.SegmentedPropertyTypeCodeSequence = 5, [code]
    many = [deepcopy(liver) for _ in range(99)]
    for at, one in enumerate(many):
        one.SegmentNumber = at
    known: dict[str, Any] = {"SeriesInstanceUID": SERIES, "StudyInstanceUID": STUDY}
    (tmp_path / "in").mkdir()
    for name, segments in ("a", [lesion, liver, background]), ("b", many), ("c", []):
        ds = data_set(np.eye(4, dtype=np.uint8)[np.newaxis].repeat(2, 0), **known)
        ds.SegmentSequence = segments
        ds.save_as(tmp_path / "in" / name, enforce_file_format=True)
    if hidden:  # as it may be in a later table
        usual = dc.is_left_out
        monkeypatch.setattr(dc, "is_left_out", lambda one: one == "SegmentLabel" or usual(one))
    output = run(tmp_path / "in", "--study", *["--no-names"] * hidden).output
    _, (series,) = page_of(output)
    first, second, third = (one["name"] for one in series["files"])
    told = re.findall(r"^  Segments +(.*)$", (output / "a.txt").read_text("utf-8"), re.MULTILINE)
    assert third == "c"
    if hidden:
        assert (first, second, told) == ("a", "b", ["left out, Lesion"])
    else:
        assert (first, told) == ("Liver, Lesion", ["Liver, Lesion"])
        assert re.fullmatch(r"Liver, Liver, Liver and \d+ more", second)
