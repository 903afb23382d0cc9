"""Presentation states (PS3.3 A.33), put together: `state(image, window(40, 400), turned(90))`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conftest import Array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

Point = tuple[float, float]  # x, y
PREFIX = "1.2.840.10008.5.1.4.1.1.11."
GRAY, COLOR, PSEUDO_COLOR, VARIABLE_LUT = (UID(f"{PREFIX}{number}") for number in (1, 2, 3, 12))
STUDY, SERIES = "1.2.3", "1.2.3.4"


def image_elements(**elements: Any) -> dict[str, Any]:
    """Return what makes a picture of `data_set` one that a state can name and DCMTK reads."""
    return {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "Modality": "CT",
    } | elements


# --- References -----------------------------------------------------------------------------------


def reference(image: Dataset, frames: Sequence[int] = ()) -> Dataset:
    """Return the item that names *image*, or some of its *frames* (PS3.3 Table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    if frames:
        item.ReferencedFrameNumber = list(frames)
    return item


Named = Dataset | tuple[Dataset, Sequence[int]]  # an image, or frames of one
AllNamed = Named | Sequence[Named]


def listed(named: AllNamed) -> list[Named]:
    """Return *named* as a list."""
    if isinstance(named, Dataset):
        return [named]
    return [named] if isinstance(named, tuple) else list(named)


def references(named: Iterable[Named]) -> Items:
    """Return the items that name each of *named*."""
    return Items([reference(*one) if isinstance(one, tuple) else reference(one) for one in named])


def relationship(named: Sequence[Named]) -> Dataset:
    """Return the Presentation State Relationship module (PS3.3 C.11.11): items by series."""
    part, by_series = Dataset(), dict[str, list[Named]]()
    for one in named:
        image = one[0] if isinstance(one, tuple) else one
        by_series.setdefault(image.SeriesInstanceUID, []).append(one)
    part.ReferencedSeriesSequence = []
    for series, members in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedImageSequence = series, references(members)
        part.ReferencedSeriesSequence.append(item)
    return part


def scoped(item: Dataset, images: Iterable[Named]) -> Dataset:
    """Return *item* for those *images* alone, for all without any."""
    if found := references(images):
        item.ReferencedImageSequence = found
    return item


# --- Gray levels ----------------------------------------------------------------------------------


def rescale(slope: float, intercept: float) -> Dataset:
    """Return the modality step (PS3.3 C.11.1) as numbers."""
    part = Dataset()
    part.RescaleIntercept, part.RescaleSlope, part.RescaleType = str(intercept), str(slope), "US"
    return part


def table(entries: Sequence[int] | Array, first: int, bits: int, signed: bool = False) -> Dataset:
    """Return an item with a look-up table; *first* is the value of its first entry."""
    item, count = Dataset(), len(entries) % 65536
    vr = "SS" if signed else "US"
    item.add_new("LUTDescriptor", vr, [as_word(count, signed), first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def as_word(value: int, signed: bool) -> int:
    """Return *value* as a word of 16 bits holds it."""
    return int(struct.unpack("<h", struct.pack("<H", value))[0]) if signed else value


def modality_table(entries: Sequence[int] | Array, first: int, bits: int, **kind: Any) -> Dataset:
    """Return the modality step as a table."""
    item, part = table(entries, first, bits, **kind), Dataset()
    item.ModalityLUTType = "US"
    part.ModalityLUTSequence = [item]
    return part


def window(
    center: float, width: float, function: str = "LINEAR", images: Iterable[Named] = ()
) -> Dataset:
    """Return a Softcopy VOI item (PS3.3 C.11.8) with a window."""
    item, part = Dataset(), Dataset()
    item.WindowCenter, item.WindowWidth = str(center), str(width)
    if function != "LINEAR":
        item.VOILUTFunction = function
    part.SoftcopyVOILUTSequence = [scoped(item, images)]
    return part


def voi_table(
    entries: Sequence[int] | Array,
    first: int,
    bits: int,
    images: Iterable[Named] = (),
    **kind: Any,
) -> Dataset:
    """Return a Softcopy VOI item with a table."""
    item, part = Dataset(), Dataset()
    item.VOILUTSequence = [table(entries, first, bits, **kind)]
    part.SoftcopyVOILUTSequence = [scoped(item, images)]
    return part


def shape(value: str) -> Dataset:
    """Return the presentation step (PS3.3 C.11.6) as IDENTITY or INVERSE."""
    part = Dataset()
    part.PresentationLUTShape = value
    return part


def presentation_table(entries: Sequence[int] | Array, bits: int) -> Dataset:
    """Return the presentation step as a table, whose first entry is always for 0."""
    part = Dataset()
    part.PresentationLUTSequence = [table(entries, 0, bits)]
    return part


def palette(red: Array, green: Array, blue: Array, bits: int = 8) -> Dataset:
    """Return the palette of a Pseudo-Color state, for 0 on."""
    part = Dataset()
    for color, entries in (("Red", red), ("Green", green), ("Blue", blue)):
        name = f"{color}PaletteColorLookupTable"
        part.add_new(f"{name}Descriptor", "US", [len(entries) % 65536, 0, bits])
        raw = np.asarray(entries, "u1" if bits == 8 else "<u2").tobytes()
        part.add_new(f"{name}Data", "OW", raw)
    return part


# --- Shutters -------------------------------------------------------------------------------------


def shutter(gray: int = 0, lab: Sequence[int] = (), **shapes: Sequence[int]) -> Dataset:
    """Return a Display Shutter (PS3.3 C.7.6.11) of one or more shapes.

    *rectangle* is left, right, upper, lower; *circle* row, column, radius; *polygon* rows and
    columns in turn; all from 1. *gray* is a level of 16 bits.
    """
    part = Dataset()
    names = {"rectangle": "RECTANGULAR", "circle": "CIRCULAR", "polygon": "POLYGONAL"}
    part.ShutterShape = [names[name] for name in shapes]
    if edges := shapes.get("rectangle"):
        part.ShutterLeftVerticalEdge, part.ShutterRightVerticalEdge = edges[:2]
        part.ShutterUpperHorizontalEdge, part.ShutterLowerHorizontalEdge = edges[2:]
    if circle := shapes.get("circle"):
        part.CenterOfCircularShutter, part.RadiusOfCircularShutter = list(circle[:2]), circle[2]
    if polygon := shapes.get("polygon"):
        part.VerticesOfThePolygonalShutter = list(polygon)
    return colored_shutter(part, gray, lab)


def bitmap_shutter(
    hidden: Array, gray: int = 0, lab: Sequence[int] = (), group: int = 0x6000
) -> Dataset:
    """Return a Bitmap Display Shutter (PS3.3 C.7.6.15): *hidden* pixels are covered."""
    part = overlay(hidden, group, layer=None)
    part.ShutterShape, part.ShutterOverlayGroup = "BITMAP", group
    return colored_shutter(part, gray, lab)


def colored_shutter(part: Dataset, gray: int, lab: Sequence[int]) -> Dataset:
    """Return *part* with the color of its shutter."""
    part.ShutterPresentationValue = gray
    if lab:
        part.ShutterPresentationColorCIELabValue = list(lab)
    return part


# --- Geometry -------------------------------------------------------------------------------------


def turned(rotation: int, flip: bool = False) -> Dataset:
    """Return the Spatial Transformation (PS3.3 C.10.6): clockwise first, then left to right."""
    part = Dataset()
    part.ImageRotation, part.ImageHorizontalFlip = rotation, "Y" if flip else "N"
    return part


Rectangle = tuple[int, int, int, int]  # left, top, right, bottom, pixels from 1, inclusive


def corners(rectangle: Rectangle, rotation: int = 0, flip: bool = False) -> tuple[Any, Any]:
    """Return which corners of *rectangle* come to the top left and the bottom right."""
    left, top, right, bottom = rectangle
    clockwise = [(left, top), (right, top), (right, bottom), (left, bottom)]
    first = -(rotation // 90) % 4  # comes to the top left; the next one to the top right
    if flip:
        first = (first + 1) % 4
    return clockwise[first], clockwise[(first + 2) % 4]


def area(
    rectangle: Rectangle,
    turn: Dataset | None = None,
    images: Iterable[Named] = (),
    *,
    mode: str = "SCALE TO FIT",
    spacing: Sequence[float] = (),
    ratio: Sequence[int] = (1, 1),
    magnified: float | None = None,
) -> Dataset:
    """Return a Displayed Area item (PS3.3 C.10.4), its corners named as *turn* wants them."""
    rotation, flip = (turn.ImageRotation, turn.ImageHorizontalFlip == "Y") if turn else (0, False)
    first, last = corners(rectangle, rotation, flip)
    return displayed(first, last, images, mode=mode, spacing=spacing, ratio=ratio, by=magnified)


def displayed(
    first: Sequence[int],
    last: Sequence[int],
    images: Iterable[Named] = (),
    *,
    mode: str = "SCALE TO FIT",
    spacing: Sequence[float] = (),
    ratio: Sequence[int] = (1, 1),
    by: float | None = None,
) -> Dataset:
    """Return a Displayed Area item with just these corners."""
    item, part = Dataset(), Dataset()
    item.DisplayedAreaTopLeftHandCorner = list(first)
    item.DisplayedAreaBottomRightHandCorner = list(last)
    item.PresentationSizeMode = mode if by is None else "MAGNIFY"
    if spacing:
        item.PresentationPixelSpacing = [str(value) for value in spacing]
    elif ratio:
        item.PresentationPixelAspectRatio = list(ratio)
    if by is not None:
        item.PresentationPixelMagnificationRatio = by
    part.DisplayedAreaSelectionSequence = [scoped(item, images)]
    return part


# --- Layers, graphics, overlays -------------------------------------------------------------------


def layer(name: str, order: int = 1, **colors: Any) -> Dataset:
    """Return a Graphic Layer (PS3.3 C.10.7); *gray* of 16 bits, *lab* and *rgb* are its colors."""
    item, part = Dataset(), Dataset()
    item.GraphicLayer, item.GraphicLayerOrder = name, order
    if "gray" in colors:
        item.GraphicLayerRecommendedDisplayGrayscaleValue = colors["gray"]
    if "lab" in colors:
        item.GraphicLayerRecommendedDisplayCIELabValue = list(colors["lab"])
    if "rgb" in colors:
        item.add_new(0x00700067, "US", list(colors["rgb"]))
    part.GraphicLayerSequence = [item]
    return part


def annotation(name: str, *objects: Dataset, images: Iterable[Named] = ()) -> Dataset:
    """Return a Graphic Annotation item (PS3.3 C.10.5) of figures and texts on layer *name*."""
    item, part = Dataset(), Dataset()
    item.GraphicLayer = name
    if texts := [one for one in objects if "UnformattedTextValue" in one]:
        item.TextObjectSequence = texts
    if figures := [one for one in objects if "UnformattedTextValue" not in one]:
        item.GraphicObjectSequence = figures
    part.GraphicAnnotationSequence = [scoped(item, images)]
    return part


def figure(
    kind: str,
    points: Sequence[Point],
    units: str = "PIXEL",
    *,
    filled: bool | None = False,
    lab: Sequence[int] = (),
    opacity: float = 1.0,
    fill: Sequence[int] = (),
    fill_opacity: float = 1.0,
) -> Dataset:
    """Return a Graphic Object; *lab* is the color of its own line style, *fill* that inside."""
    item = Dataset()
    item.GraphicAnnotationUnits, item.GraphicDimensions = units, 2
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [float(value) for point in points for value in point]
    item.GraphicType = kind
    if filled is not None:
        item.GraphicFilled = "Y" if filled else "N"
    if lab:
        style = Dataset()
        style.PatternOnColorCIELabValue, style.PatternOnOpacity = list(lab), opacity
        style.LineThickness, style.LineDashingStyle = 1.0, "SOLID"
        style.ShadowStyle = "OFF"
        item.LineStyleSequence = [style]
    if fill:
        style = Dataset()
        style.PatternOnColorCIELabValue, style.PatternOnOpacity = list(fill), fill_opacity
        style.FillMode = "SOLID"
        item.FillStyleSequence = [style]
    return item


def words(
    value: str | bytes,
    *,
    box: tuple[Point, Point] | None = None,
    anchor: Point | None = None,
    units: str = "PIXEL",
    justified: str = "LEFT",
    visible: bool = False,
) -> Dataset:
    """Return a Text Object in a *box*, at an *anchor*, or both."""
    item = Dataset()
    vr_value: Any = value
    item.add_new("UnformattedTextValue", "ST", vr_value)
    if box:
        item.BoundingBoxAnnotationUnits = units
        item.BoundingBoxTopLeftHandCorner = list(box[0])
        item.BoundingBoxBottomRightHandCorner = list(box[1])
        item.BoundingBoxTextHorizontalJustification = justified
    if anchor:
        item.AnchorPointAnnotationUnits, item.AnchorPoint = units, list(anchor)
        item.AnchorPointVisibility = "Y" if visible else "N"
    return item


def overlay(
    plane: Array | None,
    group: int = 0x6000,
    layer: str | None = "LAYER",
    origin: tuple[int, int] = (1, 1),
) -> Dataset:
    """Return an overlay *plane* of bool, and its activation on *layer*; each may be None."""
    part = Dataset()
    if plane is not None:
        part.add_new(group << 16 | 0x0010, "US", plane.shape[0])
        part.add_new(group << 16 | 0x0011, "US", plane.shape[1])
        part.add_new(group << 16 | 0x0040, "CS", "G")
        part.add_new(group << 16 | 0x0050, "SS", list(origin))
        part.add_new(group << 16 | 0x0100, "US", 1)
        part.add_new(group << 16 | 0x0102, "US", 0)
        raw = np.packbits(plane.ravel(), bitorder="little").tobytes()
        part.add_new(group << 16 | 0x3000, "OW", raw + b"\0" * (len(raw) % 2))
    if layer is not None:
        part.add_new(group << 16 | 0x1001, "CS", layer)
    return part


# --- The whole ------------------------------------------------------------------------------------


def state(named: AllNamed, *parts: Dataset, kind: UID = GRAY, **elements: Any) -> Dataset:
    """Return a valid state for the *named* images, or frames, made of *parts*.

    Items of sequences that several parts have follow each other. Without a displayed area it is all
    of each image, without a presentation step IDENTITY; layers that are missing are added. An
    element of None is deleted.
    """
    images = listed(named)
    ds = head_of(images, kind)
    for part in (relationship(images), *parts):
        add(ds, part)
    if "DisplayedAreaSelectionSequence" not in ds:
        for part in whole_areas(images, ds):
            add(ds, part)
    if kind in (GRAY, VARIABLE_LUT) and "PresentationLUTSequence" not in ds:
        ds.setdefault("PresentationLUTShape", "IDENTITY")
    for name in missing_layers(ds):
        add(ds, layer(name, 1 + len(ds.get("GraphicLayerSequence", []))))
    for keyword, value in elements.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def head_of(images: Sequence[Named], kind: UID) -> Dataset:
    """Return what a state has beside how it shows pictures."""
    image = images[0][0] if isinstance(images[0], tuple) else images[0]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kind
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
        setattr(ds, keyword, image.get(keyword))
    ds.PatientBirthDate = ds.PatientSex = ds.ReferringPhysicianName = ds.AccessionNumber = ""
    ds.StudyID = ds.StudyDate = ds.StudyTime = ""
    ds.Modality, ds.Manufacturer = "PR", "None"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = generate_uid(), 99, 1
    ds.ContentLabel, ds.ContentDescription = "STATE", "How it is shown"
    ds.PresentationCreationDate, ds.PresentationCreationTime = "20200101", "120000"
    ds.ContentCreatorName = ""
    if kind != GRAY:
        ds.ContentDate, ds.ContentTime = "20200101", "120000"
    return ds


def add(ds: Dataset, part: Dataset) -> None:
    """Put the elements of *part* into *ds*, items behind those that are there."""
    for element in part:
        if element.VR == "SQ":
            there = ds[element.tag].value if element.tag in ds else []
            ds.add_new(element.tag, "SQ", [*there, *element.value])
        else:
            ds.add(element)


def whole_areas(images: Sequence[Named], ds: Dataset) -> list[Dataset]:
    """Return the displayed areas that are all of each image, one where all have one size."""
    turn = ds if "ImageRotation" in ds else None
    bare = [one[0] if isinstance(one, tuple) else one for one in images]
    sizes = {(image.Columns, image.Rows) for image in bare}
    if len(sizes) == 1:
        return [area((1, 1, *sizes.pop()), turn)]
    return [area((1, 1, image.Columns, image.Rows), turn, [image]) for image in bare]


def missing_layers(ds: Dataset) -> list[str]:
    """Return the layers that items of *ds* are on and that it does not describe."""
    known = [item.GraphicLayer for item in ds.get("GraphicLayerSequence", [])]
    used = [item.GraphicLayer for item in ds.get("GraphicAnnotationSequence", [])]
    used += [each.value for each in ds if each.keyword == "OverlayActivationLayer"]
    return [name for name in dict.fromkeys(used) if name and name not in known]


def write(path: Path, ds: Dataset) -> Path:
    """Write *ds* to *path* and return that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
