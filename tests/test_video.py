"""Video inside DICOM: copied packet by packet, or encoded anew, with its sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
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


def encoded(folder: Path, form: str, codec: str, sound: str = "", **options: str) -> bytes:
    """Return a stream of moving pictures at 25 fps in a container or bare, with *sound*."""
    path = folder / "stream"
    with av.open(str(path), "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, "yuv420p"
        audio: Any = container.add_stream(sound, rate=48000, layout="mono") if sound else None
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(moving(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            tone = np.sin(np.arange(1152 * 33) / 20) * 9000
            for at in range(0, len(tone), 1152):
                block = tone[at : at + 1152].astype(np.int16)[None]
                sample = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                sample.sample_rate, sample.pts = 48000, at
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


def packets(source: Any) -> list[bytes]:
    """Return the video packets of a file, as NAL units where it is H.264 or HEVC."""
    with av.open(source, "r") as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def shown(path: Path) -> tuple[list[Array], list[Fraction]]:
    with av.open(str(path), "r") as container:
        frames = list(container.decode(video=0))
    times = [
        frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base
    ]
    return [frame.to_ndarray(format="rgb24") for frame in frames], times


def nal_payloads(packet: bytes) -> list[bytes]:
    """Return the NAL units of a packet, with start codes or with lengths before them."""
    if packet[:4] == b"\0\0\0\1" or packet[:3] == b"\0\0\1":
        units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
        return [unit.rstrip(b"\0") for unit in units]
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
    stream = encoded(tmp_path, form, codec, bf="3")
    known = UID(f"{syntax}{'.1' if fragments > 1 and syntax < '1.2.840.10008.1.2.4.107' else ''}")
    outcome = convert(video_file(dicom_file, stream, known, fragments), tmp_path / "out")
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    mp4, text = outcome.outputs
    (tmp_path / "original").write_bytes(stream)
    ours, theirs = packets(str(mp4)), packets(str(tmp_path / "original"))
    assert [nal_payloads(packet)[-1] for packet in ours] == [
        nal_payloads(packet)[-1] for packet in theirs
    ]
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


@needs_corpus
@pytest.mark.parametrize(
    "path", sorted((CORPUS / "_synthetic_video").glob("*")), ids=lambda p: p.stem
)
def test_video_of_the_corpus(path: Path, tmp_path: Path) -> None:
    outcome = convert(path, tmp_path)
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    assert outcome.remark.startswith("50 frames, ")
    assert len(shown(outcome.outputs[0])[0]) == 50


def test_fragments_read_as_one_file(dicom_file: Factory) -> None:
    stream = bytes(range(256)) * 40
    path = video_file(dicom_file, stream, "1.2.840.10008.1.2.4.102", fragments=7)
    with path.open("rb") as file:
        header = dc.read_header(file)
        assert header.pixels
        video = dc.FragmentReader(header, header.pixels)
        assert video.read() == stream
        for start, length in ((0, 5), (1462, 8), (5000, 4000), (len(stream) - 3, 10)):
            video.seek(start)
            found = b""
            while part := video.read(length - len(found)):
                found += part
            assert found == stream[start : start + length]
        assert video.seek(-4, 2) == len(stream) - 4
