"""Writers: PNG, GIF and MP4 decoded back, atomic moves, one pass for both clips."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import av
import cv2
import numpy as np
import pytest
from conftest import SAMPLES, Array, Factory, convert, needs_program, psnr, read_png, rendered
from PIL import Image

import dicom_converter as dc

RNG = np.random.default_rng(7)


def timing_of(*seconds: Fraction | int) -> dc.Timing:
    return dc.Timing(tuple(Fraction(second) for second in seconds), "")


def png_pictures() -> Iterator[Any]:
    for shape in ((1, 1), (1, 7), (5, 1), (3, 5), (64, 64), (33, 257)):
        for channels in ((), (3,)):
            for dtype in (np.uint8, np.uint16):
                picture = RNG.integers(0, np.iinfo(dtype).max + 1, (*shape, *channels), dtype)
                name = f"{'x'.join(map(str, picture.shape))} {picture.dtype}"
                yield pytest.param(picture, id=name)


@pytest.mark.parametrize("picture", list(png_pictures()))
def test_png_reads_back_equal(picture: Array, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    dc.write_png(path, picture)
    assert np.array_equal(read_png(path), picture)
    with Image.open(path) as image:
        assert image.size == picture.shape[1::-1]
        if not (picture.ndim == 3 and picture.dtype == np.uint16):  # Pillow reads 8 bits of those
            assert np.array_equal(np.asarray(image), picture)


@needs_program("pngcheck")
def test_png_is_clean(tmp_path: Path) -> None:
    for number, parameters in enumerate(png_pictures()):
        path = tmp_path / f"{number}.png"
        dc.write_png(path, parameters.values[0], pixels_per_meter=number)
        checked = subprocess.run(["pngcheck", "-q", path], capture_output=True, check=False)  # noqa: S603, S607 - an oracle
        assert checked.returncode == 0, checked.stdout


def test_png_accepts_a_picture_that_is_not_contiguous(tmp_path: Path) -> None:
    picture = RNG.integers(0, 65536, (8, 10), np.uint16)[::2, ::2]
    dc.write_png(tmp_path / "p.png", picture)
    assert np.array_equal(read_png(tmp_path / "p.png"), picture)


@pytest.mark.parametrize(
    ("elements", "meter"),
    [
        ({"PixelSpacing": [0.5, 0.5]}, 2000),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, 5000),
        ({"PixelSpacing": [0.5, 0.7]}, 2000),  # resampled to the finer one
        ({}, 0),
    ],
    ids=str,
)
def test_png_carries_the_size_of_square_pixels(
    dicom_file: Factory, tmp_path: Path, elements: dict[str, Any], meter: int
) -> None:
    path = dicom_file(np.eye(4, dtype=np.uint8), **elements)
    raw = convert(path, tmp_path / "out").outputs[0].read_bytes()
    at = raw.find(b"pHYs")
    assert (struct.unpack(">LLB", raw[at + 4 : at + 13]) if at > 0 else (0, 0, 1)) == (
        meter,
        meter,
        1,
    )


def moving_gray(frames: int = 12, rows: int = 48, columns: int = 320) -> list[Array]:
    """Return frames in which every one of the 256 levels occurs, and noise."""
    ramp = np.tile(np.arange(columns) % 256, (rows, 1))
    return [
        np.roll((ramp + RNG.integers(0, 3, ramp.shape)) % 256, 5 * frame, axis=1).astype(np.uint8)
        for frame in range(frames)
    ]


def moving_color(frames: int = 8, rows: int = 47, columns: int = 63) -> list[Array]:
    y, x = np.mgrid[:rows, :columns]
    return [
        np.stack([x * 4, y * 5, (x + y) * 2 + 6 * frame], axis=-1).clip(0, 255).astype(np.uint8)
        for frame in range(frames)
    ]


def read_gif(path: Path) -> tuple[list[Array], list[int]]:
    """Return the RGB frames and the delays in ms."""
    frames, delays = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            delays.append(int(image.info["duration"]))
    return frames, delays


def test_gif_of_gray_keeps_every_level(tmp_path: Path) -> None:
    pictures = moving_gray()
    dc.write_gif(tmp_path / "c.gif", pictures, timing_of(*[Fraction(1, 10)] * 12))
    frames, _ = read_gif(tmp_path / "c.gif")
    assert len(frames) == 12
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.array_equal(frame, np.repeat(picture[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "rate", [Fraction(15), Fraction(30), Fraction(2997, 100), Fraction(7)], ids=str
)
def test_gif_delays_carry_the_rounding_error(tmp_path: Path, rate: Fraction) -> None:
    dc.write_gif(tmp_path / "c.gif", moving_gray(), timing_of(*[1 / rate] * 12))
    _, delays = read_gif(tmp_path / "c.gif")
    ends = list(accumulate(delays))
    exact = [round(100 * number / rate) * 10 for number in range(1, 13)]
    assert ends == exact


def test_gif_of_color_is_close(tmp_path: Path) -> None:
    outcome = convert(SAMPLES / "DCM00002", tmp_path)
    frames, _ = read_gif(outcome.outputs[0])
    assert len(frames) == 24
    for frame, picture in zip(frames, rendered(SAMPLES / "DCM00002"), strict=True):
        assert psnr(picture, frame) >= 40


def test_gif_palette_follows_the_colors_of_the_clip(tmp_path: Path) -> None:
    scenes = [
        np.full((40, 60, 3), tone, np.uint8) for tone in ((200, 0, 0), (0, 180, 0), (3, 4, 250))
    ]
    dc.write_gif(tmp_path / "c.gif", scenes, timing_of(1, 1, 1))
    frames, _ = read_gif(tmp_path / "c.gif")
    for frame, scene in zip(frames, scenes, strict=True):
        assert np.array_equal(frame, scene)


def test_gif_of_colors_that_come_back(tmp_path: Path) -> None:
    """FFmpeg compares a frame of the first palette with the one before, whatever its palette."""
    chance = np.random.default_rng(1)
    noise = chance.integers(0, 60, (2, 40, 60, 3))
    scenes = list((noise + np.array([[[[0, 0, 40]]], [[[40, 0, 0]]]])).astype(np.uint8))
    dc.write_gif(tmp_path / "c.gif", [*scenes, *scenes, scenes[0]], timing_of(1, 1, 1))
    frames, _ = read_gif(tmp_path / "c.gif")
    for number, frame in enumerate(frames):
        assert psnr(scenes[number % 2], frame) > psnr(scenes[(number + 1) % 2], frame) + 5
    assert np.array_equal(frames[0], frames[2])


def read_mp4(path: Path, form: str = "gray") -> tuple[list[Array], list[Fraction]]:
    """Return the frames and their presentation times in s."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        times = [
            frame.pts * frame.time_base
            for frame in decoded
            if frame.pts is not None and frame.time_base
        ]
        return [frame.to_ndarray(format=form) for frame in decoded], times


