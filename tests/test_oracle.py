"""DCMTK as an independent renderer, over real files."""

from __future__ import annotations

import subprocess
import warnings
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import (
    CORPUS,
    PYDICOM_FILES,
    SAMPLES,
    Array,
    Factory,
    assert_decoders_agree,
    convert,
    needs_corpus,
    needs_program,
    read_png,
    still,
)
from PIL import Image
from pydicom.pixels.processing import apply_rescale, apply_windowing
from pydicom.uid import RLELossless

import dicom_converter as dc

# Stills on which DCMTK and we differ, each looked at, with the reason why ours is right.
DCMTK_EXCEPTIONS = {
    "rtdose_expb_1frame.dcm": "DCMTK swaps 32-bit big endian wrongly: rtdose_1frame.dcm is equal",
    "17166": "the stored window lies wholly beside the data: DCMTK shows plain black",
    "17196": "the stored window lies wholly beside the data: DCMTK shows plain black",
    "SC_ybr_full_422_uncompressed.dcm": "DCMTK's integers are 2 off the formula, ours at most 1",
    "SC_ybr_full_uncompressed.dcm": "DCMTK's integers are 2 off the formula, ours at most 1",
    "JPEGBaseline/SC_rgb_jpeg_lossy_gdcm.dcm": "labelled RGB, but the stream is YCbCr at 4:2:0",
    "TOSHIBA_J2K_SIZ1_PixRep0.dcm": "the stream is signed, the header and so DCMTK take it as not",
}
# What DCMTK cannot decode is handed to it decoded by pylibjpeg.
NOT_OF_DCMTK = (
    *dc.SYNTAXES_OF_STREAMS["JPEG-LS"],
    *dc.SYNTAXES_OF_STREAMS["JPEG 2000"],
)


def dcmtk_levels(path: Path, folder: Path) -> Array | None:
    """Return what DCMTK shows of *path*: first LUT, else first window, else min-max."""
    ds = pydicom.dcmread(path, force=True)
    if ds.file_meta.get("TransferSyntaxUID") in NOT_OF_DCMTK:
        try:
            list(ds.iterall())  # elements of VR UN, which DCMTK leaves aside, get their own
            ds.decompress(decoding_plugin="pylibjpeg", as_rgb=True)
            path = folder / "decoded.dcm"
            ds.save_as(path)
        except NotImplementedError:
            return None  # stray items among the elements, which pydicom cannot write
    shown = folder / "dcmtk.pnm"  # a PNG takes DCMTK several times as long
    deep = ds.get("SamplesPerPixel") == 1 or ds.get("BitsAllocated") != 8
    form = "+opw" if deep else "+op"  # of 16 or of 8 bits
    command = ["dcmj2pnm", form, *window_options(ds), str(path), str(shown)]
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
    """Return every file of pydicom and the corpus, each once."""
    roots = [PYDICOM_FILES, *([CORPUS] if CORPUS.is_dir() else [])]
    found = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    exceptions = tuple(f"/{name}" for name in DCMTK_EXCEPTIONS)
    kept = [path for path in found if not path.as_posix().endswith(exceptions)]
    return list({sha256(path.read_bytes()).digest(): path for path in kept}.values())


def levels_apart(ours: Array, theirs: Array) -> Array:
    """Return how far two pictures of 8 or 16 bits are apart, in levels of 8 bits."""
    scaled = [
        np.asarray(picture, float) / (np.iinfo(picture.dtype).max / 255)
        for picture in (ours, theirs)
    ]
    return np.abs(scaled[0] - scaled[1])


@needs_program("dcmj2pnm")
@pytest.mark.filterwarnings("ignore")
def test_stills_agree_with_dcmtk(tmp_path: Path) -> None:
    agreed: Counter[str] = Counter()
    differing = []
    for path in still_sources():
        outcome = convert(
            path, tmp_path / "out", native_pixels=True, gif=False, mp4=False, study=True
        )
        pngs = [output for output in outcome.outputs if output.suffix == ".png"]
        one = outcome.instance
        alone = one is not None and one.kind == "still" and one.texts["Modality"] != "SEG"
        theirs = dcmtk_levels(path, tmp_path) if pngs and alone else None
        if theirs is None:
            continue
        ours = read_png(pngs[0])
        if ours.shape != theirs.shape:
            differing.append((path.name, f"{ours.shape} {theirs.shape}"))
        elif (share := (levels_apart(ours, theirs) > 1).mean()) > 0.001:
            differing.append((path.name, f"{share:.4f}"))
        agreed["gray" if ours.ndim == 2 else "color"] += 1
    assert not differing
    assert agreed["gray"] >= (200 if CORPUS.is_dir() else 25)
    assert agreed["color"] >= (60 if CORPUS.is_dir() else 15)


