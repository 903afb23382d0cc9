"""Names, lists and texts that are made to do harm; beside them the same by bad luck."""

import csv
import io
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLES, Factory, Run, data_set

import dicom_converter as dc

Runner = Callable[..., Run]
CT = SAMPLES / "DCM00000"
PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def forged(path: Path, instance: str, outputs: str) -> None:
    """Write a TXT that says to be made of *instance*, as a medium may bring it."""
    sums = f"{'0' * 8} {zlib.crc32(instance.encode()):08x}"
    mark = f"Converted; options: default; source {sums}, 1 bytes, changed 1; outputs: {outputs}"
    path.write_text(f"DICOM file x\n{mark}\n", encoding="utf-8")


def test_a_forged_text_removes_no_input(run: Runner, dicom_file: Factory) -> None:
    folder = dicom_file(PIXELS, name="a.dcm", SOPInstanceUID="1.2.77").parent
    frame = dicom_file(PIXELS, name="a-0001.png", SOPInstanceUID="1.2.78")
    before = frame.read_bytes()
    forged(folder / "a.txt", "1.2.77", f"-0001.png {len(before)} bytes")
    assert run(folder, output=folder).code == 0
    assert frame.read_bytes() == before


@pytest.mark.parametrize("end", ["-0001.doc", "-0001.txt", ".doc"])
def test_a_forged_text_removes_no_file_that_no_run_makes(
    end: str, run: Runner, dicom_file: Factory, tmp_path: Path
) -> None:
    path = dicom_file(PIXELS, name="a.dcm", SOPInstanceUID="1.2.77")
    output = tmp_path / "there"
    output.mkdir()
    mine = output / f"a{end}"
    mine.write_bytes(b"mine")
    forged(output / "a.txt", "1.2.77", f"{end} 4 bytes")
    assert run(path, output=output).code == 0
    assert mine.read_bytes() == b"mine"


def test_only_what_a_run_left_is_cleaned(tmp_path: Path) -> None:
    prefix = dc.TEMPORARY_PREFIX
    names = ("x.part", "other-host-1-2.part", "host-77-0123abcd-4.part", "host-78-0123abcd-4.part")
    for name in names:
        (tmp_path / (prefix + name)).write_bytes(b"half")
        os.utime(tmp_path / (prefix + name), (1, 1))
    shutil.copy(CT, tmp_path / f"{prefix}{names[-1]}")
    os.utime(tmp_path / f"{prefix}{names[-1]}", (1, 1))
    dc.remove_stale_parts(tmp_path)
    left = sorted(path.name.removeprefix(prefix) for path in tmp_path.iterdir())
    assert left == sorted({*names} - {names[2]})


def test_a_thousand_files_of_one_name(tmp_path: Path) -> None:
    files = [dc.Source(tmp_path / str(number) / "IM1") for number in range(3000)]
    files += [dc.Source(tmp_path / "IM1-1000"), dc.Source(tmp_path / "IM1-1000.dcm")]
    names = [one.name for one in dc.settle_names(files, tmp_path / "out", set())]
    assert len({name.casefold() for name in names}) == len(files)


def test_deep_names_cost_no_memory(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "cd.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a/" * 32766 + "x", CT.read_bytes())
        packed.writestr("b/" * 90 + "y", CT.read_bytes())
        packed.writestr("IM1", CT.read_bytes())
    result = run(path)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "its folders are nested too deeply" in result.err
    assert len(result.files()) == 4


