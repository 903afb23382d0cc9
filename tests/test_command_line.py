"""The command line: inputs, names, options, exit codes and one-line errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
from conftest import PYDICOM_FILES, SAMPLES, Factory, Run

import dicom_converter as dc

Runner = Callable[..., Run]
CT = SAMPLES / "DCM00000"
PIXELS = np.arange(4, dtype=np.uint8).reshape(2, 2)


def test_the_samples_come_out_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES, tmp_path / "dicom_data")
    monkeypatch.chdir(tmp_path)
    assert dc.main([]) == 0
    slices = {path.name for path in (tmp_path / "output" / "CT").iterdir()}
    assert slices == {f"IM{n:06}.{kind}" for n in range(1, 21) for kind in ("png", "txt")}
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        "CT",
        "DCM00000.png",
        "DCM00000.txt",
        "DCM00001.gif",
        "DCM00001.mp4",
        "DCM00001.txt",
        "DCM00002.gif",
        "DCM00002.mp4",
        "DCM00002.txt",
    ]


def test_a_clip_says_its_rate(run: Runner) -> None:
    result = run(SAMPLES / "DCM00001", "--no-mp4")
    assert "28 frames, 10 fps; recorded at 14.99 (Frame Time), `--fps auto` keeps it" in result.out
    assert result.files() == ["DCM00001.gif", "DCM00001.txt"]


def test_quiet_prints_nothing_but_errors(run: Runner, tmp_path: Path) -> None:
    assert (run("-q", CT).out, run("-q", CT).err) == ("", "")
    assert "no such file" in run("-q", tmp_path / "absent").err


def test_folders_are_mirrored_in_sorted_order(run: Runner, tmp_path: Path) -> None:
    for name in ("b/2/IM1", "b/1/IM1", "a.dcm", "c/IM1.2.840.dcm", "c/IM1.2.840.10"):
        path = tmp_path / "cd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CT, path)
    (tmp_path / "cd" / "README.TXT").write_text("a viewer is on this disc")
    result = run(tmp_path / "cd")
    assert result.code == 0
    assert result.files() == [
        "a.png",
        "a.txt",
        "b/1/IM1.png",
        "b/1/IM1.txt",
        "b/2/IM1.png",
        "b/2/IM1.txt",
        "c/IM1.2.840.10.png",
        "c/IM1.2.840.10.txt",
        "c/IM1.2.840.png",
        "c/IM1.2.840.txt",
    ]
    order = [line.split(" -> ")[0] for line in result.out.splitlines() if " -> " in line]
    assert [Path(path).relative_to(tmp_path / "cd").as_posix() for path in order] == [
        "a.dcm",
        "b/1/IM1",
        "b/2/IM1",
        "c/IM1.2.840.10",
        "c/IM1.2.840.dcm",
    ]
    assert result.out.splitlines()[-1] == "5 converted, 1 skipped"


@pytest.mark.parametrize("reverse", [False, True])
def test_names_that_clash_are_settled_whatever_the_order(tmp_path: Path, reverse: bool) -> None:
    names = ["IM1", "IM1.dcm", "im1.IMA", "IM1.DCM", "x.dicom", "x.dic", "a.b.c", ".dcm"]
    files = [tmp_path / name for name in names]
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "IM1")
    for path in files:
        path.touch()
    given = files[::-1] if reverse else files
    found = {
        str(s.path.relative_to(tmp_path)): s.name for s in dc.find_sources(given, tmp_path / "o")
    }
    assert found == {
        ".dcm": ".dcm",
        "IM1": "IM1",
        "p/IM1": "IM1-2",
        "q/IM1": "IM1-3",
        "IM1.DCM": "IM1.DCM",
        "IM1.dcm": "IM1.dcm-2",
        "a.b.c": "a.b.c",
        "im1.IMA": "im1.IMA",
        "x.dic": "x",
        "x.dicom": "x.dicom",
    }


def test_each_of_several_inputs_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    for folder in ("one/s", "two/s", "x/two/s"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "IM1").touch()
    inputs = [tmp_path / "x" / "two", tmp_path / "two", tmp_path / "one"]
    found = [
        (s.path.relative_to(tmp_path).as_posix(), s.folder.relative_to(tmp_path).as_posix(), s.name)
        for s in dc.find_sources(inputs, tmp_path / "o")
    ]
    assert found == [
        ("one/s/IM1", "o/one/s", "IM1"),
        ("two/s/IM1", "o/two/s", "IM1"),
        ("x/two/s/IM1", "o/two-2/s", "IM1"),
    ]


def test_a_file_given_twice_is_converted_once(tmp_path: Path) -> None:
    (tmp_path / "IM1").touch()
    inputs = [tmp_path / "IM1", tmp_path, tmp_path / "IM1"]
    (source,) = dc.find_sources(inputs, tmp_path / "out")
    assert source.named


def test_output_beside_the_input_overwrites_no_dicom_file(run: Runner, tmp_path: Path) -> None:
    for name in ("IM1", "IM1.txt"):
        shutil.copy(CT, tmp_path / name)
    before = CT.read_bytes()
    for _ in range(2):  # the second run meets the outputs of the first
        assert run(tmp_path, output=tmp_path).code == 0
        assert (tmp_path / "IM1").read_bytes() == (tmp_path / "IM1.txt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "IM1",
        "IM1-2.png",
        "IM1-2.txt",
        "IM1.txt",
        "IM1.txt.png",
        "IM1.txt.txt",
    ]


def test_the_output_folder_is_not_walked(run: Runner, tmp_path: Path) -> None:
    shutil.copy(CT, tmp_path / "IM1")
    (tmp_path / "out").mkdir()
    shutil.copy(CT, tmp_path / "out" / "IM2")
    assert "1 converted" in run(tmp_path).out


def test_a_link_loop_ends(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "cd" / "a").mkdir(parents=True)
    shutil.copy(CT, tmp_path / "cd" / "a" / "IM1")
    (tmp_path / "cd" / "a" / "up").symlink_to(tmp_path / "cd", target_is_directory=True)
    assert run(tmp_path / "cd").files() == ["a/IM1.png", "a/IM1.txt"]


@pytest.mark.skipif(os.name == "nt", reason="named pipes are a matter of POSIX")
def test_a_pipe_in_a_folder_does_not_block(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "cd").mkdir()
    shutil.copy(CT, tmp_path / "cd" / "IM1")
    os.mkfifo(tmp_path / "cd" / "pipe")
    assert run(tmp_path / "cd").out.splitlines()[-1] == "1 converted, 1 skipped"


def test_what_is_not_dicom_is_refused_when_named(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    result = run(path, CT)
    assert result.code == 1
    assert result.err == f"dicom_converter: {path}: not a DICOM file\n"
    assert result.files() == ["DCM00000.png", "DCM00000.txt"]


@pytest.mark.parametrize("exists", [False, True], ids=["absent", "empty"])
def test_nothing_found_is_a_failure(run: Runner, tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "cd").mkdir()
    result = run(tmp_path / "cd")
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith(f"dicom_converter: {tmp_path / 'cd'}: ")


def test_a_bad_file_does_not_stop_the_rest(
    run: Runner, dicom_file: Factory, tmp_path: Path
) -> None:
    dicom_file(PIXELS, name="a.dcm", Rows=9999)
    dicom_file(PIXELS, name="b.dcm")
    result = run(tmp_path / "in")
    assert result.code == 1
    assert result.files() == ["a.txt", "b.png", "b.txt"]
    assert result.out.splitlines()[-1] == "1 converted, 1 failed"


def test_text_only_is_a_success(run: Runner) -> None:
    result = run(PYDICOM_FILES / "test-SR.dcm")
    assert result.code == 0
    assert result.files() == ["test-SR.txt"]
    assert result.out.splitlines()[-1] == "1 text only"


def test_messages_are_escaped_and_hold_no_patient(run: Runner, dicom_file: Factory) -> None:
    path = dicom_file(PIXELS, name="a\x1b[31m\n.dcm", SamplesPerPixel=4, PatientName="Doe^Jane")
    result = run(path)
    assert r"a\x1b[31m\x0a.dcm: 4 samples a pixel" in result.err
    assert len(result.err.splitlines()) == 1
    assert "Doe" not in result.err + result.out


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder_is_said(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    result = run(CT)
    assert result.code == 1
    assert "permission denied" in result.err.lower()


def test_an_output_name_that_is_a_folder_is_left_alone(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "out" / "DCM00000.png").mkdir(parents=True)
    result = run(CT)
    assert result.code == 0
    assert "DCM00000 is taken there by something else" in result.err
    assert result.files() == ["DCM00000-2.png", "DCM00000-2.txt"]


def test_names_too_long_for_their_outputs_are_cut(run: Runner, tmp_path: Path) -> None:
    for last in "yz":
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(CT, tmp_path / "in" / ("x" * 250 + last))
        shutil.copy(CT, tmp_path / "in" / ("王" * 80 + last))
    result = run(tmp_path / "in")
    assert "4 converted" in result.out
    assert len({name for name in result.files() if name.endswith(".png")}) == 4


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], dc.Options()),
        (["-o", "x"], dc.Options(output=Path("x"))),
        (["--8bit"], dc.Options(png_bits=8)),
        (["--no-mp4"], dc.Options(mp4=False)),
        (["--no-gif", "-q"], dc.Options(gif=False, quiet=True)),
        (["--fps", "29.97"], dc.Options(frame_rate=Fraction(2997, 100))),
        (["--fps", "30000/1001"], dc.Options(frame_rate=Fraction(30000, 1001))),
        (["--fps", "auto", "--debug"], dc.Options(frame_rate=None, debug=True)),
    ],
    ids=str,
)
def test_options(arguments: list[str], options: dc.Options) -> None:
    expected = replace(options, jobs=dc.available_cores())
    assert dc.parse_args(arguments) == ([Path("dicom_data")], expected)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--reprot", "r.csv"], "unrecognized arguments: --reprot (did you mean --report?)"),
        (["--windw=lung"], "unrecognized arguments: --windw=lung (did you mean --window?)"),
        (["--qqq\x1b"], r"unrecognized arguments: --qqq\x1b"),
        (["--fps"], "argument --fps: expected one argument"),
        (["--fps", "0"], "argument --fps: '0' is neither `auto` nor a rate up to 1000"),
    ],
)
def test_a_usage_error_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        dc.main(arguments)
    assert stopped.value.code == 2
    expected = f"dicom_converter: {line}; --help lists the options\n"
    assert capsys.readouterr() == ("", expected)


def test_help_begins_with_examples_and_has_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        dc.main(["--help"])
    text = capsys.readouterr().out
    examples = re.findall(r"^  dicom_converter\.py (.*?)(?:   .*)?$", text, re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        dc.parse_args(example.split())
    assert re.findall(r"^[a-z ]+:$", text, re.MULTILINE) == [
        "input and output:",
        "pictures:",
        "archives:",
        "other:",
    ]
    monkeypatch.chdir(tmp_path)
    assert dc.main([]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert text.startswith(shown.err.rpartition("\n\n")[0])
    assert f"[input_path ...]\n\n  dicom_converter.py {examples[0]} " in shown.err
    assert dc.main(["dicom_data", "absent"]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_help_tells_of_every_option_and_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dc.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    options = dc.Options()
    assert f"(default: {dc.DEFAULT_INPUT})" in text
    assert f"(default: {options.output})" in text
    assert f"(default: {options.frame_rate})" in text
    assert f"(default: {options.timeout:g}; 0: never)" in text
    assert f"one of CT: {', '.join(dc.CT_WINDOWS)} --frames" in text
    known = {name for action in dc.argument_parser()._actions for name in action.option_strings}
    assert known == {*re.findall(r"(?<![\w-])--?[a-z8][\w-]*", text)} - {"-OO"}


def test_help_and_version_need_no_library() -> None:
    for option, said in ("--help", dc.HELP), ("-h", dc.HELP), ("--version", dc.__version__):
        # Without the folder of the libraries.
        command = [sys.executable, "-I", "-S", dc.__file__, option]
        ran = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.endswith(said.rstrip() + "\n")


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "1e9", "nan", "inf", "1/0", ""])
def test_an_absurd_rate_is_a_usage_error(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        dc.main(["--fps", rate])
    assert stopped.value.code == 2
    assert "--fps" in capsys.readouterr().err


def test_garbage_is_looked_for_again_once_a_run_begins(tmp_path: Path) -> None:
    code = (
        "import atexit, gc, runpy, sys\n"
        "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 10_000))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [sys.executable, "-c", code, dc.__file__, str(tmp_path), "-o", str(tmp_path / "o")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.stdout == "True True\n", done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        dc.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"dicom_converter.py {dc.__version__}\n"


def test_an_interrupt_exits_130_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, run: Runner
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dc, "write_png", interrupted)
    result = run(CT)
    assert (result.code, result.files()) == (130, [])


def test_debug_shows_where_an_unexpected_error_came_from(
    monkeypatch: pytest.MonkeyPatch, run: Runner
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(dc, "write_png", broken)
    assert "Traceback" in run(CT, "--debug").err
    plain = run(CT)
    assert plain.err == f"dicom_converter: {CT}: division by zero (ZeroDivisionError)\n"


def test_the_script_runs_as_a_program(tmp_path: Path) -> None:
    script = str(Path(dc.__file__))
    arguments = [sys.executable, script, str(CT), "-o", str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603 - our own code
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "DCM00000.png").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["{ct}", "-o", "{out}", "{us}"], ["{ct}", "--8bit", "{us}", "-o", "{out}"]],
    ids=["after -o", "after a flag"],
)
def test_inputs_may_follow_options(tmp_path: Path, arguments: list[str]) -> None:
    names = {"ct": CT, "us": PYDICOM_FILES / "MR_small.dcm", "out": tmp_path / "out"}
    assert dc.main([argument.format(**names) for argument in arguments]) == 0
    assert (tmp_path / "out" / "MR_small.png").is_file()


def test_links_that_lead_in_circles(run: Runner, tmp_path: Path) -> None:
    cd = tmp_path / "cd"
    for name, target in (("a", "c"), ("c", "a")):
        (cd / name).mkdir(parents=True)
        shutil.copy(CT, cd / name / "IM1")
        (cd / name / "other").symlink_to(cd / target, target_is_directory=True)
    (cd / "self").symlink_to(cd / "self")
    result = run(cd)
    assert [path for path in result.files() if path.endswith(".png")] == ["a/IM1.png", "c/IM1.png"]
    assert "symbolic links" in result.err
    assert result.err.count("another way leads there") == 2
    assert len(result.err.splitlines()) == 3


def test_a_folder_is_read_once_whatever_leads_to_it(run: Runner, tmp_path: Path) -> None:
    for number in range(18):
        for link in "ab":
            (tmp_path / "d" / str(number)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / str(number) / link).symlink_to(f"../{number + 1}")
    (tmp_path / "d" / "18").mkdir()
    shutil.copy(CT, tmp_path / "d" / "18" / "IM1")
    result = run(tmp_path / "d")
    assert result.out.splitlines()[-1] == "1 converted, 36 skipped"
    assert result.err.count("another way leads there") == 36


def test_output_beside_the_input_spares_what_is_not_ours(run: Runner, tmp_path: Path) -> None:
    shutil.copy(CT, tmp_path / "scan.dcm")
    (tmp_path / "scan.txt").write_text("my own notes")
    for _ in range(2):
        assert run(tmp_path / "scan.dcm", output=tmp_path).code == 0
    assert (tmp_path / "scan.txt").read_text() == "my own notes"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["scan-2.png", "scan-2.txt", "scan.dcm", "scan.txt"]


def program(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the script as a program."""
    command = [sys.executable, dc.__file__, *map(str, arguments)]
    return subprocess.run(command, check=False, **options)  # noqa: S603 - our own code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a matter of Linux")
