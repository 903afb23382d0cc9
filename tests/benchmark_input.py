"""Make the input of `benchmark.py`: computed pictures under headers as scanners write them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
from make_samples import add_pixels, angiography, chest_slice, common, lossless, ultrasound
from pydicom._private_dict import private_dictionaries
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """What pictures show, and how they are stored."""

    name: str
    modality: str
    sop_class: UID
    size: tuple[int, int]  # (columns, rows) in pixels
    noise: float  # standard deviation, in stored values, of what is not in the picture yet


CT = Kind("CT", "CT", CTImageStorage, (512, 512), 6)
RADIOGRAPH = Kind("radiograph", "DX", DigitalXRayImageStorageForPresentation, (1760, 2140), 12)
ANGIOGRAPHY = Kind("angiography", "XA", XRayAngiographicImageStorage, (512, 512), 2)
ULTRASOUND = Kind("color ultrasound", "US", UltrasoundMultiFrameImageStorage, (640, 480), 0)
TINY = Kind("tiny image", "CT", CTImageStorage, (8, 8), 0)
STILLS = (CT, RADIOGRAPH, TINY)
DISTINCT_STILLS, DISTINCT_FRAMES = 6, 30  # further files and frames repeat these

# What a header says does not matter here; how much of it there is, and of which types, does.
KEYWORDS = """
    ImageType InstanceCreationDate InstanceCreationTime SeriesDate AcquisitionDate ContentDate
    SeriesTime AcquisitionTime ContentTime AcquisitionDateTime ReferringPhysicianName StationName
    StudyDescription SeriesDescription InstitutionalDepartmentName PerformingPhysicianName
    OperatorsName PatientAge PatientSize PatientWeight PregnancyStatus AdditionalPatientHistory
    ScanOptions SliceThickness KVP SpacingBetweenSlices DataCollectionDiameter DeviceSerialNumber
    SoftwareVersions ProtocolName ContrastBolusAgent ContrastBolusRoute ReconstructionDiameter
    DistanceSourceToDetector DistanceSourceToPatient GantryDetectorTilt TableHeight
    RotationDirection ExposureTime XRayTubeCurrent Exposure FilterType GeneratorPower FocalSpots
    DateOfLastCalibration TimeOfLastCalibration ConvolutionKernel RevolutionTime
    SingleCollimationWidth TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor
    CTDIvol AcquisitionNumber FrameOfReferenceUID PositionReferenceIndicator ImageComments
    RequestedProcedureDescription PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedProcedureStepID PerformedProcedureStepDescription RequestedProcedureID