def test_a_directory_that_says_to_be_huge_is_not_read(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "cd.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("IM1", CT.read_bytes())
    raw = bytearray(path.read_bytes())
    at, size = raw.rindex(b"PK\5\6"), 300 << 20
    raw[at + 12 : at + 16] = size.to_bytes(4, "little")
    directory = bytes(raw[at:])
    with path.open("wb") as file:
        file.write(raw[:at])
        file.truncate(at + size)
        file.seek(at + size)
        file.write(directory)
    result = run(path, CT)
    assert "the list of its members is too long" in result.err
    assert "DCM00000.png" in result.files()


def test_a_walk_that_fails_ends_the_run_with_one_line(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    (tmp_path / "in").mkdir()
    shutil.copy(CT, tmp_path / "in" / "IM1")
    monkeypatch.setattr(dc, "read_folder", full)
    result = run(tmp_path / "in")
    assert result.code == 1
    assert result.err.startswith("dicom_converter: the inputs cannot be listed")
    assert result.err.count("\n") == 1


def test_a_list_that_takes_too_long_is_stopped(run: Runner, tmp_path: Path) -> None:
    head = bytes(128) + b"DICM" + b"\2\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    many = b"\xfe\xff\0\xe0\0\0\0\0" * 450_000
    listing = head + b"\4\0\x20\x12" + len(many).to_bytes(4, "little") + many
    (tmp_path / "DICOMDIR").write_bytes(listing)
    result = run(tmp_path / "DICOMDIR", CT, "--timeout", "0.5")
    assert result.code == 1
    assert "DICOMDIR: took longer than 0.5 s and was stopped" in result.err
    assert "DCM00000.png" in result.files()


@pytest.mark.parametrize("form", ["a value like an item", "items by another tag"])
def test_elements_are_counted_whatever_they_look_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(dc, "MAX_ELEMENTS", 5_000)
    head = bytes(128) + b"DICM" + b"\2\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    if form == "a value like an item":
        fake = b"\xfe\xff\0\xe0" + bytes(4) + b"\x11\0\1\0UN\0\0\xff\xff\xff\x7f"
        raw = head + b"\x09\0\1\0OB\0\0" + len(fake).to_bytes(4, "little") + fake
        numbers = np.arange(7_000)
        heads = np.zeros((len(numbers), 2), np.uint32)
        heads[:, 0] = (numbers % 600 << 16) + 0x41 + numbers // 600
        heads[:, 1] = int.from_bytes(b"CS", "little")
        raw += heads.astype("<u4").tobytes()
    else:
        head = head.replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x12\x001.2.840.10008.1.2\0")
        many = (b"\xfe\xff\1\xe0" + bytes(4)) * 7_000
        raw = head + b"\4\0\x20\x12" + len(many).to_bytes(4, "little") + many
    (tmp_path / "x.dcm").write_bytes(raw)
    source = dc.Source(tmp_path / "x.dcm", tmp_path / "out", "x", named=True)
    reason = "its header holds more than 5,000 elements and items"
    assert dc.convert(source, dc.Options()).reason == reason


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_kept_apart(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("foreign")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as packed:
        for patient in ("ONE", "TWO"):
            raw = io.BytesIO()
            data_set(PIXELS, PatientID=patient).save_as(raw, enforce_file_format=True)
            packed.writestr("a.dcm", raw.getvalue())
    for _ in range(2):
        result = run(tmp_path / "c.zip")
        texts = [result.output / name for name in result.files() if name.endswith(".txt")]
        found = "".join(path.read_text("utf-8") for path in texts)
        assert (len(texts), "ONE" in found, "TWO" in found) == (2, True, True)


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName"])
def test_two_discs_in_one_drive_are_two_patients(
    run: Runner, dicom_file: Factory, keyword: str
) -> None:
    for patient in ("ALICE", "BOB", "ALICE"):
        path = dicom_file(PIXELS, name="IM1", **{keyword: patient})
        result = run(path)
    assert result.files() == ["IM1-2.png", "IM1-2.txt", "IM1.png", "IM1.txt"]
    assert "ALICE" in (result.output / "IM1.txt").read_text("utf-8")
    assert "BOB" in (result.output / "IM1-2.txt").read_text("utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="the locale decides elsewhere")
def test_names_that_the_locale_cannot_write(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cn.zip", "w") as packed:
        packed.writestr("胸部/像.dcm", CT.read_bytes())
    shutil.copy(CT, tmp_path / "IM1")
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, dc.__file__, "cn.zip", "IM1", "-o", "out", "--report", "r.csv"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_a_link_that_comes_meanwhile_leads_nowhere(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "s").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    shutil.copy(CT, tmp_path / "in" / "s" / "IM1")
    write = dc.write_png

    def swapping(*arguments: Any) -> None:
        write(*arguments)
        (tmp_path / "out" / "s").rename(tmp_path / "away")
        (tmp_path / "out" / "s").symlink_to(tmp_path / "victim")

    monkeypatch.setattr(dc, "write_png", swapping)
    assert run(tmp_path / "in").code == 1
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "  =", "\uff1d"])
def test_no_cell_is_a_formula_where_semicolons_separate(sign: str) -> None:
    text = f'a;{sign}HYPERLINK("http:x");b'
    shown = dc.csv_text(text)
    assert shown.replace("\\x3b", ";") == text  # it can be read back
    (cells,) = csv.reader([dc.csv_line([shown]).decode()], delimiter=";")
    assert not any(cell.lstrip().startswith(dc.FORMULA_SIGNS[:-1]) for cell in cells)


def test_notes_of_a_file_are_bounded(dicom_file: Factory, run: Runner) -> None:
    widths = [-1.0 - number for number in range(5000)]
    path = dicom_file(PIXELS, WindowCenter=[1.0] * 5000, WindowWidth=widths)
    result = run(path)
    assert result.code == 0
    assert result.err.count("\n") == dc.MAX_NOTES + 1
    assert "more warnings" in result.err.splitlines()[-1]


def test_a_still_is_not_warned_of_its_rate(dicom_file: Factory, run: Runner) -> None:
    result = run(dicom_file(PIXELS, ActualFrameDuration="9999999"))
    assert (result.code, result.err) == (0, "")
