"""Many files: worker processes that fail alone, runs that are resumed, reports, interrupts."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pydicom
import pytest
from conftest import SAMPLES, Here, Run, data_set

import dicom_converter as dc

Runner = Callable[..., Run]
CT = SAMPLES / "DCM00000"
SMALL = np.arange(64, dtype=np.uint8).reshape(8, 8)


def many(folder: Path, count: int) -> Path:
    """Return a folder of so many small images."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data_set(SMALL, PatientID=str(number)).save_as(
            folder / f"IM{number:03}", enforce_file_format=True
        )
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def command(*arguments: Any, script: str | Path = dc.__file__) -> list[str]:
    return [sys.executable, str(script), *map(str, arguments)]


def program(
    *arguments: Any, cwd: Path, script: str | Path = dc.__file__, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the program, or another *script*, as its users do."""
    return subprocess.run(  # noqa: S603 - our own script
        command(*arguments, script=script),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def test_processes_write_what_one_process_writes(tmp_path: Path) -> None:
    many(tmp_path / "in" / "a", 20)
    many(tmp_path / "in" / "b", 5)
    shutil.copy(SAMPLES / "DCM00001", tmp_path / "in" / "clip")
    (tmp_path / "in" / "notes").write_text("not DICOM", encoding="utf-8")
    one = program("in", "-o", "one", "-j", "1", cwd=tmp_path)
    two = program("in", "-o", "two", "-j", "2", cwd=tmp_path)
    assert (one.returncode, two.returncode) == (0, 0)
    assert sorted(one.stdout.replace("one/", "").splitlines()) == sorted(
        two.stdout.replace("two/", "").splitlines()
    )
    ours, theirs = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert ours.keys() == theirs.keys()
    assert len(ours) == 53
    for name, content in ours.items():
        if not name.startswith("clip."):  # the MP4's bytes depend on the number of threads
            assert content == theirs[name], name


FAULTS = {
    "killed": "os.kill(os.getpid(), 9)",
    "crashed": "import ctypes; ctypes.string_at(0)",
    "ended": "os._exit(3)",
    "hung": "time.sleep(600)",
    "hung in C": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', (1 << 31) - 1)",
    "hung in C alone": "import re; re.match('(a*)*b', 'a' * 64)",  # no other thread may run
    "memory": "bytearray(1 << 50)",
    "much memory": "import numpy; held = [numpy.empty(1 << 30, 'u1') for _ in range(1 << 10)]",
}


def faulty(folder: Path, fault: str) -> Path:
    """Return a script that is the program, but for what it does to files of the patient BAD."""
    script = folder / "faulty.py"
    script.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(Path(dc.__file__).parent)!r})\n"
        "import dicom_converter as dc\n"
        "whole = dc.write_pictures\n"
        "def write_pictures(task, outputs):\n"
        "    if dc.text(task.header.data_set, 'PatientID') == 'BAD':\n"
        f"        {FAULTS[fault]}\n"
        "    return whole(task, outputs)\n"
        "dc.write_pictures = write_pictures\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(dc.main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    return script


each_fault = pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("killed", "the process that converted it was killed, perhaps for want of memory"),
        ("crashed", "the process that converted it crashed (Segmentation fault)"),
        ("ended", "the process that converted it crashed (exit code 3)"),
        ("hung", "took longer than 2 s and was stopped"),
        ("hung in C", "took longer than 2 s and was stopped"),
        ("hung in C alone", "took longer than 2 s and was stopped"),
        ("memory", "it does not fit in memory"),
        ("much memory", "it does not fit in memory"),
    ],
)


@each_fault
def test_a_bad_file_hurts_no_other(tmp_path: Path, fault: str, reason: str) -> None:
    many(tmp_path / "in", 12)
    data_set(SMALL, PatientID="BAD").save_as(tmp_path / "in" / "IM005", enforce_file_format=True)
    script = faulty(tmp_path, fault)
    arguments = ("in", "-o", "out", "-j", "2", "--timeout", "2", "--report", "r.jsonl")
    ended = program(*arguments, cwd=tmp_path, script=script)
    assert ended.returncode == 1
    assert ended.stderr == f"dicom_converter: in/IM005: {reason}\n"
    names = {f"IM{number:03}" for number in range(12)} - {"IM005"}
    found = {path.name for path in (tmp_path / "out").iterdir()} - {"IM005.txt"}
    assert found == {f"{name}{suffix}" for name in names for suffix in (".png", ".txt")}
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 12
    assert [row["path"] for row in rows if row["status"] == "failed"] == ["in/IM005"]


@each_fault
@pytest.mark.parametrize("given", ["in/IM005", "in -j 1"])
def test_a_bad_file_alone_has_the_same_bounds(
    tmp_path: Path, fault: str, reason: str, given: str
) -> None:
    many(tmp_path / "in", 0)
    data_set(SMALL, PatientID="BAD").save_as(tmp_path / "in" / "IM005", enforce_file_format=True)
    arguments = (*given.split(), "-o", "out", "--timeout", "2", "--report", "r.jsonl")
    ended = program(*arguments, cwd=tmp_path, script=faulty(tmp_path, fault))
    assert (ended.returncode, ended.stderr) == (1, f"dicom_converter: in/IM005: {reason}\n")
    (row,) = map(json.loads, (tmp_path / "r.jsonl").read_text("utf-8").splitlines())
    assert (row["status"], row["reason"]) == ("failed", reason)
    assert {path.name for path in (tmp_path / "out").glob("*")} <= {"IM005.txt"}


def test_resume_does_only_what_is_left(run: Runner, tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 6)
    (folder / "bad").write_bytes(CT.read_bytes()[:3000])
    assert run(folder).code == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "IM001.png").unlink()
    (tmp_path / "out" / "IM002.txt").write_text("somebody's", encoding="utf-8")
    before[tmp_path / "out" / "IM002.txt"] = 0
    (tmp_path / "out" / "IM003.png").write_bytes(b"")
    os.utime(folder / "IM004")
    result = run(folder, "--resume")
    assert result.code == 1
    assert "4 converted, 2 done before, 1 failed" in result.out
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    same = {path.name for path in after if before.get(path) == after[path]}
    # What lies at IM002 says no more that it is ours: it stays, and the file gets another name.
    kept = {"IM002.png"}
    assert same == {"IM000.png", "IM000.txt", "IM005.png", "IM005.txt"} | kept
    assert {path.name for path in after.keys() - before.keys()} == {"IM002-2.png", "IM002-2.txt"}


@pytest.mark.parametrize(
    "options",
    [
        "--8bit",
        "--no-gif",
        "--no-mp4",
        "--fps=7",
        "--window=full",
        "--frames=1",
        "--no-overlays",
        "--no-shutter",
        "--native-pixels",
    ],
)
def test_options_for_pictures_make_outputs_stale(run: Runner, tmp_path: Path, options: str) -> None:
    folder = many(tmp_path / "in", 1)
    data_set(np.stack([SMALL, SMALL]), NumberOfFrames=2).save_as(
        folder / "clip", enforce_file_format=True
    )
    assert run(folder).code == 0
    again = {"--8bit": "IM000", "--no-gif": "clip", "--no-mp4": "clip", "--fps=7": "clip"}
    again |= {"--frames=1": "clip"}
    left = 2 - ("--8bit" not in options and options in again)
    assert f"{left} converted" in run(folder, "--resume", options).out
    assert "2 done before" in run(folder, "--resume", options).out
    result = run(folder, "--resume")
    assert f"{left} converted" in result.out
    assert not list(result.output.glob("*-0001.png"))  # what --frames made is gone


def test_another_version_makes_outputs_stale(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many(tmp_path / "in", 1)
    assert run(folder).code == 0
    monkeypatch.setattr(dc, "__version__", "9.9")
    assert "1 converted" in run(folder, "--resume").out


def test_every_option_is_known_to_matter_or_not() -> None:
    others = {"output", "quiet", "debug", "check", "jobs", "timeout", "resume", "report", "dask"}
    others |= {"study"}
    assert {*dc.PictureOptions.__slots__} | others | {"threads", "folder"} == {
        one.name for one in fields(dc.Options)
    }
    options = dc.Options(window=dc.Window(40, 400), frame_rate=None)
    image = dc.ImagePixel(2, 2, 1, 1, "MONOCHROME2", 8, 8, 7, 0, 0, (2, 2))
    assert dc.chosen_options(options, replace(image, number_of_frames=2)) == (
        "frame_rate=auto, window=40,400"
    )
    assert dc.chosen_options(options, image) == "window=40,400"
    assert dc.chosen_options(options, "video") == dc.chosen_options(options, "") == "default"


def test_the_report_has_a_row_for_each_file(run: Runner, tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 2)
    shutil.copy(SAMPLES / "DCM00001", folder / "clip")
    (folder / 'odd, "name"\n').write_bytes(CT.read_bytes()[:3000])
    (folder / "notes").write_text("not DICOM", encoding="utf-8")
    for name in ("r.csv", "r.jsonl"):
        run(folder, "--report", tmp_path / name)
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    lines = (tmp_path / "r.jsonl").read_text("utf-8").splitlines()
    objects = {Path(row["path"]).name: row for row in map(json.loads, lines)}
    assert list(rows["clip"]) == list(objects["clip"]) == list(dc.REPORT_FIELDS)
    assert len(rows) == len(objects) == 5
    clip = objects["clip"]
    assert clip["status"] == "converted"
    assert clip["frames"] == int(rows["clip"]["frames"]) == 28
    assert clip["transfer_syntax"] == rows["clip"]["transfer_syntax"] == "1.2.840.10008.1.2.4.70"
    assert clip["bytes_in"] == (folder / "clip").stat().st_size
    assert clip["bytes_out"] == sum(Path(path).stat().st_size for path in clip["outputs"])
    assert clip["outputs"] == rows["clip"]["outputs"].split(" | ")
    assert 0 < clip["seconds"] < 60
    ds = pydicom.dcmread(SAMPLES / "DCM00001")
    uids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    for row in (clip, rows["clip"]):
        assert (row["modality"], row["version"]) == ("XA", dc.__version__)
        assert (row["study"], row["series"], row["instance"]) == uids
    assert {objects["notes"][name] for name in ("study", "series", "instance")} == {""}
    assert objects["notes"]["status"] == "skipped"
    assert objects['odd, "name"\n']["status"] == "failed"
    assert rows['odd, "name"\\x0a']["reason"] == objects['odd, "name"\n']["reason"] != ""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_first_row_that_is_cut_anywhere_is_ours(tmp_path: Path, suffix: str) -> None:
    outcome = dc.Outcome(dc.Source(tmp_path / "a"), dc.Status.CONVERTED)
    path = tmp_path / f"r{suffix}"
    with dc.opened_report(path) as record:
        record(outcome)
    whole = path.read_bytes()
    first = whole.splitlines(keepends=True)[0]
    for end in range(len(first)):
        path.write_bytes(first[:end])
        with dc.opened_report(path) as record:
            record(outcome)
        again = (1 + (end == len(first) - 1)) * whole if suffix == ".jsonl" else whole
        assert path.read_bytes() == again


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 7, 20])
def test_half_a_row_is_cut_off_and_rows_stay(
    run: Runner, tmp_path: Path, suffix: str, cut: int
) -> None:
    folder = many(tmp_path / "in", 3)
    report = tmp_path / "new" / f"r{suffix}"
    run(folder, "--report", report)
    first = report.read_text("utf-8")
    report.write_text(first[:-cut], encoding="utf-8")
    run(folder, "--report", report)
    lines = report.read_text("utf-8").splitlines()
    kept = first.splitlines()[: None if cut == 1 else -1]  # with its end alone, a row is not lost
    assert lines[:-3] == kept
    assert len(lines) == len(kept) + 3


@pytest.mark.parametrize(
    "arguments",
    [["-j", "0"], ["-j", "x"], ["--timeout", "-1"], ["--timeout", "nan"], ["--report", "r.txt"]],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        dc.main(arguments)
    assert ended.value.code == 2
    assert repr(arguments[1]) in capsys.readouterr().err


def test_reasons_are_grouped_by_frequency(run: Runner, tmp_path: Path) -> None:
    for number, bits in enumerate((3, 5, 7)):
        data_set(SMALL, BitsAllocated=bits).save_as(
            tmp_path / f"IM{number}", enforce_file_format=True
        )
    (tmp_path / "cut").write_bytes(CT.read_bytes()[:3000])
    lines = run(tmp_path).out.splitlines()
    assert lines[-3] == "4 failed"
    assert lines[-2].startswith("       3 x Bits Allocated is N: only")
    assert lines[-1].startswith("       1 x ")


def test_reasons_without_end_are_bounded() -> None:
    tally = dc.Tally()
    source = dc.Source(CT, CT.parent, "x")
    for number in range(2 * dc.REASONS_KEPT):
        name = "".join(chr(97 + int(digit)) for digit in str(number))
        tally.add(dc.Outcome(source, dc.Status.FAILED, reason=f"because of {name}"))
    assert len(tally.reasons) == dc.REASONS_KEPT + 1
    first, *rest = tally.lines()
    assert first == f"{2 * dc.REASONS_KEPT} failed"
    assert rest[0] == f"{dc.REASONS_KEPT:>8} x other reasons"
    assert rest[-1].strip() == f"and {dc.REASONS_KEPT + 1 - dc.REASONS_SHOWN} other reasons"


def changing(path: Path, change: Callable[[], object]) -> dc.Outcome:
    """Convert the file at *path*, which *change* changes while it is read."""
    whole = dc.image_pixel

    def image_pixel(*arguments: Any) -> dc.ImagePixel:
        change()
        return whole(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dc, "image_pixel", image_pixel)
        return dc.convert(dc.Source(path, path.parent / "out", path.name), dc.Options())


def test_an_input_that_is_replaced_while_read_fails(tmp_path: Path) -> None:
    path, other = many(tmp_path, 2) / "IM000", tmp_path / "IM001"
    outcome = changing(path, lambda: other.replace(path))
    assert outcome.reason == "it changed while it was read: convert it again"
    assert [found.name for found in (tmp_path / "out").iterdir()] == ["IM000.txt"]


def test_an_input_that_is_written_while_read_fails(tmp_path: Path) -> None:
    path = many(tmp_path, 1) / "IM000"
    outcome = changing(path, lambda: os.truncate(path, path.stat().st_size - 10))
    assert outcome.status == dc.Status.FAILED
    assert [found.name for found in (tmp_path / "out").iterdir()] == ["IM000.txt"]


def test_an_input_that_vanishes_while_read_was_read(tmp_path: Path) -> None:
    path = many(tmp_path, 1) / "IM000"
    assert changing(path, path.unlink).status == dc.Status.CONVERTED


def test_inputs_that_vanish_before_they_are_read(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 3)
    sources = dc.find_sources([folder], tmp_path / "out")
    first = next(sources)
    (folder / "IM001").unlink()
    outcomes = [dc.convert(source, dc.Options()) for source in (first, *sources)]
    assert [outcome.reason for outcome in outcomes] == ["", "no such file or directory", ""]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes are asked of Linux")
def test_a_full_disk_leaves_no_broken_output(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    shutil.copy(SAMPLES / "DCM00001", tmp_path / "in" / "clip")
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    limited += f"sys.path.insert(0, {str(Path(dc.__file__).parent)!r}); import dicom_converter; "
    limited += "sys.exit(dicom_converter.main(sys.argv[1:]))"
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", limited, "in", "-o", "out", "-j", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "in/clip: " in ended.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["clip.txt", *(f"IM00{n}.{suffix}" for n in range(3) for suffix in ("png", "txt"))]
    )


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, "write_png"),
        (errno.EROFS, "write_png"),
        (errno.EACCES, "write_png"),
        (errno.EDQUOT, "summary_text"),
    ],
)
def test_an_output_that_takes_no_more_ends_the_run_once(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, step: str
) -> None:
    folder = many(tmp_path / "in", 3)
    assert run(folder / "IM000").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(dc, step, full := Mock(side_effect=OSError(number, os.strerror(number))))
        result = run(folder, "--resume", "--report", tmp_path / "r.jsonl")
    assert full.call_count == 1
    cure = "mend that, or name another folder with -o, and add --resume"
    reason = f"{tmp_path / 'out'}: cannot be written ({os.strerror(number)})"
    assert (result.code, result.err) == (1, f"dicom_converter: {reason}: {cure}\n")
    rows = list(map(json.loads, (tmp_path / "r.jsonl").read_text("utf-8").splitlines()))
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("done before", ""),
        ("failed", reason),
    ]
    assert "2 converted, 1 done before" in run(folder, "--resume").out


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("folder", ["out", "out/new"])
def test_a_folder_that_cannot_be_written_ends_the_run_once(
    tmp_path: Path, jobs: str, folder: str
) -> None:
    many(tmp_path / "in", 5)
    (tmp_path / "out").mkdir(mode=0o555)
    line = command("in", "-j", jobs, "-o", folder)
    if os.geteuid() == 0:  # who may write everywhere
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("root may write everywhere, and setpriv is not installed")
        line = [setpriv, "--bounding-set=-dac_override", *line]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ended.returncode == 1
    assert f"{tmp_path}/{folder}: cannot be written (Permission denied): " in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_one_files_fault_does_not_end_the_run(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = [OSError(number, os.strerror(number)) for number in (errno.EFBIG, errno.ENAMETOOLONG)]
    monkeypatch.setattr(dc, "write_png", Mock(side_effect=[*errors, None]))
    folder = many(tmp_path / "in", 2)
    assert run(folder).out.splitlines()[0] == "2 failed"


def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    many(tmp_path / "in", 40)
    program("in", "-o", "alone", "-j", "1", cwd=tmp_path)
    arguments = command("in", "-o", "both", "-j", "2")
    runs = [
        subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        for _ in range(2)
    ]
    assert [process.wait(120) for process in runs] == [0, 0]
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")


def test_an_interrupt_stops_at_once_and_leaves_nothing_broken(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 4)
    for number in range(30):
        shutil.copy(SAMPLES / "DCM00001", folder / f"clip{number}")
    arguments = command("in", "-o", "out", "-j", "2", "--report", "r.jsonl")
    process = subprocess.Popen(  # noqa: S603 - our own script
        arguments, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_for(lambda: len(list((tmp_path / "out").glob("*.txt"))) > 5)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 130
    assert errors.startswith("dicom_converter: interrupted: ")
    assert errors.endswith("; --resume goes on from here\n")
    assert "converted" in errors
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in names if name.endswith(".part")]
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text("utf-8").splitlines()]
    assert all(Path(tmp_path, output).is_file() for row in rows for output in row["outputs"])


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something *happened*."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="signals are of POSIX")
def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 60)
    shutil.copy(SAMPLES / "DCM00002", folder / "clip")
    assert program("in", "-o", "calm", "-j", "2", cwd=tmp_path).returncode == 0
    moments = random.Random(5)  # noqa: S311 - no secret
    arguments = command("in", "-o", "out", "-j", "2", "--resume", "--report", "r.jsonl")
    for _ in range(6):
        process = subprocess.Popen(  # noqa: S603 - our own script
            arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(0.5, 1.1))
        with_group = moments.random() < 0.5
        if with_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        time.sleep(0.3)
    last = program("in", "-o", "out", "-j", "2", "--resume", "--report", "r.jsonl", cwd=tmp_path)
    assert last.returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
    lines = (tmp_path / "r.jsonl").read_text("utf-8").splitlines()
    assert all(json.loads(line)["status"] in ("converted", "done before") for line in lines)


@contextmanager
def workers(count: int = 1, memory: int = 0) -> Iterator[dc.Workers]:
    with closing(dc.Workers(count, memory)) as begun:
        yield begun


def test_a_worker_that_is_killed_between_two_sources_is_begun_anew(tmp_path: Path) -> None:
    sources = list(dc.find_sources([many(tmp_path / "in", 6)], tmp_path / "out"))
    with workers() as begun:
        for source in sources:
            outcome = begun.submit(source, dc.Options()).result(60)
            assert outcome.status == dc.Status.CONVERTED
            begun._all[0]._process.kill()
            begun._all[0]._process.join()


def test_memory_is_shared() -> None:
    assert dc.memory_of_worker(1000) >= 2 * dc.MAX_FRAME_BYTES


@pytest.mark.parametrize(
    ("jobs", "files", "threads"),
    [(1, 2, 0), (4, 1, 0), (dc.available_cores(), 2, 1), (4 * dc.available_cores(), 2, 1)],
)
def test_cores_are_shared(tmp_path: Path, jobs: int, files: int, threads: int) -> None:
    class Noted(Here):
        def submit(self, source: dc.Source, options: dc.Options) -> Future[dc.Outcome]:
            assert options.threads == threads
            return super().submit(source, options)

    sources = dc.find_sources([many(tmp_path / "in", files)], tmp_path / "out")
    outcomes = list(dc.convert_all(sources, dc.Options(jobs=jobs), cast(Any, Noted())))
    assert len(outcomes) == files


def test_the_bar_and_the_failures_above_it(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 5)
    (folder / "bad").write_bytes(CT.read_bytes()[:3000])
    shutil.copy(SAMPLES / "DCM00001", folder / "clip")
    data_set(SMALL, RescaleSlope=0).save_as(folder / "odd", enforce_file_format=True)
    script = (
        "import os, pty, sys\n"
        "def read(fd):\n"
        "    data = os.read(fd, 1 << 16)\n"
        "    return data\n"
        f"code = pty.spawn({command('in', '-o', 'out', '-j', '2')!r}, read)\n"
        "sys.exit(os.waitstatus_to_exitcode(code))\n"
    )
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    assert ended.returncode == 1
    assert "dicom_converter: in/bad: " in ended.stdout
    assert "1 failed" in ended.stdout
    assert "/8" in ended.stdout
    assert "7 converted, 1 failed, 1 with warnings" in ended.stdout
    assert "dicom_converter: in/odd: warning: Rescale Slope is 0, taken as 1" in ended.stdout
    assert "in/clip: 28 frames, 10 fps; recorded at 14.99 (Frame Time), `--fps" in ended.stdout
    assert "IM000 ->" not in ended.stdout


def test_sources_are_found_as_they_are_needed(tmp_path: Path) -> None:
    for number in range(50):
        many(tmp_path / "in" / f"{number:02}", 1)
    found = 0

    def counted() -> Iterator[dc.Source]:
        nonlocal found
        for source in dc.find_sources([tmp_path / "in"], tmp_path / "out"):
            found += 1
            yield source

    with (
        workers(2) as where,
        closing(dc.convert_all(counted(), dc.Options(jobs=2), where)) as outcomes,
    ):
        assert next(outcomes).status == dc.Status.CONVERTED
        assert found <= 2 * dc.IN_FLIGHT + 2
    assert not list((tmp_path / "out").rglob("*.part"))


def test_options_of_a_worker_pickle() -> None:
    import pickle

    options = replace(dc.Options(), window=dc.Window(1, 2), report=Path("r.csv"))
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301 - our own


@contextmanager
def cluster(
    folder: Path, workers: int, *, nanny: str = "--no-nanny"
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a scheduler and worker processes of Dask here; yield its address, and it before them."""
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    dask = [sys.executable, "-m", "dask"]
    file = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    quiet: Any = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen(  # noqa: S603 - our own cluster
            [*dask, "scheduler", *options, "--scheduler-file", str(file)], **quiet
        )
    ]
    try:
        wait_for(lambda: file.is_file() and file.read_text("utf-8").endswith("}"))
        worker = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1"]
        worker += ["--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(folder)]
        started += [
            subprocess.Popen(  # noqa: S603 - our own cluster
                [*worker, nanny, "--name", str(number)], **quiet
            )
            for number in range(workers)
        ]
        yield json.loads(file.read_text("utf-8"))["address"], started
    finally:
        for process in reversed(started):
            process.terminate()  # a nanny ends its worker
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is not installed")


def test_a_worker_without_the_folder_takes_whole_paths_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SAMPLES / "DCM00000", tmp_path / "a")
    monkeypatch.chdir(tmp_path)  # where a file has that path too
    monkeypatch.setattr(dc, "shipped_to", lambda: Mock(convert=dc.convert))
    options = dc.Options(output=tmp_path / "out", folder=Path("/no/such folder"))
    lost = dc.convert_shipped(dc.Source(Path("a"), tmp_path / "out", "a"), options)
    assert lost.status == dc.Status.FAILED
    assert "/no/such folder is not there on a worker" in lost.reason
    whole = dc.convert_shipped(dc.Source(tmp_path / "a", tmp_path / "out", "a"), options)
    assert whole.status == dc.Status.CONVERTED


