"""Measure settings of the encoders beside those in use: python tests/measure_settings.py.

Prints tables for CLAUDE.md: x264 by preset and CRF for the three clips of the samples, palettes of
GIFs for the one in color, and deflate of PNGs. Time and size are shares of those of today's choice,
medians of several runs in alternation.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import numpy as np
from isal import isal_zlib
from measure import Array, decoded, psnr, rendered
from PIL import Image

import dicom_converter as dc

RUNS = 7
PRESETS, CRFS = ("ultrafast", "superfast", "veryfast", "faster", "medium", "slow"), (17, 20, 23)
TODAY = " (today)"
Trial = Callable[[Path], Any]  # writes a file
Step = tuple[str, Callable[[], Any]]  # a setting, and what puts it into force


def compared(steps: Iterable[Step], write: Trial, suffix: str) -> Iterator[tuple[str, str, Path]]:
    """Yield name, shares of time and size of the first, and the file, of each of *steps*."""
    known = dict(steps)
    spent: dict[str, list[float]] = {name: [] for name in known}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{number}{suffix}") for number, name in enumerate(known)}
        for run in range(RUNS + 1):
            for name, setting in known.items():
                with setting():
                    start = time.perf_counter()
                    write(paths[name])
                    if run:
                        spent[name].append(time.perf_counter() - start)
        first, *_ = known
        for name, times in spent.items():
            pairs = zip(times, spent[first], strict=True)
            share = statistics.median(mine / other for mine, other in pairs)
            size = paths[name].stat().st_size / paths[first].stat().st_size
            yield name, f"{share:.2f}, {size:.2f}", paths[name]


def x264(preset: str, crf: int) -> Any:
    """Return what makes MP4s by *preset* and *crf*."""
    return mock.patch.object(
        dc, "MP4_OPTIONS", dc.MP4_OPTIONS | {"preset": preset, "crf": str(crf)}
    )


def mp4_table(clips: dict[str, tuple[list[Array], Any]]) -> Iterator[str]:
    """Yield the rows of presets by CRF: time, size, PSNR for each clip."""
    found: dict[str, list[str]] = {}
    for pictures, timing in clips.values():
        today = dc.MP4_OPTIONS["preset"], int(dc.MP4_OPTIONS["crf"])
        others = [(preset, crf) for crf in CRFS for preset in PRESETS if (preset, crf) != today]
        steps = [
            (f"{preset}, {crf}", lambda preset=preset, crf=crf: x264(preset, crf))
            for preset, crf in (today, *others)
        ]

        def write(path: Path, pictures: Any = pictures, timing: Any = timing) -> None:
            dc.write_mp4(path, pictures, timing)

        form = "gray" if pictures[0].ndim == 2 else "rgb24"
        for name, shares, path in compared(steps, write, ".mp4"):
            near = psnr(pictures, decoded(path, form))
            found.setdefault(name, []).append(f"{shares}, {near:.1f} dB")
    yield f"| preset, CRF | {' | '.join(clips)} |"
    yield "|---" * (1 + len(clips)) + "|"
    for position, (name, cells) in enumerate(found.items()):
        yield f"| {name}{TODAY if not position else ''} | {' | '.join(cells)} |"


def quantized_by(method: Any, kmeans: int) -> Any:
    """Return what makes palettes by *method* and rounds of *kmeans*."""
    whole = Image.Image.quantize

    def quantize(image: Any, colors: int = 256, *_: Any, palette: Any = None, **more: Any) -> Any:
        if palette:
            return whole(image, palette=palette, **more)
        return whole(image, colors, method, kmeans)

    return mock.patch.object(Image.Image, "quantize", quantize)


def gif_table(pictures: list[Array], timing: Any) -> Iterator[str]:
    """Yield the rows of palettes: time, size, PSNR."""
    methods = Image.Quantize
    steps = [
        ("median cut, 3 rounds of k-means", lambda: quantized_by(methods.MEDIANCUT, 3)),
        ("median cut, 1 round", lambda: quantized_by(methods.MEDIANCUT, 1)),
        ("median cut", lambda: quantized_by(methods.MEDIANCUT, 0)),
        ("maximum coverage, 3 rounds", lambda: quantized_by(methods.MAXCOVERAGE, 3)),
        ("octree", lambda: quantized_by(methods.FASTOCTREE, 0)),
    ]
    yield "| palette of a GIF | time, size, PSNR |"
    yield "|---|---|"
    rows = compared(steps, lambda path: dc.write_gif(path, pictures, timing), ".gif")
    for position, (name, shares, path) in enumerate(rows):
        near = psnr(pictures, decoded(path, "rgb24"))
        yield f"| {name}{TODAY if not position else ''} | {shares}, {near:.1f} dB |"


@contextmanager
def deflated_by(compress: Callable[[Any], bytes]) -> Iterator[None]:
    """Make PNGs by *compress*."""
    library = SimpleNamespace(compress=lambda data, _: compress(data), crc32=isal_zlib.crc32)
    with mock.patch.object(dc, "isal_zlib", library):
        yield


def png_table(stills: dict[str, Array]) -> Iterator[str]:
    """Yield the rows of deflate: time and size."""
    makers: dict[str, Callable[[Any], bytes]] = {
        "ISA-L 2": lambda data: isal_zlib.compress(data, 2),
        "ISA-L 0": lambda data: isal_zlib.compress(data, 0),
        "ISA-L 1": lambda data: isal_zlib.compress(data, 1),
        "ISA-L 3": lambda data: isal_zlib.compress(data, 3),
        "zlib 1": lambda data: zlib.compress(data, 1),
        "zlib 6": lambda data: zlib.compress(data, 6),
        "zlib 9": lambda data: zlib.compress(data, 9),
    }
    steps = [(name, lambda make=make: deflated_by(make)) for name, make in makers.items()]
    found: dict[str, list[str]] = {}
    for picture in stills.values():

        def write(path: Path, picture: Array = picture) -> None:
            dc.write_png(path, picture)

        for name, shares, _ in compared(steps, write, ".png"):
            found.setdefault(name, []).append(shares)
    yield f"| deflate of a PNG | {' | '.join(stills)} |"
    yield "|---" * (1 + len(stills)) + "|"
    for position, (name, cells) in enumerate(found.items()):
        yield f"| {name}{TODAY if not position else ''} | {' | '.join(cells)} |"


def clip_of(header: Any, pictures: list[Array]) -> tuple[list[Array], Any]:
    """Return *pictures* and how long each is shown by default."""
    recorded = dc.recorded_durations(header.data_set, len(pictures))
    return pictures, dc.timing_of(*recorded, len(pictures), dc.DEFAULT_FRAME_RATE)


def main() -> None:
    """Measure the samples, whose first file is a still and the others are clips."""
    still, *clips = sorted(path for path in dc.DEFAULT_INPUT.iterdir() if path.is_file())
    _, (picture,) = rendered(still, whole=True)
    read = [rendered(path, whole=False) for path in clips]
    known = {
        f"{name} ({len(pictures)} of {pictures[0].shape[1]} x {pictures[0].shape[0]})": clip_of(
            header, pictures
        )
        for name, (header, pictures) in zip(("angiography", "color ultrasound"), read, strict=True)
    }
    slices = [rendered(path, whole=False) for path in sorted((dc.DEFAULT_INPUT / "CT").iterdir())]
    slices.sort(key=lambda one: int(one[0].data_set.InstanceNumber))
    known["CT series"] = clip_of(slices[0][0], [one for _, (one,) in slices])
    large = cv2.resize(picture, (1760, 2140), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 300, large.shape)
    large = np.clip(large + noise, 0, 65535).astype(np.uint16)
    for row in mp4_table(known):
        print(row)
    print()
    for row in gif_table(*next(one for one in known.values() if one[0][0].ndim == 3)):
        print(row)
    print()
    for row in png_table({"CT slice": picture, "noisy radiograph": large}):
        print(row)


if __name__ == "__main__":
    main()
