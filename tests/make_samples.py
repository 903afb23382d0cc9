"""Write the sample files of `dicom_data/`: python tests/make_samples.py [FOLDER].

Everything in them is computed: a slice that looks like a chest CT, and a series of such slices from
top to bottom; a run that looks like a coronary angiography; a clip that looks like a color Doppler
ultrasound. The same pixels come out each time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """Return the slice, 5 mm thick."""
    ds = ct_image(chest_slice())
    ds.PixelSpacing, ds.SliceThickness, ds.SeriesDescription = [0.78125, 0.78125], 5, "Axial 5 mm"
    return ds


def ct_image(hounsfield: Array) -> Dataset:
    """Return a slice as 12 bits in 16, signed, JPEG Lossless Process 14 SV1."""
    ds = common("CT", CTImageStorage, JPEGLosslessSV1, 0)
    stored = np.clip(np.rint(hounsfield) + 500, -2048, 2047).astype(np.int16)
    add_pixels(ds, [lossless(stored.view(np.uint16) & 0x0FFF, 12)], stored.shape)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -500, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -500], [400, 1500]
    ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
    ds.StudyDescription, ds.BodyPartExamined, ds.KVP = "Chest (computed)", "CHEST", 120
    return ds


# --- A series of the chest ------------------------------------------------------------------------

CT_SIDE, CT_SLICES, CT_SPACING = 192, 20, 400 / 192  # pixels, files, mm


@dataclass
class Slice:
    """An axial slice that is painted from back to front; all lengths are mm from its middle."""

    z: float  # how far below the topmost slice
    hounsfield: Array = field(default_factory=lambda: np.full((CT_SIDE, CT_SIDE), -1000.0))

    def mask(self, center: tuple[float, float], axes: tuple[float, float], angle: float) -> Array:
        """Return an ellipse, 0..1."""
        x, y = (CT_SIDE / 2 + value / CT_SPACING for value in center)
        width, height = (value / CT_SPACING for value in axes)
        return ellipse((CT_SIDE, CT_SIDE), (x, y), (width, height), angle)

    def put(self, mask: Array, value: float) -> None:
        """Cover what is there by *value*."""
        self.hounsfield += mask * (value - self.hounsfield)

    def tube(
        self, center: tuple[float, float], axes: tuple[float, float], value: float, angle: float = 0
    ) -> None:
        """Cut a thing that goes on above and below."""
        self.put(self.mask(center, axes, angle), value)

    def ball(
        self,
        center: tuple[float, float, float],
        axes: tuple[float, float, float],
        value: float,
        angle: float = 0,
    ) -> None:
        """Cut an ellipsoid: larger towards its middle, nothing beyond its ends."""
        across = 1 - ((self.z - center[2]) / axes[2]) ** 2
        if across > 0:
            scale = across**0.5
            self.tube(center[:2], (axes[0] * scale, axes[1] * scale), value, angle)

    def at(self, *values: float) -> float:
        """Return *values*, evenly spread from the topmost slice to the lowest, at this slice."""
        places = np.linspace(0, 10 * (CT_SLICES - 1), len(values))
        return float(np.interp(self.z, places, values))


def lung_vessels() -> list[tuple[float, float, float, float]]:
    """Return points (x, y, z, radius) on branches that run from the roots of the lungs."""
    rng = np.random.default_rng(1628)
    points = []
    for branch in range(96):
        side = 1 if branch % 2 else -1
        root = np.array([side * 30, 0, 88])
        end = np.array([side * rng.uniform(40, 140), rng.uniform(-85, 90), rng.uniform(0, 185)])
        bend = (root + end) / 2 + rng.normal(0, 14, 3)
        radius = rng.uniform(1.4, 4.2)
        for part in np.linspace(0, 1, 90):
            place = (1 - part) ** 2 * root + 2 * part * (1 - part) * bend + part**2 * end
            points.append((*place.tolist(), 0.5 + radius * (1 - part) ** 1.4))
    return points


def paint_trunk(cut: Slice) -> tuple[float, float]:
    """Paint skin, fat and muscle, and return the half width and height of the thorax."""
    width, height = cut.at(150, 160, 166, 167, 163), cut.at(80, 99, 112, 117, 116)
    chest = cut.at(62, 112, 133, 141, 143), cut.at(46, 75, 89, 93, 93)
    middle = 122 - height  # the back lies on the table
    cut.tube((0, middle), (width, height), -98)
    cut.tube((0, middle), (width - 10, height - 9), 52)
    for side in (-1, 1):  # fat between the muscles of the shoulder, and the shoulder blade
        cut.ball((side * 104, 66, 0), (34, 9, 130), -90, -side * 35)
        cut.ball((side * 114, 66, 40), (36, 4.5, 100), 420, -side * 48)
        cut.ball((side * 92, -12, 0), (40, 12, 45), -92, side * 20)
        cut.ball((side * 60, -8, 8), (46, 6, 22), 520, side * 24)  # collar bone
        cut.ball((side * 60, -8, 8), (40, 3, 15), 260, side * 24)
    cut.tube((0, 96 - chest[1]), chest, -80)
    return chest


def paint_lungs(
    cut: Slice, chest: tuple[float, float], vessels: list[tuple[float, float, float, float]]
) -> None:
    """Paint both lungs with their vessels, and a nodule in the left one."""
    tree = np.zeros((CT_SIDE, CT_SIDE), np.float32)
    near = [point for point in vessels if abs(point[2] - cut.z) < 4]
    for x, y, _, radius in sorted(near, key=lambda point: point[3]):
        column, row = (round(16 * (CT_SIDE / 2 + value / CT_SPACING)) for value in (x, y))
        size = max(round(16 * radius / CT_SPACING), 12)
        cv2.circle(tree, (column, row), size, min(1.0, radius / 2.2), -1, cv2.LINE_AA, 4)
    for side in (-1, 1):
        width, height = 0.46 * chest[0] - 2, chest[1] - 5
        lung = cut.mask((side * 0.52 * chest[0], 97 - chest[1]), (width, height), side * 5)
        cut.put(lung, -865)
        cut.put(lung * tree, 60)
    cut.ball((92, -22, 88), (13, 12, 14), 45)


def paint_heart(cut: Slice, front: float) -> None:
    """Paint what lies between the lungs: vessels, airways, gullet and the heart."""
    cut.tube((0, 12), (cut.at(34, 30, 36, 44, 40), cut.at(34, 48, 58, 54, 46)), -75)
    cut.tube((2, front + 12), (cut.at(20, 16, 14, 30, 30), 10), -85)
    cut.ball((18, 2, 128), (62, 50, 62), 48, 25)  # the heart, and its chambers
    cut.ball((40, 10, 134), (26, 19, 40), 165, 35)
    cut.ball((2, -10, 128), (25, 26, 44), 140, 20)
    cut.ball((8, 32, 118), (32, 15, 30), 160)
    if cut.z < 48:  # what leaves the arch for head and arms
        for x, y, radius in ((-22, -2, 8), (-8, -12, 6), (12, -2, 5), (20, 16, 6)):
            cut.tube((x * cut.at(1.3, 0.9, 0.6), y), (radius, radius), 175)
    cut.ball((6, 6, 54), (38, 13, 15), 180, 52)  # the arch, and what goes up and down from it
    cut.ball((6, -14, 88), (16, 16, 44), 180)
    if cut.z > 50:
        cut.tube((cut.at(26, 26, 24, 20, 10), 44), (12, 12), 178)
    cut.ball((20, -4, 82), (17, 15, 22), 190)  # the lung's artery, and its right and left branch
    cut.ball((-4, 12, 90), (36, 9, 11), 188, 8)
    cut.ball((36, 20, 80), (16, 10, 13), 188, 40)
    if 30 < cut.z < 115:
        cut.tube((-24, -2), (9, 10), 185)  # the vein from above
    cut.tube((4, cut.at(28, 36, 46, 44, 36)), (6, 5), 35)
    if cut.z < 76:
        cut.tube((0, cut.at(8, 14, 24, 24)), (9, 9), -985)
    apart = max(0.0, cut.z - 74)
    for side in (-1, 1):
        cut.ball((side * (9 + 0.9 * apart), 22, 86), (9, 7, 16), -980, side * 20)


def paint_bones(cut: Slice, chest: tuple[float, float]) -> None:
    """Paint spine, breast bone and ribs, which run forward as they go down."""
    disc = 0.5 + 0.5 * np.cos(2 * np.pi * (cut.z - 6) / 27)
    cut.tube((0, 76), (27, 20), 620 - 260 * disc)
    cut.tube((0, 76), (23, 16), 260 - 150 * disc)
    for side in (-1, 1):
        cut.tube((side * 26, 94), (22 - 8 * disc, 6), 480 - 200 * disc, side * 20)
        cut.tube((side * 14, 98), (9, 5), 520, -side * 35)
    cut.tube((0, 98), (10, 8), 35)
    cut.tube((0, 108), (5, 9 - 3 * disc), 560)
    front = 96 - 2 * chest[1]
    cut.ball((0, front - 3, 48), (cut.at(26, 24, 18), 8, 32), 380)
    cut.ball((0, front - 3, 48), (cut.at(23, 21, 15), 5, 28), 170)
    cut.ball((0, front - 3, 125), (18, 7, 62), 380)
    cut.ball((0, front - 3, 125), (15, 4, 58), 170)
    for side in (-1, 1):
        for number in range(8):
            turn = (24 * number + 0.9 * cut.z) % 192 - 6  # degrees from the spine
            angle = np.deg2rad(90 - side * turn)
            x, y = (chest[0] + 4) * np.cos(angle), 96 - chest[1] + (chest[1] + 3) * np.sin(angle)
            size = min(chest[0] / 143, (turn - 12) / 16, (166 - turn) / 16)
            if size > 0:
                along = np.rad2deg(np.arctan2(chest[1] * np.cos(angle), -chest[0] * np.sin(angle)))
                cut.tube((x, y), (14 * size, 4), 560, along)
                cut.tube((x, y), (11 * size, 2), 220, along)


def paint_belly(cut: Slice) -> None:
    """Paint the domes of liver and spleen, and the stomach."""
    cut.ball((-66, 2, 218), (70, 84, 66), 118)
    cut.ball((-14, -14, 222), (74, 46, 50), 116, -12)
    cut.ball((82, 46, 212), (40, 34, 46), 128, -30)
    cut.ball((74, -18, 216), (46, 40, 52), 30)
    cut.ball((70, -30, 214), (34, 22, 42), -940)
    if cut.z > 150:
        cut.tube((-26, 26), (13, 11), 130)  # the vein from below


def chest_volume() -> Array:
    """Return the series from top to bottom in Hounsfield units, (20, 192, 192) float."""
    rng = np.random.default_rng(1971)
    vessels = lung_vessels()
    slices = []
    for number in range(CT_SLICES):
        parts = []
        for inside in (-4, -2, 0, 2, 4):  # a slice is 10 mm thick
            cut = Slice(10 * number + inside)
            chest = paint_trunk(cut)
            paint_lungs(cut, chest, vessels)
            paint_heart(cut, 96 - 2 * chest[1])
            paint_belly(cut)
            paint_bones(cut, chest)
            cut.put(cut.mask((0, 131), (190, 3), 0), -250)  # the table
            parts.append(cut.hounsfield)
        picture = cv2.GaussianBlur(np.stack(parts).mean(axis=0), (0, 0), 0.6)
        noise = cv2.GaussianBlur(rng.standard_normal(picture.shape), (0, 0), 0.6)
        slices.append(picture + noise * np.where(picture > -900, 5, 1.5))
    return np.stack(slices)


def ct_series() -> list[Dataset]:
    """Return a second series of the CT sample's study, as files lie on a CD: in no order."""
    files = []
    for number, hounsfield in enumerate(chest_volume()):
        ds = ct_image(hounsfield)
        add_series(ds, number)
        files.append(ds)
    return [files[7 * number % CT_SLICES] for number in range(CT_SLICES)]


def add_series(ds: Dataset, number: int) -> None:
    """Say where the slice *number*, from the top, lies, and when it was made."""
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT_UID}04{number:02}")
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{ROOT_UID}05", f"{ROOT_UID}06"
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = 2, number + 1, "Axial 10 mm"
    ds.ImageType, ds.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-200, -200, -10 * number]
    ds.SliceLocation, ds.SliceThickness, ds.SpacingBetweenSlices = -10 * number, 10, 10
    ds.PixelSpacing = [round(CT_SPACING, 5)] * 2
    ds.AcquisitionDate = ds.SeriesDate = ds.ContentDate = ds.StudyDate
    ds.SeriesTime, ds.AcquisitionNumber = "101200", 1
    ds.AcquisitionTime = ds.ContentTime = f"1012{10 + number // 2:02}.{number % 2 * 5}"


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
    """Write the three samples into *folder*, and the series into a folder of its own."""
    (folder / "CT").mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate((ct_sample, xa_sample, us_sample)):
        sample().save_as(folder / f"DCM{number:05}", enforce_file_format=True)
    for number, ds in enumerate(ct_series(), 1):
        ds.save_as(folder / "CT" / f"IM{number:06}", enforce_file_format=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "dicom_data")
