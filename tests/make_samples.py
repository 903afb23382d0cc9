"""Write the sample files of `dicom_data/`: python tests/make_samples.py [FOLDER].

Everything in them is computed: a slice that looks like a chest CT, a run that looks like a coronary
angiography, a clip that looks like a color Doppler ultrasound. The same pixels come out each time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

Array = npt.NDArray[Any]
ROOT_UID = "2.25.31415926535897932384626433832795"


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Array:
    """Return noise of mean 0 and deviation 1, smooth over *scale* pixels."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), scale)
    return np.asarray((noise - noise.mean()) / noise.std())


def ellipse(
    shape: tuple[int, int], center: tuple[float, float], axes: tuple[float, float], angle: float = 0
) -> Array:
    """Return an anti-aliased filled ellipse, 0..1; *center* is (x, y) in pixels."""
    mask = np.zeros(shape, np.uint8)
    box = ((center[0], center[1]), (2 * axes[0], 2 * axes[1]), angle)
    cv2.ellipse(mask, box, 255, -1, cv2.LINE_AA)
    return np.asarray(mask / 255)


# --- Computed tomography --------------------------------------------------------------------------


def chest_slice() -> Array:
    """Return an axial chest slice in Hounsfield units, (512, 512) float."""
    rng = np.random.default_rng(1895)
    shape = (512, 512)
    hounsfield = np.full(shape, -1000.0)

    def put(mask: Array, value: float | Array) -> None:
        hounsfield[:] = hounsfield * (1 - mask) + value * mask

    body = ellipse(shape, (256, 262), (212, 150))
    put(body, -95 + 12 * smooth_noise(rng, shape, 5))
    put(ellipse(shape, (256, 262), (198, 136)), 48 + 14 * smooth_noise(rng, shape, 3))
    put(ellipse(shape, (256, 258), (182, 122)), -70 + 25 * smooth_noise(rng, shape, 4))
    for x, angle in ((168, 8), (346, -8)):
        lung = ellipse(shape, (x, 252), (82, 112), angle)
        vessels = np.clip(smooth_noise(rng, shape, 2.2) - 1.6, 0, 1) * 700
        put(lung, -860 + 30 * smooth_noise(rng, shape, 6) + vessels)
    put(ellipse(shape, (272, 218), (72, 62), -25), 46 + 8 * smooth_noise(rng, shape, 6))
    put(ellipse(shape, (292, 236), (36, 30), 10), 178 + 8 * smooth_noise(rng, shape, 8))
    put(ellipse(shape, (250, 198), (26, 24)), 165 + 8 * smooth_noise(rng, shape, 8))
    put(ellipse(shape, (250, 280), (30, 34)), 40)
    put(ellipse(shape, (288, 312), (19, 19)), 190)  # descending aorta
    put(ellipse(shape, (256, 276), (11, 9)), -960)  # airway
    put(ellipse(shape, (258, 342), (34, 27)), 620 + 90 * smooth_noise(rng, shape, 2))
    put(ellipse(shape, (258, 341), (25, 19)), 260 + 70 * smooth_noise(rng, shape, 2))
    put(ellipse(shape, (258, 374), (12, 10)), 32)  # spinal canal
    for x, y, angle in ((258, 392, 90), (226, 376, 25), (290, 376, -25)):
        put(ellipse(shape, (x, y), (17, 6), angle), 540)
    for degrees in range(0, 360, 24):
        if 66 < degrees < 114:
            continue
        radians = np.deg2rad(degrees)
        x, y = 256 + 190 * np.cos(radians), 262 + 129 * np.sin(radians)
        rib = (degrees + 90) % 180
        put(ellipse(shape, (x, y), (6, 13), rib), 560)
        put(ellipse(shape, (x, y), (3, 9), rib), 240)
    table = np.zeros(shape, np.uint8)
    cv2.ellipse(table, (256, 60), (420, 372), 0, 68, 112, 255, 4, cv2.LINE_AA)
    put(table / 255, -180)
    hounsfield[:] = cv2.GaussianBlur(hounsfield, (0, 0), 0.8)
    noise = 0.7 * rng.standard_normal(shape) + 0.7 * smooth_noise(rng, shape, 1)
    return np.asarray(hounsfield + noise * (6 + 8 * body))


