"""What may tell who the patient is: left out on demand, warned of where it stays."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from conftest import PYDICOM_FILES, Factory, Run, data_set
from pydicom.config import disable_value_validation
from pydicom.datadict import add_private_dict_entry, dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, EncapsulatedPDFStorage, SegmentationStorage, UltrasoundImageStorage

import dicom_converter as dc

PICTURE = np.arange(64, dtype=np.uint16).reshape(8, 8)
WORD = "Zorglub"  # that is to be nowhere
DIRECTORIES = PYDICOM_FILES / "dicomdirtests"


def tags_of_the_profile() -> list[BaseTag]:
    """Return a tag for each row of Table E.1-1."""
    table = import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    lists = ("D", "Z", "X", "U", "Z_D", "X_Z", "X_D", "X_Z_D", "X_Z_U_STAR")
    rows = [row for name in lists for row in getattr(table, f"{name}_TAGS")]
    return sorted({Tag(*row[:2]) for row in rows})


def secret_element(tag: BaseTag) -> DataElement | RawDataElement:
    """Return an element that holds the word, as it is or in an item."""
    vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "LO"
    if vr == "SQ":
        item = Dataset()
        item.add(DataElement(0x00181400, "LO", WORD))  # which is in no table
        return DataElement(tag, "SQ", Sequence([item]))
    return RawDataElement(tag, vr[:2], 8, f"{WORD} ".encode(), 0, False, True)


def filled(ds: Dataset) -> Dataset:
    """Return *ds* with the secret in all that names may be in."""
    for tag in tags_of_the_profile():
        if tag.group > 2 and tag not in (Tag("EncapsulatedDocument"), Tag(0x60003000)):
            ds[tag] = secret_element(tag)
    ds.add(DataElement(0x00090010, "LO", WORD))
    ds.add(DataElement(0x00091001, "LO", WORD))
    ds.add(DataElement(0x00091002, "UN", WORD.encode() + b" "))
    ds.add(DataElement(0x00083333, "LO", WORD))  # in no dictionary
    for keyword in ("DocumentTitle", "WindowCenterWidthExplanation", "PixelDataProviderURL"):
        setattr(ds, keyword, WORD)
    return ds


def saved(ds: Dataset, path: Path) -> Path:
    """Write *ds* as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with disable_value_validation():
        pydicom.dcmwrite(path, ds, enforce_file_format=False)
    return path


def text_of(path: Path, output: Path, **options: Any) -> tuple[dc.Outcome, str]:
    """Convert *path* without names and return how it ended, and the TXT."""
    source = dc.Source(path, output, "x", named=True)
    outcome = dc.convert(source, dc.Options(output=output, names=False, **options))
    return outcome, (output / "x.txt").read_text(encoding="utf-8")


