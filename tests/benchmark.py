"""Measure the program against what else people use: python tests/benchmark.py [--quick] [--large].

Makes its input, converts it by this program, by the alternatives that are installed (DCMTK with
ffmpeg, GDCM, ImageMagick, dicom2jpg, dicom2gif) and by `benchmark_naive.py`, in alternation, and
calls the codecs alone (`benchmark_codecs.py`). On Linux and macOS; memory on Linux only.

    python tests/benchmark.py                  # some 10 minutes on two cores; writes a JSON file
    python tests/benchmark.py --table FILE     # its tables
    python tests/benchmark.py --write-readmes  # those of the newest file, into both READMEs

dicom2jpg and dicom2gif may be in an environment of their own: --peers ITS_PYTHON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from threading import Event, Thread
from typing import Any

from benchmark_input import ANGIOGRAPHY, CT, RADIOGRAPH, STILLS, TINY, ULTRASOUND, Kind, make_input
from benchmark_table import CODECS, NAIVE, OURS, RESULTS, tables, write_readmes
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

sys.path.insert(0, str(Path(__file__).parent.parent))

import dicom_converter as dc

HERE = Path(__file__).parent
Entry = dict[str, Any]  # an object of the JSON
CORES = os.cpu_count() or 1
PROGRAM = str(HERE.parent / "dicom_converter.py")
DCMTK, GDCM, MAGICK = "DCMTK", "GDCM", "ImageMagick"
TO_JPG, TO_GIF = "dicom2jpg", "dicom2gif"
ALL_CORES, ONE_CORE, HELP, VERSION = f"-j {CORES}", "-j 1", "--help", "--version"
AS_MODULE = "python -m dicom_converter"  # of which Python keeps the bytecode
MODULE_HELP = f"{AS_MODULE} --help"
ALTERNATIVES = (DCMTK, GDCM, MAGICK, TO_JPG, TO_GIF, NAIVE)
IMPORTS = "import pydicom, numpy, cv2"
ROUNDS = 5
LIMIT = 50  # s for one run of an alternative
ENCODINGS = {
    JPEGLosslessSV1: "JPEG Lossless",
    JPEG2000Lossless: "JPEG 2000",
    RLELossless: "RLE",
    ExplicitVRLittleEndian: "uncompressed",
    JPEGBaseline8Bit: "JPEG",
}


@dataclass(frozen=True)
class Case:
    """What is converted, and by whom."""

    kind: Kind
    syntax: UID
    files: int = 1
    frames: int = 1
    contenders: tuple[str, ...] = (OURS, *ALTERNATIVES, CODECS)
    budget: float = 6  # s; a contender that would need more in all is not run once more
    large: bool = False  # on request only

    def scaled(self, scale: float) -> Case:
        """Return the case with *scale* times as many files and frames, of several at least two."""
        files, frames = (max(min(n, 2), round(n * scale)) for n in (self.files, self.frames))
        return replace(self, files=files, frames=frames, budget=scale * self.budget)


# ImageMagick cannot decode these angiographies, and 850 frames are beyond its limits: it takes
# minutes to say so.
LONG = (OURS, DCMTK, TO_GIF, NAIVE, CODECS)
STARTS = (IMPORTS, OURS, AS_MODULE, HELP, VERSION, MODULE_HELP)
CASES = {
    "jpeg-lossless": Case(CT, JPEGLosslessSV1, files=360, budget=15),
    "jpeg-2000": Case(CT, JPEG2000Lossless, files=60),  # all ends within 10 minutes
    "rle": Case(CT, RLELossless, files=60),
    "uncompressed": Case(CT, ExplicitVRLittleEndian, files=60),
    "radiographs": Case(RADIOGRAPH, JPEGLosslessSV1, files=8),
    "short-angiography": Case(ANGIOGRAPHY, JPEGLosslessSV1, frames=60),
    "long-angiography": Case(ANGIOGRAPHY, JPEGLosslessSV1, frames=600, contenders=LONG),
    "ultrasound": Case(ULTRASOUND, JPEGBaseline8Bit, frames=850, contenders=LONG),
    "start": Case(CT, JPEGLosslessSV1, contenders=STARTS, budget=20),
    "jobs": Case(CT, JPEGLosslessSV1, files=3600, contenders=(ALL_CORES, ONE_CORE)),
    "memory": Case(ANGIOGRAPHY, JPEGLosslessSV1, frames=2000, contenders=(OURS,)),
    "many": Case(TINY, ExplicitVRLittleEndian, 10_000, contenders=(OURS,), large=True),
    "tenfold": Case(TINY, ExplicitVRLittleEndian, 100_000, contenders=(OURS,), large=True),
}

# --- Contenders -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A case on disk."""

    case: Case
    folder: Path  # of the input, where commands run
    output: Path
    peers: str  # the Python that has dicom2jpg and dicom2gif