def assert_plays_everywhere(path: Path) -> None:
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        codec = stream.codec_context
        assert (codec.name, codec.profile, codec.pix_fmt) == ("h264", "High", "yuv420p")
        assert codec.width % 2 == codec.height % 2 == 0
        tags = (codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc)
        assert tuple(int(tag) for tag in tags) == (1, 1, 1, 1)
    raw = path.read_bytes()
    assert 0 < raw.find(b"moov") < raw.find(b"mdat")


def test_mp4_of_the_angiography_sample(tmp_path: Path) -> None:
    outcome = convert(SAMPLES / "DCM00001", tmp_path)
    gif, mp4, _ = outcome.outputs
    assert_plays_everywhere(mp4)
    pictures = rendered(SAMPLES / "DCM00001")
    frames, times = read_mp4(mp4)
    assert times == [Fraction(number, 10) for number in range(len(pictures))]
    assert psnr(np.stack(pictures), np.stack(frames)) >= 38
    assert mp4.stat().st_size <= 0.15 * gif.stat().st_size
    levels, _ = read_gif(gif)
    assert np.array_equal(np.stack(levels)[..., 0], np.stack(pictures))


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (47, 63), (48, 64), (5, 1000)], ids=lambda size: f"{size[0]}x{size[1]}"
)
@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
def test_mp4_of_odd_sizes_is_padded_not_scaled(
    tmp_path: Path, size: tuple[int, int], color: bool
) -> None:
    rows, columns = size
    y, x = np.mgrid[:rows, :columns]
    ramp = (60 + (x * 2 + y) % 120).astype(np.uint8)
    ramp = cv2.blur(ramp, (9, 9)) if min(size) > 9 else np.full(size, 90, np.uint8)
    pictures = [np.repeat(ramp[..., None], 3, axis=2) if color else ramp] * 4
    dc.write_mp4(tmp_path / "c.mp4", pictures, timing_of(1, 1, 1, 1))
    assert_plays_everywhere(tmp_path / "c.mp4")
    frames, _ = read_mp4(tmp_path / "c.mp4", "rgb24" if color else "gray")
    assert len(frames) == 4
    assert frames[0].shape[:2] == (rows + rows % 2, columns + columns % 2)
    assert psnr(pictures[0], frames[0][:rows, :columns]) > 38


