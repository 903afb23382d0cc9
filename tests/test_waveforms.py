"""Waveforms: what is drawn lies where its time and its physical value say."""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CORPUS, Array, Factory, Run, convert, needs_corpus, read_png
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian
from pydicom.waveforms.numpy_handler import multiplex_array

import dicom_converter as dc

ECG_CLASS = "1.2.840.10008.5.1.4.1.1.9.1.1"  # 12-lead ECG
GENERAL_ECG, HEMODYNAMIC = "1.2.840.10008.5.1.4.1.1.9.1.2", "1.2.840.10008.5.1.4.1.1.9.2.1"
EEG = "1.2.840.10008.5.1.4.1.1.9.7.1"
SOUND = "1.2.840.10008.5.1.4.1.1.9.4.2"
LEADS = {lead: f"5.6.3-9-{number}" for number, lead in dc.LEADS.items()}
PAGE = [row.split() for row in dc.TWELVE_LEADS]
WAVEFORM_ECG = CORPUS / "pydicom+pydicom/src/pydicom/data/test_files/waveform_ecg.dcm"
WAVE_DFL = CORPUS / "cornerstonejs+dicomParser/testImages/deflate/wave_dfl"


def coded(value: str, scheme: str = "SCPECG", meaning: str = "") -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return [code]


def channel(name: str = "II", units: str = "uV", **elements: Any) -> Dataset:
    item = Dataset()
    item.ChannelSourceSequence = coded(LEADS.get(name, name), meaning=name)
    if units:
        item.ChannelSensitivity, item.ChannelSensitivityUnitsSequence = 1, coded(units, "UCUM")
    item.WaveformBitsStored = 16
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def group(samples: Array, channels: list[Dataset], rate: float = 500, **elements: Any) -> Dataset:
    """Return a multiplex group of *samples*, (n, channels), of integers."""
    item, kind = Dataset(), samples.dtype
    item.WaveformOriginality = "ORIGINAL"
    item.NumberOfWaveformSamples, item.NumberOfWaveformChannels = samples.shape
    item.SamplingFrequency, item.ChannelDefinitionSequence = rate, channels
    item.WaveformBitsAllocated = 8 * kind.itemsize
    size = {1: "B", 2: "S", 4: "L", 8: "V"}[kind.itemsize]
    signed, unsigned = ("SB", "UB") if size == "B" else (f"S{size}", f"U{size}")
    item.WaveformSampleInterpretation = {"i": signed, "u": unsigned}[kind.kind]
    data = samples.tobytes()
    item.add_new(
        "WaveformData", "OB" if kind.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2)
    )
    for keyword, value in elements.items():
        if keyword == "WaveformPaddingValue":
            item.add_new(keyword, "OW", value)
        else:
            setattr(item, keyword, value)
    return item


def twelve(length: float = 10, rate: float = 500) -> list[Dataset]:
    """Return the group of an ECG whose leads are sines of frequencies and sizes of their own."""
    times = np.arange(round(length * rate)) / rate
    samples = np.stack([sine(n, times) for n in range(12)], axis=1)
    return [group(np.rint(samples).astype("<i2"), [channel(lead) for lead in LEADS], rate)]


def sine(number: int, times: Array) -> Array:
    """Return the values of lead *number* in uV."""
    return (500 + 80 * number) * np.sin(2 * np.pi * (0.5 + 0.1 * number) * times)


def ecg(dicom_file: Factory, groups: list[Dataset], **elements: Any) -> Path:
    given = {"SOPClassUID": ECG_CLASS, "Modality": "ECG"} | elements
    return dicom_file(None, WaveformSequence=groups, **given)


def drawn(path: Path, output: Path, **options: Any) -> tuple[Array, dc.Outcome]:
    outcome = convert(path, output, **options)
    assert outcome.status == dc.Status.CONVERTED, outcome.reason
    assert [one.suffix for one in outcome.outputs] == [".png", ".txt"]
    return read_png(outcome.outputs[0]), outcome


def test_pixel_data_of_no_length_hide_no_curve(dicom_file: Factory, tmp_path: Path) -> None:
    drawn(ecg(dicom_file, twelve(), PixelData=b"", BitsAllocated=8), tmp_path / "out")


def ink(picture: Array) -> Array:
    """Tell where black is: the paper is red, marks are pale."""
    return np.asarray(picture[..., 0] < 140)


def base_lines(picture: Array) -> list[int]:
    """Return the rows of the base lines, by the pulses of the calibration at their beginnings."""
    black, pulse = ink(picture), dc.CURVES_LEFT - 64
    flat = np.flatnonzero(black[:, pulse - 6 : pulse].all(1))
    return [row for row in flat.tolist() if black[row - 70 : row - 10, pulse].all()]


def x_of(seconds: Array | float) -> Any:
    """Return the column in whose middle a time is, by the paper alone: 8 px/mm, 25 mm/s."""
    return dc.CURVES_LEFT + np.asarray(seconds) * 200


