"""Inputs other than files and folders: zip archives, DICOMDIR, paths from standard input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import PYDICOM_FILES, SAMPLES, Run

import dicom_converter as dc

Runner = Callable[..., Run]
CT = SAMPLES / "DCM00000"
TREE = PYDICOM_FILES / "dicomdirtests"


def archive(path: Path, *members: str, **more: bytes) -> Path:
    """Return a zip of the CT sample under each of *members*, and other files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in members:
            packed.writestr(member, CT.read_bytes())
        for name, content in more.items():
            packed.writestr(name, content)
    return path


def test_a_zip_is_read_in_place(run: Runner, tmp_path: Path) -> None:
    path = archive(tmp_path / "cd.zip", "IM1", "s/IM2.dcm", "s/t/IM3", README=b"a viewer")
    result = run(path)
    assert result.code == 0
    assert "1 skipped" in result.out  # README, as in a folder
    assert result.files() == [
        "IM1.png",
        "IM1.txt",
        "s/IM2.png",
        "s/IM2.txt",
        "s/t/IM3.png",
        "s/t/IM3.txt",
    ]
    assert f"{path}/s/t/IM3 -> " in result.out
    assert sorted(found.name for found in tmp_path.iterdir()) == ["cd.zip", "out"]


def test_the_report_tells_the_size_of_a_member(tmp_path: Path) -> None:
    members = {"a": SAMPLES / "CT" / "IM000001", "b": SAMPLES / "CT" / "IM000002"}
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for name, path in members.items():
            archive.write(path, name)
    for source in dc.find_sources([tmp_path / "s.zip"], tmp_path / "out"):
        outcome = dc.convert(source, dc.Options(output=tmp_path / "out"))
        assert outcome.bytes_in == members[source.member].stat().st_size