def test_an_mp4_does_not_depend_on_what_memory_held(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    y, x = np.mgrid[:217, :349]
    pictures = []
    for n in range(8):
        waves = 128 + 60 * np.sin((x + 3 * n) / 9) + 40 * np.cos((y - 2 * n) / 13)
        pictures.append((waves + random.normal(0, 8, x.shape)).clip(0, 255).astype(np.uint8))
    made = set()
    for _ in range(40):
        held = [
            np.full(random.integers(1 << 12, 1 << 19), random.integers(256), np.uint8)
            for _ in range(40)
        ]
        held = held[::3]
        dc.write_mp4(tmp_path / "clip.mp4", pictures, dc.Timing((Fraction(1, 10),) * 8, ""), 1)
        made.add((tmp_path / "clip.mp4").read_bytes())
    assert len(made) == 1


def test_mp4_colors_are_right(tmp_path: Path) -> None:
    patches = [
        (255, 255, 255),
        (0, 0, 0),
        (220, 30, 30),
        (30, 200, 40),
        (40, 40, 230),
        (128, 128, 128),
    ]
    picture = np.concatenate([np.full((64, 64, 3), patch, np.uint8) for patch in patches], axis=1)
    dc.write_mp4(tmp_path / "c.mp4", [picture] * 3, timing_of(1, 1, 1))
    frames, _ = read_mp4(tmp_path / "c.mp4", "rgb24")
    for number, patch in enumerate(patches):
        center = frames[0][20:44, 64 * number + 20 : 64 * number + 44].reshape(-1, 3)
        assert np.abs(center.mean(axis=0) - patch).max() <= 4, patch


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param([Fraction(1, 30)] * 6, id="30 fps"),
        pytest.param([Fraction(100, 2997)] * 6, id="29.97 fps"),
        pytest.param([Fraction(667, 10000)] * 6, id="66.7 ms"),
        pytest.param([Fraction(n, 1000) for n in (33, 66, 20, 140, 33, 90)], id="varying"),
    ],
)
def test_mp4_times_are_exact(tmp_path: Path, seconds: list[Fraction]) -> None:
    dc.write_mp4(tmp_path / "c.mp4", moving_gray(6), timing_of(*seconds))
    frames, times = read_mp4(tmp_path / "c.mp4")
    assert len(frames) == 6
    assert times == [0, *accumulate(seconds[:-1])]
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert container.duration == pytest.approx(float(sum(seconds)) * av.time_base, abs=2)


def test_variable_rate_of_the_file_reaches_both_clips(dicom_file: Factory, tmp_path: Path) -> None:
    vector = [0, 40, 60, 200]
    path = dicom_file(
        np.stack(moving_gray(4)),
        FrameTimeVector=vector,
        FrameIncrementPointer=0x00181065,
        WindowCenter=128,
        WindowWidth=256,
    )
    gif, mp4, _ = convert(path, tmp_path / "out", frame_rate=None).outputs
    assert read_gif(gif)[1] == [40, 60, 200, 200]
    assert read_mp4(mp4)[1] == [0, Fraction(4, 100), Fraction(1, 10), Fraction(3, 10)]


@pytest.mark.parametrize(
    ("options", "suffixes"),
    [
        ({}, [".gif", ".mp4", ".txt"]),
        ({"mp4": False}, [".gif", ".txt"]),
        ({"gif": False}, [".mp4", ".txt"]),
        ({"gif": False, "mp4": False}, [".txt"]),
    ],
    ids=str,
)
def test_which_clips_are_written(
    dicom_file: Factory, tmp_path: Path, options: dict[str, Any], suffixes: list[str]
) -> None:
    outcome = convert(dicom_file(np.stack(moving_gray(3))), tmp_path / "out", **options)
    assert [output.suffix for output in outcome.outputs] == suffixes
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == suffixes