def assert_follows(
    picture: Array, base: int, times: Array, values: Array, shift: float = 0
) -> None:
    """Hold the black of each column together with *values* in mV that fall in it, within 1 px."""
    black = ink(picture)
    x, y = x_of(times - shift), base - 80 * values
    first, last = int(np.ceil(x[0])) + 3, int(x[-1]) - 3
    assert last - first > 100
    for column in range(first, last):
        low, high = reached(x, y, column, 0.5)
        above = round(low) - 6  # where a curve that is a little off would be, and no text is
        rows = np.flatnonzero(black[above : round(high) + 7, column]) + above
        assert rows.size, column
        assert rows[0] <= low + 1, (column, rows, low, high)
        assert rows[-1] >= high - 1, (column, rows, low, high)
        low, high = reached(x, y, column, 1.0)
        assert rows[0] >= low - 1, (column, rows, low, high)
        assert rows[-1] <= high + 1, (column, rows, low, high)


def reached(x: Array, y: Array, column: int, beside: float) -> tuple[float, float]:
    """Return the least and the greatest *y* that a line has as near as *beside* a column."""
    ends = np.interp([column - beside, column + beside], x, y)
    first, last = np.searchsorted(x, [column - beside, column + beside])
    found = np.concatenate([ends, y[first:last]])
    return float(found.min()), float(found.max())


def assert_is_twelve_leads(picture: Array, times: Array, leads: dict[str, Array]) -> None:
    """Hold a page of twelve leads together with their values in mV."""
    bases = base_lines(picture)
    assert len(bases) == 4
    for base, row in zip(bases, PAGE, strict=True):
        for turn, lead in enumerate(row):
            long = 10 / len(row)
            at = (times >= turn * long) & (times < (turn + 1) * long)
            assert_follows(picture, base, times[at], leads[lead][at])


def test_twelve_leads_are_where_a_paper_has_them(dicom_file: Factory, tmp_path: Path) -> None:
    picture, outcome = drawn(ecg(dicom_file, twelve()), tmp_path / "out")
    times = np.arange(5000) / 500
    leads = {lead: sine(n, times) / 1000 for n, lead in enumerate(LEADS)}
    assert_is_twelve_leads(picture, times, leads)
    with pytest.raises(AssertionError):
        assert_is_twelve_leads(picture, times, leads | {"V4": leads["V5"]})
    with pytest.raises(AssertionError):
        assert_is_twelve_leads(picture, times, leads | {"aVL": leads["aVL"] + 0.04})
    assert not outcome.warnings
    text = outcome.outputs[1].read_text(encoding="utf-8")
    assert re.search(r"Curves +12 channels, 10 s at 500 Hz; 25 mm/s, 10 mm/mV\n", text)


@needs_corpus
@pytest.mark.parametrize(
    ("path", "fact", "peak"),
    [
        (
            WAVEFORM_ECG,
            "12 channels, 10 s at 1000 Hz; 25 mm/s, 10 mm/mV; not drawn: MEDIAN BEAT",
            1.9625,
        ),
        (WAVE_DFL, "12 channels, 10 s at 240 Hz; 25 mm/s, 10 mm/mV", 2.364),
    ],
    ids=["waveform_ecg", "wave_dfl"],
)
def test_real_ecgs_agree_with_their_values(
    path: Path, fact: str, peak: float, tmp_path: Path
) -> None:
    picture, outcome = drawn(path, tmp_path)
    lines = outcome.outputs[1].read_text(encoding="utf-8").splitlines()
    assert any(line.endswith(f" {fact}") for line in lines)
    assert "    Lead II in " in "\n".join(lines[lines.index("WAVEFORMS") :])
    ds = dcmread(path)
    samples, (item, *_) = multiplex_array(ds, 0, as_raw=False), ds.WaveformSequence
    units = {c.ChannelSensitivityUnitsSequence[0].CodeValue for c in item.ChannelDefinitionSequence}
    values = samples / {"uV": 1000, "mV": 1}[units.pop()]
    codes = {code: lead for lead, code in LEADS.items()}
    names = [codes[c.ChannelSourceSequence[0].CodeValue] for c in item.ChannelDefinitionSequence]
    leads = dict(zip(names, values.T, strict=True))
    assert leads["V5"].max() == pytest.approx(peak, abs=1e-3)
    times = np.arange(len(values)) / float(item.SamplingFrequency)
    assert_is_twelve_leads(picture, times, leads)


def test_the_paper_and_its_calibration(dicom_file: Factory, tmp_path: Path) -> None:
    outcome = convert(ecg(dicom_file, twelve()), tmp_path / "out")
    picture = read_png(outcome.outputs[0])
    raw = outcome.outputs[0].read_bytes()
    at = raw.index(b"pHYs") + 4
    assert struct.unpack(">LLB", raw[at : at + 9]) == (8000, 8000, 1)
    black = ink(picture)
    for base in base_lines(picture):
        pulse = black[base - 100 : base + 20, dc.CURVES_LEFT - 72 : dc.CURVES_LEFT - 8]
        rows, columns = np.flatnonzero(pulse.any(1)), np.flatnonzero(pulse[20:80].all(0))
        assert np.ptp(rows) == 80  # 1 mV
        assert np.ptp(columns) == 40  # 200 ms
        assert rows[-1] == 100  # on the base line
    colors = [tuple(color) for _, color in dc.PAPER]
    free = picture[base_lines(picture)[0] + 20, dc.BOX : 3 * dc.BOX + 1]  # below a calibration
    kinds = ["".join("tb"[colors.index(tuple(p))] if tuple(p) in colors else "." for p in free)]
    assert kinds == ["b......." + "t......." * 4 + "b......." + "t......." * 4 + "b"]
    assert all(
        picture[base, dc.BOX + 2].tolist() == list(colors[1]) for base in base_lines(picture)
    )


