"""Every transfer syntax with every photometric interpretation that it can hold."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from conftest import (
    Array,
    Factory,
    convert,
    decoded,
    padded,
    psnr,
    read_png,
    rendered,
    still,
    with_syntax,
)
from pydicom import uid
from pydicom.pixels.encoders.base import RLELosslessEncoder

import dicom_converter as dc

Encoder = Callable[[Array], bytes]
SIDE = 40
GRAY_8 = np.add.outer(np.arange(SIDE), 3 * np.arange(SIDE + 4)).astype(np.uint8)
GRAY_12 = (GRAY_8.astype(np.uint16) * 25) & 0x0FFF
RGB = np.stack([GRAY_8, GRAY_8[::-1], 255 - GRAY_8], axis=-1)
INDICES = GRAY_8 % 4
BITS = (GRAY_8 // 16 % 2).astype(np.uint8)


def ybr_of(rgb: Array) -> Array:
    """Return Y, Cb, Cr of *rgb* in full range (PS3.3 C.7.6.3.1.2)."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return np.asarray(np.rint(rgb @ matrix.T + [0, 128, 128]).clip(0, 255), np.uint8)


def rle(pixels: Array) -> bytes:
    color = pixels.ndim == 3
    options: dict[str, Any] = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples_per_pixel": 3 if color else 1,
        "bits_allocated": 8 * pixels.dtype.itemsize,
        "bits_stored": 8 * pixels.dtype.itemsize,
        "pixel_representation": 0,
        "photometric_interpretation": "RGB" if color else "MONOCHROME2",
        "number_of_frames": 1,
        "planar_configuration": 0,
    }
    return RLELosslessEncoder.encode(np.ascontiguousarray(pixels), **options)


def deflate(pixels: Array) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflater.compress(padded(pixels)) + deflater.flush()
    return packed + b"\0" * (len(packed) % 2)


def lossless_jpeg(predictor: int) -> Encoder:
    def encode(pixels: Array) -> bytes:
        bits = 8 if pixels.dtype == np.uint8 else 12
        own = "RGB" if pixels.ndim == 3 else None
        return bytes(
            imagecodecs.jpeg8_encode(
                pixels,
                lossless=True,
                predictor=predictor,
                bitspersample=bits,
                colorspace=own,
                outcolorspace=own,
            )
        )

    return encode


def anonymous(code: bytes) -> bytes:
    """Return a lossless JPEG whose components are called 1, 2, 3 and not R, G, B."""
    renamed = bytearray(code)
    frame, scan = renamed.index(b"\xff\xc3"), renamed.index(b"\xff\xda")
    renamed[frame + 10 : frame + 19 : 3] = renamed[scan + 5 : scan + 11 : 2] = b"\1\2\3"
    adobe = renamed.find(b"\xff\xee")
    return bytes(renamed[:adobe] + renamed[adobe + 16 :] if adobe > 0 else renamed)


def jpeg_2000(*, mct: bool = False, form: str = "j2k") -> Encoder:
    def encode(pixels: Array) -> bytes:
        return bytes(
            imagecodecs.jpeg2k_encode(
                pixels, codecformat=form, reversible=True, level=0, mct=mct and pixels.ndim == 3
            )
        )

    return encode


def lossy_jpeg(space: str, subsampling: str) -> Encoder:
    def encode(pixels: Array) -> bytes:
        return bytes(
            imagecodecs.jpeg8_encode(
                pixels, 97, colorspace="RGB", outcolorspace=space, subsampling=subsampling
            )
        )

    return encode


def htj2k(pixels: Array) -> bytes:
    return bytes(imagecodecs.htj2k_encode(pixels, reversible=True, rgb=False))


def jpeg_ls(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels))


def jpeg_xl(pixels: Array) -> bytes:
    bits = 12 if pixels.dtype == np.uint16 else 8
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits))


JXL = "1.2.840.10008.1.2.4.110"
LOSSLESS: dict[str, tuple[str, Encoder]] = {
    "Encapsulated Uncompressed": ("1.2.840.10008.1.2.1.98", padded),
    "Deflated Image Frame": ("1.2.840.10008.1.2.8.1", deflate),
    "RLE": (uid.RLELossless, rle),
    "JPEG Lossless P14": (uid.JPEGLossless, lossless_jpeg(4)),
    "JPEG Lossless SV1": (uid.JPEGLosslessSV1, lossless_jpeg(1)),
    "JPEG-LS": (uid.JPEGLSLossless, jpeg_ls),
    "JPEG-LS near-lossless": (uid.JPEGLSNearLossless, jpeg_ls),
    "JPEG 2000": (uid.JPEG2000Lossless, jpeg_2000()),
    "JPEG 2000, JP2": (uid.JPEG2000, jpeg_2000(form="jp2")),
    "HTJ2K": (uid.HTJ2KLossless, htj2k),
    "HTJ2K RPCL": (uid.HTJ2KLosslessRPCL, htj2k),
    "HTJ2K lossy": (uid.HTJ2K, htj2k),
    "JPEG XL lossless": (JXL, jpeg_xl),
    "JPEG XL": ("1.2.840.10008.1.2.4.112", jpeg_xl),
}
NATIVE = {
    "Implicit LE": uid.ImplicitVRLittleEndian,
    "Explicit LE": uid.ExplicitVRLittleEndian,
    "Explicit BE": uid.ExplicitVRBigEndian,
    "Deflated": uid.DeflatedExplicitVRLittleEndian,
}
WINDOW = {"WindowCenter": 128, "WindowWidth": 256}