def test_a_clip_faster_than_gif_can_be_is_warned_of(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(
        dicom_file(np.stack(moving_gray(3))), tmp_path / "out", frame_rate=Fraction(100)
    )
    assert outcome.warnings == (
        "browsers play no GIF faster than 50 fps: the MP4 has the right speed",
    )
    assert read_gif(outcome.outputs[0])[1] == [20, 20, 20]


def test_no_patient_in_pictures(tmp_path: Path) -> None:
    for sample in ("DCM00000", "DCM00001", "DCM00002"):
        for output in convert(SAMPLES / sample, tmp_path).outputs:
            raw = output.read_bytes()
            found = [
                word
                for word in (b"Sample", b"Synthetic", b"SAMPLE", "样本".encode())
                if word in raw
            ]
            assert bool(found) == (output.suffix == ".txt"), output


ORIGIN = dc.Origin("0" * 8, "1" * 8, 0, 0)


def half_written(folder: Path, *suffixes: str) -> dc.Outputs:
    """Return outputs that are not yet moved to their place."""
    outputs = dc.Outputs(folder / "x")
    for suffix in suffixes:
        outputs.part(suffix).write_bytes(b"all")
    return outputs


def test_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    outputs = half_written(folder, ".gif", ".mp4")
    assert {path.suffix for path in folder.iterdir()} == {".part"}
    outputs.close()
    assert list(folder.iterdir()) == []
    paths = half_written(folder, ".gif", ".txt").move(ORIGIN)
    assert [path.name for path in paths] == ["x.gif", "x.txt"]
    assert sorted(folder.iterdir()) == sorted(paths)


def test_where_one_output_cannot_go_there_is_none(tmp_path: Path) -> None:
    with closing(half_written(tmp_path, ".gif", ".mp4")) as outputs:
        next(tmp_path.glob("*.part")).unlink()
        with pytest.raises(OSError, match="part"):
            outputs.move(ORIGIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("own", "other"),
    [((".gif", ".mp4"), "x.mp4"), ((".png", ".txt"), "x.gif"), ((".txt",), "x.png")],
    ids=["in place of ours", "beside ours", "beside a text"],
)
def test_what_came_to_the_place_meanwhile_stays(
    own: tuple[str, ...], other: str, tmp_path: Path
) -> None:
    with closing(half_written(tmp_path, *own)) as outputs:
        (tmp_path / other).write_bytes(b"theirs")
        with pytest.raises(dc.ConversionError, match="there already"):
            outputs.move(ORIGIN)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]


def test_of_two_runs_one_gets_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one looked while nothing was there."""
    task = dc.Task(dc.Source(Path("x")), dc.Options(), Mock(), ORIGIN, (None,), "", None, [])
    first, same = (half_written(tmp_path, ".png", ".txt") for _ in range(2))
    for outputs in (first, same):
        lines = dc.marks(dc.Status.CONVERTED, task, {".png": outputs.parts[".png"]})
        outputs.parts[".txt"].write_text("\n".join(lines), "utf-8")
    link = os.link

    def faster(part: Path, path: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        first.move(ORIGIN)
        link(part, path)

    monkeypatch.setattr(os, "link", faster)
    with closing(half_written(tmp_path, ".png", ".txt")) as other, pytest.raises(dc.TakenError):
        other.move(dc.Origin("2" * 8, "3" * 8, 0, 0))
    assert (tmp_path / "x.txt").read_bytes().startswith(b"DICOM file x")
    dc.remove(tmp_path.glob("x.*"))
    first = half_written(tmp_path, ".png", ".txt")
    shutil.copy(same.parts[".txt"], first.parts[".txt"])
    monkeypatch.setattr(os, "link", faster)
    assert len(same.move(ORIGIN)) == 2
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError))  # a system without links
    again = half_written(tmp_path, ".png", ".txt")
    assert len(again.move(ORIGIN)) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        import dicom_converter as dc
        dc.Outputs(Path(sys.argv[1], "x")).part(".png").write_bytes(b"half")
        os._exit(9)
        """
    )
    root = Path(dc.__file__).parent
    arguments = [sys.executable, "-c", script, str(tmp_path)]
    killed = subprocess.run(arguments, cwd=root, check=False)  # noqa: S603 - our own code
    assert killed.returncode == 9
    (left,) = tmp_path.iterdir()
    with closing(half_written(tmp_path, ".png")) as outputs:
        dc.remove_stale_parts(tmp_path)
        assert all(part.exists() for part in outputs.parts.values())
        assert not left.exists()