def ct_sample() -> Dataset:
    """Return the slice as 12 bits in 16, signed, JPEG Lossless Process 14 SV1."""
    ds = common("CT", CTImageStorage, JPEGLosslessSV1, 0)
    stored = np.clip(np.rint(chest_slice()) + 500, -2048, 2047).astype(np.int16)
    add_pixels(ds, [lossless(stored.view(np.uint16) & 0x0FFF, 12)], stored.shape)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -500, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -500], [400, 1500]
    ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
    ds.PixelSpacing, ds.SliceThickness, ds.KVP = [0.78125, 0.78125], 5, 120
    ds.StudyDescription, ds.SeriesDescription = "Chest (computed)", "Axial 5 mm"
    ds.BodyPartExamined = "CHEST"
    return ds


# --- X-ray angiography ----------------------------------------------------------------------------

XA_SIDE, XA_FRAMES = 384, 28


def vessel_tree(rng: np.random.Generator) -> list[tuple[Array, Array, Array]]:
    """Return branches as (points (n, 2), radii (n,), distance from the catheter tip (n,))."""
    branches: list[tuple[Array, Array, Array]] = []
    open_ends = [
        ((118.0, 92.0), np.deg2rad(38), 6.4, 0.0, 0),
        ((122.0, 88.0), np.deg2rad(2), 5.6, 4.0, 0),
    ]
    while open_ends:
        (x, y), heading, radius, distance, depth = open_ends.pop()
        points, radii, distances = [], [], []
        bend = rng.normal(0, 0.010)
        for step in range(int(rng.integers(60, 95)) - 11 * depth):
            bend = 0.93 * bend + rng.normal(0, 0.006)
            heading += bend + 0.004
            x, y = x + 1.6 * np.cos(heading), y + 1.6 * np.sin(heading)
            radius *= 0.9965
            points.append((x, y))
            radii.append(radius)
            distances.append(distance + 1.6 * step)
            side = rng.choice((-1.0, 1.0))
            if depth < 3 and step > 8 and rng.random() < 0.035:
                turn = side * rng.uniform(0.5, 0.95)
                open_ends.append(((x, y), heading + turn, radius * 0.68, distances[-1], depth + 1))
        branches.append((np.array(points), np.array(radii), np.array(distances)))
        if radius > 1.4 and depth < 4:
            open_ends.append(
                ((x, y), heading + rng.normal(0, 0.25), radius * 0.9, distances[-1], depth + 1)
            )
    return branches


def contrast_at(seconds: float, branches: list[tuple[Array, Array, Array]]) -> Array:
    """Return how much contrast covers each pixel *seconds* after the injection began, 0..1."""
    drops = []
    for points, radii, distances in branches:
        filled = np.clip((seconds - 0.22 - distances / 260) / 0.25, 0, 1)
        level = filled * np.exp(-np.clip(seconds - 1.15, 0, None) * 1.6)
        tones = level * np.minimum(1.0, radii / 4.5 + 0.25)
        drops += [drop for drop in zip(tones, radii, points, strict=True) if drop[0] > 0.02]
    contrast = np.zeros((XA_SIDE, XA_SIDE), np.float32)
    for tone, radius, point in sorted(drops, key=lambda drop: float(drop[0])):  # the densest on top
        x, y = (round(value * 16) for value in point)
        size = max(int(radius * 16), 14)
        cv2.circle(contrast, (x, y), size, float(tone), -1, cv2.LINE_AA, 4)
    return contrast


