#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "av>=17.1,<20",
#     "dicom-anonymizer>=2.1,<3",
#     "imagecodecs>=2026.3.6,<2027",
#     "isal>=1.7",
#     "numpy>=2,<3",
#     "opencv-python-headless>=5,<6",
#     "pillow>=12,<14",
#     "pydicom>=3.0.2,<4",
#     "pylibjpeg>=2.1,<3",
#     "pylibjpeg-libjpeg>=2.3,<3",
#     "pylibjpeg-openjpeg>=2.5,<3",
#     "rich>=15,<16",
# ]
# ///
"""Convert DICOM images to PNG, GIF, MP4 and TXT.

usage: dicom_converter.py [options] [input_path ...]

  dicom_converter.py scan.dcm                     one file
  dicom_converter.py /media/cdrom -o my_scans     a whole CD, folders and all
  dicom_converter.py /media/cdrom --study         with a page to look at everything
  dicom_converter.py a.dcm ct/ --window lung      several inputs, another window
  dicom_converter.py /archive -o /pictures --report run.csv --resume

input and output:
  input_path           files, folders, zip archives, a DICOMDIR, or - for paths
                       from standard input (default: dicom_data)
  -o, --output FOLDER  where to (default: output)

pictures:
  --8bit               8-bit PNG instead of 16-bit
  --no-mp4             GIF only for clips
  --no-gif             MP4 only for clips
  --fps FPS            frames a second of clips, or auto: as recorded (default: 10)
  --window WINDOW      gray levels: auto (default: the first table or window
                       stored, else full), full (min-max), 2 (the second
                       stored), 40,400 (center, width), a stored name, or one of
                       CT: abdomen, angio, bone, brain, liver, lung,
                       mediastinum, pelvis, soft tissue, spine, stroke,
                       subdural, temporal bone
  --frames LIST        write these frames of a clip as PNG too: all, middle, 1,
                       10-20, or several by commas
  --no-overlays        leave out overlay planes
  --no-shutter         show what the display shutter hides
  --native-pixels      do not resample pixels that are not square
  --no-names           leave out what may tell who the patient is: texts,
                       documents, overlays
  --study              make a clip of each series too, apply presentation states,
                       and make a page, index.html, that shows everything

archives:
  -j, --jobs N         convert N files at once, each in a process of its own
                       (default: as many as there are cores)
  --timeout SECONDS    give up a file that takes longer (default: 600; 0: never)
  --resume             leave out what is done, with the same options
  --report FILE        add a row for each file to FILE (.csv or .jsonl)
  --dask ADDRESS       convert on a Dask cluster: tcp://HOST:PORT of its
                       scheduler, or a scheduler file

other:
  -q, --quiet          print errors only
  --debug              print a traceback with unexpected errors
  --check              print what this installation can decode and encode
  --version            print the version
  -h, --help           print this help

Exit codes: 0 all converted or rightly skipped, 1 something failed or nothing was
found, 2 usage, 130 interrupted.
For personal medical archive management only, not for diagnosis.
"""

#   argv -> Options -> sources (walked, names settled) -> convert one source -> Outcome -> exit code
#   convert:  header -> how to show it (frozen) -> table
#             frames, one at a time -> through the table -> PNG | GIF + MP4;   header -> TXT, last

from __future__ import annotations

import gc
import signal
import sys

__version__ = "2.0.0"

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to tidy up yet
    if __doc__ and sys.argv[1:] in (["-h"], ["--help"], ["--version"]):
        told = f"dicom_converter.py {__version__}"
        print(told if sys.argv[1] == "--version" else __doc__.rstrip())
        sys.exit()  # before libraries are imported, which takes longer
    gc.disable()  # nothing of these is garbage, now or at the end: looking takes a sixth of a start

import codecs
import csv
import ctypes
import errno
import io
import json
import logging
import lzma
import math
import multiprocessing
import os
import pickle
import re
import secrets
import shutil
import socket
import sqlite3
import stat
import struct
import tempfile
import threading
import time
import traceback
import unicodedata
import warnings
import zipfile
import zlib
from argparse import ArgumentParser, ArgumentTypeError
from array import array
from base64 import b64encode
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, MutableSequence, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction
from functools import cache, lru_cache, partial
from hashlib import sha256
from heapq import merge
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import version
from itertools import accumulate, chain, count, cycle, groupby, islice, pairwise, repeat
from operator import itemgetter
from pathlib import Path, PurePath, PurePosixPath
from queue import Queue, SimpleQueue
from typing import Any, BinaryIO, Literal, NoReturn, TextIO, TypeVar, cast
from urllib.parse import quote

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # processes are forked, with no threads there
PYTHON = f'"{sys.executable}"' if " " in str(sys.executable) else sys.executable or "python"
CURE = f"{PYTHON} -m pip install -r requirements.txt"

try:
    if __name__ == "__main__":
        # As the module of its name: Python keeps its bytecode, and workers and clusters import it.
        script = Path(__file__).resolve()
        named = None if script.stem in sys.modules else PathFinder.find_spec(script.stem)
        if named and Path(named.origin or "").resolve() == script:
            globals().update(__spec__=None, __file__=None)  # by which workers would run it again
            sys.exit(import_module(script.stem).command())
    import cv2
    import imagecodecs
    import numpy as np
    import numpy.typing as npt
    from isal import isal_zlib
    from pydicom import uid, valuerep
    from pydicom.charset import CODES_TO_ENCODINGS, ESC, default_encoding, python_encoding
    from pydicom.config import disable_value_validation
    from pydicom.datadict import dictionary_description, get_entry, get_private_entry
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.errors import BytesLengthException
    from pydicom.filereader import read_dataset
    from pydicom.pixels.decoders import rle
    from pydicom.pixels.processing import apply_icc_profile, create_icc_transform
    from pydicom.tag import BaseTag, Tag
    from pydicom.uid import UID
    from pydicom.valuerep import BYTES_VR, DT, STR_VR
    from pydicom.values import converters
except ImportError as missing:
    if __name__ != "__main__":
        raise
    sys.exit(f"dicom_converter: a library is missing or broken ({missing}): {CURE}")

# The C library learns from it, as it is freed, not to give such memory back to the system, which
# would clear each page anew for the arrays of the next file: a tenth of the time of a slice.
np.empty(31 << 20, np.uint8)

# --- Constants ------------------------------------------------------------------------------------

# Those of Path raise on links in circles.
is_folder, exists, realpath = os.path.isdir, os.path.exists, os.path.realpath

STDIN = Path("-")
DEFAULT_INPUT = Path("dicom_data")
DEFAULT_FRAME_RATE = Fraction(10)
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
PACKED_SUFFIXES = (".7z", ".bz2", ".gz", ".iso", ".rar", ".tar", ".tgz", ".xz", ".zst")
DOCUMENT_SUFFIXES = {
    "application/pdf": ".pdf",
    "text/xml": ".xml",  # CDA
    "application/hl7-cda+xml": ".xml",
    "model/stl": ".stl",
    "application/sla": ".stl",
    "model/obj": ".obj",
    "model/mtl": ".mtl",
}
OUTPUT_SUFFIXES = (".png", ".gif", ".mp4", *sorted({*DOCUMENT_SUFFIXES.values(), ".bin"}), ".txt")
TEMPORARY_PREFIX = ".dicom_converter-"
TEXT_BEGINS, TEXT_ENDS = "DICOM ", "END\n"

# Bounds on what a file may ask for; each is far above what any device writes.
MAX_FRAME_BYTES = 1 << 31
KEEP_DECODED_BYTES = 64 << 20
# What is not printable to Python but belongs to texts: other blanks, and joiners of letters.
HARMLESS = "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000\u200c\u200d"
LEFT_OUT = "left out"
FREE_TEXTS = ("PN", "AE", "LT", "ST", "UC", "UT", "UR", "UN")  # VRs; UN: in no dictionary
MAX_NESTING_SHOWN = 32  # sequences in sequences
RECURSIONS = 10_000  # of which pydicom needs several for each level of nesting
MAX_FRAME_RATE = 1000
MIN_DURATION, MAX_DURATION = Fraction(1, MAX_FRAME_RATE), Fraction(600)  # s, GIF ends at 655
RATE_HINT = "`--fps auto` keeps it"
MIN_GIF_DURATION = Fraction(2, 100)  # s; browsers show less as 10/100

JPEG_XL_SYNTAXES = tuple(UID(f"1.2.840.10008.1.2.4.{number}") for number in (110, 111, 112))
ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")
DEFLATED_IMAGE_FRAME = UID("1.2.840.10008.1.2.8.1")
LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
# Vertical first.
SPACINGS = tuple(f"{of}PixelSpacing" for of in ("", "Imager", "NominalScanned", "Presentation"))
NATIVE_SYNTAXES = uid.UncompressedTransferSyntaxes
ITEM_HEAD_BYTES = 8  # tag and length

# What pydicom raises on values that are not of their type.
UNREADABLE = (BytesLengthException, ValueError, TypeError, LookupError, AttributeError,
              OverflowError, RuntimeError, EOFError, OSError, struct.error, zlib.error)  # fmt: skip

# (center, width) in Hounsfield units, by the names under which viewers offer them.
CT_WINDOWS = {
    "abdomen": (50, 400), "angio": (300, 600), "bone": (400, 1800), "brain": (40, 80),
    "liver": (60, 160), "lung": (-600, 1500), "mediastinum": (50, 350), "pelvis": (40, 400),
    "soft tissue": (50, 350), "spine": (50, 250), "stroke": (35, 40), "subdural": (75, 215),
    "temporal bone": (600, 2800),
}  # fmt: skip
MIN_PIXEL_ASPECT_SHOWN = 1.01  # nearer to square than anyone sees


# --- Types ----------------------------------------------------------------------------------------

Array = npt.NDArray[Any]
Fact = tuple[str, str]  # label, text
Parts = tuple[str, ...]  # the folders that hold a file, by their names, an input by its path
Palette = tuple["LookupTable", ...]  # red, green, blue (PS3.3 C.7.9)
Transforms = tuple["GrayscaleTransform", ...]  # one for each frame, or one for all
Rgb = tuple[float, float, float]  # red, green, blue, 0..1
Ink = Sequence[float]  # a color as OpenCV takes it: gray, or red, green, blue, 0..255
StoredFrame = tuple[Array, str]  # stored values, photometric interpretation
Reference = tuple[str, tuple[int, ...]]  # UID of an instance; its frames from 1, () for all
Tile = tuple[float, ...]  # segment or path, focal plane; frame, top, left, from 0
FileState = tuple[int, int, int]  # inode, size in bytes, time of the last change in ns


class ConversionError(Exception):
    """Why a file cannot be converted: one line, with the cure where there is one."""


class NotDicomError(ConversionError):
    """The file is not DICOM: a skip in a folder, a failure when it was named."""


class NoWindowError(ConversionError):
    """The image lacks the window that was asked for."""


class TakenError(ConversionError):
    """Something else has come to where the outputs go."""


class NothingInsideError(NotDicomError):
    """The file holds nothing, or begins with zeros only: one with a name of DICOM is lost."""


class NotAnImageError(ConversionError):
    """A DICOM file that has no picture: its text is all there is to write."""


class Status(StrEnum):
    """How one source ended."""

    CONVERTED = "converted"
    TEXT_ONLY = "text only"
    DONE = "done before"
    WAITING = "for what it refers to"  # until all of that is converted
    SKIPPED = "skipped"
    FAILED = "failed"


class VoiFunction(StrEnum):
    """(0028,1056) VOI LUT Function."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


def warn(message: str) -> None:
    """Note a repair or a fallback in the file at hand: it ends up in the outcome's warnings."""
    warnings.warn(message, stacklevel=3)


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window in modality units (PS3.3 C.11.2)."""

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR
    explanation: str = ""
    number: int = 0  # among the stored ones, from 1


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """Under which pictures come out differently; *frame_rate* in 1/s, None keeps the file's."""

    png_bits: int = 16
    gif: bool = True
    mp4: bool = True
    frame_rate: Fraction | None = DEFAULT_FRAME_RATE
    window: WindowChoice = "auto"
    frames: str | None = None
    overlays: bool = True
    shutter: bool = True
    native_pixels: bool = False
    names: bool = True  # and what else tells of the patient


@dataclass(frozen=True, slots=True)
class Options(PictureOptions):
    """What the command line asks for."""

    output: Path = Path("output")
    quiet: bool = False
    debug: bool = False
    check: bool = False
    study: bool = False
    jobs: int = 1
    timeout: float = 600.0  # s for one source; 0: any
    resume: bool = False
    report: Path | None = None
    dask: str = ""
    threads: int = 0  # of an encoder; 0: as many as there are cores
    folder: Path = Path()  # in which paths begin, where that is another machine's


@dataclass(frozen=True, slots=True)
class Source:
    """One file to convert, and the folder and name that its outputs get once these are settled."""

    path: Path
    folder: Path = Path()
    name: str = ""
    named: bool = False  # on the command line, so it must be DICOM
    problem: str = ""  # why it cannot even be opened
    repeated: bool = False  # which is that another way led there before
    member: str = ""  # of the zip archive at *path*
    entry: int = 0  # of its list: names may be there twice
    listed: bool = False  # in a DICOMDIR

    @property
    def sources(self) -> tuple[Source, ...]:
        """All files of this work."""
        return (self,)

    @property
    def own_name(self) -> str:
        """The file's name in its archive or folder."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def label(self) -> str:
        """The file as messages name it."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)


@dataclass(frozen=True, slots=True)
class Slice:
    """A file that a work of round two shows: a still of a series, what a state refers to."""

    source: Source
    identity: str  # of what it was in round one
    place: str = ""  # where it lies, in words
    duration: Fraction | None = None  # s; None where that is not recorded


@dataclass(frozen=True, slots=True)
class Series:
    """Stills that make one clip, in this *order*; its name is settled last, as that of a source."""

    slices: tuple[Slice, ...]
    order: str
    burned_in: bool = False
    notes: tuple[str, ...] = ()
    uid: str = ""  # with its patient, and its number among the clips of one
    folder: Path = Path()
    name: str = ""

    @property
    def sources(self) -> tuple[Source, ...]:
        """All files of this work."""
        return tuple(one.source for one in self.slices)

    @property
    def own_name(self) -> str:
        """The name that its outputs get."""
        return self.name

    @property
    def label(self) -> str:
        """The series as messages name it."""
        return f"{PurePath(self.sources[0].label).parent}: {self.name}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture or clip that a presentation state asks for, or a list of key images names."""

    slice: Slice
    frame: int | None  # from 0, None for all
    outputs: tuple[Path, ...]  # of the file
    suffix: str = ""  # to the name of the state


@dataclass(frozen=True, slots=True)
class Presentation(Source):
    """A presentation state or a list of key images, with what it refers to among the inputs."""

    shown: tuple[Shown, ...] = ()
    notes: tuple[str, ...] = ()  # on what is not shown
    burned_in: bool = False
    frames: int = 1  # of its longest clip

    @property
    def sources(self) -> tuple[Source, ...]:
        """All files of this work."""
        return self, *dict.fromkeys(one.slice.source for one in self.shown)


Work = Source | Series


@dataclass(frozen=True, slots=True)
class Instance:
    """What a file says that it is and belongs to (PS3.3 A.1.2)."""

    kind: str  # still, clip, slide, video, curve or state, "" without a picture
    frames: int
    durations: tuple[Fraction, ...]  # as recorded, in s, where these vary
    burned_in: bool  # names, or perhaps
    # What follows is read where somebody asks for it.
    texts: dict[str, str] = field(default_factory=dict)  # by keyword, cut
    facts: tuple[Fact, ...] = ()  # of the first frame
    stack: str = ""  # tells apart what cannot be in one clip
    identity: str = ""  # a check sum
    encoding: str = ""  # its transfer syntax
    series_number: int | None = None
    number: int | None = None
    normal: tuple[float, ...] = ()  # of the slice, () where it cannot be right
    position: tuple[float, ...] = ()  # in mm, as it stands
    location: float | None = None
    moments: tuple[float | None, ...] = ()  # of `MOMENTS`; the last, when it was taken, in s
    refers: tuple[Reference, ...] = ()
    praises: bool | None = None  # what it refers to, False: lists it; None: no list of key images


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one work ended, for the terminal, the exit code and whoever calls `convert`."""

    source: Work
    status: Status
    outputs: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = ""
    remark: str = ""
    facts: tuple[Fact, ...] = ()  # on the picture, for the TXT
    instance: Instance | None = None
    frames: int = 0
    transfer_syntax: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    stops: bool = False  # the run, for nothing more can be written


@dataclass(frozen=True, slots=True)
class PixelLocation:
    """Where the pixels lie: *offset* and *length* of the value in bytes, item headers included."""

    keyword: str
    vr: str
    offset: int
    length: int
    fragments: int | None = None  # None where the value is not encapsulated
    starts: Sequence[int] = ()  # of their values in the file, and where one more would have its
    begun: Sequence[int] = ()  # the numbers of the fragments that begin a code stream
    whole: bool = True
    cut: bool = False  # inside a fragment
    head: bytes = b""  # of what the fragments hold

    def joined(self, number: int) -> int:
        """Return where fragment *number* begins in what all of them hold."""
        return self.starts[number] - self.starts[0] - ITEM_HEAD_BYTES * number


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed file without its pixels; *file* is open, inflated where it was deflated."""

    file: BinaryIO
    file_meta: Dataset
    data_set: Dataset
    pixels: PixelLocation | None
    transfer_syntax: UID
    size: int  # of the file, in bytes
    truncated: str = ""  # the element that the file ends in


@dataclass(frozen=True, slots=True)
class ImagePixel:
    """The Image Pixel module (PS3.3 C.7.6.3), repaired where files leave things out."""

    rows: int
    columns: int
    number_of_frames: int
    samples_per_pixel: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    planar_configuration: int
    matrix: tuple[int, int]  # rows and columns of the picture that the frames are tiles of
    tiled: bool = False  # whether that is stated

    @property
    def kind(self) -> str:
        """Still, clip or slide, whose frames are but tiles of pictures (PS3.3 C.7.6.17)."""
        one = self.number_of_frames == 1
        if self.tiled and not (one and self.matrix == (self.rows, self.columns)):
            return "slide"
        return "still" if one else "clip"

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a frame as an array: the samples of color are its last axis."""
        samples = (self.samples_per_pixel,) if self.samples_per_pixel > 1 else ()
        return self.rows, self.columns, *samples

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame; YBR_..._422 holds two samples a pixel (C.7.6.3.1.2)."""
        halved = self.photometric_interpretation.endswith("_422")
        return self.whole_bits * 2 // 3 if halved else self.whole_bits

    @property
    def whole_bits(self) -> int:
        """Bits of one frame with all its samples."""
        return math.prod(self.shape) * self.bits_allocated


@dataclass(frozen=True, slots=True)
class Rescale:
    """Modality values = stored values * slope + intercept (PS3.3 C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A Modality or VOI LUT, or one color of a palette."""

    first_value: int  # that the first entry is for
    bits: int  # of an entry
    entries: bytes  # little-endian 16-bit words
    explanation: str = ""

    @property
    def last(self) -> int:
        """The number of the last entry."""
        return len(self.entries) // 2 - 1


Voi = Window | LookupTable
# What --window asks for: "auto", "full", the number of a stored window, a window, or its name; a
# table only where the slices of a series share one.
WindowChoice = int | str | Voi


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """How stored values sit in the decoded words, and what they are."""

    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[float, float] | None = None  # stored values, both inclusive
    first_color: float = math.inf  # from which on they are colors of a supplemental palette


@dataclass(frozen=True, slots=True)
class GrayscaleTransform:
    """All that turns the stored values of one frame into gray levels."""

    samples: SampleFormat
    modality: Rescale | LookupTable
    voi: Voi | None  # None: still open
    voi_origin: str
    invert: bool
    presentation: LookupTable | None = None  # over all that the VOI step can put out


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay plane of group 60xx (PS3.3 C.9.2); counts from 0 where DICOM counts from 1."""

    rows: int
    columns: int
    top: int
    left: int
    frames: tuple[int, int] | None  # of the image that it lies on, None for all
    data: bytes  # one bit a pixel, least significant first, frames run on
    bit_position: int = 0  # of the plane in the stored words, where *data* is empty


@dataclass(frozen=True, slots=True)
class Shutter:
    """What of a frame is visible, in pixels from 0: where all shapes meet (PS3.3 C.7.6.11)."""

    edges: tuple[int, int, int, int] | None = None  # left, right, upper, lower, inclusive
    # Row and column of the center, radius in columns, how high a pixel is by its width.
    circle: tuple[int, int, int, float] | None = None
    vertices: tuple[tuple[int, int], ...] = ()  # (row, column)
    bitmap: Overlay | None = None  # whose bits hide
    color: tuple[float, float, float, float] = (0, 0, 0, 0)  # outside: gray, red, green, blue, 0..1


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each frame of a clip is shown, in seconds, and where that comes from."""

    durations: tuple[Fraction, ...]
    used: str


# --- Elements -------------------------------------------------------------------------------------

tag_of = cache(Tag)  # of a keyword


def printable(value: str) -> str:
    """Return *value* with control characters escaped, so that a file cannot steer a terminal."""
    if value.isprintable():
        return value
    return "".join(
        char if char.isprintable() or char in HARMLESS else f"\\x{ord(char):02x}" for char in value
    )


def begins_as_dicom(head: bytes) -> bool:
    """Tell whether *head*, 132 bytes, begins as DICOM does.

    Without a preamble that is a first element of group 2 or 8, in any encoding.
    """
    if head[128:132] == b"DICM":
        return True
    for order in "<>" if len(head) >= 8 else "":
        group, element, length = struct.unpack(f"{order}HHL", head[:8])
        if group in (0x0002, 0x0008) and described(group << 16 | element, "")[1] != "UN":
            implicit = order == "<" and length <= 1 << 10
            return implicit or head[4:6].decode("latin-1") in valuerep.STANDARD_VR
    return False


def raw_bytes(data_set: Dataset, tag: int) -> bytes | None:
    """Return the undecoded value of an element, None where it is absent or already decoded."""
    value = getattr(data_set.get_item(tag, keep_deferred=True), "value", None)
    return value if isinstance(value, bytes) else None


def value_of(data_set: Dataset, keyword: str | int) -> Any:
    """Return the value of an element, None where it is absent or not of its type."""
    if (tag := tag_of(keyword)) in data_set:
        with suppress(*UNREADABLE):
            return data_set[tag].value
    return None


def listed(value: Any) -> list[Any]:
    """Return the values of an element as a list; a person name is one value though it iterates."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def plain_value(element: Any, known_vr: str) -> tuple[str, Any] | None:
    """Return VR and value of text, numbers or bytes as they were read, None of other elements."""
    if not isinstance(element, RawDataElement):
        return None
    raw = element.value or b""
    vr = known_vr if element.VR in (None, "UN") else element.VR
    if vr in STR_VR and raw.isascii() and ESC not in raw:
        return vr, [part.strip(" \0") for part in raw.decode("ascii").split("\\")]
    reader = cast(dict[str, Any], converters).get(vr)
    if isinstance(reader, tuple):  # of numbers, and their format
        with suppress(BytesLengthException):
            return vr, reader[0](raw, element.is_little_endian, reader[1])
    return (vr, raw) if vr in BYTES_VR else None


def text(data_set: Dataset, keyword: str | int) -> str:
    """Return an element as text, several values joined by a backslash; "" where it is absent."""
    tag = tag_of(keyword)
    if (element := data_set.get_item(tag, keep_deferred=True)) is None:
        return ""
    vr, plain = plain_value(element, described(int(tag), "")[1]) or ("", [])
    if vr in STR_VR:
        return "\\".join(plain).strip()
    values = listed(value_of(data_set, tag))
    return "\\".join(plain_text(value) for value in values if not isinstance(value, bytes)).strip()


def plain_text(value: Any) -> str:
    """Return one value as text, without the escape of GB 2312 that pydicom 3.0 leaves in it."""
    return str(value).replace("\x1b$)A", "")


def numbers(data_set: Dataset, keyword: str | int, blank: float | None = None) -> tuple[float, ...]:
    """Return the numeric values of an element; () where it is absent, empty or not numbers.

    Decimal strings are read leniently (comma decimals, stray blanks), the rest is warned of. An
    empty value among others is left out, or stands as *blank*.
    """
    tag = tag_of(keyword)
    element = data_set.get_item(tag, keep_deferred=True)
    if element is None or element.value is None:
        return ()
    known_vr = described(int(tag), "")[1]
    try:
        if isinstance(element.value, bytes) and known_vr in ("DS", "IS"):
            values = element.value.decode("ascii").replace(",", ".").replace("\0", " ").split("\\")
            kept = (value if value.strip() else blank for value in values if any(values))
            found = tuple(float(value) for value in kept if value is not None)
        else:
            _, value = plain_value(element, known_vr) or ("", data_set[tag].value)
            found = tuple(float(one) for one in listed(value) if one != "")
    except UNREADABLE:
        warn(f"{str(tag).lower()} is not a number and was left out")
        return ()
    return found if all(map(math.isfinite, found)) or blank is not None else ()


def number(data_set: Dataset, keyword: str | int) -> float | None:
    """Return the first numeric value of an element, or None."""
    return next(iter(numbers(data_set, keyword)), None)


def integer(ds: Dataset, keyword: str | int, default: int = 0, within: range | None = None) -> int:
    """Return an element as an int; *default*, with a warning, where it is not one of *within*.

    So too where it is missing, but without a warning if *default* is 0.
    """
    value = number(ds, keyword)
    if value is not None and (within is None or int(value) in within):
        return int(value)
    if value is not None or default:
        found = "missing" if value is None else int(value)
        warn(f"{dictionary_description(keyword)} is {found}, taken as {default}")
    return default


def sequence(data_set: Dataset, keyword: str | int) -> Sequence[Dataset]:
    """Return the items of a sequence; empty where it is absent or not a sequence."""
    value = value_of(data_set, keyword)
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()


def first_item(items: Iterable[Dataset]) -> Dataset:
    """Return the first of *items*, an empty one where there is none."""
    return next(iter(items), Dataset())


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Return the first of *names* in one line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def functional_group(data_set: Dataset, macro: str, frame: int) -> Dataset:
    """Return *frame*'s own item of *macro*, else the shared, else *data_set* (PS3.3 C.7.6.16)."""
    own = sequence(data_set, "PerFrameFunctionalGroupsSequence")[frame : frame + 1]
    shared = sequence(data_set, "SharedFunctionalGroupsSequence")[:1]
    return next((item for group in (*own, *shared) for item in sequence(group, macro)), data_set)


def segments_of(ds: Dataset) -> dict[int, Dataset]:
    """Return the segments of a segmentation by their numbers (PS3.3 C.8.20.2)."""
    return {integer(one, "SegmentNumber"): one for one in sequence(ds, "SegmentSequence")}


def whole_fraction(ds: Dataset) -> int:
    """Return what a fractional segmentation stores for a whole pixel, 0 of others (C.8.20.2)."""
    if text(ds, "SegmentationType") != "FRACTIONAL":
        return 0
    return integer(ds, "MaximumFractionalValue", 255, range(1, 1 << 16))


def private_creator(data_set: Dataset, block: int) -> str:
    """Return who defines *block*, tags without their last byte (PS3.5 7.8.1), "" for nobody."""
    if not block >> 8 & 1:
        return ""
    reservation = BaseTag((block & ~0xFF) << 8 | block & 0xFF)
    raw = raw_bytes(data_set, reservation)
    return text(data_set, reservation) if raw is None else raw.decode("latin-1").strip(" \0")


@lru_cache(maxsize=4096)
def described(tag_number: int, creator: str) -> tuple[str, str]:
    """Return the name and the VR that the dictionaries have for a tag."""
    tag = BaseTag(tag_number)
    if tag.is_private_creator:
        return "Private Creator", "LO"
    with suppress(KeyError):
        vr, _, name, *_ = get_private_entry(tag, creator) if tag.is_private else get_entry(tag)
        return printable(f"[{name}]") if tag.is_private else name, vr
    if tag.element == 0:
        return "Group Length", "UL"
    return "Private tag data" if tag.is_private else "Unknown", "UN"


@lru_cache(maxsize=4096)
def is_left_out(keyword: str | int) -> bool:
    """Tell whether --no-names leaves it out: in PS3.15 Table E.1-1, private, unknown, free text."""
    tag = Tag(keyword)
    name, vr = described(int(tag), "")
    free = re.search("^Private|(Explanation|Label|Description)$", name)
    if tag.is_private or vr in FREE_TEXTS or free:
        return True
    table = import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    rows = chain(*(rows for name, rows in vars(table).items() if name.endswith("_TAGS")))
    masked = ((*row, 0xFFFF, 0xFFFF)[:4] for row in rows)  # groups 50xx and 60xx repeat
    return any([tag.group & wide, tag.element & long] == row for *row, wide, long in masked)


# --- Character sets (PS3.3 C.12.1.1.2) ------------------------------------------------------------

WITH_TEXTS = {*map(str, valuerep.CUSTOMIZABLE_CHARSET_VR), "SQ", "UN", None}  # VRs


def settle_character_set(ds: Dataset) -> None:
    """Have texts decoded as what they are where (0008,0005) is absent or cannot be right.

    PS3.3 C.12.1.1.2. Items that declare a set of their own keep it.
    """
    found = list(inheriting(ds))
    texts = [value for _, own in found for value in own]
    if not texts:
        return
    declared = listed(ds.original_character_set)
    known = declared[0] if declared[0] in python_encoding.values() else default_encoding
    plain = [value for value in texts if ESC not in value]
    first = assumed_encoding(plain, known)
    name = {"UTF8": "UTF-8", "iso8859": "Latin-1", "latin_1": "Latin-1"}.get(first, first)
    if plain and text(ds, "SpecificCharacterSet") in ("", "ISO_IR 6", "ISO 2022 IR 6"):
        warn(f"no character set is declared for letters beyond ASCII: {name} was assumed")
    elif plain and (first != known or known == default_encoding):
        warn(f"texts are not in the declared character set: {name} was assumed")
    switched = {
        encoding
        for code, encoding in CODES_TO_ENCODINGS.items()
        if encoding != default_encoding and any(code in value for value in texts)
    }
    if undeclared := sorted(switched - {first, *declared[1:]}):
        warn("texts switch to a character set that is not declared: it was followed")
    for one, _ in found:
        implicit, little = one.original_encoding
        one.set_original_encoding(implicit, little, [first, *declared[1:], *undeclared])


def inheriting(ds: Dataset, depth: int = 0) -> Iterator[tuple[Dataset, list[bytes]]]:
    """Yield *ds* and the items in it, as deep as are shown, without a character set of their own.

    Each with its undecoded texts that are not plain ASCII.
    """
    texts, creator_of = [], cache(partial(private_creator, ds))
    for tag, element in list(ds.items()):
        vr, value = element.VR, element.value
        plain = isinstance(value, bytes) and value.isascii() and ESC not in value
        if plain or vr not in WITH_TEXTS:
            continue
        if vr in (None, "UN"):
            _, vr = described(int(tag), creator_of(tag >> 8))
        if vr in valuerep.CUSTOMIZABLE_CHARSET_VR and (raw := raw_bytes(ds, tag)):
            texts.append(raw.rstrip(b" \0"))
        for item in sequence(ds, tag) if vr == "SQ" and depth < MAX_NESTING_SHOWN else ():
            if tag_of("SpecificCharacterSet") not in item:
                yield from inheriting(item, depth + 1)
    yield ds, texts


def assumed_encoding(texts: Sequence[bytes], declared: str) -> str:
    """Return the encoding of *texts*, each beyond ASCII: *declared*, unless that cannot be meant.

    UTF-8 and other multi-byte sets are known by their form. The majority decides: a stray byte in
    one text says nothing of the others.
    """
    # Of one byte a character: whatever was meant, it can be read as one of these (C.12.1.1.2).
    one_byte = declared.startswith(("iso8859", "latin_1", "iso_ir_1"))
    if not one_byte and 2 * well_formed(texts, declared, whole=True) >= len(texts):
        return declared
    if 2 * well_formed(texts, "UTF8") > len(texts):
        return "UTF8"
    if not one_byte and 2 * well_formed(texts, declared) >= len(texts):
        return declared
    if (not one_byte or declared in ("iso8859", "latin_1")) and are_chinese(texts):
        return "GB18030"
    return declared if one_byte else "latin_1"


def well_formed(texts: Iterable[bytes], encoding: str, *, whole: bool = False) -> int:
    """Return how many of *texts* are in *encoding* and beyond ASCII; if not *whole*, maybe cut."""
    count = 0
    for value in texts:
        with suppress(UnicodeError):
            count += not codecs.getincrementaldecoder(encoding)().decode(value, whole).isascii()
    return count


def are_chinese(texts: Sequence[bytes]) -> bool:
    """Tell whether most of *texts* are GB 18030, and of everyday characters.

    Those are the pairs B0-D7, A1-FE (level 1 of GB 2312). Two accented capitals make such a pair
    too, but between other letters (CORAÇÃO), where a single Chinese character hardly ever stands;
    two signs (°±) say nothing.
    """
    if 2 * well_formed(texts, "GB18030") <= len(texts):
        return False
    common = rare = 0
    decoded = "\n" + b"\n".join(texts).decode("GB18030", "ignore") + "\n"
    for run in re.finditer(r"[^\0-\x7f]+", decoded):
        around = decoded[run.start() - 1] + decoded[run.end()]
        pairs = [pair for char in run[0] if max(pair := char.encode("GB18030")) >= 0xC0]
        lone = len(pairs) == 1 and any(map(str.isalpha, around))
        everyday = [b"\xb0\xa1" <= pair < b"\xd8" and pair[1] > 0xA0 for pair in pairs]
        usual = 0 if lone else sum(everyday)
        common, rare = common + usual, rare + len(pairs) - usual
    return common > 1 and common >= rare


# --- Reading --------------------------------------------------------------------------------------

PIXEL_DATA_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))  # of floats, doubles, integers
ITEM_TAG, SEQUENCE_DELIMITER_TAG = 0xFFFEE000, 0xFFFEE0DD
UNDEFINED_LENGTH = 0xFFFFFFFF
MAX_INFLATED_BYTES = 1 << 31
# Times the length of what is unpacked: so tightly no device packs but a small uniform picture.
MAX_EXPANSION, SMALL_EXPANDED_BYTES = 500, 64 << 20
MAX_ELEMENTS = 500_000  # and items, of one data set
STREAM_HEAD_BYTES = 1 << 16  # in which a code stream says what it is
STREAM_SIGNATURE = re.compile(  # with these of its bytes every code stream of a file begins
    rb"\xff\xd8\xff|\xff\x4f\xff"  # JPEG, JPEG-LS, bare JPEG 2000
    rb"|.{4}(?:jP  |JXL ).{0,4}"  # JPEG 2000 and JPEG XL in boxes
    rb"|\xff\x0a.{0,2}"  # bare JPEG XL: also its size
    rb"|[\x01-\x0f]\0{3}\x40\0{3}",  # RLE: how many segments, and where they begin (PS3.5 G.5)
    re.DOTALL,
)
DEFLATED_SYNTAXES = (  # data sets behind a file meta that is not (PS3.5 A.5, A.7)
    uid.DeflatedExplicitVRLittleEndian,
    UID("1.2.840.10008.1.2.4.95"),  # JPIP Referenced Deflate
    uid.JPIPHTJ2KReferencedDeflate,
)
# Names of what the dictionary of pydicom does not know.
UID_NAMES = {
    JPEG_XL_SYNTAXES[0]: "JPEG XL Lossless",
    JPEG_XL_SYNTAXES[1]: "JPEG XL JPEG Recompression",
    JPEG_XL_SYNTAXES[2]: "JPEG XL",
    DEFLATED_IMAGE_FRAME: "Deflated Image Frame",
    LABEL_MAP: "Label Map Segmentation Storage",
}


def read_header(file: BinaryIO) -> Header:
    """Parse *file* around its pixels: every element before and after them, and where they lie.

    Raises `NotDicomError`, and `ConversionError` where there is no data set.
    """
    head = file.read(132)
    if not any(head):
        raise NothingInsideError("begins with zeros: its content is lost" if head else "is empty")
    if not begins_as_dicom(head):
        raise NotDicomError("not a DICOM file")
    size = file.seek(0, os.SEEK_END)
    file.seek(132 if head[128:] == b"DICM" else 0)
    meta = elements_until(file, False, True, lambda tag, *_: tag >> 16 != 2)
    transfer_syntax = UID(text(meta, "TransferSyntaxUID"))
    if transfer_syntax in DEFLATED_SYNTAXES:
        file = inflated(file)
    transfer_syntax = transfer_syntax or guessed_transfer_syntax(file)
    implicit = transfer_syntax == uid.ImplicitVRLittleEndian
    little = transfer_syntax != uid.ExplicitVRBigEndian
    order = "<" if little else ">"
    check_elements(file, implicit, order)
    data_set = elements_until(
        file, implicit, little, lambda tag, _vr, _length: tag in PIXEL_DATA_TAGS
    )
    if not data_set:
        raise ConversionError("the file ends before its data set begins")
    pixels = locate_pixels(file, bool(data_set.original_encoding[0]), order, transfer_syntax)
    if pixels and pixels.whole and pixels.offset + pixels.length < file.seek(0, os.SEEK_END):
        file.seek(pixels.offset + pixels.length)
        last, end = max(PIXEL_DATA_TAGS), ITEM_TAG
        try:
            data_set.update(
                elements_until(file, implicit, little, lambda tag, *_: not last < tag < end)
            )
        except (ConversionError, *UNREADABLE):
            warn("what follows the pixel data cannot be read")
    truncated = truncated_element(data_set)
    if truncated and pixels:
        warn(f"the file ends inside {truncated}, behind its pixels")
    settle_character_set(data_set)
    return Header(file, meta, data_set, pixels, transfer_syntax, size, truncated)


def elements_until(
    file: BinaryIO, implicit: bool, little: bool, ends: Callable[[BaseTag, str | None, int], bool]
) -> Dataset:
    """Read the elements up to the tag that *ends* the part of the file that *file* stands at."""
    try:
        return read_dataset(file, implicit, little, stop_when=ends)
    except ValueError as error:  # pydicom looks for it among Python's encodings
        raise ConversionError("its (0008,0005) Specific Character Set is damaged") from error
    except (struct.error, EOFError) as error:
        raise ConversionError("the file ends inside its header: it is truncated") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ConversionError("a sequence of its header has no end: it is damaged") from error


def truncated_element(data_set: Dataset) -> str:
    """Return which element the file ends in the middle of, "" where its last one is whole."""
    last = data_set.get_item(max(data_set.keys(), key=int), keep_deferred=True)
    if not isinstance(last, RawDataElement) or last.length == UNDEFINED_LENGTH:
        return ""
    return str(last.tag).lower() if len(last.value or b"") < last.length else ""


def guessed_transfer_syntax(file: BinaryIO) -> UID:
    """Return the uncompressed syntax that the first element of the data set is written in."""
    start = file.tell()
    tag, vr, _ = element_head(file, False, "<")
    file.seek(start)
    warn("no transfer syntax is declared, it was taken from the first element")
    if vr not in valuerep.STANDARD_VR:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRBigEndian if tag >= 0x04000000 else uid.ExplicitVRLittleEndian


def expanded_limit(length: int) -> int:
    """Return how many bytes *length* of a data set or of a code stream may become."""
    return max(SMALL_EXPANDED_BYTES, MAX_EXPANSION * length)


def inflated(file: BinaryIO) -> BinaryIO:
    """Return the deflated data set that follows in *file*, with or without zlib's header (A.5)."""
    start = file.tell()
    limit = min(expanded_limit(file.seek(0, os.SEEK_END) - start), MAX_INFLATED_BYTES)
    for window_bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
        file.seek(start)
        inflate, data = zlib.decompressobj(window_bits), io.BytesIO()
        with suppress(zlib.error):
            while piece := file.read(io.DEFAULT_BUFFER_SIZE):
                data.write(inflate.decompress(piece))
                if data.tell() > limit:
                    raise ConversionError(f"the data set inflates to more than {limit} bytes")
            data.seek(0)
            return data
    raise ConversionError("the deflated data set is damaged")


def check_elements(file: BinaryIO, implicit: bool, order: str) -> None:
    """Refuse a data set of more elements and items than fit in memory as an object each.

    Their heads are stepped over by their lengths, and sequences and items are entered.
    """
    at, end = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(at)
    if end - at < 8 * MAX_ELEMENTS:  # they have no room
        return
    found, fragments = 0, False
    while file.tell() < end and found <= MAX_ELEMENTS:
        tag, vr, length = element_head(file, implicit, order)
        value = file.tell()
        next_tag, _, _ = element_head(file, implicit, order)
        begins_item = next_tag == ITEM_TAG or described(tag, "")[1] == "SQ"
        opaque = vr not in ("", "SQ", "UN") and tag not in PIXEL_DATA_TAGS  # whatever it holds
        has_items = not opaque and (begins_item or vr == "SQ" or length == UNDEFINED_LENGTH)
        if has_items or tag == SEQUENCE_DELIMITER_TAG:
            fragments = tag in PIXEL_DATA_TAGS  # whose items hold no elements
        entered = has_items or (tag == ITEM_TAG and not fragments)
        file.seek(value + (0 if entered or length == UNDEFINED_LENGTH else length))
        found += not fragments
    if found > MAX_ELEMENTS:
        raise ConversionError(f"its header holds more than {MAX_ELEMENTS:,} elements and items")
    file.seek(at)


def element_head(file: BinaryIO, implicit: bool, order: str) -> tuple[int, str, int]:
    """Return tag, VR ("" if implicit) and length of an element or item; 0 at the end of *file*."""
    head = file.read(8).ljust(8, b"\0")
    group, element, length = struct.unpack(f"{order}HHL", head)
    tag = group << 16 | element
    bare = implicit or ITEM_TAG <= tag <= SEQUENCE_DELIMITER_TAG
    vr = "" if bare else head[4:6].decode("latin-1")
    if vr in valuerep.EXPLICIT_VR_LENGTH_32:
        (length,) = struct.unpack(f"{order}L", file.read(4).ljust(4, b"\0"))
    elif "AA" <= vr <= "ZZ":
        (length,) = struct.unpack(f"{order}H", head[6:])
    return tag, vr, length


def locate_pixels(file: BinaryIO, implicit: bool, order: str, syntax: UID) -> PixelLocation | None:
    """Return where the pixel data element that *file* stands at lies.

    Some writers give compressed data a length and their items in it (against PS3.5 A.4).
    """
    tag, vr, length = element_head(file, implicit, order)
    if tag not in PIXEL_DATA_TAGS:  # the data set ended for another reason
        return None
    offset, end = file.tell(), file.seek(0, os.SEEK_END)
    undefined, whole = length == UNDEFINED_LENGTH, offset + length <= end
    held = (end if undefined else min(offset + length, end)) - offset
    native = PixelLocation(get_entry(tag)[4], vr or "OW", offset, held, whole=whole)
    found = with_fragments(file, native, syntax)
    if not undefined and found.fragments and found.length == held and not found.cut:
        return replace(found, whole=True)
    has_items = bool(found.starts) or found.cut
    compressed = undefined + has_items + (syntax not in NATIVE_SYNTAXES) > 1  # two of these three
    return found if compressed else native


def with_fragments(file: BinaryIO, pixels: PixelLocation, syntax: UID) -> PixelLocation:
    """Return *pixels* with the fragments in them, whose items are stepped over (PS3.5 A.4)."""
    starts, begun, signature = array("Q"), array("Q"), None
    whole = cut = False
    end = file.seek(pixels.offset) + pixels.length
    while (at := file.tell() + ITEM_HEAD_BYTES) <= end:
        tag, _, length = element_head(file, True, "<")
        whole = tag == SEQUENCE_DELIMITER_TAG
        cut = tag == ITEM_TAG and length > end - at
        if tag != ITEM_TAG or cut:
            break
        begins = file.read(min(length, 12)) if starts else b""  # the first is the offset table
        signature = signature or STREAM_SIGNATURE.match(begins)
        deflated = starts and syntax == DEFLATED_IMAGE_FRAME  # a fragment for each frame (A.4.13)
        if deflated or (signature and begins.startswith(signature[0])):
            begun.append(len(starts) - 1)
        file.seek(at + length)
        starts.append(at + length + ITEM_HEAD_BYTES)
    fragments, held = max(len(starts) - 1, 0), file.tell() - pixels.offset
    found = PixelLocation(
        pixels.keyword, pixels.vr, pixels.offset, held, fragments, starts, begun, whole, cut
    )
    content = io.BufferedReader(FragmentReader(file, found)) if fragments else io.BytesIO()
    return replace(found, head=content.read(STREAM_HEAD_BYTES))


class FragmentReader(io.RawIOBase):
    """The fragments of encapsulated pixel data as one seekable file, with nothing read ahead."""

    def __init__(self, file: BinaryIO, pixels: PixelLocation) -> None:
        self._file, self._pixels = file, pixels
        self._position, self._size = 0, pixels.joined(pixels.fragments or 0)

    def readable(self) -> bool:
        """Tell that this file can be read and searched."""
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to *offset* bytes from the start, from here or from the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer* from the fragment at the position; return how many bytes it got."""
        if self._position >= self._size:
            return 0
        numbers, joined = range(len(self._pixels.starts)), self._pixels.joined
        number = bisect_right(numbers, self._position, key=joined) - 1
        self._file.seek(self._pixels.starts[number] + self._position - joined(number))
        data = self._file.read(min(len(buffer), joined(number + 1) - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def sop_class_name(header: Header) -> str:
    """Return what kind of object the file holds, in the standard's words."""
    declared = text(header.data_set, "SOPClassUID")
    return name_of(declared or text(header.file_meta, "MediaStorageSOPClassUID"))


def name_of(value: str) -> str:
    """Return the name of a UID, itself where it has none."""
    return UID_NAMES.get(known := UID(value)) or known.name


# --- Opening --------------------------------------------------------------------------------------

MAX_MEMBER_BYTES, SMALL_MEMBER_BYTES, MAX_INFLATION = 1 << 34, 1 << 28, 500  # of a zip archive
MAX_DIRECTORY_BYTES = 1 << 25  # of its members: 20 in memory for each
MAX_DEPTH = 100  # of folders in folders
SMALL_FILE_BYTES = 1 << 20


def opened_regular(path: Path) -> BinaryIO:
    """Open the regular file at *path*; raise `NotDicomError` for what may never begin, or end."""

    def regular(name: str, flags: int) -> int:
        # Without waiting for the other end of a pipe.
        descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise NotDicomError("not a regular file")

    return open(path, "rb", opener=regular)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file, b"" where it cannot be read."""
    with suppress(OSError, ValueError, NotDicomError), opened_regular(path) as file:
        return file.read(132) or b""  # None: nothing is there yet
    return b""


def is_archive(path: Path) -> bool:
    """Tell whether *path* is a zip archive by its name, and not a DICOM file called so."""
    named_so = path.suffix.lower() == ".zip" and os.path.isfile(path)  # noqa: PTH113 - never raises
    return named_so and not begins_as_dicom(head_of(path))


def state_of(path: Path) -> FileState | None:
    """Return by what a change of the file at *path* shows, None where it cannot be asked."""
    with suppress(OSError, ValueError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def zip_members(archive: Source) -> list[Source]:
    """Return the files in a zip archive; itself if it has none, or with why it cannot be read.

    They are swept like those of a folder: hospitals pack viewers beside the images.
    """
    try:
        entries = opened_zip(archive.path, state_of(archive.path)).infolist()
        shared = overlapping_entries(entries)
        members = [
            Source(
                archive.path, member=member_name(one), entry=at, problem=zip_problem(one, shared)
            )
            for at, one in enumerate(entries)
            if not one.filename.endswith("/")
        ]
    except ConversionError as error:
        return [replace(archive, problem=str(error))]
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "a damaged zip archive"
        return [replace(archive, problem=f"cannot be read: {reason}")]
    return members or [archive]


def overlapping_entries(entries: Sequence[zipfile.ZipInfo]) -> set[zipfile.ZipInfo]:
    """Return those *entries* of an archive that share bytes with another one.

    Many that unpack the same bytes make an archive of 200 kB endless.
    """
    head = zipfile.sizeFileHeader  # type: ignore[attr-defined]
    in_order = pairwise(sorted(entries, key=lambda info: info.header_offset))
    return {
        info
        for before, after in in_order
        if before.header_offset + head + before.compress_size > after.header_offset
        for info in (before, after)
    }


def member_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member with slashes; old names without UTF-8 are often Chinese."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with suppress(UnicodeEncodeError):  # else it came from a field that says its encoding
            raw = name.encode("cp437")  # as which Python read it
            encoding = assumed_encoding([raw], "latin_1")
            name = name if encoding == "latin_1" else raw.decode(encoding, "replace")
    return name.replace("\\", "/") or "_"


def zip_problem(info: zipfile.ZipInfo, overlapping: set[zipfile.ZipInfo]) -> str:
    """Return why a member of an archive is not taken out, "" where it is."""
    inflation = info.file_size / max(info.compress_size, 1)
    if info in overlapping:
        return "it overlaps another one in its archive"
    if member_name(info).count("/") > MAX_DEPTH:
        return "its folders are nested too deeply: unpack the archive first"
    if info.flag_bits & 1:
        return "it is encrypted: unpack the archive with its password first"
    if info.file_size > (MAX_MEMBER_BYTES if inflation <= MAX_INFLATION else SMALL_MEMBER_BYTES):
        return f"would unpack to {info.file_size} bytes, {inflation:.0f} times its size"
    return ""


@lru_cache(maxsize=2)  # they stay open, for their directories can be long
def opened_zip(path: Path, _: FileState | None) -> zipfile.ZipFile:
    """Return an open archive, anew where the file at *path* has another state than before."""
    with opened_regular(path) as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end and end[5] > MAX_DIRECTORY_BYTES:
            raise ConversionError("the list of its members is too long: unpack it first")
    return zipfile.ZipFile(path)


@contextmanager
def unpacked_member(source: Source) -> Iterator[BinaryIO]:
    """Yield a member of a zip archive, in memory or, if large, in the temporary folder."""
    with tempfile.SpooledTemporaryFile(max_size=KEEP_DECODED_BYTES) as unpacked:
        try:
            archive = opened_zip(source.path, state_of(source.path))
            info = next(iter(archive.infolist()[source.entry : source.entry + 1]), None)
            if info is None or member_name(info) != source.member:
                raise ConversionError("its zip archive was replaced meanwhile: convert it again")
            with archive.open(info) as member:
                unpacked.write(head := member.read(132))
                if begins_as_dicom(head):  # else that will be told, without the rest
                    shutil.copyfileobj(member, unpacked, 1 << 20)
        except RuntimeError as error:
            raise ConversionError("packed in a way that cannot be read: unpack it first") from error
        except (*UNREADABLE, zipfile.BadZipFile, lzma.LZMAError) as error:
            if getattr(error, "errno", None):
                raise
            raise ConversionError("damaged inside its zip archive") from error
        unpacked.seek(0)
        yield cast(BinaryIO, unpacked)


def open_source(source: Source) -> AbstractContextManager[BinaryIO]:
    """Open *source* for reading, a member of an archive unpacked."""
    if source.problem:
        raise (NotDicomError if source.repeated else ConversionError)(source.problem)
    if source.member.lower().endswith(".zip"):
        warn("an archive inside an archive is not opened: unpack the outer one first")
    if source.member:
        return unpacked_member(source)
    file = opened_regular(source.path)
    if os.fstat(file.fileno()).st_size > SMALL_FILE_BYTES:
        return file
    with file:  # read at once: each step in it asks the system otherwise
        return io.BytesIO(file.read(SMALL_FILE_BYTES))


# --- Where outputs go -----------------------------------------------------------------------------

MAX_LINES = 1 << 14, 1 << 22  # bytes of the first two of a TXT
MAX_NAME_BYTES = 230  # of a name, to which suffixes come; file systems take 255

# What Windows takes for a device, whatever follows the dot.
DEVICE_NAMES = re.compile(r"(?i)^(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\.|$)")
SEPARATORS = "/\\" if os.name != "nt" else '/\\<>:"|?*'
KEPT = HARMLESS + "".join(map(chr, range(0xDC80, 0xDD00)))  # also bytes that are no text
FRAME_NAME = re.compile(r"^(.+)-\d{4,}$")  # that of its clip and a number
MARK = re.compile(r".*; source ([0-9a-f]{8}) ([0-9a-f]{8}), .*; outputs:(.*)")


def plain_name(name: str, *, folder: bool = False) -> str:
    """Return *name* as one that names a file or a *folder*, and nothing else, on every system.

    It has a bounded length; a folder is not called like an output of a file beside it.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # the locale knows no such letters
        name = re.sub(r"[^\0-\x7f]", "_", name)
    plain = "".join(
        "_" if char in SEPARATORS or not (char.isprintable() or char in KEPT) else char
        for char in name
    )
    if plain.rstrip(". ") != plain or not plain:
        plain = plain.rstrip(". ") + "_"
    plain = DEVICE_NAMES.sub(r"_\g<0>", plain)
    if folder and plain.lower().endswith(OUTPUT_SUFFIXES):
        plain += "_"
    raw = os.fsencode(plain)
    if len(raw) <= MAX_NAME_BYTES:
        return plain
    return f"{raw[: MAX_NAME_BYTES - 9].decode(errors='ignore')}-{zlib.crc32(raw):08x}"


def parts_of(folder: PurePath) -> Parts:
    """Return the names in *folder*, without those that lead upwards or to the root."""
    return tuple(part for part in folder.parts if part not in (folder.anchor, "..", "."))


def numbered(name: str) -> Iterator[str]:
    """Return *name*, then *name*-2 and so on, without end."""
    return chain([name], (f"{name}-{number}" for number in count(2)))


def output_folder(root: Path, parts: Parts, owners: dict[str, Parts]) -> Path:
    """Return the folder for the outputs of *parts* below *root*, a resolved path.

    Of plain names, archives without their suffix; never through a link, beside a file of that name,
    and no folder for two, whatever their case: *owners* tells whose each is, and grows.
    """
    folder = root
    for depth, part in enumerate(parts, 1):
        source = PurePath(part)
        name = source.stem if source.suffix.lower() == ".zip" else source.name
        folder = next(
            path
            for path in map(folder.joinpath, numbered(plain_name(name, folder=True)))
            if not os.path.lexists(path) or (is_folder(path) and not path.is_symlink())
            if owners.setdefault(str(path).casefold(), parts[:depth]) == parts[:depth]
        )
    return folder


def settle_names(candidates: Iterable[Source], folder: Path, given: set[str]) -> Iterator[Source]:
    """Give each of *candidates* a name of its own in *folder*, whatever their order.

    The DICOM suffix is dropped; of two that clash the later one keeps its full name, then gets -2.
    Case is ignored: outputs travel on media that cannot tell `im1` from `IM1`. *given* grows.
    """
    by_name = sorted(candidates, key=lambda one: (one.own_name, one.path, one.entry, not one.named))
    found = {(one.path.absolute(), one.entry): one for one in reversed(by_name)}
    stems = {plain_name(stem_of(one.own_name)).casefold() for one in found.values()}
    numbers: defaultdict[str, Iterator[int]] = defaultdict(partial(count, 2))  # go on by name

    def is_free(name: str) -> bool:
        lower, clips = name.casefold(), FRAME_NAME.findall(name.casefold())
        return given.isdisjoint({lower, f"{lower}-", *clips}) and stems.isdisjoint(clips)

    for one in reversed(found.values()):
        own = plain_name(one.own_name)
        name = next(filter(is_free, (plain_name(stem_of(one.own_name)), own)), "")
        while not name or name.casefold() in given:
            name = f"{own}-{next(numbers[own.casefold()])}"
        given.add(name.casefold())  # and no clip may be called like that of this frame any more
        given.update(f"{clip}-" for clip in FRAME_NAME.findall(name.casefold()))
        yield replace(one, folder=folder, name=name)


def stem_of(name: str) -> str:
    """Return *name* without a DICOM suffix; nothing else is cut, for UIDs are full of dots."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot + suffix.lower() in DICOM_SUFFIXES else name


@dataclass(frozen=True, slots=True)
class Origin:
    """What outputs are made of: check sums of path and instance, size in bytes, time in ns."""

    path: str
    instance: str
    size: int
    changed: int
    other: str = ""  # check sum of the path in runs with names, where this is without, or not


def origin_of(
    work: Work, header: Header, states: Sequence[FileState | None], *, names: bool
) -> Origin:
    """Return what the outputs of *work* are made of; *states* are from before it was opened.

    Discs come to one path in turn: the patient tells them apart, or without *names* the UIDs, for
    a birth date can be guessed from its check sum.
    """
    ds = header.data_set
    patient = [text(ds, f"Patient{name}") for name in ("ID", "Name", "BirthDate")]
    uids = [text(ds, f"{of}InstanceUID") for of in ("Study", "Series", "SOP")]
    files = [f"{Path(one.label).absolute()}:{one.entry}" for one in work.sources]
    sizes, times = zip(*(state[1:] if state else (0, 0) for state in states), strict=True)
    path, instance, changed = files[0], uids[2], times[0]
    if isinstance(work, Series):
        path, instance = f"{Path(work.label).absolute()}", work.uid
        changed = int(check_sum(f"{files}{times}{work.order}{work.notes}"), 16)
    elif isinstance(work, Presentation):
        named = [(one.frame, [path.name for path in one.outputs]) for one in work.shown]
        changed = int(check_sum(f"{files}{times}{named}{work.notes}"), 16)
    sums = [check_sum(f"{path}:{known}") for known in (patient, uids if any(patient) else patient)]
    own, other = sums if names else reversed(sums)
    return Origin(own, check_sum(instance), sum(sizes), changed, other)


def check_sum(value: str) -> str:
    """Return the check sum of *value* as a mark holds it."""
    return f"{zlib.crc32(value.encode(errors='backslashreplace')):08x}"


def made_before(place: Path, origin: Origin) -> dict[str, Path] | None:
    """Return what an earlier run made of the same instance at *place*, by suffix, without its TXT.

    None where something else is: what no TXT of ours there says to be made of the same path or
    instance, and folders and DICOM files, whatever a TXT says of them.
    """
    begin = str(place)
    there = [Path(begin + end) for end in OUTPUT_SUFFIXES if os.path.lexists(begin + end)]
    if not there:
        return {}
    title, line, _ = text_marks(Path(f"{place}.txt"))
    mark = MARK.fullmatch(line) if title.startswith(TEXT_BEGINS) else None
    if mark is None:
        return None
    # A mark tells the ends of names only: nothing that it says leads anywhere else.
    ends = re.findall(r" (-\d{4,}\.(?:png|gif|mp4)|\.\w{3}) \d+ bytes", mark[3])
    known = [end for end in ends if end[0] == "-" or end in OUTPUT_SUFFIXES[:-1]]
    made = {end: path for end in known if os.path.lexists(path := Path(f"{place}{end}"))}
    there += made.values()
    same = mark[1] in (origin.path, origin.other) or mark[2] == origin.instance != check_sum("")
    if not same or any(is_folder(path) or begins_as_dicom(head_of(path)) for path in there):
        return None
    return made


def text_marks(text_path: Path) -> tuple[str, str, bool]:
    """Return the first two lines of a TXT and whether it is whole, nothing where there is none."""
    with suppress(OSError, ValueError, NotDicomError), opened_regular(text_path) as file:
        title, mark = (file.readline(size).decode("utf-8", "replace") for size in MAX_LINES)
        file.seek(max(file.seek(0, os.SEEK_END) - len(TEXT_ENDS), 0))
        return title.rstrip("\n"), mark.rstrip("\n"), file.read() == TEXT_ENDS.encode()
    return "", "", False


# --- Sources --------------------------------------------------------------------------------------

Group = tuple[Parts, list["Source"]]  # files of one folder
ListReader = Callable[[Path], tuple[tuple[list[Parts], str] | None, str]]  # or None and why


def find_sources(
    inputs: Sequence[Path], output: Path, read_list: ListReader | None = None
) -> Iterator[Source]:
    """Yield every file of *inputs* with its settled name, folder by folder in sorted order.

    A folder's files come out before the next one is read. What a DICOMDIR lists and what standard
    input names (`-`) follow, in their own order.
    """
    root, media = Path(realpath(output)), media_of(inputs)
    keeps = STDIN in inputs or any(map(is_list, media))  # where not the walk alone adds names
    taken: defaultdict[Path, set[str]] = defaultdict(set)
    owners: dict[str, Parts] = {}
    on_media = listed_files(media, read_list or (lambda path: (listed_names(path), "")))
    for parts, files in chain(walk(inputs, output), on_media, on_standard_input(inputs)):
        folder = output_folder(root, parts, owners)
        yield from settle_names(files, folder, taken[folder] if keeps or not parts else set())


def is_list(path: Path) -> bool:
    """Tell whether *path* is a DICOMDIR by its name."""
    return path.name.upper() == "DICOMDIR" and not is_folder(path)


def is_medium(path: Path) -> bool:
    """Tell whether an input is more than one file: it holds or lists files of its own."""
    return path == STDIN or is_folder(path) or is_list(path) or is_archive(path)


def media_of(inputs: Sequence[Path]) -> dict[Path, Parts]:
    """Return the folders, archives and lists among *inputs*, and where the outputs of each go.

    Of several each gets a folder of its own name, so that no two patients are mixed.
    """
    given = sorted({*inputs} - {STDIN}, reverse=True)
    paths = sorted({realpath(path): path for path in given if is_medium(path)}.values())
    if len(paths) == 1:
        return {paths[0]: ()}
    # The slash tells a list from the folder that it lies in.
    lists = {path: f"{realpath(path.parent)}/" for path in paths if is_list(path)}
    return {path: (lists.get(path) or realpath(path),) for path in paths}


def walk(inputs: Sequence[Path], output: Path) -> Iterator[Group]:
    """Yield the files of each folder and archive of *inputs* and below, those named first.

    A folder is read once, whatever leads to it, so links are followed last; *output* is left out.
    """
    media, root = media_of(inputs), realpath(output)
    named = [Source(path, named=True) for path in inputs if not is_medium(path)]
    yield (), named
    seen, named_paths = set[str](), {one.path.absolute() for one in named}
    waiting = deque(place for place in media.items() if not is_list(place[0]))
    while waiting:
        folder, parts = waiting.popleft()
        there = realpath(folder)
        if not is_folder(folder):
            yield from members_of(Source(folder, named=folder in media), parts)
        elif there in seen:
            problem = "its files are read already: another way leads there"
            yield parts, [Source(folder, problem=problem, repeated=True)]
        elif there != root or folder in media:
            seen.add(there)
            files, folders = read_folder(folder)
            yield parts, [file for file in files if file.path.absolute() not in named_paths]
            inner = [(path, (*parts, path.name)) for path in folders]
            waiting.extend(place for place in inner if place[0].is_symlink())
            waiting.extendleft(place for place in reversed(inner) if not place[0].is_symlink())


def read_folder(folder: Path) -> tuple[list[Source], list[Path]]:
    """Return the files in *folder*, and the folders and archives, both in sorted order.

    A folder that cannot be read is returned among the files, with the reason.
    """
    files: list[Source] = []
    folders: list[Path] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        return [Source(folder, problem=f"the folder cannot be read ({error.strerror})")], []
    for entry in entries:
        path = folder / entry.name
        # An entry knows what it is, but not where a link leads.
        if is_folder(path) if entry.is_symlink() else entry.is_dir() or is_archive(path):
            folders.append(path)
        else:
            files.append(Source(path))
    return files, folders


def members_of(archive: Source, parts: Parts) -> Iterator[Group]:
    """Yield the members of an archive by their folders, in sorted order."""
    groups: defaultdict[Parts, list[Source]] = defaultdict(list)
    for member in zip_members(archive):
        inside = parts_of(PurePosixPath(member.member).parent) if not member.problem else ()
        groups[*parts, *inside].append(member)
    yield from sorted(groups.items(), key=lambda group: group[0])


def listed_files(media: dict[Path, Parts], read_list: ListReader) -> Iterator[Group]:
    """Yield what DICOMDIRs list (PS3.10 8.5), in order, with what is missing, then themselves."""
    for dicomdir in filter(is_list, media):
        found, reason = read_list(dicomdir)
        names, problem = found or ([], reason)
        files = {listed_file(dicomdir.parent, parts): parts for parts in names}
        for file, parts in files.items():
            inside = parts_of(PurePosixPath(*parts[:-1])) if not file.problem else ()
            yield (*media[dicomdir], *inside), [file]
        yield media[dicomdir], [Source(dicomdir, named=True, problem=problem)]


def listed_names(dicomdir: Path) -> tuple[list[Parts], str]:
    """Return the names that a DICOMDIR lists, in parts, and what is wrong with it, if anything."""
    try:
        with (
            opened_regular(dicomdir) as file,
            disable_value_validation(),
            warnings.catch_warnings(action="ignore"),
        ):
            header = read_header(file)
            records = sequence(header.data_set, "DirectoryRecordSequence")
            names = [text(record, "ReferencedFileID").split("\\") for record in records]
    except (*UNREADABLE, ConversionError, MemoryError) as error:
        return [], getattr(error, "strerror", None) or str(error) or "it does not fit in memory"
    listed = list(dict.fromkeys(tuple(parts) for parts in names if parts != [""]))
    if header.truncated:
        return listed, f"it ends inside {header.truncated}: files may be missing from its list"
    return listed, "" if listed else "lists no files"


def listed_file(root: Path, parts: tuple[str, ...]) -> Source:
    """Return the file that a DICOMDIR in *root* calls *parts*, whatever the case of its name."""
    path = root
    plain = all(re.fullmatch(r"(?!\.{0,2}$)[^/\0]{1,255}", part) for part in parts)
    if not plain or len(parts) > MAX_DEPTH:
        shown = [printable(part).replace("/", "_")[:255] for part in parts]
        return Source(root.joinpath(*shown), problem="its name leads out of the medium")
    for part in parts:
        path /= part if exists(path / part) else names_by_case(path).get(part.casefold(), part)
    problem = "" if exists(path) else "listed in the DICOMDIR, but missing"
    return Source(path, named=True, problem=problem, listed=True)


@lru_cache(maxsize=64)
def names_by_case(folder: Path) -> dict[str, str]:
    """Return the names in *folder* by how they look without case; none where it is unreadable."""
    try:
        return {path.name.casefold(): path.name for path in sorted(folder.iterdir(), reverse=True)}
    except OSError:
        return {}


def on_standard_input(inputs: Sequence[Path]) -> Iterator[Group]:
    """Yield the files, and those in the archives, that standard input names if it is an input."""
    if STDIN in inputs and sys.stdin is None:
        yield (), [Source(STDIN, named=True, problem="standard input is closed")]
    elif STDIN in inputs:
        for path in paths_from(sys.stdin.buffer):
            parts = parts_of(path.parent)
            if is_archive(path):
                yield from members_of(Source(path), (*parts, path.name))
            else:
                yield parts, [Source(path)]


def paths_from(stream: BinaryIO) -> Iterator[Path]:
    """Yield the paths that *stream* names, one a line or NUL-separated, as they come."""
    rest = separator = b""
    chunks = iter(partial(os.read, stream.fileno(), 1 << 16), b"")
    for chunk in chain(chunks, [b""]):
        rest += chunk or separator or b"\n"  # which the last may lack
        separator = separator or next((sign for sign in (b"\0", b"\n") if sign in rest), b"")
        *names, rest = rest.split(separator) if separator else [rest]
        for name in filter(bytes.strip, names):
            line = name if separator == b"\0" else name.rstrip(b"\r")
            yield Path(os.fsdecode(line).replace("\0", "\\0"))  # which can only be missing


# --- Code streams ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeStream:
    """What the head of a code stream says; *color* is "RGB", "YBR_FULL" or "" (silent)."""

    family: str = ""  # where it begins none of those known
    rows: int = 0  # like the columns 0 where its head breaks off
    columns: int = 0
    color: str = ""
    bits: int = 0  # of a sample, 0 where that was not read
    signed: bool = False
    samples: int = 0  # a pixel, 0 where that was not read


def code_stream(src: bytes) -> CodeStream:
    """Return what the head of a code stream says, as far as *src* goes."""
    if src[:2] == b"\xff\xd8":
        return jpeg_head(src)
    if src[:4] == b"\xff\x4f\xff\x51" or src[4:8] == b"jP  ":
        at = src.find(b"\xff\x4f\xff\x51")
        return jpeg_2000_head(src, at) if at >= 0 else CodeStream("JPEG 2000")
    return jpeg_xl_head(src) if src[:2] == b"\xff\x0a" or src[4:8] == b"JXL " else CodeStream()


def jpeg_head(src: bytes) -> CodeStream:
    """Read a JPEG or JPEG-LS code stream up to its frame header (ITU-T T.81 B.2.2, T.87 C.2.2).

    Its color is told by halved chroma, Adobe's APP14, the components' ids, and JFIF.
    """
    at, color, jfif = 2, "", ""
    while at + 10 <= len(src):
        marker, length = struct.unpack(">HH", src[at : at + 4])
        payload = src[at + 4 : at + 2 + length]
        if marker == 0xFFEE and payload[:5] == b"Adobe" and len(payload) >= 12:
            color = {0: "RGB", 1: "YBR_FULL"}.get(payload[11], "")
        if marker >> 4 == 0xFFE and payload[:4] == b"JFIF":
            jfif = "YBR_FULL"
        is_jpeg = 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)
        if is_jpeg or marker == 0xFFF7:
            bits, rows, columns, samples = struct.unpack(">BHHB", payload[:6].ljust(6, b"\0"))
            named = color or ("RGB" if payload[6:15:3] in (b"RGB", b"rgb") else jfif)
            color = "YBR_FULL" if len(set(payload[7:15:3])) > 1 else named
            family, color = "JPEG" if is_jpeg else "JPEG-LS", color if samples == 3 else ""
            return CodeStream(family, rows, columns, color, bits, samples=samples)
        at += 1 if marker == 0xFFFF else 2 + length
    return CodeStream("JPEG" if src[2:3] == b"\xff" else "")


def jpeg_2000_head(src: bytes, at: int) -> CodeStream:
    """Read the main header of a JPEG 2000 code stream at *at* (ITU-T T.800 A.5.1, A.6.1).

    With the multiple component transform its color decodes to RGB; so does what is sYCC by its
    subsampled components or by the box of its container (I.5.3.3).
    """
    size = src[at + 8 : at + 43].ljust(35, b"\0")
    x1, y1, x0, y0, components, depth = struct.unpack(">4L16xHB", size)
    steps = {src[at + 43 + 3 * number : at + 45 + 3 * number] for number in range(3)}
    in_box = src[:at].partition(b"colr")[2][3:7] == (18).to_bytes(4, "big")
    color = "RGB" if components == 3 and (len(steps) > 1 or in_box) else ""
    at += 2
    while src[at : at + 1] == b"\xff" and (marker := src[at : at + 2]) != b"\xff\x90":
        if marker == b"\xff\x52" and src[at + 8 : at + 9] == b"\1":
            color = "RGB"
        at += 2 + max(int.from_bytes(src[at + 2 : at + 4], "big"), 2)
    bits, signed = (depth & 0x7F) + 1, depth > 0x7F
    return CodeStream("JPEG 2000", y1 - y0, x1 - x0, color, bits, signed, components)


def jpeg_xl_head(src: bytes) -> CodeStream:
    """Read the size of a JPEG XL code stream, bare or in a container (ISO/IEC 18181-1 D.2)."""
    at = src.find(b"\xff\x0a", max(src.find(b"jxlc"), src.find(b"jxlp"), 0))
    head = np.frombuffer(src[at + 2 : at + 18] if at >= 0 else b"", np.uint8)
    bits = chain(np.unpackbits(head, bitorder="little").tolist(), repeat(0))

    def take(count: int) -> int:
        return sum(next(bits) << place for place in range(count))

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    rows, ratio = side(), take(3)
    across, down = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return CodeStream("JPEG XL", rows, rows * across // down if ratio else side(), "RGB")


# --- Decoders -------------------------------------------------------------------------------------


def decoded_frame(src: bytes, image: ImagePixel, syntax: UID) -> StoredFrame:
    """Decode one frame that was encapsulated, without masking a bit or converting a color.

    Raises `ConversionError` where it cannot be decoded, or says that it fills the memory.
    """
    label = image.photometric_interpretation
    if image.frame_bits > 8 * expanded_limit(len(src)):
        size = f"{image.columns} x {image.rows} pixels"
        raise ConversionError(f"declares {size} but holds {len(src)} bytes: too few for so many")
    try:
        if syntax == uid.RLELossless:
            src, image = decoded_rle(src, image), replace(image, planar_configuration=1)
        elif syntax == DEFLATED_IMAGE_FRAME:  # PS3.5 A.4.13
            src = zlib.decompressobj(-zlib.MAX_WBITS).decompress(src, image.whole_bits // 8 + 1)
        elif syntax != ENCAPSULATED_UNCOMPRESSED:  # PS3.5 A.4.11
            return decoded_stream(src, image)
        if 8 * len(src) >= image.whole_bits:  # not halved, whatever its label says
            image = replace(image, photometric_interpretation="RGB")
        return uncompressed_frame(src, image), label
    except UNREADABLE as error:
        raise ConversionError(str(error) or "no decoder could read it") from error


def decoded_stream(src: bytes, image: ImagePixel) -> StoredFrame:
    """Decode one code stream, by what it is whatever the header says, by the first that can."""
    stream = checked_code_stream(src, image)
    reasons = []
    for decode in (decoded_with_imagecodecs, decoded_with_pylibjpeg):
        try:
            stored = decode(src, stream, image.samples_per_pixel > 1)
        except (ImportError, *UNREADABLE) as error:
            reasons.append(str(error))
            continue
        if stored.shape == image.shape:
            return as_declared(stored, stream, image), color_of(stream, image)
        reasons.append(f"the code stream decodes to an array of {stored.shape}")
    raise ConversionError("; ".join(dict.fromkeys(filter(None, reasons))) or "it is not decoded")


def decoded_with_imagecodecs(src: bytes, stream: CodeStream, color: bool) -> Array:
    """Decode a code stream with imagecodecs."""
    if stream.family == "JPEG":
        # The same space on both sides keeps libjpeg from converting.
        space = "RGB" if color else None
        return imagecodecs.jpeg8_decode(src, colorspace=space, outcolorspace=space)
    # OpenJPEG for HTJ2K too: OpenJPH hands out garbage for a stream that is cut short.
    others = {"JPEG-LS": imagecodecs.jpegls_decode, "JPEG XL": imagecodecs.jpegxl_decode}
    return others.get(stream.family, imagecodecs.jpeg2k_decode)(src)


def decoded_with_pylibjpeg(src: bytes, stream: CodeStream, _color: bool) -> Array:
    """Decode a code stream with what pylibjpeg calls, which is imported only where it is needed."""
    from pylibjpeg.utils import get_decoders

    if stream.family == "JPEG XL":
        raise NotImplementedError
    name = "openjpeg" if stream.family == "JPEG 2000" else "libjpeg"
    return get_decoders()[name](src)


def as_declared(stored: Array, stream: CodeStream, image: ImagePixel) -> Array:
    """Return decoded words with the sign that the header declares, which few streams can say."""
    itemsize = stored.dtype.itemsize
    if stream.family == "JPEG 2000" and image.bits_allocated > 8 * itemsize:
        itemsize = image.bits_allocated // 8  # else the sign would be lost
        stored = stored.astype(f"{stored.dtype.kind}{itemsize}")
    stored = stored.view(f"{'ui'[image.pixel_representation]}{itemsize}")
    unused = 8 * itemsize - stream.bits
    if image.pixel_representation and unused > 0 and stream.family in ("JPEG 2000", "JPEG-LS"):
        stored = stored << unused >> unused
    return stored


def checked_code_stream(src: bytes, image: ImagePixel) -> CodeStream:
    """Return what *src* is; raise `ConversionError` unless it is whole and of the header's size."""
    stream = code_stream(src)
    if not stream.family:
        raise ConversionError("the code stream is neither JPEG, JPEG-LS, JPEG 2000 nor JPEG XL")
    if not (stream.rows or stream.columns):
        raise ConversionError(f"the {stream.family} code stream has no frame header")
    # The decoders fill what is missing of a JPEG with gray.
    if src[:2] == b"\xff\xd8" and src.rfind(b"\xff\xd9", max(len(src) - 1024, 0)) < 0:
        raise ConversionError("the JPEG code stream is truncated: its end marker is missing")
    if (stream.rows, stream.columns) != (image.rows, image.columns):
        found, declared = f"{stream.columns} x {stream.rows}", f"{image.columns} x {image.rows}"
        raise ConversionError(f"the code stream is {found}, the header says {declared}")
    if stream.samples > image.samples_per_pixel:
        found, declared = f"{stream.samples} samples a pixel", f"{image.samples_per_pixel}"
        raise ConversionError(f"the code stream holds {found}, the header says {declared}")
    return stream


def color_of(stream: CodeStream, image: ImagePixel) -> str:
    """Return the space that a code stream decodes to, whatever its label says."""
    label = image.photometric_interpretation
    if label in ("YBR_ICT", "YBR_RCT"):  # the decoder undoes them
        return "RGB"
    if stream.color and stream.color[:3] != label[:3] and image.samples_per_pixel == 3:
        warn(f"the code stream decodes to {stream.color}, though its label says otherwise")
        return stream.color
    return label


def decoded_rle(src: bytes, image: ImagePixel) -> bytes:
    """Decode one RLE frame to planes with pydicom, of one bit too, which pydicom refuses."""
    # In Python, for on a broken stream pylibjpeg-rle panics and imagecodecs crashes.
    rows, columns, bits = image.rows, image.columns, image.bits_allocated
    if bits == 1:
        rows, columns, bits = 1, math.ceil(rows * columns / 8), 8
    return bytes(rle._rle_decode_frame(src, rows, columns, image.samples_per_pixel, bits))


def uncompressed_frame(raw: bytes, image: ImagePixel, start: int = 0) -> Array:
    """Return the frame at bit *start* of little-endian *raw*, or raise `ConversionError` if cut."""
    bits, size, label = image.bits_allocated, image.frame_bits, image.photometric_interpretation
    if 8 * len(raw) < start + size:
        raise ConversionError(f"a frame holds {len(raw)} of {math.ceil(size / 8)} bytes")
    if bits % 8:  # without a gap between samples, the least significant bit first (PS3.5 8.1.1)
        samples = unpacked_bits(raw, start, size)
        if bits > 1:  # to words, filled up with 0
            samples = np.packbits(samples.reshape(-1, bits), axis=1, bitorder="little").view("<u2")
    else:
        sample_type = f"<{'ui'[image.pixel_representation]}{bits // 8}"
        samples = np.frombuffer(raw, sample_type, size // bits, start // 8)
    if label.endswith("_422"):  # two of Y, then their Cb and Cr (PS3.3 C.7.6.3.1.2)
        if image.columns % 2:
            raise ConversionError(f"{label} without compression needs an even number of columns")
        samples = samples.reshape(-1, 4)[:, [0, 2, 3, 1, 2, 3]]
    elif image.planar_configuration:
        samples = samples.reshape(image.samples_per_pixel, -1).T
    return samples.reshape(image.shape)


def unpacked_bits(raw: bytes, start: int, size: int) -> Array:
    """Return *size* bits (uint8) of *raw* from bit *start*, least significant first; then 0."""
    first, skipped = divmod(start, 8)
    packed = np.frombuffer(memoryview(raw)[first:] or b"\0", np.uint8)  # numpy fills up no less
    return np.unpackbits(packed, count=skipped + size, bitorder="little")[skipped:]


# --- Image and frames -----------------------------------------------------------------------------

# What the transfer syntaxes declare that a code stream is.
SYNTAXES_OF_STREAMS = {
    "JPEG": (
        *uid.JPEGTransferSyntaxes,
        UID("1.2.840.10008.1.2.4.53"),  # retired: spectral selection, process 6 and 8
        UID("1.2.840.10008.1.2.4.55"),  # retired: full progression, process 10 and 12
    ),
    "JPEG-LS": tuple(uid.JPEGLSTransferSyntaxes),
    "JPEG 2000": tuple(one for one in uid.JPEG2000TransferSyntaxes if "Part 2" not in one.name),
    "JPEG XL": JPEG_XL_SYNTAXES,
}
SYNTAXES_WITHOUT_STREAM = uid.RLELossless, ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME
DECODED_SYNTAXES = (*chain(*SYNTAXES_OF_STREAMS.values()), *SYNTAXES_WITHOUT_STREAM)
GRAY_INTERPRETATIONS = re.compile("MONOCHROME[12]|PALETTE COLOR")
COLOR_INTERPRETATIONS = re.compile("RGB|YBR_(FULL|FULL_422|PARTIAL_422|PARTIAL_420|ICT|RCT)")


def image_pixel(ds: Dataset, pixels: PixelLocation) -> ImagePixel:
    """Read the Image Pixel module; what is missing is filled in with a warning where that is safe.

    Raises `ConversionError` where the size is missing or absurd.
    """
    rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
    if rows <= 0 or columns <= 0:
        raise ConversionError(f"{'Columns' if rows > 0 else 'Rows'} is missing or 0")
    float_bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(pixels.keyword)
    photometric = text(ds, "PhotometricInterpretation").upper()
    assumed = 3 if COLOR_INTERPRETATIONS.fullmatch(photometric) else 1
    samples = integer(ds, "SamplesPerPixel", assumed)
    if samples not in (1, 3):
        raise ConversionError(f"{samples} samples a pixel: only 1 and 3 can be shown")
    allocated = float_bits or bits_allocated(ds, samples, packed=pixels.fragments is None)
    stored = float_bits or integer(ds, "BitsStored", allocated, range(1, allocated + 1))
    least = stored - 1
    high_bit = least if float_bits else integer(ds, "HighBit", least, range(least, allocated))
    high, wide = (integer(ds, f"TotalPixelMatrix{axis}") for axis in ("Rows", "Columns"))
    image = ImagePixel(
        rows=rows,
        columns=columns,
        number_of_frames=integer(ds, "NumberOfFrames"),
        samples_per_pixel=samples,
        photometric_interpretation=photometric_interpretation(photometric, samples),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        pixel_representation=1 if float_bits else integer(ds, "PixelRepresentation") & 1,
        planar_configuration=integer(ds, "PlanarConfiguration") & 1,
        matrix=(high or rows, wide or columns),
        tiled=bool(high or wide),
    )
    if tag_of("PixelRepresentation") not in ds and not float_bits:
        warn("Pixel Representation is missing, taken as unsigned")
    if image.number_of_frames < 1:
        held = max(frames_held(image, pixels), 1)
        image = replace(image, number_of_frames=held)
        if held > 1:
            warn(f"Number of Frames is missing: the pixel data hold {held}")
    if image.frame_bits > MAX_FRAME_BYTES * 8:
        raise ConversionError(f"declares {columns} x {rows} pixels: too many for memory")
    return image


def bits_allocated(ds: Dataset, samples_per_pixel: int, *, packed: bool) -> int:
    """Return the bits of a sample, 12 if *packed* (ACR-NEMA), or raise `ConversionError`."""
    allocated = integer(ds, "BitsAllocated")
    if allocated == 12 and not packed:
        warn("Bits Allocated is 12, taken as 16")
        return 16
    if allocated not in (1, 8, 12, 16, 32):
        shown = allocated or "missing"
        raise ConversionError(f"Bits Allocated is {shown}: only 1, 8, 12, 16 and 32 can be read")
    if allocated % 8 and samples_per_pixel > 1:
        raise ConversionError(f"color of {allocated} bits a sample cannot be shown")
    return allocated


def photometric_interpretation(declared: str, samples_per_pixel: int) -> str:
    """Return (0028,0004) as *declared* or assumed; raise `ConversionError` for unknown color."""
    if declared == "XYB" and samples_per_pixel == 3:  # JPEG XL, whose decoder hands out RGB
        return "RGB"
    known = GRAY_INTERPRETATIONS if samples_per_pixel == 1 else COLOR_INTERPRETATIONS
    if known.fullmatch(declared):
        return declared
    shown = printable(declared[:16]) or "missing"
    if samples_per_pixel > 1 and declared:
        raise ConversionError(f"color of Photometric Interpretation {shown} cannot be shown")
    assumed = "MONOCHROME2" if samples_per_pixel == 1 else "RGB"
    warn(f"Photometric Interpretation is {shown}, taken as {assumed}")
    return assumed


def frames_held(image: ImagePixel, pixels: PixelLocation) -> int:
    """Return how many frames the pixel data hold, 0 where nothing tells."""
    if pixels.fragments is None:  # those of bytes may have one more behind them, for an even length
        return (pixels.length - (image.frame_bits <= 8)) * 8 // image.frame_bits
    return len(pixels.begun)


def as_its_stream(image: ImagePixel, pixels: PixelLocation) -> ImagePixel:
    """Return *image* with the sign and the depth of its code stream where the header falls short.

    JPEG 2000 (ITU-T T.800 A.5.1) may be signed though its header says no. Signed data in an
    unsigned stream are as the header says, and so are few bits in a stream of 8 or 16.
    """
    stream = code_stream(pixels.head)
    if stream.signed and not image.pixel_representation:
        warn("the code stream is signed though the header says it is not: the stream was followed")
        image = replace(image, pixel_representation=1)
    bits = stream.bits if stream.signed or not image.pixel_representation else 0
    if image.bits_stored < bits <= 32 and (bits not in (8, 16) or bits > image.bits_allocated):
        if image.bits_stored <= 8:  # JPEG has only 12 bits for 9 to 11
            warn(f"the code stream holds {bits} bits, the header says {image.bits_stored}")
        allocated = max(image.bits_allocated, 8, 1 << (bits - 1).bit_length())  # 8, 16 or 32
        return replace(image, bits_allocated=allocated, bits_stored=bits, high_bit=bits - 1)
    return image


def pixel_syntax(header: Header, pixels: PixelLocation) -> UID:
    """Return the syntax that the pixels are in, by their code stream: headers lie (fo-dicom #645).

    Raises `ConversionError` where neither header nor stream tells.
    """
    declared, name = header.transfer_syntax, name_of(header.transfer_syntax)
    if pixels.fragments is None:
        if declared in NATIVE_SYNTAXES:
            return declared
        warn(f"the pixels are not compressed, though declared as {name}")
        return uid.ExplicitVRLittleEndian
    family = code_stream(pixels.head).family
    if family and declared not in SYNTAXES_OF_STREAMS[family]:
        warn(f"the pixels are {family}, though declared as {name}")
        return SYNTAXES_OF_STREAMS[family][0]
    if declared in NATIVE_SYNTAXES:
        raise ConversionError("the pixels are compressed, but nothing tells how")
    if declared not in DECODED_SYNTAXES:
        raise ConversionError(f"the transfer syntax is not decoded: {name}")
    return declared


def frame_boundaries(header: Header, pixels: PixelLocation, frames: int) -> Sequence[int]:
    """Return the number of the fragment that begins each frame, and of the one after the last.

    What the fragments hold goes before the offset tables, Basic and Extended (PS3.5 A.4, PS3.3
    C.7.6.3.1.8), which are often wrong. Raises `ConversionError` where nothing tells frames apart.
    """
    fragments, begun = pixels.fragments or 0, pixels.begun
    if fragments == frames:
        return range(frames + 1)
    if frames == 1 and (len(begun) < 2 or header.transfer_syntax == DEFLATED_IMAGE_FRAME):
        return 0, fragments
    if len(begun) != frames:
        begun = begun_by_tables(header, pixels, frames) or begun
    if begun and len(begun) < frames:
        raise ConversionError(f"declares {frames} frames but holds {len(begun)} code streams")
    if not begun:
        raise ConversionError(f"holds {fragments} fragments, and nothing tells its frames apart")
    return [*begun, fragments][: frames + 1]


def begun_by_tables(header: Header, pixels: PixelLocation, frames: int) -> list[int]:
    """Return the fragments that begin frames by an offset table that can be right, else []."""
    extended = raw_bytes(header.data_set, Tag("ExtendedOffsetTable")) or b""
    starts, first = pixels.starts[:-1], header.file.seek(pixels.offset + ITEM_HEAD_BYTES)
    basic = header.file.read(starts[0] - ITEM_HEAD_BYTES - first)
    number_at = {start - starts[0]: number for number, start in enumerate(starts)}
    for table, size in ((extended, 8), (basic, 4)):
        offsets = np.frombuffer(table, f"<u{size}", len(table) // size).tolist()
        begun = [number_at.get(offset, -1) for offset in offsets]
        if len(begun) >= frames and begun == sorted({*begun, 0}):
            return begun
    return []


def stored_frames(header: Header, pixels: PixelLocation, image: ImagePixel) -> StoredFrames:
    """Return the frames of a file; raise `ConversionError` where it cannot hold or decode them."""
    syntax, frames = pixel_syntax(header, pixels), image.number_of_frames
    if pixels.fragments is None:
        check_native(image, pixels)
    elif not pixels.whole and pixels.fragments != frames:
        raise ConversionError("the file ends inside its pixel data: it is truncated")
    elif pixels.fragments < frames:
        raise ConversionError(f"declares {frames} frames but holds {pixels.fragments} fragments")
    if not pixels.whole:
        warn("the pixel data do not end as declared, but all frames are there")
    held = frames_held(image, pixels)
    if syntax == ENCAPSULATED_UNCOMPRESSED:
        held = pixels.joined(pixels.fragments or 0) * 8 // image.frame_bits
    if held > frames:
        warn(f"holds {held} frames, but declares {frames}: the rest was left out")
    return StoredFrames(header, pixels, image, syntax, range(frames))


def check_native(image: ImagePixel, pixels: PixelLocation) -> None:
    """Raise `ConversionError` unless uncompressed pixels are laid out as *image* says."""
    frames, label = image.number_of_frames, image.photometric_interpretation
    if label == "YBR_PARTIAL_420":
        raise ConversionError("YBR_PARTIAL_420 without compression has no layout that is defined")
    if label.endswith("_422") and pixels.length * 8 >= image.whole_bits * frames:
        raise ConversionError("YBR_..._422 with three samples a pixel: its colors cannot be known")
    if pixels.length * 8 < image.frame_bits * frames:
        times = f"{frames} frames of " if frames > 1 else ""
        size = f"{times}{image.columns} x {image.rows} pixels"
        raise ConversionError(f"declares {size} but holds {pixels.length} bytes")


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The frames of one file as (stored, photometric interpretation), decoded on each iteration.

    *stored* is (rows, columns) or (rows, columns, 3) in native byte order, no bit masked and no
    color converted. Only one frame is in memory at a time.
    """

    header: Header
    pixels: PixelLocation
    image: ImagePixel
    syntax: UID
    numbers: Sequence[int]  # of the frames that are wanted, from 0, in any order

    def __iter__(self) -> Iterator[StoredFrame]:
        """Yield the frames of *numbers*."""
        native = self.pixels.fragments is None
        for stored, label in self._native() if native else self._encapsulated():
            yield np.ascontiguousarray(stored, stored.dtype.newbyteorder("=")), label

    def _encapsulated(self) -> Iterator[StoredFrame]:
        """Yield the frames that are decoded, each from its fragments joined."""
        fragments = io.BufferedReader(FragmentReader(self.header.file, self.pixels))
        bounds = frame_boundaries(self.header, self.pixels, self.image.number_of_frames)
        for index in self.numbers:
            start, end = map(self.pixels.joined, bounds[index : index + 2])
            fragments.seek(start)
            yield decoded_frame(fragments.read(end - start), self.image, self.syntax)

    def _native(self) -> Iterator[StoredFrame]:
        """Yield the frames that follow each other without a gap, even inside a byte.

        In big-endian files bytes are swapped by samples, and by the words that OW consists of.
        """
        file, pixels, image = self.header.file, self.pixels, self.image
        bits, label = image.bits_allocated, image.photometric_interpretation
        unit = max(bits // 8, 2 if pixels.vr == "OW" else 1)
        for index in self.numbers:
            word, start = divmod(index * image.frame_bits, 16)
            file.seek(pixels.offset + 2 * word)
            raw = file.read((start + image.frame_bits + 15) // 16 * 2)
            if self.syntax == uid.ExplicitVRBigEndian:
                words = np.frombuffer(raw, f">u{unit}", len(raw) // unit)
                raw = words.astype(f"<u{unit}").tobytes() + raw[words.nbytes :]
            stored = uncompressed_frame(raw, image, start)
            yield stored if pixels.keyword == "PixelData" else stored.view(f"<f{bits // 8}"), label


def tiles_of(ds: Dataset, image: ImagePixel) -> Iterator[Tile]:
    """Yield what each frame shows and where, as stated or as its number implies (C.7.6.17.3).

    There columns vary fastest, then rows, planes, and paths or segments. What is unknown is NaN.
    """
    down, across = (-(-image.matrix[axis] // image.shape[axis]) for axis in (0, 1))
    first = integer(ds, "ConcatenationFrameOffsetNumber")
    labels = text(ds, "SegmentationType") == "LABELMAP"  # of all segments in one picture
    segments = [] if labels else sorted(segments_of(ds))
    paths = [text(one, "OpticalPathIdentifier") for one in sequence(ds, "OpticalPathSequence")]
    declared = integer(ds, "TotalPixelMatrixFocalPlanes")
    each = down * across * max(len(segments or paths), 1)
    planes = declared or image.number_of_frames // each or 1
    axes = "RowPositionInTotalImagePixelMatrix", "ColumnPositionInTotalImagePixelMatrix"
    stated = axes[0] in functional_group(ds, "PlanePositionSlideSequence", 0)
    for frame in range(image.number_of_frames):
        group = partial(functional_group, ds, frame=frame)
        channel, at = divmod(0 if stated else first + frame, down * across * planes)
        plane, at = divmod(at, down * across)
        place: Tile = plane, frame, at // across * image.rows, at % across * image.columns
        if stated:
            lies = group("PlanePositionSlideSequence")
            z = 0 if declared == 1 else number(lies, "ZOffsetInSlideCoordinateSystem") or 0
            place = z, frame, *((*numbers(lies, axis), math.nan)[0] - 1 for axis in axes)
        path = text(group("OpticalPathIdentificationSequence"), "OpticalPathIdentifier")
        if segments:
            known = number(group("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
            channel = int(known or segments[min(channel, len(segments) - 1)])
        elif path in paths:
            channel = paths.index(path)
        yield channel, *place


# --- Timing (PS3.3 C.7.6.5) -----------------------------------------------------------------------


def recorded_durations(ds: Dataset, frames: int) -> tuple[tuple[Fraction, ...], str]:
    """Return how long each frame was recorded to last, in seconds, and the attribute that says so.

    PS3.3 C.7.6.5. ((), "") where the frames are places and not moments.
    """
    vector = numbers(ds, "FrameTimeVector")[:frames]  # its first increment is 0
    gaps, origin = [seconds(Fraction(value) / 1000) for value in vector[1:]], "Frame Time Vector"
    overruled = "0018,1063" in text(ds, "FrameIncrementPointer")
    if overruled or len(vector) < frames or min(gaps, default=0) <= 0:
        duration, origin = recorded_duration(ds, frames)
        if duration:
            return (duration,) * frames, origin
        times, origin = frame_times(ds, frames), "Frame Reference DateTime"
        gaps = [seconds((end - start).total_seconds()) for start, end in pairwise(times)]
    return ((*gaps, gaps[-1]), origin) if min(gaps, default=0) > 0 else ((), "")


def recorded_duration(ds: Dataset, frames: int) -> tuple[Fraction | None, str]:
    """Return how long each frame lasts where all last as long, in seconds, and what says so."""
    rates = {"RecommendedDisplayFrameRate": 1, "CineRate": 1}  # in 1/s
    times = {"ActualFrameDuration": 1000, "EffectiveDuration": frames}  # in ms, of all in s
    for keyword, unit in {"FrameTime": 1000, **rates, **times}.items():  # in the order of trust
        if (value := Fraction(number(ds, keyword) or 0)) > 0:
            duration = 1 / value if keyword in rates else value / unit
            return seconds(duration), dictionary_description(keyword)
    return None, ""


def frame_times(ds: Dataset, frames: int) -> list[datetime]:
    """Return when each frame was taken (PS3.3 C.7.6.16.2.2), [] unless all frames say so."""
    times = []
    with suppress(ValueError, AttributeError):
        for frame in range(frames):
            content = functional_group(ds, "FrameContentSequence", frame)
            reference = text(content, "FrameReferenceDateTime")
            found = DT(reference or text(content, "FrameAcquisitionDateTime"))
            times.append(datetime.combine(found.date(), found.time()))  # some lack a time zone
    return times if len(times) == frames else []


def seconds(value: Fraction | float) -> Fraction:
    """Return *value* to the microsecond or nearer, as the clocks of MP4 can count it (32 bits)."""
    return Fraction(value).limit_denominator(1_000_000)


def timing_of(
    recorded: tuple[Fraction, ...], origin: str, frames: int, rate: Fraction | None
) -> Timing:
    """Decide how long each of *frames* is shown: at *rate* (1/s), or as *recorded* without one."""
    if recorded and not MIN_DURATION <= min(recorded) <= max(recorded) <= MAX_DURATION:
        warn(f"{origin} is out of all proportion and was left out")
        recorded = ()
    steady = (1 / (rate or DEFAULT_FRAME_RATE),) * frames
    if not recorded:
        usable = "usable rate" if origin else "rate"
        return Timing(steady, f"{shown_rate(steady)} fps; no {usable} is recorded")
    if rate is None or recorded == steady:
        return Timing(recorded, f"{shown_rate(recorded)} fps, as recorded ({origin})")
    used = f"{shown_rate(steady)} fps; recorded at {shown_rate(recorded)} ({origin}), {RATE_HINT}"
    return Timing(steady, used)


def shown_rate(durations: Sequence[Fraction]) -> str:
    """Return the mean frame rate in 1/s, to four digits."""
    mean = f"{float(len(durations) / sum(durations)):.4g}"
    return mean if len(set(durations)) == 1 else f"{mean} (varying)"


# --- Grayscale (PS3.3 C.11) -----------------------------------------------------------------------

OF_CT = "usual for CT"
MIN_MAX = "min-max of all pixels without padding"
FRACTION = dictionary_description("MaximumFractionalValue")
Frames = Callable[[], Iterable[StoredFrame]]  # of a file, anew


def sample_format(data_set: Dataset, image: ImagePixel) -> SampleFormat:
    """Return how stored values sit in the words, and which are padding (PS3.3 C.7.5.1.1.2)."""
    padding = None
    for prefix in ("", "Float", "DoubleFloat"):
        ends = [number(data_set, f"{prefix}PixelPadding{end}") for end in ("Value", "RangeLimit")]
        if ends[0] is not None:
            given = (end for end in ends if end is not None)
            known = [end if prefix else as_stored(int(end), image) for end in given]
            padding = min(known), max(known)
    return SampleFormat(image.bits_stored, image.high_bit, image.pixel_representation > 0, padding)


def as_stored(value: int, image: ImagePixel) -> int:
    """Return *value* as pixels hold it: its element is often the wrong one of SS and US."""
    word = value % (1 << image.bits_allocated)
    signed = as_signed(as_signed(word, image.bits_allocated), image.bits_stored)
    return signed if image.pixel_representation else word


def as_signed(value: int, bits: int) -> int:
    """Return *value* in two's complement of *bits* where it was read as unsigned."""
    return value - (1 << bits) if (1 << (bits - 1)) <= value < (1 << bits) else value


def grayscale_transforms(ds: Dataset, image: ImagePixel, choice: WindowChoice) -> Transforms:
    """Return the transform of each frame; a single one where all frames share theirs."""
    samples = sample_format(ds, image)
    # Presentation LUT Shape says the same as MONOCHROME1 once more: invert once (PS3.3 C.11.6).
    label, shape = image.photometric_interpretation, text(ds, "PresentationLUTShape")
    invert = label == "MONOCHROME1"
    if shape == ("IDENTITY" if invert else "INVERSE"):
        warn(f"Presentation LUT Shape {shape} contradicts {label}: the shape was followed")
        invert = not invert
    whole = whole_fraction(ds)
    fraction = [Window(whole / 2, whole, VoiFunction.LINEAR_EXACT, FRACTION, 1)] if whole else []
    of_groups: dict[tuple[int, int], GrayscaleTransform] = {}  # frames mostly share theirs
    transforms, grouped = [], tag_of("PerFrameFunctionalGroupsSequence") in ds
    for frame in range(image.number_of_frames if grouped else 1):
        pixel_values = functional_group(ds, "PixelValueTransformationSequence", frame)
        frame_voi = functional_group(ds, "FrameVOILUTSequence", frame)
        key = id(pixel_values), id(frame_voi)
        if key not in of_groups:
            modality = modality_of(pixel_values, ds, samples)
            signed = modality_ends(modality, samples)[0] < 0
            tables = lookup_tables(frame_voi, "VOI LUT", signed)  # preferred (PS3.3 C.11.2)
            vois: list[Voi] = [*tables, *(stored_windows(frame_voi) or fraction)]
            voi, origin = chosen_voi(vois, choice, text(ds, "Modality"))
            if origin == OF_CT and "RescaleIntercept" not in pixel_values:
                raise NoWindowError("windows of CT want Hounsfield units, which this one lacks")
            of_groups[key] = GrayscaleTransform(samples, modality, voi, origin, invert)
        transforms.append(of_groups[key])
    return tuple(transforms) if len(set(of_groups.values())) > 1 else (transforms[0],)


def modality_of(group: Dataset, data_set: Dataset, samples: SampleFormat) -> Rescale | LookupTable:
    """Return the modality step that *group* asks for (PS3.3 C.11.1), identity where it has none."""
    xray = uid.XRayAngiographicImageStorage, uid.XRayRadiofluoroscopicImageStorage
    if text(data_set, "SOPClassUID") in xray:  # to X-ray intensity, not for display (C.8.7.1.1.2)
        return Rescale()
    if tables := lookup_tables(group, "Modality LUT", samples.signed):
        return tables[0]
    slope, intercept = number(group, "RescaleSlope"), number(group, "RescaleIntercept")
    if slope == 0:
        warn("Rescale Slope is 0, taken as 1")
    return Rescale(slope or 1.0, intercept or 0.0)


def modality_ends(modality: Rescale | LookupTable, samples: SampleFormat) -> tuple[float, float]:
    """Return the least and the greatest value that the modality step can put out."""
    if isinstance(modality, LookupTable):
        return 0, (1 << modality.bits) - 1
    low = -(1 << (samples.bits_stored - 1)) if samples.signed else 0
    stored = low, low + (1 << samples.bits_stored) - 1
    ends = sorted(value * modality.slope + modality.intercept for value in stored)
    return ends[0], ends[1]


def chosen_voi(vois: Sequence[Voi], choice: WindowChoice, modality: str) -> tuple[Voi | None, str]:
    """Return the VOI step that *choice* means in an image of *modality*, and where it came from.

    None: min-max. Raises `NoWindowError` where the image has no such window.
    """
    if isinstance(choice, Voi):
        return choice, "as asked for"
    if choice == "full" or (choice == "auto" and not vois):
        origin = "as asked for" if choice == "full" else "for the file stores no window"
        return None, f"{MIN_MAX}, {origin}"
    if choice == "auto":
        tables = [voi for voi in vois if isinstance(voi, LookupTable)]
        kind, group = ("tables", tables) if tables else ("windows", vois)
        return vois[0], f"first of {len(group)} stored {kind}" if len(group) > 1 else "as stored"
    if isinstance(choice, int):
        numbered: dict[int, Voi] = {voi.number: voi for voi in vois if isinstance(voi, Window)}
        numbered = numbered or dict(enumerate(vois, 1))
        if choice not in numbered:
            raise NoWindowError(f"has no window number {choice}: it stores {len(numbered)}")
        return numbered[choice], f"number {choice} of those stored"
    return named_voi(vois, choice, modality)


def named_voi(stored: Sequence[Voi], name: str, modality: str) -> tuple[Voi, str]:
    """Return the stored VOI step that is called *name*, else the usual CT window of that name."""
    for voi in stored:
        if voi.explanation.casefold() == name.casefold():
            return voi, "stored under that name"
    if name.casefold() not in CT_WINDOWS:
        known = sorted({printable(voi.explanation) for voi in stored if voi.explanation})
        known += CT_WINDOWS if modality == "CT" else ()
        names = ", ".join(known) or "it stores none with a name"
        raise NoWindowError(f"has no window called {printable(name)}: {names}")
    if modality != "CT":
        raise NoWindowError(f"the window {name} is one of CT, this is {modality or 'unknown'}")
    center, width = CT_WINDOWS[name.casefold()]
    return Window(center, width, explanation=name), OF_CT


def stored_windows(group: Dataset) -> list[Window]:
    """Return the usable windows of *group*; a width that the function forbids is warned of."""
    centers, widths = (numbers(group, name, math.nan) for name in ("WindowCenter", "WindowWidth"))
    names = [*text(group, "WindowCenterWidthExplanation").split("\\"), *[""] * len(centers)]
    declared = text(group, "VOILUTFunction") or "LINEAR"
    function = VoiFunction.__members__.get(declared, VoiFunction.LINEAR)
    if declared != function:
        warn(f"VOI LUT Function is {printable(declared[:16])}, taken as LINEAR")
    windows = []
    for position, (center, width, name) in enumerate(zip(centers, widths, names, strict=False), 1):
        if not (math.isfinite(center) and math.isfinite(width)):
            warn("a window without center or width was left out")
        elif width >= 1 or (width > 0 and function != VoiFunction.LINEAR):
            windows.append(Window(center, width, function, name.strip(), position))
        else:
            warn(f"a window of width {width:g} was left out")
    return windows


def lookup_tables(group: Dataset, name: str, signed: bool) -> list[LookupTable]:
    """Read the tables of the sequence of that *name* (PS3.3 C.11.1.1); warn of incomplete ones."""
    tables = []
    for item in sequence(group, f"{name.replace(' ', '')}Sequence"):
        descriptor, entries = words(item, "LUTDescriptor").tolist(), words(item, "LUTData")
        if len(descriptor) < 3 or not len(entries):
            warn(f"the {name} is incomplete and was left out")
            continue
        count, first, bits = descriptor[:3]
        entries = table_entries(entries, count or 65536, bits, name)
        deepest = max(int(entries.max()).bit_length(), 1)
        if not 1 <= bits <= 16 or deepest > bits:
            warn(f"the {name} says {bits} bits but holds {deepest}")
            bits = deepest
        first = as_signed(first, 16) if signed else first
        tables.append(LookupTable(first, bits, entries.tobytes(), text(item, "LUTExplanation")))
    return tables


def table_entries(table: Array, count: int, bits: int, name: str) -> Array:
    """Return *count* entries of *table*, with a warning where it holds fewer."""
    if len(table) < count and (bits <= 8 or 2 * len(table) in (count, count + 1)):
        table = table.view(np.uint8).astype("<u2")  # two to a word, often despite *bits*
    if len(table) < count:
        warn(f"the {name} holds {len(table)} of {count} entries")
    return table[:count]


def words(data_set: Dataset, keyword: str | int) -> Array:
    """Return an element of US, SS or OW as little-endian words of 16 bits."""
    raw = raw_bytes(data_set, tag_of(keyword))
    if raw is None:
        return (np.array(numbers(data_set, keyword), np.int64) & 0xFFFF).astype("<u2")
    order = ">" if data_set.original_encoding[1] is False else "<"
    return np.frombuffer(raw[: len(raw) & ~1], f"{order}u2").astype("<u2")


def stored_values(codes: Array, samples: SampleFormat) -> Array:
    """Take stored values out of decoded words: mask above High Bit, shift, extend the sign.

    PS3.5 8.1.1. Integers come back as int64, floating point as float64.
    """
    if codes.dtype.kind == "f":
        return codes.astype(np.float64)
    unsigned = codes.view(f"u{codes.dtype.itemsize}").astype(np.int64)
    narrow = samples.bits_stored < 8 * codes.dtype.itemsize
    shift = samples.high_bit + 1 - samples.bits_stored if narrow else 0
    values = (unsigned >> shift) & ((1 << samples.bits_stored) - 1)
    if samples.signed:
        values -= (values >> (samples.bits_stored - 1)) << samples.bits_stored
    return cast(Array, values)


def modality_values(stored: Array, modality: Rescale | LookupTable) -> Array:
    """Map *stored* values to modality units, float64 (PS3.3 C.11.1)."""
    if isinstance(modality, Rescale):
        return stored.astype(np.float64) * modality.slope + modality.intercept
    return looked_up(stored, modality).astype(np.float64)


def looked_up(values: Array, table: LookupTable) -> Array:
    """Return the uint16 entries of *table* at *values*; its end entries hold beyond the ends."""
    entries = np.frombuffer(table.entries, "<u2")
    index = np.clip(np.nan_to_num(np.rint(values - table.first_value)), 0, len(entries) - 1)
    return np.asarray(entries[index.astype(np.int64)])


@np.errstate(over="ignore")  # far from the center, by a tiny width
def voi_values(values: Array, voi: Voi) -> Array:
    """Map modality *values* to 0..1 (float64) through the value-of-interest window or table.

    PS3.3 C.11.2.1.2 (LINEAR sits half a unit off center, width 1 is a threshold), C.11.2.1.3.
    """
    if isinstance(voi, LookupTable):
        return looked_up(values, voi) / ((1 << voi.bits) - 1)
    center, width = voi.center, voi.width
    if voi.function == VoiFunction.SIGMOID:
        return cast(Array, 1 / (1 + np.exp(-4 * (values - center) / width)))
    if voi.function == VoiFunction.LINEAR:
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def gray_levels(stored: Array, transform: GrayscaleTransform) -> Array:
    """Map *stored* values to display levels 0..1 (float64); padding and NaN are shown as black."""
    values = modality_values(stored, transform.modality)
    levels = voi_values(values, cast(Voi, transform.voi))
    if table := transform.presentation:
        levels = voi_values(levels * table.last, table)
    if transform.invert:
        levels = 1 - levels
    levels[padding_mask(stored, transform.samples) | np.isnan(levels)] = 0
    return levels


def padding_mask(stored: Array, samples: SampleFormat) -> Array:
    """Return where *stored* values are no gray: padding (PS3.3 C.7.5.1.1.2) or colors."""
    low, high = samples.padding or (math.inf, -math.inf)
    return np.asarray((stored >= low) & (stored <= high) | (stored >= samples.first_color))


def quantized(levels: Array, bits: int) -> Array:
    """Round levels 0..1 once, to uint8 or uint16."""
    return np.asarray(np.rint(levels * ((1 << bits) - 1)).astype(f"u{bits // 8}"))


@lru_cache(maxsize=64)
def display_table(transform: GrayscaleTransform, itemsize: int, bits: int) -> Array:
    """Return the whole grayscale pipeline as a table over every word of 1 or 2 bytes."""
    codes = np.arange(1 << 8 * itemsize, dtype=f"u{itemsize}")
    return quantized(gray_levels(stored_values(codes, transform.samples), transform), bits)


def gray_picture(stored: Array, transform: GrayscaleTransform, bits: int) -> Array:
    """Render *stored* (rows, columns) as uint8 or uint16: a look-up, or arithmetic over 16 bits."""
    if is_tabled(stored):
        table = display_table(transform, stored.dtype.itemsize, bits)
        return cast(Array, cv2.LUT(stored.view(f"u{stored.dtype.itemsize}"), table))
    return quantized(gray_levels(stored_values(stored, transform.samples), transform), bits)


def is_tabled(stored: Array) -> bool:
    """Tell whether the words of *stored* are few enough for a table over all of them."""
    return stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2


def modality_range(frames: Iterable[StoredFrame], transforms: Transforms) -> tuple[float, float]:
    """Return the least and the greatest modality value of all frames without padding; else 0, 0."""
    ends: list[float] = []
    for (stored, _), transform in zip(frames, cycle(transforms), strict=False):
        values = stored_values(words_in(stored), transform.samples)
        values = values[~padding_mask(values, transform.samples)]
        values = modality_values(values, transform.modality)
        values = values[np.isfinite(values)]
        ends += [float(values.min()), float(values.max())] if values.size else []
    return (min(ends), max(ends)) if ends else (0, 0)


def words_in(stored: Array) -> Array:
    """Return the words that occur in *stored*, those of 1 or 2 bytes once."""
    if not is_tabled(stored):
        return stored
    words, end = stored.view(f"u{stored.dtype.itemsize}"), 1 << 8 * stored.dtype.itemsize
    return np.flatnonzero(cv2.calcHist([words], [0], None, [end], [0, end])).astype(words.dtype)


def settled_transforms(
    transforms: Transforms, frames: Frames, choice: WindowChoice, bits: int = 16
) -> Transforms:
    """Give the transforms that have no VOI step the window of min-max over all *frames*().

    The same for all frames, so a clip does not flicker. A stored window that nobody asked for and
    under which the whole clip would be one uniform black or white is replaced too, with a warning.
    *bits* are those that it will be rendered in, whose tables serve here too.
    """
    if choice not in ("auto", "full") or not transforms:
        return transforms
    settled = all(transform.voi for transform in transforms)
    shown = zip(frames(), cycle(transforms), strict=False)
    if settled and not all(is_blank(stored, transform, bits) for (stored, _), transform in shown):
        return transforms
    low, high = modality_range(frames(), transforms)
    if settled and low == high:
        return transforms
    if settled:
        warn("the stored window shows nothing of the picture: min-max was used")
        origin = f"{MIN_MAX}, for the stored window shows nothing"
        transforms = tuple(replace(one, voi=None, voi_origin=origin) for one in transforms)
    if low == high:  # uniform: over all that can be stored
        low, high = modality_ends(transforms[0].modality, transforms[0].samples)
    voi = Window((low + high) / 2, high - low, VoiFunction.LINEAR_EXACT)
    return tuple(replace(one, voi=one.voi or voi) for one in transforms)


def is_blank(stored: Array, transform: GrayscaleTransform, bits: int = 16) -> bool:
    """Tell whether *stored* comes out as one uniform black or white; colors among it show.

    Padding says nothing of that. Most show by some pixels, rendered in *bits*, that they do not.
    """
    some = gray_picture(np.ascontiguousarray(stored[::16, ::16]), transform, bits) >> bits - 8
    if some.tobytes().strip(b"\0\xff"):
        return False
    values = stored_values(words_in(stored), transform.samples)
    if (values >= transform.samples.first_color).any() and transform.samples.first_color < math.inf:
        return False
    seen = values[~padding_mask(values, transform.samples)]
    picture = quantized(gray_levels(seen, transform), 8)
    return any((picture == level).all() for level in (0, 255))


# --- Color ----------------------------------------------------------------------------------------

CIELAB = "RecommendedDisplayCIELabValue"
SRGB_OF_XYZ = np.array(
    [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
)


def palette_of(ds: Dataset, samples: SampleFormat) -> Palette:
    """Read the Palette Color Lookup Table module, segmented or not (PS3.3 C.7.9).

    Raises `ConversionError` where a table is missing or broken.
    """
    channels = [palette_channel(ds, color) for color in ("Red", "Green", "Blue")]
    entries = np.concatenate([channel for channel, *_ in channels])
    low, high = entries & 0xFF, entries >> 8
    # Whatever the descriptors say, 8-bit values stand in either byte of the entries, or in both.
    is_byte = not low.any() or not high.any() or np.array_equal(low, high)
    tables = []
    for channel, first, declared in channels:
        first = as_signed(first, 16) if samples.signed else first
        narrow = declared in range(9, 16) and not (channel >> declared).any()
        bits = 8 if is_byte else declared if narrow else 16
        values = channel & 0xFF | channel >> 8 if is_byte else channel
        tables.append(LookupTable(first, bits, values.tobytes()))
    return tuple(tables)


def palette_channel(ds: Dataset, color: str) -> tuple[Array, int, int]:
    """Return the entries (uint16) of the table of one *color*, what the first is for, and bits."""
    name = f"{color}PaletteColorLookupTable"
    descriptor = words(ds, f"{name}Descriptor").tolist()
    table, segments = words(ds, f"{name}Data"), words(ds, f"Segmented{name}Data")
    if len(descriptor) < 3 or not (len(table) or len(segments)):
        raise ConversionError(f"the {color} Palette Color Lookup Table is missing")
    count, first, bits = descriptor[:3]
    entries = count or 65536
    if len(table):
        return table_entries(table, entries, bits, f"{color} palette"), first, bits
    segments = segments.view(np.uint8) if bits == 8 else segments
    return expanded_segments(segments, entries), first, bits


def expanded_segments(data: Array, entries: int) -> Array:
    """Expand a segmented palette of uint8 or uint16 *data* to at most *entries* (PS3.3 C.7.9.2).

    Raises `ConversionError` where rules are broken: so if an indirect segment points to its like.
    """
    expanded: list[int] = []
    walks = [(0, math.inf)]  # where segments are read and how many, the last by an indirect one
    for _ in range(len(data) + entries + 1):  # so that segments that expand to nothing end
        if not walks or len(expanded) >= entries:
            if not expanded:
                raise ConversionError("a segmented palette is empty")
            return np.array(expanded[:entries], "<u2")
        at, left = walks.pop()
        if not left or at + 1 >= len(data):
            continue
        opcode, length = data[at : at + 2].tolist()
        size = (length, 1, 4 // data.dtype.itemsize)[min(opcode, 2)]
        rest = data[at + 2 : at + 2 + size]
        walks.append((at + 2 + size, left - 1))
        if opcode == 0:
            expanded += rest.tolist()
        elif opcode == 1 and expanded and len(rest):
            line = np.linspace(expanded[-1], float(rest[0]), length + 1)[1:]
            expanded += np.rint(line).astype(int).tolist()
        elif opcode == 2 and expanded and len(walks) == 1:
            offset = int.from_bytes(rest.tobytes(), "little")
            walks.append((offset // data.dtype.itemsize, length))
        else:
            break
    raise ConversionError("a segmented palette is broken")


def segment_palettes(ds: Dataset, image: ImagePixel) -> tuple[Palette, ...]:
    """Return each frame's colors over black, () where none are stored, else white (C.8.20.2)."""
    labs = {key: numbers(one, CIELAB) for key, one in segments_of(ds).items()}
    colors = {key: srgb_of_lab(lab) for key, lab in labs.items() if len(lab) == 3}
    kind, white = text(ds, "SegmentationType"), (1.0, 1.0, 1.0)
    if not colors or image.bits_allocated > 16:
        return ()
    most = (1 << image.bits_stored) - 1 if kind == "LABELMAP" else whole_fraction(ds) or 1
    values = np.arange(most + 1)

    @cache
    def palette(segment: int) -> Palette:
        table = np.outer(values / most, colors.get(segment, white))
        if kind == "LABELMAP":
            table = np.array([colors.get(value, white) for value in range(most + 1)])
            table[padding_mask(values, sample_format(ds, image)) | (values == 0)] = 0
        entries = quantized(table, 8).astype("<u2").T
        return tuple(LookupTable(0, 8, channel.tobytes()) for channel in entries)

    known = colors.keys() if kind != "LABELMAP" else ()
    return tuple(palette(int(of) if of in known else -1) for of, *_ in tiles_of(ds, image))


@lru_cache(maxsize=64)
def color_tables(
    palette: Palette,
    samples: SampleFormat,
    itemsize: int,
    bits: int,
    gray: GrayscaleTransform | None,
) -> list[Array]:
    """Return red, green and blue over every word of *itemsize* bytes; beyond the ends they hold.

    With *gray* the palette is a supplemental one: values below its first are gray (PS3.3 C.7.6.19).
    Where there is no first, it is that of a pseudo-color state, over gray levels (PS3.3 A.33.3).
    Raises `ConversionError` where the words are too many.
    """
    if itemsize > 2:
        raise ConversionError(f"a palette over {8 * itemsize}-bit pixels cannot be shown")
    codes = np.arange(1 << 8 * itemsize, dtype=f"u{itemsize}")
    values = stored_values(codes, samples)
    if gray and gray.samples.first_color == math.inf:
        levels = gray_levels(values, gray)
        return [quantized(voi_values(levels * one.last, one), bits) for one in palette]
    tables = [quantized(voi_values(values, channel), bits) for channel in palette]
    if gray:
        levels, is_gray = display_table(gray, itemsize, bits), values < gray.samples.first_color
        tables = [np.where(is_gray, levels, table) for table in tables]
    return tables


def rgb_picture(stored: Array, photometric: str, samples: SampleFormat, bits: int) -> Array:
    """Render *stored* (rows, columns, 3) of RGB or a YBR space as RGB of uint8 or uint16."""
    stored_bits = min(samples.bits_stored, 8 * stored.dtype.itemsize)
    if stored_bits == bits == 8 and stored.dtype.itemsize == 1:
        picture = stored.view(np.uint8)
    else:
        levels = stored_values(stored, samples) / ((1 << stored_bits) - 1)
        picture = quantized(np.clip(levels, 0, 1), bits)
    partial = "PARTIAL" in photometric
    return picture if photometric == "RGB" else ybr_to_rgb(picture, partial=partial)


def ybr_to_rgb(picture: Array, *, partial: bool) -> Array:
    """Convert (rows, columns, 3) Y, Cb, Cr of uint8 or uint16 to RGB (PS3.3 C.7.6.3.1.2)."""
    unit = 1 << (8 * picture.dtype.itemsize - 8)
    # Its rows give R, G, B from Y, Cb, Cr.
    matrix = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])
    if partial:  # studio range of ITU-R BT.601
        matrix *= np.array([255 / 219, 255 / 224, 255 / 224])
    offset = np.array([16 if partial else 0, 128, 128]) * unit
    affine = np.column_stack([matrix, -matrix @ offset])
    return cast(Array, cv2.transform(picture, affine))


def icc_profile_of(ds: Dataset) -> bytes:
    """Return the ICC profile of RGB that the file carries, b"" where there is no sound one."""
    for group in (ds, *sequence(ds, "OpticalPathSequence")[:1]):
        profile = raw_bytes(group, Tag("ICCProfile")) or b""
        if profile[16:20] == b"RGB " and profile[36:40] == b"acsp":
            size = int.from_bytes(profile[:4], "big")
            with suppress(ConversionError):
                if 128 < size <= len(profile):
                    srgb_transform(profile[:size])
                    return profile[:size]
            warn("the ICC profile is broken and was left out")
    return b""


@lru_cache(maxsize=4)
def srgb_transform(icc_profile: bytes) -> Any:
    """Return Pillow's transform to sRGB, None if that it is; raise `ConversionError` if broken."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if "srgb" in ImageCms.getProfileDescription(profile).casefold():
            return None
        return create_icc_transform(icc_profile=icc_profile, color_space="sRGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise ConversionError("the ICC profile is broken") from error


def srgb_picture(picture: Array, icc_profile: bytes) -> Array:
    """Convert an RGB *picture* (uint8) from the space of *icc_profile* to sRGB."""
    transform = srgb_transform(icc_profile) if icc_profile else None
    return picture if transform is None else apply_icc_profile(picture.copy(), transform=transform)


def srgb_of_lab(lab: Sequence[float]) -> Rgb:
    """Return a CIELab color of three 16-bit numbers (PS3.3 C.10.7.1.1) in sRGB, 0..1.

    Its white is D50, as in ICC profiles; the matrix leads from there to that of sRGB (Bradford).
    """
    lightness, a, b = lab[0] / 655.35, lab[1] / 257 - 128, lab[2] / 257 - 128
    middle = (lightness + 16) / 116
    cubes = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, (cubes - 4 / 29) * 108 / 841)
    linear = np.clip(SRGB_OF_XYZ @ (xyz * [0.9642, 1, 0.8249]), 0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return cast(Rgb, tuple(np.where(linear > 0.0031308, curved, 12.92 * linear).tolist()))


def color_in(item: Dataset, keyword: str, default: Rgb) -> Rgb:
    """Return the CIELab color in *item*, *default* where there is none."""
    lab = numbers(item, keyword)
    return srgb_of_lab(lab) if len(lab) == 3 else default


# --- Shutter, overlays, geometry ------------------------------------------------------------------

MAX_OVERLAY_PIXELS = 1 << 28
OVERLAY_GROUPS = range(0x60000000, 0x60200000, 0x20000)
EDGES = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
SHUTTER_SHAPES = {
    "RECTANGULAR": tuple(f"Shutter{edge}Edge" for edge in EDGES),
    "CIRCULAR": ("CenterOfCircularShutter", "RadiusOfCircularShutter"),
    "POLYGONAL": ("VerticesOfThePolygonalShutter",),
}
MAX_PIXEL_ASPECT = 20  # of any device; beyond it the spacing is wrong


def shutters_of(ds: Dataset, image: ImagePixel) -> tuple[Shutter, ...]:
    """Return the shutter of each frame, a single one where all share theirs, () for none."""
    frames = image.number_of_frames if tag_of("PerFrameFunctionalGroupsSequence") in ds else 1
    groups = [functional_group(ds, "FrameDisplayShutterSequence", frame) for frame in range(frames)]
    if not any(tag_of("ShutterShape") in group for group in groups):
        return ()
    aspect = pixel_aspect(ds)
    shutters = [shutter_of(group, image, aspect) for group in groups]
    return tuple(shutters) if len(set(shutters)) > 1 else tuple({*shutters} - {Shutter()})


def shutter_of(
    group: Dataset, image: ImagePixel, aspect: float, bitmap: Overlay | None = None
) -> Shutter:
    """Read a Display Shutter module (PS3.3 C.7.6.11) of *group*; warn of bad shapes.

    *aspect* is the height of a pixel by its width, *bitmap* the plane of one of bits (C.7.6.15).
    """
    edges = circle = hiding = None
    vertices: tuple[tuple[int, int], ...] = ()
    for shape in filter(None, map(str.strip, text(group, "ShutterShape").split("\\"))):
        names = SHUTTER_SHAPES.get(shape, ())
        found = [int(value) - 1 for name in names for value in numbers(group, name)]
        if shape == "RECTANGULAR" and len(found) == 4:
            edges = found[0], found[1], found[2], found[3]
        elif shape == "CIRCULAR" and len(found) == 3 and found[2] >= 0:
            circle = found[0], found[1], found[2] + 1, aspect
        elif shape == "POLYGONAL" and len(found) >= 6:
            vertices = tuple(zip(found[::2], found[1::2], strict=False))
        elif shape == "BITMAP":
            hiding = bitmap
            if not bitmap:
                warn("the bitmap of a shutter is missing, or left out as it might tell names")
        else:
            known = shape in SHUTTER_SHAPES
            fault = f"a {shape} shutter is not whole" if known else "a shutter is of no known shape"
            warn(f"{fault} and was left out")
    gray = min(max((number(group, "ShutterPresentationValue") or 0) / 65535, 0.0), 1.0)
    color = color_in(group, "ShutterPresentationColorCIELabValue", (gray, gray, gray))
    shutter = Shutter(edges, circle, vertices, hiding, (gray, *color))
    hidden = shutter_mask(shutter, image.rows, image.columns)
    if hidden.all():
        warn("the display shutter would hide everything and was left out")
    return Shutter() if hidden.all() or not hidden.any() else shutter


@lru_cache(maxsize=16)
def shutter_mask(shutter: Shutter, rows: int, columns: int) -> Array:
    """Return which pixels *shutter* hides, (rows, columns) bool."""
    y, x = np.ogrid[:rows, :columns]
    visible = np.ones((rows, columns), bool)
    if shutter.edges:
        left, right, upper, lower = shutter.edges
        visible &= (x >= left) & (x <= right) & (y >= upper) & (y <= lower)
    if shutter.circle:
        row, column, radius, aspect = map(float, shutter.circle)
        visible &= ((y - row) * aspect) ** 2 + (x - column) ** 2 <= radius**2
    if shutter.vertices:
        inside = np.zeros((rows, columns), np.uint8)
        fill_polygon(inside, np.array(shutter.vertices, np.float64), [1])
        visible &= inside > 0
    if shutter.bitmap:
        visible &= ~plane_on(shutter.bitmap, 0, np.zeros((rows, columns), np.uint8))
    return ~visible


@np.errstate(over="ignore", invalid="ignore")  # of vertices that no picture has
def fill_polygon(canvas: Array, points: Array, color: Ink) -> None:
    """Fill the polygon of *points* (n, 2), row and column of pixels, on a uint8 *canvas*.

    It is cut to just beyond the picture first (Sutherland-Hodgman): vertices may lie anywhere.
    """
    rows, columns = canvas.shape[:2]
    for axis, bound, sign in ((0, -2, 1), (0, rows + 1, -1), (1, -2, 1), (1, columns + 1, -1)):
        ends = np.roll(points, -1, axis=0)
        from_bound, to_bound = (sign * (side[:, axis] - bound) for side in (points, ends))
        crosses = (from_bound < 0) != (to_bound < 0)
        part = from_bound / np.where(crosses, from_bound - to_bound, 1)
        crossings = points + part[:, np.newaxis] * (ends - points)
        kept = np.stack([from_bound >= 0, crosses], axis=1)
        points = np.stack([points, crossings], axis=1)[kept]
    if len(points):
        cv2.fillPoly(canvas, [np.rint(points[:, ::-1]).astype(np.int32)], tuple(color))


def overlays_of(ds: Dataset, image: ImagePixel) -> dict[int, Overlay]:
    """Read the overlay planes of groups 6000 to 601E (PS3.3 C.9.2), embedded ones too."""
    overlays = {}
    for group in OVERLAY_GROUPS:
        if tag_of(group | 0x10) not in ds:
            continue
        rows, columns = integer(ds, group | 0x10), integer(ds, group | 0x11)
        if rows <= 0 or columns <= 0 or rows * columns > MAX_OVERLAY_PIXELS:
            if rows * columns > MAX_OVERLAY_PIXELS:
                warn(f"an overlay of {columns} x {rows} pixels was left out")
            continue
        data = raw_bytes(ds, group | 0x3000) or b""
        if data and ds.original_encoding[1] is False and ds.get_item(group | 0x3000).VR == "OW":
            data = words(ds, group | 0x3000).tobytes()
        bit_position, low = number(ds, group | 0x0102), image.high_bit + 1 - image.bits_stored
        beside = [*range(low), *range(image.high_bit + 1, image.bits_allocated)]
        if not data and bit_position not in beside:
            continue  # neither data of its own nor bits beside the pixel's
        top, left = (int(origin) - 1 for origin in (*numbers(ds, group | 0x50), 1, 1)[:2])
        first, count = number(ds, group | 0x51), number(ds, group | 0x15)
        start, planes = max(int(first or 1), 1) - 1, max(int(count or 1), 1)
        if data and len(data) * 8 < rows * columns * planes:
            warn("the overlay data are shorter than their plane: the rest is empty")
        frames = None if first is None and count is None else (start, start + planes)
        bit = int(bit_position or 0)
        overlays[group] = Overlay(rows, columns, top, left, frames, data, bit)
    return overlays


def plane_on(overlay: Overlay, index: int, stored: Array) -> Array:
    """Return which pixels of frame *index*, *stored*, an overlay sets, (rows, columns) bool."""
    first, end = overlay.frames or (index, index + 1)
    if not first <= index < end:
        return np.zeros(stored.shape[:2], bool)
    plane = stored.view(f"u{stored.dtype.itemsize}") >> overlay.bit_position & 1
    if overlay.data:
        start = (index - first) * overlay.rows * overlay.columns
        held = min(overlay.rows, max(8 * len(overlay.data) - start, 0) // overlay.columns + 1)
        bits = unpacked_bits(overlay.data, start, held * overlay.columns)
        plane = bits.reshape(held, overlay.columns)
    return laid(plane > 0, overlay.top, overlay.left, stored.shape[:2])


def laid(picture: Array, top: int, left: int, shape: Sequence[int]) -> Array:
    """Return what of *picture* lies on a black canvas of this *shape*, at *top*, *left* of it."""
    canvas = np.zeros((*shape, *picture.shape[2:]), picture.dtype)
    inside = picture[max(-top, 0) :, max(-left, 0) :]
    target = canvas[max(top, 0) :, max(left, 0) :][: inside.shape[0], : inside.shape[1]]
    target[:] = inside[: target.shape[0], : target.shape[1]]
    return canvas


def pixel_aspect(ds: Dataset) -> float:
    """Return the height of a pixel by its width; a spacing goes before the ratio (C.7.6.3.1.7)."""
    measures = functional_group(ds, "PixelMeasuresSequence", 0)
    pairs = [numbers(group, name) for group in (measures, ds) for name in SPACINGS]
    for region in sequence(ds, "SequenceOfUltrasoundRegions"):
        units = [number(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
        if number(region, "RegionSpatialFormat") == 1 and units == [3, 3]:  # 2D, in cm
            pairs.append(tuple(abs(number(region, f"PhysicalDelta{axis}") or 0) for axis in "YX"))
    pairs += [numbers(ds, f"{of}PixelAspectRatio") for of in ("", "Presentation")]
    for vertical, horizontal in (pair for pair in pairs if len(pair) == 2 and min(pair) > 0):
        aspect = vertical / horizontal
        if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            return aspect
        warn(f"a spacing of pixels {aspect:.3g} times as high as wide was left out")
    return 1.0


def squared(picture: Array, aspect: float, resampling: int = cv2.INTER_LINEAR) -> Array:
    """Return *picture* resampled to square pixels by stretching the shorter side."""
    if max(aspect, 1 / aspect) < MIN_PIXEL_ASPECT_SHOWN:
        return picture
    rows, columns = picture.shape[:2]
    size = (columns, round(rows * aspect)) if aspect > 1 else (round(columns / aspect), rows)
    return cast(Array, cv2.resize(picture, size, interpolation=resampling))


# --- Drawing --------------------------------------------------------------------------------------

FRACTION_BITS = 4  # of the coordinates that OpenCV takes
LINE_SPACING = 1.25  # by the size of the letters
MAX_TEXT_DRAWN = 4096  # characters, of any one text
MAX_POINTS, CURVE_STEPS = 1_000_000, 24  # of a figure, from point to point
HALO = 150  # how dark lines are rimmed, of 255
font = cache(lambda: cv2.FontFace("uni"))  # Latin, Greek, Cyrillic, Chinese, Japanese, Korean


def draw_line(canvas: Array, points: Array, color: Ink, thickness: int = 1) -> None:
    """Draw a smooth line through *points* on *canvas*, uint8 (rows, columns[, 3]), in *color*.

    *points* are (n, 2), float: x and y in pixels from the outer corner of the first one. The line
    is broken where they are not finite.
    """
    segments = seen_segments(points, canvas.shape[:2], 2 * thickness) - 0.5
    ends = np.rint(segments * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.polylines(canvas, list(ends), False, tuple(color), thickness, cv2.LINE_AA, FRACTION_BITS)


@np.errstate(all="ignore")  # 0 / 0: on the edge; and of what is not seen
def seen_segments(points: Array, shape: tuple[int, ...], margin: float) -> Array:
    """Return the segments between *points* (n, 2) as far as they lie near a picture, (m, 2, 2)."""
    ends = np.stack([points[:-1], points[1:]], axis=1)
    ends = ends[np.isfinite(ends).all(axis=(1, 2))]
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    low = (-margin - start) / step
    high = (np.array(shape[::-1]) + margin - start) / step
    enters = np.fmax.reduce(np.fmin(low, high), axis=1, initial=0)[:, np.newaxis]
    leaves = np.fmin.reduce(np.fmax(low, high), axis=1, initial=1)[:, np.newaxis]
    parts = np.stack([start + enters * step, start + leaves * step], axis=1)
    return np.asarray(parts[(enters <= leaves)[:, 0]])


def draw_text(
    canvas: Array, lines: Sequence[str], at: Sequence[float], color: Ink, size: int, side: float = 0
) -> None:
    """Write *lines* on *canvas*, uint8, below and right of *at* (x, y), in letters of *size* px.

    The shorter ones stand at a *side* from 0, the left, to 1, the right.
    """
    width, _ = text_box(lines, size)
    for number, line in enumerate(lines):
        x = at[0] + side * (width - text_box([line], size)[0])
        base = at[1] + (number + 1) * LINE_SPACING * size - 0.25 * size
        cv2.putText(canvas, line, (round(x), round(base)), tuple(color), font(), size)


def text_box(lines: Sequence[str], size: int) -> tuple[int, int]:
    """Return how wide and how high *lines* come out in letters of *size* px."""
    sizes = (cv2.getTextSize((0, 0), line, (0, 0), font(), size)[2] for line in lines)
    return max(sizes, default=0), round(LINE_SPACING * size * len(lines))


def drawn_lines(value: str) -> list[str]:
    """Return the lines of a text as they can be drawn; warn of letters that the font lacks."""
    lines = [printable(line.expandtabs(4)) for line in value[:MAX_TEXT_DRAWN].splitlines()]
    if len(value) > MAX_TEXT_DRAWN:
        warn(f"of a text of {len(value)} letters the first {MAX_TEXT_DRAWN} are drawn")
    if lacking := sorted({char for line in lines for char in line if not has_glyph(char)}):
        warn(f"letters that the font lacks are drawn as ?: {' '.join(lacking[:10])}")
    return lines


@lru_cache(maxsize=4096)
def has_glyph(char: str) -> bool:
    """Tell whether the font can draw *char*: what it lacks comes out as a question mark."""
    if char.isascii():
        return True
    drawn, lacks = np.zeros((2, 64, 64), np.uint8)
    cv2.putText(drawn, char, (16, 44), (255,), font(), 32)
    cv2.putText(lacks, "?", (16, 44), (255,), font(), 32)
    return not np.array_equal(drawn, lacks)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which *area* of an image is shown, how large, turned and mirrored (PS3.3 C.10.4, C.10.6)."""

    area: tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two outside
    size: tuple[int, int]  # width, height of the picture before it is turned
    turns: int = 0  # quarters, clockwise
    mirrored: bool = False  # left to right, once it is turned

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture as it comes out."""
        width, height = self.size
        return (width, height) if self.turns % 2 else (height, width)

    @property
    def pen(self) -> int:
        """How thick lines are drawn, in pixels."""
        return max(1, round(max(self.size) / 512))


@dataclass(frozen=True, slots=True)
class Mark:
    """What is drawn on a picture as it comes out: lines, words, or an overlay of its image."""

    color: Rgb
    lines: tuple[Array, ...] = ()  # (n, 2), x and y in pixels from the outer corner
    thickness: int = 1
    fill: Rgb = (0, 0, 0)
    cover: tuple[float, float] = (1, 0)  # how much lines, and what they enclose, hide, 0..1
    words: tuple[str, ...] = ()
    at: tuple[float, float] = (0, 0)  # x, y of their upper left corner
    letters: int = 0  # their size in pixels
    side: float = 0  # at which they stand, from left to right 0..1
    overlay: Overlay | None = None


def placed(picture: Array, placement: Placement, resampling: int = cv2.INTER_LINEAR) -> Array:
    """Return the area of *picture* that is shown; beyond its edges lies black."""
    left, top, right, bottom = placement.area
    area = laid(picture, -top, -left, (bottom - top, right - left))
    if placement.size != (right - left, bottom - top):
        shrinks = min(placement.size[0] - right + left, placement.size[1] - bottom + top) < 0
        if shrinks and resampling != cv2.INTER_NEAREST_EXACT:
            resampling = cv2.INTER_AREA  # else fine lines are lost
        area = cv2.resize(area, placement.size, interpolation=resampling)
    turned = np.rot90(area, -placement.turns)
    return np.ascontiguousarray(turned[:, ::-1] if placement.mirrored else turned)


def placed_points(points: Array, placement: Placement) -> Array:
    """Return where *points* (n, 2) of an image, x and y from its outer corner, come out."""
    left, top, right, bottom = placement.area
    x, y = ((points - (left, top)) * placement.size / (right - left, bottom - top)).T
    height, width = placement.shape
    turns = (x, y), (width - y, x), (width - x, height - y), (y, height - x)
    x, y = turns[placement.turns]
    return np.column_stack([width - x if placement.mirrored else x, y])


def marked(
    picture: Array, marks: Sequence[Mark], placement: Placement, index: int, stored: Array
) -> Array:
    """Return *picture*, as it comes out, in RGB, with *marks* drawn on frame *index*, *stored*."""
    ink: Array = np.zeros((*picture.shape[:2], 3), np.uint8)
    cover: Array = np.zeros(picture.shape[:2], np.uint8)
    for mark in marks:
        color, fill = quantized(np.array([mark.color, mark.fill]), 8).tolist()
        if mark.overlay:
            plane = plane_on(mark.overlay, index, stored).view(np.uint8) * 255
            area = placed(plane, placement, cv2.INTER_NEAREST) > 0
            ink[area], cover[area] = color, 255
        lines, inside = (255 * share for share in mark.cover)
        for canvas, halo, within, shade in (
            (ink, [0, 0, 0], fill, color),
            (cover, [HALO / 255 * lines], [inside], [lines]),
        ):
            if lines:
                draw_mark(canvas, mark, halo, rim=2 * placement.pen)
            if inside:
                fill_polygon(canvas, mark.lines[0][:, ::-1] - 0.5, within)
            if lines:
                draw_mark(canvas, mark, shade, rim=0)
    shown = picture.copy() if picture.ndim == 3 else cv2.merge([picture] * 3)
    at, unit = cover > 0, np.iinfo(picture.dtype).max / 255
    share = cover[at][:, np.newaxis] / 255
    shown[at] = np.rint(shown[at] * (1 - share) + ink[at] * unit * share)
    return cast(Array, shown)


def draw_mark(canvas: Array, mark: Mark, shade: Ink, rim: int) -> None:
    """Draw lines and words of *mark*, or with a *rim* in pixels what is around and behind them."""
    for line in mark.lines:
        draw_line(canvas, line, shade, mark.thickness + rim)
    if mark.words and rim:
        x, y = map(round, mark.at)
        cv2.rectangle(canvas, (x, y, *text_box(mark.words, mark.letters)), shade, cv2.FILLED)
    elif mark.words:
        draw_text(canvas, mark.words, mark.at, shade, mark.letters, mark.side)


def outline(kind: str, points: Array, arm: float) -> tuple[Array, ...]:
    """Return the lines of a graphic object through *points* (n, 2); *arm*: of a POINT's cross.

    PS3.3 C.10.5.1.2.
    """
    if kind == "POINT":
        return tuple(points[0] + np.array([[-arm], [arm]]) * side for side in ([1, 0], [0, 1]))
    if kind not in ("CIRCLE", "ELLIPSE"):
        return (curve_through(points) if kind == "INTERPOLATED" else points,)
    center, axes = points[:2].mean(axis=0), (points[1:4:2] - points[:3:2]) / 2  # of the ellipse
    if kind == "CIRCLE":
        center, axes = points[0], np.hypot(*(points[1] - points[0])) * np.eye(2)
    angles = np.linspace(0, 2 * math.pi, 720)
    return (center + np.column_stack([np.cos(angles), np.sin(angles)]) @ axes,)


def curve_through(points: Array) -> Array:
    """Return a smooth curve through *points* (n, 2), closed where these are (Catmull-Rom)."""
    closed = np.array_equal(points[0], points[-1]) and len(points) > 2
    before, after = (points[-2], points[1]) if closed else (points[0], points[-1])
    padded = np.vstack([before, points, after])
    fours = np.lib.stride_tricks.sliding_window_view(padded, (4, 2))[:, 0]
    steps = max(1, min(CURVE_STEPS, MAX_POINTS // len(points)))
    powers = np.vander(np.linspace(0, 1, steps, endpoint=False), 4)
    cubic = np.array([[-1, 3, -3, 1], [2, -5, 4, -1], [-1, 0, 1, 0], [0, 2, 0, 0]]) / 2
    return np.vstack([(powers @ cubic @ fours).reshape(-1, 2), points[-1:]])


# --- The renderer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """How to show every frame of a file, at most *depth* bits a sample.

    *grayscale* and *shutters* hold one for each frame or one for all, *segments* one for each, as
    whose *palette* it is shown. Color has no *grayscale*; with it, *palette* is a supplemental one.
    """

    samples: SampleFormat
    depth: int = 16
    grayscale: Transforms = ()
    palette: Palette = ()
    segments: tuple[Palette, ...] = ()
    icc_profile: bytes = b""
    shutters: tuple[Shutter, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    pixel_aspect: float = 1.0
    resampling: int = cv2.INTER_LINEAR  # nearest for labels, which cannot be mixed
    placement: Placement | None = None  # of a presentation state, like the marks
    marks: tuple[Mark, ...] = ()
    in_color: bool = False  # are some of them, or in other frames of a clip
    canvas: tuple[int, int] | None = None  # rows and columns of the largest frame of the clip


def look_of(header: Header, image: ImagePixel, options: Options) -> Look:
    """Decide how to show a file; gray levels that depend on its frames are left open."""
    ds, drawn = header.data_set, options.overlays and options.names
    look = Look(
        samples=sample_format(ds, image),
        shutters=shutters_of(ds, image) if options.shutter else (),
        overlays=tuple(overlays_of(ds, image).values()) if drawn else (),
        pixel_aspect=1.0 if options.native_pixels else pixel_aspect(ds),
        resampling=cv2.INTER_NEAREST_EXACT if segments_of(ds) else cv2.INTER_LINEAR,
    )
    is_gray = image.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
    if is_gray and (segments := segment_palettes(ds, image)):
        return replace(look, depth=8, palette=segments[0], segments=segments)
    if not is_gray:
        if options.window not in ("auto", "full"):
            warn("windows are for gray images: this one is in color and shown as it is")
        palette = palette_of(ds, look.samples) if image.samples_per_pixel == 1 else ()
        depth = 16 if (palette[0].bits if palette else image.bits_stored) > 8 else 8
        return replace(look, depth=depth, palette=palette, icc_profile=icc_profile_of(ds))
    transforms = grayscale_transforms(ds, image, options.window)
    if is_colored(ds):
        look = replace(look, palette=palette_of(ds, look.samples))
        gray = replace(look.samples, first_color=min(one.first_value for one in look.palette))
        transforms = tuple(replace(transform, samples=gray) for transform in transforms)
    return replace(look, grayscale=transforms)


def is_colored(ds: Dataset) -> bool:
    """Tell whether a gray image has a supplemental palette (PS3.3 C.8.16.2.1.1.1)."""
    colored = text(ds, "PixelPresentation") in ("COLOR", "MIXED")
    return colored and "RedPaletteColorLookupTableDescriptor" in ds


def render(look: Look, index: int, stored: Array, photometric: str, bits: int) -> Array:
    """Render frame *index* in at most *bits* (8 or 16) a sample.

    (rows, columns) gray or (rows, columns, 3) RGB, uint8 or uint16; color in the file's own space.
    """
    bits = min(bits, look.depth)
    gray = look.grayscale[index % len(look.grayscale)] if look.grayscale else None
    if palette := look.segments[index] if look.segments else look.palette:
        tables = color_tables(palette, look.samples, stored.dtype.itemsize, bits, gray)
        codes = stored.view(f"u{stored.dtype.itemsize}")
        picture: Array = cv2.merge([cv2.LUT(codes, table) for table in tables])
    elif gray:
        picture = gray_picture(stored, gray, bits)
    else:
        picture = rgb_picture(stored, photometric, look.samples, bits)
    if look.shutters or look.overlays:
        picture = covered(picture, look, index, stored)
    if look.placement:
        picture = placed(picture, look.placement, look.resampling)
        if look.marks or look.in_color:
            drawn = marked(picture, look.marks, look.placement, index, stored)
            picture = drawn if look.in_color or picture.ndim == 3 else drawn[..., 0]
        return laid(picture, 0, 0, look.canvas or picture.shape[:2])
    return squared(picture, look.pixel_aspect, look.resampling)


def covered(picture: Array, look: Look, index: int, stored: Array) -> Array:
    """Return *picture* with what its shutter hides in a color, and overlays over that in white."""
    shown = picture.copy()
    if look.shutters:
        shutter = look.shutters[index % len(look.shutters)]
        color = quantized(np.array(shutter.color), 8 * picture.dtype.itemsize)
        hidden = shutter_mask(shutter, *picture.shape[:2])
        shown[hidden] = color[1:] if picture.ndim == 3 else color[0]
    for overlay in look.overlays:
        shown[plane_on(overlay, index, stored)] = np.iinfo(picture.dtype).max
    return shown


def described_window(look: Look, *, named: bool = True) -> str:
    """Say in words what the gray levels of *look* come from."""
    if not look.grayscale:
        return ""
    transform, levels = look.grayscale[0], "a table"
    if isinstance(voi := transform.voi, Window):
        name = f' "{printable(voi.explanation[:64])}"' if voi.explanation and named else ""
        levels = f"center {voi.center:g}, width {voi.width:g}, {voi.function}{name}"
    several = ", other frames have their own" if len(look.grayscale) > 1 else ""
    inverted = ", inverted" if transform.invert else ""
    return f"{levels}{inverted} ({transform.voi_origin}{several})"


# --- Metadata text --------------------------------------------------------------------------------

BINARY_SHOWN = 32
VALUES_SHOWN = 64
MAX_REMEMBERED = 128  # bytes of a value whose line is kept
TEXT_SHOWN = 1 << 20  # characters; reports with pictures in them are said to exist
REPORT_VALUES = "Date", "Time", "DateTime", "PersonName", "UID", "GraphicType", "TemporalRangeType"
SUMMARY = (
    ("PATIENT", (("Name", "PatientName"), ("ID", "PatientID"), ("Birth date", "PatientBirthDate"),
                 ("Sex", "PatientSex"))),
    ("STUDY", (("Date", "StudyDate"), ("Time", "StudyTime"), ("Description", "StudyDescription"),
               ("Series", "SeriesDescription"), ("Series number", "SeriesNumber"),
               ("Image number", "InstanceNumber"), ("Modality", "Modality"),
               ("Body part", "BodyPartExamined"))),
    ("EQUIPMENT", (("Manufacturer", "Manufacturer"), ("Model", "ManufacturerModelName"),
                   ("Institution", "InstitutionName"))),
)  # fmt: skip
RECORDS = {  # of a DICOMDIR that hold others, and what tells them apart (PS3.3 F.5)
    "PATIENT": ("PatientName", "PatientID"),
    "STUDY": ("StudyDate", "StudyDescription"),
    "SERIES": ("SeriesNumber", "Modality", "SeriesDescription"),
}


def summary_text(
    header: Header, facts: Sequence[Fact], notes: Sequence[str], *, names: bool
) -> Iterator[str]:
    """Yield what a person reads first: *facts* are of the picture, *notes* are warnings."""
    ds = header.data_set
    if tag_of("DirectoryRecordSequence") in ds:
        yield from ("", "DIRECTORY", *directory_lines(ds, names))
    for title, rows in SUMMARY:
        yield from ("", title)
        for label, keyword in rows:
            yield f"  {label:<14} {summarized(ds, keyword, names) or '-'}"
    yield from ("", "IMAGE")
    kind = printable(sop_class_name(header)) or "-"
    encoding = printable(name_of(header.transfer_syntax))
    geometry = geometry_facts(ds) if header.pixels else ()
    said = {"Kind": kind, **dict(chain(facts, geometry, facts)), "Encoding": encoding}
    for label, value in (*said.items(), *(("Note", printable(note)) for note in notes)):
        yield f"  {label:<14} {value}"


def content_text(header: Header, *, names: bool) -> Iterator[str]:
    """Yield the lines of the TXT that tell what is in a file: reports, then every element."""
    ds = header.data_set
    for title, found in (("REPORT", report_lines(ds, "  ")), ("WAVEFORMS", waveform_lines(ds))):
        if lines := list(found):
            yield from ("", title, *(lines if names else [f"  {LEFT_OUT}"]))
    yield from ("", "ELEMENTS", "(group,element) VR Name = value")
    yield from element_lines(header.file_meta, "", names=names)
    yield from element_lines(ds, "", header.pixels, names=names)


def summarized(ds: Dataset, keyword: str, names: bool) -> str:
    """Return an element as a summary shows it, "" where it is absent."""
    value = readable(keyword, text(ds, keyword))
    return LEFT_OUT if value and not names and is_left_out(keyword) else value


def geometry_facts(ds: Dataset) -> Iterator[Fact]:
    """Yield thickness, place and pixel spacing (vertical first) of the first frame."""
    measures = functional_group(ds, "PixelMeasuresSequence", 0)
    plane = functional_group(ds, "PlanePositionSequence", 0)
    spacing = numbers(measures, "PixelSpacing") or numbers(measures, "ImagerPixelSpacing")
    for label, joint, lengths in (
        ("Thickness", "", numbers(measures, "SliceThickness")[:1]),
        ("Position", ", ", numbers(plane, "ImagePositionPatient")[:3]),
        ("Pixel spacing", " x ", spacing[:2]),
    ):
        shown = joint.join(f"{length + 0.0:g}" for length in lengths)
        yield label, f"{shown} mm" if lengths else "-"


def directory_lines(ds: Dataset, names: bool) -> Iterator[str]:
    """Yield how many records of which type a DICOMDIR holds, and their tree, its leaves counted."""
    tree = list(record_tree(ds))
    total = Counter(kind for _, kind, _ in tree)
    yield f"  {', '.join(f'{found} x {kind}' for kind, found in total.items()) or 'no records'}"
    for (level, kind), group in groupby(tree, key=lambda entry: entry[:2]):
        records, begins = [record for _, _, record in group], "  " * (level + 1)
        if kind not in RECORDS:
            yield f"{begins}{len(records)} x {kind}"
        for record in records if kind in RECORDS else ():
            facts = (summarized(record, keyword, names) for keyword in RECORDS[kind])
            yield f"{begins}{kind} {', '.join(filter(None, facts))}".rstrip()


def record_tree(ds: Dataset) -> Iterator[tuple[int, str, Dataset]]:
    """Yield level, type and record: as linked (PS3.3 F.3.2.2), each once, the lost by type."""
    records = {record.seq_item_tell: record for record in sequence(ds, "DirectoryRecordSequence")}
    kinds = {start: printable(text(one, "DirectoryRecordType")) for start, one in records.items()}
    starts = [([*RECORDS, kind].index(kind), float(start)) for start, kind in kinds.items()]
    linked = {number(one, link) for one in records.values() for link in (0x00041400, 0x00041420)}
    ahead = [(0, number(ds, 0x00041200)), *sorted(starts, key=lambda at: at[1] in linked)][::-1]
    while ahead:
        level, start = ahead.pop()
        if start in records:
            record, below = records.pop(start), min(level + 1, MAX_NESTING_SHOWN)
            yield level, kinds[start] or "record without a type", record
            ahead += (level, number(record, 0x00041400)), (below, number(record, 0x00041420))


def report_lines(item: Dataset, indent: str) -> Iterator[str]:
    """Yield a structured report as indented lines of concept name and value (PS3.3 C.17.3)."""
    if "ValueType" in item:
        name = coded(item, "ConceptNameCodeSequence")
        first, *rest = map(printable, report_value(item).splitlines() or [""])
        yield f"{indent}{name}: {first}" if name and first else f"{indent}{name or first or '-'}"
        yield from (f"{indent}  {line}" for line in rest)
    if len(indent) > 2 * MAX_NESTING_SHOWN:
        yield f"{indent}  ... nested too deeply to be shown"
        return
    for content in sequence(item, "ContentSequence"):
        yield from report_lines(content, indent + "  " * ("ValueType" in item))


def report_value(item: Dataset) -> str:
    """Return the value of a content item, with units and codes; text is raw, of many lines."""
    kind = text(item, "ValueType")
    if kind == "TEXT":
        return text(item, "TextValue").expandtabs(4)
    if kind == "CODE":
        return coded(item, "ConceptCodeSequence", with_code=True)
    if kind == "NUM":
        for measured in sequence(item, "MeasuredValueSequence")[:1]:
            units = coded(measured, "MeasurementUnitsCodeSequence", unit=True)
            return f"{printable(text(measured, 'NumericValue'))} {units}".strip()
        why = coded(item, "NumericValueQualifierCodeSequence")
        return f"no value ({why})" if why else "no value"
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        for reference in sequence(item, "ReferencedSOPSequence")[:1]:
            sop_class = UID(text(reference, "ReferencedSOPClassUID")).name
            return printable(f"{sop_class} {text(reference, 'ReferencedSOPInstanceUID')}")
    found = (readable(keyword, text(item, keyword)) for keyword in REPORT_VALUES if keyword in item)
    return next(found, "")


def coded(item: Dataset, keyword: str, *, with_code: bool = False, unit: bool = False) -> str:
    """Return the meaning of a code sequence, or a unit's code, "" where there is none."""
    for code in sequence(item, keyword)[:1]:
        value = text(code, "CodeValue") or text(code, "LongCodeValue") or text(code, "URNCodeValue")
        meaning, scheme = text(code, "CodeMeaning"), text(code, "CodingSchemeDesignator")
        if unit:
            return printable("" if value == "1" else re.sub(r"\{.*?\}", "", value))
        return printable(f"{meaning} ({value}, {scheme})" if with_code else meaning)
    return ""


def waveform_lines(ds: Dataset) -> Iterator[str]:
    """Yield what was found in waveforms as a whole, and what each multiplex group holds.

    PS3.3 C.10.9, C.10.10: its rate, length and channels.
    """
    for one in sequence(ds, "WaveformAnnotationSequence"):
        if not ("ReferencedSamplePositions" in one or "ReferencedTimeOffsets" in one):
            yield f"  {annotation_text(one)}"
    for group in sequence(ds, "WaveformSequence"):
        samples = number(group, "NumberOfWaveformSamples") or 0
        rate = number(group, "SamplingFrequency") or 0
        channels = sequence(group, "ChannelDefinitionSequence")
        label = printable(text(group, "MultiplexGroupLabel")) or "group"
        lasts = f", {samples / rate:g} s" if rate else ""
        yield f"  {label}: {len(channels)} channels, {samples:.0f} samples at {rate:g} Hz{lasts}"
        for channel in channels:
            own = printable(text(channel, "ChannelLabel")) or "channel"
            name = coded(channel, "ChannelSourceSequence") or own
            units = coded(channel, "ChannelSensitivityUnitsSequence", unit=True)
            yield f"    {name}{f' in {units}' if units else ''}"


def annotation_text(item: Dataset) -> str:
    """Return what an annotation of a waveform says, in one line."""
    units = coded(item, "MeasurementUnitsCodeSequence", unit=True)
    value = " ".join(filter(None, (text(item, "NumericValue"), units)))
    names = (coded(item, f"Concept{of}CodeSequence") for of in ("Name", ""))
    said = (*names, value, text(item, "UnformattedTextValue"))
    return printable(" ".join(" ".join(said).split()))


def readable(keyword: str, value: str) -> str:
    """Return *value* of the element *keyword* as a person writes names, dates and times."""
    if keyword.endswith("Name"):
        value = " = ".join(group.replace("^", " ").strip() for group in value.split("=") if group)
    if keyword.endswith("DateTime"):  # which may end at the year or the month
        if moment := re.fullmatch(r"(\d{8})(.*)", value):
            value = f"{readable('Date', moment[1])} {readable('Time', moment[2])}".rstrip()
    elif keyword.endswith("Date") and re.fullmatch(r"\d{8}", value):
        value = f"{value[:4]}-{value[4:6]}-{value[6:]}"
    elif keyword.endswith("Time") and (moment := re.match(r"(\d\d)(\d\d)(\d\d)?", value)):
        zone = re.search(r"[+-]\d{4}$", value)
        value = ":".join(filter(None, moment.groups())) + (f" {zone[0]}" if zone else "")
    return printable(value)


def element_lines(
    data_set: Dataset, indent: str, pixels: PixelLocation | None = None, *, names: bool = True
) -> Iterator[str]:
    """Yield a line for each element of *data_set* in tag order, items indented below theirs."""
    elements: dict[int, Any] = {int(tag): element for tag, element in data_set.items()}
    if pixels:
        elements[int(tag_of(pixels.keyword))] = pixels
    creator_of = cache(partial(private_creator, data_set))
    for tag in sorted(elements):
        creator = creator_of(tag >> 8) if tag & 1 << 16 and names else ""
        line, items = shown_element(data_set, tag, elements[tag], creator, names)
        yield indent + line
        for position, item in enumerate(items, 1) if items else ():
            yield f"{indent}  item {position}"
            if len(indent) < 4 * MAX_NESTING_SHOWN:
                yield from element_lines(item, indent + "    ", names=names)
            else:
                yield f"{indent}    ... nested too deeply to be shown"


def shown_element(
    data_set: Dataset, tag: int, raw: Any, creator: str, names: bool
) -> tuple[str, Sequence[Dataset]]:
    """Return the line of an element, *raw* as it was read, and the items in it."""
    hidden = not names and is_left_out(tag)
    if isinstance(raw, RawDataElement) and not hidden:
        value = raw.value or b""
        line_of = plain_line if len(value) <= MAX_REMEMBERED else plain_line.__wrapped__
        if line := line_of(tag, creator, raw.VR, value, raw.is_little_endian):
            return line, ()
    (name, vr), begins = described(tag, creator), str(BaseTag(tag)).lower()
    if hidden:
        return f"{begins} {vr} {name} = {LEFT_OUT}", ()
    if isinstance(raw, PixelLocation):
        parts = "" if raw.fragments is None else f" in {raw.fragments} fragments"
        return f"{begins} {raw.vr} {name} = <{raw.length} bytes{parts}>", ()
    try:
        vr, value = data_set[tag].VR, data_set[tag].value
    except UNREADABLE:
        content = shown_bytes(raw_bytes(data_set, tag) or b"") if names else LEFT_OUT
        return f"{begins} ?? = {content} (not of its type)", ()
    return f"{begins} {vr} {name} = {shown_value(value, vr)}".rstrip(), value if vr == "SQ" else ()


@lru_cache(maxsize=1 << 14)  # the files of an archive say mostly the same
def plain_line(tag: int, creator: str, vr: str | None, raw: bytes, little: bool) -> str:
    """Return the line of an element that `plain_value` knows, "" of others."""
    name, known_vr = described(tag, creator)
    element = RawDataElement(BaseTag(tag), vr, len(raw), raw, 0, False, little)
    if (found := plain_value(element, known_vr)) is None:
        return ""
    shown = f"{found[0]} {name} = {shown_value(found[1], found[0])}"
    return f"{str(element.tag).lower()} {shown}".rstrip()


def shown_value(value: Any, vr: str) -> str:
    """Return a value on one line, escaped: UIDs named, long lists cut, bytes and items counted."""
    if isinstance(value, bytes):
        return shown_bytes(value)
    if vr == "SQ":
        return f"{len(value)} {'item' if len(value) == 1 else 'items'}"
    values = listed(value)
    if vr == "UI":
        return "\\".join(named_uid(str(value)) for value in values)
    if vr in STR_VR:
        shown = "\\".join(map(plain_text, values))
        more = f"... ({len(shown)} characters)" if len(shown) > TEXT_SHOWN else ""
        return printable(shown[:TEXT_SHOWN]) + more
    shown = printable("\\".join(map(str, values[:VALUES_SHOWN])))
    return f"{shown}\\... ({len(values)} values)" if len(values) > VALUES_SHOWN else shown


def named_uid(value: str) -> str:
    """Return a UID, with its name in brackets where it has one."""
    name = name_of(value)
    return printable(value if name == value else f"{value} [{name}]")


def shown_bytes(value: bytes) -> str:
    """Return text where *value* is plain ASCII, else its length and first bytes in hexadecimal."""
    stripped = value.rstrip(b" \0")
    if 0 < len(stripped) <= 1 << 12 and all(32 <= byte < 127 for byte in stripped):
        return stripped.decode("ascii")
    more = " ..." if len(value) > BINARY_SHOWN else ""
    return f"<{len(value)} bytes: {value[:BINARY_SHOWN].hex(' ')}{more}>" if value else ""


# --- Writing --------------------------------------------------------------------------------------

STALE_AFTER = 24 * 3600  # s; no run takes that long over one file
QUEUED_PICTURES = 8  # for each writer of a clip
NO_ROOM = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the first for one file only
# What FFmpeg may take a video for: bare streams, program and transport streams, MP4.
VIDEO_FORMATS = "h264,hevc,mpegvideo,mpeg,mpegts,mov,mp4,m4a,3gp,3g2,mj2"
COPIED_CODECS = ("h264", "hevc", "aac", "mp3", "ac3", "eac3")  # that play in an MP4 as they are
# B-frames save 1 % of the size, but hide from players how long the last frame stays.
MP4_OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0"}
AVX_512 = 13  # to OpenCV
if cv2.checkHardwareSupport(AVX_512):  # with it x264 reads memory that holds anything
    MP4_OPTIONS["x264-params"] = "asm=AVX2"
BT709, LIMITED_RANGE, FULL_RANGE = 1, 1, 2  # ITU-T H.273 and AVColorRange

# How temporary files of this machine begin; the process and the run follow.
PART_PREFIX = f"{TEMPORARY_PREFIX}{re.sub('[^A-Za-z0-9]', '', socket.gethostname())[:32]}-"
PART_NAME = re.compile(r"\.dicom_converter-\w*-(\d{1,9})-([0-9a-f]{8})-\d+(-video)?\.part")

Consumer = Callable[[Iterable[Array]], Any]
Video = Callable[[], io.RawIOBase] | Path  # each call begins anew

_run = secrets.token_hex(4)
_part_numbers = count()


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of one source: temporary files, until all of them are moved to their *place*."""

    place: Path
    root: Path = Path()  # of all outputs of the run
    parts: dict[str, Path] = field(default_factory=dict)  # by suffix

    def part(self, suffix: str) -> Path:
        """Return the temporary file for the output with *suffix*, in its folder."""
        if not self.parts:
            self.place.parent.mkdir(parents=True, exist_ok=True)
        self.check_folder()
        name = f"{PART_PREFIX}{os.getpid()}-{_run}-{next(_part_numbers)}.part"
        return self.parts.setdefault(suffix, self.place.with_name(name))

    def check_folder(self) -> None:
        """Raise `ConversionError` where a link has come between the root and the outputs."""
        parents = list(self.place.parents)
        for folder in parents[: parents.index(self.root) if self.root in parents else 0]:
            if folder.is_symlink():
                raise ConversionError(f"a link has come to {printable(str(folder))}: remove it")

    def replaced(self, origin: Origin) -> list[Path]:
        """Return what an earlier run made of *origin*; raise `TakenError` for all else there."""
        self.check_folder()
        made = made_before(self.place, origin)
        new = [f"{self.place}{end}" for end in {*self.parts} - {".txt", *(made or ())}]
        if made is None or any(map(os.path.lexists, new)):
            raise TakenError("something else is there already")
        return list(made.values())

    def move(self, origin: Origin) -> tuple[Path, ...]:
        """Move all into place, or none; return where they are. *origin* is what they are made of.

        The TXT, which says whose they are, is the first to be there and the last in order: else a
        killed run might leave its TXT beside these. Raises `TakenError`.
        """
        moved: list[Path] = []
        earlier = self.replaced(origin)
        try:
            for suffix, part in reversed(self.parts.items()):
                path = Path(f"{self.place}{suffix}")
                if suffix != ".txt":
                    part.replace(path)
                else:
                    try:
                        os.link(part, path)  # where nothing is, which one of two runs can
                    except OSError:  # and where there are no links, none
                        earlier = self.replaced(origin)  # of another run too, which was faster
                        part.replace(path)
                    remove(earlier)
                moved.append(path)
        except OSError:
            remove(moved)
            raise
        self.close()
        return tuple(reversed(moved))

    def close(self) -> None:
        """Remove what was not moved."""
        remove(self.parts.values())
        self.parts.clear()


def remove(paths: Iterable[Path]) -> None:
    """Remove those of *paths* that are there and can be removed."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def remove_stale_parts(folder: Path) -> None:
    """Remove what killed runs left in *folder*: of dead processes of this machine, or a day old."""
    parts: list[Path] = []
    with suppress(OSError, ValueError):  # a name too long to be one: writing will say so
        parts += folder.glob(f"{TEMPORARY_PREFIX}*.part")
    for part in parts:
        found, state = PART_NAME.fullmatch(part.name), state_of(part)
        if not found or not state or begins_as_dicom(head_of(part)):
            continue
        process, here = int(found[1]), part.name.startswith(PART_PREFIX)
        dead = found[2] != _run if process == os.getpid() else not is_running(process)
        if (here and dead) or time.time() - state[2] / 1e9 > STALE_AFTER:
            remove([part])


def is_running(process: int) -> bool:
    """Tell whether *process* runs; on Windows, where asking would interrupt it, assume so."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text("latin-1").rpartition(")")[2].strip()
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or no Linux
        return True
    return state[:1] not in ("Z", "X")  # dead, but not yet buried by its parent


def write_png(
    path: Path, picture: Array, pixels_per_meter: int = 0, icc_profile: bytes = b""
) -> None:
    """Write *picture*, uint8 or uint16, (rows, columns) or (rows, columns, 3), as a PNG.

    ISO/IEC 15948, with pHYs for *pixels_per_meter* and iCCP for *icc_profile*, unless empty.
    """
    rows, columns = picture.shape[:2]
    step = picture.dtype.itemsize * (picture.shape[2] if picture.ndim == 3 else 1)
    big_endian = np.ascontiguousarray(picture, picture.dtype.newbyteorder(">"))
    samples = big_endian.reshape(rows, -1).view(np.uint8)
    filtered = np.empty((rows, 1 + columns * step), np.uint8)
    filtered[:, 0], filtered[:, 1 : 1 + step] = 1, samples[:, :step]  # Sub
    np.subtract(samples[:, step:], samples[:, :-step], out=filtered[:, 1 + step :])
    color_type = 2 if picture.ndim == 3 else 0
    ihdr = struct.pack(">LLBBBBB", columns, rows, 8 * picture.dtype.itemsize, color_type, 0, 0, 0)
    chunks = [(b"IHDR", ihdr)]
    if icc_profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if pixels_per_meter:
        chunks.append((b"pHYs", struct.pack(">LLB", pixels_per_meter, pixels_per_meter, 1)))
    chunks += [(b"IDAT", isal_zlib.compress(filtered, 2)), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            check = struct.pack(">L", isal_zlib.crc32(data, isal_zlib.crc32(kind)))
            file.writelines((struct.pack(">L", len(data)), kind, data, check))


def opened(file: Video, form: str = "", **options: str) -> Any:
    """Open *file* with FFmpeg, to write it in the format *form*, or as a video to read.

    A path as it stands may be a server to FFmpeg: `tcp:/x`. It is whole, as `faststart` opens the
    file once more. Only formats that DICOM allows are read: playlists name files and servers.
    """
    import av

    name: Any = f"file:{file.absolute()}" if isinstance(file, Path) else file()
    if form:
        return av.open(name, "w", format=form, options=options)
    any_bytes = int(av.__version__.partition(".")[0]) >= 19  # it takes them for a text
    settings: dict[str, Any] = {} if any_bytes else {"metadata_errors": "replace"}
    return av.open(name, options={"format_whitelist": VIDEO_FORMATS}, **settings)


def write_gif(path: Path, pictures: Iterable[Array], timing: Timing) -> int:
    """Write uint8 *pictures*, (rows, columns) or (rows, columns, 3), as a GIF that loops forever.

    Gray keeps all 256 levels. Color gets an adaptive palette. Return the number of frames.
    """
    with opened(path, "gif", loop="0") as container:
        stream = container.add_stream("gif")
        stream.time_base = Fraction(1, 100)
        return encode(stream, gif_frames(pictures), timing, MIN_GIF_DURATION)


def gif_frames(pictures: Iterable[Array]) -> Iterator[Any]:
    """Yield *pictures* as frames of a GIF, whose palette is made anew where one is below 42 dB."""
    import av
    from PIL import Image

    palette: Any = None
    opaque = 255
    for picture in pictures:
        if picture.ndim == 2:
            yield av.VideoFrame.from_ndarray(picture, format="gray")
            continue
        image = Image.fromarray(picture)
        indexed = palette and image.quantize(palette=palette, dither=Image.Dither.NONE)
        if not palette or cv2.PSNR(np.asarray(indexed.convert("RGB")), picture) < 42:
            stride = math.ceil(math.sqrt(picture.size / 3 / 32768))  # a sample of so many pixels
            sample = Image.fromarray(np.ascontiguousarray(picture[::stride, ::stride]))
            palette = sample.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3)
            colors = np.array(palette.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
            argb = np.pad(colors, ((0, 256 - len(colors)), (1, 0)), constant_values=opaque)
            opaque = 254  # FFmpeg would take the first palette again for that of the frame before
            indexed = image.quantize(palette=palette, dither=Image.Dither.NONE)
        coded: Any = np.asarray(indexed), argb
        yield av.VideoFrame.from_ndarray(coded, format="pal8")


def write_mp4(path: Path, pictures: Iterable[Array], timing: Timing, threads: int = 0) -> int:
    """Write uint8 *pictures*, (rows, columns) or (rows, columns, 3), as H.264 in an MP4.

    High profile, yuv420p in BT.709 studio range, and tagged so. *threads* 0 are as many as there
    are cores. Return the number of frames.
    """
    steady = len(set(timing.durations)) == 1
    rate = (len(timing.durations) / sum(timing.durations, Fraction())).limit_denominator(100_000)
    with opened(path, "mp4", movflags="faststart") as container:
        stream = container.add_stream("libx264", rate=rate, options=MP4_OPTIONS)
        stream.time_base = timing.durations[0] if steady else Fraction(1, 1_000_000)
        codec = stream.codec_context
        codec.thread_count, codec.profile = threads, "High"
        codec.color_range = LIMITED_RANGE
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        return encode(stream, mp4_frames(pictures), timing)


def mp4_frames(pictures: Iterable[Array]) -> Iterator[Any]:
    """Yield *pictures* as frames for H.264; repeat the last line of an odd side, never scale."""
    import av

    for picture in pictures:
        rows, columns = picture.shape[:2]
        even: Any = cv2.copyMakeBorder(picture, 0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE)
        form = "gray" if picture.ndim == 2 else "rgb24"
        yield av.VideoFrame.from_ndarray(even, format=form).reformat(
            format="yuv420p",
            src_colorspace=BT709,
            dst_colorspace=BT709,
            src_color_range=FULL_RANGE,
            dst_color_range=LIMITED_RANGE,
        )


def encode(stream: Any, frames: Iterable[Any], timing: Timing, shortest: Fraction | int = 0) -> int:
    """Encode *frames* into *stream*, as long as *timing* says, at least *shortest* s; count them.

    Times are rounded so that the sum so far is right. The last is that of all further frames too.
    """
    import av

    time_base = stream.codec_context.time_base = stream.time_base
    stream.codec_context.flags |= av.codec.context.Flags.frame_duration  # else the last has none
    ends = [round(end / time_base) for end in accumulate(timing.durations, initial=Fraction())]
    lengths = [max(end - start, int(shortest / time_base)) for start, end in pairwise(ends)]
    number = start = 0
    for frame, length in zip(frames, chain(lengths, repeat(lengths[-1])), strict=False):
        if not number:
            stream.width, stream.height = frame.width, frame.height
            stream.pix_fmt = frame.format.name
        frame.pts, frame.duration, frame.time_base = start, length, time_base
        stream.container.mux(stream.encode(frame))
        number, start = number + 1, start + length
    if number:
        stream.container.mux(stream.encode(None))
    return number


@dataclass(frozen=True, slots=True)
class VideoTiming:
    """What a video says of its pictures."""

    codec: str
    rate: Fraction  # 1/s
    start: Fraction  # s, behind its sound
    packets: int
    order: Sequence[int] | None  # `display_order`, () where packets are timed; None: encoded anew
    sounds: int  # audio streams


def write_video(path: Path, video: Video, recorded: Fraction | None) -> tuple[int, str]:
    """Write the MPEG-2, H.264 or HEVC stream *video*, bare or in a container, as an MP4.

    H.264 and HEVC are copied, the rest and pictures whose order cannot be told are encoded anew;
    audio is kept. *recorded* is the duration of a frame in s, for bare streams that do not tell.
    Return the number of frames and what was done. Raises `ConversionError` where some are lost.
    """
    import av

    timing = video_timing(video, recorded)
    codec, frames, done = timing.codec, timing.packets, ""
    if timing.order is not None:
        try:
            copy_streams(path, video, video, timing)
            done = "copied"
        except av.FFmpegError as error:
            if error.errno in NO_ROOM:
                raise
    if not done:
        if codec in COPIED_CODECS:
            warn("its packets cannot be copied as they are: the video was encoded anew")
        encoded = path.with_name(f"{path.stem}-video.part")
        try:
            frames = write_mp4(encoded, decoded_pictures(video), Timing((1 / timing.rate,), ""))
            if not frames:
                raise ConversionError(f"no picture of the {codec} video can be decoded")
            copy_streams(path, encoded, video, replace(timing, order=None))
        finally:
            encoded.unlink(missing_ok=True)
        done = "encoded anew as h264"
    with opened(path) as result:
        written = sum(packet.size > 0 for packet in result.demux(video=0))
    if written != frames:
        raise ConversionError(f"{written} of {frames} frames came out of the {codec} video")
    return written, f"{codec} {done}, {float(timing.rate):.4g} fps"


def codec_of(stream: Any) -> str:
    """Return the name of a stream's codec, whichever decoder is at hand for it."""
    if stream.codec_context is None:
        raise ConversionError(f"its {stream.type} is of a codec that FFmpeg does not know")
    return str(stream.codec_context.codec.canonical_name)


def video_timing(video: Video, recorded: Fraction | None) -> VideoTiming:
    """Read what *video* says of its pictures; a bare stream tells their order when decoded."""
    with opened(video) as source:
        if not source.streams.video:
            raise ConversionError("the video holds no pictures")
        stream = source.streams.video[0]
        codec, sounds = codec_of(stream), len(source.streams.audio)
        declared, average = stream.codec_context.framerate, stream.average_rate
        start = Fraction((stream.start_time or 0) * stream.time_base)
        start -= Fraction(source.start_time or 0, 1_000_000)
        times = [(packet.pts, packet.dts) for packet in source.demux(stream) if packet.size]
    timed = bool(times) and all(None not in pair for pair in times)
    timed = timed and all(before[1] < after[1] for before, after in pairwise(times))
    order = (() if timed else display_order(video)) if codec in COPIED_CODECS else None
    told = (average, declared) if timed else (declared, recorded and 1 / recorded, average)
    rate = Fraction(next(filter(None, told), DEFAULT_FRAME_RATE)).limit_denominator(100_000)
    return VideoTiming(codec, rate, max(start, Fraction()), len(times), order, sounds)


def display_order(video: Video) -> list[int] | None:
    """Return for each packet of a video, in order, the place of its picture as shown, from 0.

    None where packets and pictures do not pair up: fields apart, a beginning or an end that lacks.
    """
    import av

    shown: list[int] = []
    packets = 0
    with opened(video) as source:
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = packets
                packets += 1
            with suppress(av.FFmpegError):
                shown += [frame.pts for frame in packet.decode()]
    places = {number: place for place, number in enumerate(shown)}
    return [places[number] for number in sorted(places)] if 0 < len(places) == packets else None


def decoded_pictures(video: Video) -> Iterator[Array]:
    """Yield a video's pictures, RGB (rows, columns, 3), of square pixels; skip broken ones."""
    with opened(video) as source:
        stream = source.streams.video[0]
        for frame in decoded(source, stream):
            wide = stream.codec_context.sample_aspect_ratio or 1
            yield squared(frame.to_ndarray(format="rgb24"), float(1 / wide))


def decoded(source: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of one *stream* of *source*; warn of what cannot be decoded."""
    import av

    for packet in source.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            what = "video" if stream.type == "video" else "sound"
            warn(f"parts of the {what} cannot be decoded and were left out")


def copy_streams(path: Path, pictures: Video, sound: Video, timing: VideoTiming) -> None:
    """Copy the video of *pictures* and the audio of *sound* into an MP4, side by side in time."""
    import av

    try:
        with opened(path, "mp4", movflags="faststart") as target, ExitStack() as stack:
            tracks = [video_packets(stack.enter_context(opened(pictures)), target, timing)]
            for number in range(timing.sounds):
                source = stack.enter_context(opened(sound))
                tracks.append(audio_packets(source, source.streams.audio[number], target))
            for packet in merge(*tracks, key=lambda packet: packet.dts * packet.time_base):
                target.mux(packet)
    except (av.FFmpegError, ConversionError) as error:
        if not timing.sounds or getattr(error, "errno", None) in NO_ROOM:
            raise
        warn("the sound of the video cannot be kept")
        copy_streams(path, pictures, sound, replace(timing, sounds=0))


def video_packets(source: Any, target: Any, timing: VideoTiming) -> Iterator[Any]:
    """Yield the packets of the first video stream of *source* for a new stream of *target*.

    Bare streams have no times: a picture's place gives when it is shown, and the packet's own
    number, less the largest delay, when it is decoded. What was encoded anew begins at 0 too.
    """
    stream = source.streams.video[0]
    copied = target.add_stream_from_template(stream)
    if codec_of(stream) == "hevc":
        copied.codec_context.codec_tag = "hvc1"
    order = timing.order or ()
    delay = max((number - place for number, place in enumerate(order)), default=0)
    shift = Fraction(source.start_time or 0, -1_000_000) if timing.order == () else timing.start
    packets = (packet for packet in source.demux(stream) if packet.size)
    for number, packet in enumerate(packets):
        if order:
            packet.time_base, packet.duration = 1 / timing.rate, 1
            packet.pts, packet.dts = order[number], number - delay
        yield moved(packet, shift, copied)


def audio_packets(source: Any, stream: Any, target: Any) -> Iterator[Any]:
    """Yield one audio *stream* of *source* for *target*, in step: as packets copied, or as AAC."""
    begin = Fraction(source.start_time or 0, 1_000_000)
    if codec_of(stream) in COPIED_CODECS:
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size and packet.pts is not None:
                yield moved(packet, -begin, copied)
        return
    encoder = target.add_stream("aac", rate=stream.codec_context.sample_rate)
    samples: int | None = None
    for frame in decoded(source, stream):
        due = round(max(Fraction(frame.time or 0) - begin, 0) * frame.sample_rate)
        if samples is None or due > samples + frame.samples:  # the first, or behind a gap
            samples = due
        frame.pts, frame.time_base = samples, Fraction(1, frame.sample_rate)
        samples += frame.samples
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def moved(packet: Any, by: Fraction, copied: Any) -> Any:
    """Return *packet* for the stream *copied*, *by* some seconds later."""
    shift = round(by / packet.time_base)
    packet.dts = (packet.pts if packet.dts is None else packet.dts) + shift
    packet.pts += shift
    packet.stream = copied
    return packet


def distribute(pictures: Iterable[Array], consumers: Sequence[Consumer]) -> None:
    """Run each of *consumers*, which take all *pictures*, on a thread behind a queue.

    The first error of any of them, or an interrupt, ends the rest and is raised.
    """
    queues = [Queue[tuple[Array, ...]](QUEUED_PICTURES) for _ in consumers]
    ended = threading.Event()

    def consume(consumer: Consumer, queue: Queue[tuple[Array, ...]]) -> None:
        feed = chain.from_iterable(iter(queue.get, ()))
        try:
            consumer(feed)
        except BaseException:
            ended.set()
            raise
        finally:  # whatever is put in further is taken out: nobody waits for room
            deque(feed, maxlen=0)

    with ThreadPoolExecutor(max(len(consumers), 1)) as pool:
        try:
            running = list(map(pool.submit, repeat(consume), consumers, queues))
            for picture in pictures:
                if ended.is_set():
                    break
                for queue in queues:
                    queue.put((picture,))
        finally:
            for queue in queues:
                queue.put(())
        for future in running:
            future.result()


# --- Errors in words ------------------------------------------------------------------------------

# What a system says where nothing can be written to a folder, whatever the file.
REFUSALS = (*NO_ROOM[1:], errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ELOOP)
MAX_NOTES = 100  # of a file
Result = TypeVar("Result")


def attempt(step: Callable[[], Result], options: Options) -> tuple[Result | None, Exception | None]:
    """Run *step* and return (result, None) or (None, the error): no file may stop the rest."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 - files and codecs fail in ways that no list foresees
        if options.debug and not isinstance(error, ConversionError):
            traceback.print_exc()
        return None, error


def notes_of(caught: Iterable[warnings.WarningMessage]) -> tuple[str, ...]:
    """Return the messages of warnings, each once; of very many the first."""
    notes = tuple(dict.fromkeys(one_line(str(warning.message)) for warning in caught))
    more = len(notes) - MAX_NOTES
    return (*notes[:MAX_NOTES], f"and {more} more warnings") if more > 0 else notes


def reason_of(error: Any) -> str:
    """Return why the exception *error* stopped a file, in one line without names of Python's."""
    if isinstance(error, ImportError):
        return one_line(f"a library is missing or broken ({error}): {CURE}")
    if cause := getattr(error, "strerror", ""):
        cause = cause[0].lower() + cause[1:]
        if error.errno in NO_ROOM or TEMPORARY_PREFIX in str(error.filename):
            cause = f"its output cannot be written: {cause}"
        elif type(error).__module__.startswith("av."):
            cause = f"FFmpeg cannot read the video: {cause}"
        return one_line(cause)
    if isinstance(error, RecursionError):
        return "its sequences are nested too deeply"
    if isinstance(error, MemoryError):
        return "it does not fit in memory"
    if isinstance(error, ConversionError):
        return one_line(str(error))
    return one_line(f"{str(error) or 'no reason given'} ({type(error).__name__})")


def refusal(error: Any, folder: Path) -> str:
    """Return why nothing can be written to *folder*, "" where *error* says no such thing."""
    if getattr(error, "errno", None) not in REFUSALS:
        return ""
    cause = "it is no folder" if error.errno == errno.EEXIST else error.strerror
    return one_line(f"{folder}: cannot be written ({cause})")


def one_line(message: str) -> str:
    """Return *message* on one line, escaped and of bounded length."""
    shown = printable(" ".join(message.split()))
    return shown if len(shown) <= 300 else shown[:297] + "..."


# --- Done before ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """What is known of a work before anything is written: what all further steps share."""

    source: Work
    options: Options
    header: Header  # of the first file
    origin: Origin
    states: tuple[FileState | None, ...]  # of the files before they were opened
    content: ImagePixel | str | Work | Exception | None  # of `content_of`, or why it has none
    instance: Instance | None  # None where it cannot be read
    caught: list[warnings.WarningMessage]  # so far and on


def marks(status: Status, task: Task, outputs: dict[str, Path]) -> list[str]:
    """Return the first lines of a TXT: title, and how the file ended, with which options, of what.

    *outputs* are, by suffix, where the others are now. Where one of all these is another, the file
    has to be converted again.
    """
    name, origin = printable(task.source.own_name), task.origin
    kind = "series" if isinstance(task.source, Series) else "file"
    made = ",".join(f" {suffix} {sizes_of([path])} bytes" for suffix, path in outputs.items())
    return [
        f"{TEXT_BEGINS}{kind} {name}, described by dicom_converter {__version__}",
        f"{status.capitalize()}; options: {chosen_options(task.options, task.content)}; "
        f"source {origin.path} {origin.instance}, {origin.size} bytes, changed {origin.changed}; "
        f"outputs:{made or ' none'}",
    ]


def sizes_of(paths: Iterable[Path]) -> int:
    """Return the bytes that the files at *paths* take."""
    return sum(size for _, size, _ in filter(None, map(state_of, paths)))


def chosen_options(options: Options, content: object) -> str:
    """Return in words which of *options* make the outputs of *content* other than by default."""
    matter = {"mp4", "names"} if content == "video" else {"names"}
    if isinstance(content, ImagePixel | Series | Presentation):
        matter = {*PictureOptions.__slots__}
    if isinstance(content, Series):
        matter -= {"png_bits", "frames"}
    elif isinstance(content, Presentation):
        matter -= {"window", "frames"}
    elif isinstance(content, ImagePixel) and content.kind != "clip":
        matter -= {"gif", "mp4", "frame_rate", "frames"}
    chosen, default = [], Options()
    for name in filter(matter.__contains__, PictureOptions.__slots__):
        value = getattr(options, name)
        if isinstance(value, Window):
            chosen.append(f"{name}={value.center!r},{value.width!r}")
        elif value != getattr(default, name):
            chosen.append(f"{name}={'auto' if value is None else printable(str(value))}")
    return ", ".join(chosen) or "default"


def is_done(task: Task, place: Path, made: dict[str, Path]) -> bool:
    """Tell whether what was *made* at *place* is whole, of the same origin, and as *task* would."""
    *head, whole = text_marks(Path(f"{place}.txt"))
    ends = (Status.CONVERTED, Status.TEXT_ONLY)
    return whole and head in [marks(end, task, made) for end in ends]


# --- What a file belongs to -----------------------------------------------------------------------

MAX_NUMBER, MAX_POSITION = 1 << 31, 1e6  # of an instance, in mm
MAX_SHORT = 128  # characters of a text that is shown in a list
TEXTS = {  # by which files are sorted and listed
    "patient": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "study": ("StudyDate", "StudyTime", "StudyDescription", "InstitutionName", "PatientAge"),
    "series": ("SeriesNumber", "Modality", "SeriesDescription", "BodyPartExamined"),
    "instance": ("InstanceNumber", "AcquisitionDateTime", "ContentLabel", "SegmentLabel"),
    "identity": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
# What tells the volumes of one series apart, in the order of trust; the last as of `when_taken`.
MOMENTS = ("TemporalPositionIdentifier", "FrameReferenceTime", "TriggerTime", "DiffusionBValue",
           "AcquisitionNumber", "AcquisitionTime")  # fmt: skip
MAX_STEPPED = 10_000  # frames of a clip of which each has a time of its own
# What cannot be in one clip, besides size and orientation.
APART = ("ConvolutionKernel", "Units", "CorrectedImage", "PixelPresentation")
# Where names are in the pixels, unless the file denies it.
OFTEN_BURNED_IN = re.compile("Ultrasound|Secondary Capture|Endoscop|Photograph")
STATE_CLASSES = tuple(UID(f"1.2.840.10008.5.1.4.1.1.11.{number}") for number in (1, 2, 3, 12))
_, COLOR_STATE, PSEUDO_COLOR_STATE, _ = STATE_CLASSES
MASKS = "MaskSubtractionSequence"
MAX_REFERENCES, MAX_REFERENCED_FRAMES = 1000, 100_000  # that are followed
# Titles of lists of images that are rejected, or just all of them (PS3.16 CID 7010).
NO_PRAISE = ("113001", "113022", *map(str, range(113030, 113036)), "113037", "113038", "113039")
BURNED_IN = "the file says that names are burned into its picture"
PERHAPS_BURNED_IN = "names may be burned into the picture: look before you share it"


def instance_of(header: Header, content: object, *, whole: bool = True) -> Instance:
    """Return what a file says that it is, and if *whole* what it belongs to.

    *content* is as of `content_of`.
    """
    ds, image = header.data_set, content if isinstance(content, ImagePixel) else None
    kind = image.kind if image else content if isinstance(content, str) else ""
    if isinstance(content, Presentation) and content.shown and not state_problem(ds):
        kind = "state"

    def bounded(keyword: str) -> int | None:
        value = number(ds, keyword)
        return None if value is None or abs(value) > MAX_NUMBER else int(value)

    shows = bool(kind) or isinstance(content, Series | Presentation) or "EncapsulatedDocument" in ds
    with warnings.catch_warnings(action="ignore"):  # whoever needs a value says what it lacks
        burned_in = shows and bool(burned_in_note(header, content))
        instance = Instance(kind, *steps_of(ds, content), burned_in)
        if not whole:
            return instance
        texts, moment = listed_texts(ds)
        if isinstance(content, Series):
            texts["SOPInstanceUID"] = ""
        codes = {text(one, "CodeValue") for one in sequence(ds, "ConceptNameCodeSequence")[:1]}
        size = f"{image.matrix[1]} x {image.matrix[0]}" if image else "-"
        stack = stack_of(ds, image) if image else ""
        (normal, position), location = plane_of(ds), number(ds, "SliceLocation")
        return replace(
            instance,
            texts=texts,
            facts=(("Size", size), *geometry_facts(ds)),
            stack=stack,
            identity=identity_of(ds, stack),
            encoding=str(header.transfer_syntax),
            series_number=bounded("SeriesNumber"),
            number=bounded("InstanceNumber"),
            normal=normal,
            position=position,
            location=None if abs(location or 0) > MAX_POSITION else location,
            moments=(*(number(ds, keyword) for keyword in MOMENTS[:-1]), moment),
            refers=tuple(followed(references_of(ds))),
            praises=codes.isdisjoint(NO_PRAISE) if any(key_texts(ds)) else None,
        )


def listed_texts(ds: Dataset) -> tuple[dict[str, str], float | None]:
    """Return the texts by which a file is sorted and listed, and when it was taken, in s."""
    names = chain(*TEXTS.values())
    texts = {name: readable(name, text(ds, name)[:MAX_SHORT])[:MAX_SHORT] for name in names}
    texts["AcquisitionDateTime"], moment = when_taken(ds)
    said = texts["SeriesDescription"], *(value for _, value in key_texts(ds))
    texts["SeriesDescription"] = " · ".join(dict.fromkeys(filter(None, said)))[:MAX_SHORT]
    texts["SegmentLabel"] = shortened([one[:32] for one in segment_names(ds).values()], 3)
    return texts, moment


def key_texts(ds: Dataset) -> Iterator[Fact]:
    """Yield title and texts of a list of key images (PS3.16 TID 2010), nothing of other files."""
    if text(ds, "SOPClassUID") == uid.KeyObjectSelectionDocumentStorage:
        yield "Title", coded(ds, "ConceptNameCodeSequence") or "-"
        for item in sequence(ds, "ContentSequence"):
            if text(item, "ValueType") == "TEXT":
                yield "Text", printable(" ".join(report_value(item).split()))


def references_of(ds: Dataset) -> Iterator[Reference]:
    """Yield the instances that a state or a list of key images refers to, and frames from 1.

    PS3.3 C.11.11, C.17.6. Nothing where the state cannot be applied.
    """
    if text(ds, "SOPClassUID") == uid.KeyObjectSelectionDocumentStorage:
        for item in sequence(ds, "ContentSequence"):
            yield from references_in(item, "ReferencedSOPSequence")
    elif not state_problem(ds):
        yield from chain.from_iterable(map(references_in, sequence(ds, "ReferencedSeriesSequence")))


def references_in(item: Dataset, keyword: str = "ReferencedImageSequence") -> Iterator[Reference]:
    """Yield the instances that a sequence of *item* names, and their frames from 1, () for all."""
    for one in sequence(item, keyword):
        frames = numbers(one, "ReferencedFrameNumber")
        yield text(one, "ReferencedSOPInstanceUID"), tuple(map(int, frames))


def followed(references: Iterable[Reference]) -> Iterator[Reference]:
    """Yield as many of *references* as can be followed, of very many the first."""
    found = 0
    for uid, frames in islice(references, MAX_REFERENCES):
        found += len(frames)
        if found > MAX_REFERENCED_FRAMES:
            return
        yield uid, frames


def state_problem(ds: Dataset) -> str:
    """Return why a file cannot be applied to images as a presentation state, "" where it can."""
    if text(ds, "SOPClassUID") not in STATE_CLASSES:
        return "of a kind that is not applied"
    return "which subtracts a mask: that is not applied" if sequence(ds, MASKS) else ""


def steps_of(ds: Dataset, content: object) -> tuple[int, tuple[Fraction, ...]]:
    """Return how many frames *content* has and, where that varies, how long each lasts, in s."""
    count = integer(ds, "NumberOfFrames", 0, range(MAX_REFERENCED_FRAMES + 1))
    durations: tuple[Fraction, ...] = ()
    if isinstance(content, Series):
        count = len(content.slices)
        durations = tuple(one.duration for one in content.slices if one.duration)
    elif isinstance(content, Presentation):
        count = content.frames
    elif isinstance(content, ImagePixel):
        count = content.number_of_frames
        if 1 < count <= MAX_STEPPED:
            durations = timing_of(*recorded_durations(ds, count), count, None).durations
    return count, durations if len(set(durations)) > 1 else ()


def segment_names(ds: Dataset, *, names: bool = True) -> dict[int, str]:
    """Return what each segment is called, but not the background of a label map (C.8.20.2)."""
    return {
        key: summarized(one, "SegmentLabel", names)
        or coded(one, "SegmentedPropertyTypeCodeSequence")
        for key, one in sorted(segments_of(ds).items())
        if key
    }


def burned_in_note(header: Header, content: object) -> str:
    """Return a warning where names are in the pixels or may be, "" where they are not."""
    if isinstance(content, Series | Presentation):
        return PERHAPS_BURNED_IN if content.burned_in else ""
    ds = header.data_set
    declared = text(ds, "BurnedInAnnotation").upper()
    often = not declared and OFTEN_BURNED_IN.search(sop_class_name(header))
    label = "LABEL" in text(ds, "ImageType").split("\\")
    suspect = often or label or text(ds, "SpecimenLabelInImage").upper() == "YES"
    return BURNED_IN if declared == "YES" else PERHAPS_BURNED_IN if suspect else ""


def is_called_after(label: str, texts: dict[str, str]) -> bool:
    """Tell whether a part of *label* holds the ID, the name or a word of it.

    Of 3 letters (1 of Chinese) as a word, longer ones also inside of others: SMITHJ, 12-34-567.
    """

    def words(value: str) -> list[str]:
        letters = unicodedata.normalize("NFKD", value.casefold())
        plain = (char for char in letters if not unicodedata.combining(char))
        return re.findall(r"[^\W_]+", "".join(plain))

    name = texts["PatientName"]
    joined = ("".join(words(value)) for value in (texts["PatientID"], *name.split("=")))
    known = [(one, len(one.encode())) for one in (*joined, *words(name))]
    return any(
        (size > 3 and one in "".join(words(part))) or (size == 3 and one in words(part))
        for part in PurePath(label).parts
        for one, size in known
    )


def stack_of(ds: Dataset, image: ImagePixel) -> str:
    """Return what all stills of one clip have in common, besides their orientation."""
    echo = text(ds, "EchoNumbers") or text(ds, "EchoTime")
    colored = is_colored(ds) or any(CIELAB in one for one in segments_of(ds).values())
    gray = image.photometric_interpretation.startswith("MONOCHROME") and not colored
    form = f"{image.columns} x {image.rows} {'gray' if gray else 'color'} {pixel_aspect(ds):.3g}"
    kind = text(ds, "ImageType").upper().split("\\")[:4]
    parts = (form, echo, *kind, *(text(ds, name) for name in APART))
    return "|".join(part[:MAX_SHORT] for part in parts)


def identity_of(ds: Dataset, stack: str) -> str:
    """Return by what a still is known as the one that it was: whose, which, and of which stack."""
    known = [text(ds, name) for name in ("PatientName", "PatientID", "SOPInstanceUID")]
    return check_sum(f"{known} {stack}")


def plane_of(ds: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a slice's unit normal, () where none can be right, and position (C.7.6.2.1.1)."""
    group = functional_group(ds, "PlaneOrientationSequence", 0)
    orientation = numbers(group, "ImageOrientationPatient", math.nan)[:7]  # more than there can be
    group = functional_group(ds, "PlanePositionSequence", 0)
    position = numbers(group, "ImagePositionPatient", math.nan)[:4]
    near = all(abs(value) <= MAX_POSITION for value in (*orientation, *position))  # and not NaN
    if (len(orientation), len(position)) != (6, 3) or not near:
        return (), position
    cosines = np.array(orientation).reshape(2, 3)
    if not np.allclose(cosines @ cosines.T, np.eye(2), atol=0.1):
        return (), position
    normal = np.cross(*cosines)
    return tuple((normal / np.linalg.norm(normal)).tolist()), position


def when_taken(ds: Dataset) -> tuple[str, float | None]:
    """Return when the data of an instance were acquired, as a text and in s, if it says so."""
    dates = (f"{of}{part}" for of in ("Acquisition", "Content") for part in ("Date", "Time"))
    acquired, at, content, of = (text(ds, keyword) for keyword in dates)
    for day, hour in ((text(ds, "AcquisitionDateTime"), ""), (acquired, at), (content, of)):
        with suppress(*UNREADABLE):
            found = DT((day or "00010101" * bool(hour)) + hour)  # files may tell just the time
            # A time zone is left aside: some files of a series lack it.
            since = datetime.combine(found.date(), found.time()) - datetime.min
            shown = readable("DateTime", day + hour) if day else readable("Time", hour)
            return shown[:MAX_SHORT], since.total_seconds()
    return "", None


# --- Series ---------------------------------------------------------------------------------------

Member = tuple[Source, Instance]
MAX_TILT, SAME_TILT = (math.cos(math.radians(angle)) for angle in (30, 1))  # between normals
SAME_PLACE, MAX_JITTER = 0.01, 0.05  # mm; the first also by the longest step
GAP, UNEQUAL = 1.5, 1.05  # by the median step, by the shortest
STEADY, MAX_PAUSE = 2, Fraction(10)  # by the shortest time between frames; s: no film is slower
MANY_PLANES = 1000  # slices


def without_copies(members: Iterable[Member]) -> tuple[list[Member], list[str]]:
    """Return *members* that show something of their own, and the labels of the others.

    Copies are the same instance, or one of the same place, number and time that is encoded anew.
    """
    places: dict[object, str] = {}
    uids: set[object] = set()
    kept, copies = [], []
    for source, one in members:
        uid = one.texts["SOPInstanceUID"] or source
        place = (one.stack, one.normal, one.position, one.number, one.moments)
        encoding = places.setdefault(place if one.position else uid, one.encoding)
        if uid in uids or encoding != one.encoding:
            copies.append(source.label)
        else:
            kept.append((source, one))
        uids.add(uid)
    return kept, copies


def stacks_of(members: Iterable[Member]) -> list[list[Member]]:
    """Return the stills of one series in stacks of one size, kind and orientation.

    The largest comes first, then what is no localizer, then the lower instance number.
    """
    groups: defaultdict[str, list[Member]] = defaultdict(list)
    for member in members:
        groups[member[1].stack].append(member)

    def rank(stack: list[Member]) -> tuple[int, bool, int]:
        numbers = [one.number or 0 for _, one in stack]
        return -len(stack), "LOCALIZER" in stack[0][1].stack, min(numbers)

    return sorted(chain.from_iterable(map(parts_by_plane, groups.values())), key=rank)


def parts_by_plane(group: list[Member]) -> list[list[Member]]:
    """Return *group* in parts of one orientation, or whole where that does not order it."""
    if not all(one.normal for _, one in group) or is_turning(group):
        return [group]
    return [[group[index] for index in part] for part in alike(group, MAX_TILT, np.abs)]


def alike(
    group: Sequence[Member], nearest: float, side: Callable[[Array], Array] = np.positive
) -> list[Array]:
    """Return the indices of *group* in parts of like normals, by the cosine of angles in each.

    With `np.abs` as *side*, slices seen from behind are alike.
    """
    normals, parts = np.array([one.normal for _, one in group]), []
    rest = np.arange(len(group))
    while rest.size:
        near = side(normals[rest] @ normals[rest[0]]) > nearest
        parts.append(rest[near])
        rest = rest[~near]
    return parts


def is_turning(group: Sequence[Member]) -> bool:
    """Tell whether slices turn around the body: projections, or most of a plane of their own."""
    some = group[:MANY_PLANES]  # what all differ costs time by the square of their number
    alone = sum(len(part) == 1 for part in alike(some, SAME_TILT))
    return "PROJECTION" in group[0][1].stack or 2 * alone > len(some) > 1


def ordered(stack: Sequence[Member]) -> Series:
    """Return *stack* by the positions along its mean normal, or by what else orders it."""
    ones = [one for _, one in stack]
    if all(one.normal for one in ones):
        if is_turning(stack) or "MOSAIC" in ones[0].stack:
            return by_value(stack)
        normals = np.array([one.normal for one in ones])
        mean = np.mean(normals * np.sign(normals @ normals[0])[:, np.newaxis], axis=0)
        positions = np.array([one.position for one in ones])
        how, distances = "position", positions @ (mean / np.linalg.norm(mean))
    elif None not in (locations := [one.location for one in ones]):
        how, distances = "slice location", np.array(locations)
    else:
        return by_value(stack)
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order])
    places = np.zeros(len(stack), int)
    same = np.clip(SAME_PLACE * steps.max(initial=0), SAME_PLACE, MAX_JITTER)
    places[order[1:]] = np.cumsum(steps > same)
    return by_place(stack, distances, places, how) if places.any() else by_value(stack)


def by_place(stack: Sequence[Member], distances: Array, places: Array, how: str) -> Series:
    """Return *stack* by *places*, its numbers by *how* they lie, one volume after another.

    The end with the lower instance numbers is the beginning: positions do not tell.
    """
    known = [at for at, (_, one) in enumerate(stack) if one.number is not None]
    numbers = np.array([stack[at][1].number for at in known], float)
    direction = -1 if known[1:] and np.cov(distances[known], numbers)[0, 1] < 0 else 1
    ranks, told_by = ranks_at_places(stack, places)
    counts = np.bincount(places)
    even = bool(counts.min() == counts.max())
    order = np.lexsort((ranks, direction * places, ranks * even))
    notes = spacing_notes(distances[order[: len(counts)]])
    if not even:
        notes = (f"from {counts.min()} to {counts.max()} files lie at a position",)
    elif counts[0] > 1:
        how += f", {counts[0]} volumes one after the other by {told_by}"
    return shown_as([stack[index] for index in order], how, notes, distances[order].tolist())


def shown_as(
    stack: Sequence[Member],
    order: str,
    notes: tuple[str, ...] = (),
    positions: Iterable[float | None] = repeat(None),
    durations: Iterable[Fraction | None] = (),
) -> Series:
    """Return *stack*, which is in *order*, as a series; *positions* are in mm, *durations* in s."""
    slices = []
    for (source, one), position, duration in zip(
        stack, positions, durations or repeat(None), strict=False
    ):
        at = "" if position is None else f"at {round(position, 2) + 0.0:.2f} mm, "
        place = f"{at}instance {'-' if one.number is None else one.number}"
        slices.append(Slice(source, one.identity, place, duration))
    if any(one.position for _, one in stack) and not all(one.normal for _, one in stack):
        notes += ("not all positions and orientations can be right: they were left aside",)
    return Series(tuple(slices), order, any(one.burned_in for _, one in stack), notes)


def moments_of(stack: Sequence[Member]) -> dict[str, tuple[float | None, ...]]:
    """Return the values of `MOMENTS` of all of *stack*."""
    return dict(zip(MOMENTS, zip(*(one.moments for _, one in stack), strict=True), strict=True))


def ranks_at_places(stack: Sequence[Member], places: Array) -> tuple[Array, str]:
    """Return for each of *stack* which one it is at its place, from 0, and what tells that."""
    moments = moments_of(stack)
    apart = (
        name
        for name, values in moments.items()
        if None not in values and len({*zip(places.tolist(), values, strict=True)}) == len(stack)
    )
    name = next(apart, "InstanceNumber")
    values = moments.get(name) or [one.number or 0 for _, one in stack]
    counts, ranks = np.bincount(places), np.empty(len(stack), int)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks[np.lexsort((np.array(values), places))] = np.arange(len(stack)) - firsts
    return ranks, dictionary_description(name)


def by_value(stack: Sequence[Member]) -> Series:
    """Return *stack* by the first value that all of it has and no two share.

    Stills of one place that follow each other steadily get their durations.
    """
    values: dict[str, Sequence[Any]] = {
        "instance number": [one.number for _, one in stack],
        "time": moments_of(stack)["AcquisitionTime"],
        "file name": [natural_order(source.label) for source, _ in stack],
    }
    distinct = (how for how, each in values.items() if None not in each)
    how = next((how for how in distinct if len(set(values[how])) == len(stack)), "file name")
    shown = [stack[index] for index in sorted(range(len(stack)), key=values[how].__getitem__)]
    moments, places = moments_of(shown), {one.position for _, one in stack}
    durations = steady_gaps(moments["TriggerTime"], Fraction(1, 1000))
    durations = durations or steady_gaps(moments["AcquisitionTime"], Fraction(1))
    return shown_as(shown, how, durations=durations if len(places) == 1 else ())


def natural_order(label: str) -> tuple[Any, ...]:
    """Return what sorts *label* as people do: IM2 before IM10."""
    digits = (part.lstrip("0") for part in re.findall(r"\d+", label))
    return re.sub(r"\d+", "0", label), *((len(part), part) for part in digits), label


def steady_gaps(times: Sequence[float | None], unit: Fraction) -> tuple[Fraction, ...]:
    """Return how long frames last, in s, where *times* in *unit* s are of a steady run, else ()."""
    known = [Fraction(one) * unit for one in times if one is not None]
    gaps = [seconds(after - before) for before, after in pairwise(known)]
    if len(known) < len(times) or not gaps or min(gaps) < MIN_DURATION:
        return ()
    return (*gaps, gaps[-1]) if max(gaps) <= min(STEADY * min(gaps), MAX_PAUSE) else ()


def spacing_notes(positions: Array) -> tuple[str, ...]:
    """Return what is to be said of the spacing of slices at *positions*, in mm and in order."""
    steps = np.abs(np.diff(positions))
    typical = float(np.median(steps))
    gaps = [
        f"{steps[at]:.4g} mm behind frame {at + 1}" for at in np.flatnonzero(steps > GAP * typical)
    ]
    if gaps:
        where = shortened(gaps)
        return (f"there are gaps: most slices lie {typical:.4g} mm apart, but {where}",)
    if steps.max() > UNEQUAL * steps.min():
        return (f"slices lie from {steps.min():.4g} to {steps.max():.4g} mm apart",)
    return ()


# --- Documents and video --------------------------------------------------------------------------

PLAIN_KINDS = {  # of files without a picture, by how their SOP class ends
    "Presentation State": "a presentation state",
    " SR": "a structured report",
    "Waveform": "a waveform",
    "Key Object Selection Document": "a list of marked images",
    "RT Plan": "a treatment plan",
    "RT Structure Set": "outlines of structures",
    "Raw Data": "raw data of a scanner",
    "Media Storage Directory": "the directory of a medium",
}
DOCUMENT_CLASSES = {  # for documents that do not say what they are
    uid.EncapsulatedPDFStorage: "application/pdf",
    uid.EncapsulatedCDAStorage: "text/xml",
    uid.EncapsulatedSTLStorage: "model/stl",
    uid.EncapsulatedOBJStorage: "model/obj",
    uid.EncapsulatedMTLStorage: "model/mtl",
}
# Where pixels are that no file holds (PS3.5 A.6, A.11), by how their syntax is called.
ELSEWHERE = {
    "JPIP": "JPIP: the pixels are on a server",
    "SMPTE": "SMPTE ST 2110: a live stream, whose pixels or sound no file holds",
}
# Of a bare or program stream, an MP4, transport streams, each packet of which begins with a G.
VIDEO_BEGINS = re.compile(rb"(?s)\0\0\0?\x01|.{4}ftyp|(.{4})?G(.{187}G){2}|.{4}G(.{191}G){2}")


def write_document(task: Task, outputs: Outputs) -> Outcome:
    """Write the document that is encapsulated in a file (PS3.3 C.24), of its true length.

    Raises `ConversionError` where it is not whole, `NotAnImageError` where there is none.
    """
    ds = task.header.data_set
    if "EncapsulatedDocument" not in ds:
        raise reason_for_no_picture(task.header, task.options)
    if not task.options.names:
        raise NotAnImageError("the document is left out: it may hold names")
    if task.header.truncated:
        raise ConversionError("the file ends inside its document: it is truncated")
    document = raw_bytes(ds, Tag("EncapsulatedDocument")) or b""
    declared = text(ds, "MIMETypeOfEncapsulatedDocument").lower().partition(";")[0].strip()
    by_class = DOCUMENT_CLASSES.get(UID(text(ds, "SOPClassUID")), "")
    kind = by_class if declared in ("", "application/octet-stream") else declared
    suffix = DOCUMENT_SUFFIXES.get(kind, ".bin")
    if suffix == ".bin":
        warn(f"a document of type {printable(declared) or 'unknown'} was written as .bin")
    # Without a length the byte that makes it even goes; a binary STL always is.
    padded = document.endswith(b"\0") and (suffix != ".stl" or document.startswith(b"solid"))
    length = integer(ds, "EncapsulatedDocumentLength") or len(document) - padded
    if not document:
        raise ConversionError("the document in it is empty")
    if not 0 < length <= len(document):
        raise ConversionError(f"declares a document of {length} bytes but holds {len(document)}")
    if length < len(document) - 1:
        warn(f"of {len(document)} bytes the document has {length}, as the file declares")
    outputs.part(suffix).write_bytes(document[:length])
    fact = "Document", f"{printable(kind) or 'of unknown type'}, {length} bytes"
    return Outcome(task.source, Status.CONVERTED, remark=f"{length} bytes", facts=(fact,))


def reason_for_no_picture(header: Header, options: Options) -> ConversionError:
    """Return why a file without pixels has none: it is of such a kind, or it is not all there."""
    if header.truncated:
        return ConversionError(f"the file ends inside {header.truncated}: it is truncated")
    if elsewhere := ELSEWHERE.get(header.transfer_syntax.name.partition(" ")[0]):
        url = text(header.data_set, "PixelDataProviderURL") if options.names else ""
        return ConversionError(f"{elsewhere}: {url}" if url else elsewhere)
    kind = sop_class_name(header) or "a file without a SOP class"
    if "Rows" in header.data_set or kind.endswith("Image Storage"):
        lost = "an image without its pixels: the file is truncated, stripped or damaged"
        return ConversionError(lost)
    kind = kind.removesuffix(" Storage")
    plain = next((words for end, words in PLAIN_KINDS.items() if kind.endswith(end)), "")
    lacks = state_problem(header.data_set) if kind.endswith("Presentation State") else ""
    lacks = lacks or "no picture of its own"
    if not options.study and any(references_of(header.data_set)):
        lacks += ": --study shows what it refers to"
    return NotAnImageError(f"{f'{plain} ({kind})' if plain else kind}, {lacks}")


def holds_video(header: Header, pixels: PixelLocation) -> bool:
    """Tell whether the pixels are a video, by their code stream: headers lie."""
    declared = header.transfer_syntax
    if pixels.fragments is None or declared in (DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED):
        return False
    if declared in uid.MPEGTransferSyntaxes:
        return not code_stream(pixels.head).family
    if found := VIDEO_BEGINS.match(pixels.head):
        warn(f"the pixels are a video, though declared as {name_of(declared)}")
    return found is not None


def write_dicom_video(task: Task, outputs: Outputs) -> Outcome:
    """Write the video inside a file as an MP4 (PS3.5 8.2.5 on: its own size and rate count)."""
    pixels = cast(PixelLocation, task.header.pixels)
    if pixels.cut:
        raise ConversionError("the file ends inside its video: it is truncated")
    if not pixels.fragments:
        raise ConversionError("holds no video, though it is declared as one")
    if not pixels.whole:
        warn("the video does not end as declared, but all of its fragments are there")
    if not task.options.mp4:
        warn("a video becomes an MP4 or nothing, and no MP4 was asked for")
        return Outcome(task.source, Status.CONVERTED)
    if task.options.frames:
        warn("frames of a video are not written one by one")
    declared = integer(task.header.data_set, "NumberOfFrames")
    duration, _ = recorded_duration(task.header.data_set, max(declared, 1))
    video = partial(FragmentReader, task.header.file, pixels)
    frames, done = write_video(outputs.part(".mp4"), video, duration)
    if declared and frames != declared:
        warn(f"the video holds {frames} frames, the header says {declared}")
    facts, remark = (("Frames", str(frames)), ("Video", done)), f"{frames} frames, {done}"
    return Outcome(task.source, Status.CONVERTED, remark=remark, facts=facts, frames=frames)


def content_of(header: Header) -> ImagePixel | str:
    """Return what a file shows: an image, "video", "curve" of a waveform, or "" for nothing.

    Raises `ConversionError` where that cannot be told.
    """
    pixels = header.pixels
    if pixels is None or not pixels.length:
        return "curve" if sequence(header.data_set, "WaveformSequence") else ""
    if holds_video(header, pixels):
        return "video"
    return as_its_stream(image_pixel(header.data_set, pixels), pixels)


# --- Waveforms (PS3.3 C.10.9) ---------------------------------------------------------------------

SECOND, MILLIVOLT, BOX = 200, 80, 40  # px: 25, 10 and 5 mm
PITCH, ABOVE = 7 * BOX, 4 * BOX  # px: from row to row, of a row above its base line
CURVES_LEFT, MAX_PAPER = 3 * BOX, 16384  # px: where rows begin, how high a picture may be
MAX_GROUPS, MAX_CHANNELS, MAX_ANNOTATIONS, MAX_TOLD = 64, 128, 1000, 80  # the last in letters
LANES, MAX_TEXTS, MAX_ROWS = 6, 150, 40  # of marks above each other, above the curves, of these
LETTERS, BLACK, BLUE, PALE_BLUE = 18, (0, 0, 0), (50, 80, 180), (160, 180, 240)
PAPER = ((8, (255, 222, 222)), (BOX, (240, 150, 150)))  # px and color of its lines
VOLTS = {"uV": 1e-3, "mV": 1.0, "V": 1e3}  # in mV
FILTERS = {"FilterLow": "high-pass", "FilterHigh": "low-pass", "NotchFilter": "notch"}
SAMPLES = dict(zip(("SB", "UB", "SS", "US", "SL", "UL", "SV", "UV"), "bBhHiIqQ", strict=True))
TWELVE_LEADS = "I aVR V1 V4", "II aVL V2 V5", "III aVF V3 V6", "II"  # rows of columns
LEADS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"}  # by numbers of codes
LEADS |= {chest + 2: f"V{chest}" for chest in range(1, 7)}
LEAD_CODES = {f"{of}{n}": name for n, name in LEADS.items() for of in ("SCPECG 5.6.3-9-", "MDC 2:")}
Rows = list[list["Channel"]]  # of channels that take turns
Annotation = tuple[float, str, set[tuple[float, float]]]  # s or NaN, text, groups and channels


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A channel of a waveform as it is drawn."""

    place: tuple[int, int]  # its group, and its number there, from 1
    name: str
    label: str
    filters: str
    rate: float  # Hz
    start: float  # s
    end: float
    points: Array  # (n, 2): s, and px above the base line or NaN, as far as there may be room
    ticks: tuple[float, ...]  # values at -80, 20 and 120 px, if these are of no ECG


def channels_of(header: Header, group: Dataset, place: int, *, names: bool) -> list[Channel]:
    """Return the channels of a multiplex group; raise `ConversionError` where it is not whole."""
    sizes = "NumberOfWaveformChannels", "NumberOfWaveformSamples", "WaveformBitsAllocated"
    count, samples, bits = (integer(group, keyword) for keyword in sizes)
    kind = printable(text(group, "WaveformSampleInterpretation"))[:8]
    if kind in ("MB", "AB"):
        raise NotAnImageError("a sound (mu-law or A-law), no picture of its own")
    rate, data = number(group, "SamplingFrequency"), raw_bytes(group, Tag("WaveformData")) or b""
    items = sequence(group, "ChannelDefinitionSequence")
    order = ">" if header.transfer_syntax == uid.ExplicitVRBigEndian else "<"
    dtype = np.dtype(order + SAMPLES.get(kind, "V"))
    known = (bits, count) == (8 * dtype.itemsize, len(items)) and 1e-3 <= (rate or 0) <= 2e5
    if not (known and count > 0 < samples and 0 < count * samples * bits <= 8 * len(data)):
        raise ConversionError(
            f"waveform {place} is not as declared: {count} channels, {len(items)} described, of "
            f"{samples} samples of {bits} bits ({kind}) at {rate} Hz, in {len(data)} bytes"
        )
    stored = np.frombuffer(data, dtype, count * samples)
    room = 10 * (2 + MAX_PAPER // (PITCH * max(count // 3, 1)))  # s
    kept = stored.reshape(samples, count)[: math.ceil(room * (rate or 1))]
    ecg = not re.search("Electro.*gram ", sop_class_name(header))  # whose mV are fewer
    return [
        channel_of(group, item, (place, n), kept[:, n - 1], ecg=ecg, names=names)
        for n, item in enumerate(items[:MAX_CHANNELS], 1)
    ]


def channel_of(
    group: Dataset, item: Dataset, place: tuple[int, int], stored: Array, *, ecg: bool, names: bool
) -> Channel:
    """Return the channel that *item* defines, in mV where it is one of an *ecg*."""

    def value(keyword: str, otherwise: float = 0.0) -> float:
        return number(item, f"Channel{keyword}") or otherwise

    rate = number(group, "SamplingFrequency") or 1
    start = (number(group, "MultiplexGroupTimeOffset") or 0) / 1000
    start += value("TimeSkew") + value("SampleSkew") / rate + value("Offset")
    units = coded(item, "ChannelSensitivityUnitsSequence", unit=True)[:16]
    gain = value("Sensitivity") * value("SensitivityCorrectionFactor", 1)
    units = units if gain and units else "arbitrary units"
    factor, units = (VOLTS[units], "mV") if ecg and units in VOLTS else (1.0, units)
    gain, baseline = (gain or 1) * factor, value("Baseline") * factor
    if not abs(gain) + abs(baseline) + abs(start) < 1e12:
        raise ConversionError(f"waveform {place[0]} is out of all bounds")
    unused = max(8 * stored.itemsize - (integer(item, "WaveformBitsStored") or 64), 0)
    values = (stored << unused >> unused) * gain + baseline
    padding = raw_bytes(group, Tag("WaveformPaddingValue")) or b""
    none = np.frombuffer(padding, stored.dtype, min(len(padding) // stored.itemsize, 1))
    values[np.isin(stored, none)] = math.nan
    # The least and the greatest of what falls in an eighth of a pixel.
    parts = np.arange(0, len(stored), max(int(rate / SECOND / 8), 1))
    ends = np.fmin.reduceat(values, parts), np.fmax.reduceat(values, parts)
    heights, ticks, more = scaled(np.stack(ends, axis=1).ravel(), units)
    points = np.stack([start + np.repeat(parts, 2) / rate, heights], axis=1)
    cuts = {name: number(item, f"{of}Frequency") for of, name in FILTERS.items()}
    said = ", ".join(f"{name} {cut:g} Hz" for name, cut in cuts.items() if cut)
    end = start + integer(group, "NumberOfWaveformSamples") / rate
    name = channel_name(item, place, names=names)
    return Channel(place, name, name + more, said, rate, start, end, points, ticks)


def channel_name(item: Dataset, place: tuple[int, int], *, names: bool) -> str:
    """Return which lead a channel is, by its code or its name, else its name, or its number."""
    label = coded(item, "ChannelSourceSequence") or printable(text(item, "ChannelLabel"))
    label = re.sub(r"^Lead |\(Einthoven\)|\\x00", "", label).strip()[:MAX_TOLD]
    for code in sequence(item, "ChannelSourceSequence")[:1]:
        said = f"{text(code, 'CodingSchemeDesignator')} {text(code, 'CodeValue')}"
        label = LEAD_CODES.get(said, label)
    known = label in LEADS.values() or (names and label)
    return label if known else f"channel {place[0]}.{place[1]}"


def scaled(values: Array, units: str) -> tuple[Array, tuple[float, ...], str]:
    """Return *values* in px: mV at 10 mm, to 5 from their middle, others in 25 mm.

    With it the values of ticks at -80, 20 and 120 px, and what is to be said beside the name.
    """
    found = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    low, high, middle = map(float, (found.min(), found.max(), np.median(found)))
    if units == "mV":
        zero = round(middle) if abs(middle) > 2 else 0
        if max(high - zero, zero - low) > 5:
            warn(f"a curve from {low:g} to {high:g} mV is cut at {zero - 5} and {zero + 5} mV")
        said = f", base line at {zero} mV" if zero else ""
        return np.clip(values - zero, -5, 5) * MILLIVOLT, (), said
    low = min(low, 0) if low < high / 2 else low
    span = max(high - low or abs(high) or 1, abs(high) * 1e-9, 1e-30)
    step = 10 ** math.floor(math.log10(span)) / 2
    low, high = math.floor(low / step) * step, math.floor(high / step + 1) * step
    heights = (values - low) * (200 / (high - low)) - 2 * BOX
    return heights, (low, (low + high) / 2, high), f", {units}"


def rows_of(groups: Sequence[Sequence[Channel]]) -> Rows:
    """Return what to draw of *groups*, the longest first: twelve leads in four columns.

    Where these are missing or too short each channel has its row, as all others have below them.
    Of groups that are more than a page apart from the longest nothing is drawn.
    """
    begin, end = groups[0][0].start, groups[0][0].end
    groups = [one for one in groups if one[0].start < end + 10 and one[0].end > begin - 10]
    leads = {one.name: one for one in chain(*groups[::-1]) if not one.ticks}
    page = [[leads[name] for name in row.split() if name in leads] for row in TWELVE_LEADS]
    middles = [
        (one, begin + 10 * (n + 0.5) / len(row)) for row in page for n, one in enumerate(row)
    ]
    joined = list(groups[0])
    for group in groups[1:]:
        names = {one.name for one in joined}
        joined += [one for one in group if one.name not in names]
    if len(middles) == 13 and all(one.start < at < one.end for one, at in middles):
        return page + [[one] for one in joined if one.name not in LEADS.values()]
    return [[one] for one in joined]


def annotations_of(ds: Dataset, drawn: Sequence[Channel], *, names: bool) -> Iterator[Annotation]:
    """Yield the annotations of waveforms (PS3.3 C.10.10) that hold for what is *drawn*, or all."""
    leads: dict[tuple[float, float], str] = {one.place: one.name for one in drawn}
    for item in sequence(ds, "WaveformAnnotationSequence"):
        pairs = numbers(item, "ReferencedWaveformChannels")
        places = {*zip(pairs[::2], pairs[1::2], strict=False)} or {(one[0], 0.0) for one in leads}
        said = [*(leads[one] for one in sorted(leads.keys() & places)), annotation_text(item)]
        shown = "".join(drawn_lines(" ".join(said)[:MAX_TOLD] * names))
        samples = numbers(item, "ReferencedSamplePositions")  # from 1
        offsets = numbers(item, "ReferencedTimeOffsets")
        if not samples and not offsets:
            yield math.nan, shown, places
        for one in [one for one in drawn if one.place[0] in dict(places)][:1]:
            times = [(sample - 1) / one.rate for sample in samples] or offsets
            yield from ((one.start + time, shown, places) for time in times)


def draw_scale(canvas: Array, one: Channel, base: float) -> None:
    """Draw before a row what tells its heights: a pulse of 1 mV and 200 ms, or an axis."""
    if not one.ticks:
        pulse = [[48, 0], [56, 0], [56, -MILLIVOLT], [96, -MILLIVOLT], [96, 0], [112, 0]]
        draw_line(canvas, np.add(pulse, [0.5, base]), BLACK)
    for n, said in enumerate(f"{tick:.8g}" for tick in one.ticks):
        y = base + 2 * BOX - n * 100
        draw_line(canvas, np.array([[CURVES_LEFT - 12, y], [CURVES_LEFT, y]]), BLACK)
        x = max(CURVES_LEFT - 18 - text_box([said], LETTERS)[0], 0)
        draw_text(canvas, [said], (x, y - 12), BLACK, LETTERS)


def draw_strip(
    strip: Array, rows: Rows, marks: list[Annotation], top: int, begin: float, length: float
) -> None:
    """Draw *length* s of *rows* from *begin* on, the first at *top*, and their *marks*."""
    texts = set[tuple[float, str]]()
    for base, row in zip(count(top + ABOVE + 0.5, PITCH), rows, strict=False):
        long = length / len(row)
        for first, one in zip(count(begin, long), row, strict=False):
            left = CURVES_LEFT + round((first - begin) * SECOND)
            for at, said, places in marks:
                if first <= at < first + long and places & {one.place, (one.place[0], 0)}:
                    x = left + 0.5 + (at - first) * SECOND
                    line = np.array([[x, base - ABOVE], [x, base - ABOVE + PITCH]])
                    draw_line(strip, line, PALE_BLUE)
                    texts.add((x, said))
            begins, ends = np.searchsorted(one.points[:, 0], [first, first + long])
            times, heights = one.points[max(begins - 2, 0) : ends + 2].T
            line = np.stack([(times - first) * SECOND + 0.5, base - heights], axis=1)
            part = strip[:, left : left + round(long * SECOND) + 1]
            draw_line(part, line, BLACK)
            draw_text(part, drawn_lines(one.label), (6, base - ABOVE + 4), BLACK, 26)
        draw_scale(strip, row[0], base)
    for n in range(int(length) + 1):
        at = CURVES_LEFT + n * SECOND - 5
        draw_text(strip, [f"{begin + n:.6g} s"], (at, len(strip) - BOX + 5), BLACK, LETTERS)
    draw_beside(strip, {(x, said) for x, said in texts if said}, top)


def draw_beside(canvas: Array, texts: Iterable[tuple[float, str]], bottom: int) -> None:
    """Write *texts* from their x on, each in a lane above *bottom* that is free there."""
    taken = [0.0] * LANES
    for x, said in sorted(texts):
        wide = text_box([said], LETTERS)[0]
        left = min(x, canvas.shape[1] - BOX - wide)
        lane = next((lane for lane, end in enumerate(taken) if end < left), None)
        if lane is not None:  # else the TXT alone has it
            draw_text(canvas, [said], (left, bottom - 4 - (lane + 1) * LETTERS), BLUE, LETTERS)
            taken[lane] = left + wide + 8


def curves_picture(rows: Rows, marks: list[Annotation], foot: str) -> Array:
    """Return the page of *rows*, (rows, columns, 3), *marks* without a time above the curves."""
    told = [said for at, said, _ in marks if math.isnan(at) and said]
    if len(told) > MAX_TEXTS:
        warn(f"of {len(told)} annotations the first {MAX_TEXTS} are drawn")
    told = told[:MAX_TEXTS]
    column = text_box(told, LETTERS)[0] + BOX
    across = max((CURVES_LEFT + 10 * SECOND) // column, 1)
    head = BOX * math.ceil(0.5 + text_box(told[::across], LETTERS)[1] / BOX)
    heights = np.concatenate([one.points[:, 1] for one in chain(*rows)])
    top = BOX * math.ceil(np.fmax.reduce(heights, initial=ABOVE) / BOX) - ABOVE
    top += 3 * BOX * any(said for at, said, _ in marks if math.isfinite(at))
    rest = BOX * math.ceil(1 - np.fmin.reduce(heights, initial=ABOVE - PITCH) / BOX)
    high = top + ABOVE + (len(rows) - 1) * PITCH + rest
    start = min(one.start for one in chain(*rows))
    total = max(one.end for one in chain(*rows)) - start
    long = total if 10 < total <= 11 else 10.0
    strips = min(math.ceil(total / long - 1e-6) or 1, (MAX_PAPER - head - 3 * BOX) // high)
    if (strips + 1e-6) * long < total:
        warn(f"the first {strips * long:g} of {total:g} s are drawn")
    bottom, right = head + strips * high, CURVES_LEFT + BOX * math.ceil(5 * long + 1)
    canvas = np.full((bottom + 2 * BOX, right + BOX, 3), 255, np.uint8)
    for step, color in PAPER:
        canvas[head : bottom + 1 : step, BOX : right + 1] = color
        canvas[head : bottom + 1, BOX : right + 1 : step] = color
    for n in range(across):
        draw_text(canvas, told[n::across], (BOX + n * column, 14), BLACK, LETTERS)
    draw_text(canvas, [foot], (BOX, bottom + 20), BLACK, 24)
    for n in range(strips):
        draw_strip(canvas[head + n * high :][:high], rows, marks, top, start + long * n, long)
    return canvas


def write_curves(task: Task, outputs: Outputs) -> Outcome:
    """Write the picture of the waveforms of a file, those derived from others left out."""
    header, names, ds = task.header, task.options.names, task.header.data_set
    groups = dict(enumerate(sequence(ds, "WaveformSequence"), 1))
    kept = [n for n, one in groups.items() if text(one, "WaveformOriginality") != "DERIVED"]
    read = [
        channels_of(header, groups[n], n, names=names) for n in (kept or [*groups])[:MAX_GROUPS]
    ]
    rows = rows_of(sorted(read, key=lambda group: group[0].start - group[0].end))
    if len(rows) > MAX_ROWS:
        warn(f"only the first {MAX_ROWS} curves are drawn")
    drawn = list(dict.fromkeys(chain(*rows)))
    left = sorted(groups.keys() - {one.place[0] for one in drawn})
    labels = (text(groups[n], "MultiplexGroupLabel") * names or f"waveform {n}" for n in left[:10])
    omitted = f"not drawn: {printable(', '.join(labels))}"
    if not {*kept}.isdisjoint(left):
        warn(omitted)
    marks = list(islice(annotations_of(ds, drawn, names=names), MAX_ANNOTATIONS + 1))
    if len(marks) > MAX_ANNOTATIONS:
        warn(f"the first {MAX_ANNOTATIONS} annotations are drawn")
    scale = "25 mm/s" if all(one.ticks for one in drawn) else "25 mm/s, 10 mm/mV"
    foot = "   ".join([scale, *sorted({one.filters for one in drawn if one.filters})[:3]])
    picture = curves_picture(rows[:MAX_ROWS], marks[:MAX_ANNOTATIONS], foot)
    write_png(outputs.part(".png"), picture, 8000)
    one = max(drawn, key=lambda one: one.end - one.start)
    said = f"{len(drawn)} channels, {one.end - one.start:g} s at {one.rate:g} Hz; {scale}"
    facts = (("Curves", f"{said}; {omitted}" if left else said),)
    return Outcome(task.source, Status.CONVERTED, remark=said, facts=facts)


# --- Scene ----------------------------------------------------------------------------------------

MAX_SIDE, MAX_REDUCTION = 16_384, 64  # of a picture, in pixels; of the sides of one of tiles
MAX_TILES, MAX_SLIDES, MAX_SLIDE_PIXELS = 1 << 21, 9999, 1 << 34  # of one file
MAX_ABSENT = 256  # times the pixels of all tiles: so sparse no slide is


@dataclass(frozen=True, slots=True)
class Scene:
    """What is ready to be written."""

    shown: Iterable[tuple[Look, int, StoredFrame]]  # frames, with their numbers in their looks
    image: ImagePixel
    look: Look  # of the first frame
    timing: Timing
    pixels_per_meter: int = 0  # unknown
    tiles: Sequence[Tile] = ()  # of a slide, those of one picture after those of another
    factor: int = 1  # by which its sides are reduced
    absent: Rgb = (0, 0, 0)  # where no tile is


def scene_of(task: Task, pixels: PixelLocation, image: ImagePixel) -> Scene:
    """Decide what is shown of an image, how and when, before any of it is written."""
    header, options = task.header, task.options
    frames: Iterable[StoredFrame] = (stored := stored_frames(header, pixels, image))
    count = image.number_of_frames
    try:
        look = look_of(header, image, options)
    except NoWindowError as error:
        lack = error if options.names else NoWindowError("has no such window")
        if isinstance(task.source, Source) and task.source.named and not task.source.listed:
            raise lack from error
        warn(f"{lack}; shown as by default")
        by_default = replace(task, options=replace(options, window="auto"))
        return scene_of(by_default, pixels, image)
    timing = recorded_timing(header.data_set, count, options)
    scene = Scene((), image, look, timing, pixels_per_meter(header.data_set, look))
    if image.kind == "slide":
        return scene_of_slide(scene, stored, options.window)
    bits = options.png_bits if count == 1 else 8
    small = (image.frame_bits // 8 + 512) * count <= KEEP_DECODED_BYTES  # 512: a frame's objects
    if count == 1 or (small and not all(one.voi for one in look.grayscale)):
        frames = list(frames)  # they are needed twice
    settled = settled_transforms(look.grayscale, partial(iter, frames), options.window, bits)
    look = look if settled is look.grayscale else replace(look, grayscale=settled)
    shown = ((look, index, frame) for index, frame in enumerate(frames))
    return replace(scene, shown=shown, look=look)


def scene_of_slide(scene: Scene, stored: StoredFrames, choice: WindowChoice) -> Scene:
    """Return *scene* with its frames as tiles; raise `ConversionError` where it is out of bounds.

    PS3.3 C.8.12.14. Between tiles there is black, beside color that is not of segments white.
    """
    ds, image, look = stored.header.data_set, scene.image, scene.look
    (rows, columns), count, segments = image.matrix, image.number_of_frames, segments_of(ds)
    aspect = look.pixel_aspect
    aspect = 1 if max(aspect, 1 / aspect) < MIN_PIXEL_ASPECT_SHOWN else aspect
    factor = math.ceil(max(rows * max(aspect, 1), columns / min(aspect, 1)) / MAX_SIDE)
    if factor > MAX_REDUCTION or count > MAX_TILES:
        raise ConversionError(f"declares {columns} x {rows} pixels of {count} tiles: too many")
    places, high, wide = tiles_of(ds, image), image.rows, image.columns
    tiles = [one for one in places if -high < one[3] < rows and -wide < one[4] < columns]
    planes = integer(ds, "TotalPixelMatrixFocalPlanes")
    if not planes and len({(one[0], *one[3:]) for one in tiles}) == len(tiles):
        tiles = [(one[0], 0, *one[2:]) for one in tiles]  # of heights, but no planes
    tiles.sort()
    if not tiles:
        raise ConversionError("none of its tiles lies in the picture that they are parts of")
    if lost := count - len(tiles):
        warn(f"{lost} tiles lie beside the picture, or nowhere, and were left out")
    if "ConcatenationUID" in ds and integer(ds, "InConcatenationTotalNumber") != 1:
        warn("a part of a concatenation: other files hold the other tiles")
    pictures = len({one[:2] for one in tiles})
    room = min(MAX_SLIDE_PIXELS, max(MAX_ABSENT * len(tiles) * high * wide, 1 << 26)) * factor**2
    if pictures > MAX_SLIDES or pictures * rows * columns > room:
        raise ConversionError(f"declares {pictures} pictures of {columns} x {rows}: too many")
    of_path = groupby(tiles, lambda one: not segments and one[0])
    paths = [[int(one[2]) for one in path] for _, path in of_path]
    order = [*chain(*paths)]
    look = replace(look, grayscale=transforms_of_paths(look.grayscale, stored, paths, choice))
    bright, alone = float(not segments and not look.grayscale), replace(look, pixel_aspect=1.0)
    frames = zip(order, replace(stored, numbers=order), strict=True)
    return replace(
        scene,
        shown=((alone, *frame) for frame in frames),
        look=look,
        pixels_per_meter=round(scene.pixels_per_meter / factor),
        tiles=tiles,
        factor=factor,
        absent=color_in(ds, "RecommendedAbsentPixelCIELabValue", (bright, bright, bright)),
    )


def transforms_of_paths(
    transforms: Transforms, stored: StoredFrames, paths: Sequence[list[int]], choice: WindowChoice
) -> Transforms:
    """Settle *transforms* for each of *paths*, lists of frames, apart: one of them may be dim."""
    kept: dict[GrayscaleTransform, GrayscaleTransform] = {}
    gray: list[GrayscaleTransform] = []
    for path in paths if transforms else ():
        own = tuple(transforms[n] for n in path) if len(transforms) > 1 else transforms
        own = settled_transforms(own, partial(iter, replace(stored, numbers=path)), choice)
        own = tuple(kept.setdefault(one, one) for one in own)
        gray = gray or [own[0]] * stored.image.number_of_frames
        for frame, one in zip(path, cycle(own), strict=False):
            gray[frame] = one
    return tuple(gray) if len(kept) > 1 else tuple(kept)


def recorded_timing(ds: Dataset, count: int, options: Options) -> Timing:
    """Decide how long each of *count* frames of a file is shown."""
    recorded = recorded_durations(ds, count) if count > 1 else ((), "")
    return timing_of(*recorded, count, options.frame_rate)


def pixels_per_meter(ds: Dataset, look: Look) -> int:
    """Return the resolution in 1/m of the pixels as written, 0 where unknown or not square."""
    groups = functional_group(ds, "PixelMeasuresSequence", 0), ds
    for spacing in (numbers(group, keyword) for group in groups for keyword in SPACINGS):
        if len(spacing) == 2 and 1e-5 < min(spacing) <= max(spacing) < 1e4:
            square = spacing[0] == spacing[1] or look.pixel_aspect != 1
            return round(1000 / min(spacing)) if square else 0
    return 0


def image_facts(scene: Scene, ds: Dataset, names: bool) -> tuple[Fact, ...]:
    """Return what the TXT says of the picture."""
    image, named = scene.image, segment_names(ds, names=names)
    sign = ", signed" if image.pixel_representation else ""
    aspect = scene.look.pixel_aspect
    side, factor = ("high", aspect) if aspect > 1 else ("wide", 1 / aspect)
    shown = f", shown {factor:.4g} times as {side}" if factor >= MIN_PIXEL_ASPECT_SHOWN else ""
    facts = (
        ("Size", f"{image.matrix[1]} x {image.matrix[0]} pixels (columns x rows){shown}"),
        ("Frames", str(image.number_of_frames)),
        ("Bit depth", f"{image.bits_stored} bits stored in {image.bits_allocated}{sign}"),
        ("Photometric", image.photometric_interpretation),
        ("Window", described_window(scene.look, named=names)),
        ("Frame rate", scene.timing.used if image.kind == "clip" else ""),
        ("Segments", shortened([*colored_names(ds, named)], 100)),
        *(slide_facts(scene, named) if scene.tiles else ()),
    )
    return tuple(fact for fact in facts if fact[1])


def colored_names(ds: Dataset, named: dict[int, str]) -> Iterator[str]:
    """Yield what each segment is called, and its color if one is stored, as a page writes it."""
    segments = segments_of(ds)
    for key, name in named.items():
        lab = numbers(segments[key], CIELAB)
        color = quantized(np.array(srgb_of_lab(lab)), 8).tobytes().hex() if len(lab) == 3 else ""
        yield f"{name[:64]} (#{color})" if color else name[:64]


def slide_facts(scene: Scene, named: dict[int, str]) -> Iterator[Fact]:
    """Yield what a slide is made of, and which each of its pictures is where there are several."""
    image, pictures = scene.image, list(dict.fromkeys(one[:2] for one in scene.tiles))
    reduced = f", reduced {scene.factor} times" if scene.factor > 1 else ""
    tiles = f"{len(scene.tiles)} tiles of {image.columns} x {image.rows}"
    yield "Slide", f"{image.matrix[1]} x {image.matrix[0]} pixels of {tiles}{reduced}"
    channels, planes = (sorted({one[axis] for one in pictures}) for axis in (0, 1))
    for place, (key, plane) in enumerate(pictures if len(pictures) > 1 else (), 1):
        name = f"segment {key:g} {named.get(int(key), '')[:64]}".rstrip()
        told = [name if named else f"optical path {key + 1:g}"] * (len(channels) > 1)
        told += [f"focal plane {planes.index(plane) + 1}"] * (len(planes) > 1)
        yield f"Picture {place}", ", ".join(told)


def clip_writers(scene: Scene, options: Options) -> dict[str, Callable[..., int]]:
    """Return what writes the clips that *options* ask for, by suffix; warn of their limits."""
    writers: dict[str, Callable[..., int]] = {}
    if options.gif:
        writers[".gif"] = partial(write_gif, timing=scene.timing)
    if options.mp4:
        writers[".mp4"] = partial(write_mp4, timing=scene.timing, threads=options.threads)
    aspect = scene.look.pixel_aspect
    side = round(max(scene.image.rows, scene.image.columns) * max(aspect, 1 / aspect))
    for suffix, limit, form in (".gif", 65535, "a GIF"), (".mp4", 16384, "H.264"):  # of libx264
        if suffix in writers and side > limit:
            del writers[suffix]
            warn(f"larger than the {limit} pixels that {form} can be: no {suffix[1:].upper()}")
    if ".gif" in writers and min(scene.timing.durations) < MIN_GIF_DURATION:
        instead = ": the MP4 has the right speed" if ".mp4" in writers else ""
        warn(f"browsers play no GIF faster than 50 fps{instead}")
    return writers


def chosen_frames(selection: str | None, count: int) -> list[int]:
    """Return the frames, from 0, that --frames names of *count*; what is not there is warned of."""
    chosen: set[int] = set()
    named = {"all": f"1-{count}", "middle": f"{(count + 1) // 2}"}
    for part in filter(None, (selection or "").split(",")):
        first, _, last = named.get(part, part).partition("-")
        chosen.update(range(int(first) - 1, min(int(last or first), count)))
        if int(last or first) > count:
            warn(f"there is no frame {last or first}: the last is {count}")
    return sorted(chosen)


def write_files(scene: Scene, outputs: Outputs, options: Options, begin: str = "") -> None:
    """Write a frame as PNG, or a clip and chosen frames in one pass; suffixes *begin* so."""
    if scene.image.number_of_frames == 1:
        writers, stills = {}, {0: outputs.part(f"{begin}.png")}
    else:
        writers = clip_writers(scene, options)
        chosen = chosen_frames(options.frames, scene.image.number_of_frames)
        stills = {index: outputs.part(f"-{index + 1:04}.png") for index in chosen}
    if not writers and not stills:
        return

    def pictures() -> Iterator[Array]:
        for position, (look, index, frame) in enumerate(scene.shown):
            if position in stills:
                picture = render(look, index, *frame, options.png_bits)
                write_png(stills[position], picture, scene.pixels_per_meter, look.icc_profile)
            if writers:
                picture = render(look, index, *frame, bits=8)
                yield srgb_picture(picture, look.icc_profile)

    parts = (outputs.part(begin + end) for end in writers)
    if writers:
        distribute(pictures(), list(map(partial, writers.values(), parts)))
    else:
        deque(pictures(), maxlen=0)


def write_slide(scene: Scene, outputs: Outputs, options: Options) -> None:
    """Put pictures together from their tiles, one after the other, and write each as a PNG."""
    if options.frames:
        warn("tiles of a slide are not written one by one")
    several = scene.tiles[0][:2] != scene.tiles[-1][:2]
    size = tuple(-(-side // scene.factor) for side in scene.image.matrix)
    shown = zip(scene.tiles, scene.shown, strict=True)
    for number, (_, tiles) in enumerate(groupby(shown, key=lambda one: one[0][:2]), 1):
        canvas = np.empty(0)
        for (*_, top, left), (look, index, frame) in tiles:
            tile = render(look, index, *frame, options.png_bits)
            if not canvas.size:
                absent = quantized(np.array(scene.absent), 8 * tile.dtype.itemsize)
                canvas = np.full((*size, *tile.shape[2:]), absent[: tile[0, 0].size], tile.dtype)
            put_tile(canvas, tile, (int(top), int(left)), scene)
        part = outputs.part(f"-{number:04}.png" if several else ".png")
        picture = squared(canvas, scene.look.pixel_aspect, scene.look.resampling)
        write_png(part, picture, scene.pixels_per_meter, scene.look.icc_profile)


def put_tile(canvas: Array, tile: Array, place: tuple[int, int], scene: Scene) -> None:
    """Put *tile* on *canvas* where it lies, top and left in pixels of the slide, and reduce it.

    It is stretched to whole pixels, by less than one, so that there are no gaps and no seams.
    """
    inside, target, factor = [], [], scene.factor
    for start, length, whole in zip(place, tile.shape, scene.image.matrix, strict=False):
        low, high = max(start, 0), min(start + length, whole)
        inside.append(slice(low - start, high - start))
        ends = (-(-at // factor) if at == whole else round(at / factor) for at in (low, high))
        target.append(slice(*ends))
    into = canvas[tuple(target)]
    if into.size:
        mixed = scene.look.resampling == cv2.INTER_LINEAR
        how = cv2.INTER_AREA if mixed else cv2.INTER_NEAREST_EXACT
        into[:] = cv2.resize(tile[tuple(inside)], into.shape[1::-1], interpolation=how)


# --- Scene of a series ----------------------------------------------------------------------------


@contextmanager
def opened_slice(one: Slice) -> Iterator[StoredFrames]:
    """Open a slice and yield its frames; nothing is decoded until that is asked for.

    Raises `ConversionError`, with the name of the file, where it is not what it was in round one.
    """
    try:
        with open_source(one.source) as file:
            header = read_header(file)
            image, ds = content_of(header), header.data_set
            if not isinstance(image, ImagePixel) or (
                identity_of(ds, stack_of(ds, image)) != one.identity
            ):
                raise ConversionError("it is another file by now")
            yield stored_frames(header, cast(PixelLocation, header.pixels), image)
    except NoWindowError:
        raise
    except (ConversionError, OSError) as error:
        raise ConversionError(f"{one.source.label}: {reason_of(error)}") from error


def frames_of(slices: Sequence[Slice]) -> Iterator[StoredFrame]:
    """Decode the frame of each of *slices*."""
    for one in slices:
        with opened_slice(one) as frames:
            yield from frames


def own_transforms(series: Series, options: Options) -> tuple[GrayscaleTransform, ...]:
    """Return the gray levels of each still of a series as if it were alone, () of color."""
    kept: dict[GrayscaleTransform, GrayscaleTransform] = {}  # tables are large, and often alike
    gray: list[GrayscaleTransform] = []
    for one in series.slices:
        with opened_slice(one) as frames:
            own = look_of(frames.header, frames.image, options).grayscale
            gray += [kept.setdefault(each, each) for each in own]
    return tuple(gray)


def scene_of_series(series: Series, options: Options) -> Scene:
    """Decide how a series is shown: each still by its own rescale, all under one window."""
    try:
        gray = own_transforms(series, options)
    except NoWindowError as error:
        warn(f"{error if options.names else 'has no such window'}; shown as by default")
        return scene_of_series(series, replace(options, window="auto"))
    slices, window, origin = series.slices, options.window, ""
    inverted = all(one.invert for one in gray)
    if gray:
        one = gray[(len(gray) - 1) // 2]
        same = all(other.voi == one.voi for other in gray)
        voi = one.voi if same or isinstance(one.voi, Window) else None
        told = one.voi_origin if same else f"that of the file in the middle, {one.voi_origin} there"
        origin = told if voi else f"{MIN_MAX} of the series"
        gray = tuple(replace(each, voi=voi, voi_origin=origin) for each in gray)
        one = settled_transforms(gray, partial(frames_of, slices), options.window)[0]
        window, origin = cast(Voi, one.voi), one.voi_origin
    options = replace(options, window=window, frames=None)
    with opened_slice(slices[0]) as frames:
        look, image = look_of(frames.header, frames.image, options), frames.image
    if look.grayscale:
        own = replace(look.grayscale[0], voi_origin=origin, invert=inverted)
        look = replace(look, grayscale=(own,))

    def shown() -> Iterator[tuple[Look, int, StoredFrame]]:
        for one in slices:
            with opened_slice(one) as frames:
                own = look_of(frames.header, frames.image, options)
                yield replace(own, pixel_aspect=look.pixel_aspect), 0, next(iter(frames))

    durations = tuple(one.duration for one in slices if one.duration)
    origin = "times of its files" if durations else ""
    timing = timing_of(durations, origin, len(slices), options.frame_rate)
    return Scene(shown(), replace(image, number_of_frames=len(slices)), look, timing)


def write_series(series: Series, outputs: Outputs, options: Options) -> Outcome:
    """Write the clip of *series*; the facts tell where each of its frames comes from."""
    for note in series.notes:
        warn(note)
    scene = scene_of_series(series, options)
    write_files(scene, outputs, replace(options, frames=None))
    window = described_window(scene.look, named=options.names)
    paths = [Path(one.label).absolute() for one in series.sources]
    folder = os.path.commonpath([path.parent for path in paths])
    names = [printable(os.path.relpath(path, folder)) for path in paths]
    shown = [f"{one.place}, {name}" for one, name in zip(series.slices, names, strict=True)]
    facts = (
        ("Frames", f"{len(names)}, by {series.order}"),
        ("Position", "see its frames"),
        *((("Window", window),) if window else ()),
        ("Frame rate", scene.timing.used),
        *((f"Frame {number}", each) for number, each in enumerate(shown, 1)),
    )
    remark, frames = f"{len(names)} frames, {scene.timing.used}", len(names)
    return Outcome(series, Status.CONVERTED, remark=remark, facts=facts, frames=frames)


# --- Presentation states (PS3.4 N.2) --------------------------------------------------------------

READABLE = 512  # px: smaller pictures with texts are enlarged
MAX_MAGNIFIED, LEAST_ROOM = 8192, 1 << 22  # px: of a side; of an area, if the image is smaller
MAX_MARKS, MAX_TOLD_STATES = 10_000, 20
UNITS_OF = {
    "GraphicData": "GraphicAnnotationUnits",
    "BoundingBoxTopLeftHandCorner": "BoundingBoxAnnotationUnits",
    "BoundingBoxBottomRightHandCorner": "BoundingBoxAnnotationUnits",
    "AnchorPoint": "AnchorPointAnnotationUnits",
}
MAX_AWAY = 1e9  # px; beyond it arithmetic overflows
YELLOW: Rgb = (1.0, 1.0, 0.0)  # of layers that recommend no color
POINTS_OF = {"POINT": 1, "CIRCLE": 2, "ELLIPSE": 4, "POLYLINE": 2, "INTERPOLATED": 2}  # at least


def write_presentation(work: Presentation, task: Task, outputs: Outputs) -> Outcome:
    """Write what a state makes of its images, or say what a list of key images names."""
    ds, options = task.header.data_set, replace(task.options, frames=None)
    reason = reason_for_no_picture(task.header, options)
    if not isinstance(reason, NotAnImageError):
        raise reason
    found = list(references_of(ds))
    if (kept := len(list(followed(found)))) < len(found):
        warn(f"refers to {len(found)} images: the first {kept} are followed")
    for note in work.notes:
        warn(note)
    if text(ds, "SOPClassUID") == uid.KeyObjectSelectionDocumentStorage:
        facts = tuple(key_facts(work, ds, options))
    else:
        of_files = groupby(work.shown, key=lambda one: one.slice)
        written = (write_states(ds, *one, outputs, options) for one in of_files)
        facts = tuple(chain.from_iterable(written))
    facts = (*state_texts(ds, names=options.names), *facts) if facts else ()
    if outputs.parts:
        count = len({suffix.partition(".")[0] for suffix in outputs.parts})
        remark = f"{count} pictures" if count > 1 else ""
        return Outcome(work, Status.CONVERTED, remark=remark, facts=facts, frames=work.frames)
    why = str(reason) if facts else f"{reason}: none of its images can be shown"
    return Outcome(work, Status.TEXT_ONLY, reason=why, facts=(("Picture", why), *facts))


def state_texts(ds: Dataset, *, names: bool) -> Iterator[Fact]:
    """Yield what a state is called, and the texts that it draws."""
    for label in ("Label", "Description"):
        if found := summarized(ds, f"Content{label}", names):
            yield label, found
    annotations = sequence(ds, "GraphicAnnotationSequence") if names else ()
    texts = chain.from_iterable(sequence(one, "TextObjectSequence") for one in annotations)
    for number, one in enumerate(islice(texts, MAX_TOLD_STATES), 1):
        yield f"Text {number}", one_line(text(one, "UnformattedTextValue"))


def key_facts(work: Presentation, ds: Dataset, options: Options) -> Iterator[Fact]:
    """Yield what a list of key images says, and the outputs that it names."""
    yield from key_texts(ds) if options.names else ()
    for number, one in enumerate(work.shown, 1):
        paths = (os.path.relpath(path, work.folder) for path in one.outputs)
        frame = "" if one.frame is None else f"frame {one.frame + 1} of "
        yield f"Image {number}", frame + printable(", ".join(paths))


def write_states(
    ds: Dataset, file: Slice, shown: Iterable[Shown], outputs: Outputs, options: Options
) -> Iterator[Fact]:
    """Write what the state *ds* makes of a file, or frames of it; yield facts on that, or warn."""
    with opened_slice(file) as frames:
        plain, error = attempt(partial(look_without_steps, ds, frames, options), options)
        if plain is None:
            warn(f"{file.source.own_name}: {reason_of(error)}")
            return
        for one in shown:
            yield from write_state(ds, one, frames, plain, outputs, options)


def write_state(
    ds: Dataset, shown: Shown, frames: StoredFrames, plain: Look, outputs: Outputs, options: Options
) -> Iterator[Fact]:
    """Write one picture or clip of *frames*; *plain* is as of `look_without_steps`."""
    own, image, parts = frames.header.data_set, frames.image, len(outputs.parts)
    look_at = lru_cache(2)(partial(look_of_state, ds, own, image, plain, options))
    clip = shown.frame is None and image.number_of_frames > 1
    chosen = range(image.number_of_frames) if clip else [shown.frame or 0]
    told: dict[str, int] = {}
    canvas, in_color = (0, 0), False
    for index in chosen:  # all frames of a clip have one size, and are in color or not
        look = look_at(index)
        shape = cast(Placement, look.placement).shape
        told.setdefault(described_state(look, ds, options), index + 1)
        canvas = cast(tuple[int, int], tuple(map(max, canvas, shape)))
        in_color |= any(np.ptp(mark.color) + np.ptp(mark.fill) > 1 / 255 for mark in look.marks)
    each = (
        (replace(look_at(index), in_color=in_color, canvas=canvas), index, frame)
        for index, frame in zip(chosen, replace(frames, numbers=chosen), strict=True)
    )
    count = len(chosen)
    out = replace(image, rows=canvas[0], columns=canvas[1], number_of_frames=count)
    timing = recorded_timing(own, count, options)
    write_files(Scene(each, out, look_at(chosen[0]), timing), outputs, options, shown.suffix)
    for said, frame in islice(told.items(), MAX_TOLD_STATES * (len(outputs.parts) > parts)):
        label = f"Picture{shown.suffix}" + f" as in frame {frame}" * (len(told) > 1)
        where = "" if shown.frame is None else f" frame {frame}"
        yield label, f"{printable(shown.slice.source.own_name)}{where}: {said}"


def look_without_steps(ds: Dataset, frames: StoredFrames, options: Options) -> Look:
    """Return how *frames* are shown but for what the state *ds* says of its frames.

    Raises `ConversionError` where the state is not for such images.
    """
    kind = text(ds, "SOPClassUID")
    plain = replace(options, window="auto", shutter=False, overlays=False)
    with warnings.catch_warnings(action="ignore"):  # of what the state replaces
        look = look_of(frames.header, frames.image, plain)
    if bool(look.grayscale) == (kind == COLOR_STATE):
        found = "gray" if look.grayscale else "color"
        raise ConversionError(f"the state is not for images in {found}, as this one is")
    if kind == PSEUDO_COLOR_STATE:
        if frames.image.bits_allocated > 16:
            raise ConversionError("a palette over so many bits cannot be shown")
        gray = replace(look.grayscale[0], samples=look.samples)  # without colors of its own
        palette = tuple(replace(one, first_value=0) for one in palette_of(ds, look.samples))
        depth = 16 if palette[0].bits > 8 else 8
        look = replace(look, grayscale=(gray,), palette=palette, depth=depth)
    colored = kind in (COLOR_STATE, PSEUDO_COLOR_STATE)
    return replace(look, icc_profile=icc_profile_of(ds) if colored else b"")


def look_of_state(
    ds: Dataset, own: Dataset, image: ImagePixel, look: Look, options: Options, index: int
) -> Look:
    """Decide how the state *ds* shows frame *index* of the image *own* (PS3.4 N.2).

    What the state lacks is left as it is; *look* is as of `look_without_steps`.
    """
    about = partial(items_about, ds, text(own, "SOPInstanceUID"), index + 1)
    if look.grayscale:
        variable = first_item(about("VariableModalityLUTSequence")) or ds
        voi, samples = first_item(about("SoftcopyVOILUTSequence")), look.grayscale[0].samples
        look = replace(look, grayscale=(state_transform(ds, variable, voi, samples),))
    planes, hidden = overlays_of(ds, image), integer(ds, "ShutterOverlayGroup") << 16
    area = first_item(about("DisplayedAreaSelectionSequence"))
    aspects = (f"PresentationPixel{of}" in area for of in ("Spacing", "AspectRatio"))
    aspect = pixel_aspect(area if any(aspects) else own)
    bitmap = planes.pop(hidden, None)
    if options.shutter:
        shutter = shutter_of(ds, image, aspect, bitmap if options.names else None)
        look = replace(look, shutters=tuple({shutter} - {Shutter()}))
    annotations = sequence(ds, "GraphicAnnotationSequence")
    worded = options.names and any("TextObjectSequence" in one for one in annotations)
    square = options.native_pixels or max(aspect, 1 / aspect) < MIN_PIXEL_ASPECT_SHOWN
    aspect = 1.0 if square else aspect
    placement = placement_of(ds, area, image, aspect, READABLE if worded else 1)
    drawn = overlays_of(own, image) | planes if options.overlays and options.names else {}
    notes = about("GraphicAnnotationSequence")
    marks = marks_of(ds, notes, drawn, placement, options.names)
    return replace(look, placement=placement, marks=marks)


def items_about(ds: Dataset, image: str, frame: int, keyword: str) -> list[Dataset]:
    """Return the items of a sequence of a state that are about *frame*, from 1, of an *image*."""
    return [
        item
        for item in sequence(ds, keyword)
        if not sequence(item, "ReferencedImageSequence")
        or any(uid == image and frame in (of or (frame,)) for uid, of in references_in(item))
    ]


def state_transform(
    ds: Dataset, variable: Dataset, voi: Dataset, samples: SampleFormat
) -> GrayscaleTransform:
    """Return the gray levels that a state asks for (PS3.3 C.11), each step identity by default."""
    modality = modality_of(variable, ds, samples)
    low, high = modality_ends(modality, samples)
    whole = Window((low + high) / 2, high - low, VoiFunction.LINEAR_EXACT)
    stored: list[Voi] = [*lookup_tables(voi, "VOI LUT", low < 0), *stored_windows(voi)]
    origin = "of the state" if stored else "all that can be stored, for the state has none"
    tables = lookup_tables(ds, "Presentation LUT", signed=False)
    table = replace(tables[0], first_value=0) if tables else None
    inverted = not tables and text(ds, "PresentationLUTShape") == "INVERSE"
    return GrayscaleTransform(samples, modality, [*stored, whole][0], origin, inverted, table)


def placement_of(
    ds: Dataset, item: Dataset, image: ImagePixel, aspect: float, least: int
) -> Placement:
    """Return which area of an image a state shows, and how: C.10.6, and *item* of C.10.4 in PS3.3.

    *aspect* is the height of a pixel by its width. Pictures of a longer side below *least* pixels
    are enlarged by a whole factor.
    """
    left, top, right, bottom = area = displayed_area(item, image, aspect)
    sides = (right - left) * max(1 / aspect, 1), (bottom - top) * max(aspect, 1)
    scale, mode = 1.0, text(item, "PresentationSizeMode")
    if mode == "MAGNIFY":
        scale = number(item, "PresentationPixelMagnificationRatio") or 1.0
    if mode == "TRUE SIZE":
        warn("the state asks for true size, which no file can promise")
    if not 1 / min(sides) <= scale <= min(MAX_SIDE, MAX_MAGNIFIED) / max(sides) and scale != 1:
        warn(f"a magnification of {scale:.3g} was left out")
        scale = 1.0
    scale *= math.ceil(least / (scale * max(sides)))
    width, height = (max(round(scale * side), 1) for side in sides)
    if (rotation := integer(ds, "ImageRotation")) % 90:
        warn(f"a rotation by {rotation} degrees was left out")
        rotation = 0
    turns, mirrored = rotation // 90 % 4, text(ds, "ImageHorizontalFlip") == "Y"
    return Placement(area, (width, height), turns, mirrored)


def displayed_area(item: Dataset, image: ImagePixel, aspect: float) -> tuple[int, int, int, int]:
    """Return the area that *item* selects: left, top, right, bottom, the last two outside.

    Corners are named as they come out, those of a turned image in any order; some count from 0.
    *aspect* is the height of a pixel by its width.
    """
    corners = [numbers(item, f"DisplayedArea{end}HandCorner") for end in ("TopLeft", "BottomRight")]
    whole = 0, 0, image.columns, image.rows
    if [len(corner) for corner in corners] != [2, 2]:
        return whole
    (left, top), (right, bottom) = np.sort(corners, axis=0).astype(int).tolist()
    width, height = right - left + 1, bottom - top + 1
    if left == top == 0 and (width - image.columns, height - image.rows) in ((0, 0), (1, 1)):
        return whole
    room = max(4 * image.rows * image.columns, LEAST_ROOM) / max(aspect, 1 / aspect)
    beside = left > image.columns or top > image.rows or right < 1 or bottom < 1
    if beside or max(width, height) > MAX_SIDE or width * height > room:
        warn("the displayed area is out of all proportion: the whole image is shown")
        return whole
    return left - 1, top - 1, right, bottom


def marks_of(
    ds: Dataset, notes: list[Dataset], planes: dict[int, Overlay], place: Placement, names: bool
) -> tuple[Mark, ...]:
    """Return what a state draws on a picture, layer by layer (PS3.3 C.10.5, C.10.7, C.11.7).

    In a layer figures follow the overlays among *planes*, and texts the figures.
    """
    layers = {
        text(one, "GraphicLayer"): (number(one, "GraphicLayerOrder") or 0.0, layer_color(one))
        for one in sequence(ds, "GraphicLayerSequence")
    }
    found: list[tuple[float, int, Mark]] = []
    for group, plane in planes.items():
        if name := text(ds, group | 0x1001):  # its layer, where it is activated
            order, color = layers.get(name, (math.inf, YELLOW))
            found.append((order, 0, Mark(color, overlay=plane)))
    for note in notes:
        order, color = layers.get(text(note, "GraphicLayer"), (math.inf, YELLOW))
        texts = texts_of(note, place, color) if names else ()
        marks = islice(chain(figures_of(note, place, color), texts), MAX_MARKS - len(found))
        found += [(order, 2 if mark.words else 1, mark) for mark in marks]
    if len(found) >= MAX_MARKS:
        warn(f"of very many figures and texts the first {MAX_MARKS} are drawn")
    return tuple(mark for _, _, mark in sorted(found, key=itemgetter(0, 1)))


def layer_color(layer: Dataset) -> Rgb:
    """Return the color that a graphic layer recommends (PS3.3 C.10.7)."""
    begin = "GraphicLayerRecommendedDisplay"
    rgb = numbers(layer, f"{begin}RGBValue") or numbers(layer, f"{begin}GrayscaleValue") * 3
    red, green, blue = (value / 65535 for value in rgb) if len(rgb) == 3 else YELLOW
    return color_in(layer, f"{begin}CIELabValue", (red, green, blue))


def points_in(item: Dataset, keyword: str, placement: Placement) -> Array:
    """Return points of a state (n, 2), in units of image or picture, as they come out.

    PS3.3 C.10.5.1. None where they lack, are too many or of a slide, or some are not finite.
    """
    raw, units = raw_bytes(item, tag_of(keyword)) or b"", text(item, UNITS_OF[keyword])
    values = numbers(item, keyword) if len(raw) <= 8 * MAX_POINTS and units != "MATRIX" else ()
    points = np.array(values[: len(values) & ~1]).reshape(-1, 2)
    points = (
        points * placement.shape[::-1] if units == "DISPLAY" else placed_points(points, placement)
    )
    return cast(Array, np.clip(points, -MAX_AWAY, MAX_AWAY))


def figures_of(note: Dataset, placement: Placement, color: Rgb) -> Iterator[Mark]:
    """Yield the graphic objects of an annotation, in *color* unless they have their own."""
    figures = sequence(note, "GraphicObjectSequence")[:MAX_MARKS]
    simple = "CompoundGraphicInstanceID"
    drawn = {number(one, simple) for one in figures}
    if any(number(one, simple) not in drawn for one in sequence(note, "CompoundGraphicSequence")):
        warn("a compound figure was left out, for no simple ones stand beside it")
    for one in figures:
        kind = text(one, "GraphicType")
        points = points_in(one, "GraphicData", placement)
        if len(points) < POINTS_OF.get(kind, math.inf):
            warn("a figure was left out, for its kind or its points cannot be drawn")
            continue
        style, fill = (first_item(sequence(one, f"{of}StyleSequence")) for of in ("Line", "Fill"))
        width = round(placement.pen * min(max(number(style, "LineThickness") or 1, 1), 16))
        closed = kind in ("CIRCLE", "ELLIPSE") or np.array_equal(points[0], points[-1])
        filled = closed and text(one, "GraphicFilled") == "Y"
        own = color_in(style, "PatternOnColorCIELabValue", color)
        inside = color_in(fill, "PatternOnColorCIELabValue", own)
        cover = opacity_in(style), opacity_in(fill) * filled
        yield Mark(own, outline(kind, points, 4 * placement.pen), width, inside, cover)


def opacity_in(style: Dataset) -> float:
    """Return how much what is drawn in *style* hides, 0..1 (PS3.3 C.10.5.1.2)."""
    opacity = number(style, "PatternOnOpacity")
    return 1.0 if opacity is None else min(max(opacity, 0.0), 1.0)


def texts_of(note: Dataset, placement: Placement, color: Rgb) -> Iterator[Mark]:
    """Yield the text objects of an annotation: in their boxes, or right of what they point at."""
    size, letters = placement.shape[::-1], max(12, round(max(placement.size) / 40))
    sides = {"CENTER": 0.5, "RIGHT": 1.0}
    for one in sequence(note, "TextObjectSequence")[:MAX_MARKS]:
        words = tuple(drawn_lines(text(one, "UnformattedTextValue")))
        extent = np.array(text_box(words, letters))
        corners = [points_in(one, keyword, placement) for keyword in list(UNITS_OF)[1:]]
        box, anchor = np.vstack(corners[:2]), corners[2][:1]
        ends = ((one.min(axis=0), one.max(axis=0)) for one in (box, anchor) if len(one))
        seen = [(high >= 0).all() and (low <= size).all() for low, high in ends]
        if not words:
            continue
        if not any(seen):
            warn("a text that lies outside of what is shown was left out")
            continue
        if (extent > size).any():
            warn("a text is larger than the picture and is cut")
        side = sides.get(text(one, "BoundingBoxTextHorizontalJustification"), 0.0)
        if len(box):
            at = np.add(box.min(axis=0), [side * (np.ptp(box[:, 0]) - extent[0]), 0])
        else:
            at = np.add(anchor[0], [letters, -extent[1] / 2])
        at = np.clip(at, 0, np.maximum(size - extent, 0))
        leads = len(anchor) and text(one, "AnchorPointVisibility") == "Y"
        lines = (np.vstack([anchor, np.clip(anchor, at, at + extent)]),) if leads else ()
        style = first_item(sequence(one, "TextStyleSequence"))
        own, pen = color_in(style, "TextColorCIELabValue", color), placement.pen
        at_corner: tuple[float, float] = tuple(at.tolist())
        yield Mark(own, lines, pen, words=words, at=at_corner, letters=letters, side=side)


def described_state(look: Look, ds: Dataset, options: Options) -> str:
    """Return in words what the state *ds* makes of a picture."""
    place, marks = cast(Placement, look.placement), look.marks
    left, top, right, bottom = place.area
    overlays = sum(bool(mark.overlay) for mark in marks)
    texts = sum(bool(mark.words) for mark in marks)
    figures = len(marks) - overlays - texts
    drawn = {"figures": figures, "texts": texts, "overlays": overlays}
    gray = look.grayscale[0] if look.grayscale else None
    modality = "modality table"
    if gray and isinstance(gray.modality, Rescale):
        modality = f"rescale {gray.modality.slope:g}, {gray.modality.intercept:g}"
    parts = (
        modality if gray else "",
        described_window(look, named=options.names),
        "presentation table" if gray and gray.presentation else "",
        "palette" if text(ds, "SOPClassUID") == PSEUDO_COLOR_STATE else "",
        "shutter" * bool(look.shutters),
        f"area of columns {left + 1} to {right}, rows {top + 1} to {bottom}",
        f"turned by {90 * place.turns} degrees" if place.turns else "",
        "mirrored" * place.mirrored,
        *(f"{found} {what}" for what, found in drawn.items() if found),
    )
    return "; ".join(filter(None, parts))


# --- Conversion of one source ---------------------------------------------------------------------


def convert(work: Work, options: Options) -> Outcome:
    """Convert one work and say how it ended. Never raises; takes and returns what pickles."""
    began = time.perf_counter()
    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        disable_value_validation(),
        ExitStack() as stack,
    ):
        states = tuple(state_of(one.path) for one in work.sources)
        header, error = attempt(partial(opened_header, work, stack), options)
        if header is None:
            outcome = unread(work, error, notes_of(caught))
        else:
            content, problem = attempt(partial(content_of, header), options)
            shown = work if isinstance(work, Series | Presentation) else problem or content
            origin = origin_of(work, header, states, names=options.names)
            whole = options.study or options.report is not None or not options.names
            instance, unknown = attempt(partial(instance_of, header, shown, whole=whole), options)
            if unknown:
                warn(f"what it belongs to cannot be read: {reason_of(unknown)}")
            if instance and not options.names and is_called_after(work.label, instance.texts):
                warn("its path, and that of its outputs, holds the patient's name or ID")
            task = Task(work, options, header, origin, states, shown, instance, caught)
            waits = options.study and instance and instance.refers and shown is not work
            outcome = Outcome(work, Status.WAITING) if waits else delivered(task)
            size = origin.size if isinstance(work, Series) else header.size
            syntax = str(header.transfer_syntax)
            outcome = replace(outcome, transfer_syntax=syntax, bytes_in=size, instance=instance)
    return replace(outcome, seconds=round(time.perf_counter() - began, 3))


def opened_header(work: Work, stack: ExitStack) -> Header:
    """Return the header of the first file, which stays open as long as *stack* says."""
    if isinstance(work, Series):
        return stack.enter_context(opened_slice(work.slices[0])).header
    return read_header(stack.enter_context(open_source(work)))


def unread(source: Work, error: Exception | None, notes: tuple[str, ...]) -> Outcome:
    """Return how *source* ends, whose header *error* hides; in folders, foreign files are skips."""
    name, foreign = source.own_name.lower(), isinstance(error, NotDicomError)
    lost = isinstance(error, NothingInsideError) and name.endswith(DICOM_SUFFIXES)
    cure = ": unpack it first" if foreign and name.endswith(PACKED_SUFFIXES) else ""
    named = isinstance(source, Series) or source.named
    status = Status.SKIPPED if foreign and not lost and not named else Status.FAILED
    return Outcome(source, status, warnings=notes, reason=reason_of(error) + cure)


def delivered(task: Task) -> Outcome:
    """Do *task* and say how it ended. Its outputs go to its place, or the next that is free."""
    source, names, noted = task.source, numbered(task.source.name), len(task.caught)
    while True:
        del task.caught[noted:]  # of a try that ended elsewhere
        place = source.folder / next(names)
        if (made := made_before(place, task.origin)) is None:
            continue
        if task.options.resume and is_done(task, place, made):
            there = (*made.values(), Path(f"{place}.txt"))
            frames = task.instance.frames if task.instance else 0
            return Outcome(source, Status.DONE, there, frames=frames, bytes_out=sizes_of(there))
        if place.name != source.name:
            taken = f"{source.name} is taken there by something else"
            warn(f"{taken}: its outputs are called {place.name}")
        with closing(Outputs(place, task.options.output)) as outputs, suppress(TakenError):
            return written(task, outputs)


def written(task: Task, outputs: Outputs) -> Outcome:
    """Write all *outputs* of *task*, or a TXT that says why not. Raises `TakenError`."""
    outcome, error = attempt(partial(write_pictures, task, outputs), task.options)
    if outcome is None:
        outputs.close()
        status = Status.TEXT_ONLY if isinstance(error, NotAnImageError) else Status.FAILED
        reason = reason_of(error)
        outcome = Outcome(task.source, status, reason=reason, facts=(("Picture", reason),))
    outcome = replace(outcome, warnings=notes_of(task.caught))
    if not refusal(error, task.source.folder):
        paths, error = attempt(partial(finish, task, outputs, outcome), task.options)
        if paths:
            return replace(outcome, outputs=paths, bytes_out=sizes_of(paths))
    if isinstance(error, TakenError):
        raise error
    refused = refusal(error, task.source.folder)
    reason = refused or (outcome.reason if outcome.status == Status.FAILED else reason_of(error))
    return Outcome(task.source, Status.FAILED, (), outcome.warnings, reason, stops=bool(refused))


def write_pictures(task: Task, outputs: Outputs) -> Outcome:
    """Write what a file shows; raise `NotAnImageError` where it has no pixels."""
    image, others = task.content, {"curve": write_curves, "video": write_dicom_video}
    if isinstance(image, Exception):
        raise image
    if isinstance(image, Series):
        outcome = write_series(image, outputs, task.options)
    elif isinstance(image, Presentation):
        outcome = write_presentation(image, task, outputs)
    elif isinstance(image, ImagePixel):
        outcome = write_image(task, image, outputs)
    else:
        outcome = others.get(str(image), write_document)(task, outputs)
    if outputs.parts and (note := burned_in_note(task.header, image)):
        warn(note)
    if any(
        state_of(one.path) not in (state, None)
        for one, state in zip(task.source.sources, task.states, strict=True)
    ):
        raise ConversionError("it changed while it was read: convert it again")
    return outcome


def write_image(task: Task, image: ImagePixel, outputs: Outputs) -> Outcome:
    """Write the picture or the clips of a file."""
    scene = scene_of(task, cast(PixelLocation, task.header.pixels), image)
    names = task.options.names
    (write_slide if scene.tiles else write_files)(scene, outputs, task.options)
    facts, frames = image_facts(scene, task.header.data_set, names), image.number_of_frames
    remark = f"{frames} frames, {scene.timing.used}" if frames > 1 else ""
    remark = dict(facts).get("Slide", remark)
    return Outcome(task.source, Status.CONVERTED, remark=remark, facts=facts, frames=frames)


def finish(task: Task, outputs: Outputs, outcome: Outcome) -> tuple[Path, ...]:
    """Write the TXT, the last of *outputs*, with what *outcome* says; move all, return where to."""
    written = ", ".join(f"{outputs.place.name}{suffix}" for suffix in outputs.parts)
    facts = (*outcome.facts, *([("Written", printable(written))] if written else []))
    head = marks(outcome.status, task, outputs.parts)
    lines = summary_text(task.header, facts, outcome.warnings, names=task.options.names)
    if isinstance(task.source, Source):
        lines = chain(lines, content_text(task.header, names=task.options.names))
    with outputs.part(".txt").open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(f"{line}\n" for line in chain(head, lines))
        file.write(TEXT_ENDS)
    return outputs.move(task.origin)


# --- Batch ----------------------------------------------------------------------------------------

IN_FLIGHT = 2  # sources for each worker: one under way, one that waits
MAX_BREAKS = 3  # of a worker, before it takes a source
BEGIN_WAIT, END_WAIT = 60, 5  # s that a worker may take to begin, and to end by itself
MAX_WAIT = 1_000_000.0  # s, which systems can still count
CONNECT_TIMEOUT = 30  # s
LIFE_WAIT = 1.0  # s between looks at whether a cluster is alive
SCHEDULER_GONE = "the Dask scheduler is gone: start it again and add --resume"
ENDINGS = [  # what ends a run: Ctrl-C, a batch system, a terminal that is closed
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def say(line: str, stream: TextIO | None) -> None:
    """Print *line*; that nobody reads it (a closed pipe, a full disk) stops no conversion."""
    if stream is None:
        return
    try:
        print(line, file=stream, flush=True)
    except UnicodeEncodeError:
        say(line.encode("ascii", "backslashreplace").decode(), stream)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def convert_all(
    sources: Iterator[Work], options: Options, where: Workers | Cluster
) -> Generator[Outcome, None, None]:
    """Convert *sources* with *where*, as many at once as have room there; yield how each ended."""
    clean_once = cache(remove_stale_parts)
    pending: dict[Future[Outcome], Work] = {}
    with looked_for(sources, options) as look:
        coming = deque([look(), look()])
        alone = None in [future.result() for future in coming] or options.jobs == 1
        threads = 1 if options.dask else 0 if alone else max(available_cores() // options.jobs, 1)
        options = replace(options, threads=threads, output=Path(realpath(options.output)))
        while pending or coming:
            awaited = [*pending, *islice(coming, len(pending) < where.room())]
            done = wait(awaited, LIFE_WAIT, FIRST_COMPLETED).done
            for future in filter(done.__contains__, awaited):  # in order
                if source := pending.pop(future, None):
                    yield where.outcome(future, source)
                elif found := coming.popleft().result():
                    coming.append(look())
                    clean_once(found.folder)
                    pending[where.submit(found, options)] = found


@contextmanager
def looked_for(sources: Iterator[Work], options: Options) -> Iterator[Callable[[], Future[Any]]]:
    """Yield what looks for the next of *sources* on a thread: no exit waits for it.

    The future holds None after the last, and raises `ConversionError` where looking fails.
    """
    asked: SimpleQueue[Future[Any] | None] = SimpleQueue()

    def look() -> None:
        for future in iter(asked.get, None):
            source, error = attempt(partial(next, sources, None), options)
            if error:
                problem = f"the inputs cannot be listed any further: {reason_of(error)}"
                future.set_exception(ConversionError(problem))
            else:
                future.set_result(source)

    def ask() -> Future[Any]:
        asked.put(future := Future[Any]())
        return future

    threading.Thread(target=look, daemon=True).start()
    try:
        yield ask
    finally:
        asked.put(None)


def reason_of_end(exit_code: int) -> str:
    """Return why a worker process ended in the middle of a source."""
    if exit_code == -9:  # SIGKILL, which Windows has no name for
        return "the process that converted it was killed, perhaps for want of memory"
    cause = signal.strsignal(-exit_code) if exit_code < 0 else f"exit code {exit_code}"
    return f"the process that converted it crashed ({cause})"


class Workers:
    """Processes that may take *memory* (bytes) each, and a thread for each that waits for it."""

    def __init__(self, count: int, memory: int) -> None:
        self._all = [Worker(memory) for _ in range(count)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count)
        for worker in self._all:
            self._idle.put(worker)
            if forks_safely():
                with suppress(OSError):  # it is tried again when it is needed
                    worker.begin()

    def room(self) -> int:
        """Return how many sources may be under way or wait."""
        return IN_FLIGHT * len(self._all)

    def submit(self, source: Work, options: Options) -> Future[Outcome]:
        """Have *source* converted."""
        return self._threads.submit(self.convert, source, options)

    def convert(self, source: Work, options: Options) -> Outcome:
        """Convert *source* with the next worker that is free."""
        worker = self._idle.get()
        try:
            outcome, reason = worker.result_of(options, convert, source, options)
        finally:
            self._idle.put(worker)
        if reason:
            remove_stale_parts(source.folder)
        return outcome or Outcome(source, Status.FAILED, reason=reason)

    def outcome(self, future: Future[Outcome], _: Work) -> Outcome:
        """Return how the source of *future* ended; raise where no worker can live."""
        return future.result()

    def close(self) -> None:
        """End the worker processes, whatever they do; the threads remove what these leave."""
        for worker in self._all:
            worker.close()
        self._threads.shutdown(cancel_futures=True)


class Worker:
    """A process that does one thing at a time; it is begun again where it crashed or hung."""

    _changing = threading.Lock()  # multiprocessing begins and buries from one thread at a time

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._process: Any = None
        self._pipe: Any = None
        self._wanted = True

    def result_of(
        self, options: Options, step: Callable[..., Result], *arguments: Any
    ) -> tuple[Result | None, str]:
        """Have the process do *step*; return what came of it, or None and why it has no end."""
        self._hand_over((options, step, arguments))
        try:
            if self._pipe.poll(min(options.timeout, MAX_WAIT) or None):
                return cast(tuple[Result | None, str], self._pipe.recv())
            reason = f"took longer than {options.timeout:g} s and was stopped"
            self.end()
        except (EOFError, OSError):
            reason = reason_of_end(self.end(END_WAIT))
        return None, reason

    def _hand_over(self, work: tuple[Options, Callable[..., Any], tuple[Any, ...]]) -> None:
        """Give *work* to the process, which asks for it; begin it, or again if it is dead."""
        for _ in range(MAX_BREAKS):
            with suppress(EOFError, OSError):
                if self._process is None:
                    self.begin()
                if self._pipe.poll(BEGIN_WAIT):
                    self._pipe.recv()
                    self._pipe.send(work)
                    return
            self.end()
        raise ConversionError("worker processes cannot be kept alive: is there too little memory?")

    def begin(self) -> None:
        """Begin the process, which interrupts do not reach; raises `OSError` where that fails."""
        with self._changing, ExitStack() as restored:
            if not self._wanted:
                raise OSError(errno.ECANCELED, "the run has ended")
            # Python starts it with `-c`, which imports first from the current folder, perhaps a CD.
            safe_path = os.environ.get("PYTHONSAFEPATH", "")  # empty is like none
            restored.callback(os.environ.update, PYTHONSAFEPATH=safe_path)
            os.environ["PYTHONSAFEPATH"] = "1"
            method = "fork" if forks_safely() else "spawn"
            if hasattr(signal, "pthread_sigmask"):
                if method == "spawn":  # whose helper lets signals through where it begins
                    import_module("multiprocessing.resource_tracker").ensure_running()
                kept = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
                restored.callback(signal.pthread_sigmask, signal.SIG_SETMASK, kept)
            context: Any = multiprocessing.get_context(method)
            self._pipe, theirs = context.Pipe()
            restored.enter_context(theirs)
            process = context.Process(target=serve, args=(theirs, self._memory), daemon=True)
            process.start()
            self._process = process

    def end(self, patience: float = 0) -> int:
        """Kill the process, unless it ends within *patience* (s); return its exit code."""
        with self._changing:
            process, self._process = self._process, None
            if process is None:
                return 0
            process.join(patience)
            process.kill()
            process.join(END_WAIT)
            return -9 if process.exitcode is None else int(process.exitcode)

    def close(self) -> None:
        """End the process for good."""
        self._wanted = False
        self.end()


def forks_safely() -> bool:
    """Tell whether this process can be forked: it has one thread, those of libraries too."""
    return len(list(Path("/proc/self/task").glob("*"))) == 1  # Linux alone tells


def serve(pipe: Any, memory: int) -> None:
    """Ask for works through *pipe* and do them, to its end: what a worker process is for."""
    for ending in ENDINGS:  # at those of a terminal, this process ends with the one that began it
        signal.signal(ending, signal.SIG_DFL if ending == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    follow_parent()
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSIONS))
    if memory and sys.platform == "linux":
        resource = import_module("resource")
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        least = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    with suppress(EOFError, OSError):
        while True:
            pipe.send(None)
            options, step, arguments = pipe.recv()
            cv2.setNumThreads(options.threads or -1)  # -1: as many as there are cores
            with suppress(OSError):  # it may not be there, nor be needed
                os.chdir(options.folder)
            result, error = attempt(partial(step, *arguments), options)
            pipe.send((result, reason_of(error) if error else ""))


def follow_parent() -> None:
    """Have this worker process end at once with the one that began it, however that ends."""
    if sys.platform == "linux":  # with the thread that began it, which lasts as long as the workers
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        return

    def follow() -> None:
        cast(Any, multiprocessing.parent_process()).join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def memory_of_worker(workers: int) -> int:
    """Return how many bytes a worker may take: its share of the machine, but enough for a frame."""
    if sys.platform != "linux":
        return 0  # it cannot be asked, or knows no such bound
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(machine * 3 // 4 // workers, 2 * MAX_FRAME_BYTES)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Cluster:
    """The workers of a Dask cluster, which get this file and see all others where they are here."""

    def __init__(self, options: Options) -> None:
        if __name__ == "__main__":
            raise ConversionError("for --dask the script needs its name, NAME.py")
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            cure = f"{PYTHON} -m pip install 'dask[distributed]'"
            raise ConversionError(f"--dask needs a library that is missing: {cure}") from error
        self._place = options.dask
        named = "scheduler_file" if Path(options.dask).is_file() else "address"
        problem = "no Dask scheduler answers there: start one with `dask scheduler`"
        try:
            self._client = distributed.Client(**{named: options.dask}, timeout=CONNECT_TIMEOUT)
            problem = "this Dask scheduler has no workers: start some with `dask worker`"
            self._client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:
            raise self._error(problem) from error
        self._client.upload_file(__file__)
        self._executor = self._client.get_executor(pure=False)
        self._cores, self._looked, self._served = 0, 0.0, time.monotonic()

    def _error(self, message: str) -> ConversionError:
        return ConversionError(f"{self._place}: {message}")

    def room(self) -> int:
        """Return how many sources may be under way; raise where scheduler or workers are gone."""
        now = time.monotonic()
        if self._client.status == "closed":
            raise self._error(SCHEDULER_GONE)
        if self._client.status == "running" and now > self._looked + LIFE_WAIT:
            with suppress(OSError):  # of a scheduler that is just going
                self._cores = sum(map(int, self._client.ncores().values()))
            self._looked = now
            if self._cores:
                self._served = now
            elif now > self._served + CONNECT_TIMEOUT:
                cure = "start some with `dask worker` and add --resume"
                raise self._error(f"no workers are left: {cure}")
        return IN_FLIGHT * max(self._cores, 1)

    def submit(self, source: Work, options: Options) -> Future[Outcome]:
        """Have *source* converted by one of the workers."""
        options = replace(options, folder=Path.cwd())
        return cast(Future[Outcome], self._executor.submit(convert_shipped, source, options))

    def outcome(self, future: Future[Outcome], source: Work) -> Outcome:
        """Return how *source* ended, named as it is here."""
        if future.cancelled():
            raise self._error(SCHEDULER_GONE)
        if error := future.exception():
            reason = f"the workers that converted it ended ({reason_of(error)})"
            return Outcome(source, Status.FAILED, reason=reason)
        return replace(future.result(), source=source)

    def close(self) -> None:
        """Leave the cluster; what it has not begun is taken back."""
        self._client.close()


@cache
def shipped_to() -> Workers:
    """Return the one worker process of this worker of a cluster, in which nothing may hang."""
    # The nanny of a worker makes it a daemon, which may have no child processes.
    cast(Any, multiprocessing.current_process())._config["daemon"] = False
    limit = import_module("distributed").get_worker().memory_manager.memory_limit
    return Workers(1, limit or memory_of_worker(1))


def convert_shipped(source: Work, options: Options) -> Outcome:
    """Convert *source* on a worker of a cluster, one at a time."""
    whole = all(one.path.is_absolute() for one in source.sources)
    if not whole and not is_folder(options.folder):  # another file might have that path here
        where = printable(str(options.folder))
        reason = f"{where} is not there on a worker: name inputs by their whole paths"
        return Outcome(source, Status.FAILED, reason=reason)
    return shipped_to().convert(source, options)


# --- The page -------------------------------------------------------------------------------------

# A page from disk can read no other file: it holds its data, and shows them as text only.
PAGE = r"""<!doctype html><!-- made by dicom_converter -->
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; base-uri 'none';
 form-action 'none'; script-src @script@; style-src @style@; img-src 'self' file:;
 media-src 'self' file:; frame-src 'self' file:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DICOM</title>
<style>
:root { color-scheme: dark; --line: 1px solid #272c34; --quiet: #97a1b0; --blue: #7ab8ff; }
* { box-sizing: border-box; margin: 0; padding: 0; font-size: 1em; min-width: 0; }
body { height: 100vh; display: grid; grid-template: auto 1fr / 328px 1fr; color: #dbe1e9;
  background: #0c0e11; overflow-wrap: anywhere; font: 14px/1.5 system-ui, sans-serif; }
header, #head, #bar, #entries { display: flex; gap: 6px; align-items: center; padding: 8px 16px; }
header, #tree:has(+ [hidden]) { grid-column: 1 / -1; border-bottom: var(--line); }
h1 { margin-right: auto; } h2 { font-size: 16px; } p, i, dt, .quiet { color: var(--quiet); }
a { color: var(--blue); } .amber { color: #e8bd6d; } .red { color: #f5958c; }
button, #search { font: inherit; color: inherit; background: #1d2128; padding: 4px 10px;
  border: 1px solid #353c47; border-radius: 6px; white-space: nowrap; flex: none; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: -2px; }
#search { flex: 0 1 320px; } #tree { overflow-y: auto; padding: 12px; border-right: var(--line); }
summary, #tree a { cursor: pointer; padding: 10px 4px; text-decoration: none; }
summary h3 { display: inline; } #tree :is(.quiet, a), .card span { display: block; }
li { list-style: none; content-visibility: auto; contain-intrinsic-size: auto 84px; }
.card { display: grid; grid-template-columns: 64px 1fr; gap: 12px; padding: 7px; width: 100%;
  text-align: start; white-space: normal; background: none; border-color: #0000; }
button:hover, [aria-pressed=true], [aria-current] { background: #1b3147; border-color: #4b85bd; }
.thumb { width: 64px; height: 64px; color: var(--quiet); text-align: center; line-height: 64px; }
.thumb, #stage > * { object-fit: contain; background: #000; }
.card, #what, #tree :is(h2, p, summary) { max-height: 11em; overflow: hidden; }
main { display: grid; grid-template: auto 1fr auto auto / 1fr 264px; min-height: 0; }
main.beside { grid-template-columns: 1fr minmax(264px, 44%); }
#head, #bar, #help, :fullscreen:not(.beside) #stage { grid-column: 1 / -1; flex-wrap: wrap; }
#entries { overflow-x: auto; padding: 0; margin-left: auto; }
#stage { display: grid; grid-template: 100% / 100%; overflow: auto; background: #000;
  touch-action: pan-y; user-select: none; } .actual #stage { touch-action: auto; }
#stage > *, iframe { width: 100%; height: 100%; } iframe { border: 0; min-height: 300px; }
.actual #stage > :is(img, video) { width: auto; height: auto; margin: auto; }
@media not (prefers-color-scheme: dark) { /* A text is as the system wants it, not as this page. */
  #viewer iframe[sandbox] { color-scheme: light; background: #fff; filter: invert(.92); } }
aside { padding: 12px 16px; overflow-y: auto; border-left: var(--line); display: grid;
  grid-template: auto 1fr / 100%; gap: 10px; } #beside { display: grid; }
dl { display: grid; grid-template-columns: fit-content(45%) 1fr; gap: 4px 14px; margin: 8px 0; }
#position { flex: 1 1 90px; } #speed { width: 70px; } output { min-width: 5em; }
#state { max-width: 16em; overflow: hidden; text-overflow: ellipsis; }
#help { padding: 0 16px 8px; font-size: 12px; } #list { display: none; }
[hidden], .beside dl, .still #bar > :not(#actual, #state, #text, #full),
:is(.still, :fullscreen) #help, :fullscreen:not(.beside) aside,
:is(section, details):not(:has(li:not([hidden]))) { display: none; }
@media (max-width: 860px) { body, main { display: flex; flex-direction: column; height: auto; }
  #stage { height: 55vh; } #tree, aside { order: 1; border: 0; }
  #list { display: inline; flex: none; } #position { flex-basis: 60%; }
  #help, h1 { display: none; } }
</style>
<header><h1 id="title"></h1><a id="list" href="#tree"></a><p id="hits" role="status"></p>
<input id="search" type="search"><button id="language"></button></header>
<nav id="tree"></nav>
<main id="viewer" class="loop">
<div id="head"><div id="what"></div><div id="entries"></div></div>
<div id="stage" tabindex="0" role="group"></div>
<aside><div id="known"></div><div id="beside"></div></aside>
<div id="bar"><input id="position" type="range"><output id="place" aria-live="off"></output>
<input id="speed" type="range" min=".25" max="4" step=".25" value="1">
<output id="pace" aria-live="off"></output></div>
<p id="help"></p></main>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const WORDS = new Map(`title=Study overview=检查总览; language=中文=English; position=Position=位置;
studies=❮ All studies=❮ 全部检查; list=Series ↓=序列 ↓; speed=Speed=速度; O=other=其他;
search=Search names, texts, dates=搜索姓名、描述、日期; undated=No date=无日期; F=female=女;
stage=Picture: go on with arrow keys or wheel=图像：用方向键或滚轮翻看; pause=❚❚ Pause=❚❚ 暂停;
back=❮ Previous=❮ 上一幅; next=Next ❯=下一幅 ❯; play=▶\ufe0e Play=▶\ufe0e 播放; loop=Loop=循环;
full=Full screen=全屏; null=left out=已略去; broken=Cannot be shown here=无法在此显示; M=male=男;
series=个序列; files=个文件; pictures=幅图像; clips=段动态影像; documents=份文档; texts=份文本;
failed=个文件失败; burned=Names may be burned in=图像中可能烧录有姓名; unnamed=No name=无姓名;
lost=not converted=个文件未转换; ageY=y=岁; ageM=months=个月; ageW=weeks=周; ageD=days=天;
Series=序列; Files=文件; Position=位置; Thickness=Slice thickness=层厚; Pixel spacing=像素间距;
Size=尺寸; InstanceNumber=Number=图像编号; AcquisitionDateTime=Taken=采集时间; text=Text=文本;
actual=1:1=1:1; state=As marked=带标注; key=★ Key image=★ 关键图像; frame=Frame=帧;
Shows=所示图像; ContentLabel=Label=标签;
use=For personal archives only, not for diagnosis.=仅供个人存档，不得用于诊断。;
help=↑ ↓ Home End, wheel: picture · Space: play · L: loop · 1: original size · S: as marked
· T: text · F: full screen=↑ ↓ Home End、滚轮：翻图 · 空格：播放 · L：循环 · 1：原始大小
· S：带标注 · T：文本 · F：全屏`
  .split(";").map(entry => entry.trim().split("=")).map(words => [words[0], words]));
// What opens without fetching or running anything, the best first; else it is named, not opened.
const KINDS = {mp4: "clips", gif: "clips", png: "pictures", pdf: "documents", txt: "texts"};
const $ = id => document.getElementById(id);
const [head, ...all] = $("data").textContent.trim().split("\n").map(each => JSON.parse(each));
const main = $("viewer"), tree = $("tree"), stage = $("stage"), speed = $("speed");
const cards = [], loaded = new Map();
const owners = new Map(), states = new Map();  // by links of pictures and clips
let zh = /^zh/i.test(navigator.language), number = null, entry = 0, at = 0, begun = 0, swept = 0;
let items, state, video, playing, settling, reading, from;

const t = key => WORDS.get(key)?.at(zh ? -1 : -2) ?? key;
const suffix = link => link.split(".").pop().toLowerCase();
const local = link => `./${link}`;  // whatever it looks like, it leads nowhere else
const fold = text => text.normalize("NFKD").replace(/[\p{M}./-]/gu, "").toLowerCase();
const count = (n, what) => n && `${n} ${n === 1 ? t(what).replace(/(?<!ie)s$/, "") : t(what)}`;
const age = text => text?.replace(/^0*(\d+)([DWMY])$/, (_, n, of) => `${n} ${t("age" + of)}`);
const endingIn = (end, file) => file.links.filter(link => suffix(link) === end);
const isShown = item => /pictures|clips/.test(item.kind);
const near = new IntersectionObserver(found => found.filter(each => each.isIntersecting)
  .forEach(each => each.target.preload = "metadata"));  // by which a film shows its beginning
function el(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter(Boolean));
  return node;
}
const line = (tag, className, ...texts) => el(tag, {className},
  ...texts.filter(text => text || text === null).flatMap((text, i) =>
    [i && " · ", text === null ? el("i", {}, t("null")) : el("bdi", {}, text)]));
const leaf = (texts, ...children) => el("li", {hay: fold(texts.join(" "))}, ...children);
for (const file of all.flatMap(one => one.page ? [] : one.files)) {
  file.links.forEach(link => owners.set(link, file));
  for (const [of, link, frame] of file.shows || [])
    states.set(of, [...states.get(of) || [], {link, file, frame}]);
}
const made = (item = items[at]) => (states.get(item.link) || []).filter(({link}) => link);
const seen = (item = items[at], of = made(item).filter(one => one === state || !one.frame)) =>
  state && (of.find(one => one === state) || of.find(({file}) => file === state.file) || of[0])
  || item;
const isKey = now => states.get(items[at].link)?.some(({link, frame}) =>
  link === "" && !(now && frame && now !== frame));
function itemsOf(file) {  // what is to be opened of it: all of its stills, or the best it has
  if (file.shows?.[0] && !file.shows[0][1]) return [...file.shows.map(([link, , frame]) =>
    ({file: owners.get(link) || {...file, links: [link]}, link, frame, kind: KINDS[suffix(link)]})),
    ...itemsOf({...file, shows: []})];
  const end = Object.keys(KINDS).find(each => endingIn(each, file)[0]);
  const other = file.links.every(link => KINDS[suffix(link)]) ? KINDS[end] : "documents";
  const kind = "failed" in file ? "failed" : other;
  return (end ? endingIn(end, file) : [""]).map(link => ({file, link, kind}));
}
function card({series, clips, files: own, folder}, above, texts) {
  const held = [...clips, ...own].flatMap(itemsOf), n = cards.length;
  if (!held[0]) held.push(...itemsOf({name: "", links: []}));
  const of = kind => held.filter(item => item.kind === kind);
  const frames = file => endingIn("png", file).map(link => ({file, link, kind: "pictures"}));
  const entries = [of("pictures"), ...held.filter(item => item.kind !== "pictures")
    .flatMap((item, i, all) => [[item], all[i - 1]?.file === item.file ? [] : frames(item.file)])]
    .filter(each => each[0]);
  const {link} = entries[0][entries[0].length >> 1], kind = suffix(link);
  const tag = {png: "img", mp4: "video"}[kind] || "b";
  const thumb = el(tag, {className: "thumb", alt: "", loading: "lazy", preload: "none",
    src: local(link)}, tag === "b" && kind.toUpperCase());
  near.observe(thumb);
  const {SeriesNumber, Modality, BodyPartExamined: body} = series;
  const {SeriesDescription: name = held[1] ? "" : held[0].file.name} = series;
  const files = folder === "." ? t("Files") : folder;  // without a series
  const title = [files ?? `${t("Series")} ${SeriesNumber || ""}`, Modality, name];
  const counted = kind => count(of(kind).length, kind);
  const button = el("button", {className: "card", onclick: () => { show(n); stage.focus(); }},
    thumb, el("span", {}, line("span", "quiet", ...title.slice(0, 2), body), line("b", "", name),
      line("span", "quiet", ...["pictures", "clips", "documents", "texts"].map(counted)),
      line("span", "red", counted("failed")),
      line("span", "amber", held.some(({file}) => file.burned) && t("burned"))));
  cards.push({button, entries, what: [line("p", "", ...above), line("h2", "", ...title)]});
  return leaf([...texts, folder, ...held.map(({file}) => file.name)], button);
}
function build(frame) {
  document.documentElement.lang = zh ? "zh-Hans" : "en";
  for (const node of document.querySelectorAll("[id]")) if (WORDS.has(node.id))
    node[node.matches("input, #stage") ? "ariaLabel" : "textContent"] = t(node.id);
  [document.title, $("search").placeholder] = [t("title"), t("search")];
  tree.replaceChildren();
  cards.length = 0;
  let last = [], section, list;  // of one patient, of one study
  for (const {of, page, patient, study, ...one} of all) {
    const {PatientName: name = t("unnamed"), PatientSex: sex} = patient;
    const {StudyDate: date = t("undated"), StudyDescription: description} = study;
    const texts = [patient, study, one.series, one.words || []].flatMap(Object.values);
    const about = [line("h3", "", date, description), line("span", "quiet", study.StudyTime,
      study.InstitutionName, age(study.PatientAge)), page && line("span", "quiet",
      count(one.count, "series"), count(one.files, "files"), one.modalities,
      count(one.failed, "failed"), one.burned && t("burned"))];
    if (of[0] !== last[0]) tree.append(section = el("section", {}, line("h2", "", name),
      line("p", "", patient.PatientID, patient.PatientBirthDate, sex && t(sex))));
    if (of[1] !== last[1]) section.append(el(page ? "div" : "details", {open: true},
      !page && el("summary", {}, ...about), list = el("ul")));
    list.append(page ? leaf(texts, el("a", {href: local(page)}, ...about))
      : card(one, [patient.PatientName, date, description], texts));
    last = of;
  }
  tree.append(el("details", {}, line("summary", "red", count(head.lost, "lost")),
    el("ul", {}, ...head.failed.map(({path, reason}) => leaf([path, reason],
      line("span", "", path), line("p", "", reason))))), line("p", "", t("use"), head.generator));
  find();
  number ??= Math.max(0, cards.findIndex(each => isShown(each.entries[0][0])));
  if (cards[0]) show(number, entry, at, frame);
}
function find() {
  const words = fold($("search").value).split(/\s+/), leaves = [...tree.querySelectorAll("li")];
  for (const node of leaves) node.hidden = !words.every(word => node.hay.includes(word));
  const found = leaves.filter(node => !node.hidden).length;
  if (words.join("")) tree.querySelectorAll("details").forEach(each => each.open = true);
  $("hits").textContent = words.join("") && `${found} / ${leaves.length}`;
}
function show(n, which = 0, index = 0, frame) {
  const {entries, what} = cards[n];
  cards.forEach((each, i) => each.button.ariaCurrent = i === n ? "true" : null);
  [number, entry, items, playing] = [n, which, entries[which], null];
  $("what").replaceChildren(...what);
  $("entries").replaceChildren(...entries.map(([item, ...more], i) => el("button",
    {ariaPressed: `${i === which}`, onclick: () => show(n, i)}, item.kind === "pictures"
      ? count(more.length + 1, item.kind)
      : line("span", "", suffix(item.link).toUpperCase(), item.file.name,
        item.frame && `${t("frame")} ${item.frame}`))));
  go(index, frame);
}
async function go(index, frame = items[index].frame - 1) {  // of a clip
  at = index;
  const {file, link} = seen(), kind = suffix(link), {file: own} = items[at];
  const label = file !== own && (file.texts.ContentLabel || file.name);
  video = kind === "mp4" ? el("video", {src: local(link), playsInline: true, ontimeupdate: place,
    onloadedmetadata: place, onplay: place, onpause: place,
    onloadeddata: () => frame > 0 && move(frame)}) : null;
  const links = file.links.filter(each => suffix(each) !== "png" || each === link);
  const facts = Object.entries({...file.texts, ...own.texts}).filter(([, value]) => value !== "");
  $("known").replaceChildren(line("h3", "", own.name, label,
      seen().frame && `${t("frame")} ${seen().frame}`), line("p", "red", file.failed),
    line("p", "amber", isKey(seen().frame) && t("key"), file.burned && t("burned")),
    el("dl", {}, ...facts.flatMap(([key, value]) => [el("dt", {}, t(key)), line("dd", "", value)])),
    ...(file.notes || []).map(note => line("p", "", note)), el("p", {}, ...links.flatMap(
      each => [KINDS[suffix(each)] ? el("a", {href: local(each), target: "_blank"},
        suffix(each).toUpperCase()) : line("b", "", `${file.name}.${suffix(each)}`), " "])));
  main.classList.toggle("still", !video && frames() < 2);
  [$("actual").hidden, $("text").hidden] = [!isShown(items[at]), kind === "txt"];
  $("state").hidden = !made()[0];
  $("state").replaceChildren(line("span", "", label || t("state"),
    made()[1] && `${made().indexOf(seen()) + 1} / ${made().length}`));
  place();
  clearTimeout(settling);
  settling = setTimeout(settle, 200);
  const node = kind === "png" || kind === "gif" ? await load(link) : video || framed(link);
  if (seen().link !== link) return;
  stage.replaceChildren(Object.assign(node, {alt: `${file.name}, ${at + 1} / ${items.length}`}));
  items.slice(at + 1, at + 4).forEach(each => load(seen(each).link));
}
function settle(turned) {  // what switches change, and what is too much for each picture
  if (turned) main.classList.toggle(turned);
  for (const id of ["loop", "actual", "text"]) $(id).ariaPressed = `${isOn(id)}`;
  $("state").ariaPressed = `${seen() !== items[at]}`;
  if (video) video.loop = isOn("loop");
  const [text] = isOn("text") && !$("text").hidden ? endingIn("txt", seen().file) : [];
  main.classList.toggle("beside", Boolean(text));
  if (text !== reading) $("beside").replaceChildren((reading = text) ? framed(text) : "");
}
function framed(link) {
  if (!link) return line("p", "", t("broken"));
  const title = suffix(link).toUpperCase(), src = local(link);  // Chromium sandboxes no PDF
  return el("iframe", title === "PDF" ? {title, src} : {title, src, sandbox: ""});
}
async function load(link) {  // the picture, decoded; some are kept
  const image = loaded.get(link) || el("img", {draggable: false, src: local(link)});
  loaded.set(link, image);
  if (loaded.size > 32) loaded.delete(loaded.keys().next().value);
  return image.decode().then(() => image, () => line("p", "", t("broken")));
}
const isOn = id => main.classList.contains(id);
const timed = ({file, link} = items[at]) =>  // the image, of what a state made of it
  owners.get(file.shows?.find(each => each[1] === link)?.[0]) || file;
const frames = () => video ? timed().frames || 1 : items.length;
const begin = index => timed().begins?.[index] ?? index / frames() * video.duration;  // s
const here = () => !video ? at : Math.max(0, Array.from({length: frames()}, (_, i) => begin(i))
  .findLastIndex(start => start < video.currentTime + .005));
function place() {
  const now = here() + 1, told = `${isKey(now) ? "★ " : ""}${now} / ${frames()}`;
  Object.assign($("position"), {max: frames() - 1, value: now - 1, ariaValueText: told});
  $("place").value = told;
  $("pace").value = `${t("speed")} ${speed.value} ×`;
  $("play").textContent = t((video ? !video.paused : playing) ? "pause" : "play");
  if (video) video.playbackRate = speed.value;
}
function move(index = here()) {  // and halt, there or here
  const to = Math.max(0, Math.min(index, frames() - 1));
  if (to !== here() && video) video.currentTime = (begin(to) + begin(to + 1)) / 2 || 0;
  else if (to !== here()) go(to);
  video?.pause();
  playing = null;
  place();
}
async function play() {
  if (video?.paused) return video.play().catch(place);
  if (video || playing || frames() < 2) return move();
  const mine = playing = {};
  while (at + 1 < items.length || isOn("loop")) {
    const next = (at + 1) % items.length, pause = 100 / speed.value;
    await Promise.all([load(seen(items[next]).link), new Promise(done => setTimeout(done, pause))]);
    if (playing !== mine) return;
    go(next);
  }
  move();
}
function sweep(by) {  // a wheel or a finger goes on by one picture for each 12 pixels
  swept += by;
  if (Math.abs(swept) < 12) return;
  move(here() + Math.sign(swept));
  swept = 0;
}
const back = () => move(here() - 1), next = () => move(here() + 1);
const [loop, actual, text] = ["loop", "actual", "text"].map(id => () => settle(id));
function next_state() {  // of those that show this picture, then none
  if (!made()[0]) return;
  if (video) begun = here();
  state = made()[made().indexOf(seen()) + 1];
  go(at, begun);
}
const full = () => document.fullscreenElement ? document.exitFullscreen()
  : main.requestFullscreen?.();
for (const [id, onclick] of Object.entries({back, play, next, loop, actual, state: next_state,
  text, full}))
  speed.before(el("button", {id, onclick}));
const KEYS = {arrowup: back, arrowleft: back, arrowdown: next, arrowright: next, " ": play, f: full,
  home: () => move(0), end: () => move(Infinity), l: loop, 1: actual, s: next_state, t: text};
document.onkeydown = event => {
  const {key, target} = event, act = KEYS[key.toLowerCase()];
  const typed = target.matches(key === " " ? "#search, button, summary" : "#search, #speed");
  if (!act || !items || typed || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  act();
};
stage.onwheel = event => {
  if (event.ctrlKey || frames() < 2) return;
  event.preventDefault();
  sweep(Math.max(-12, Math.min(event.deltaY * (event.deltaMode ? 12 : .4), 12)));
};
stage.onpointerdown = stage.onpointermove = event => {
  const [x, y] = [event.clientX - from?.clientX, event.clientY - from?.clientY];
  if (from && event.type === "pointermove" && event.buttons)
    if (isOn("actual")) stage.scrollBy(-x, -y); else sweep(y - x);
  from = event;
};
$("position").oninput = () => move(+$("position").value);
speed.oninput = place;
$("search").oninput = find;
$("language").onclick = () => { zh = !zh; build(here()); };
if (head.back) $("title").before(el("a", {id: "studies", href: local(head.back)}));
build();
main.hidden = !cards[0];
</script>
"""  # noqa: RUF001 - Chinese


def page_parts() -> list[bytes]:
    """Return the page before and after its data (JSON in ASCII, without <).

    The one script and the one style that it may run are known to it by their hashes (CSP 3, 2.3.1).
    """
    page = PAGE
    for tag in ("script", "style"):
        inside = PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        page = page.replace(f"@{tag}@", f"'sha256-{digest}'")
    return page.encode().split(b"@DATA@")


# --- Report and progress --------------------------------------------------------------------------

REPORT_FIELDS = ("path", "status", "outputs", "warnings", "reason", "frames", "transfer_syntax",
                 "bytes_in", "bytes_out", "modality", "study", "series", "instance", "version",
                 "seconds")  # fmt: skip
REPORTED = {"modality": "Modality", "study": "StudyInstanceUID", "series": "SeriesInstanceUID",
            "instance": "SOPInstanceUID"}  # fmt: skip
REASONS_SHOWN, REASONS_KEPT = 10, 1000
MAX_ROW = 1 << 26  # bytes of the report in which its last row surely begins
FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")  # also wide ones
MANY_INPUTS = 10  # for which a bar says more than lines


def report_row(outcome: Outcome, suffix: str) -> bytes:
    """Return one line on how a source ended, as CSV or as JSON."""
    texts = outcome.instance.texts if outcome.instance else {}
    known = {name: texts.get(keyword, "") for name, keyword in REPORTED.items()}
    row = {name: getattr(outcome, name, "") for name in REPORT_FIELDS} | known
    row |= {"path": outcome.source.label, "version": __version__}
    row["outputs"] = tuple(map(str, outcome.outputs))
    if suffix == ".jsonl":
        return json.dumps(row).encode() + b"\n"
    row["seconds"] = f"{outcome.seconds:.3f}"  # by which a row shows that it is whole
    cells = [" | ".join(cell) if isinstance(cell, tuple) else cell for cell in row.values()]
    return csv_line([csv_text(cell) if isinstance(cell, str) else cell for cell in cells])


def csv_text(value: str) -> str:
    r"""Return *value* so that it steers neither a terminal nor a spreadsheet, and can be read back.

    A ' is put before what could begin a formula, and before another '. Bytes of what cannot be
    printed are written as \xNN, and so are a backslash that looks like the beginning of one, and a
    semicolon, which separates cells in some countries, before a formula.
    """

    def shown(char: str) -> str:
        if char.isprintable() or char in HARMLESS:
            return char
        return "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))

    value = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", value)
    value = re.sub(rf";(?=\s*[{re.escape(''.join(FORMULA_SIGNS))}])", r"\\x3b", value)
    text = "".join(map(shown, value))
    return f"'{text}" if text.lstrip().startswith(FORMULA_SIGNS) else text


def csv_line(cells: Sequence[Any]) -> bytes:
    """Return *cells* as one line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def check_report(path: Path, suffix: str) -> None:
    """Raise `ConversionError` where something else than a report of ours is at *path*."""
    problem = ""
    if path.is_file():
        with path.open("rb") as file:
            head = file.readline(MAX_ROW)
        if suffix == ".csv":
            ours = csv_line(REPORT_FIELDS).startswith(head)
        else:  # a killed run may have left the beginning of the first row
            cut = not head.endswith((b"\n", b"}"))
            ours = head.startswith(b'{"path": "'[: len(head)]) and (cut or b'"status": ' in head)
        problem = "" if ours else "is no report of this program"
    elif os.path.lexists(path):
        problem = "is no regular file" if exists(path) else "is a link to nothing"
    if problem:
        raise ConversionError(f"{printable(str(path))}: {problem}: name another file")


def locked(file: Any, *, others: bool) -> bool:
    """Lock the report *file*: with the *others* that append, or alone; tell whether that is so."""
    try:
        fcntl = import_module("fcntl")
        fcntl.flock(file, fcntl.LOCK_SH if others else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:  # Windows and some network shares have no such lock
        return not isinstance(error, BlockingIOError)
    return True


def append(file: Any, row: bytes) -> None:
    """Append *row* to the report *file* by one write, which no row of another run can split."""
    try:
        if file.write(row) < len(row):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        name = printable(str(file.name))
        raise ConversionError(f"{name}: cannot be written ({error.strerror})") from error


def mend_report(file: Any, suffix: str) -> None:
    """End the last row of the report *file*, or cut it off; a new table gets its head."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - MAX_ROW, 0))
    _, _, last = file.read().rpartition(b"\n")
    if is_whole_row(last, suffix):
        append(file, b"\n")  # which an editor may have taken
    else:
        file.truncate(size - len(last))  # what a killed run left
    if suffix == ".csv" and not file.seek(0, os.SEEK_END):
        append(file, csv_line(REPORT_FIELDS))


def is_whole_row(row: bytes, suffix: str) -> bool:
    """Tell whether *row*, without its end, is a whole one of a report."""
    try:
        if suffix == ".jsonl":
            return isinstance(json.loads(row), dict)
        *cells, seconds = next(csv.reader([row.decode()]), []) or [""]
    except (ValueError, csv.Error):
        return False
    return len(cells) + 1 == len(REPORT_FIELDS) and re.fullmatch(r"\d+\.\d{3}", seconds) is not None


@contextmanager
def opened_report(path: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """Yield what adds a row to the report at *path*, at once and whole, or nothing without one."""
    if path is None:
        yield lambda _: None
        return
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    check_report(path, suffix)
    with path.open("ab+", buffering=0) as file:
        if locked(file, others=False):  # else what looks cut is the row of another run
            mend_report(file, suffix)
        locked(file, others=True)
        yield lambda outcome: append(file, report_row(outcome, suffix))


@dataclass(slots=True)
class Tally:
    """How many sources ended how, and why those failed that did."""

    counts: Counter[Status] = field(default_factory=Counter)
    clips: int = 0  # of series
    warned: int = 0
    pictures: int = 0  # files of which there are some
    burned_in: int = 0
    page: Path | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # where all of a kind are the same

    def add(self, outcome: Outcome) -> None:
        """Count *outcome*; reasons that differ in numbers only are one."""
        if isinstance(outcome.source, Source) or outcome.status == Status.FAILED:
            self.counts[outcome.status] += 1
        else:
            self.clips += 1
        self.warned += bool(outcome.warnings) and not is_trouble(outcome)
        made = outcome.status in (Status.CONVERTED, Status.DONE)
        if made and outcome.instance and isinstance(outcome.source, Source):
            self.pictures += bool(outcome.instance.kind) or outcome.instance.burned_in
            self.burned_in += outcome.instance.burned_in
        if outcome.status == Status.FAILED:
            kind = re.sub(r"\b\d+\b", "N", outcome.reason)
            if kind not in self.reasons and len(self.reasons) >= REASONS_KEPT:
                kind = "other reasons"
            self.reasons[kind] += 1
            if self.examples.setdefault(kind, outcome.reason) != outcome.reason:
                self.examples[kind] = kind

    def lines(self) -> Iterator[str]:
        """Yield the counts, and the reasons of several failures by how frequent they are."""
        clips = "clips of series" if self.clips > 1 else "clip of a series"
        counts = ((self.counts[end], end) for end in Status)
        told = (*counts, (self.clips, clips), (self.warned, "with warnings"))
        yield ", ".join(f"{number} {what}" for number, what in told if number)
        if self.counts[Status.FAILED] > 1:
            for reason, count in self.reasons.most_common(REASONS_SHOWN):
                yield f"{count:>8} x {self.examples[reason]}"
            if (rest := len(self.reasons) - REASONS_SHOWN) > 0:
                yield f"         and {rest} other reasons"
        if self.burned_in:
            yield f"{self.burned_in} of {self.pictures} pictures may show names that are burned in"


def is_trouble(outcome: Outcome) -> bool:
    """Tell whether a source failed, or was skipped though its name is DICOM's or an archive's."""
    source = outcome.source
    if outcome.status != Status.SKIPPED or isinstance(source, Series):
        return outcome.status == Status.FAILED
    ends = (*DICOM_SUFFIXES, *PACKED_SUFFIXES)
    return source.repeated or source.own_name.lower().endswith(ends)


def problem_lines(outcome: Outcome, untold: Sequence[str] = ()) -> list[str]:
    """Return just why a source is trouble, or else its warnings but for those *untold*."""
    path = f"dicom_converter: {printable(outcome.source.label)}"
    if is_trouble(outcome):
        how = "skipped: " if outcome.status == Status.SKIPPED else ""
        return [f"{path}: {how}{outcome.reason}"]
    return [f"{path}: warning: {warning}" for warning in outcome.warnings if warning not in untold]


def say_written(outcome: Outcome) -> None:
    """Print what was written of a source on one line; nothing where nothing was."""
    if not outcome.outputs or outcome.status in (Status.FAILED, Status.DONE):
        return
    first, *rest = outcome.outputs
    name = outcome.outputs[-1].stem  # of the TXT, which each source has
    shorter = shortened([other.name.removeprefix(name) for other in rest], 5)
    with suppress(OSError, ValueError):  # outside of the current folder, or that is gone
        first = first.relative_to(Path.cwd())
    written = printable(f"{first}, {shorter}" if rest else str(first))
    remark = outcome.remark or outcome.reason
    path = printable(outcome.source.label)
    say(f"{path} -> {written}{f' ({remark})' if remark else ''}", sys.stdout)


def show_lines(outcome: Outcome, options: Options) -> None:
    """Print how a source ended: what was written and its warnings, or just why it failed."""
    if options.quiet and outcome.status != Status.FAILED:
        return
    for line in problem_lines(outcome):
        say(line, sys.stderr)
    say_written(outcome)


@contextmanager
def display(inputs: Sequence[Path], options: Options) -> Iterator[Callable[[Outcome], None]]:
    """Yield what shows an outcome: lines, or on a terminal a bar with all problems above it."""
    few = len(inputs) < MANY_INPUTS and not any(map(is_medium, inputs))
    if few or options.quiet or not is_terminal(sys.stderr):
        yield partial(show_lines, options=options)
        return
    from rich import progress
    from rich.console import Console

    screen = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[failed]} failed, {task.fields[rate]:.1f}/s"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=screen, transient=True) as bar:
        bar.add_task("", total=None, failed=0, rate=0.0)
        (task,) = bar.tasks

        def count_sources() -> None:
            with suppress(*UNREADABLE):  # the run itself will say what is wrong
                found = (len(files) for _, files in walk(inputs, options.output))
                bar.update(task.id, total=sum(found))

        if STDIN not in inputs and not any(map(is_list, inputs)):
            threading.Thread(target=count_sources, daemon=True).start()

        def show(outcome: Outcome) -> None:
            for line in problem_lines(outcome, untold=(BURNED_IN, PERHAPS_BURNED_IN)):  # counted
                screen.print(line)
            if not is_terminal(sys.stdout):
                say_written(outcome)
            elif outcome.remark.endswith(RATE_HINT):
                screen.print(f"{printable(outcome.source.label)}: {outcome.remark}")
            failed = task.fields["failed"] + (outcome.status == Status.FAILED)
            rate = (task.completed + 1) / max(task.elapsed or 0, 1e-3)
            step = isinstance(outcome.source, Source)  # series are not counted before
            bar.update(task.id, advance=step, failed=failed, rate=rate)

        yield show
    screen.print(f"the outputs are in {printable(str(options.output))}")


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether somebody sees *stream*, which may be closed."""
    return stream is not None and stream.isatty()


# --- Study ----------------------------------------------------------------------------------------

MAX_SHOWN = 1000  # pictures of a state
SHOWABLE = ("still", "clip")  # to which a state can be applied
MIN_SLICES = 3  # of a clip
MAX_ON_PAGE = 5000  # pictures; beyond, each study has a page of its own
MAX_LOST_SHOWN = 1000
Entry = dict[str, Any]  # of the JSON on the page
SeriesGroup = tuple[int, int, str, list[Outcome]]  # number of patient and study, key of the series


class Shelf:
    """How each work ended and what it belongs to, in a temporary file that goes with it."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._rows.execute(
            "CREATE TABLE works"
            " (patient, study, date, series, number, uid, path, lost, waits, outcome)"
        )
        self.files = self.pictures = self.lost = 0

    def add(self, outcome: Outcome) -> None:
        """Keep *outcome*, but not of what is rightly skipped, and of what is lost not all."""
        keys: Sequence[Any] = (None,) * 6  # of what belongs to nothing known
        waits, lost = 0, is_trouble(outcome)
        self.lost += lost
        if one := outcome.instance:
            folder, texts = printable(f"/{outcome.source.folder}"), one.texts
            patient = patient_key(one)
            study, series = (texts[f"{of}InstanceUID"] or folder for of in ("Study", "Series"))
            is_list, uid = one.praises is not None, texts["SOPInstanceUID"]
            if is_list:  # each has a title of its own, and none names another
                series, uid = series + uid, ""
            first = -MAX_NUMBER - 1 if one.praises else one.series_number or 0
            waits = (1 + is_list) * (outcome.status == Status.WAITING)
            keys = patient, study, texts["StudyDate"], series, first, uid
            if isinstance(outcome.source, Source) and not waits:
                self.files += 1
                self.pictures += bool(one.kind)
        elif not lost or self.lost > MAX_LOST_SHOWN:
            return
        path = f"{printable(outcome.source.label)}:{outcome.source.sources[0].entry}"
        row = *keys, path, lost, waits, pickle.dumps(replace(outcome, facts=()))
        self._rows.execute("INSERT INTO works VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _outcomes(self, query: str, *values: Any) -> Iterator[Outcome]:
        """Yield the outcomes that *query* selects."""
        for (row,) in self._rows.execute(query, values):
            yield pickle.loads(row)  # noqa: S301 - none but this program wrote it

    def waiting(self, *, keys: bool) -> Iterator[Outcome]:
        """Yield the states that wait for their images, or the lists of *keys*."""
        self._rows.execute("CREATE INDEX IF NOT EXISTS uids ON works (uid)")
        return self._outcomes("SELECT outcome FROM works WHERE waits = ? ORDER BY path", 1 + keys)

    def named(self, uid: str, patient: str, study: str) -> Outcome | None:
        """Return what came of the instance *uid*, that of *patient* and *study* if of several."""
        query = (
            "SELECT outcome FROM works WHERE uid = ? AND uid > '' AND NOT waits AND NOT lost"
            " ORDER BY patient != ?, study != ?, path LIMIT 1"
        )
        return next(self._outcomes(query, uid, patient, study), None)

    def groups(self) -> Iterator[SeriesGroup]:
        """Yield what is of each series: by patient, the newest study first, by series number."""
        rows = self._rows.execute(
            "SELECT dense_rank() OVER (ORDER BY patient),"
            " dense_rank() OVER (ORDER BY patient, study), series, outcome"
            " FROM works WHERE patient NOT NULL AND NOT waits"
            " ORDER BY patient, max(date) OVER (PARTITION BY patient, study) DESC, study,"
            " min(number) OVER (PARTITION BY patient, study, series), series, path"
        )
        for keys, group in groupby(rows, key=itemgetter(0, 1, 2)):
            yield *keys, [pickle.loads(row[3]) for row in group]  # noqa: S301 - none but this program wrote it

    def failed(self) -> list[Entry]:
        """Return what the page says of files that were not converted."""
        query = "SELECT outcome FROM works WHERE lost ORDER BY path LIMIT ?"
        lost = list(self._outcomes(query, MAX_LOST_SHOWN))
        told = [{"path": printable(one.source.label), "reason": one.reason} for one in lost]
        more = self.lost - len(lost)
        return [*told, {"path": "...", "reason": f"and {more} more"}] if more else told

    def close(self) -> None:
        """Give up the temporary file."""
        self._rows.close()


def patient_key(one: Instance) -> str:
    """Return by what a patient's files are found and sorted: nobody's come last."""
    known = [one.texts[name] for name in ("PatientName", "PatientID")]
    return json.dumps([not any(known), *known]).casefold()


def presentations(shelf: Shelf, *, keys: bool, names: bool) -> Iterator[Presentation]:
    """Yield the states on *shelf* with the images that they name, or so the lists of *keys*."""
    for outcome in shelf.waiting(keys=keys):
        one, notes = cast(Instance, outcome.instance), defaultdict[str, list[str]](list)
        found = list(images_named(shelf, one, notes, keys=keys))
        shown = [Shown(file, at, outputs) for file, outputs, _, at in found]
        if (more := len(shown) - MAX_SHOWN) > 0:
            notes[f"shown are the first {MAX_SHOWN} pictures"].append(f"{more} more are named")
        if shown[1:]:
            places = enumerate(shown[:MAX_SHOWN], 1)
            shown = [replace(each, suffix=f"-{place:04}") for place, each in places]
        yield Presentation(
            **{name: getattr(outcome.source, name) for name in Source.__slots__},
            shown=tuple(shown),
            notes=tuple(
                f"{why}: {shortened(of) if names else len(of)}" for why, of in notes.items() if of
            ),
            burned_in=any(image.burned_in for *_, image, _ in found),
            frames=max((image.frames for *_, image, _ in found), default=1),
        )


def images_named(
    shelf: Shelf, one: Instance, notes: dict[str, list[str]], *, keys: bool
) -> Iterator[tuple[Slice, tuple[Path, ...], Instance, int | None]]:
    """Yield the files, their outputs and frames that a state or a list of *keys* refers to.

    A frame None is all of a file. What is not shown goes to *notes*, by the reason.
    """
    asked: defaultdict[Any, dict[int | None, None]] = defaultdict(dict)
    for instance, frames in one.refers:  # those of a list stay in order
        asked[instance, frames if keys else ()] |= dict.fromkeys(frames or [None])
    for (instance, _), wanted in asked.items():
        found = shelf.named(instance, patient_key(one), one.texts["StudyInstanceUID"])
        if not found or not found.instance:
            notes["refers to what is not among the inputs, or failed"].append(printable(instance))
            continue
        image, label = found.instance, printable(found.source.own_name)
        if not keys and image.kind not in SHOWABLE:
            notes["no image that states are applied to"].append(label)
            continue
        if patient_key(image) != patient_key(one):
            notes["by its header of another patient"].append(label)
        there = [at - 1 for at in wanted if at is not None and 0 < at <= image.frames]
        whole = None in wanted or len(there) == image.frames
        if not whole and len(there) < len(wanted):
            notes["lacks some of the frames that are named"].append(label)
        file = Slice(cast(Source, found.source), image.identity)
        yield from ((file, found.outputs, image, at) for at in ([None] if whole else there))


def series_works(shelf: Shelf) -> Iterator[Series]:
    """Yield the clips to be made of what is on *shelf*, each with a name of its own."""
    names_at = cache(lambda place: numbered(place.name))
    for *_, series, outcomes in shelf.groups():
        first = next(one.instance for one in outcomes if one.instance)
        for position, clip in enumerate(() if series.startswith("/") else clips_of(outcomes)):
            folder = Path(os.path.commonpath([one.folder for one in clip.sources]))
            place = folder / f"series-{first.series_number or 0:03}"
            whose = [first.texts[name] for name in ("PatientName", "PatientID", "StudyInstanceUID")]
            uid = f"{whose} {series} {position}"
            yield replace(clip, uid=uid, folder=folder, name=next(names_at(place)))


def clips_of(outcomes: Iterable[Outcome]) -> list[Series]:
    """Return the clips to be made of the files of one series, which tell what is in none."""
    failed = [one.source.label for one in outcomes if one.status == Status.FAILED]
    kept, copies = without_copies(stills_of(outcomes))
    stacks = stacks_of(kept)
    beside = [source.label for stack in stacks if len(stack) < MIN_SLICES for source, _ in stack]
    told = (
        (failed, "could not be converted"),
        (copies, "show once more what others do"),
        (beside, "are of another kind, size or orientation"),
    )
    notes = tuple(
        f"left out, for they {why}: {len(files)}: {shortened(files)}"
        for files, why in told
        if files
    )
    clips = (ordered(stack) for stack in stacks if len(stack) >= MIN_SLICES)
    return [replace(clip, notes=(*clip.notes, *notes)) for clip in clips]


def stills_of(outcomes: Iterable[Outcome]) -> Iterator[Member]:
    """Yield the files among *outcomes* that were written as one picture each."""
    for one in outcomes:
        made = isinstance(one.source, Source) and one.status != Status.FAILED
        if made and one.instance and one.instance.kind == "still":
            yield cast(Source, one.source), one.instance


def write_pages(shelf: Shelf, options: Options) -> Path:
    """Write the page of *shelf*, of very much one for each study and their list; return where."""
    root, numbers = Path(realpath(options.output)), count(1)
    written: set[Path] = set()
    index = page_place(root, "index")
    remove_stale_parts(root)

    def listed() -> Iterator[Entry]:
        for _, of_study in groupby(shelf.groups(), key=itemgetter(0, 1)):
            entries = (series_entry(group, options) for group in of_study)
            if shelf.pictures <= MAX_ON_PAGE and shelf.files <= 2 * MAX_ON_PAGE:
                yield from entries
                continue
            seen: list[Entry] = []
            page = page_place(root, f"study-{next(numbers):03}")
            write_page(page, kept_heads(entries, seen), {"back": quote(index.name)})
            written.add(page)
            sums = {name: sum(one[name] for one in seen) for name in ("files", "failed", "burned")}
            kinds = sorted({one["series"].get("Modality", "") for one in seen})
            words = sorted({word for one in seen for word in one["series"].values() if word})
            about = {"count": len(seen), "modalities": ", ".join(kinds), "words": words}
            yield seen[0] | sums | about | {"page": quote(page.name)}

    write_page(index, listed(), {"failed": shelf.failed(), "lost": shelf.lost})
    for page in root.glob("study-*.html"):  # of an earlier run
        ours = re.fullmatch(r"study-\d{3,}(-\d+)?\.html", page.name)
        if ours and page not in written and is_page(page):
            page.unlink()
    return index


def kept_heads(entries: Iterable[Entry], heads: list[Entry]) -> Iterator[Entry]:
    """Yield *entries*, of which *heads* get all but their files, and the numbers of these."""
    for entry in entries:
        works = entry["files"] + entry["clips"]
        sums = {name: sum(name in one for one in works) for name in ("failed", "burned")}
        heads.append(entry | {"files": len(entry["files"]), "clips": []} | sums)
        yield entry


def series_entry(group: SeriesGroup, options: Options) -> Entry:
    """Return what the page shows of one series: its stills in order, then its other files."""
    patient, study, series, outcomes = group
    stacks = map(ordered, stacks_of(without_copies(stills_of(outcomes))[0]))
    sources: Iterator[Work] = chain(*(one.sources for one in stacks))
    places = {one: place for place, one in enumerate(sources)}
    last = len(places)
    outcomes.sort(key=lambda one: (places.get(one.source, last), natural_order(one.source.label)))
    first = cast(Instance, outcomes[0].instance)
    entry: Entry = {level: shown_texts(first, level, options) for level in list(TEXTS)[:3]}
    entry |= {"of": [patient, study], "files": [], "clips": []}
    for one in outcomes:
        kind = "clips" if isinstance(one.source, Series) else "files"
        entry[kind].append(work_entry(one, options))
    if series.startswith("/"):
        entry["folder"] = outcomes[0].source.folder.relative_to(realpath(options.output)).as_posix()
    return entry


def shown_texts(one: Instance, level: str, options: Options) -> Entry:
    """Return the texts of *one* at a *level*; None for what is left out."""
    found = {name: one.texts[name].replace("\\", ", ") for name in TEXTS[level] if one.texts[name]}
    hidden = [name for name in found if not options.names and is_left_out(name)]
    return found | dict.fromkeys(hidden)


def work_entry(outcome: Outcome, options: Options) -> Entry:
    """Return what the page shows of one file or clip: nothing that a run with --resume lacks."""
    one, root, source = cast(Instance, outcome.instance), realpath(options.output), outcome.source
    links = [link_to(path, root) for path in outcome.outputs]
    entry: Entry = {"name": printable(source.name), "links": links, "frames": one.frames}
    facts = {label: value for label, value in one.facts if value != "-"}
    if isinstance(source, Series):
        facts.pop("Position", "")  # each of its frames has its own
        notes = [printable(note) for note in source.notes]
        entry |= {"notes": notes, "texts": facts}
    else:
        entry["texts"] = shown_texts(one, "instance", options) | facts
        entry["name"] = entry["texts"].pop("SegmentLabel", None) or entry["name"]
    if isinstance(source, Presentation):
        shown = [(each.slice.source.own_name, each.frame) for each in source.shown]
        named = [name if at is None else f"{name} ({at + 1})" for name, at in shown]
        entry["texts"]["Shows"] = printable(shortened(named, 3))
        entry["shows"] = [pair for shown in source.shown for pair in pairs_of(outcome, shown, root)]
    if one.durations and options.frame_rate is None:
        entry["begins"] = [0.0, *map(float, accumulate(one.durations))]
    if one.burned_in:
        entry["burned"] = True
    if outcome.status == Status.FAILED:
        entry["failed"] = outcome.reason
    return entry


def link_to(path: Path, root: str) -> str:
    """Return how the page in *root* calls an output."""
    return "/".join(quote(os.fsencode(part)) for part in path.relative_to(root).parts)


def pairs_of(outcome: Outcome, shown: Shown, root: str) -> Iterator[tuple[str, str | None, int]]:
    """Yield what shows an image, what a state made of it, and of which frame from 1 (0: all)."""
    praises = cast(Instance, outcome.instance).praises
    begins = f"{outcome.outputs[-1].stem}{shown.suffix}." if outcome.outputs else ""
    made = [path for path in outcome.outputs[:-1] if path.name.startswith(begins)]
    frame = () if shown.frame is None else (f"-{shown.frame + 1:04}.png",)
    ends = (*frame, ".mp4", ".gif", ".png", ".pdf", ".txt")
    found = ([path for path in shown.outputs if path.name.endswith(end)] for end in ends)
    for image in next(filter(None, found), [])[: 1 if praises is None else None]:
        own = [path for end in (image.suffix, "") for path in made if path.name.endswith(end)]
        at = 0 if shown.frame is None or image.suffix != ".mp4" else shown.frame + 1
        if own or praises is not None:
            key = "" if praises else None  # which lists of key images make, of rejected ones
            yield link_to(image, root), link_to(own[0], root) if own else key, at


def page_place(root: Path, name: str) -> Path:
    """Return where in *root* a page *name* goes: in place of one of ours, else to the next name."""
    places = (root / f"{each}.html" for each in numbered(name))
    return next(path for path in places if not os.path.lexists(path) or is_page(path))


def write_page(place: Path, series: Iterable[Entry], head: Entry) -> None:
    """Write the page at *place* of *series*, which come one by one, and of what *head* tells."""
    head = {"generator": f"dicom_converter {__version__}", "failed": []} | head
    before, after = page_parts()
    with closing(Outputs(place, place.parent)) as outputs:
        part = outputs.part("")
        with part.open("wb") as file:
            file.write(before)
            for entry in chain([head], series):
                file.write(json.dumps(entry).replace("<", "\\u003c").encode("ascii") + b"\n")
            file.write(after)
        part.replace(place)


def is_page(path: Path) -> bool:
    """Tell whether a page of ours is at *path*."""
    return not path.is_symlink() and head_of(path).startswith(PAGE.partition("\n")[0].encode())


# --- Installation ---------------------------------------------------------------------------------


def decoder_trial(codec: str, module: str = "") -> str:
    """Decode what imagecodecs encodes without loss, by itself or with a *module* of pylibjpeg."""
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    settings = {"lossless": True} if codec == "jpeg8" else {}  # by default the others are so
    code = getattr(imagecodecs, f"{codec}_encode")(picture, **settings)
    decode = import_module(module).decode if module else getattr(imagecodecs, f"{codec}_decode")
    if not np.array_equal(decode(code), picture):
        raise ConversionError("it decodes wrongly")
    return "" if module else str(getattr(imagecodecs, f"{codec}_version")())


def video_trial(codec: str, mode: Literal["r", "w"]) -> str:
    """Look for a codec in FFmpeg."""
    import av

    av.Codec(codec, mode)
    return f"FFmpeg {av.ffmpeg_version_info}"


def clip_trial() -> str:
    """Write a clip, and open and decode it as the videos inside DICOM are."""
    picture = np.full((16, 16), 200, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_mp4(path, [picture] * 2, Timing((Fraction(1, 10),) * 2, ""))
        with path.open("rb", buffering=0) as file:
            frames = [frame[..., 0] for frame in decoded_pictures(lambda: file)]
    if not np.allclose(frames, [picture] * 2, atol=8):
        raise ConversionError("it decodes wrongly")
    return video_trial("libx264", "w")


def pillow_trial() -> str:
    """Look for the library that applies ICC profiles."""
    from PIL import features

    if not (release := features.version("littlecms2")):
        raise ConversionError("it lacks littlecms")
    return f"littlecms {release}"


# What the program can do, the distribution that does it, and a trial of that, which raises where it
# fails; a text that it returns names the library inside. Those tried by `str` are imported above.
CAPABILITIES: tuple[tuple[str, str, Callable[[], object]], ...] = (
    ("reads DICOM, RLE, deflated, uncompressed", "pydicom", str),
    ("decodes JPEG, 8 to 16 bits, lossless", "imagecodecs", partial(decoder_trial, "jpeg8")),
    ("decodes JPEG-LS", "imagecodecs", partial(decoder_trial, "jpegls")),
    ("decodes JPEG 2000, HTJ2K", "imagecodecs", partial(decoder_trial, "jpeg2k")),
    ("decodes JPEG XL", "imagecodecs", partial(decoder_trial, "jpegxl")),
    ("decodes odd JPEG", "pylibjpeg-libjpeg", partial(decoder_trial, "jpeg8", "libjpeg")),
    ("decodes odd JPEG 2000", "pylibjpeg-openjpeg", partial(decoder_trial, "jpeg2k", "openjpeg")),
    ("calls these two", "pylibjpeg", partial(import_module, "pylibjpeg")),
    ("decodes MPEG-2 video", "av", partial(video_trial, "mpeg2video", "r")),
    ("decodes H.264 video", "av", partial(video_trial, "h264", "r")),
    ("decodes HEVC video", "av", partial(video_trial, "hevc", "r")),
    ("encodes H.264 video (MP4), opens it", "av", clip_trial),
    ("encodes AAC sound (MP4)", "av", partial(video_trial, "aac", "w")),
    ("encodes GIF", "av", partial(video_trial, "gif", "w")),
    ("encodes PNG", "isal", str),
    ("makes palettes of GIFs, applies ICC profiles", "pillow", pillow_trial),
    (
        "maps gray levels and colors",  # of 16 bits since OpenCV 5
        "opencv-python-headless",
        lambda: cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros(1 << 16, np.uint16)),
    ),
    ("computes", "numpy", str),
    ("knows what names a patient", "dicom-anonymizer", partial(is_left_out, "PatientID")),
    ("shows progress", "rich", partial(import_module, "rich.progress")),
)


def check_installation() -> int:
    """Print what this installation can do, each with its library; return the exit code."""
    exit_code = 0
    for what, library, trial in CAPABILITIES:
        inside, error = attempt(trial, Options())
        if error:
            exit_code, reason = 1, one_line(str(error))
            say(f"dicom_converter: {library} is missing or broken ({reason}): {CURE}", sys.stderr)
            continue
        release, _ = attempt(partial(version, library), Options())
        detail = f" ({inside})" if inside and isinstance(inside, str) else ""
        say(f"{what:<46} {library} {release or 'of unknown version'}{detail}", sys.stdout)
    return exit_code


# --- Command line ---------------------------------------------------------------------------------

MAX_WORKERS_PER_CORE = 4
MAX_WINDOW = 1e12  # of a center or width that somebody asks for
HELP = __doc__ or "options are told by README.md alone where Python leaves out docstrings (-OO)\n"


def input_path(value: str) -> Path:
    """Read a path; an empty one is a shell variable that was not set."""
    if not value:
        raise ArgumentTypeError("an empty path")
    path = Path(value)
    return path.absolute() if path == STDIN and value != "-" else path


def frame_rate(value: str) -> Fraction | None:
    """Read the argument of --fps: frames a second, or None for `auto`."""
    if value == "auto":
        return None
    rate = Fraction()
    with suppress(ValueError, ZeroDivisionError):
        rate = Fraction(value)
    if not 1 / MAX_DURATION <= rate <= 1 / MIN_DURATION:
        raise ArgumentTypeError(f"{value!r} is neither `auto` nor a rate up to {MAX_FRAME_RATE}")
    return rate.limit_denominator(1_000_000)


def window_choice(value: str) -> WindowChoice:
    """Read the argument of --window: auto, full, a number, center and width, or a name."""
    value = value.strip()
    if re.fullmatch(r"[1-9]\d{0,3}", value):
        return int(value)
    with suppress(ValueError):
        center, width = map(float, value.split(","))
        if abs(center) < MAX_WINDOW and 1 <= width < MAX_WINDOW:
            return Window(center, width)
    if not re.search(r"[^\W\d]", value) or "," in value:
        meant = "auto, full, a number, CENTER,WIDTH (at least 1) and a name"
        raise ArgumentTypeError(f"{value!r} is none of {meant}")
    return value.casefold() if value.casefold() in ("auto", "full") else value


def frame_selection(value: str) -> str:
    """Read the argument of --frames: a list of `all`, `middle`, numbers and ranges from 1."""
    for part in value.split(","):
        ends = re.fullmatch(r"([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?", part)
        if part not in ("all", "middle") and (not ends or int(ends[2] or ends[1]) < int(ends[1])):
            raise ArgumentTypeError(f"{part!r} is none of all, middle, 1 and 10-20")
    return value


class Parser(ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print *message*, with the option that is nearest to an unknown one, and exit."""
        unknown = re.match(r"unrecognized arguments: (-[^ =]+)", message)
        near = get_close_matches(unknown[1], self._option_string_actions) if unknown else []
        meant = f" (did you mean {near[0]}?)" if near else ""
        said = f"dicom_converter: {one_line(message)}{meant}; --help lists the options"
        say(said, sys.stderr)
        sys.exit(2)

    def format_help(self) -> str:
        """Return what this file begins with."""
        return HELP


def argument_parser() -> Parser:
    """Return the parser of the command line, by which `Options` come about."""
    parser = Parser(prog="dicom_converter.py", add_help=False)
    parser._negative_number_matcher = re.compile(r"-\.?\d[\d.,eE+-]*$")  # -600,1500 is no option
    parser.set_defaults(**asdict(Options(jobs=available_cores())))
    add, seconds = parser.add_argument, r"\d{1,9}(\.\d{1,6})?"
    add("input_path", nargs="*", type=input_path)
    add("-o", "--output", type=input_path)
    add("--8bit", dest="png_bits", action="store_const", const=8)
    add("--fps", dest="frame_rate", type=frame_rate)
    add("--window", type=window_choice)
    add("--frames", type=frame_selection)
    for name in ("mp4", "gif", "overlays", "shutter", "names"):
        add(f"--no-{name}", dest=name, action="store_false")
    for name in ("native-pixels", "study", "resume", "debug", "check"):
        add(f"--{name}", action="store_true")
    add("-j", "--jobs", type=partial(typed, r"[1-9]\d{0,3}", "from 1 on"))
    add("--timeout", type=partial(typed, seconds, "of seconds"))
    add("--report", type=report_path)
    add("--dask")
    add("-q", "--quiet", action="store_true")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    add("-h", "--help", action="help")
    return parser


def typed(pattern: str, meant: str, value: str) -> float:
    """Read a number that is written like *pattern*, a whole one as such."""
    if not re.fullmatch(pattern, value):
        raise ArgumentTypeError(f"{value!r} is not a number {meant}")
    return int(value) if value.isdigit() else float(value)


def report_path(value: str) -> Path:
    """Read the path of a report, whose name says its form."""
    path = input_path(value)
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ArgumentTypeError(f"{value!r} ends neither in .csv nor in .jsonl")
    return path


def parse_args(arguments: Sequence[str] | None) -> tuple[list[Path], Options]:
    """Turn the command line into the inputs and the frozen options."""
    found = vars(argument_parser().parse_intermixed_args(arguments))
    return found.pop("input_path") or [DEFAULT_INPUT], Options(**found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    inputs, options = parse_args(arguments)
    if options.check:
        return check_installation()
    if inputs == [DEFAULT_INPUT] and not exists(DEFAULT_INPUT):
        usage, _, _ = HELP.partition("\n\ninput and output")
        say(f"{usage}\n\nno input is named, and no {DEFAULT_INPUT} is here", sys.stderr)
        return 1
    tally = Tally()
    try:
        run(inputs, options, tally)
    except KeyboardInterrupt:
        done = next(tally.lines()) or "nothing done"
        say(f"dicom_converter: interrupted: {done}; --resume goes on from here", sys.stderr)
        return 130
    except (ConversionError, OSError, sqlite3.Error) as error:  # of the run, not of a source
        name = getattr(error, "filename", None)
        where = f"{printable(str(name))}: " if name else ""
        say(f"dicom_converter: {where}{reason_of(error)}", sys.stderr)
        return 1
    return summed_up(inputs, options, tally)


def summed_up(inputs: Sequence[Path], options: Options, tally: Tally) -> int:
    """Say how a whole run ended; return the exit code."""
    if not tally.counts.keys() - {Status.SKIPPED}:
        where = ", ".join(printable(str(path)) for path in inputs)
        say(f"dicom_converter: {where}: no DICOM files found", sys.stderr)
        return 1
    page = options.output / "index.html"
    if not (options.names or options.study) and is_page(page):
        cure = "is of an earlier run and may hold names: remove it, or add --study"
        say(f"dicom_converter: {printable(str(page))} {cure}", sys.stderr)
    if not options.quiet:
        for line in tally.lines():
            say(line, sys.stdout)
        hint = f"open {printable(str(tally.page))} in a browser"
        elsewhere = tally.page is not None and tally.page.name != "index.html"
        told = tally.page or tally.pictures > MANY_INPUTS
        if elsewhere or (told and is_terminal(sys.stdout)):
            say(hint if tally.page else "--study makes one page of all pictures", sys.stdout)
    return 1 if tally.counts[Status.FAILED] else 0


def command() -> int:
    """Run the command line of this process; return the exit code."""
    gc.freeze()
    gc.enable()
    logging.disable()  # Dask would tell in a hundred lines what the reason of an error says in one
    for ending in ENDINGS:
        if ending in ENDINGS[:2] or signal.getsignal(ending) != signal.SIG_IGN:  # by nohup
            signal.signal(ending, interrupted)
    try:
        return main()
    except KeyboardInterrupt:  # before there is anything to say of
        return 130
    finally:
        hold_endings()  # the interpreter would print a traceback


def interrupted(*_: Any) -> None:
    """End the run at the first signal; a second one would leave temporary files."""
    hold_endings()
    raise KeyboardInterrupt


def hold_endings() -> None:
    """Ignore from now on what ends a run; SIG_IGN would tell of one that has just come."""
    for ending in ENDINGS:
        signal.signal(ending, lambda *_: None)


def workers_for(inputs: Sequence[Path], options: Options) -> Workers | Cluster:
    """Return what converts *inputs*, with no more processes than these can want."""
    if options.dask:
        return Cluster(options)
    wanted = options.jobs if any(map(is_medium, inputs)) else len(inputs)
    workers = min(options.jobs, wanted, MAX_WORKERS_PER_CORE * available_cores())
    return Workers(workers, memory_of_worker(workers))


def run(inputs: Sequence[Path], options: Options, tally: Tally) -> None:
    """Convert all *inputs*; report, show and count how each ended. Raises `ConversionError`."""
    if os.path.islink(options.output) and not exists(options.output):  # noqa: PTH114 - never raises
        name = printable(str(options.output))
        raise ConversionError(f"{name}: is a link to nothing: name another folder with -o")
    with (
        closing(workers_for(inputs, options)) as where,  # forked while there are no threads
        opened_report(options.report) as record,
        display(inputs, options) as show,
        closing(Worker(memory_of_worker(1))) as lister,
        closing(Shelf()) as shelf,
    ):
        reader = partial(lister.result_of, options, listed_names)
        first = partial(find_sources, inputs, options.output, reader)
        states, lists = (
            partial(presentations, shelf, keys=keys, names=options.names) for keys in (False, True)
        )
        rounds = first, partial(series_works, shelf), states, lists
        found = (find() for find in (rounds if options.study else rounds[:1]))
        for outcome in chain.from_iterable(convert_all(each, options, where) for each in found):
            if outcome.status == Status.WAITING:
                shelf.add(outcome)
                continue
            tally.add(outcome)
            record(outcome)
            if options.study:
                shelf.add(outcome)
            if outcome.stops:  # all that follow would fail alike
                cure = "mend that, or name another folder with -o, and add --resume"
                raise ConversionError(f"{outcome.reason}: {cure}")
            show(outcome)
        if options.study and tally.counts.keys() - {Status.SKIPPED}:
            tally.page = write_pages(shelf, options)


if __name__ == "__main__":
    sys.exit(command())