Command = Callable[[Work], list[str]]


@dataclass(frozen=True)
class Contender:
    """How one converts, and the suffixes of what a still and a clip become; None: it cannot."""

    command: Command
    stills: tuple[str, ...] | None
    clips: tuple[str, ...] | None

    def makes(self, case: Case) -> tuple[str, ...] | None:
        """Return the suffixes of what comes out of each file of *case*."""
        return self.stills if case.kind in STILLS else self.clips


def ours(*options: str) -> Command:
    """Return the command of this program with *options*."""
    return lambda work: [sys.executable, PROGRAM, ".", "-q", "-o", str(work.output), *options]


def script(name: str) -> Command:
    """Return the command of a script of this folder."""
    return lambda work: [sys.executable, str(HERE / name), ".", str(work.output)]


def started(*arguments: str) -> Command:
    """Return a command of Python, whatever the work."""
    return lambda _: [sys.executable, *arguments]


def as_module(*options: str) -> Command:
    """Return the command of this program as a module, with *options*, or to convert all."""
    begin = ["env", f"PYTHONPATH={HERE.parent}", sys.executable, "-m", Path(PROGRAM).stem]
    return lambda work: [*begin, *(options or (".", "-q", "-o", str(work.output)))]


def handed_out(work: Work, command: str) -> list[str]:
    """Return a command that hands the files to *command* in portions, on all cores."""
    portion = -(-work.case.files // (8 * CORES))
    return ["sh", "-c", f"ls | xargs -P {CORES} -n {portion} {command}"]


def each(work: Work, steps: str) -> list[str]:
    """Return a command that does *steps* of the shell for each file $f into the folder $0."""
    loop = shlex.quote(f"for f; do {steps}; done")
    return handed_out(work, f"sh -c {loop} {shlex.quote(str(work.output))}")


def dcmtk(work: Work) -> list[str]:
    """PNG of 16 bits; GIF and MP4, side by side, of pictures that ffmpeg reads; TXT."""
    text = 'dcmdump "$f" > "$0/$f.txt"'
    if work.case.kind in STILLS:
        return each(work, f'dcmj2pnm +on2 +Wi 1 "$f" "$0/$f.png" && {text}')
    window, suffix = ("+Wi 1", "pgm") if work.case.kind == ANGIOGRAPHY else ("", "ppm")
    palette = "" if window else '-lavfi "split[a][b];[a]palettegen[p];[b][p]paletteuse"'
    film = f'ffmpeg -v error -framerate 10 -i "$0/raw.%d.{suffix}"'
    settings = " ".join(f"-{name} {value}" for name, value in dc.MP4_OPTIONS.items())
    mp4 = f'{film} -c:v libx264 -pix_fmt yuv420p {settings} -movflags faststart "$0/$f.mp4"'
    gif = f'{film} {palette} "$0/$f.gif"'
    return each(work, f'dcmj2pnm +Fa {window} "$f" "$0/raw"; {mp4} & {gif}; {text}; wait')


def gdcm(work: Work) -> list[str]:
    """PGM without a window, for which there is no option, and TXT."""
    raw = '"$0/$f"'
    picture = f'gdcmconv --raw "$f" {raw} && gdcmimg -i {raw} -o "$0/$f.pgm"'
    return each(work, f'{picture} && gdcmdump "$f" > "$0/$f.txt"; rm -f {raw}')


def mogrify() -> str:
    """Return the command of ImageMagick, 7 or 6, that converts many files."""
    return "magick mogrify" if shutil.which("magick") else "mogrify"


def magick(work: Work) -> list[str]:
    """PNG or GIF, without a window."""
    form = "png" if work.case.kind in STILLS else "gif"
    folder = shlex.quote(str(work.output))
    return handed_out(work, f"{mogrify()} -format {form} -path {folder}")


def dicom2jpg(work: Work) -> list[str]:
    """PNG of 8 bits, on all cores."""
    code = "import dicom2jpg, sys; dicom2jpg.dicom2png('.', sys.argv[1])"
    return [work.peers, "-c", code, str(work.output)]


def dicom2gif(work: Work) -> list[str]:
    """GIF."""
    options = ["-d", "100", "-o", str(work.output / "clip.gif")]
    return [work.peers, "-m", "dicom2gif", *options, "000000.dcm"]


STILL, CLIP = (".png", ".txt"), (".gif", ".mp4", ".txt")
CONTENDERS = {
    OURS: Contender(ours(), STILL, CLIP),
    ALL_CORES: Contender(ours("-j", str(CORES)), STILL, CLIP),
    ONE_CORE: Contender(ours("-j", "1"), STILL, CLIP),
    DCMTK: Contender(dcmtk, STILL, CLIP),
    GDCM: Contender(gdcm, (".pgm", ".txt"), None),
    MAGICK: Contender(magick, (".png",), (".gif",)),
    TO_JPG: Contender(dicom2jpg, (".png",), None),
    TO_GIF: Contender(dicom2gif, None, (".gif",)),
    NAIVE: Contender(script("benchmark_naive.py"), STILL, CLIP),
    CODECS: Contender(script("benchmark_codecs.py"), (), ()),
    IMPORTS: Contender(started("-c", IMPORTS), (), None),
    HELP: Contender(started(PROGRAM, "--help"), (), None),
    VERSION: Contender(started(PROGRAM, "--version"), (), None),
    AS_MODULE: Contender(as_module(), STILL, CLIP),
    MODULE_HELP: Contender(as_module("--help"), (), None),
}

# --- Running --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How a contender did once."""

    seconds: float
    cpu: float  # s, of all its processes
    memory: int  # bytes, of all its processes at once, at most; 0: not known
    failure: str


def run(name: str, work: Work) -> Run:
    """Run a contender into an empty folder. Raises `RuntimeError` where one of ours fails."""
    shutil.rmtree(work.output, ignore_errors=True)
    work.output.mkdir()
    command = CONTENDERS[name].command(work)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        start = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - commands of ours
            command, cwd=work.folder, stdout=out, stderr=err, start_new_session=True
        )
        with watched(process.pid, LIMIT if name in ALTERNATIVES else math.inf) as memory:
            _, status, usage = os.wait4(process.pid, 0)
        seconds, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        told, errors = out.read(), err.read()
    reason = failure(name, work, process.returncode, errors or told)
    if reason and name not in ALTERNATIVES:
        raise RuntimeError(f"{name}: {reason}")
    if name == CODECS:  # what they alone took
        seconds, cpu = json.loads(told).values()
    return Run(seconds, cpu, max(memory), reason)


