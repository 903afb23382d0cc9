"""Memory does not grow with the number of frames."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from conftest import data_set
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

import dicom_converter as dc


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is told in kB by Linux"
)
@pytest.mark.parametrize(
    ("compressed", "window"),
    [(True, True), (True, False), (False, True)],
    ids=["compressed", "compressed, min-max", "native"],
)
def test_a_clip_of_2000_frames_stays_below_300_mb(
    tmp_path: Path, compressed: bool, window: bool
) -> None:
    y, x = np.mgrid[:512, :512].astype(np.float32)
    base = (128 + 60 * np.sin(x / 40) * np.cos(y / 55)).astype(np.uint8)
    frames = [cv2.circle(base.copy(), (16 * n, 256), 40, 250, -1) for n in range(32)]
    codes = [bytes(imagecodecs.jpeg8_encode(frame, 80)) for frame in frames]
    path = tmp_path / "long.dcm"
    ds = data_set(np.stack(frames), codes if compressed else (), *([JPEGBaseline8Bit] * compressed))
    if window:
        ds.WindowCenter, ds.WindowWidth = 128, 256
    ds.NumberOfFrames = 2000
    repeats = range(2000)
    if compressed:
        ds.PixelData = encapsulate([codes[number % 32] for number in repeats])
    else:
        ds.PixelData = b"".join(frames[number % 32].tobytes() for number in repeats)
    ds.save_as(path, enforce_file_format=True)
    # The peak is that of the worker process, in which the file is converted.
    script = textwrap.dedent(
        """
        import resource, sys
        import dicom_converter as dc
        code = dc.main(sys.argv[1:])
        print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        """
    )
    arguments = [sys.executable, "-c", script, str(path), "-q", "-o", str(tmp_path / "out")]
    root = Path(dc.__file__).parent
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    code, peak = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert peak * 1024 < 300e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not asked")
def test_the_memory_of_one_file_serves_the_next() -> None:
    """Each page that went back to the system would be cleared anew."""
    script = textwrap.dedent(
        """
        import resource
        import numpy as np
        import dicom_converter
        for _ in range(8):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            [np.ones(1 << 20, np.uint8) for _ in range(8)]
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        """
    )
    root = Path(dc.__file__).parent
    arguments = [sys.executable, "-c", script]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert int(done.stdout) < 100