def test_a_full_or_closed_output_stops_no_conversion(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES, tmp_path / "cd")
    with Path("/dev/full").open("w") as full:
        done = program(tmp_path / "cd", "-o", tmp_path / "a", stdout=full, stderr=full)
    assert done.returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    done = program(tmp_path / "cd", "-o", tmp_path / "b", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    for folder in ("a", "b"):
        assert sum(path.is_file() for path in (tmp_path / folder).rglob("*")) == 8 + 40


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    path = tmp_path / "影像"
    shutil.copy(CT, path)
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = program(path, "-o", tmp_path / "out", env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u5f71\u50cf" in done.stdout
    assert (tmp_path / "out" / "影像.png").is_file()


def test_a_failed_file_costs_one_line(run: Runner, dicom_file: Factory) -> None:
    result = run(dicom_file(PIXELS, HighBit=99, BitsStored=99, PixelData=b"\0\0"))
    assert len(result.err.splitlines()) == 1


def test_check_names_every_library_with_its_version(run: Runner) -> None:
    result = run("--check")
    assert (result.code, result.err) == (0, "")
    requirements = (Path(dc.__file__).parent / "requirements.txt").read_text(encoding="utf-8")
    for name in re.findall(r"^[\w-]+", requirements, re.MULTILINE):
        assert f" {name} {version(name)}" in result.out
    for inside in (
        "libjpeg_turbo 3",
        "charls 2",
        "openjpeg 2",
        "libjxl 0",
        "FFmpeg ",
        "littlecms 2",
    ):
        assert inside in result.out
    assert result.files() == []


@pytest.mark.parametrize(
    ("module", "library"),
    [("openjpeg", "pylibjpeg-openjpeg"), ("av", "av"), ("PIL", "pillow")],
)
def test_check_says_what_is_missing_and_the_cure(
    run: Runner, monkeypatch: pytest.MonkeyPatch, module: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = run("--check")
    assert result.code == 1
    for line in result.err.splitlines():
        assert line.startswith(f"dicom_converter: {library} is missing or broken (")
        assert line.endswith(f": {dc.CURE}")
    assert library not in result.out
    assert "imagecodecs" in result.out


def test_check_tries_the_decoders(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagecodecs, "jpegls_decode", lambda _: np.zeros((8, 8), np.uint8))
    result = run("--check")
    assert result.code == 1
    assert "imagecodecs is missing or broken (it decodes wrongly)" in result.err
    assert "decodes JPEG-LS" not in result.out


def test_check_opens_a_video(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = av.open

    def another_version(file: Any, *arguments: Any, **settings: Any) -> Any:
        if not isinstance(file, str):  # what is inside DICOM
            raise TypeError("open() got an unexpected keyword argument")
        return opens(file, *arguments, **settings)

    monkeypatch.setattr(av, "open", another_version)
    result = run("--check")
    assert result.code == 1
    assert "av is missing or broken (open() got an unexpected keyword argument" in result.err
    assert "decodes H.264 video" in result.out


def test_a_missing_library_is_one_line_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "imagecodecs.py").write_text("raise ImportError('gone')", encoding="utf-8")
    ended = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, dc.__file__, "--check"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = f"dicom_converter: a library is missing or broken (gone): {dc.CURE}\n"
    assert (ended.returncode, ended.stderr) == (1, expected)


def test_a_library_that_only_clips_need_is_missing(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    result = run(SAMPLES / "DCM00001")
    assert result.code == 1
    assert f": {dc.CURE}" in result.err
    assert result.files() == ["DCM00001.txt"]


def test_what_lies_beside_the_input_is_never_replaced(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "study" / "study"
    inner.mkdir(parents=True)
    shutil.copy(CT, inner / "a.dcm")
    shutil.copy(CT, inner / "b.dcm")
    shutil.copy(CT, tmp_path / "study" / "b.png")  # a DICOM file
    (tmp_path / "study" / "a.png").write_bytes(b"my own picture")
    (tmp_path / "study" / "a.txt").write_text("my own notes")
    monkeypatch.chdir(tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):
        assert run("study", output=Path()).code == 0
        assert all(path.read_bytes() == before for path, before in kept.items())
    new = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"study/a-2.png", "study/a-2.txt", "study/b-2.png", "b.png.png"} < new
    assert len(new) == len(kept) + 6


def test_links_in_the_output_folder_lead_nowhere(run: Runner, tmp_path: Path) -> None:
    for folder in ("in/sub", "elsewhere", "out"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(CT, tmp_path / "in" / "sub" / "IM1")
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    assert run(tmp_path / "in").code == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "out" / "sub-2" / "IM1.png").exists()


def test_folders_that_are_called_like_outputs_clash_with_none(run: Runner, tmp_path: Path) -> None:
    for name in ("x", "x.png/y", "X.TXT/z.dcm"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CT, path)
    result = run(tmp_path / "in")
    assert result.out.splitlines()[-1] == "3 converted"
    assert "x.png" in result.files()


@pytest.mark.skipif(os.name == "nt", reason="named pipes are a matter of POSIX")
def test_pipes_among_the_outputs_do_not_block(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(CT, tmp_path / "IM1")
    for suffix in (".txt", ".png", ".mp4"):
        os.mkfifo(tmp_path / "out" / f"IM1{suffix}")
    assert "1 converted" in run(tmp_path / "IM1", "--resume").out
    assert (tmp_path / "out" / "IM1-2.png").exists()


def test_patients_are_not_mixed(run: Runner, dicom_file: Factory) -> None:
    clip = np.zeros((2, 8, 8), np.uint8)
    first = dicom_file(clip, name="one/IM1", NumberOfFrames=2, SOPInstanceUID="1.2.3")
    second = dicom_file(PIXELS, name="two/IM1", SOPInstanceUID="1.2.4")
    assert run(first).files() == ["IM1.gif", "IM1.mp4", "IM1.txt"]
    result = run(second)
    assert "IM1 is taken there by something else: its outputs are called IM1-2" in result.err
    assert result.files() == ["IM1-2.png", "IM1-2.txt", "IM1.gif", "IM1.mp4", "IM1.txt"]
    text = (result.output / "IM1-2.txt").read_text("utf-8")
    assert "IM1 is taken there by something else" in text
    assert run(second).files() == result.files()  # it knows its own


def test_the_same_instance_replaces_its_own_from_wherever(
    run: Runner, dicom_file: Factory, tmp_path: Path
) -> None:
    clip = np.zeros((2, 8, 8), np.uint8)
    first = dicom_file(clip, name="one/IM1", NumberOfFrames=2, SOPInstanceUID="1.2.3")
    assert len(run(first, "--frames", "all").files()) == 5
    moved = dicom_file(PIXELS, name="two/IM1", SOPInstanceUID="1.2.3")
    assert run(moved).files() == ["IM1.png", "IM1.txt"]  # and nothing of the clip stays
    broken = dicom_file(PIXELS, name="two/IM1", SOPInstanceUID="1.2.3", Rows=9999)
    assert run(broken).files() == ["IM1.txt"]
    assert "Failed; " in (tmp_path / "out" / "IM1.txt").read_text("utf-8")


def test_a_forged_text_steers_nothing(run: Runner, dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(PIXELS, name="IM1")
    result = run(path)
    text = tmp_path / "out" / "IM1.txt"
    lines = text.read_text("utf-8").replace("outputs: 1", "outputs: 99").split("\n")
    lines[3:3] = ["  Written        a/../../victim.txt, other.png"]
    text.write_text("\n".join(lines), encoding="utf-8")
    for victim in (tmp_path / "victim.txt", tmp_path / "out" / "other.png"):
        victim.write_text("theirs")
    assert run(path).files() == ["IM1.png", "IM1.txt", "other.png"]
    assert (tmp_path / "victim.txt").exists()
    assert result.code == 0


def test_frames_replace_nothing_of_another_instance(run: Runner, dicom_file: Factory) -> None:
    clip = dicom_file(np.zeros((4, 8, 8), np.uint8), name="clip", NumberOfFrames=4)
    other = dicom_file(PIXELS, name="clip-0003", SOPInstanceUID="1.2.4")
    output = run(clip).output
    run(other)
    before = (output / "clip-0003.png").read_bytes()
    for _ in range(2):
        result = run(clip, "--frames", "3")
        assert (result.code, (output / "clip-0003.png").read_bytes()) == (0, before)
        assert "clip is taken there by something else: its outputs are called clip-2" in result.err
    assert [name for name in result.files() if "-2" in name] == [
        "clip-2-0003.png",
        "clip-2.gif",
        "clip-2.mp4",
        "clip-2.txt",
    ]


def test_files_of_the_user_beside_our_text_stay(run: Runner, dicom_file: Factory) -> None:
    clip = dicom_file(np.zeros((4, 8, 8), np.uint8), name="clip", NumberOfFrames=4)
    output = run(clip, "--no-mp4").output
    theirs = [output / name for name in ("clip.pdf", "clip-0002.png", "clip.png")]
    for path in theirs:
        path.write_text("mine")
    assert run(clip, "--no-gif").code == 0
    assert [path.read_text() for path in theirs] == ["mine"] * 3
    assert not (output / "clip.gif").exists()
    (output / "clip.gif").write_text("mine")
    assert run(clip, "--no-mp4").code == 0
    assert (output / "clip.gif").read_text() == "mine"
    assert (output / "clip-2.gif").exists()


def test_two_folders_never_share_an_output_folder(run: Runner, tmp_path: Path) -> None:
    for name in ("in/s/x.dcm", "in/s-2/x.dcm", "out/s"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CT, path)
    result = run(tmp_path / "in")
    assert result.out.splitlines()[-1] == "2 converted"
    assert {"s-2/x.png", "s-2-2/x.png"} < {*result.files()}