def angiography() -> Array:
    """Return a run in which contrast fills and leaves a vessel tree, (30, 384, 384) uint8."""
    rng = np.random.default_rng(1929)
    shape = (XA_SIDE, XA_SIDE)
    y, x = np.mgrid[:XA_SIDE, :XA_SIDE].astype(np.float32)
    anatomy = 168 + 9 * smooth_noise(rng, shape, 40)
    anatomy -= 46 * cv2.GaussianBlur(ellipse(shape, (232, 236), (150, 122), 28), (0, 0), 16)
    anatomy -= 30 * cv2.GaussianBlur(ellipse(shape, (150, 470), (260, 150)), (0, 0), 9)
    anatomy -= 22 * np.exp(-(((x - 330 - 0.05 * y) / 30) ** 2))
    for rib in range(5):
        line = y - (20 + 74 * rib + 0.22 * x - 0.0009 * (x - 120) ** 2)
        anatomy -= 7 * np.exp(-((line / 9) ** 2))
    catheter = np.zeros(shape, np.uint8)
    bend = np.linspace(0, 1, 60)[:, None]
    path = (1 - bend) ** 2 * (64, -30) + 2 * bend * (1 - bend) * (70, 150) + bend**2 * (120, 90)
    cv2.polylines(catheter, [np.rint(path).astype(np.int32)], False, 255, 3, cv2.LINE_AA)
    branches = vessel_tree(rng)
    frames = []
    for frame in range(XA_FRAMES):
        seconds = frame / 15
        contrast = contrast_at(seconds, branches)
        blush = cv2.GaussianBlur(contrast, (0, 0), 22) * np.clip(seconds - 0.9, 0, 1) * 0.9
        attenuation = 92 * cv2.GaussianBlur(contrast, (0, 0), 0.9) + 34 * blush
        attenuation += 30 * (cv2.GaussianBlur(catheter, (0, 0), 0.8) / 255)
        beat = 5.5 * np.sin(2 * np.pi * 1.15 * seconds)
        moved = cv2.remap(
            (anatomy - attenuation).astype(np.float32),
            (x + beat * np.exp(-(((x - 230) / 150) ** 2)) * 0.8).astype(np.float32),
            (y + beat * np.exp(-(((y - 220) / 130) ** 2))).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        quantum = 0.17 * np.sqrt(np.clip(moved, 4, None)) * rng.standard_normal(shape)
        frames.append(np.clip(np.rint(moved + quantum), 0, 255).astype(np.uint8))
    return np.stack(frames)


def xa_sample() -> Dataset:
    """Return the run as 8 bits, JPEG Lossless Process 14 SV1, 66.7 ms a frame."""
    ds = common("XA", XRayAngiographicImageStorage, JPEGLosslessSV1, 1)
    frames = angiography()
    add_pixels(ds, [lossless(frame, 8) for frame in frames], frames.shape[1:])
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = len(frames), 66.7, 0x00181063
    ds.WindowCenter, ds.WindowWidth = 128, 256
    ds.StudyDescription, ds.SeriesDescription = "Coronary angiography (computed)", "LCA RAO 30"
    ds.BodyPartExamined, ds.KVP = "HEART", 80
    return ds


# --- Color ultrasound -----------------------------------------------------------------------------

US_ROWS, US_COLUMNS, US_FRAMES = 300, 400, 24


def ultrasound() -> Array:
    """Return a sector with a beating chamber and a colored flow region, (24, 300, 400, 3) RGB."""
    rng = np.random.default_rng(1842)
    shape = (US_ROWS, US_COLUMNS)
    y, x = np.mgrid[:US_ROWS, :US_COLUMNS].astype(np.float32)
    apex_x, apex_y = 200.0, 6.0
    radius, angle = np.hypot(x - apex_x, y - apex_y), np.arctan2(x - apex_x, y - apex_y)
    sector = (np.abs(angle) < np.deg2rad(38)) & (radius > 16) & (radius < 282)
    beams = (rng.standard_normal((300, 240)) ** 2 + rng.standard_normal((300, 240)) ** 2).astype(
        np.float32
    )
    beams = cv2.GaussianBlur(beams, (0, 0), sigmaX=1.5, sigmaY=0.8).astype(np.float32)
    lookup = ((angle / np.deg2rad(76) + 0.5) * 239).astype(np.float32), radius.astype(np.float32)
    frames = []
    for frame in range(US_FRAMES):
        phase = 2 * np.pi * frame / US_FRAMES
        squeeze = 1 + 0.13 * np.sin(phase)
        rolled = np.roll(beams, frame // 2, axis=0) * 0.35 + beams * 0.65
        speckle: Array = cv2.remap(rolled, *lookup, cv2.INTER_LINEAR)
        wall = np.hypot((x - 196) / (62 * squeeze), (y - 150) / (88 * squeeze))
        tissue = 62 + 26 * np.exp(-(((wall - 1.12) / 0.13) ** 2)) * 2.2
        tissue *= np.clip((wall - 0.86) / 0.16, 0.05, 1)
        valve = np.abs(y - 205 - 14 * np.sin(phase) * np.abs(x - 196) / 50) < 3
        tissue = np.where(valve & (wall < 1) & (np.abs(x - 196) > 8), 150, tissue)
        depth = np.exp(-radius / 420) * (0.75 + 0.25 * np.cos(angle * 2))
        echo = 70 * np.log1p(speckle * tissue * depth / 45)
        gray = np.clip(np.where(sector, echo, 0), 0, 255)
        picture = np.repeat(gray[..., None], 3, axis=2)
        velocity = np.cos(phase) * np.exp(-(((x - 196) / 26) ** 2)) * np.clip(1 - wall, 0, 1) * 2.4
        velocity += 0.25 * smooth_noise(rng, shape, 5) * (wall < 0.8)
        box = sector & (np.abs(angle) < np.deg2rad(17)) & (radius > 95) & (radius < 245)
        flow = np.clip(np.where(box & (wall < 0.92), velocity, 0), -1, 1)
        strong = np.clip(np.abs(flow) * 4 - 0.5, 0, 1)[..., None]
        picture = picture * (1 - strong) + doppler_color(flow) * strong
        ramp = np.linspace(1, -1, 120, dtype=np.float32)[:, None].repeat(12, axis=1)
        picture[40:160, 372:384] = doppler_color(ramp)
        frames.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return np.stack(frames)


def doppler_color(flow: Array) -> Array:
    """Return red to yellow for flow towards the probe, blue to cyan for flow away (-1..1)."""
    towards, away = np.clip(flow, 0, 1), np.clip(-flow, 0, 1)
    red = 255 * np.sqrt(towards)
    green = 210 * (towards**2 + away**2)
    blue = 255 * np.sqrt(away)
    return np.stack([red, green, blue], axis=-1)


def us_sample() -> Dataset:
    """Return the clip as JPEG baseline, YBR_FULL_422, 40 ms a frame."""
    ds = common("US", UltrasoundMultiFrameImageStorage, JPEGBaseline8Bit, 2)
    frames = ultrasound()
    codes = [
        imagecodecs.jpeg8_encode(
            frame, 88, colorspace="RGB", outcolorspace="YCBCR", subsampling="422"
        )
        for frame in frames
    ]
    add_pixels(ds, codes, frames.shape[1:3])
    ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = len(frames), 40, 0x00181063
    ds.LossyImageCompression = "01"
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 2, 2
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 130, 100
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 270, 250
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    ds.SequenceOfUltrasoundRegions = [region]
    ds.StudyDescription, ds.SeriesDescription = "Echocardiography (computed)", "Color Doppler"
    ds.BodyPartExamined = "HEART"
    return ds


# --- Files ----------------------------------------------------------------------------------------


def lossless(frame: Array, bits: int) -> bytes:
    """Return *frame* as JPEG Lossless, Process 14, Selection Value 1."""
    return bytes(imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1, bitspersample=bits))


def common(modality: str, sop_class: UID, syntax: UID, number: int) -> Dataset:
    """Return what the samples share; name, IDs and UIDs are plainly invented."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{ROOT_UID}{number}1")
    ds.file_meta.TransferSyntaxUID = syntax
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT_UID}{number}2", f"{ROOT_UID}{number}3"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = "Sample^Synthetic=样本^合成", "SAMPLE-0000"
    ds.PatientBirthDate, ds.PatientSex = "19000101", "O"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200102", "101112", "1", ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, number + 1, 1
    ds.Manufacturer, ds.ManufacturerModelName = "dicom_converter", "make_samples.py"
    ds.InstitutionName = "Nowhere General Hospital (invented)"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BurnedInAnnotation = "NO"
    return ds


def add_pixels(
    ds: Dataset, codes: Sequence[bytes | bytearray | memoryview], shape: tuple[int, ...]
) -> None:
    """Put the compressed frames *codes* into *ds*."""
    ds.Rows, ds.Columns = shape
    ds.PixelData = encapsulate([bytes(code) for code in codes])
    ds["PixelData"].VR = "OB"


def main(folder: Path) -> None:
    """Write the three samples into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate((ct_sample, xa_sample, us_sample)):
        sample().save_as(folder / f"DCM{number:05}", enforce_file_format=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "dicom_data")