def test_which_processes_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dc.is_running(os.getppid())
    assert not dc.is_running(2**22 + 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert dc.is_running(ended.pid) == (sys.platform != "linux")
    ended.wait()

    def of_another_user(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", of_another_user)
    assert dc.is_running(4711)


@pytest.mark.parametrize(
    ("name", "age", "kept"),
    [
        pytest.param("{host}{pid}-{run}-0.part", 10, True, id="ours"),
        pytest.param(
            "{host}{pid}-deadbeef-0.part", 10, False, id="our process number, another run"
        ),
        pytest.param(
            ".dicom_converter-elsewhere-1-deadbeef-0.part", 10, True, id="another machine"
        ),
        pytest.param(".dicom_converter-elsewhere-1-deadbeef-0.part", 90_000, False, id="a day old"),
        pytest.param("notes.part", 90_000, True, id="not of this program"),
    ],
)
def test_which_leavings_are_removed(tmp_path: Path, name: str, age: int, kept: bool) -> None:
    part = tmp_path / name.format(host=dc.PART_PREFIX, pid=os.getpid(), run=dc._run)
    part.touch()
    os.utime(part, (time.time() - age,) * 2)
    dc.remove_stale_parts(tmp_path)
    assert part.exists() == kept


def test_a_failing_writer_stops_the_others_and_is_raised() -> None:
    threads = threading.active_count()
    seen: list[int] = []

    def good(pictures: Any) -> None:
        seen.extend(1 for _ in pictures)

    def bad(pictures: Any) -> None:
        next(iter(pictures))
        raise ValueError("disk full")

    endless = (np.zeros((2, 2), np.uint8) for _ in iter(int, 1))
    with pytest.raises(ValueError, match="disk full"):
        dc.distribute(endless, [good, bad])
    assert seen
    assert threading.active_count() == threads


def test_a_failing_source_ends_the_writers() -> None:
    def pictures() -> Iterator[Array]:
        yield np.zeros((2, 2), np.uint8)
        raise ValueError("broken frame")

    finished: list[int] = []
    with pytest.raises(ValueError, match="broken frame"):
        dc.distribute(pictures(), [lambda found: finished.append(len(list(found)))])
    assert len(finished) == 1


def test_an_interrupt_ends_the_writers_whatever_they_wait_for() -> None:
    code = """
import signal, sys, time
import dicom_converter as dc

def slow(pictures):
    for _ in pictures:
        time.sleep(0.2)

signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    dc.distribute((bytes(1) for _ in range(2 * dc.QUEUED_PICTURES)), [slow, slow])
except KeyboardInterrupt:
    sys.exit(7)
"""
    program = [sys.executable, "-c", code]
    folder = Path(dc.__file__).parent
    ended = subprocess.run(program, cwd=folder, check=False, timeout=30)  # noqa: S603 - ours
    assert ended.returncode == 7


def test_a_picture_too_large_for_h264_still_becomes_a_gif(
    dicom_file: Factory, tmp_path: Path
) -> None:
    outcome = convert(dicom_file(np.zeros((2, 1, 17000), np.uint8)), tmp_path / "out")
    assert [output.suffix for output in outcome.outputs] == [".gif", ".txt"]
    assert outcome.warnings == ("larger than the 16384 pixels that H.264 can be: no MP4",)


def test_a_fast_gif_is_not_said_to_have_an_mp4_that_there_is_not(
    dicom_file: Factory, tmp_path: Path
) -> None:
    path = dicom_file(np.zeros((2, 1, 17000), np.uint8))
    outcome = convert(path, tmp_path / "out", frame_rate=Fraction(100))
    assert outcome.warnings == (
        "larger than the 16384 pixels that H.264 can be: no MP4",
        "browsers play no GIF faster than 50 fps",
    )


def test_a_text_that_cannot_be_written_takes_its_picture_back(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dc, "finish", lambda *_: 1 / 0)
    outcome = convert(dicom_file(np.eye(4, dtype=np.uint8)), tmp_path / "out")
    assert (outcome.status, outcome.outputs) == (dc.Status.FAILED, ())
    assert list((tmp_path / "out").iterdir()) == []
