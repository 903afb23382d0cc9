"""Convert DICOM as a first script does: python tests/benchmark_naive.py INPUT OUTPUT.

What `tests/benchmark.py` measures the program against: pydicom's `pixel_array` (with pylibjpeg),
pydicom's window, Pillow for PNG and GIF, PyAV for MP4; file after file, and each whole in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut


def convert(path: Path, output: Path) -> None:
    """Write PNG, or GIF and MP4, and TXT of the file *path*."""
    ds = pydicom.dcmread(path)
    (output / f"{path.stem}.txt").write_text(str(ds), encoding="utf-8")
    pixels = ds.pixel_array
    top = 255 if "NumberOfFrames" in ds else 65535
    if ds.SamplesPerPixel == 1:
        values = apply_voi_lut(apply_modality_lut(pixels, ds), ds).astype(np.float64)
        least, greatest = values.min(), values.max()
        pixels = ((values - least) / (greatest - least) * top).astype(np.uint16)
    if top == 65535:
        Image.fromarray(pixels).save(output / f"{path.stem}.png")
        return
    pictures = [Image.fromarray(frame.astype(np.uint8)) for frame in pixels]
    gif = output / f"{path.stem}.gif"
    pictures[0].save(gif, save_all=True, append_images=pictures[1:], duration=100, loop=0)
    with av.open(str(output / f"{path.stem}.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).iterdir()):
        convert(file, Path(sys.argv[2]))