def palette() -> dict[str, Any]:
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, color in enumerate(("Red", "Green", "Blue")):
        name = f"{color}PaletteColorLookupTable"
        elements[f"{name}Descriptor"] = [4, 0, 16]
        entries = (np.arange(4) * 60 + 7 * number).astype("<u2") * 257
        elements[f"{name}Data"] = entries.tobytes()
    return elements


SHOWN_PALETTE = np.stack([INDICES * 60 + 7 * number for number in range(3)], axis=-1)
# kind: stored pixels, elements, the picture in 8 bits
KINDS: dict[str, tuple[Array, dict[str, Any], Array]] = {
    "MONOCHROME2": (GRAY_8, WINDOW, GRAY_8),
    "MONOCHROME1": (GRAY_8, WINDOW | {"PhotometricInterpretation": "MONOCHROME1"}, 255 - GRAY_8),
    "12 bit": (
        GRAY_12,
        {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096},
        np.rint(GRAY_12 / 4095 * 255),
    ),
    "PALETTE COLOR": (INDICES, palette(), SHOWN_PALETTE),
    "RGB": (RGB, {}, RGB),
    "YBR_FULL": (ybr_of(RGB), {"PhotometricInterpretation": "YBR_FULL"}, RGB),
}


def cells() -> list[Any]:
    """Return (syntax, encoder or None, kind) of every pair that can occur."""
    found = []
    for name, native in NATIVE.items():
        found += [pytest.param(native, None, kind, id=f"{name}, {kind}") for kind in KINDS]
    for name, (syntax, encode) in LOSSLESS.items():
        for kind in KINDS:
            if kind == "YBR_FULL" and syntax in dc.JPEG_XL_SYNTAXES:
                continue  # RGB or XYB by definition
            found.append(pytest.param(syntax, encode, kind, id=f"{name}, {kind}"))
    return found


