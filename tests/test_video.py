"""Video inside DICOM: copied packet by packet, or encoded anew, with its sound."""

from __future__ import annotations

import ast
import errno
import os
import re
import socket
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
from conftest import CORPUS, Array, Factory, convert, needs_corpus, psnr
from pydicom.encaps import encapsulate
from pydicom.uid import UID

import dicom_converter as dc

FRAMES, ROWS, COLUMNS = 20, 64, 96


def moving(number: int) -> Array:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return np.stack([x * 2 + number, y * 3, 200 - x - y], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(
    folder: Path,
    form: str,
    codec: str,
    sound: str = "",
    late: tuple[int, int] = (0, 0),
    gap: int = 0,
    aspect: Fraction | None = None,
    **options: str,
) -> bytes:
    """Return a stream of moving pictures at 25 fps in a container or bare, with *sound*.

    Pictures and sound begin *late* by so many frames, and half-way the sound is silent for *gap* of
    them; *aspect* is that of the pixels.
    """
    path = folder / "stream"
    with av.open(str(path), "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        audio: Any = container.add_stream(sound, rate=48000, layout="mono") if sound else None
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(moving(number), format="rgb24")
            frame.pts, frame.time_base = number + late[0], Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            tone = np.sin(np.arange(1152 * 33) / 20) * 9000
            for at in range(0, len(tone), 1152):
                block = tone[at : at + 1152].astype(np.int16)[None]
                sample = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                silent = gap if at > len(tone) / 2 else 0
                sample.sample_rate, sample.pts = 48000, at + (late[1] + silent) * 1920
                container.mux(audio.encode(sample))
            container.mux(audio.encode(None))
    return path.read_bytes()


def video_file(
    dicom_file: Factory, stream: bytes, syntax: str, fragments: int = 1, **elements: Any
) -> Path:
    """Return a DICOM file that holds *stream*."""
    parts = -(-len(stream) // fragments)
    parts += parts % 2
    codes = [stream[at : at + parts] for at in range(0, len(stream), parts)]
    codes[-1] += b"\0" * (len(codes[-1]) % 2)
    still = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    elements = {"NumberOfFrames": FRAMES, "PhotometricInterpretation": "YBR_PARTIAL_420"} | elements
    ds_pixels = encapsulate(codes, has_bot=False)
    return dicom_file(still, [b"00"], syntax, **(elements | {"PixelData": ds_pixels}))


def picture_units(path: Path) -> list[list[bytes]]:
    """Return the NAL units of each video packet that hold slices: parameter sets may be moved."""
    with av.open(str(path), "r") as container:
        stream = container.streams.video[0]
        found = [bytes(packet) for packet in container.demux(stream) if packet.size]
        split = units_by_length if "mp4" in container.format.name else units_by_start
        if stream.codec_context.codec.canonical_name == "hevc":
            return [[unit for unit in split(packet) if unit[0] >> 1 < 32] for packet in found]
        return [[unit for unit in split(packet) if unit[0] & 31 in (1, 5)] for packet in found]


def shown(path: Path) -> tuple[list[Array], list[Fraction]]:
    with av.open(str(path), "r") as container:
        frames = list(container.decode(video=0))
    times = [
        frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base
    ]
    return [frame.to_ndarray(format="rgb24") for frame in frames], times


def units_by_start(packet: bytes) -> list[bytes]:
    """Return the NAL units of a packet with start codes before them."""
    units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return [unit.rstrip(b"\0") for unit in units]


def units_by_length(packet: bytes) -> list[bytes]:
    """Return the NAL units of a packet with their lengths before them."""
    units, at = [], 0
    while at < len(packet):
        length = int.from_bytes(packet[at : at + 4], "big")
        units.append(packet[at + 4 : at + 4 + length].rstrip(b"\0"))
        at += 4 + length
    return units


@pytest.mark.parametrize(
    ("form", "codec", "syntax"),
    [
        ("h264", "libx264", "1.2.840.10008.1.2.4.102"),
        ("mp4", "libx264", "1.2.840.10008.1.2.4.103"),
        ("mpegts", "libx264", "1.2.840.10008.1.2.4.104"),
        ("hevc", "libx265", "1.2.840.10008.1.2.4.107"),
        ("mp4", "libx265", "1.2.840.10008.1.2.4.108"),
    ],
)
@pytest.mark.parametrize("fragments", [1, 5])
def test_h264_and_hevc_are_copied(
    dicom_file: Factory, tmp_path: Path, form: str, codec: str, syntax: str, fragments: int
) -> None:
    stream = encoded(tmp_path, form, codec, bf="3", slices="2")
    known = UID(f"{syntax}{'.1' if fragments > 1 and syntax < '1.2.840.10008.1.2.4.107' else ''}")
    outcome = convert(video_file(dicom_file, stream, known, fragments), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    mp4, text = outcome.outputs
    (tmp_path / "original").write_bytes(stream)
    slices = picture_units(mp4)
    assert slices == picture_units(tmp_path / "original")
    assert {len(units) for units in slices} == {2 if codec == "libx264" else 1}
    frames, times = shown(mp4)
    assert times == [Fraction(number, 25) for number in range(FRAMES)]
    assert all(psnr(moving(number), frame) > 30 for number, frame in enumerate(frames))
    raw = mp4.read_bytes()
    assert raw.find(b"moov") < raw.find(b"mdat")
    assert (b"hvc1" in raw) == (codec == "libx265")
    assert "copied, 25 fps" in text.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("form", "codec", "sound", "kept"),
    [
        ("mp4", "libx264", "aac", "aac"),
        ("mpegts", "libx264", "aac", "aac"),
        ("mpeg", "mpeg2video", "mp2", "aac"),
        ("mpegts", "mpeg2video", "ac3", "ac3"),
    ],
)
def test_sound_is_kept(
    dicom_file: Factory, tmp_path: Path, form: str, codec: str, sound: str, kept: str
) -> None:
    stream = encoded(tmp_path, form, codec, sound)
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.100"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    with av.open(str(outcome.outputs[0]), "r") as container:
        assert [audio.codec_context.name for audio in container.streams.audio] == [kept]
        heard = sum(frame.samples for frame in container.decode(audio=0))
        assert 33_000 < heard < 42_000
    frames, _ = shown(outcome.outputs[0])
    assert len(frames) == FRAMES
    assert all(psnr(moving(number), frame) > 28 for number, frame in enumerate(frames))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image.mp4", "image.txt"]


def test_mpeg_2_is_encoded_anew(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "mpeg2video", "mpeg2video", b="4000000")
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.100"), tmp_path / "out")
    with av.open(str(outcome.outputs[0]), "r") as container:
        assert container.streams.video[0].codec_context.name == "h264"
    frames, times = shown(outcome.outputs[0])
    assert times == [Fraction(number, 25) for number in range(FRAMES)]
    assert all(psnr(moving(number), frame) > 28 for number, frame in enumerate(frames))


def test_a_header_that_counts_wrongly_is_warned_of(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "h264", "libx264")
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102", NumberOfFrames=99)
    outcome = convert(path, tmp_path / "out")
    assert outcome.warnings == (f"the video holds {FRAMES} frames, the header says 99",)


@pytest.mark.parametrize("stream", [b"\0" * 5000, b"garbage" * 700], ids=["zeros", "garbage"])
def test_a_broken_video_leaves_its_text(dicom_file: Factory, tmp_path: Path, stream: bytes) -> None:
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102"), tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image.txt"]


def test_no_mp4_leaves_the_text_of_a_video(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "h264", "libx264")
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102")
    outcome = convert(path, tmp_path / "out", mp4=False)
    assert [output.suffix for output in outcome.outputs] == [".txt"]


def starts(path: Path) -> list[float]:
    """Return when the streams of a file begin, in s."""
    with av.open(str(path), "r") as container:
        assert [found.type for found in container.streams] == ["video", "audio"]
        return [
            float((found.start_time or 0) * (found.time_base or 0)) for found in container.streams
        ]


@pytest.mark.parametrize(
    ("form", "codec", "sound"),
    [
        ("mpegts", "mpeg2video", "mp2"),
        ("mpegts", "libx264", "mp2"),
        ("mpegts", "libx264", "aac"),
        ("mpegts", "libx264", "mp3"),
    ],
)
@pytest.mark.parametrize(
    "late",
    [(0, 0), (25, 0), (0, 25), (50, 50)],
    ids=["together", "sound", "pictures", "both"],
)
def test_sound_and_pictures_stay_in_step(
    dicom_file: Factory,
    tmp_path: Path,
    form: str,
    codec: str,
    sound: str,
    late: tuple[int, int],
) -> None:
    stream = encoded(tmp_path, form, codec, sound, late=late)
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.104"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    pictures, heard = starts(outcome.outputs[0])
    assert pictures - heard == pytest.approx((late[0] - late[1]) / 25, abs=0.06)
    kept = "aac" if sound == "mp2" else sound
    with av.open(str(outcome.outputs[0]), "r") as container:
        (audio,) = container.streams.audio
        assert audio.codec_context.codec.canonical_name == kept


@pytest.mark.parametrize(
    ("codec", "sound"), [("libx264", "aac"), ("mpeg2video", "mp2")], ids=["copied", "encoded anew"]
)
def test_sound_lies_beside_its_pictures(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, sound: str
) -> None:
    monkeypatch.setitem(globals(), "FRAMES", 400)  # FFmpeg puts in order what is 10 s apart
    stream = encoded(tmp_path, "mpegts", codec, sound)
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.104"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    with av.open(str(outcome.outputs[0]), "r") as container:
        packets = sorted((packet.pos, packet) for packet in container.demux() if packet.size)
    times = [float((packet.pts or 0) * packet.time_base) for _, packet in packets]
    assert max(before - after for before, after in pairwise(times)) < 1


@pytest.mark.parametrize("sound", ["aac", "mp2"], ids=["copied", "encoded anew"])
def test_sound_stays_in_step_behind_a_gap(dicom_file: Factory, tmp_path: Path, sound: str) -> None:
    stream = encoded(tmp_path, "mpegts", "libx264", sound, gap=25)
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.104"), tmp_path / "out")
    with av.open(str(outcome.outputs[0]), "r") as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    times = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    assert times[-1] == pytest.approx(1.79, abs=0.1)
    assert max(after - before for before, after in pairwise(times)) == pytest.approx(1.02, abs=0.1)


def test_a_broken_part_of_the_sound_costs_no_more(dicom_file: Factory, tmp_path: Path) -> None:
    stream = bytearray(encoded(tmp_path, "mov", "libx264", "alac"))
    with av.open(str(tmp_path / "stream"), "r") as container:
        packet = [packet for packet in container.demux(audio=0) if packet.size][4]
        stream[packet.pos or 0 : (packet.pos or 0) + packet.size] = b"\x55" * packet.size
    path = video_file(dicom_file, bytes(stream), "1.2.840.10008.1.2.4.102")
    outcome = convert(path, tmp_path / "out")
    assert outcome.warnings == ("parts of the sound cannot be decoded and were left out",)
    with av.open(str(outcome.outputs[0]), "r") as container:
        heard = list(container.decode(audio=0))
    assert sum(frame.samples for frame in heard) == pytest.approx(1152 * 33 - 4096, abs=2048)
    assert heard[-1].time == pytest.approx(0.79, abs=0.05)


@pytest.mark.parametrize("frames", ["0", "3"], ids=["no B-frames", "B-frames"])
def test_program_streams_have_even_times(dicom_file: Factory, tmp_path: Path, frames: str) -> None:
    stream = encoded(tmp_path, "mpeg", "libx264", bf=frames)
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.103"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    pictures, times = shown(outcome.outputs[0])
    assert times == [Fraction(number, 25) for number in range(FRAMES)]
    assert all(psnr(moving(number), frame) > 30 for number, frame in enumerate(pictures))


def test_mpeg_2_gets_square_pixels(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "mpeg2video", "mpeg2video", aspect=Fraction(32, 27))
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.100"), tmp_path / "out")
    pictures, _ = shown(outcome.outputs[0])
    assert pictures[0].shape == (ROWS, 114, 3)


def test_a_video_that_begins_without_its_parameters_in_order(
    dicom_file: Factory, tmp_path: Path
) -> None:
    stream = encoded(tmp_path, "h264", "libx264", g="5", bf="0")
    units = [
        b"\0\0\1" + unit for unit in stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    ]
    parameters = [unit for unit in units if unit[3] & 31 in (7, 8)]
    pictures = [unit for unit in units if unit[3] & 31 in (1, 5)]
    cut = b"".join([*pictures[1:4], *parameters[:2], *pictures[5:]])
    outcome = convert(video_file(dicom_file, cut, "1.2.840.10008.1.2.4.102"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    warning = "its packets cannot be copied as they are: the video was encoded anew"
    assert warning in outcome.warnings
    frames, _ = shown(outcome.outputs[0])
    assert FRAMES - 5 <= len(frames) < FRAMES
    whole = zip(range(5, FRAMES), frames[-(FRAMES - 5) :], strict=True)
    assert all(psnr(moving(number), frame) > 28 for number, frame in whole)


@pytest.mark.parametrize(
    "text",
    [
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "ffconcat version 1.0\nfile local.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    ],
    ids=["session", "list", "playlist"],
)
def test_a_video_that_names_other_files_is_not_followed(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local.mp4").write_bytes(encoded(tmp_path, "mp4", "libx264"))
    path = video_file(dicom_file, text.encode(), "1.2.840.10008.1.2.4.102")
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.FAILED
    assert outcome.reason.startswith("FFmpeg cannot read the video: ")


@pytest.mark.parametrize("form", ["h264", "mp4", "mpegts", "mpeg"])
def test_a_video_declared_as_something_else(dicom_file: Factory, tmp_path: Path, form: str) -> None:
    stream = encoded(tmp_path, form, "libx264")
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.50"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    assert outcome.outputs[0].suffix == ".mp4"
    assert (
        "the pixels are a video, though declared as JPEG Baseline (Process 1)" in outcome.warnings
    )


def test_stills_declared_as_a_video(dicom_file: Factory, tmp_path: Path) -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = dicom_file(gray, [imagecodecs.jpegls_encode(gray)], "1.2.840.10008.1.2.4.102")
    outcome = convert(path, tmp_path / "out")
    assert outcome.outputs[0].suffix == ".png"
    assert "the pixels are JPEG-LS, though declared as" in outcome.warnings[0]


def test_an_absurd_number_of_frames_costs_nothing(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "h264", "libx264")
    elements = {"NumberOfFrames": 2_000_000_000, "FrameTime": 40}
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102", **elements)
    assert convert(path, tmp_path / "out").status == dc.Status.CONVERTED


def test_a_video_without_its_delimiter_is_whole(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "h264", "libx264")
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102")
    raw = path.read_bytes()
    path.write_bytes(raw[:-8])
    outcome = convert(path, tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED
    assert outcome.warnings == (
        "the video does not end as declared, but all of its fragments are there",
    )
    path.write_bytes(raw[:-500])
    reason = convert(path, tmp_path / "out").reason
    assert reason == "the file ends inside its video: it is truncated"


def test_a_codec_that_is_not_known(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "mp4", "libx264").replace(b"avc1", b"zzz1")
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102"), tmp_path / "out")
    assert outcome.reason == "its video is of a codec that FFmpeg does not know"


def test_sound_of_a_codec_that_is_not_known_loses_no_picture(
    dicom_file: Factory, tmp_path: Path
) -> None:
    stream = encoded(tmp_path, "mp4", "libx264", "ac3").replace(b"ac-3", b"zzz3")
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    assert outcome.warnings == ("the sound of the video cannot be kept",)
    assert len(shown(outcome.outputs[0])[0]) == FRAMES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
@pytest.mark.parametrize("sound", ["aac", ""])
def test_a_full_disk_costs_no_sound(
    dicom_file: Factory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    sound: str,
) -> None:
    def full(*_: Any) -> None:
        raise av.FFmpegError(number, os.strerror(number))

    stream = encoded(tmp_path, "mpegts", "libx264", sound)
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.104")
    monkeypatch.setattr(dc, "moved", full)
    outcome = convert(path, tmp_path / "out")
    assert (outcome.status, outcome.warnings) == (dc.Status.FAILED, ())
    assert outcome.stops == (number == errno.ENOSPC)
    assert os.strerror(number).lower() in outcome.reason.lower()


def test_sound_that_cannot_be_kept_loses_no_picture(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(dc, "audio_packets", refused)
    stream = encoded(tmp_path, "mpegts", "libx264", "aac")
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.104"), tmp_path / "out")
    assert outcome.warnings == ("the sound of the video cannot be kept",)
    assert len(shown(outcome.outputs[0])[0]) == FRAMES


@needs_corpus
@pytest.mark.parametrize(
    "path", sorted((CORPUS / "_synthetic_video").glob("*")), ids=lambda p: p.stem
)
def test_video_of_the_corpus(path: Path, tmp_path: Path) -> None:
    outcome = convert(path, tmp_path)
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    assert outcome.remark.startswith("50 frames, ")
    assert len(shown(outcome.outputs[0])[0]) == 50
    if not path.stem.startswith("mpeg2"):  # which is encoded anew
        with path.open("rb") as file:
            header = dc.read_header(file)
            assert header.pixels
            original = dc.FragmentReader(file, header.pixels).readall()
        (tmp_path / "original").write_bytes(original)
        slices = picture_units(outcome.outputs[0])
        assert slices == picture_units(tmp_path / "original")
        assert all(slices)


def test_fragments_read_as_one_file(dicom_file: Factory) -> None:
    stream = bytes(range(256)) * 40
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102", fragments=7)
    with path.open("rb") as file:
        header = dc.read_header(file)
        assert header.pixels
        video = dc.FragmentReader(file, header.pixels)
        assert video.read() == stream
        for start, length in ((0, 5), (1462, 8), (5000, 4000), (len(stream) - 3, 10)):
            video.seek(start)
            found = b""
            while part := video.read(length - len(found)):
                found += part
            assert found == stream[start : start + length]
        assert video.seek(-4, 2) == len(stream) - 4


def test_metadata_that_is_no_text_loses_no_video(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "mp4", "libx264").replace(b"VideoHandler", b"\xffideo\xfeandler")
    assert b"\xffideo" in stream
    outcome = convert(video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102"), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason


def test_options_that_a_video_cannot_follow_are_said(dicom_file: Factory, tmp_path: Path) -> None:
    stream = encoded(tmp_path, "mp4", "libx264")
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102")
    outcome = convert(path, tmp_path / "out", frames="1")
    assert outcome.warnings == ("frames of a video are not written one by one",)
    outcome = convert(path, tmp_path / "none", mp4=False)
    assert outcome.warnings == ("a video becomes an MP4 or nothing, and no MP4 was asked for",)
    assert [output.suffix for output in outcome.outputs] == [".txt"]


@pytest.mark.skipif(os.name == "nt", reason="such names are none on Windows")
@pytest.mark.parametrize(
    "folder",
    [
        "tcp:/127.0.0.1:PORT",
        "http:/127.0.0.1:PORT/x",
        "file:/x",
        "run:1",
        "T1:AX",
        "-x",
        "%03d",
        "pipe:",
        "\udcff\udc80",
    ],
)
def test_a_folder_that_looks_like_an_address_is_a_folder(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # that nobody is meant to call
        server.setblocking(False)
        folder = folder.replace("PORT", str(server.getsockname()[1]))
        inside = tmp_path / "in" / folder
        dicom_file(np.zeros((2, 16, 16), np.uint8), name=f"{folder}/clip.dcm")
        for form, codec in (("h264", "libx264"), ("mpeg2video", "mpeg2video")):
            stream = encoded(tmp_path, form, codec)
            video = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102")
            video.rename(inside / f"{codec}.dcm")
        (tmp_path / "out").mkdir()
        monkeypatch.chdir(tmp_path / "out")
        assert dc.main([str(tmp_path / "in"), "-o", ".", "-j", "1"]) == 0
        with pytest.raises(BlockingIOError):
            server.accept()
    found = {path.name for path in (tmp_path / "out" / folder).iterdir()}
    assert found == {
        *("clip.gif", "clip.mp4", "clip.txt"),
        *("libx264.mp4", "libx264.txt", "mpeg2video.mp4", "mpeg2video.txt"),
    }
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == len(found)


def test_ffmpeg_opens_through_one_function() -> None:
    module = ast.parse(Path(dc.__file__).read_text(encoding="utf-8"))
    calls = {
        f"{function.name}: {ast.unparse(call.func)}"
        for function in ast.walk(module)
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        if re.fullmatch(
            r"av\..*open|cv2\..*(imread|imwrite|Video).*|Image\.open|np\.(load|save)\w*",
            ast.unparse(call.func),
        )
    }
    assert calls == {"opened: av.open"}
    assert not re.search(r"from av\b|import av as", Path(dc.__file__).read_text(encoding="utf-8"))
