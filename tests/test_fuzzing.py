"""Mutated files of every family of codecs: each ends with a reason or a picture, and no other way.

`python tests/test_fuzzing.py 2000 [SEED]` converts so many, in worker processes.
"""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
from conftest import PYDICOM_FILES, Array, data_set, with_syntax
from pydicom import uid
from pydicom.encaps import encapsulate

import dicom_converter as dc

GRAY = (np.add.outer(np.arange(24), np.arange(32)) * 70).astype(np.uint16)
COLOR = np.stack([GRAY // 20, GRAY // 30, GRAY // 40], axis=-1).astype(np.uint8)
IN_CI = 240


def saved(pixels: Array, codes: list[bytes], syntax: str, **elements: object) -> bytes:
    """Return a file of one or several frames."""
    file = io.BytesIO()
    even = [bytes(code) + bytes(len(code) % 2) for code in codes]
    data_set(pixels, even, syntax, **elements).save_as(file, enforce_file_format=True)
    known = syntax not in dc.UID_NAMES  # pydicom writes none that it does not know
    return file.getvalue() if known else with_syntax(file.getvalue(), syntax)


def deflated(raw: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(raw) + deflate.flush()


def compressed(syntax: str, encode: Callable[[Array], Any], pixels: Array = GRAY) -> bytes:
    frames = np.stack([pixels, pixels[::-1]])
    return saved(frames, [bytes(encode(frame)) for frame in frames], syntax)


def rle() -> bytes:
    ds = data_set(GRAY)
    ds.compress(uid.RLELossless)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def palette() -> bytes:
    table = np.arange(256, dtype="<u2").tobytes()
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color in ("Red", "Green", "Blue"):
        elements[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        elements[f"{color}PaletteColorLookupTableData"] = table
    return saved(COLOR[..., 0], [], uid.ExplicitVRLittleEndian, **elements)


def video(form: str, codec: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video")
        with av.open(str(path), "w", format=form) as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for number in range(6):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64), number * 40, np.uint8), "gray")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
        content = path.read_bytes()
    still = np.zeros((48, 64, 3), np.uint8)
    pixels = encapsulate([content + bytes(len(content) % 2)], has_bot=False)
    return saved(still, [b"00"], "1.2.840.10008.1.2.4.102", PixelData=pixels, NumberOfFrames=6)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/IM1", saved(GRAY, [], uid.ExplicitVRLittleEndian))
        packed.writestr("notes", "not DICOM")
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    """Return a small file of each family, by name."""
    lossless: Any = {"lossless": True, "bitspersample": 12}
    explicit = saved(np.stack([GRAY, GRAY]), [], uid.ExplicitVRLittleEndian)
    return {
        "explicit": explicit,
        "implicit": saved(GRAY, [], uid.ImplicitVRLittleEndian),
        "big": saved(GRAY, [], uid.ExplicitVRBigEndian),
        "deflated": saved(GRAY, [], uid.DeflatedExplicitVRLittleEndian),
        "bare": explicit[132 + 12 + int.from_bytes(explicit[140:144], "little") :],
        "rle": rle(),
        "jpeg": compressed(uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode, COLOR),
        "lossless": compressed(uid.JPEGLossless, lambda f: imagecodecs.jpeg8_encode(f, **lossless)),
        "jpegls": compressed(uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        "jpeg2k": compressed(uid.JPEG2000, lambda f: imagecodecs.jpeg2k_encode(f, level=0)),
        "jp2": compressed(
            uid.JPEG2000, lambda f: imagecodecs.jpeg2k_encode(f, level=0, codecformat="jp2")
        ),
        "htj2k": compressed(uid.HTJ2KLossless, imagecodecs.htj2k_encode),
        "jpegxl": compressed(dc.JPEG_XL_SYNTAXES[0], imagecodecs.jpegxl_encode),
        "frame": compressed(dc.DEFLATED_IMAGE_FRAME, lambda f: deflated(f.tobytes())),
        "encapsulated": compressed(dc.ENCAPSULATED_UNCOMPRESSED, lambda f: f.tobytes()),
        "h264": video("h264", "libx264"),
        "mp4": video("mp4", "libx264"),
        "mpeg2": video("mpegts", "mpeg2video"),
        "report": (PYDICOM_FILES / "test-SR.dcm").read_bytes(),
        "palette": palette(),
        "enhanced": (PYDICOM_FILES / "liver_1frame.dcm").read_bytes(),
        "zip": archive(),
    }


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """Return *raw* with some bytes changed, taken out, repeated or cut off."""
    content = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(content))
        length = chance.choice((1, 2, 4, 16, 100))
        match chance.randrange(6):
            case 0:
                content[at] ^= 1 << chance.randrange(8)
            case 1:
                content[at : at + length] = chance.randbytes(length)
            case 2:
                content[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f")) * length
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length]
            case 5 if chance.random() < 0.3:
                del content[at:]
        content = content or bytearray(b"\0")
    return bytes(content)


def write_mutations(folder: Path, count: int, seed: int) -> None:
    """Write *count* mutated files, each family in turn."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    families = list(seeds().items())
    folder.mkdir(parents=True)
    for number in range(count):
        name, raw = families[number % len(families)]
        suffix = ".zip" if name == "zip" else ""
        path = folder / f"{number:05}-{name}{suffix}"
        path.write_bytes(mutated(raw, chance))


def check_run(folder: Path, count: int, seed: int) -> Counter[str]:
    """Convert *count* mutated files and hold the run to its promises; return how they ended."""
    write_mutations(folder / "in", count, seed)
    arguments = [sys.executable, dc.__file__, "in", "-o", "out", "-j", "2", "-q"]
    ended = subprocess.run(  # noqa: S603 - our own script
        [*arguments, "--report", "report.jsonl", "--timeout", "60"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-2000:]
    rows = [json.loads(line) for line in (folder / "report.jsonl").read_text("utf-8").splitlines()]
    named = {Path(row["path"]).relative_to("in").parts[0] for row in rows}
    assert named == {path.name for path in (folder / "in").iterdir()}
    written = {Path(output) for row in rows for output in row["outputs"]}
    found = {path.resolve() for path in (folder / "out").rglob("*") if path.is_file()}
    assert found == written
    for row in rows:
        assert not re.search(r"\(\w*(Error|Exception|Interrupt)\)", row["reason"]), row
        assert "took longer" not in row["reason"], row
        assert "crashed" not in row["reason"], row
        assert (row["status"] == "failed") <= bool(row["reason"]), row
        suffixes = {Path(output).suffix for output in row["outputs"]}
        assert row["status"] != "failed" or suffixes <= {".txt"}, row
    return Counter(row["status"] for row in rows)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("family", seeds())
def test_every_seed_converts(family: str, tmp_path: Path) -> None:
    path = tmp_path / (family + ".zip" * (family == "zip"))
    path.write_bytes(seeds()[family])
    assert dc.main([str(path), "-q", "-j", "1", "-o", str(tmp_path / "out")]) == 0


def test_mutated_files(tmp_path: Path) -> None:
    ends = check_run(tmp_path, IN_CI, seed=20261122)
    assert ends["failed"] > IN_CI // 10
    assert ends["converted"] > IN_CI // 10


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        chosen = int(sys.argv[2]) if len(sys.argv) > 2 else 1
        print(dict(check_run(Path(temporary), number, chosen)), f"{time.monotonic() - began:.0f} s")
