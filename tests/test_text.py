"""The TXT: a summary a person can read, then every element."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import CORPUS, PYDICOM_FILES, SAMPLES, Factory, convert, data_set, needs_corpus
from pydicom import uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

import dicom_converter as dc

PIXELS = np.zeros((2, 2), np.uint8)


def lines_of(path: Path, output: Path, **options: Any) -> list[str]:
    text = next(
        found for found in convert(path, output, **options).outputs if found.suffix == ".txt"
    )
    return text.read_text(encoding="utf-8").splitlines()


def test_summary_of_the_angiography_sample(tmp_path: Path) -> None:
    lines = lines_of(SAMPLES / "DCM00001", tmp_path)
    summary = lines[: lines.index("ELEMENTS")]
    for line in (
        "PATIENT",
        "  Name           Sample Synthetic = 样本 合成",
        "  ID             SAMPLE-0000",
        "  Birth date     1900-01-01",
        "  Sex            O",
        "  Date           2020-01-02",
        "  Time           10:11:12",
        "  Description    Coronary angiography (computed)",
        "  Manufacturer   dicom_converter",
        "  Institution    Nowhere General Hospital (invented)",
        "  Kind           X-Ray Angiographic Image Storage",
        "  Size           384 x 384 pixels (columns x rows)",
        "  Frames         28",
        "  Bit depth      8 bits stored in 8",
        "  Photometric    MONOCHROME2",
        "  Window         center 128, width 256, LINEAR (as stored)",
        "  Frame rate     10 fps; recorded at 14.99 (Frame Time), `--fps auto` keeps it",
        "  Written        DCM00001.gif, DCM00001.mp4",
    ):
        assert line in summary


def test_the_place_of_a_slice_is_in_the_summary(dicom_file: Factory, tmp_path: Path) -> None:
    measures, plane, shared = Dataset(), Dataset(), Dataset()
    measures.SliceThickness, measures.PixelSpacing = "5", ["0.781", "0.00025"]
    plane.ImagePositionPatient = ["-12.5", "3", "40"]
    shared.PixelMeasuresSequence, shared.PlanePositionSequence = [measures], [plane]
    for elements in (
        {"SharedFunctionalGroupsSequence": [shared]},
        {one.keyword: one for one in (*measures, *plane)},
    ):
        path = dicom_file(
            PIXELS, SeriesNumber=3, InstanceNumber=7, BodyPartExamined="HEAD", **elements
        )
        lines = lines_of(path, tmp_path / "out")
        summary = lines[: lines.index("ELEMENTS")]
        for line in (
            "  Series number  3",
            "  Image number   7",
            "  Body part      HEAD",
            "  Thickness      5 mm",
            "  Position       -12.5, 3, 40 mm",
            "  Pixel spacing  0.781 x 0.00025 mm",
        ):
            assert line in summary
    lines = lines_of(dicom_file(PIXELS, ImagerPixelSpacing=[1, 2]), tmp_path / "out")
    assert "  Pixel spacing  1 x 2 mm" in lines
    lines = lines_of(dicom_file(PIXELS), tmp_path / "out")
    for label in ("Series number", "Image number", "Body part", "Thickness", "Pixel spacing"):
        assert f"  {label:<14} -" in lines


@pytest.mark.parametrize(
    "path",
    [PYDICOM_FILES / name for name in ("CT_small.dcm", "reportsi.dcm", "nested_priv_SQ.dcm")],
    ids=lambda path: str(path.stem),
)
def test_every_element_has_its_line(path: Path, tmp_path: Path) -> None:
    lines = lines_of(path, tmp_path)
    tags = [line.strip()[:11] for line in lines[lines.index("ELEMENTS") :] if "(" in line[:40]]

    def expected(ds: Dataset) -> list[str]:
        found = []
        for element in ds:
            found.append(str(element.tag).lower())
            if element.VR == "SQ":
                found += [tag for item in element.value for tag in expected(item)]
        return found

    ds = pydicom.dcmread(path)
    assert tags[1:] == expected(ds.file_meta) + expected(ds)


def test_elements_of_all_kinds(dicom_file: Factory, tmp_path: Path) -> None:
    item = Dataset()
    item.CodeValue = "T-1"
    block = {
        "PatientComments": DataElement("PatientComments", "LT", "two\r\nlines \x1b[31m"),
        "ProcedureCodeSequence": [item, Dataset()],
        "PixelSpacing": [0.5, 0.25],
        "FrameIncrementPointer": 0x00181063,
        "RedPaletteColorLookupTableData": bytes(range(64)),
        "Private": DataElement(0x00091001, "LO", "secret"),
        "Creator": DataElement(0x00090010, "LO", "ACME 1.0"),
        "Trailing": DataElement("DataSetTrailingPadding", "OB", b"\0\0\1\2"),
    }
    lines = lines_of(dicom_file(PIXELS, **block), tmp_path / "out")
    for line in (
        r"(0010,4000) LT Patient Comments = two\x0d\x0alines \x1b[31m",
        "(0008,1032) SQ Procedure Code Sequence = 2 items",
        "  item 1",
        "    (0008,0100) SH Code Value = T-1",
        "  item 2",
        r"(0028,0030) DS Pixel Spacing = 0.5\0.25",
        "(0028,0009) AT Frame Increment Pointer = (0018,1063)",
        "(0009,0010) LO Private Creator = ACME 1.0",
        "(0009,1001) LO Private tag data = secret",
        "(fffc,fffc) OB Data Set Trailing Padding = <4 bytes: 00 00 01 02>",
        "(7fe0,0010) OB Pixel Data = <4 bytes>",
    ):
        assert any(found.startswith(line) for found in lines), line
    assert any(line.startswith("(0028,1201)") and "<64 bytes: 00 01" in line for line in lines)


def test_an_element_that_is_not_of_its_type_is_still_shown(
    dicom_file: Factory, tmp_path: Path
) -> None:
    path = dicom_file(PIXELS)
    raw = path.read_bytes()
    at = raw.index(b"\x28\x00\x02\x00US")
    path.write_bytes(raw[:at] + b"\x28\x00\x01\x00US\x03\x00abc" + raw[at:])
    (line,) = [line for line in lines_of(path, tmp_path / "out") if line.startswith("(0028,0001)")]
    assert "abc" in line or "61 62 63" in line


@pytest.mark.parametrize(
    ("charset", "name", "shown"),
    [
        ("ISO_IR 192", "Wang^XiaoDong=王^小东", "Wang XiaoDong = 王 小东"),
        ("GB18030", "Wang^XiaoDong=王^小东", "Wang XiaoDong = 王 小东"),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "Yamada Tarou = 山田 太郎 = やまだ たろう",
        ),
        (
            ["", "ISO 2022 IR 149"],
            "Hong^Gildong=洪^吉洞=홍^길동",
            "Hong Gildong = 洪 吉洞 = 홍 길동",
        ),
        ("ISO_IR 100", "Buc^Jérôme", "Buc Jérôme"),
    ],
    ids=str,
)
def test_names_in_their_character_sets(
    dicom_file: Factory, tmp_path: Path, charset: Any, name: str, shown: str
) -> None:
    path = dicom_file(PIXELS, SpecificCharacterSet=charset, PatientName=name)
    assert f"  Name           {shown}" in lines_of(path, tmp_path / "out")


UNDECLARED = "no character set is declared for letters beyond ASCII: {} was assumed"
WRONG = "texts are not in the declared character set: {} was assumed"


@pytest.mark.parametrize(
    ("charset", "name", "shown", "note"),
    [
        (None, "Müller^Jörg".encode(), "Müller Jörg", UNDECLARED.format("UTF-8")),
        (None, "Müller^Jörg".encode("latin-1"), "Müller Jörg", UNDECLARED.format("Latin-1")),
        (None, "GRÖßE".encode("latin-1"), "GRÖßE", UNDECLARED.format("Latin-1")),
        (None, "王^伟".encode("gb18030"), "王 伟", UNDECLARED.format("GB18030")),
        ("ISO_IR 6", "王小东".encode("gbk"), "王小东", UNDECLARED.format("GB18030")),
        ("ISO_IR 100", "王小东".encode("gbk"), "王小东", WRONG.format("GB18030")),
        ("ISO_IR 100", "朱镕基".encode("gbk"), "朱镕基", WRONG.format("GB18030")),
        ("ISO_IR 100", "王小东".encode(), "王小东", WRONG.format("UTF-8")),
        ("ISO_IR 100", "王小东".encode()[:-1], "王小�", WRONG.format("UTF-8")),
        ("ISO_IR 100", "Weißenkirchen^Größe".encode("latin-1"), "Weißenkirchen Größe", ""),
        ("ISO_IR 100", "Fuß^Aimée^ÀÉ".encode("latin-1"), "Fuß Aimée ÀÉ", ""),
        ("ISO_IR 144", "ИВАНОВ^ИВАН".encode("iso8859-5"), "ИВАНОВ ИВАН", ""),
        ("ISO_IR 144", "ИВАНОВ".encode(), "ИВАНОВ", WRONG.format("UTF-8")),
        ("ISO_IR 192", "Müller".encode("latin-1"), "Müller", WRONG.format("Latin-1")),
        ("ISO_IR 192", "王小东".encode("gb18030"), "王小东", WRONG.format("GB18030")),
        ("ISO_IR 192", "王小东".encode(), "王小东", ""),
        ("GB18030", "Müller^王".encode(), "Müller 王", WRONG.format("UTF-8")),
        ("GB18030", "联通".encode("gb18030"), "联通", ""),
        ("NONSENSE", "王小东".encode(), "王小东", WRONG.format("UTF-8")),
        ("NONSENSE", "Müller".encode("latin-1"), "Müller", WRONG.format("Latin-1")),
        ("punycode", "王小东".encode(), "王小东", WRONG.format("UTF-8")),
        ("ISO_IR 100", "CONCEIÇÃO^SÃO".encode("latin-1"), "CONCEIÇÃO SÃO", ""),
        ("ISO_IR 100", "RECONSTRUÇÃO CORAÇÃO".encode("latin-1"), "RECONSTRUÇÃO CORAÇÃO", ""),
        ("ISO_IR 100", "RÄÄK^TÖÖMEES".encode("latin-1"), "RÄÄK TÖÖMEES", ""),
        ("ISO_IR 100", "30°±5 EXTENSION 10°±5".encode("latin-1"), "30°±5 EXTENSION 10°±5", ""),
        (
            None,
            "FUNÇÃO^AQUISIÇÃO".encode("latin-1"),
            "FUNÇÃO AQUISIÇÃO",
            UNDECLARED.format("Latin-1"),
        ),
        ("ISO_IR 100", "B超检查".encode("gbk"), "B超检查", WRONG.format("GB18030")),
        (
            "ISO_IR 100",
            "5\xa0mm\u3000王小东".encode("gb18030"),
            "5\xa0mm\u3000王小东",
            WRONG.format("GB18030"),
        ),
        (
            ["", "ISO 2022 IR 58"],
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
            "Zhang XiaoDong = 张 小东",
            "",
        ),
        (
            None,
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada Tarou = 山田 太郎",
            "texts switch to a character set that is not declared: it was followed",
        ),
        ("ISO 2022 IR 13", b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ", ""),
    ],
)
def test_names_in_sets_that_are_not_declared(
    dicom_file: Factory, tmp_path: Path, charset: Any, name: bytes, shown: str, note: str
) -> None:
    unknown = charset in ("NONSENSE", "punycode")  # which pydicom does not write
    declared = {"SpecificCharacterSet": "ISO_IR 6" if unknown else charset} if charset else {}
    path = dicom_file(PIXELS, **declared, PatientName="X" * len(name))
    raw = path.read_bytes().replace(b"X" * len(name), name)
    path.write_bytes(raw.replace(b"ISO_IR 6", charset.encode()) if unknown else raw)
    lines = lines_of(path, tmp_path / "out")
    assert f"  Name           {shown}" in lines
    assert any(line.startswith("(0010,0010) PN Patient's Name = ") for line in lines)
    found = [line for line in lines if line.startswith("  Note")]
    assert (f"  Note           {note}" in found) if note else not found


@pytest.mark.parametrize(
    ("charset", "encoding"), [("ISO_IR 192", "utf-8"), ("GB18030", "gb18030"), (None, "utf-8")]
)
def test_one_odd_byte_leaves_the_other_texts_alone(
    dicom_file: Factory, tmp_path: Path, charset: str | None, encoding: str
) -> None:
    values = {"PatientName": "王^小东", "StudyDescription": "头部CT", "StationName": "37°C"}
    encodings = {"PatientName": encoding, "StudyDescription": encoding, "StationName": "latin-1"}
    raw = {key: value.encode(encodings[key]) for key, value in values.items()}
    declared = {"SpecificCharacterSet": charset} if charset else {}
    places = {key: mark * len(raw[key]) for key, mark in zip(raw, "QWZ", strict=True)}
    path = dicom_file(PIXELS, **declared, **places)
    content = path.read_bytes()
    for key, place in places.items():
        content = content.replace(place.encode(), raw[key])
    path.write_bytes(content)
    lines = lines_of(path, tmp_path / "out")
    assert "  Name           王 小东" in lines
    assert "  Description    头部CT" in lines


def test_a_null_in_the_character_set_is_said(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(PIXELS, SpecificCharacterSet="ISO_IR 100", PatientName="Name")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 1\x000"))
    reason = convert(path, tmp_path / "out").reason
    assert reason == "its (0008,0005) Specific Character Set is damaged"


def test_very_long_texts_are_cut(dicom_file: Factory, tmp_path: Path) -> None:
    long = DataElement("TextValue", "UT", "a" * (dc.TEXT_SHOWN + 5))
    (line,) = [
        line for line in lines_of(dicom_file(PIXELS, Long=long), tmp_path) if "(0040,a160)" in line
    ]
    assert line.endswith(f"a... ({dc.TEXT_SHOWN + 5} characters)")
    assert len(line) < dc.TEXT_SHOWN + 100


def test_items_follow_the_set_that_was_assumed(dicom_file: Factory, tmp_path: Path) -> None:
    inner, own = Dataset(), Dataset()
    inner.CodeMeaning = "X" * 6
    own.SpecificCharacterSet, own.CodeMeaning = "ISO_IR 100", "é"
    path = dicom_file(PIXELS, SpecificCharacterSet="ISO_IR 6", ProcedureCodeSequence=[inner, own])
    path.write_bytes(path.read_bytes().replace(b"X" * 6, "小东".encode()))
    lines = lines_of(path, tmp_path / "out")
    assert "    (0008,0104) LO Code Meaning = 小东" in lines
    assert "    (0008,0104) LO Code Meaning = é" in lines
    assert f"  Note           {UNDECLARED.format('UTF-8')}" in lines


@needs_corpus
def test_charsets_of_the_corpus_are_readable(tmp_path: Path) -> None:
    folder = CORPUS / "pydicom+pydicom/src/pydicom/data/charset_files"
    names = {path.stem: lines_of(path, tmp_path)[4] for path in sorted(folder.glob("chr*.dcm"))}
    assert names["chrH31"].endswith("Yamada Tarou = 山田 太郎 = やまだ たろう")
    assert names["chrX1"].endswith("Wang XiaoDong = 王 小東")
    assert names["chrX2"].endswith("Wang XiaoDong = 王 小东")
    assert names["chrRuss"].endswith("Люкceмбypг")  # noqa: RUF001 - Cyrillic
    chinese = CORPUS / "fo-dicom+fo-dicom/Tests/FO-DICOM.Tests/Test Data/charset/chrGB2312.dcm"
    assert lines_of(chinese, tmp_path)[4].endswith("Zhang XiaoDong = 张 小东")


@pytest.mark.parametrize("vr", ["implicit", "explicit"])
def test_lines_of_private_and_repeating_elements(
    dicom_file: Factory, tmp_path: Path, vr: str
) -> None:
    elements = {
        "Creator": DataElement(0x00190010, "LO", "SIEMENS MR HEADER"),
        "Known": DataElement(0x0019100C, "IS", "500"),
        "Unknown": DataElement(0x001910FE, "UN", b"\1\2"),
        "Overlay": DataElement(0x60020022, "LO", "An overlay"),
        "Curve": DataElement(0x50000005, "US", 2),
        "Numbers": DataElement("SimpleFrameList", "UL", [1, 2]),
    }
    syntax = {"implicit": "1.2.840.10008.1.2", "explicit": "1.2.840.10008.1.2.1"}[vr]
    lines = lines_of(dicom_file(PIXELS, (), syntax, **elements), tmp_path / "out")
    for line in (
        "(0019,0010) LO Private Creator = SIEMENS MR HEADER",
        "(0019,100c) IS [B_value] = 500",
        "(0019,10fe) UN Private tag data = <2 bytes: 01 02>",
        "(6002,0022) LO Overlay Description = An overlay",
        "(5000,0005) US Curve Dimensions = 2",
        "(0008,1161) UL Simple Frame List = 1\\2",
    ):
        assert line in lines


def test_long_values_are_counted() -> None:
    element = DataElement("BluePaletteColorLookupTableData", "US", list(range(300)))
    assert dc.shown_value(element.value, element.VR).endswith(r"\63\... (300 values)")
    decimals = DataElement("FrameTimeVector", "DS", [1.5] * 300)
    assert dc.shown_value(decimals.value, decimals.VR).count("1.5") == 300


def test_a_failed_file_says_why_in_its_text(dicom_file: Factory, tmp_path: Path) -> None:
    lines = lines_of(dicom_file(PIXELS, SamplesPerPixel=4), tmp_path / "out")
    assert "  Picture        4 samples a pixel: only 1 and 3 can be shown" in lines


def test_warnings_stand_in_the_text(dicom_file: Factory, tmp_path: Path) -> None:
    lines = lines_of(dicom_file(PIXELS, HighBit=99), tmp_path / "out")
    assert "  Note           High Bit is 99, taken as 7" in lines


@pytest.mark.parametrize(
    ("keyword", "value", "shown"),
    [
        ("StudyDate", "20200102", "2020-01-02"),
        ("StudyDate", "2020.01.02", "2020.01.02"),
        ("StudyTime", "101112.123", "10:11:12"),
        ("StudyTime", "1011", "10:11"),
        ("StudyTime", "10", "10"),
        ("DateTime", "20210304112233", "2021-03-04 11:22:33"),
        ("DateTime", "20210304112233.5+0100", "2021-03-04 11:22:33 +0100"),
        ("DateTime", "20210304", "2021-03-04"),
        ("DateTime", "2021", "2021"),
        ("DateTime", "202103+0100", "202103+0100"),
        ("PatientName", "Doe^Jane^^Dr", "Doe Jane  Dr"),
        ("PatientID", "a\x1bb", r"a\x1bb"),
        ("PatientID", "a\u202eb", r"a\x202eb"),
        ("PatientID", "山\u3000郎\xa0می\u200cخو", "山\u3000郎\xa0می\u200cخو"),
    ],
)
def test_readable(keyword: str, value: str, shown: str) -> None:
    assert dc.readable(keyword, value) == shown


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (
            uid.GrayscaleSoftcopyPresentationStateStorage,
            "a presentation state (Grayscale Softcopy Presentation State), no picture of its own",
        ),
        (
            uid.ComprehensiveSRStorage,
            "a structured report (Comprehensive SR), no picture of its own",
        ),
        (uid.HangingProtocolStorage, "Hanging Protocol, no picture of its own"),
        ("1.2.3.4", "1.2.3.4, no picture of its own"),
        (None, "a file without a SOP class, no picture of its own"),
    ],
    ids=str,
)
def test_files_without_a_picture_say_what_they_are(
    dicom_file: Factory, tmp_path: Path, kind: str | None, shown: str
) -> None:
    path = dicom_file(SOPClassUID=kind)
    if kind is None:
        raw = path.read_bytes()
        path.write_bytes(raw[:132] + raw[raw.index(b"\x08\0\x18\0UI") :])
    outcome = convert(path, tmp_path / "out")
    assert (outcome.status, outcome.reason) == (dc.Status.TEXT_ONLY, shown)
    assert f"  Picture        {shown}" in outcome.outputs[0].read_text("utf-8").splitlines()


def test_lengths_of_private_groups_are_numbers(tmp_path: Path) -> None:
    """Where one of the group has no value pydicom makes the others bytes."""
    ds = data_set(PIXELS)
    ds.add_new(0x00090010, "LO", "GEMS_IDEN_01")
    path = tmp_path / "image.dcm"
    ds.save_as(path, enforce_file_format=True)
    first, raw = b"\x09\0\x10\0LO\x0c\0GEMS_IDEN_01", path.read_bytes()
    assert raw.count(first) == 1
    length = b"\x09\0\0\0UN\0\0\4\0\0\0\x88\0\0\0"
    empty = b"\x09\0\x30\x10UN\0\0\0\0\0\0"
    path.write_bytes(raw.replace(first, length + first + empty))
    assert "(0009,0000) UL Group Length = 136" in lines_of(path, tmp_path / "out")
