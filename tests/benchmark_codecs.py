"""Time what no converter can do without: python tests/benchmark_codecs.py INPUT OUTPUT.

Decodes and encodes the files of a folder in one process, with the codecs and the settings of the
program, and prints the time of these calls alone, as passed and as worked by processors, in s. RLE
is decoded by imagecodecs, which is faster than what the program trusts.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy.typing as npt
from benchmark_input import DISTINCT_FRAMES, DISTINCT_STILLS
from isal import isal_zlib
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

sys.path.insert(0, str(Path(__file__).parent.parent))

import dicom_converter as dc

Array = npt.NDArray[Any]
DECODERS: dict[str, Callable[[bytes], object]] = {
    JPEGLosslessSV1: imagecodecs.jpeg8_decode,
    JPEGBaseline8Bit: imagecodecs.jpeg8_decode,
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    RLELossless: lambda code: imagecodecs.dicomrle_decode(code, "<u2"),
}


@dataclass
class Spent:
    """Time that went by, in s."""

    seconds: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add the time of what is done inside."""
        seconds, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - seconds
        self.cpu += time.process_time() - cpu


def main(folder: Path, output: Path) -> Spent:
    """Return the time that the codecs take for the files of *folder*."""
    spent = Spent()
    pixels: dict[int, bytes] = {}  # what the PNG of a still holds, before it is deflated
    for number, path in enumerate(sorted(folder.iterdir())):
        ds = dcmread(path)
        frames = int(ds.get("NumberOfFrames", 1))
        decode_frames(ds, frames, spent)
        if frames > 1:
            encode_clip(rendered(path, 8), frames, output, spent)
            continue
        content = number % DISTINCT_STILLS
        if content not in pixels:
            pixels[content] = filtered(rendered(path, 16)[0], output / "still.png")
        with spent.counted():
            isal_zlib.compress(pixels[content], 2)
    return spent


def decode_frames(ds: Dataset, frames: int, spent: Spent) -> None:
    """Decode all *frames* of a file."""
    decode = DECODERS.get(ds.file_meta.TransferSyntaxUID)
    if decode:
        codes = list(generate_frames(ds.PixelData, number_of_frames=frames))
        with spent.counted():
            for code in codes:
                decode(code)


def rendered(path: Path, bits: int) -> list[Array]:
    """Return the pictures of *path*, of a clip those that differ."""
    with path.open("rb") as file:
        header = dc.read_header(file)
        assert header.pixels
        image = dc.image_pixel(header.data_set, header.pixels)
        look = dc.look_of(header, image, dc.Options())
        frames = islice(dc.stored_frames(header, header.pixels, image), DISTINCT_FRAMES)
        return [dc.render(look, number, *frame, bits) for number, frame in enumerate(frames)]


def filtered(picture: Array, path: Path) -> bytes:
    """Return what the program deflates of *picture*, by way of its PNG."""
    dc.write_png(path, picture)
    return zlib.decompressobj().decompress(path.read_bytes().partition(b"IDAT")[2])


def encode_clip(pictures: list[Array], count: int, output: Path, spent: Spent) -> None:
    """Encode *count* frames, *pictures* again and again, as GIF and as MP4."""
    encoders: list[tuple[str, str, Iterator[Any], dict[str, str]]] = [
        ("gif", "gif", dc.gif_frames(pictures), {}),
        ("mp4", "libx264", dc.mp4_frames(pictures), dc.MP4_OPTIONS),
    ]
    for suffix, codec, made, options in encoders:
        frames = list(made)
        with av.open(str(output / f"clip.{suffix}"), "w") as container, spent.counted():
            stream: Any = container.add_stream(codec, rate=10, options=options)
            stream.width, stream.height = frames[0].width, frames[0].height
            stream.pix_fmt = frames[0].format.name
            for number, frame in enumerate(islice(cycle(frames), count)):
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


if __name__ == "__main__":
    print(json.dumps(vars(main(Path(sys.argv[1]), Path(sys.argv[2])))))