@pytest.mark.parametrize(("syntax", "encode", "kind"), cells())
@pytest.mark.parametrize("frames", [1, 2], ids=["still", "clip"])
def test_exact(
    dicom_file: Factory, syntax: str, encode: Encoder | None, kind: str, frames: int
) -> None:
    stored, elements, picture = KINDS[kind]
    images = [stored, np.ascontiguousarray(stored[::-1])][:frames]
    pixels = np.stack(images) if frames == 2 else stored
    codes = [encode(image) for image in images] if encode else []
    if codes and kind == "YBR_FULL" and syntax in dc.SYNTAXES_OF_STREAMS["JPEG"]:
        codes = [anonymous(code) for code in codes]
    if syntax == uid.ExplicitVRBigEndian and pixels.dtype == np.uint16:
        elements = elements | {"PixelData": pixels.astype(">u2").tobytes()}
    path = dicom_file(pixels, codes, syntax, **elements)
    _, _, found = decoded(path)
    assert np.array_equal([frame for frame, _ in found], pixels if frames == 2 else pixels[None])
    shown = rendered(path)
    expected = [picture, picture[::-1]][:frames]
    tolerance = 2 if kind == "YBR_FULL" else 0
    for ours, theirs in zip(shown, expected, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= tolerance


@pytest.mark.parametrize(
    ("syntax", "encode", "label"),
    [
        pytest.param(uid.JPEGBaseline8Bit, lossy_jpeg("YCBCR", "422"), "YBR_FULL_422", id="422"),
        pytest.param(uid.JPEGBaseline8Bit, lossy_jpeg("YCBCR", "420"), "YBR_FULL_422", id="420"),
        pytest.param(uid.JPEGBaseline8Bit, lossy_jpeg("YCBCR", "444"), "YBR_FULL", id="444"),
        pytest.param(uid.JPEGBaseline8Bit, lossy_jpeg("RGB", "444"), "RGB", id="RGB"),
        pytest.param(uid.JPEGExtended12Bit, lossy_jpeg("YCBCR", "444"), "YBR_FULL", id="extended"),
        pytest.param(uid.JPEG2000Lossless, jpeg_2000(mct=True), "YBR_RCT", id="J2K RCT"),
        pytest.param(uid.JPEG2000, jpeg_2000(mct=True), "YBR_ICT", id="J2K ICT"),
        pytest.param(
            "1.2.840.10008.1.2.4.111",
            lambda rgb: bytes(
                imagecodecs.jpegxl_encode_jpeg(lossy_jpeg("YCBCR", "444")(rgb), usecontainer=True)
            ),
            "YBR_FULL_422",
            id="JPEG XL recompression",
        ),
        pytest.param(
            "1.2.840.10008.1.2.4.112",
            lambda rgb: bytes(imagecodecs.jpegxl_encode(rgb, distance=0.5, lossless=False)),
            "XYB",
            id="JPEG XL lossy",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The .0028,0004. 'Photometric Interpretation'")
@pytest.mark.filterwarnings("ignore:the code stream decodes to RGB")
def test_lossy_color(dicom_file: Factory, syntax: str, encode: Encoder, label: str) -> None:
    y, x = np.mgrid[:64, :96]
    smooth = np.stack([x * 2, y * 3, 200 - x - y], axis=-1).clip(0, 255).astype(np.uint8)
    path = dicom_file(
        np.stack([smooth, smooth]),
        [encode(smooth)] * 2,
        syntax,
        PhotometricInterpretation=label,
    )
    assert all(psnr(smooth, shown) > 36 for shown in rendered(path))


@pytest.mark.parametrize("name", ["Encapsulated Uncompressed", "Deflated Image Frame", "RLE"])
@pytest.mark.parametrize("size", [(40, 44), (5, 7)], ids=str)
def test_one_bit(dicom_file: Factory, name: str, size: tuple[int, int]) -> None:
    frames = np.stack([BITS[: size[0], : size[1]], BITS[-size[0] :, -size[1] :]])
    packed = [np.packbits(frame.ravel(), bitorder="little") for frame in frames]
    syntax, encode = LOSSLESS[name]
    codes = [encode(row.reshape(1, -1)) for row in packed]
    bits = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    path = dicom_file(frames, codes, syntax, **bits)
    assert np.array_equal([stored for stored, _ in decoded(path)[2]], frames)


STREAMS = {
    "JPEG": lossless_jpeg(1),
    "JPEG-LS": jpeg_ls,
    "JPEG 2000": jpeg_2000(),
    "JPEG XL": jpeg_xl,
}


@pytest.mark.parametrize("family", STREAMS)
@pytest.mark.parametrize(
    "declared",
    [uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEGLSLossless, uid.RLELossless, JXL],
    ids=lambda syntax: dc.name_of(uid.UID(syntax))[:20],
)
def test_the_code_stream_decides(
    dicom_file: Factory, tmp_path: Path, family: str, declared: str
) -> None:
    path = dicom_file(GRAY_8, [STREAMS[family](GRAY_8)], declared, **WINDOW)
    outcome = convert(path, tmp_path)
    assert np.array_equal(read_png(outcome.outputs[0]), GRAY_8 * np.uint16(257))
    right = declared in dc.SYNTAXES_OF_STREAMS[family]
    assert len(outcome.warnings) == (0 if right else 1)


def test_compressed_pixels_under_a_native_syntax(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(GRAY_8, [jpeg_ls(GRAY_8)], uid.JPEGLSLossless, **WINDOW)
    path.write_bytes(with_syntax(path.read_bytes(), uid.ExplicitVRLittleEndian))
    outcome = convert(path, tmp_path)
    assert outcome.warnings == (
        "the pixels are JPEG-LS, though declared as Explicit VR Little Endian",
    )


def test_native_pixels_under_a_compressed_syntax(dicom_file: Factory, tmp_path: Path) -> None:
    path = dicom_file(GRAY_8, **WINDOW)
    path.write_bytes(with_syntax(path.read_bytes(), uid.JPEG2000))
    outcome = convert(path, tmp_path)
    assert len(outcome.warnings) == 1
    assert np.array_equal(read_png(outcome.outputs[0]), GRAY_8 * np.uint16(257))


@pytest.mark.parametrize(
    "size", [(6, 8), (16, 24), (512, 512), (300, 400), (1080, 1920), (7, 1001)], ids=str
)
@pytest.mark.parametrize("container", [False, True], ids=["bare", "container"])
def test_size_of_jpeg_xl(size: tuple[int, int], container: bool) -> None:
    blank = np.zeros(size, np.uint8)
    code = bytes(imagecodecs.jpegxl_encode(blank, lossless=True, usecontainer=container))
    stream = dc.jpeg_xl_head(code)
    assert (stream.rows, stream.columns) == size


@pytest.mark.parametrize("name", LOSSLESS)
def test_code_streams_cut_short_are_refused(dicom_file: Factory, tmp_path: Path, name: str) -> None:
    syntax, encode = LOSSLESS[name]
    noise = np.random.default_rng(0).integers(0, 256, GRAY_8.shape, np.uint8)
    code = encode(noise)
    cut = code[: math.ceil(len(code) * 0.6) // 2 * 2]
    outcome = convert(dicom_file(noise, [cut], syntax), tmp_path)
    assert outcome.status == dc.Status.FAILED
    assert [output.suffix for output in outcome.outputs] == [".txt"]


def test_an_inflated_frame_is_bounded(dicom_file: Factory, tmp_path: Path) -> None:
    bomb = deflate(np.zeros((1 << 12, 1 << 12), np.uint8))
    path = dicom_file(GRAY_8, [bomb], "1.2.840.10008.1.2.8.1")
    assert not still(path, tmp_path).any()