@contextmanager
def watched(session: int, limit: float) -> Iterator[list[int]]:
    """Collect what the processes of *session* take, and end them after *limit* s, or if we end."""
    memory, ended, start = [0], Event(), time.perf_counter()

    def watch() -> None:
        while not ended.is_set():
            before = time.thread_time()
            memory.append(memory_of(session))
            if time.perf_counter() - start > limit:
                os.killpg(session, signal.SIGKILL)
            ended.wait(max(0.01, 50 * (time.thread_time() - before)))  # at most 2 % of a core

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield memory
    except BaseException:  # an interrupt does not reach other sessions
        os.killpg(session, signal.SIGKILL)
        raise
    finally:
        ended.set()
        watcher.join()


def memory_of(session: int) -> int:
    """Return the bytes that all processes of *session* take now; what they share counts once."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                text = (process / "smaps_rollup").read_text()
                total += sum(map(int, re.findall(r"^Pss: +(\d+)", text, re.MULTILINE))) << 10
        except OSError:  # it has ended
            continue
    return total


def failure(name: str, work: Work, code: int, told: str) -> str:
    """Return why a run was none, by the last line that it *told*; "" where nothing lacks."""
    lacking = []
    for suffix in CONTENDERS[name].makes(work.case) or ():
        made = sum(path.stat().st_size > 0 for path in work.output.rglob(f"*{suffix}"))
        if made < work.case.files:
            lacking.append(f"{made} of {work.case.files} {suffix}")
    if code == -signal.SIGKILL:
        return f"not done after {LIMIT} s"
    if not code and not lacking:
        return ""
    last = told.strip().rpartition("\n")[2]
    reason = re.split(r"[`'(@]|\S*/", last)[0].strip()  # without names of temporary files
    return reason or ", ".join(lacking) or f"exit code {code}"


def measure(work: Work, absent: set[str]) -> dict[str, list[Run]]:
    """Run the contenders of a case in alternation."""
    able = [name for name in work.case.contenders if CONTENDERS[name].makes(work.case) is not None]
    runs: dict[str, list[Run]] = {name: [] for name in able if name not in absent}
    taken = dict.fromkeys(runs, 0.0)
    for _ in range(ROUNDS):
        for name, done in runs.items():
            more = taken[name] / len(done) if done else 0
            if not done or not (done[-1].failure or taken[name] + more > work.case.budget):
                start = time.perf_counter()
                done.append(run(name, work))
                taken[name] += time.perf_counter() - start
    return runs


def result(runs: list[Run], first: list[Run]) -> Entry:
    """Return what the JSON holds of the *runs* of a contender beside the *first* one's."""
    if runs[-1].failure:
        return {"failure": runs[-1].failure}
    median = statistics.median(run.seconds for run in runs)
    return {
        "seconds": [round(run.seconds, 4) for run in runs],
        "median": round(median, 4),
        "ratio": round(median / statistics.median(run.seconds for run in first), 3),
        "cpu": round(statistics.median(run.cpu for run in runs), 4),
        "memory": max(run.memory for run in runs),
    }


