"""Measure what the README states: python tests/measure.py [FILE ...] (default: dicom_data).

Prints a row for each clip (sizes, and how near GIF and MP4 are to the rendered frames) and for each
16-bit still (PNG writer against `cv2.imencode`), and one for a radiograph of 2140 x 1760 pixels.
The samples' series of slices counts as a clip.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parent.parent))

import dicom_converter as dc

Array = npt.NDArray[Any]
RUNS = 9


def median_ms(step: Callable[[], object]) -> float:
    """Return the median time of *step* in ms, after one run that is not counted."""
    step()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def png_row(name: str, picture: Array, folder: Path) -> str:
    """Compare our PNG writer with `cv2.imencode`, both up to the file on disk."""
    ours, theirs = folder / "ours.png", folder / "theirs.png"

    def with_opencv() -> None:
        theirs.write_bytes(cv2.imencode(".png", picture)[1].tobytes())

    fast, slow = median_ms(lambda: dc.write_png(ours, picture)), median_ms(with_opencv)
    size = ours.stat().st_size / theirs.stat().st_size
    rows, columns = picture.shape
    figures = f"{slow / fast:.1f} times as fast as cv2.imencode, {size:.2f} of its size"
    return f"PNG {name} {columns} x {rows}: {figures}"


def decoded(path: Path, form: str) -> list[Array]:
    """Return the frames of a clip."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=form) for frame in container.decode(video=0)]


def psnr(pictures: list[Array], frames: list[Array]) -> float:
    """Return the peak signal to noise ratio over a whole clip in dB, inf where it is exact."""
    pairs = zip(pictures, frames, strict=True)
    errors = [
        np.mean((a.astype(float) - b[: a.shape[0], : a.shape[1]].astype(float)) ** 2)
        for a, b in pairs
    ]
    error = float(np.mean(errors))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def clip_row(name: str, pictures: list[Array], ds: Dataset, folder: Path) -> str:
    """Write both clips; return a row of the README's table."""
    recorded = dc.recorded_durations(ds, len(pictures))
    timing = dc.timing_of(*recorded, len(pictures), dc.DEFAULT_FRAME_RATE)
    gif, mp4 = folder / "clip.gif", folder / "clip.mp4"
    gif_ms = median_ms(lambda: dc.write_gif(gif, pictures, timing))
    mp4_ms = median_ms(lambda: dc.write_mp4(mp4, pictures, timing))
    form = "gray" if pictures[0].ndim == 2 else "rgb24"
    sizes = gif.stat().st_size, mp4.stat().st_size
    near = [psnr(pictures, decoded(path, form)) for path in (gif, mp4)]
    quality = ["exact" if np.isinf(value) else f"{value:.1f} dB" for value in near]
    rows, columns = pictures[0].shape[:2]
    return (
        f"| {name} | {len(pictures)} of {columns} x {rows} "
        f"| {sizes[0] / 1e6:.2f} MB, {quality[0]} | {sizes[1] / 1e6:.2f} MB, {quality[1]} "
        f"| {100 - 100 * sizes[1] / sizes[0]:.1f} % | {mp4_ms / gif_ms:.1f} |"
    )


def rendered(path: Path, *, whole: bool) -> tuple[dc.Header, list[Array]]:
    """Return the header of *path* and its pictures: a still in 16 bits where *whole*, else in 8."""
    with path.open("rb") as file:
        header = dc.read_header(file)
        assert header.pixels
        image = dc.image_pixel(header.data_set, header.pixels)
        frames = list(dc.stored_frames(header, header.pixels, image))
        look = dc.look_of(header, image, dc.Options())
        look = replace(
            look, grayscale=dc.settled_transforms(look.grayscale, lambda: frames, "auto")
        )
        bits = 16 if whole and image.number_of_frames == 1 else 8
        pictures = [dc.render(look, index, *frame, bits) for index, frame in enumerate(frames)]
    return header, pictures


def series_row(series: Path, folder: Path) -> str:
    """Measure the clip of a folder of slices, which share their window, by instance number."""
    slices = [rendered(path, whole=False) for path in series.iterdir()]
    slices.sort(key=lambda read: int(read[0].data_set.InstanceNumber))
    pictures = [picture for _, (picture,) in slices]
    return clip_row(series.name, pictures, slices[0][0].data_set, folder)


def main(paths: list[Path]) -> None:
    """Measure every image below *paths*."""
    print("| file | frames | GIF | MP4 | MP4 smaller by | time MP4 / GIF |")
    print("|---|---|---|---|---|---|")
    stills = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not paths:
            paths = [path for path in dc.DEFAULT_INPUT.iterdir() if path.is_file()]
            print(series_row(dc.DEFAULT_INPUT / "CT", folder))
        for source in dc.find_sources(sorted(paths), folder):
            header, pictures = rendered(source.path, whole=True)
            if len(pictures) > 1:
                print(clip_row(source.name, pictures, header.data_set, folder))
            elif pictures[0].ndim == 2:
                stills.append((source.name, pictures[0]))
        if stills:
            large = cv2.resize(stills[0][1], (1760, 2140), interpolation=cv2.INTER_CUBIC)
            noise = np.random.default_rng(0).normal(0, 300, large.shape)
            large = np.clip(large + noise, 0, 65535).astype(np.uint16)
            stills.append((f"{stills[0][0]}, enlarged and noisy,", large))
        print()
        for name, picture in stills:
            print(png_row(name, picture, folder))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