"""
CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
SEQUENCES = {
    "ReferencedStudySequence": REFERENCE,
    "ReferencedImageSequence": REFERENCE,
    "ProcedureCodeSequence": CODE,
    "AnatomicRegionSequence": CODE,
    "RequestAttributesSequence": ("RequestedProcedureID", "ScheduledProcedureStepID"),
}
# Elements of each creator, as pydicom's dictionary has them: more than half of a real CT's header.
PRIVATE = {"GEMS_IDEN_01": 14, "GEMS_ACQU_01": 74, "GEMS_RELA_01": 23, "GEMS_PARM_01": 40}
VALUES: dict[str, Any] = {  # for each type
    "AS": "061Y",
    "CS": "AXIAL",
    "DA": "20200102",
    "DS": "630.000000",
    "DT": "20200102101112.250000",
    "FD": 0.5,
    "FL": 1.5,
    "IS": "200",
    "LO": "BODY FILTER",
    "LT": "Nothing to be said",
    "OB": bytes(32),
    "PN": "Reader^Invented",
    "SH": "STANDARD",
    "SL": 172,
    "SS": -2,
    "ST": "Low dose",
    "TM": "101112.25",
    "UI": "1.2.840.10008.1.1",
    "UL": 978668950,
    "US": 3,
}
# Stands for the number of a file: in its UID, which must be its own, instance number and place.
NUMBER = b"87654321"


def make_input(folder: Path, kind: Kind, syntax: UID, files: int, frames: int) -> None:
    """Write *files* into *folder*; tiny ones, which are many, into folders of 1,000."""
    parts = []
    for ds in data_sets(kind, syntax, files, frames):
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        head, tag, pixels = file.getvalue().partition(b"\xe0\x7f\x10\x00O")
        parts.append((head, tag + pixels))
    for number, (head, pixels) in zip(range(files), cycle(parts), strict=False):
        place = folder / f"{number // 1000:03}" if kind == TINY else folder
        place.mkdir(parents=True, exist_ok=True)
        numbered = head.replace(NUMBER, b"%d" % (10**7 + number))
        (place / f"{number:06}.dcm").write_bytes(numbered + pixels)


def data_sets(kind: Kind, syntax: UID, files: int, frames: int) -> Iterator[Dataset]:
    """Yield the images of which *files* are made: several, or one clip."""
    if kind in STILLS:
        for picture in pictures(kind, chest_slice()[None], min(files, DISTINCT_STILLS)):
            yield still(kind, syntax, picture)
        return
    encode: Any = partial(lossless, bits=8)
    if kind == ULTRASOUND:
        encode = partial(
            imagecodecs.jpeg8_encode,
            level=88,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="422",
        )
    shown = angiography() if kind == ANGIOGRAPHY else ultrasound()
    codes = [bytes(encode(picture)) for picture in pictures(kind, shown, DISTINCT_FRAMES)]
    yield clip(kind, syntax, list(islice(cycle(codes), frames)))


def pictures(kind: Kind, shown: Array, count: int) -> Iterator[Array]:
    """Yield *count* pictures, uint16 or uint8, of what is *shown* in turn."""
    rng = np.random.default_rng(1913)
    for number, picture in zip(range(count), cycle(shown), strict=False):
        moved = np.roll(picture, 9 * number, axis=1) + 1024 if kind in STILLS else picture
        large = cv2.resize(moved.astype(np.float32), kind.size)
        large = large + kind.noise * rng.standard_normal(large.shape, np.float32)
        top, word = (4095, np.uint16) if kind in STILLS else (255, np.uint8)
        yield np.clip(np.rint(large), 0, top).astype(word)


def still(kind: Kind, syntax: UID, stored: Array) -> Dataset:
    """Return an image of 12 bits in 16."""
    ds = header(kind, ExplicitVRLittleEndian if syntax == RLELossless else syntax)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -500], [400, 1500]
    if syntax == JPEGLosslessSV1:
        add_pixels(ds, [lossless(stored, 12)], stored.shape)
    elif syntax == JPEG2000Lossless:
        code = imagecodecs.jpeg2k_encode(stored, 0, codecformat="j2k", reversible=True)
        add_pixels(ds, [code], stored.shape)
    else:
        ds.Rows, ds.Columns = stored.shape
        ds.PixelData = stored.tobytes()
        ds["PixelData"].VR = "OW"
        if syntax == RLELossless:
            ds.compress(RLELossless, generate_instance_uid=False)
    return ds


def clip(kind: Kind, syntax: UID, codes: list[bytes]) -> Dataset:
    """Return a clip of the frames *codes*, of 8 bits."""
    ds = header(kind, syntax)
    add_pixels(ds, codes, kind.size[::-1])
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = len(codes), 66.7, 0x00181063
    if kind == ULTRASOUND:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
        ds.PhotometricInterpretation = "YBR_FULL_422"
    else:
        ds.WindowCenter, ds.WindowWidth = 128, 256
    return ds


def header(kind: Kind, syntax: UID) -> Dataset:
    """Return what all inputs share: some 290 elements, of tiny ones few."""
    ds = common(kind.modality, kind.sop_class, syntax, 0)
    if kind != TINY:
        add_elements(ds)
    uid = f"{ds.SOPInstanceUID}.{NUMBER.decode()}"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    ds.InstanceNumber = ds.SliceLocation = NUMBER.decode()
    ds.ImagePositionPatient = [0, 0, ds.SliceLocation]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return ds


def add_elements(ds: Dataset) -> None:
    """Add to *ds* what a scanner adds: plain elements, sequences and private elements."""
    for keyword in KEYWORDS.split():
        setattr(ds, keyword, VALUES[dictionary_VR(keyword)])
    for keyword, inside in SEQUENCES.items():
        items = [Dataset(), Dataset()]
        for item in items:
            for name in inside:
                setattr(item, name, VALUES[dictionary_VR(name)])
        setattr(ds, keyword, items)
    for creator, wanted in PRIVATE.items():
        known = private_dictionaries[creator].items()
        fitting = [(tag, what[0]) for tag, what in known if what[0] in VALUES and tag[4:6] == "xx"]
        for tag, vr in fitting[:wanted]:
            block = ds.private_block(int(tag[:4], 16), creator, create=True)
            block.add_new(int(tag[6:], 16), vr, VALUES[vr])
