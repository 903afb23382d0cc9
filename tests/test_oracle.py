"""DCMTK as an independent renderer, over real files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import (
    CORPUS,
    PYDICOM_FILES,
    Array,
    assert_decoders_agree,
    convert,
    needs_corpus,
    needs_program,
    read_png,
)

import dicom_converter as dc

# Stills on which DCMTK and we differ, each looked at, with the reason why ours is right.
DCMTK_EXCEPTIONS = {
    "rtdose_expb_1frame.dcm": "DCMTK swaps 32-bit big endian wrongly: rtdose_1frame.dcm is equal",
    "17166": "the stored window lies wholly beside the data: DCMTK shows plain black",
    "17196": "the stored window lies wholly beside the data: DCMTK shows plain black",
    "TOSHIBA_J2K_SIZ1_PixRep0.dcm": "the stream is signed, the header and so DCMTK take it as not",
}
# What DCMTK cannot decode is handed to it decoded by pylibjpeg.
NOT_OF_DCMTK = (
    *dc.JPEG_LS_SYNTAXES,
    *dc.JPEG_2000_SYNTAXES,
)


def dcmtk_levels(path: Path, folder: Path) -> Array | None:
    """Return what DCMTK shows of *path*: first LUT, else first window, else min-max."""
    ds = pydicom.dcmread(path, force=True)
    if ds.file_meta.get("TransferSyntaxUID") in NOT_OF_DCMTK:
        try:
            list(ds.iterall())  # elements of VR UN, which DCMTK leaves aside, get their own
            ds.decompress(decoding_plugin="pylibjpeg", as_rgb=False)
            path = folder / "decoded.dcm"
            ds.save_as(path)
        except NotImplementedError:
            return None  # stray items among the elements, which pydicom cannot write
    shown = folder / "dcmtk.png"
    command = ["dcmj2pnm", "+on2", *window_options(ds), str(path), str(shown)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - an oracle
    return read_png(shown) if done.returncode == 0 else None


def window_options(ds: pydicom.Dataset) -> list[str]:
    """Return the options that make DCMTK use what *ds* stores, or min-max without the padding."""
    if ds.get("VOILUTSequence"):
        return ["+Wl", "1"]
    if ds.get("WindowCenter") not in (None, ""):
        return ["+Wi", "1"]
    if "PixelPaddingValue" not in ds:
        return ["+Wm"]
    stored = ds.pixel_array.astype(int)
    values = stored[(stored - ds.PixelPaddingValue) % 65536 != 0]  # SS and US get mixed up
    values = values * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    low, high = values.min(), values.max()
    return ["+Ww", str((low + high + 1) / 2), str(high - low + 1)]


def still_sources() -> list[Path]:
    """Return every file of pydicom and the corpus."""
    roots = [PYDICOM_FILES, *([CORPUS] if CORPUS.is_dir() else [])]
    found = (path for root in roots for path in sorted(root.rglob("*")))
    return [path for path in found if path.is_file() and path.name not in DCMTK_EXCEPTIONS]


@needs_program("dcmj2pnm")
@pytest.mark.filterwarnings("ignore")
def test_gray_stills_agree_with_dcmtk(tmp_path: Path) -> None:
    agreed, differing = 0, []
    for path in still_sources():
        outcome = convert(path, tmp_path / "out", native_pixels=True)
        pngs = [output for output in outcome.outputs if output.suffix == ".png"]
        ours = read_png(pngs[0]) if pngs else np.empty((0, 0, 3))
        if ours.ndim == 3:
            continue
        theirs = dcmtk_levels(path, tmp_path)
        if theirs is None:
            continue
        if ours.shape != theirs.shape:
            differing.append((path.name, f"{ours.shape} {theirs.shape}"))
            continue
        far = np.abs(ours.astype(int) - theirs.astype(int)) > 257
        if far.mean() > 0.001:
            differing.append((path.name, f"{far.mean():.4f}"))
        agreed += 1
    assert not differing
    assert agreed >= 30


# Sharp color edges: libjpeg-turbo blends the halved chroma between pixels, as DCMTK does.
CHROMA_EXCEPTIONS = {"TestPattern_JPEG-Baseline_YBR422.dcm"}


@needs_corpus
@pytest.mark.filterwarnings("ignore")
def test_the_decoders_agree_over_the_corpus() -> None:
    compared = 0
    for path in sorted(CORPUS.rglob("*")):
        if path.is_file() and path.name not in CHROMA_EXCEPTIONS:
            try:
                compared += assert_decoders_agree(path, lossy_difference=3)
            except dc.ConversionError:
                continue
    assert compared >= 95
