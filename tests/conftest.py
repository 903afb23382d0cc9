"""What tests share: a factory of DICOM files, the corpus, and a run of the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

import dicom_converter as dc

Array = npt.NDArray[Any]
CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"
PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SAMPLES = Path(__file__).parent.parent / "dicom_data"

needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real files is absent")


def needs_program(name: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where *name* is not installed."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


def data_set(
    pixels: Array | None = None,
    codes: Sequence[bytes] = (),
    syntax: str = ExplicitVRLittleEndian,
    **elements: Any,
) -> Dataset:
    """Return a valid image of *pixels*, or of compressed *codes* that hold such pixels.

    *pixels* are ([frames,] rows, columns[, 3]).
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    known = pydicom.uid.JPEG2000 if syntax in dc.UID_NAMES else syntax
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(known)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID = "Test^Patient", "ID-0001"
    if pixels is not None:
        color = pixels.ndim > 2 and pixels.shape[-1] == 3
        frames = pixels.ndim - (3 if color else 2)
        bits = 8 * pixels.dtype.itemsize
        ds.Rows, ds.Columns = pixels.shape[frames : frames + 2]
        ds.SamplesPerPixel = 3 if color else 1
        ds.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
        if color:
            ds.PlanarConfiguration = 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        if frames:
            ds.NumberOfFrames = pixels.shape[0]
        ds.BurnedInAnnotation = "NO"
        ds.PixelData = encapsulate([bytes(c) for c in codes]) if codes else padded(pixels)
        ds["PixelData"].VR = "OB" if codes or bits == 8 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        elif isinstance(value, DataElement):
            ds.add(value)
        else:
            setattr(ds, keyword, value)
    return ds


def padded(pixels: Array) -> bytes:
    """Return the little-endian bytes of *pixels*, of even length."""
    raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return raw + b"\0" * (len(raw) % 2)


Factory = Callable[..., Path]


@pytest.fixture
def dicom_file(tmp_path: Path) -> Factory:
    """Return a function that writes what `data_set` makes and returns the path."""

    def write(*args: Any, name: str = "image.dcm", **kwargs: Any) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data_set(*args, **kwargs).save_as(path, enforce_file_format=True)
        if len(args) > 2 and args[2] in dc.UID_NAMES:  # pydicom writes none that it knows not
            path.write_bytes(with_syntax(path.read_bytes(), args[2]))
        return path

    return write


def with_syntax(raw: bytes, syntax: str) -> bytes:
    """Return a file with its (0002,0010) Transfer Syntax UID replaced by *syntax*."""
    at = raw.index(b"\x02\x00\x10\x00UI") + 8
    old = int.from_bytes(raw[at - 2 : at], "little")
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    group = int.from_bytes(raw[140:144], "little") + len(new) - old
    head = raw[:140] + group.to_bytes(4, "little") + raw[144 : at - 2]
    return head + len(new).to_bytes(2, "little") + new + raw[at + old :]


@dataclass(frozen=True)
class Run:
    """The result of a command line."""

    code: int
    out: str
    err: str
    output: Path

    def files(self) -> list[str]:
        """Return the outputs as sorted relative paths."""
        found = (path for path in self.output.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.output)) for path in found)


class Here:
    """Stands for `Workers`: converts in this process, where tests replace what they will."""

    def __init__(self, *_: Any) -> None: ...

    def room(self) -> int:
        """Return how many sources may be under way."""
        return 1

    def submit(self, source: dc.Source, options: dc.Options) -> Future[dc.Outcome]:
        """Convert *source* at once."""
        future: Future[dc.Outcome] = Future()
        future.set_result(dc.convert(source, options))
        return future

    def outcome(self, future: Future[dc.Outcome], _: dc.Source) -> dc.Outcome:
        """Return how the source of *future* ended."""
        return future.result()

    def close(self) -> None:
        """End nothing."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process."""
    monkeypatch.setattr(dc, "Workers", Here)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None) -> Callable[..., Run]:  # noqa: ARG001 - it acts
    """Return a function that runs the command line into a folder of its own, in this process."""

    def call(*arguments: Any, output: Path | None = None) -> Run:
        folder = output or tmp_path / "out"
        given = [str(argument) for argument in arguments]
        jobs = [] if {"-j", "--jobs"} & {*given} else ["-j", "1"]
        code = dc.main([*given, *jobs, "-o", str(folder)])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err, folder)

    return call


