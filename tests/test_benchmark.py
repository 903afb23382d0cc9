"""The benchmark runs, and the READMEs show what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import benchmark_table
import pytest
from benchmark_table import CHINESE, CODECS, NAIVE, OURS, PLACE, READMES, newest, tables

ROOT = Path(__file__).parent.parent
RESULT = {"seconds": [1.0, 3.0, 2.0], "median": 2.0, "ratio": 1.0, "cpu": 4.0, "memory": 90_000_000}
FOUND = {
    "date": "2026-11-29T12:00:00+00:00",
    "machine": {"processor": "A processor", "cores": 2, "memory": 2**34, "system": "A system"},
    "versions": {OURS: "2.0.0", "DCMTK": "3.6.7", "GDCM": None},
    "cases": {
        "rle": {
            "kind": "CT",
            "size": "512 x 512",
            "encoding": "RLE",
            "files": 1200,
            "frames": 1,
            "results": {
                OURS: RESULT,
                "DCMTK": RESULT | {"median": 13.04, "ratio": 6.52},
                "ImageMagick": {"failure": "no such thing"},
                NAIVE: RESULT | {"ratio": 4.0, "memory": 0},
                CODECS: RESULT | {"cpu": 1.0},
            },
        },
        "start": {
            "kind": "CT",
            "size": "512 x 512",
            "encoding": "RLE",
            "files": 1,
            "frames": 1,
            "results": {"--help": RESULT},
        },
    },
}


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processes are watched on Linux and macOS")
def test_the_benchmark_runs(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    chosen = ["--quick", "--cases", "jpeg-lossless", "short-angiography", "start"]
    script = str(ROOT / "tests" / "benchmark.py")
    command = [sys.executable, script, *chosen, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    found = json.loads(output.read_text(encoding="utf-8"))
    assert done.stdout == tables(found, {})
    assert {*found} == {"date", "machine", "versions", "libraries", "cases"}
    assert {*found["machine"]} == {"processor", "cores", "memory", "system"}
    stills, clip, start = found["cases"].values()
    assert (stills["files"], stills["frames"], clip["files"], clip["frames"]) == (7, 1, 1, 2)
    compared = {OURS, NAIVE, CODECS} | ({"DCMTK"} if found["versions"]["DCMTK"] else set())
    assert compared <= {*stills["results"]}
    module = "python -m dicom_converter"
    by_name = {OURS, "--help", "--version", module, f"{module} --help"}
    assert {*start["results"]} == {"import pydicom, numpy, cv2", *by_name}
    for case, names in (
        (stills, compared),
        (clip, {OURS, NAIVE, CODECS}),
        (start, start["results"]),
    ):
        for name in names:
            result = case["results"][name]
            assert {*result} == {*RESULT}, result
            assert min(result["seconds"]) <= result["median"] <= max(result["seconds"])
            assert result["cpu"] > 0
            seen = Path("/proc/self/smaps_rollup").exists() and min(result["seconds"]) > 0.1
            assert result["memory"] > 10e6 or not seen


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_show_the_newest_results(readme: str) -> None:
    found = newest()
    _, shown, _ = PLACE.split((ROOT / readme).read_text(encoding="utf-8"))
    assert shown == (tables(found, READMES[readme]) if found else "")


def test_tables_tell_ratios_failures_and_who_is_absent() -> None:
    lines = tables(FOUND, {}).splitlines()
    of_machine = "A processor, 2 cores, 16 GiB, A system, this program 2.0.0, DCMTK 3.6.7"
    assert lines[0] == f"Measured on {of_machine} (2026-11-29)."
    assert lines[4] == (
        "| 1,200 files, CT 512 x 512, RLE | 2 s, 90 MB | 25% "
        "| 13 s, 6.5 x, 90 MB | - | fails | - | 2 s, 4.0 x, - |"
    )
    assert lines[8] == "| 1 file, CT 512 x 512, RLE | --help | 2 s | 1.00 | 90 MB |"
    assert lines[10] == "Failed: ImageMagick, no such thing (1,200 files, CT 512 x 512, RLE)."
    assert lines[12] == "Not installed: GDCM."


def test_tables_say_the_same_in_chinese() -> None:
    english, chinese = (tables(FOUND, words) for words in ({}, CHINESE))
    assert [line[:1] == "|" for line in english.splitlines()] == [
        line[:1] == "|" for line in chinese.splitlines()
    ]
    assert "1,200 个文件" in chinese
    assert "this program" not in chinese


def test_both_readmes_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_table, "ROOT", tmp_path)
    monkeypatch.setattr(benchmark_table, "newest", lambda: FOUND)
    for readme in READMES:
        text = "before\n<!-- benchmark -->\nold\n<!-- end of benchmark -->\nafter\n"
        (tmp_path / readme).write_text(text, encoding="utf-8")
    benchmark_table.write_readmes()
    for readme, words in READMES.items():
        written = (tmp_path / readme).read_text(encoding="utf-8")
        middle = tables(FOUND, words)
        assert written == f"before\n<!-- benchmark -->\n{middle}<!-- end of benchmark -->\nafter\n"