def clip_sources() -> list[Path]:
    """Return the gray clips of the corpus that DCMTK decodes and that have no functional groups."""
    found = []
    for path in sorted(CORPUS.rglob("*")) if CORPUS.is_dir() else []:
        if path.is_file() and path.suffix != ".tsv":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
                syntax = ds.file_meta.get("TransferSyntaxUID")
                if (
                    (dc.number(ds, "NumberOfFrames") or 1) > 1
                    and "TotalPixelMatrixRows" not in ds
                    and str(ds.get("PhotometricInterpretation")).startswith("MONOCHROME")
                    and syntax
                    in (*dc.NATIVE_SYNTAXES, *dc.SYNTAXES_OF_STREAMS["JPEG"], RLELossless)
                    and "PerFrameFunctionalGroupsSequence" not in ds
                ):
                    found.append(path)
    return found


@needs_program("dcmj2pnm")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "path", [SAMPLES / "DCM00001", *clip_sources()], ids=lambda path: path.name
)
def test_gif_frames_agree_with_dcmtk(path: Path, tmp_path: Path) -> None:
    stored = "WindowCenter" in pydicom.dcmread(path, stop_before_pixels=True)
    option = ["+Wi", "1"] if stored else ["+Ww", "100", "300"]
    choice = 1 if stored else dc.Window(100, 300)
    outcome = convert(path, tmp_path, mp4=False, window=choice, native_pixels=True)
    frames = gif_frames(outcome.outputs[0])
    for number in sorted({1, len(frames) // 2 + 1, len(frames)}):
        shown = tmp_path / "dcmtk.pnm"
        command = ["dcmj2pnm", "+op", *option, "+F", str(number), str(path), str(shown)]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - an oracle
        assert done.returncode == 0, done.stderr
        assert (levels_apart(frames[number - 1], read_png(shown)) <= 1).mean() >= 0.999


def gif_frames(path: Path) -> list[Array]:
    """Return the gray levels of each frame."""
    frames = []
    with Image.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("L")))
    return frames


def flattened(ds: pydicom.Dataset, frame: int) -> pydicom.Dataset:
    """Return the rescale and the window of a frame's functional groups as a plain data set."""
    flat = pydicom.Dataset()
    flat.BitsStored, flat.PixelRepresentation = ds.BitsStored, ds.PixelRepresentation
    flat.PhotometricInterpretation = ds.PhotometricInterpretation
    groups = [ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence[frame]]
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for element in group.get(macro, [pydicom.Dataset()])[0]:
                flat[element.tag] = element
    return flat


@needs_corpus
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["6_1", "6_2", "6_3"])
def test_functional_groups_agree_with_pydicom(name: str, tmp_path: Path) -> None:
    (path,) = CORPUS.rglob(f"{name}.dcm")
    ds = pydicom.dcmread(path)
    outcome = convert(path, tmp_path, frames="all", gif=False, mp4=False, native_pixels=True)
    pngs = [output for output in outcome.outputs if output.suffix == ".png"]
    assert len(pngs) == ds.NumberOfFrames
    for frame, png in enumerate(pngs):
        flat = flattened(ds, frame)
        values = apply_rescale(ds.pixel_array[frame], flat)
        low, high = (
            float(flat.RescaleIntercept),
            float(flat.RescaleIntercept) + 4095 * float(flat.RescaleSlope),
        )
        expected = (apply_windowing(values, flat) - low) / (high - low) * 255
        assert (np.abs(read_png(png) / 257 - expected) <= 1).mean() >= 0.999


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(dicom_file: Factory, tmp_path: Path, function: str) -> None:
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    window = {"WindowCenter": 1500.5, "WindowWidth": 700, "VOILUTFunction": function}
    path = dicom_file(pixels, BitsStored=12, HighBit=11, **window)
    expected = apply_windowing(pixels, pydicom.dcmread(path)) / 4095 * 65535
    assert np.abs(still(path, tmp_path) - expected).max() <= 1


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
