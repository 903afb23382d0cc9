"""Write tables of the results of `benchmark.py`, into the READMEs too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "benchmarks"
PLACE = re.compile("(?<=<!-- benchmark -->\n)(.*)(?=<!-- end of benchmark -->\n)", re.DOTALL)
OURS, NAIVE, CODECS = "this program", "naive script", "codecs alone"
COLUMNS = ("DCMTK", "GDCM", "ImageMagick", "dicom2jpg, dicom2gif", NAIVE)
SHARE = "codecs' share of its CPU time"
SHORTEST = 0.1  # s; what ends sooner is not looked at in time
CHINESE = {
    "input": "输入",
    "file": "个文件",
    "files": "个文件",
    "frames": "帧",
    "radiograph": "X 线平片",
    "angiography": "血管造影",
    "color ultrasound": "彩色超声",
    "tiny image": "微小图像",
    "uncompressed": "未压缩",
    OURS: "本程序",
    NAIVE: "简单脚本",
    SHARE: "编解码占其 CPU 时间",
    "fails": "失败",
    "how": "方式",
    "time": "时间",
    "ratio": "倍数",
    "memory": "内存",
    "Measured on": "测量环境",
    "cores": "核",
    "Failed": "失败原因",
    "Not installed": "未安装",
}
READMES: dict[str, dict[str, str]] = {"README.md": {}, "README_CN.md": CHINESE}

Entry = dict[str, Any]  # an object of the JSON
Say = Callable[[str], str]


def newest() -> Entry | None:
    """Return the newest results that are kept; None where there are none."""
    paths = sorted(RESULTS.glob("*.json"))
    found: Entry | None = json.loads(paths[-1].read_text(encoding="utf-8")) if paths else None
    return found


def write_readmes() -> None:
    """Put the tables of the newest results between the marks of both READMEs."""
    found = newest()
    for name, words in READMES.items():
        before, _, after = PLACE.split((ROOT / name).read_text(encoding="utf-8"))
        text = before + (tables(found, words) if found else "") + after
        (ROOT / name).write_text(text, encoding="utf-8", newline="\n")


def tables(found: Entry, words: dict[str, str]) -> str:
    """Return what a README says of results, with *words* for texts that are among these."""

    def say(text: str) -> str:
        return words.get(text, text)

    cases = found["cases"].values()
    rows = [compared(case, say) for case in cases if CODECS in case["results"]]
    others = [row for case in cases if CODECS not in case["results"] for row in listed(case, say)]
    parts = [
        environment(found, say),
        table(("input", OURS, SHARE, *COLUMNS), rows, say),
        table(("input", "how", "time", "ratio", "memory"), others, say),
        *remarks(found, say),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def environment(found: Entry, say: Say) -> str:
    """Return a line about where and of what the results are."""
    machine = found["machine"]
    parts = [
        machine["processor"],
        f"{machine['cores']} {say('cores')}",
        f"{machine['memory'] / 2**30:.0f} GiB",
        machine["system"],
        *(f"{say(name)} {version}" for name, version in found["versions"].items() if version),
    ]
    return f"{say('Measured on')} {', '.join(parts)} ({found['date'][:10]})."


def compared(case: Entry, say: Say) -> list[str]:
    """Return the row of a case that all were given."""
    results = case["results"]
    share = results[CODECS]["cpu"] / results[OURS]["cpu"]
    cells = [cell(results, column, say) for column in COLUMNS]
    return [label(case, say), cell(results, OURS, say), f"{share:.0%}", *cells]


def cell(results: Entry, column: str, say: Say) -> str:
    """Return what the results hold of a column, which may be that of two of whom one is able."""
    for name in column.split(", "):
        if name in results and "failure" in results[name]:
            return say("fails")
        if name in results:
            ratio = "" if name == OURS else f", {results[name]['ratio']:.1f} x"
            return f"{results[name]['median']:.3g} s{ratio}, {megabytes(results[name])}"
    return "-"


def listed(case: Entry, say: Say) -> Iterator[list[str]]:
    """Yield the rows of a case of this program alone."""
    for name, result in case["results"].items():
        if "failure" not in result:
            figures = [f"{result['median']:.3g} s", f"{result['ratio']:.2f}", megabytes(result)]
            yield [label(case, say), say(name), *figures]


def label(case: Entry, say: Say) -> str:
    """Return what the input of a case is."""
    unit = "frames" if case["frames"] > 1 else "files" if case["files"] > 1 else "file"
    count = f"{case['files'] * case['frames']:,} {say(unit)}"
    return f"{count}, {say(case['kind'])} {case['size']}, {say(case['encoding'])}"


def megabytes(result: Entry) -> str:
    """Return how much memory was taken at most; not every system tells, nor the shortest run."""
    told = result["memory"] and result["median"] > SHORTEST
    return f"{result['memory'] / 1e6:.0f} MB" if told else "-"


def table(heads: Iterable[str], rows: list[list[str]], say: Say) -> str:
    """Return a table; none where there are no rows."""
    heads = [say(head) for head in heads]
    lines = [heads, ["---"] * len(heads), *rows] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def remarks(found: Entry, say: Say) -> Iterator[str]:
    """Yield lines about what failed, and what is absent."""
    failures: dict[str, list[str]] = {}
    for case in found["cases"].values():
        for name, result in case["results"].items():
            if "failure" in result:
                reason = f"{say(name)}, {result['failure']}"
                failures.setdefault(reason, []).append(label(case, say))
    if failures:
        parts = [f"{reason} ({'; '.join(labels)})" for reason, labels in failures.items()]
        yield f"{say('Failed')}: {'; '.join(parts)}."
    absent = [name for name, version in found["versions"].items() if version is None]
    if absent:
        yield f"{say('Not installed')}: {', '.join(absent)}."