@needs_dask
def test_a_cluster_writes_what_this_machine_writes(tmp_path: Path) -> None:
    folder = many(tmp_path / "in" / "a", 30)
    shutil.copy(SAMPLES / "DCM00001", folder / "clip")
    (folder / "bad").write_bytes(CT.read_bytes()[:3000])
    here = program("in", "-o", "here", "-j", "2", "--report", "here.csv", cwd=tmp_path)
    with cluster(tmp_path, 2) as (address, _):
        there = program(
            "in", "-o", "there", "--dask", address, "--report", "there.csv", cwd=tmp_path
        )
        file = str(tmp_path / "scheduler.json")
        again = program("in", "-o", "there", "--dask", file, "--resume", cwd=tmp_path)
    assert (here.returncode, there.returncode, again.returncode) == (1, 1, 1)
    assert there.stderr.splitlines()[-1] == here.stderr.strip()
    assert there.stdout.splitlines()[-1] == here.stdout.splitlines()[-1]
    assert "31 done before, 1 failed" in again.stdout
    ours, theirs = contents(tmp_path / "here"), contents(tmp_path / "there")
    assert ours.keys() == theirs.keys()
    same = [name for name in ours if ours[name] == theirs[name]]
    assert {*ours} - {*same} <= ({"a/clip.mp4"} if dc.available_cores() // 2 > 1 else set())
    rows = [
        {
            (row["path"], row["status"], row["reason"], row["frames"], row["bytes_in"])
            for row in csv.DictReader((tmp_path / name).read_text("utf-8").splitlines())
        }
        for name in ("here.csv", "there.csv")
    ]
    assert rows[0] == rows[1]


@needs_dask
def test_a_killed_worker_of_a_cluster_loses_nothing(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 14)
    for number in range(6):
        shutil.copy(SAMPLES / "DCM00001", folder / f"clip{number:02}")
    with cluster(tmp_path, 2) as (address, (_, worker, _)):
        process = subprocess.Popen(  # noqa: S603 - our own script
            command("in", "-o", "out", "--dask", address, "--report", "r.jsonl"),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: len(list((tmp_path / "out").glob("clip*.txt"))) > 0)
        worker.kill()
        assert process.wait(120) == 0
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 20
    assert {row["status"] for row in rows} == {"converted"}
    assert len(list((tmp_path / "out").glob("*.txt"))) == 20


@needs_dask
def test_a_scheduler_that_dies_is_one_line(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 3)
    for number in range(6):
        shutil.copy(SAMPLES / "DCM00001", folder / f"clip{number:02}")
    with cluster(tmp_path, 1) as (address, (scheduler, _)):
        process = subprocess.Popen(  # noqa: S603 - our own script
            command("in", "-o", "out", "--dask", address),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: len(list((tmp_path / "out").glob("clip*.txt"))) > 0)
        scheduler.kill()
        _, errors = process.communicate(timeout=120)
    cure = "start it again and add --resume"
    expected = f"dicom_converter: {address}: the Dask scheduler is gone: {cure}\n"
    assert (process.returncode, errors) == (1, expected)


@needs_dask
def test_a_file_that_hangs_on_a_cluster_is_given_up(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 6)
    data_set(SMALL, PatientID="BAD").save_as(folder / "IM002", enforce_file_format=True)
    step = "    pixels = header.pixels\n    if pixels is None or not pixels.length:\n"
    fault = "    if text(header.data_set, 'PatientID') == 'BAD':\n        time.sleep(600)\n"
    whole = Path(dc.__file__).read_text(encoding="utf-8")
    assert whole.count(step) == 1
    script = tmp_path / "faulty.py"
    script.write_text(whole.replace(step, fault + step), encoding="utf-8")
    with cluster(tmp_path, 1, nanny="--nanny") as (address, _):
        arguments = ("in", "-o", "out", "--timeout", "2", "--dask", address)
        ended = program(*arguments, cwd=tmp_path, script=script)
    reason = "took longer than 2 s and was stopped"
    assert (ended.returncode, ended.stderr) == (1, f"dicom_converter: in/IM002: {reason}\n")
    assert ended.stdout.splitlines()[-1] == "5 converted, 1 failed"


@needs_dask
def test_a_cluster_without_workers_ends_the_run(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many(tmp_path / "in", 3)
    for number in range(6):
        shutil.copy(SAMPLES / "DCM00001", folder / f"clip{number:02}")
    with cluster(tmp_path, 1) as (address, (_, worker)):

        def end_worker() -> None:
            wait_for(lambda: len(list((tmp_path / "out").glob("clip*.txt"))) > 0)
            monkeypatch.setattr(dc, "CONNECT_TIMEOUT", 2)
            worker.kill()

        threading.Thread(target=end_worker).start()
        result = run(folder, "--dask", address, "--timeout", "0", "-q")
    cure = "start some with `dask worker` and add --resume"
    assert result.code == 1
    assert result.err.splitlines()[-1] == f"dicom_converter: {address}: no workers are left: {cure}"


@needs_dask
def test_no_cluster_is_one_line(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dc, "CONNECT_TIMEOUT", 1)
    result = run(CT, "--dask", "tcp://127.0.0.1:9")
    reason = "tcp://127.0.0.1:9: no Dask scheduler answers there: start one with `dask scheduler`"
    assert (result.code, result.err) == (1, f"dicom_converter: {reason}\n")


def test_dask_that_is_missing_is_one_line(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run(CT, "--dask", "tcp://127.0.0.1:9")
    cure = f"{sys.executable} -m pip install 'dask[distributed]'"
    assert result.err == f"dicom_converter: --dask needs a library that is missing: {cure}\n"


def test_workers_that_cannot_live_end_the_run(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    script = tmp_path / "faulty.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(dc.__file__).parent)!r})\n"
        "import dicom_converter as dc\n"
        "dc.follow_parent = lambda: os._exit(1)\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(dc.main(['in', '-o', 'out', '-j', '2']))\n",
        encoding="utf-8",
    )
    ended = program(cwd=tmp_path, script=script)
    reason = "worker processes cannot be kept alive: is there too little memory?"
    assert (ended.returncode, ended.stderr) == (1, f"dicom_converter: {reason}\n")


def test_long_arguments_stop_nothing(tmp_path: Path) -> None:
    ended = program("--window", "x" * 5000, CT, "-o", "out", cwd=tmp_path)
    assert ended.returncode == 1
    assert "has no window called" in ended.stderr


@pytest.mark.parametrize("lines", [2, 5, 17, 19, 22])
def test_a_text_that_is_cut_short_is_made_anew(run: Runner, tmp_path: Path, lines: int) -> None:
    folder = many(tmp_path / "in", 2)
    run(folder)
    text = tmp_path / "out" / "IM000.txt"
    whole = text.read_text("utf-8")
    text.write_text("".join(whole.splitlines(keepends=True)[:lines]), encoding="utf-8")
    assert "1 converted, 1 done before" in run(folder, "--resume").out
    assert text.read_text("utf-8") == whole


def test_resume_knows_the_source_and_the_sizes(run: Runner, tmp_path: Path) -> None:
    first, second = many(tmp_path / "a", 3), many(tmp_path / "b", 3)
    assert "3 converted" in run(first).out
    result = run(second, "--resume")
    assert "3 converted" in result.out  # of the same names, but of other instances
    assert "IM001 is taken there by something else: its outputs are called IM001-2" in result.err
    shutil.copy(CT, second / "IM001")
    os.utime(second / "IM001", (1, 1))  # older than what was made of another file
    os.truncate(tmp_path / "out" / "IM002-2.png", 60)
    assert "2 converted, 1 done before" in run(second, "--resume").out
    assert "3 done before" in run(first, "--resume").out


@pytest.mark.skipif(sys.platform != "linux", reason="limits are asked of Linux")
def test_a_limit_of_memory_that_is_there_is_kept(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30)); "
    limited += "import subprocess; sys.exit(subprocess.call(sys.argv[1:]))"
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", limited, *command("in", "-o", "out", "-j", "2")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_long_temporary_folder_stops_nothing(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    long = tmp_path / ("t" * 120)
    long.mkdir()
    ended = program(
        "in", "-o", "out", "-j", "2", cwd=tmp_path, env={**os.environ, "TMPDIR": str(long)}
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_closed_streams_stop_nothing(tmp_path: Path, closed: str) -> None:
    many(tmp_path / "in", 3)
    line = " ".join(command("in", "-o", "out", "-j", "2")) + " " + closed
    assert subprocess.run(line, shell=True, cwd=tmp_path, check=False).returncode == 0  # noqa: S602 - ours
    assert len(list((tmp_path / "out").iterdir())) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [0.2, 0.3, 0.4, 0.5, 0.6, 1.2])
def test_signals_at_any_moment_print_no_traceback(
    tmp_path: Path, number: signal.Signals, after: float
) -> None:
    folder = many(tmp_path / "in", 3)
    for clip in range(20):
        shutil.copy(SAMPLES / "DCM00001", folder / f"clip{clip}")
    process = subprocess.Popen(  # noqa: S603 - our own script
        command("in", "-o", "out", "-j", "2"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(after)
    os.killpg(process.pid, number)
    time.sleep(after / 10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)  # as who is in a hurry
    _, errors = process.communicate(timeout=60)
    begun = errors.strip() != "KeyboardInterrupt"  # which Python prints before it runs anything
    assert process.returncode in (130, -number, -signal.SIGINT) or not begun
    # Before its first statements have run, line 0 being where Python begins with the file.
    first = re.search("import (signal|sys)|from __future__|__version__ =|line 0, in", errors)
    assert "Traceback" not in errors or first
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.skipif(os.name == "nt", reason="signals are of POSIX")
def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    many(tmp_path / "in", 40)
    line = f"trap '' HUP; exec {' '.join(command('in', '-o', 'out', '-j', '2'))}"
    process = subprocess.Popen(  # noqa: S602 - ours
        line, shell=True, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: len(list((tmp_path / "out").glob("*.txt"))) > 0)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(60) == 0
    assert len(list((tmp_path / "out").glob("*.txt"))) == 40


def test_a_time_longer_than_systems_count(tmp_path: Path) -> None:
    ended = program(CT, "-o", "out", "--timeout", "999999999", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_odd_names_of_temporary_files_stop_nothing(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{dc.PART_PREFIX}{'9' * 40}-x-0.part").touch()
    assert run(many(tmp_path / "in", 1)).code == 0


def test_what_ends_is_told_while_the_next_source_is_awaited(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    process = subprocess.Popen(  # noqa: S603 - our own script
        command("-", "-o", "out", "-j", "2", "--report", "r.jsonl"),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(b"in/IM000\nin/IM001\n")
    process.stdin.flush()
    report = tmp_path / "r.jsonl"
    wait_for(lambda: report.is_file() and report.read_bytes().count(b"\n") == 2)
    output, _ = process.communicate(b"in/IM002\n", timeout=60)
    assert process.returncode == 0
    assert output.endswith(b"3 converted\n")


def test_an_error_of_the_search_ends_the_run(tmp_path: Path) -> None:
    def sources() -> Iterator[dc.Source]:
        for number in range(3):
            yield dc.Source(many(tmp_path, 1) / "IM000", tmp_path / "out", str(number))
        raise ValueError("lost")

    with pytest.raises(dc.ConversionError, match="listed any further: lost"), workers(2) as begun:
        list(dc.convert_all(sources(), dc.Options(jobs=2), begun))


def test_modules_of_the_current_folder_are_never_run(tmp_path: Path) -> None:
    many(tmp_path, 3)
    data_set(SMALL, PatientID="BAD").save_as(tmp_path / "IM001", enforce_file_format=True)
    (tmp_path / "elsewhere").mkdir()
    script = faulty(tmp_path / "elsewhere", "killed")  # the worker after it is begun anew
    for name in ("dicom_converter", "cv2", "socket", "multiprocessing", "av"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')", encoding="utf-8")
    for jobs in "21":
        ended = program(".", "-o", "out", "-j", jobs, cwd=tmp_path, script=script)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert ended.stdout.endswith(" skipped, 1 failed\n")
    assert not (tmp_path / "ran").exists()


def logged_copy(path: Path) -> Path:
    """Copy the program to *path*; whoever runs its text adds a line to the file `log` beside it."""
    head = "from __future__ import annotations\n"
    note = (
        f"with open({str(path.with_name('log'))!r}, 'a') as log:\n    log.write(__name__ + '\\n')\n"
    )
    program_text = Path(dc.__file__).read_text(encoding="utf-8")
    assert program_text.count(head) == 1
    path.write_text(program_text.replace(head, head + note), encoding="utf-8")
    return path


def test_workers_are_forked_from_what_has_imported_the_program(tmp_path: Path) -> None:
    many(tmp_path / "in", 6)
    data_set(SMALL, PatientID="BAD").save_as(tmp_path / "in" / "IM005", enforce_file_format=True)
    script = logged_copy(tmp_path / "elsewhere.py")
    step = "    pixels = header.pixels\n    if pixels is None or not pixels.length:\n"
    fault = f"    if text(header.data_set, 'PatientID') == 'BAD':\n        {FAULTS['killed']}\n"
    whole = script.read_text(encoding="utf-8")
    assert whole.count(step) == 1
    script.write_text(whole.replace(step, fault + step), encoding="utf-8")
    ended = program("in", "-o", "out", "-j", "2", cwd=tmp_path, script=script)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    names = (tmp_path / "log").read_text(encoding="utf-8").split()
    # The second of the worker after the killed one, if one was begun: it imports anew.
    assert names in (["__main__", "elsewhere"], ["__main__", "elsewhere", "elsewhere"])


def test_a_script_that_cannot_be_imported_by_its_name_works(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    script = logged_copy(tmp_path / "converter")
    line = ("in", "-o", "out", "-j", "2")
    ended = program(*line, cwd=tmp_path, script=script)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("3 converted\n")
    assert "__main__" in (tmp_path / "log").read_text(encoding="utf-8").split()
    ended = program(*line, "--dask", "tcp://127.0.0.1:1", cwd=tmp_path, script=script)
    assert ended.returncode == 1
    assert ended.stderr == "dicom_converter: for --dask the script needs its name, NAME.py\n"


@pytest.mark.parametrize("kind", ["file", "below a file", "link to nothing", "beyond it"])
def test_an_output_folder_that_cannot_be_is_said_once(
    run: Runner, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / "out"
    (tmp_path / "file").touch()
    output.symlink_to(tmp_path / ("file" if "file" in kind else "gone"))
    folder = output / "x" if kind == "below a file" else output
    if kind == "beyond it":
        (tmp_path / "gone").symlink_to("gone")
    result = run(many(tmp_path / "in", 3), output=folder)
    cure = "mend that, or name another folder with -o, and add --resume"
    reason = {
        "file": f"{tmp_path / 'file'}: cannot be written (it is no folder): {cure}",
        "below a file": f"{tmp_path / 'file' / 'x'}: cannot be written (Not a directory): {cure}",
    }.get(kind, f"{output}: is a link to nothing: name another folder with -o")
    assert (result.code, result.err) == (1, f"dicom_converter: {reason}\n")
    assert not (tmp_path / "gone").exists()


def test_no_output_folder_is_made_for_nothing(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes").write_text("not DICOM", encoding="utf-8")
    assert run(tmp_path / "in").code == 1
    assert not (tmp_path / "out").exists()


def test_resume_tells_files_of_one_name_size_and_time_apart(run: Runner, tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        path = tmp_path / folder / "IM1"
        path.parent.mkdir()
        data_set(SMALL + value, PatientID="1").save_as(path, enforce_file_format=True)
        os.utime(path, ns=(1, 1))
    assert run(tmp_path / "a").code == 0
    assert "1 done before" in run(tmp_path / "a", "--resume").out
    assert "1 converted" in run(tmp_path / "b", "--resume").out


def test_a_skipped_file_with_a_name_of_dicom_is_named(run: Runner, tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 1)
    (folder / "broken.dcm").write_bytes(b"\xff" * 500)
    (folder / "notes.txt").write_bytes(b"notes")
    result = run(folder)
    assert result.code == 0
    assert result.err == f"dicom_converter: {folder / 'broken.dcm'}: skipped: not a DICOM file\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.dcm", b"", "is empty"),
        ("a.IMA", bytes(4096), "begins with zeros: its content is lost"),
        ("a.dicom", bytes(100), "begins with zeros: its content is lost"),
    ],
    ids=["empty", "zeros", "few zeros"],
)
def test_a_file_that_lost_its_content_fails(
    run: Runner, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    folder = many(tmp_path / "in", 1)
    (folder / name).write_bytes(content)
    (folder / "DIRFILE").write_bytes(content)  # of whatever this is, nobody knows
    result = run(folder)
    assert result.code == 1
    assert result.err == f"dicom_converter: {folder / name}: {reason}\n"
    assert result.out.splitlines()[-1] == "1 converted, 1 skipped, 1 failed"


@pytest.mark.parametrize("name", ["a.tgz", "a.tar.gz", "A.GZ", "a.tar", "a.7z", "a.rar", "a.iso"])
def test_what_is_to_be_unpacked_first_is_said(run: Runner, tmp_path: Path, name: str) -> None:
    path = many(tmp_path / "in", 1) / name
    path.write_bytes(bytes(range(1, 256)))
    cure = "not a DICOM file: unpack it first\n"
    result = run(tmp_path / "in")
    assert (result.code, result.err) == (0, f"dicom_converter: {path}: skipped: {cure}")
    result = run(path)
    assert (result.code, result.err) == (1, f"dicom_converter: {path}: {cure}")
    shutil.copy(CT, path)
    assert run(path).code == 0


def test_files_with_warnings_are_counted(run: Runner, tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 2)
    data_set(SMALL, RescaleSlope=0).save_as(folder / "odd", enforce_file_format=True)
    result = run(folder)
    assert result.out.splitlines()[-1] == "3 converted, 1 with warnings"
    assert result.err.count("warning: ") == 1


@pytest.mark.parametrize(
    ("options", "pictures", "said"),
    [
        (dc.Options(), 10, ""),
        (dc.Options(), 11, "--study makes one page of all pictures"),
        (dc.Options(study=True, output=Path("o\x1b")), 1, "open o\\x1b/index.html in a browser"),
        (dc.Options(study=True, quiet=True), 1, ""),
    ],
)
@pytest.mark.parametrize("seen", [True, False])
def test_what_to_open_is_named_on_a_terminal(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dc.Options,
    pictures: int,
    said: str,
    seen: bool,
) -> None:
    monkeypatch.setattr(dc, "is_terminal", lambda _: seen)
    outcome = dc.convert(dc.Source(CT, tmp_path, "a"), dc.Options(output=tmp_path))
    tally = dc.Tally(page=options.output / "index.html" if options.study else None)
    for _ in range(pictures):
        tally.add(outcome)
    assert tally.pictures == pictures
    assert dc.summed_up([CT], options, tally) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ([said] if said and seen else [])


def test_reasons_are_merged_by_their_numbers_only_where_they_differ() -> None:
    tally = dc.Tally()
    source = dc.Source(Path("a"), Path("out"), "a")
    for reason in ("holds 2 of 3", "holds 4 of 5", "ends in (300a,00b0)", "ends in (300a,00b0)"):
        tally.add(dc.Outcome(source, dc.Status.FAILED, reason=reason))
    first, *rest = tally.lines()
    assert first == "4 failed"
    assert [line.strip() for line in rest] == ["2 x holds N of N", "2 x ends in (300a,00b0)"]


def test_an_archive_that_is_replaced_is_not_mistaken(tmp_path: Path) -> None:
    for name, value in (("old", 1), ("new", 2)):
        folder = many(tmp_path / name, 0)
        for member in ("a", "b"):
            data_set(SMALL + value).save_as(folder / member, enforce_file_format=True)
    shutil.make_archive(str(tmp_path / "old"), "zip", tmp_path / "old")
    shutil.make_archive(str(tmp_path / "new"), "zip", tmp_path / "new")
    path = tmp_path / "x.zip"
    shutil.copy(tmp_path / "old.zip", path)
    first, second = list(dc.find_sources([path], tmp_path / "out"))
    assert dc.convert(first, dc.Options()).status == dc.Status.CONVERTED
    (tmp_path / "new.zip").replace(path)
    assert dc.convert(second, dc.Options()).status == dc.Status.CONVERTED
    alone = dc.convert(dc.Source(tmp_path / "new" / "b", tmp_path / "alone", "b"), dc.Options())
    assert (tmp_path / "out" / "b.png").read_bytes() == alone.outputs[0].read_bytes()
    gone = dc.convert(replace(second, member="c"), dc.Options())
    assert gone.reason == "its zip archive was replaced meanwhile: convert it again"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_row_is_whole_or_not(suffix: str) -> None:
    source = dc.Source(Path("a},1.234,{b"), Path("out"), "a")
    outcome = dc.Outcome(source, dc.Status.FAILED, reason="of } or ,5.678", seconds=1.5)
    row = dc.report_row(outcome, suffix).rstrip(b"\n")
    assert dc.is_whole_row(row, suffix)
    assert not any(dc.is_whole_row(row[:end], suffix) for end in range(len(row)))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".csv", "a,b\n1,2\n3,4"),
        (".jsonl", "a,b\n1,2\n3,4"),
        (".jsonl", '{"path": "a", "size": 1}\n{"path": "b"'),
        (".jsonl", '{"path": "a"}'),
        (".jsonl", '{"path": \n"a"}'),
    ],
)
def test_somebody_elses_table_is_left_alone(
    run: Runner, tmp_path: Path, suffix: str, content: str
) -> None:
    path = tmp_path / f"theirs{suffix}"
    path.write_text(content, encoding="utf-8")
    result = run(many(tmp_path / "in", 1), "--report", path)
    reason = f"{path}: is no report of this program: name another file"
    assert (result.code, result.err) == (1, f"dicom_converter: {reason}\n")
    assert path.read_text("utf-8") == content


def test_a_folder_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    many(tmp_path / "in", 3)
    (tmp_path / "gone").mkdir()
    line = " ".join(command(tmp_path / "in", "-o", tmp_path / "out", "-j", "2"))
    shell = f"cd gone && rmdir ../gone && exec {line}"
    ended = subprocess.run(shell, shell=True, cwd=tmp_path, capture_output=True, check=False)  # noqa: S602 - ours
    assert (ended.returncode, ended.stderr) == (0, b"")


def read_back(cell: str) -> bytes:
    """Return the name that a cell of a report means, as the README says."""
    raw = os.fsencode(cell.removeprefix("'"))
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), raw)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_path_comes_out_of_the_report_and_in_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    image = many(tmp_path / "one", 1) / "IM000"
    names = [b"=1+1", b"@a", b" -b", b"'c'", b"\xff\xfe", b"\\x41", b"a\\", "é\n\t影".encode()]
    for name in names:
        shutil.copy(image, os.fsdecode(name))
    found = [Path(os.fsdecode(name)) for name in names]
    assert dc.main([*map(str, found), "-j", "1", "-o", "a", "--report", f"r{suffix}"]) == 0
    with Path(f"r{suffix}").open(newline="", encoding="utf-8") as file:
        if suffix == ".csv":
            cells = [row["path"] for row in csv.DictReader(file)]
            assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in cells)
            back = list(map(read_back, cells))
        else:
            back = [os.fsencode(json.loads(line)["path"]) for line in file]
    assert sorted(back) == sorted(names)
    assert all(Path(os.fsdecode(name)).is_file() for name in back)
    listed = subprocess.run(  # noqa: S603 - our own script
        command("-", "-j", "1", "-o", "b"), input=b"\0".join(back), check=False, capture_output=True
    )
    assert (listed.returncode, len(list(Path("b").glob("*.png")))) == (0, len(names))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_second_run_cuts_no_row_of_the_first(tmp_path: Path, suffix: str) -> None:
    outcome = dc.Outcome(dc.Source(tmp_path / "a"), dc.Status.CONVERTED)
    path = tmp_path / f"r{suffix}"
    with dc.opened_report(path) as first:
        first(outcome)
        with path.open("ab") as file:
            file.write(b'{"half')  # the first run is just writing this row
        with dc.opened_report(path) as second:
            with path.open("ab") as file:
                file.write(b'"}\n')
            second(outcome)
            first(outcome)
    lines = path.read_bytes().splitlines()[suffix == ".csv" :]
    assert len(lines) == 4
    assert lines[1] == b'{"half"}'


def test_two_runs_share_a_report(tmp_path: Path) -> None:
    many(tmp_path / "in", 20)
    line = command("in", "-q", "-j", "1", "--report", "r.jsonl", "-o")
    runs = [subprocess.Popen([*line, name], cwd=tmp_path) for name in ("a", "b")]  # noqa: S603
    assert [ended.wait(60) for ended in runs] == [0, 0]
    rows = list(map(json.loads, (tmp_path / "r.jsonl").read_text("utf-8").splitlines()))
    assert len(rows) == 40


def test_a_report_that_is_full_is_named(tmp_path: Path) -> None:
    folder, report = many(tmp_path / "in", 3), tmp_path / "r.jsonl"
    report.write_bytes(b'{"path": "a", "status": "failed"}\n' * 5000)
    script = (
        "import resource, sys, dicom_converter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (170100, 170100))\n"
        "sys.exit(dicom_converter.main(sys.argv[1:]))\n"
    )
    arguments = [folder, "-j", "1", "-o", tmp_path / "out", "--report", report]
    line = [sys.executable, "-c", script, *map(str, arguments)]
    root = Path(dc.__file__).parent
    ended = subprocess.run(line, check=False, capture_output=True, text=True, cwd=root)  # noqa: S603
    assert ended.returncode == 1
    assert ended.stderr in (
        f"dicom_converter: {report}: cannot be written ({os.strerror(number)})\n"
        for number in (errno.EFBIG, errno.ENOSPC)
    )


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "device"])
def test_a_report_that_is_no_file_is_one_line(run: Runner, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/full" if kind == "device" else tmp_path / "gone.csv")
    result = run(many(tmp_path / "in", 1), "--report", path)
    problem = "is a link to nothing" if kind == "link to nothing" else "is no regular file"
    assert result.err == f"dicom_converter: {path}: {problem}: name another file\n"
    assert (result.code, result.files()) == (1, [])


def test_what_ends_together_is_told_in_order() -> None:
    """Sets of futures have no order, and a report of one process is to be the same each time."""
    sources = [dc.Source(Path(f"{number}")) for number in range(50)]
    given: list[tuple[Future[dc.Outcome], dc.Source]] = []

    class Together(Here):
        def room(self) -> int:
            return len(sources)

        def submit(self, source: dc.Source, _: dc.Options) -> Future[dc.Outcome]:
            given.append((Future(), source))
            for future, each in given if len(given) == len(sources) else ():
                future.set_result(dc.Outcome(each, dc.Status.CONVERTED))
            return given[-1][0]

    found = dc.convert_all(iter(sources), dc.Options(), cast(Any, Together()))
    assert [one.source for one in found] == sources