def convert(path: Path, output: Path, **options: Any) -> dc.Outcome:
    """Convert one file into *output*."""
    chosen = dc.Options(output=output, **options)
    candidate = dc.Source(path, named=True)  # a DICOMDIR itself, not the files it lists
    (source,) = dc.settle_names([candidate], output, set())
    return dc.convert(source, chosen)


def read_png(path: Path) -> Array:
    """Return the levels of a PNG as stored, colors in the order RGB."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    return picture[..., ::-1] if picture.ndim == 3 else picture


def still(path: Path, output: Path, **options: Any) -> Array:
    """Convert the still *path* and return the picture of its PNG."""
    outcome = convert(path, output, **options)
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    return read_png(outcome.outputs[0])


def decoded(path: Path) -> tuple[dc.Header, dc.ImagePixel, list[dc.StoredFrame]]:
    """Return the header of *path*, its image pixel module and all its frames as stored."""
    with path.open("rb") as file:
        header = dc.read_header(file)
        assert header.pixels
        image = dc.image_pixel(header.data_set, header.pixels)
        return header, image, list(dc.stored_frames(header, header.pixels, image))


def rendered(path: Path) -> list[Array]:
    """Return the pictures of *path* in 8 bits, as the encoders of clips get them."""
    header, image, frames = decoded(path)
    look = dc.look_of(header, image, dc.Options())
    gray = dc.settled_transforms(look.grayscale, lambda: frames, "auto")
    look = replace(look, grayscale=gray)
    return [dc.render(look, index, *frame, 8) for index, frame in enumerate(frames)]


def psnr(reference: Array, other: Array) -> float:
    """Return the peak signal to noise ratio of 8-bit pictures in dB."""
    error = np.mean((reference.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf


PYLIBJPEG_SYNTAXES = [
    syntax
    for family, syntaxes in dc.SYNTAXES_OF_STREAMS.items()
    for syntax in syntaxes
    if family != "JPEG XL"
]
LOSSLESS_SYNTAXES = (
    pydicom.uid.JPEGLossless,
    pydicom.uid.JPEGLosslessSV1,
    pydicom.uid.JPEGLSLossless,
    pydicom.uid.JPEG2000Lossless,
    pydicom.uid.HTJ2KLossless,
    pydicom.uid.HTJ2KLosslessRPCL,
)


def assert_decoders_agree(path: Path, lossy_difference: int) -> bool:
    """Hold the first frame of *path* by both decoders together; False unless both decode it."""
    with path.open("rb") as file:
        header = dc.read_header(file)
        if header.pixels is None or header.transfer_syntax not in PYLIBJPEG_SYNTAXES:
            return False
        image = dc.image_pixel(header.data_set, header.pixels)
        frames = dc.stored_frames(header, header.pixels, image)
        fast, slow = (
            first_frame(frames, f"decoded_with_{name}") for name in ("imagecodecs", "pylibjpeg")
        )
    if fast is None or slow is None:
        return False
    difference = np.abs(fast[0].astype(np.int64) - slow[0].astype(np.int64)).max()
    lossless = header.transfer_syntax in LOSSLESS_SYNTAXES
    assert difference <= (0 if lossless else lossy_difference)
    assert fast[1] == slow[1]
    return True


def first_frame(frames: dc.StoredFrames, plugin: str) -> tuple[Array, str] | None:
    """Decode the first of *frames* with one plugin alone; None where it cannot."""

    def refused(*_: Any) -> None:
        raise NotImplementedError

    with pytest.MonkeyPatch.context() as patch:
        for name in {"decoded_with_imagecodecs", "decoded_with_pylibjpeg"} - {plugin}:
            patch.setattr(dc, name, refused)
        try:
            return next(iter(frames))
        except dc.ConversionError:
            return None