def benchmark(chosen: dict[str, Case], peers: str) -> Entry:
    """Run *chosen* cases, each with an input of its own; return the JSON."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    versions = versions_of(peers)
    absent = {name for name, found in versions.items() if not found}
    cases = {}
    for name, case in chosen.items():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            work = Work(case, Path(temporary) / "in", Path(temporary) / "out", peers)
            make_input(work.folder, case.kind, case.syntax, case.files, case.frames)
            runs = measure(work, absent)
        cases[name] = {
            "kind": case.kind.name,
            "size": "{} x {}".format(*case.kind.size),
            "encoding": ENCODINGS[case.syntax],
            "files": case.files,
            "frames": case.frames,
            "results": {key: result(done, next(iter(runs.values()))) for key, done in runs.items()},
        }
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    required = (HERE.parent / "requirements.txt").read_text(encoding="utf-8")
    libraries = re.findall(r"^[\w-]+", required, re.MULTILINE)
    return {
        "date": begun,
        "machine": machine(),
        "versions": versions,
        "libraries": {library: metadata.version(library) for library in libraries},
        "cases": cases,
    }


def versions_of(peers: str) -> dict[str, str | None]:
    """Return the versions of all alternatives; None for those that are absent."""
    tell = "import {0}; from importlib import metadata; print(metadata.version('{0}'))"
    commands = {
        DCMTK: ["dcmj2pnm", "--version"],
        "ffmpeg": ["ffmpeg", "-version"],
        GDCM: ["gdcmimg", "--version"],
        MAGICK: [*mogrify().split(), "-version"],
        TO_JPG: [peers, "-c", tell.format("dicom2jpg")],
        TO_GIF: [peers, "-c", tell.format("dicom2gif")],
    }
    versions: dict[str, str | None] = {OURS: dc.__version__, "Python": platform.python_version()}
    for name, command in commands.items():
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours
            found = re.search(r"\d+\.[\d.-]+\b", told.stdout)
            versions[name] = found[0] if found else "?"
        except (OSError, subprocess.CalledProcessError):
            versions[name] = None
    return versions


def machine() -> Entry:
    """Return what this machine is."""
    processor, system = platform.processor(), platform.system()
    if system == "Linux":
        told = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        processor = told[1] if told else platform.machine()
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": processor, "cores": CORES, "memory": memory, "system": system}


# --- Command line ---------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a 50th of everything, in a minute")
    parser.add_argument("--large", action="store_true", help="100,000 tiny files too")
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--peers", default=sys.executable, help="Python of dicom2jpg and dicom2gif")
    parser.add_argument("--output", type=Path, help="default: a new file in tests/benchmarks")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print its tables")
    parser.add_argument("--write-readmes", action="store_true", help="of the newest results")
    options = parser.parse_args(arguments)
    if options.write_readmes:
        write_readmes()
    elif options.table:
        print(tables(json.loads(options.table.read_text(encoding="utf-8")), {}), end="")
    else:
        wanted = options.cases or [
            n for n, case in CASES.items() if options.large or not case.large
        ]
        scale = 0.02 if options.quick else 1
        peers = Path(shutil.which(options.peers) or options.peers).absolute()
        found = benchmark({name: CASES[name].scaled(scale) for name in wanted}, str(peers))
        kept = RESULTS / f"{found['date'][:19].replace(':', '-')}.json"
        path = options.output or (None if options.quick or options.cases else kept)
        if path:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(tables(found, {}), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