def test_no_attribute_of_the_table_is_in_the_text(tmp_path: Path) -> None:
    assert len(tags_of_the_profile()) > 600
    nested = Dataset()
    nested.RequestedProcedureCodeSequence = [filled(Dataset())]
    ds = filled(data_set(PICTURE, WindowCenter=20, WindowWidth=30))
    ds.ProcedureCodeSequence = [filled(Dataset())]
    ds.add(DataElement(0x00081032, "SQ", Sequence([filled(nested)])))
    ds.file_meta.PrivateInformationCreatorUID = UID("1.2.3")
    ds.file_meta.PrivateInformation = WORD.encode() + b" "
    ds.file_meta.SendingApplicationEntityTitle = WORD
    outcome, text = text_of(saved(ds, tmp_path / "a.dcm"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED
    assert WORD.casefold() not in text.casefold()
    assert WORD.encode().hex(" ") not in text
    assert str(ds.SOPInstanceUID) not in text
    assert "(0010,0010) PN Patient's Name = left out" in text
    assert "  Name           left out" in text
    assert "(0008,3333) UN Unknown = left out" in text
    assert "(0009,1001) UN Private tag data = left out" in text
    assert "(0002,0003) UI Media Storage SOP Instance UID = left out" in text
    assert "        (0010,0020) LO Patient ID = left out" in text
    assert "  Window         center 20, width 30, LINEAR (as stored)" in text
    assert "(0028,0010) US Rows = 8" in text


def test_the_text_holds_all_by_default(tmp_path: Path) -> None:
    path = saved(filled(data_set(PICTURE)), tmp_path / "a.dcm")
    source = dc.Source(path, tmp_path, "x", named=True)
    dc.convert(source, dc.Options(output=tmp_path))
    text = (tmp_path / "x.txt").read_text(encoding="utf-8")
    assert text.count(WORD) > 500
    assert dc.LEFT_OUT not in text


@pytest.mark.parametrize(
    ("tag", "left_out"),
    [
        ("PatientName", True),
        ("StudyInstanceUID", True),
        (0x00091001, True),
        (0x00083333, True),
        (0x50041234, True),
        (0x60023000, True),
        (0x60024000, True),
        (0x60020010, False),
        ("DocumentTitle", True),
        ("SegmentLabel", True),
        ("ContentLabel", True),
        ("Rows", False),
        ("Modality", False),
        (0x00100000, False),
    ],
)
def test_what_is_left_out(tag: str | int, left_out: bool) -> None:
    assert dc.is_left_out(tag) == left_out


def test_values_that_are_not_of_their_type_are_left_out(tmp_path: Path) -> None:
    ds = data_set(PICTURE)
    raw = saved(ds, tmp_path / "a.dcm").read_bytes()
    head = struct.pack("<HH", 0x0010, 0x1010) + b"SQ\0\0" + struct.pack("<L", 8) + b"Zorglub "
    at = raw.index(b"\x28\x00\x02\x00US")
    (tmp_path / "b.dcm").write_bytes(raw[:at] + head + raw[at:])
    _, text = text_of(tmp_path / "b.dcm", tmp_path / "out")
    assert "(0010,1010) AS Patient's Age = left out" in text
    assert WORD not in text


def test_a_name_of_the_vendor_is_of_the_dictionary(tmp_path: Path) -> None:
    add_private_dict_entry("ZORGLUB", 0x00111001, "LO", "Zorglub's own")
    ds = data_set(PICTURE)
    ds.private_block(0x11, "ZORGLUB", create=True).add_new(1, "LO", "value")
    _, text = text_of(saved(ds, tmp_path / "a.dcm"), tmp_path / "out")
    assert WORD.casefold() not in text.casefold()


def test_reports_and_waveforms_are_left_out(tmp_path: Path) -> None:
    content, channel, group = Dataset(), Dataset(), Dataset()
    content.ValueType, content.TextValue = "TEXT", WORD
    channel.ChannelLabel = group.MultiplexGroupLabel = WORD
    group.ChannelDefinitionSequence = [channel]
    ds = data_set(ValueType="CONTAINER", ContentSequence=[content], WaveformSequence=[group])
    outcome, text = text_of(saved(ds, tmp_path / "a.dcm"), tmp_path / "out")
    assert outcome.status == dc.Status.FAILED  # by its SOP class it is an image
    assert "\nREPORT\n  left out\n\nWAVEFORMS\n  left out\n" in text
    assert WORD not in text


def test_a_document_is_not_written(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(
        SOPClassUID=EncapsulatedPDFStorage,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=b"%PDF " + WORD.encode(),
        BurnedInAnnotation="YES",
        PatientName="Nobody",
    )
    output = tmp_path / "out"
    assert dc.convert(dc.Source(path, output, "x"), dc.Options(output=output)).outputs[0].exists()
    outcome, text = text_of(path, output)
    assert outcome.status == dc.Status.TEXT_ONLY
    assert outcome.reason == "the document is left out: it may hold names"
    assert [file.name for file in output.iterdir()] == ["x.txt"]
    assert WORD not in text
    assert not outcome.warnings


def test_the_address_of_pixels_elsewhere_is_left_out(tmp_path: Path) -> None:
    ds = data_set(PixelDataProviderURL=f"http://host/{WORD}", syntax="1.2.840.10008.1.2.4.94")
    outcome, text = text_of(saved(ds, tmp_path / "a.dcm"), tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert WORD not in text + outcome.reason


def test_names_of_windows_are_not_told(tmp_path: Path) -> None:
    ds = data_set(
        PICTURE, WindowCenter=2, WindowWidth=3, WindowCenterWidthExplanation=WORD, Modality="MR"
    )
    outcome, text = text_of(saved(ds, tmp_path / "a.dcm"), tmp_path / "out", window="other")
    assert outcome.reason == "has no such window"
    assert WORD not in text


def test_overlays_are_not_drawn(tmp_path: Path) -> None:
    ds = data_set(np.zeros((8, 8), np.uint8), WindowCenter=128, WindowWidth=256)
    for element, vr, value in (
        (0x10, "US", 8), (0x11, "US", 8), (0x40, "CS", "G"), (0x50, "SS", [1, 1]),
        (0x100, "US", 1), (0x102, "US", 0), (0x3000, "OW", b"\xff" * 8),
    ):  # fmt: skip
        ds.add(DataElement(0x60000000 + element, vr, value))
    path, brightest = saved(ds, tmp_path / "a.dcm"), []
    for names in (True, False):
        dc.convert(dc.Source(path, tmp_path, "x"), dc.Options(output=tmp_path, names=names))
        brightest.append(int(np.max(np.asarray(cv2.imread(str(tmp_path / "x.png"), -1)))))
    assert brightest[0] == 65535
    assert brightest[1] < 1000


@pytest.mark.parametrize("names", [True, False])
def test_labels_of_segments_are_left_out(
    names: bool, run: Callable[..., Run], tmp_path: Path
) -> None:
    """In the text and on the page, which calls a segmentation after them."""
    one = Dataset()
    one.SegmentNumber, one.SegmentLabel = 1, WORD
    known: dict[str, Any] = {
        "SOPClassUID": SegmentationStorage,
        "SegmentationType": "BINARY",
        "SegmentSequence": [one],
        "Modality": "SEG",
    }
    path = saved(data_set(np.eye(8, dtype=np.uint8), **known), tmp_path / "in" / "a.dcm")
    output = run(path, "--study", *([] if names else ["--no-names"])).output
    for name in ("a.txt", "index.html"):
        assert (WORD in (output / name).read_text("utf-8")) == names, name


@pytest.mark.parametrize("pixels", [PICTURE, np.stack([PICTURE] * 2), None])
def test_names_are_an_option_of_every_output(
    dicom_file: Factory, run: Callable[..., Run], pixels: Any
) -> None:
    path = dicom_file(pixels, PatientComments=WORD, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.2")
    if pixels is None:
        path = dicom_file(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", PatientComments=WORD)
    run(path, "--resume")
    shown = run(path, "--resume", "--no-names")
    text = next(shown.output.glob("*.txt")).read_text(encoding="utf-8")
    assert WORD not in text
    assert "options: names=False;" in text
    assert "done before" in run(path, "--resume", "--no-names").out


def test_the_page_holds_no_names_either(run: Callable[..., Run], tmp_path: Path) -> None:
    known: dict[str, Any] = {
        "PatientName": f"{WORD}^Jon",
        "StudyDescription": WORD,
        "Modality": "CT",
    }
    for number in range(1, 4):
        ds = data_set(PICTURE, SeriesInstanceUID="1.2", InstanceNumber=number, **known)
        saved(ds, tmp_path / "in" / f"IM{number}")
    output = run(tmp_path / "in", "--study", "--no-names").output
    page = (output / "index.html").read_text("utf-8")
    assert WORD not in page
    assert '"patient": {"PatientName": null' in page
    assert '"StudyDescription": null' in page
    assert '"Modality": "CT"' in page
    assert WORD not in (output / "series-000.txt").read_text("utf-8")


def test_files_without_a_uid_lose_their_names_in_place(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    known: dict[str, Any] = {"PatientName": f"{WORD}^Jon", "SOPInstanceUID": None}
    path = saved(data_set(PICTURE, **known), tmp_path / "in" / "a.dcm")
    assert WORD in (run(path).output / "a.txt").read_text("utf-8")
    result = run(path, "--no-names")
    assert result.files() == ["a.png", "a.txt"]
    assert WORD not in (result.output / "a.txt").read_text("utf-8")


def test_a_page_of_an_earlier_run_is_named(run: Callable[..., Run], tmp_path: Path) -> None:
    path = saved(data_set(PICTURE), tmp_path / "in" / "a.dcm")
    assert "may hold names" not in run(path, "--no-names").err
    page = run(path, "--study").output / "index.html"
    assert f"{page} is of an earlier run and may hold names" in run(path, "--no-names").err
    assert "may hold names" not in run(path, "--no-names", "--study").err


def test_a_mark_without_names_does_not_tell_the_birth_date(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    marks = []
    for born in ("19700304", "19811122"):
        known: dict[str, Any] = {
            "PatientBirthDate": born,
            "PatientID": "1",
            **dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "1.2"),
        }
        path = saved(data_set(PICTURE, **known), tmp_path / "in" / "a.dcm")
        for option in ("--no-names", "-q"):
            output = run(path, option).output
            text = (output / "a.txt").read_text("utf-8")
            marks += re.findall(r"; source (\w{8}) ", text)
            shutil.rmtree(output)
    assert marks[0] == marks[2]
    assert marks[1] != marks[3]


@pytest.mark.parametrize(
    ("label", "name", "ident", "called"),
    [
        ("/cd/DOE/IM1", "Doe^John", "", True),
        ("/cd/scan_of_john.dcm", "Doe^John", "", True),
        ("/cd/doejohn-2.zip/a", "Doe^John", "", True),
        ("/cd/doer/IM1", "Doe^John", "", False),
        ("/cd/li/IM1", "Li^Na", "", False),
        ("/cd/王小东/IM1", "Wang^XiaoDong=王^小东", "", True),
        ("/cd/王/IM1", "Wang^XiaoDong=王^小东", "", True),
        ("/cd/id_0001/IM1", "", "ID-0001", True),
        ("/cd/0001/IM1", "", "ID-0001", False),
        ("/cd/12/IM1", "", "12", False),
        ("/cd/IM1", "", "", False),
        ("/cd/a.b/IM1", "^^=--", "--", False),
        ("/cd/JohnSmith", "Smith^John", "", True),
        ("/cd/SMITHJ_CT", "Smith^John", "", True),
        ("/cd/PAT12-34_567", "", "1234567", True),
        ("/cd/AB-12/IM1", "", "AB12", True),
        ("/cd/Mu\u0308ller", "M\u00fcller^Eva", "", True),
        ("/cd/王小东CT", "王^小东", "", True),
        ("/cd/王府/IM1", "王^小东", "", False),
        ("/Снимки/IM1", "Иванов^И^И", "", False),
        ("/cd/2020/01/02/IM1", "", "20200102", False),
        ("/scan/native/IM1", "Anna", "", False),
    ],
)
def test_inputs_that_are_called_after_the_patient(
    tmp_path: Path, label: str, name: str, ident: str, called: bool
) -> None:
    path = saved(
        data_set(PICTURE, SpecificCharacterSet="ISO_IR 192", PatientName=name, PatientID=ident),
        tmp_path / "a.dcm",
    )
    with path.open("rb") as file:
        instance = dc.instance_of(dc.read_header(file), None)
    assert dc.is_called_after(label, instance.texts) == called


def test_the_warning_of_a_name_does_not_hold_it(tmp_path: Path) -> None:
    ds = data_set(PICTURE, PatientName=f"{WORD}^Jon")
    path = saved(ds, tmp_path / f"{WORD.lower()}_1.dcm")
    outcome, text = text_of(path, tmp_path / "out")
    (warning,) = outcome.warnings
    assert warning.endswith("holds the patient's name or ID")
    assert WORD.lower() not in warning
    assert f"  Note           {warning}" in text
    outcome = dc.convert(dc.Source(path, tmp_path, "y"), dc.Options(output=tmp_path))
    assert not outcome.warnings


@pytest.mark.parametrize(
    ("declared", "sop_class", "warning"),
    [
        ("YES", "1.2.840.10008.5.1.4.1.1.2", dc.BURNED_IN),
        (None, UltrasoundImageStorage, dc.PERHAPS_BURNED_IN),
        (None, "1.2.840.10008.5.1.4.1.1.7", dc.PERHAPS_BURNED_IN),
        (None, "1.2.840.10008.5.1.4.1.1.77.1.1", dc.PERHAPS_BURNED_IN),
        (None, "1.2.840.10008.5.1.4.1.1.77.1.4", dc.PERHAPS_BURNED_IN),
        (None, "1.2.840.10008.5.1.4.1.1.2", ""),
        ("NO", UltrasoundImageStorage, ""),
    ],
)
def test_burned_in_names(
    dicom_file: Factory, tmp_path: Path, declared: str | None, sop_class: str, warning: str
) -> None:
    path = dicom_file(PICTURE, BurnedInAnnotation=declared, SOPClassUID=sop_class)
    outcome = dc.convert(dc.Source(path, tmp_path, "x"), dc.Options(output=tmp_path))
    assert outcome.warnings == ((warning,) if warning else ())
    assert outcome.instance
    assert outcome.instance.burned_in == bool(warning)
    tally = dc.Tally()
    tally.add(outcome)
    counted = "1 of 1 pictures may show names that are burned in"
    assert (counted in tally.lines()) == bool(warning)
    assert not dc.problem_lines(outcome, untold=(dc.BURNED_IN, dc.PERHAPS_BURNED_IN))


@pytest.mark.parametrize(
    ("declared", "known", "warning"),
    [
        ("NO", {"SpecimenLabelInImage": "YES"}, dc.PERHAPS_BURNED_IN),
        ("NO", {"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}, dc.PERHAPS_BURNED_IN),
        ("YES", {"SpecimenLabelInImage": "YES"}, dc.BURNED_IN),
        (None, {"SpecimenLabelInImage": "NO"}, ""),
        (None, {"ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]}, ""),
    ],
)
def test_labels_of_slides_may_show_names(
    declared: str | None, known: dict[str, Any], warning: str, dicom_file: Factory, tmp_path: Path
) -> None:
    slide = "1.2.840.10008.5.1.4.1.1.77.1.6"
    path = dicom_file(PICTURE, BurnedInAnnotation=declared, SOPClassUID=slide, **known)
    outcome = dc.convert(dc.Source(path, tmp_path, "x"), dc.Options(output=tmp_path))
    assert outcome.warnings == ((warning,) if warning else ())


def directory_of(path: Path) -> list[str]:
    """Return the section on the records of a DICOMDIR."""
    with path.open("rb") as file:
        return list(dc.directory_lines(dc.read_header(file).data_set, names=True))


@pytest.mark.parametrize("name", ["-implicit", "-bigEnd", "-reordered"])
def test_the_tree_of_a_directory(name: str) -> None:
    lines = directory_of(DIRECTORIES / "DICOMDIR")
    assert lines[:5] == [
        "  2 x PATIENT, 6 x STUDY, 13 x SERIES, 31 x IMAGE",
        "  PATIENT Doe Archibald, 77654033",
        "    STUDY 2001-01-01, XR C Spine Comp Min 4 Views",
        "      SERIES 1, CR",
        "        1 x IMAGE",
    ]
    assert directory_of(DIRECTORIES / f"DICOMDIR{name}") == lines


def test_a_directory_without_patients_keeps_its_series() -> None:
    lines = directory_of(DIRECTORIES / "DICOMDIR-nopatient")
    assert sum("SERIES " in line for line in lines) == 13
    counted = [int(line.split(" x ")[0]) for line in lines[1:] if line.endswith(" x IMAGE")]
    assert sum(counted) == 31
    assert directory_of(DIRECTORIES / "DICOMDIR-empty.dcm") == ["  no records"]


@pytest.mark.parametrize("link", [0, 1, 0xFFFFFFFF, "itself", "first"])
def test_hostile_links_of_a_directory_end(tmp_path: Path, link: int | str) -> None:
    ds = pydicom.dcmread(DIRECTORIES / "DICOMDIR")
    records = ds.DirectoryRecordSequence
    first = records[0].seq_item_tell
    for record in records:
        offset = {"itself": record.seq_item_tell, "first": first}.get(str(link), link)
        record.OffsetOfTheNextDirectoryRecord = offset
        record.OffsetOfReferencedLowerLevelDirectoryEntity = offset
    lines = directory_of(saved(ds, tmp_path / "DICOMDIR"))
    assert lines[0] == "  2 x PATIENT, 6 x STUDY, 13 x SERIES, 31 x IMAGE"
    counted = [int(line.split(" x ")[0]) for line in lines[1:] if line.endswith(" x IMAGE")]
    assert sum(counted) == 31
    assert sum(line.startswith("      SERIES") for line in lines) == 13


def test_a_deep_chain_of_records_is_not_indented_without_end(tmp_path: Path) -> None:
    ds = pydicom.dcmread(DIRECTORIES / "DICOMDIR")
    records = list(ds.DirectoryRecordSequence)
    for record, below in zip(records, [*records[1:], records[0]], strict=True):
        record.OffsetOfTheNextDirectoryRecord = 0
        record.OffsetOfReferencedLowerLevelDirectoryEntity = below.seq_item_tell
    lines = directory_of(saved(ds, tmp_path / "DICOMDIR"))
    deepest = max(len(line) - len(line.lstrip()) for line in lines)
    assert deepest == 2 * (dc.MAX_NESTING_SHOWN + 1)


def test_names_of_a_directory_are_left_out(tmp_path: Path) -> None:
    _, text = text_of(DIRECTORIES / "DICOMDIR", tmp_path)
    head = text.split("\nPATIENT\n")[0].splitlines()
    assert head[3] == "DIRECTORY"
    assert head[5:8] == [
        "  PATIENT left out, left out",
        "    STUDY left out, left out",
        "      SERIES 1, CR",
    ]
    assert "Archibald" not in text


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_items_that_cannot_be_read_are_left_out(vr: str) -> None:
    ds = Dataset()
    tag = Tag("WaveformSequence")
    ds[tag] = RawDataElement(tag, vr, 7, b"Zorglub", 0, False, True)
    (line,) = dc.element_lines(ds, "", names=False)
    assert line == "(5400,0100) ?? = left out (not of its type)"


def test_a_file_without_names_is_not_parsed_for_its_private_objects() -> None:
    ds = Dataset()
    ds[0x00290010] = RawDataElement(Tag(0x00290010), "LO", 8, b"Zorglub ", 0, False, True)
    assert list(dc.element_lines(ds, "", names=False)) == [
        "(0029,0010) LO Private Creator = left out"
    ]