def test_four_groups_of_three_leads_are_placed_by_their_offsets(
    dicom_file: Factory, tmp_path: Path
) -> None:
    times = np.arange(5000) / 500
    leads = {lead: sine(n, times) for n, lead in enumerate(LEADS)}
    groups = [
        group(
            np.stack([leads[lead][turn * 1250 :][:1250] for lead in column], 1).astype("<i2"),
            [channel(lead) for lead in column],
            MultiplexGroupTimeOffset=2500 * turn,
        )
        for turn, column in enumerate(zip(*PAGE[:3], strict=True))
    ]
    groups.append(group(leads["II"][:, np.newaxis].astype("<i2"), [channel("II")]))
    picture, outcome = drawn(ecg(dicom_file, groups), tmp_path / "out")
    assert "12 channels, 10 s" in outcome.remark
    assert_is_twelve_leads(picture, times, {lead: one / 1000 for lead, one in leads.items()})


def test_a_short_ecg_shows_all_of_every_lead(dicom_file: Factory, tmp_path: Path) -> None:
    picture, _ = drawn(ecg(dicom_file, twelve(length=4)), tmp_path / "out")
    bases, times = base_lines(picture), np.arange(2000) / 500
    assert len(bases) == 12
    for n, base in enumerate(bases):
        assert_follows(picture, base, times, sine(n, times) / 1000)
        assert not ink(picture)[base - 60 : base + 30, int(x_of(4)) + 3 : -dc.BOX].any()


def test_a_little_over_ten_seconds_begins_no_strip(dicom_file: Factory, tmp_path: Path) -> None:
    picture, outcome = drawn(ecg(dicom_file, twelve(length=10.5)), tmp_path / "out")
    assert len(base_lines(picture)) == 4
    assert not outcome.warnings
    times = np.arange(5250) / 500
    assert_follows(picture, base_lines(picture)[3], times, sine(1, times) / 1000)