def test_a_zip_in_a_folder_gets_a_folder_of_its_own(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in" / "study").mkdir(parents=True)
    shutil.copy(CT, tmp_path / "in" / "study" / "IM1")
    archive(tmp_path / "in" / "study.zip", "IM1", "IM9")
    result = run(tmp_path / "in")
    assert result.code == 0
    assert [name for name in result.files() if name.endswith("png")] == [
        "study-2/IM1.png",
        "study-2/IM9.png",
        "study/IM1.png",
    ]


@pytest.mark.parametrize(
    ("member", "output"),
    [
        ("../IM1", "IM1"),
        ("/etc/IM1", "etc/IM1"),
        ("a/../../IM1", "a/IM1"),
        ("C:\\IM1", "C:/IM1"),
        ("..\\IM1", "IM1"),
        ("x.png/IM1", "x.png_/IM1"),
        ("NUL/com1.dcm", "_NUL/_com1"),
        ("a./IM1...", "a_/IM1_"),
        ("\u202egnp\t/IM1", "_gnp_/IM1"),
        ("b" * 300 + "/IM1", "b" * 221 + "-369820e6/IM1"),
    ],
)
def test_a_name_of_a_member_stays_inside(
    run: Runner, tmp_path: Path, member: str, output: str
) -> None:
    result = run(archive(tmp_path / "cd.zip", member))
    assert result.code == 0
    assert result.files() == [f"{output}.png", f"{output}.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"cd.zip", "out"}


def test_an_encrypted_member_is_said(run: Runner, tmp_path: Path) -> None:
    path = archive(tmp_path / "cd.zip", "IM1")
    raw = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(signature) + flags] |= 1
    path.write_bytes(raw)
    assert "encrypted" in run(path).err


def test_a_bomb_is_refused(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("IM1", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    result = run(path)
    assert "would unpack to 314572800 bytes" in result.err
    assert result.files() == []


@pytest.mark.parametrize("cut", [30, 3000], ids=["hardly anything", "half"])
def test_a_damaged_archive_is_said(run: Runner, tmp_path: Path, cut: int) -> None:
    path = archive(tmp_path / "cd.zip", "IM1")
    path.write_bytes(path.read_bytes()[:cut])
    result = run(path)
    assert result.code == 1
    assert "a damaged zip archive" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_damaged_member_does_not_stop_the_rest(run: Runner, tmp_path: Path) -> None:
    path = archive(tmp_path / "cd.zip", "IM1", "IM2")
    raw = bytearray(path.read_bytes())
    raw[5000:5100] = bytes(100)
    path.write_bytes(raw)
    result = run(path)
    assert result.code == 1
    assert "IM1: damaged inside its zip archive" in result.err
    assert result.files() == ["IM2.png", "IM2.txt"]


def listed(tree: Path) -> list[str]:
    """Return what a DICOMDIR lists, in its order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(tree)
    found = [record.get("ReferencedFileID") for record in ds.DirectoryRecordSequence]
    return ["/".join([name] if isinstance(name, str) else name) for name in found if name]


def test_a_dicomdir_converts_what_it_lists_in_its_order(tmp_path: Path) -> None:
    sources = list(dc.find_sources([TREE / "DICOMDIR"], tmp_path))
    found = [source.path.relative_to(TREE).as_posix() for source in sources]
    assert found == [*listed(TREE / "DICOMDIR"), "DICOMDIR"]
    assert len(found) > 20
    first = sources[0]
    assert first.folder / first.name == tmp_path / found[0]
    assert not any(source.problem for source in sources)


def test_a_dicomdir_says_what_is_missing_and_finds_other_cases(run: Runner, tmp_path: Path) -> None:
    cd = tmp_path / "cd"
    shutil.copytree(TREE / "77654033", cd / "77654033")
    shutil.copy(TREE / "DICOMDIR", cd)
    (cd / "77654033" / "CR1").rename(cd / "77654033" / "cr1")
    (cd / "77654033" / "CT2" / "17106").unlink()
    result = run(cd / "DICOMDIR")
    assert result.code == 1
    assert "CT2/17106: listed in the DICOMDIR, but missing" in result.err
    assert "77654033/CR1/6154.txt" in result.files()


def test_a_dicomdir_that_takes_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "series").write_bytes(b"")
    found = dc.listed_file(tmp_path, ("SERIES", "IM1"))
    assert (found.path, found.listed) == (tmp_path / "series" / "IM1", True)
    assert found.problem == "listed in the DICOMDIR, but missing"


def test_a_folder_with_a_dicomdir_is_walked(run: Runner, tmp_path: Path) -> None:
    cd = tmp_path / "cd"
    cd.mkdir()
    shutil.copy(TREE / "DICOMDIR", cd)
    shutil.copy(CT, cd / "UNLISTED")
    assert run(cd).files() == ["DICOMDIR.txt", "UNLISTED.png", "UNLISTED.txt"]


def test_a_folder_and_the_list_in_it_do_not_share_an_output_folder(tmp_path: Path) -> None:
    sources = dc.find_sources([TREE, TREE / "DICOMDIR"], tmp_path)
    tops = {source.folder.relative_to(tmp_path).parts[0] for source in sources}
    assert tops == {TREE.name, f"{TREE.name}-2"}


def test_a_dicomdir_that_lists_nothing(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(b"no directory")
    result = run(tmp_path / "DICOMDIR")
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert "DICOMDIR: not a DICOM file" in result.err


@pytest.mark.parametrize("separator", ["\n", "\0", "\r\n"], ids=["lines", "NUL", "DOS lines"])
def test_paths_from_standard_input(tmp_path: Path, separator: str) -> None:
    names = ["a b/IM1", "a b/IM1.dcm", "c/IM1", "notes"]
    for name in names[:3]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CT, tmp_path / name)
    (tmp_path / "notes").write_text("no image")
    archive(tmp_path / "c" / "cd.zip", "s/IM2")
    named = ["./a b/IM1", "a b/IM1.dcm", str(tmp_path / "c/IM1"), "notes", "c", "c/cd.zip", ""]
    given = separator.join(named)
    command = [sys.executable, str(Path(dc.__file__)), "-", "-o", "out"]
    done = subprocess.run(  # noqa: S603 - our own code
        command, input=given.encode(), capture_output=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, b"")
    pngs = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png")]
    absolute = (tmp_path / "c").relative_to("/") / "IM1.png"
    expected = ["a b/IM1.png", "a b/IM1.dcm.png", "c/cd/s/IM2.png"]
    assert sorted(pngs) == sorted([*map(Path, expected), absolute])


def test_paths_come_out_before_the_list_ends() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"first\0second\0thi")
    with os.fdopen(reader, "rb") as stream:
        paths = dc.paths_from(stream)
        assert [next(paths), next(paths)] == [Path("first"), Path("second")]
        os.write(writer, b"rd")
        os.close(writer)
        assert list(paths) == [Path("third")]


def test_the_same_name_from_several_kinds_of_input(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    shutil.copy(CT, tmp_path / "IM1")
    os.write(writer, b"IM1\n")
    os.close(writer)
    monkeypatch.chdir(tmp_path)
    with os.fdopen(reader, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        result = run(archive(tmp_path / "cd.zip", "IM1"), "-")
    assert result.code == 0
    assert result.files() == ["IM1-2.png", "IM1-2.txt", "IM1.png", "IM1.txt"]


def test_large_members_are_spooled(run: Runner, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(dc, "KEEP_DECODED_BYTES", 1000)
    result = run(archive(tmp_path / "cd.zip", "IM1"))
    assert result.code == 0
    assert np.array_equal(
        np.fromfile(result.output / "IM1.png", np.uint8),
        np.fromfile(run(CT, output=tmp_path / "b").output / "DCM00000.png", np.uint8),
    )


def test_members_of_the_same_name_are_both_converted(run: Runner, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of what is wanted here
        path = archive(tmp_path / "cd.zip", "IM1.dcm", "IM1.dcm")
    result = run(path)
    assert result.code == 0
    assert result.files() == ["IM1.dcm.png", "IM1.dcm.txt", "IM1.png", "IM1.txt"]


def test_member_names_of_other_systems(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "cd.zip"
    name = "王小东/头部.dcm".encode("gb18030")
    archive(path, "Q" * len(name), "12:30.dcm", "s\\t\\IM1")
    path.write_bytes(path.read_bytes().replace(b"Q" * len(name), name))
    result = run(path)
    assert result.code == 0
    assert [found for found in result.files() if found.endswith("png")] == [
        "12:30.png",
        "s/t/IM1.png",
        "王小东/头部.png",
    ]


@pytest.mark.parametrize("flag", [0x800, 0], ids=["as UTF-8", "empty name"])
def test_archives_with_names_that_cannot_be_read(run: Runner, tmp_path: Path, flag: int) -> None:
    path = archive(tmp_path / "cd.zip", "QQ")
    path.write_bytes(path.read_bytes().replace(b"QQ", b"\0Q"))
    if flag:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("éé", b"content")  # flagged as UTF-8
        path.write_bytes(path.read_bytes().replace("éé".encode(), b"\xff\xff\xff\xff"))
    shutil.copy(CT, tmp_path / "IM2")
    result = run(path, tmp_path / "IM2")
    assert "IM2.png" in result.files()
    assert result.code in (0, 1)
    assert all(line.startswith("dicom_converter: ") for line in result.err.splitlines())


def test_an_empty_archive_is_accounted_for(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "in" / "empty.zip")
    shutil.copy(CT, tmp_path / "in" / "IM1")
    assert "1 converted, 1 skipped" in run(tmp_path / "in").out
    assert run(path).err == f"dicom_converter: {path}: not a DICOM file\n"


def test_an_archive_in_an_archive_is_named(run: Runner, tmp_path: Path) -> None:
    inner = archive(tmp_path / "inner.zip", "IM1").read_bytes()
    result = run(archive(tmp_path / "cd.zip", "IM2", **{"more.zip": inner}))
    assert result.code == 0
    assert "more.zip: warning: an archive inside an archive is not opened" in result.err


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_damaged_members_of_other_methods(run: Runner, tmp_path: Path, method: int) -> None:
    path = tmp_path / "cd.zip"
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("IM1", CT.read_bytes())
    raw = bytearray(path.read_bytes())
    raw[100:140] = bytes(40)
    path.write_bytes(raw)
    result = run(path)
    assert result.err == f"dicom_converter: {path}/IM1: damaged inside its zip archive\n"


def test_a_dicom_file_called_zip(run: Runner, tmp_path: Path) -> None:
    shutil.copy(CT, tmp_path / "IM1.zip")
    assert run(tmp_path / "IM1.zip").code == 0


def test_pipes_called_like_inputs_do_not_block(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.zip", "DICOMDIR"):
        os.mkfifo(tmp_path / "in" / name)
    arguments = [sys.executable, dc.__file__, "in", "in/a.zip", "in/DICOMDIR", "-o", "out"]
    ended = subprocess.run(  # noqa: S603 - our own script
        arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.count("not a regular file") == 2


def test_a_truncated_dicomdir_is_a_failure(run: Runner, tmp_path: Path) -> None:
    shutil.copytree(TREE, tmp_path / "cd")
    raw = (TREE / "DICOMDIR").read_bytes()
    (tmp_path / "cd" / "DICOMDIR").write_bytes(raw[: len(raw) // 2])
    result = run(tmp_path / "cd" / "DICOMDIR")
    assert result.code == 1
    assert "it ends inside (0004,1220): files may be missing from its list" in result.err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("A" * 300, "its name leads out of the medium"),
        ("A\0B", "its name leads out of the medium"),
        ("..", "its name leads out of the medium"),
        ("MISSING", "listed in the DICOMDIR, but missing"),
    ],
    ids=["long", "NUL", "up", "missing"],
)
def test_names_that_a_dicomdir_may_not_list(tmp_path: Path, name: str, reason: str) -> None:
    candidate = dc.listed_file(tmp_path, (name, "IM1"))
    assert candidate.problem == reason
    (source,) = dc.settle_names([candidate], tmp_path / "out", set())
    assert dc.convert(source, dc.Options()).reason == reason


def test_a_dicomdir_that_is_not_there(run: Runner, tmp_path: Path) -> None:
    result = run(tmp_path / "DICOMDIR")
    assert result.err.lower().endswith("dicomdir: no such file or directory\n")


@pytest.mark.parametrize(
    "listing",
    [b"s/IM1\0s/IM2\0", b"s/IM1\ns/IM2\n", b"s/IM1\0s/\nodd\0s/IM2", b"odd\n\0s/IM1\0s/IM2\0"],
    ids=["NUL", "lines", "a line break in a name", "a line break in the first name"],
)
def test_the_separator_is_the_first_that_comes(listing: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, listing)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        names = [str(path) for path in dc.paths_from(stream)]
    assert [name for name in names if "odd" not in name] == ["s/IM1", "s/IM2"]


def test_a_member_name_that_is_no_cp437_stays() -> None:
    info = zipfile.ZipInfo("胸部.dcm")  # from a field of its own, as Python 3.12 reads them
    assert dc.member_name(info) == "胸部.dcm"


def test_a_null_in_a_line_is_a_missing_file() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"IM1\n")
    with os.fdopen(reader, "rb") as stream:
        paths = dc.paths_from(stream)
        assert next(paths) == Path("IM1")
        os.write(writer, b"a\0b\r\n")
        os.close(writer)
        assert list(paths) == [Path(r"a\0b")]


def test_closed_standard_input_is_said(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    result = run("-")
    assert (result.code, result.err) == (1, "dicom_converter: -: standard input is closed\n")


def test_frames_of_a_later_clip_overwrite_no_still(tmp_path: Path) -> None:
    taken: set[str] = set()
    names = [
        source.name
        for path in ("A-0001.dcm", "A.dcm", "A-0002.dcm", "B.dcm", "B-0001.dcm")
        for source in dc.settle_names([dc.Source(tmp_path / path)], tmp_path / "out", taken)
    ]
    assert names == ["A-0001", "A.dcm", "A-0002", "B", "B-0001.dcm"]


def test_circles_in_what_is_named_stop_nothing(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    result = run(tmp_path / "loop" / "IM1", CT)
    assert result.code == 1
    assert "DCM00000.png" in result.files()


@pytest.mark.parametrize("arguments", [[""], ["-o", ""]], ids=["input", "output"])
def test_an_empty_path_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        dc.main(arguments)
    assert ended.value.code == 2
    assert "an empty path" in capsys.readouterr().err


def test_a_file_called_minus_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dc.input_path("./-") == tmp_path / "-"
    assert dc.input_path("-") == dc.STDIN


def test_members_cost_the_same_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(300):
            archive.writestr(f"{number}", b"x")
    walked: list[int] = []

    class Entries(list[zipfile.ZipInfo]):
        def __iter__(self) -> Iterator[zipfile.ZipInfo]:
            walked.append(len(self))
            return super().__iter__()

    known = zipfile.ZipFile.infolist
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda archive: Entries(known(archive)))
    sources = list(dc.find_sources([path], tmp_path / "out"))
    assert len(sources) == 300
    for source in sources:
        dc.convert(source, dc.Options())
    assert walked == [300, 300]  # to see which overlap, and to find them


def test_entries_that_overlap_are_refused(run: Runner, tmp_path: Path) -> None:
    path = archive(tmp_path / "cd.zip", "IM1", "IM2", "IM3")
    raw = bytearray(path.read_bytes())
    first = raw.index(b"PK\1\2")
    second = raw.index(b"PK\1\2", first + 4)
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]  # where its local header is
    path.write_bytes(raw)
    result = run(path)
    assert result.code == 1
    assert result.err.count("it overlaps another one in its archive") == 2
    assert result.files() == ["IM3.png", "IM3.txt"]


def test_of_a_member_that_is_not_dicom_the_first_bytes_are_unpacked(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: copied.append("all of it"))
    result = run(archive(tmp_path / "cd.zip", viewer=bytes(1 << 20)))
    assert (copied, result.err.count("no DICOM files found")) == ([], 1)


def test_an_archive_cannot_write_outside_of_the_output_folder(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive(tmp_path / "in" / "...zip", "IM1")
    (tmp_path / "IM1.txt").write_text("mine")
    shutil.copy(CT, tmp_path / "in" / "IM1")
    result = run(tmp_path / "in")
    assert result.out.splitlines()[-1] == "2 converted"
    assert result.files() == ["IM1.png", "IM1.txt", "_/IM1.png", "_/IM1.txt"]
    assert (tmp_path / "IM1.txt").read_text() == "mine"


def test_a_member_without_a_name_costs_no_other(run: Runner, tmp_path: Path) -> None:
    path = archive(tmp_path / "cd.zip", "IM1", "QIM2")
    path.write_bytes(path.read_bytes().replace(b"QIM2", b"\0IM2"))
    assert {"IM1.png", "IM1.txt"} <= {*run(path).files()}
