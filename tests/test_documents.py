"""What is not a picture: encapsulated documents, structured reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Factory, convert
from pydicom.dataset import Dataset

import dicom_converter as dc

PDF = b"%PDF-1.4 a document of odd length.\n%%EOF"


def document(dicom_file: Factory, data: bytes, mime: str, length: int | None) -> Path:
    elements: dict[str, Any] = {
        "EncapsulatedDocument": data + b"\0" * (len(data) % 2),
        "MIMETypeOfEncapsulatedDocument": mime,
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1",
    }
    if length is not None:
        elements["EncapsulatedDocumentLength"] = length
    return dicom_file(None, **elements)


@pytest.mark.parametrize("length", [len(PDF), None], ids=["length stated", "length not stated"])
@pytest.mark.parametrize(
    ("mime", "suffix"),
    [
        ("application/pdf", ".pdf"),
        ("text/XML", ".xml"),
        ("model/stl", ".stl"),
        ("model/obj", ".obj"),
        ("model/mtl", ".mtl"),
    ],
)
def test_documents_come_out_of_exact_length(
    dicom_file: Factory, tmp_path: Path, mime: str, suffix: str, length: int | None
) -> None:
    outcome = convert(document(dicom_file, PDF, mime, length), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED
    assert outcome.outputs[0].suffix == suffix
    assert outcome.outputs[0].read_bytes() == PDF


def test_a_document_of_unknown_type(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(document(dicom_file, PDF, "image/x-odd", None), tmp_path / "out")
    assert outcome.outputs[0].suffix == ".bin"
    assert outcome.warnings == ("a document of type image/x-odd was written as .bin",)


def test_a_document_that_does_not_say_its_type(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(document(dicom_file, PDF, "", None), tmp_path / "out")
    assert outcome.outputs[0].suffix == ".pdf"
    assert outcome.warnings == ()


def test_a_document_that_is_cut_short(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(document(dicom_file, PDF, "application/pdf", 4000), tmp_path / "out")
    assert outcome.reason == "declares a document of 4000 bytes but holds 40"
    assert [output.suffix for output in outcome.outputs] == [".txt"]
    path = document(dicom_file, PDF * 50, "application/pdf", None)
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(PDF) + 300])
    assert convert(path, tmp_path / "out").status == dc.Status.FAILED


def code(meaning: str, value: str = "1", scheme: str = "99T") -> list[Dataset]:
    item = Dataset()
    item.CodeMeaning, item.CodeValue, item.CodingSchemeDesignator = meaning, value, scheme
    return [item]


def content(kind: str, name: str, **elements: Any) -> Dataset:
    item = Dataset()
    item.ValueType, item.ConceptNameCodeSequence = kind, code(name)
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def test_a_report_is_readable(dicom_file: Factory, tmp_path: Path) -> None:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "3.5", code("cm", "cm", "UCUM")
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    reference.ReferencedSOPInstanceUID = "1.2.3"
    finding = content(
        "CODE",
        "Finding",
        ConceptCodeSequence=code("Mass", "M-1", "SRT"),
        ContentSequence=[
            content("NUM", "Diameter", MeasuredValueSequence=[measured]),
            content("IMAGE", "Seen in", ReferencedSOPSequence=[reference]),
        ],
    )
    items = [
        finding,
        content("TEXT", "Comment", TextValue="two\r\nlines"),
        content("PNAME", "Observer", PersonName="Doe^Jane"),
        content("DATE", "On", Date="20200102"),
        content("NUM", "Not measured"),
    ]
    root = {"ValueType": "CONTAINER", "ConceptNameCodeSequence": code("Report")}
    path = dicom_file(
        None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", ContentSequence=items, **root
    )
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.TEXT_ONLY
    lines = outcome.outputs[0].read_text(encoding="utf-8").splitlines()
    assert lines[lines.index("REPORT") : lines.index("ELEMENTS") - 1] == [
        "REPORT",
        "  Report",
        "    Finding: Mass (M-1, SRT)",
        "      Diameter: 3.5 cm",
        "      Seen in: CT Image Storage 1.2.3",
        "    Comment: two",
        "      lines",
        "    Observer: Doe Jane",
        "    On: 2020-01-02",
        "    Not measured: no value",
    ]


def test_a_report_nested_without_end(dicom_file: Factory, tmp_path: Path) -> None:
    item = content("CONTAINER", "Deepest")
    for _ in range(60):
        item = content("CONTAINER", "Level", ContentSequence=[item])
    report = {"ValueType": "CONTAINER", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"}
    path = dicom_file(None, ContentSequence=[item], **report)
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.TEXT_ONLY, outcome.reason
    assert "nested too deeply" in outcome.outputs[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("mime", "content", "suffix", "written"),
    [
        ("model/stl", bytes(84 + 50), ".stl", 134),
        ("model/stl", b"solid a\nendsolid a\n\0", ".stl", 19),
        ("application/pdf; charset=binary", b"%PDF-1.7 odd!", ".pdf", 13),
        ("application/octet-stream", b"%PDF-1.7 odd!", ".pdf", 13),
        ("text/xml", b"<a></a>", ".xml", 7),
    ],
)
def test_documents_without_a_length_lose_the_pad_byte_only(
    dicom_file: Factory, tmp_path: Path, mime: str, content: bytes, suffix: str, written: int
) -> None:
    path = dicom_file(
        None,
        EncapsulatedDocument=content + bytes(len(content) % 2),
        MIMETypeOfEncapsulatedDocument=mime,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
    )
    outcome = convert(path, tmp_path / "out")
    assert outcome.outputs[0].suffix == suffix
    assert outcome.outputs[0].read_bytes() == content[:written]


def test_a_document_declared_much_shorter_is_noted(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(document(dicom_file, PDF, "application/pdf", 10), tmp_path / "out")
    assert outcome.outputs[0].read_bytes() == PDF[:10]
    assert outcome.warnings == ("of 40 bytes the document has 10, as the file declares",)


def test_an_empty_document_is_said(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(document(dicom_file, b"", "application/pdf", None), tmp_path / "out")
    assert outcome.reason == "the document in it is empty"