def test_leads_beside_the_twelve_have_rows_of_their_own(
    dicom_file: Factory, tmp_path: Path
) -> None:
    (one,) = twelve()
    samples = np.frombuffer(one.WaveformData, "<i2").reshape(-1, 12)
    items = [*one.ChannelDefinitionSequence, channel("V4R")]
    wide = group(np.hstack([samples, samples[:, :1] // 2]), items)
    picture, outcome = drawn(ecg(dicom_file, [wide]), tmp_path / "out")
    assert "13 channels" in outcome.remark
    times = np.arange(5000) / 500
    assert_follows(picture, base_lines(picture)[4], times, sine(0, times) / 2000)


def curve(name: str, start: float = 0, length: float = 10, ticks: Any = ()) -> dc.Channel:
    flat = np.zeros((2, 2))
    return dc.Channel((1, 1), name, name, "", 500, start, start + length, flat, ticks)


ALL = [curve(lead) for lead in LEADS]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        pytest.param([ALL, [curve("V3R"), curve("V7")]], [*PAGE, ["V3R"], ["V7"]], id="beside"),
        pytest.param(
            [ALL[:6], [*ALL[6:], curve("V4R")], [curve("Pace")]],
            [*PAGE, ["V4R"], ["Pace"]],
            id="parts",
        ),
        pytest.param([ALL, [curve("II"), curve("V7")]], [*PAGE, ["V7"]], id="a lead again"),
        pytest.param([ALL, [curve("V4R", 10)]], [*PAGE, ["V4R"]], id="next"),
        pytest.param([ALL, [curve("V4R", 3600)]], PAGE, id="later"),
        pytest.param([[curve("II", 3600)], [curve("V1", 0, 5)]], [["II"]], id="earlier"),
        pytest.param([ALL, ALL], PAGE, id="again"),
        pytest.param(
            [[curve(lead, 0, 10, (0, 1, 2)) for lead in LEADS]],
            [[lead] for lead in LEADS],
            id="without units",
        ),
        pytest.param(
            [[curve("II")], [curve(lead, 4) for lead in LEADS if lead != "II"]],
            [["II"], *([lead] for lead in LEADS if lead != "II")],
            id="too late for the page",
        ),
        pytest.param(
            [[curve(lead, 2.5 * n, 2.5) for lead in row] for n, row in enumerate(PAGE[:3])],
            [[lead] for row in PAGE[:3] for lead in row],
            id="in turns",
        ),
    ],
)
def test_what_is_in_which_row(groups: Any, names: list[list[str]]) -> None:
    assert [[one.name for one in row] for row in dc.rows_of(groups)] == names


def strip(dicom_file: Factory, tmp_path: Path, one: Dataset, **options: Any) -> Array:
    return drawn(ecg(dicom_file, [one], SOPClassUID=GENERAL_ECG), tmp_path / "out", **options)[0]


RAMP = np.rint(np.linspace(-900, 900, 2000)).astype("<i2")[:, np.newaxis]
TIMES = np.arange(2000) / 500


@pytest.mark.parametrize(
    ("units", "elements", "scale", "shift"),
    [
        ("uV", {}, 1e-3, 0),
        ("mV", {"ChannelSensitivity": "0.00125"}, 1.25e-3, 0),
        ("V", {"ChannelSensitivity": "0.000001"}, 1e-3, 0),
        ("uV", {"ChannelSensitivityCorrectionFactor": "0.5"}, 5e-4, 0),
        ("uV", {"ChannelBaseline": "300", "ChannelSensitivity": "2"}, 2e-3, 0.3),
    ],
    ids=["uV", "mV", "V", "correction", "baseline"],
)
def test_values_are_physical(
    dicom_file: Factory,
    tmp_path: Path,
    units: str,
    elements: dict[str, str],
    scale: float,
    shift: float,
) -> None:
    picture = strip(dicom_file, tmp_path, group(RAMP, [channel("II", units, **elements)]))
    (base,) = base_lines(picture)
    assert_follows(picture, base, TIMES, RAMP[:, 0] * scale + shift)


@pytest.mark.parametrize("kind", ["<i2", "<u2", "<i4", "<u4", "<i8", "i1", "u1"])
def test_samples_of_every_kind(dicom_file: Factory, tmp_path: Path, kind: str) -> None:
    samples = (RAMP // 8 + (0 if "i" in kind else 113)).astype(kind)
    bits: dict[str, Any] = {"WaveformBitsStored": 8 * samples.itemsize, "ChannelSensitivity": 8}
    picture = strip(dicom_file, tmp_path, group(samples, [channel(**bits)]))
    (base,) = base_lines(picture)
    assert_follows(picture, base, TIMES, samples[:, 0] * 8e-3)


def test_samples_in_big_endian(dicom_file: Factory, tmp_path: Path) -> None:
    one = group(RAMP.astype(">i2"), [channel()])
    path = dicom_file(
        None, syntax=ExplicitVRBigEndian, WaveformSequence=[one], SOPClassUID=GENERAL_ECG
    )
    picture, _ = drawn(path, tmp_path / "out")
    assert_follows(picture, base_lines(picture)[0], TIMES, RAMP[:, 0] / 1000)


def test_twelve_bits_are_extended_by_their_sign(dicom_file: Factory, tmp_path: Path) -> None:
    samples = (RAMP & 0x0FFF).astype("<i2")
    assert samples.min() == 0
    one = group(samples, [channel(WaveformBitsStored=12)])
    assert_follows(
        p := strip(dicom_file, tmp_path, one), base_lines(p)[0], TIMES, RAMP[:, 0] / 1000
    )


def test_the_pen_is_lifted_where_there_are_no_values(dicom_file: Factory, tmp_path: Path) -> None:
    samples = RAMP.copy()
    samples[500:750] = -32768
    one = group(samples, [channel()], WaveformPaddingValue=b"\x00\x80")
    path = ecg(dicom_file, [one], SOPClassUID=GENERAL_ECG)
    picture, outcome = drawn(path, tmp_path / "out")
    assert not outcome.warnings  # of values cut: -32 mV
    (base,) = base_lines(picture)
    for at in (slice(0, 500), slice(750, None)):
        assert_follows(picture, base, TIMES[at], RAMP[at, 0] / 1000)
    assert not ink(picture)[base - 75 : base + 75, int(x_of(1)) + 2 : int(x_of(1.5)) - 2].any()


def test_padding_of_one_byte_is_not_the_byte_beside_it(dicom_file: Factory, tmp_path: Path) -> None:
    """Values in DICOM are of even length: what is added, a zero, is a sample as any other."""
    samples = (RAMP // 8).astype("i1")
    samples[900:1100], samples[1400:1600] = 0, -128
    bits: dict[str, Any] = {"WaveformBitsStored": 8, "ChannelSensitivity": 8}
    one = group(samples, [channel(**bits)], WaveformPaddingValue=b"\x80\x00")
    picture = strip(dicom_file, tmp_path, one)
    (base,) = base_lines(picture)
    for at in (slice(0, 1400), slice(1600, None)):
        assert_follows(picture, base, TIMES[at], samples[at, 0] * 8e-3)
    gap = slice(int(x_of(2.8)) + 2, int(x_of(3.2)) - 2)
    assert not ink(picture)[base - 90 : base + 90, gap].any()  # -128 would be 82 below


def test_skew_and_offset_move_a_channel(dicom_file: Factory, tmp_path: Path) -> None:
    items = [
        channel("I"),
        channel("II", ChannelTimeSkew="0.5"),
        channel("V1", ChannelSampleSkew="100"),
        channel("V2", ChannelOffset="0.3"),
    ]
    picture = strip(dicom_file, tmp_path, group(np.hstack([RAMP] * 4), items))
    for base, shift in zip(base_lines(picture), (0, 0.5, 0.2, 0.3), strict=True):
        assert_follows(picture, base, TIMES + shift, RAMP[:, 0] / 1000)


def test_other_units_are_drawn_along_an_axis(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    pressure = (95 + 30 * np.sin(TIMES * 5))[:, np.newaxis]
    one = group((pressure * 10).astype("<i2"), [channel("ART", "mm[Hg]", ChannelSensitivity="0.1")])
    picture, _ = drawn(ecg(dicom_file, [one], SOPClassUID=HEMODYNAMIC), tmp_path / "out")
    assert {"ART, mm[Hg]", "65", "95", "125"} <= {*texts}
    ticks = np.flatnonzero(ink(picture)[:, dc.CURVES_LEFT - 11 : dc.CURVES_LEFT - 1].all(1))
    assert np.diff(ticks).tolist() == [100, 100]  # 25 mm from 65 to 125
    scaled = ((pressure * 10).astype("<i2")[:, 0] / 10 - 65) / 60 * 200 / 80
    assert_follows(picture, ticks[-1], TIMES, scaled)
    assert "10 mm/mV" not in "".join(texts)


def test_ticks_tell_large_values_apart(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    samples = (123_456 + 50 * np.sin(TIMES * 5)).astype("<i4")[:, np.newaxis]
    one = group(samples, [channel("Fp1", WaveformBitsStored=32)])
    drawn(ecg(dicom_file, [one], SOPClassUID=EEG), tmp_path / "out")
    assert {"123405", "123457.5", "123510"} <= {*texts}


@pytest.mark.parametrize("value", [1e15, -1e15, 3e20])
def test_values_that_floats_hardly_tell_apart_have_an_axis(value: float) -> None:
    heights, ticks, _ = dc.scaled(np.nextafter(value, [0, np.inf]), "mm[Hg]")
    assert np.isfinite(heights).all()
    assert ticks[0] < ticks[1] < ticks[2]


def test_one_sample_and_one_very_wide_text_have_a_page(dicom_file: Factory, tmp_path: Path) -> None:
    one = group(RAMP[:1], [channel()], 2e5)
    told = [annotation("\ufd24" * dc.MAX_TOLD)]
    given = {"SpecificCharacterSet": "ISO_IR 192", "WaveformAnnotationSequence": told}
    picture, _ = drawn(ecg(dicom_file, [one], **given), tmp_path / "out")
    assert len(base_lines(picture)) == 1


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that all texts drawn come into."""
    found, draw = list[str](), dc.draw_text

    def noted(canvas: Array, lines: list[str], *rest: Any) -> None:
        found.extend(lines)
        draw(canvas, lines, *rest)

    monkeypatch.setattr(dc, "draw_text", noted)
    return found


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (channel("II"), "II"),
        (channel(ChannelSourceSequence=coded("2:63", "MDC", "whatever")), "aVL"),
        (channel(ChannelSourceSequence=coded("x", "X", "Lead V3\0")), "V3"),
        (channel(ChannelSourceSequence=coded("x", "X", "Lead I (Einthoven)")), "I"),
        (channel(ChannelSourceSequence=[], ChannelLabel="MCL1"), "MCL1"),
        (channel(ChannelSourceSequence=[]), "channel 1.1"),
    ],
    ids=["SCP-ECG", "MDC", "meaning", "Einthoven", "label", "none"],
)
def test_channels_have_the_names_of_their_leads(
    dicom_file: Factory, tmp_path: Path, texts: list[str], item: Dataset, name: str
) -> None:
    strip(dicom_file, tmp_path, group(RAMP, [item]))
    assert name in texts


def test_without_a_sensitivity_units_are_arbitrary(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    for units, sensitivity in (("", None), ("uV", "nan")):
        item = channel("II", units)
        if sensitivity:
            item.ChannelSensitivity = 1
            item.add_new("ChannelSensitivity", "LO", sensitivity)
        strip(dicom_file, tmp_path, group(RAMP, [item]))
        assert "II, arbitrary units" in texts
        texts.clear()


def test_an_eeg_is_not_drawn_like_an_ecg(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    one = group(RAMP // 20, [channel("Fp1")])
    picture, _ = drawn(ecg(dicom_file, [one], SOPClassUID=EEG), tmp_path / "out")
    assert "Fp1, uV" in texts
    assert not base_lines(picture)


def test_an_offset_is_taken_off_and_an_overshoot_is_cut_and_told(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    item = channel("II", ChannelBaseline="100000")
    picture = strip(dicom_file, tmp_path, group(RAMP, [item]))
    assert "II, base line at 100 mV" in texts
    assert_follows(picture, base_lines(picture)[0], TIMES, RAMP[:, 0] / 1000)
    samples = RAMP.copy()
    samples[1000] = 30000
    path = ecg(dicom_file, [group(samples, [channel()])], SOPClassUID=GENERAL_ECG)
    assert drawn(path, tmp_path / "out")[1].warnings == (
        "a curve from -0.9 to 30 mV is cut at -5 and 5 mV",
    )


def test_peaks_of_many_samples_survive(dicom_file: Factory, tmp_path: Path) -> None:
    samples = np.zeros((200_000, 1), "<i2")
    samples[[70_001, 130_003]] = [[1000], [-1000]]
    picture = strip(dicom_file, tmp_path, group(samples, [channel()], 50_000))
    (base,) = base_lines(picture)
    black = ink(picture)
    for at, rows in ((70_001, slice(base - 78, base)), (130_003, slice(base, base + 78))):
        x = int(x_of(at / 50_000))
        assert black[rows, x - 1 : x + 2].any(1).all()


def test_a_long_recording_goes_on_in_rows(dicom_file: Factory, tmp_path: Path) -> None:
    times = np.arange(25 * 500) / 500
    values = sine(0, times)
    one = group(np.rint(values).astype("<i2")[:, np.newaxis], [channel()])
    picture = strip(dicom_file, tmp_path, one)
    bases = base_lines(picture)
    assert len(bases) == 3
    for n, base in enumerate(bases):
        at = slice(n * 5000, (n + 1) * 5000)
        assert_follows(picture, base, times[at], values[at] / 1000, shift=10 * n)


def test_a_day_takes_seconds_and_says_what_is_not_drawn(
    dicom_file: Factory, tmp_path: Path
) -> None:
    rate = 100
    samples = np.zeros((86400 * rate, 3), "<i2")
    one = group(samples, [channel("I"), channel("II"), channel("V1")], rate)
    path = ecg(dicom_file, [one], SOPClassUID=GENERAL_ECG)
    begins = time.process_time()
    picture, outcome = drawn(path, tmp_path / "out")
    assert time.process_time() - begins < 10
    (told,) = outcome.warnings
    seconds = re.fullmatch(r"the first (\d+) of 86400 s are drawn", told)
    assert seconds
    assert len(base_lines(picture)) == 3 * int(seconds[1]) / 10
    assert 14_000 < len(picture) <= dc.MAX_PAPER
    assert "note" in outcome.outputs[1].read_text(encoding="utf-8").casefold()


def annotation(text: str = "", places: tuple[int, ...] = (1, 0), **elements: Any) -> Dataset:
    item = Dataset()
    item.ReferencedWaveformChannels = list(places)
    if text:
        item.UnformattedTextValue = text
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def marked_rows(picture: Array, seconds: float) -> Array:
    """Return which rows have the color of marks at a time."""
    return np.asarray((abs(picture[:, int(x_of(seconds))] - np.array(dc.PALE_BLUE)) < 25).all(1))


def test_annotations_are_at_their_times_on_their_channels(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    marks = [
        annotation("all", ReferencedTimeOffsets=[0.5]),
        annotation("one", (1, 2), ReferencedSamplePositions=501),  # from 1: 1.0 s
        annotation("both", (1, 1, 1, 3), ReferencedTimeOffsets=["1.5", "2.5"]),
        annotation("elsewhere", (7, 0), ReferencedTimeOffsets=[3]),
        annotation("late", ReferencedTimeOffsets=[1e300]),
        annotation("early", ReferencedSamplePositions=0),
    ]
    items = [channel("I"), channel("II"), channel("V1")]
    one = group(np.hstack([RAMP * 0] * 3), items)
    path = ecg(dicom_file, [one], SOPClassUID=GENERAL_ECG, WaveformAnnotationSequence=marks)
    picture, _ = drawn(path, tmp_path / "out")
    bases = base_lines(picture)
    for seconds, rows in (
        (0.5, [0, 1, 2]),
        (1.0, [1]),
        (1.5, [0, 2]),
        (2.5, [0, 2]),
        (3, []),
        (2, []),
    ):
        marked = marked_rows(picture, seconds)
        assert [n for n, base in enumerate(bases) if marked[base - 30 : base - 3].all()] == rows, (
            seconds
        )
        assert bool(marked.any()) == bool(rows)
    assert {"all", "II one", "I V1 both"} <= {*texts}
    assert not {"elsewhere", "late", "early"} & {*texts}


def test_what_holds_for_all_of_a_curve_stands_above(
    dicom_file: Factory, tmp_path: Path, texts: list[str]
) -> None:
    rr = annotation(
        ConceptNameCodeSequence=coded("5.10.2.1-3", meaning="RR Interval"),
        NumericValue="982", MeasurementUnitsCodeSequence=coded("ms", "UCUM"),
    )  # fmt: skip
    told = [rr, annotation("a  text\nof lines" + "!" * 200)]
    filters: dict[str, Any] = {
        "FilterLowFrequency": "0.05",
        "FilterHighFrequency": "150",
        "NotchFilterFrequency": 0,
    }
    one = group(RAMP, [channel("II", **filters)])
    path = ecg(
        dicom_file, [one], WaveformAnnotationSequence=told, AcquisitionDateTime="20200102030405"
    )
    drawn(path, tmp_path / "out")
    cut = ("a text of lines" + "!" * 200)[: dc.MAX_TOLD]
    assert {"RR Interval 982 ms", cut} <= {*texts}
    assert not re.search("Test Patient|ID-0001|2020", " ".join(texts))
    assert "25 mm/s, 10 mm/mV   high-pass 0.05 Hz, low-pass 150 Hz" in texts


def test_texts_do_not_cover_each_other(
    dicom_file: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, draw = list[tuple[float, float, float, float]](), dc.draw_text

    def noted(canvas: Array, lines: list[str], at: Any, color: Any, size: int) -> None:
        page = canvas if canvas.base is None else canvas.base
        row, byte = divmod(canvas.ctypes.data - page.ctypes.data, page.strides[0])
        x, y = at[0] + byte / 3, at[1] + row
        for line in lines:
            wide, high = dc.text_box([line], size)
            assert 0 <= y <= page.shape[0] - high
            places.append((x, y, x + wide, y + 0.8 * high))
            y += high
        draw(canvas, lines, at, color, size)

    monkeypatch.setattr(dc, "draw_text", noted)
    marks = [annotation(f"beat {n}", ReferencedTimeOffsets=[n / 15]) for n in range(145)]
    marks += [annotation(f"finding number {n}") for n in range(30)]
    _, outcome = drawn(
        ecg(dicom_file, twelve(), WaveformAnnotationSequence=marks), tmp_path / "out"
    )
    for n, (left, top, right, bottom) in enumerate(places):
        for x, y, far, low in places[:n]:
            assert right <= x or far <= left or bottom <= y or low <= top
    assert len(places) > 100
    assert not outcome.warnings


@pytest.mark.parametrize("names", [True, False])
def test_no_names_shows_nothing_of_the_patient(
    dicom_file: Factory, tmp_path: Path, texts: list[str], names: bool
) -> None:
    secret = "Secret"  # noqa: S105 - of a patient
    marks = [annotation(secret, ReferencedTimeOffsets=[0.5]), annotation(secret)]
    items = [channel("II"), channel(ChannelSourceSequence=[], ChannelLabel=secret)]
    groups = [
        group(np.hstack([RAMP] * 2), items, MultiplexGroupLabel=secret),
        group(RAMP[:50], items[:1], MultiplexGroupLabel=secret),
    ]
    given = {"PatientName": secret, "PatientID": secret, "WaveformAnnotationSequence": marks}
    path = ecg(dicom_file, groups, SOPClassUID=GENERAL_ECG, AcquisitionDateTime="19991231", **given)
    _, outcome = drawn(path, tmp_path / "out", names=names)
    said = " ".join([*texts, *outcome.warnings, outcome.remark, *map(str, outcome.facts)])
    said += outcome.outputs[1].read_text(encoding="utf-8") if not names else ""
    assert (secret in said, "1999" in said) == (names, False)
    assert "II" in texts
    assert ("channel 1.2" in texts) == (not names)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfWaveformChannels": 65535, "NumberOfWaveformSamples": 1 << 31}, "65535 channels"),
        ({"NumberOfWaveformSamples": 2001}, "2001 samples"),
        ({"NumberOfWaveformSamples": 0}, "0 samples"),
        ({"NumberOfWaveformChannels": 2}, "1 described"),
        ({"ChannelDefinitionSequence": []}, "0 described"),
        ({"SamplingFrequency": "0"}, "at 0.0 Hz"),
        ({"SamplingFrequency": "-500"}, "at -500.0 Hz"),
        ({"SamplingFrequency": "1e300"}, "at 1e+300 Hz"),
        ({"SamplingFrequency": None}, "at None Hz"),
        ({"WaveformBitsAllocated": 64}, "64 bits"),
        ({"WaveformSampleInterpretation": "XX"}, "(XX)"),
        ({"WaveformData": None}, "in 0 bytes"),
        ({"MultiplexGroupTimeOffset": "1e300"}, "out of all bounds"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_hostile_groups_are_refused_in_one_line(
    dicom_file: Factory, tmp_path: Path, elements: dict[str, Any], reason: str
) -> None:
    one = group(RAMP, [channel()])
    for keyword, value in elements.items():
        if value is None:
            delattr(one, keyword)
        else:
            setattr(one, keyword, value)
    path, begins = ecg(dicom_file, [one]), time.process_time()
    outcome = convert(path, tmp_path / "out")
    assert time.process_time() - begins < 2
    assert outcome.status == dc.Status.FAILED
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert [output.suffix for output in outcome.outputs] == [".txt"]


@pytest.mark.parametrize("gain", ["1e300", "-1e308", "1e-300", "0", "1e15"])
@pytest.mark.parametrize("units", ["uV", "mm[Hg]"])
def test_hostile_sensitivities_are_harmless(
    dicom_file: Factory, tmp_path: Path, gain: str, units: str
) -> None:
    for baseline in ("0", "1e11"):
        item = channel("II", units, ChannelSensitivity=gain, ChannelBaseline=baseline)
        outcome = convert(ecg(dicom_file, [group(RAMP, [item])]), tmp_path / "out")
        large = abs(float(gain)) > 1e12
        assert outcome.status == (dc.Status.FAILED if large else dc.Status.CONVERTED)
        assert not large or "out of all bounds" in outcome.reason


def test_thousands_of_groups_channels_and_annotations_are_bounded(
    dicom_file: Factory, tmp_path: Path
) -> None:
    begins = time.process_time()
    small = [group(RAMP[:4], [channel()]) for _ in range(500)]
    picture, outcome = drawn(ecg(dicom_file, small), tmp_path / "out")
    assert any(note.startswith("not drawn: waveform 2, waveform 3") for note in outcome.warnings)
    assert len(base_lines(picture)) == 1
    wide = group(np.zeros((10, 300), "<i2"), [channel(f"c{n}") for n in range(300)])
    picture, outcome = drawn(ecg(dicom_file, [wide]), tmp_path / "out")
    assert re.fullmatch(r"only the first \d+ curves are drawn", outcome.warnings[0])
    assert len(picture) <= dc.MAX_PAPER
    positions = list(range(1, 10_000))
    marks = [annotation("x" * 500, ReferencedSamplePositions=positions)]
    marks += [annotation(f"{n} " + "漢" * 500) for n in range(3000)]
    one = group(np.hstack([RAMP] * 3), [channel("I"), channel("II"), channel("V1")])
    given = {"SpecificCharacterSet": "ISO_IR 192"}
    picture, outcome = drawn(
        ecg(dicom_file, [one], WaveformAnnotationSequence=marks, **given), tmp_path / "out"
    )
    assert "the first 1000 annotations are drawn" in outcome.warnings
    picture, outcome = drawn(
        ecg(dicom_file, [one], WaveformAnnotationSequence=marks[1:], **given), tmp_path / "out"
    )
    assert any(
        re.match(r"of \d+ annotations the first \d+ are drawn", one) for one in outcome.warnings
    )
    assert len(picture) <= dc.MAX_PAPER
    assert len(base_lines(picture)) == 3
    assert time.process_time() - begins < 30


def test_a_file_that_ends_in_its_waveform_fails(dicom_file: Factory, tmp_path: Path) -> None:
    path = ecg(dicom_file, [group(RAMP, [channel()])])
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(RAMP.tobytes()) + 100])
    assert convert(path, tmp_path / "out").status == dc.Status.FAILED


def test_sound_in_logarithms_is_not_drawn(dicom_file: Factory, tmp_path: Path) -> None:
    one = group(np.zeros((80, 1), "u1"), [channel()], 8000, WaveformSampleInterpretation="MB")
    outcome = convert(ecg(dicom_file, [one], SOPClassUID=SOUND), tmp_path / "out")
    assert outcome.status == dc.Status.TEXT_ONLY
    assert outcome.reason == "a sound (mu-law or A-law), no picture of its own"


def test_a_median_beat_is_told_and_groups_of_one_time_are_joined(
    dicom_file: Factory, tmp_path: Path
) -> None:
    beat = group(RAMP[:600], [channel()], WaveformOriginality="DERIVED", MultiplexGroupLabel="BEAT")
    rest = group(RAMP, [channel("II")])
    pressure = group(RAMP[::2], [channel("ART", "mm[Hg]")], 250)
    again = group(RAMP, [channel("II")], MultiplexGroupLabel="AGAIN")
    picture, outcome = drawn(ecg(dicom_file, [beat, rest, pressure]), tmp_path / "out")
    assert not outcome.warnings
    assert "2 channels, 4 s at 500 Hz; 25 mm/s, 10 mm/mV; not drawn: BEAT" in outcome.facts[0][1]
    assert len(base_lines(picture)) == 1
    _, outcome = drawn(ecg(dicom_file, [rest, again]), tmp_path / "out")
    assert outcome.warnings == ("not drawn: AGAIN",)
    _, outcome = drawn(ecg(dicom_file, [beat]), tmp_path / "out")
    assert "1 channels, 1.2 s" in outcome.remark


def test_curves_are_pictures_of_the_page_and_in_no_clip(
    dicom_file: Factory, tmp_path: Path, run: Any
) -> None:
    for n in range(3):
        ecg(
            dicom_file, twelve(), name=f"{n}.dcm", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3"
        )
    result: Run = run(tmp_path / "in", "--study")
    assert result.code == 0
    pictures = [f"in/{n}.{end}" for n in range(3) for end in ("png", "txt")]
    assert [one for one in result.files() if one != "index.html"] in (
        pictures,
        [one.removeprefix("in/") for one in pictures],
    )
    page = (result.output / "index.html").read_text(encoding="utf-8")
    assert page.count('.png"') == 3
    outcome = convert(tmp_path / "in" / "0.dcm", tmp_path / "again")
    assert outcome.instance
    assert outcome.instance.kind == "curve"


def test_resume_minds_the_names_alone(dicom_file: Factory, tmp_path: Path) -> None:
    path, output = ecg(dicom_file, twelve()), tmp_path / "out"
    convert(path, output)
    again = convert(path, output, resume=True, png_bits=8, window="full", gif=False)
    assert again.status == dc.Status.DONE
    other = convert(path, output, resume=True, names=False)
    assert other.status == dc.Status.CONVERTED
    assert [one.name for one in other.outputs] == [one.name for one in again.outputs]
