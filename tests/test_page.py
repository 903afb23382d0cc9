"""The page of a study, in a real Chromium, opened from disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest
from conftest import SAMPLES, Here, data_set
from pydicom import DataElement, Dataset
from test_study import STUDY as STUDY_UID
from test_study import key_file, page_of, reference, slices, state_file

import dicom_converter as dc

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("chromium is not installed", allow_module_level=True)
playwright: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe: Any = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed"
)

SCRIPT = "</script><script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(2)>"
TURNED = "\u202ednuor yaw gnorw\u202c \u05e9\u05dc\u05d5\u05dd"  # right to left
LONG = "W" * 3000
SLICES = 12


def pdf(words: str) -> bytes:
    """Return a PDF of one page, without its table of references, which readers make anew."""
    stream = f"BT /F1 24 Tf 60 700 Td ({words}) Tj ET".encode()
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font"
        b"<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n4 0 obj<</Length "
        + str(len(stream)).encode()
        + b">>stream\n"
        + stream
        + b"\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )


def slice_of(index: int, of: int, side: int = 128) -> dc.Array:
    """Return a made-up slice of a head, uint8."""
    picture = np.zeros((side, side), np.uint8)
    half, size = side // 2, 0.25 + 0.2 * np.sin(np.pi * (index + 1) / (of + 1))
    cv2.ellipse(
        picture, (half, half), (int(side * size * 0.8), int(side * size)), 0, 0, 360, 220, -1
    )
    inner = (int(side * size * 0.72), int(side * size * 0.92))
    cv2.ellipse(picture, (half, half), inner, 0, 0, 360, 90, -1)
    cv2.ellipse(picture, (half, half - index), (6 + index, 10), 20, 0, 360, 40, -1)
    return picture


def still(folder: str, name: str, number: int, **more: Any) -> dict[str, Any]:
    texts = {"InstanceNumber": str(number), "Size": "128 x 128", "Thickness": "5 mm"}
    texts |= {"Position": f"{5 * number} mm"}
    texts |= {"AcquisitionDateTime": "2024-03-05 10:11:12"}
    links = [f"{folder}/{name}.png", f"{folder}/{name}.txt"]
    return {"name": name, "links": links, "frames": 1, "texts": texts, **more}


PATIENT = {
    "PatientName": "Rossi, Anna",
    "PatientID": "ID-0001",
    "PatientBirthDate": "1979-01-31",
    "PatientSex": "F",
}
STUDY = {
    "StudyDate": "2024-03-05",
    "StudyTime": "10:11",
    "StudyDescription": "Head",
    "PatientAge": "045Y",
    "InstitutionName": "General Hospital",
}


def series(
    number: int, modality: str, description: str | None, body: str = "", **more: Any
) -> dict[str, Any]:
    known = {"SeriesNumber": str(number), "Modality": modality, "SeriesDescription": description}
    texts = {**known, **({"BodyPartExamined": body} if body else {})}
    where = {"patient": PATIENT, "study": STUDY, "of": [1, 1]}
    return {**where, "series": texts, "clips": [], "files": [], **more}


def study_data() -> list[dict[str, Any]]:
    """Return what a page holds: a study of all kinds, a hostile one, one of a page of its own."""
    stack = [still("CT", f"IM{n:02}", n) for n in range(1, SLICES + 1)]
    stack.insert(4, {**still("CT", "DOSE", 99), "links": ["CT/DOSE.txt"]})
    stack.append({**still("CT", "BROKEN", 98), "links": [], "failed": "the file ends early"})
    clip = {
        "links": ["US/CLIP.gif", "US/CLIP.mp4", "US/CLIP.txt"],
        "frames": 10,
        "notes": ["10 fps"],
    }
    echo = {**still("US", "CLIP", 1, burned=True), **clip}
    gif = {**still("US", "ONLYGIF", 2), "links": ["US/CLIP.gif", "US/CLIP.txt"], "frames": 10}
    document = {**still("DOC", "REPORT", 1), "links": ["DOC/REPORT.pdf", "DOC/REPORT.txt"]}
    other = {**still("DOC", "HEART", 2), "links": ["DOC/HEART.xml", "DOC/HEART.txt"]}
    whole = {**clip, "name": "series-003", "links": ["US/CLIP.mp4", "US/CLIP.gif", "US/CLIP.txt"]}
    hostile = {
        "PatientName": f"{SCRIPT}{TURNED}",
        "PatientID": IMAGE,
        "PatientBirthDate": LONG,
        "PatientSex": "X",
    }
    bad = still("CT", "IM01", 1, notes=[SCRIPT, LONG], burned=True) | {"name": IMAGE}
    texts = {"InstanceNumber": SCRIPT, IMAGE: TURNED, "Pixel spacing": LONG}
    bad["texts"] = {**texts, "AcquisitionDateTime": None}
    worst = series(1, IMAGE, SCRIPT, TURNED, folder=LONG, files=[bad])
    worst |= {
        "patient": hostile,
        "study": {"StudyDate": None, "StudyDescription": IMAGE},
        "of": [2, 3],
    }
    own = {"page": "study-001.html", "files": 6000, "count": 40, "modalities": "CT, MR"}
    whole_body = {**STUDY, "StudyDate": "2019-01-01", "StudyDescription": "Whole body"}
    return [
        {
            "generator": f"dicom_converter {dc.__version__}",
            "failed": [{"path": f"CD/{SCRIPT}", "reason": f"no DICOM file {IMAGE}"}],
        },
        series(3, "CT", "Axial 5 mm", clips=[whole], files=stack),
        series(4, "US", "Écho 中文", files=[echo, gif]),
        series(5, "DOC", "Papers", files=[document, other]),
        series(6, "SR", None, files=[stack[4]]),
        {**series(7, "CT", ""), "study": whole_body, "of": [1, 2], **own},
        worst,
    ]


def write_page(folder: Path, data: list[dict[str, Any]]) -> Path:
    head, *entries = data
    place = dc.page_place(folder, "index")
    dc.write_page(place, entries, {"failed": head["failed"], "lost": len(head["failed"])})
    return place


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a page and all that it shows."""
    folder = tmp_path_factory.mktemp("a page, ü")
    for name in ("CT", "US", "DOC"):
        (folder / name).mkdir()
    for number in range(1, SLICES + 1):
        dc.write_png(folder / "CT" / f"IM{number:02}.png", slice_of(number, SLICES))
        (folder / "CT" / f"IM{number:02}.txt").write_text(f"slice {number} 切片\n", "utf-8")
    (folder / "CT" / "DOSE.txt").write_text("the dose\n")
    timing = dc.Timing((Fraction(1, 10),) * 10, "10 frames a second")
    frames = [slice_of(number, 10) for number in range(10)]
    dc.write_mp4(folder / "US" / "CLIP.mp4", frames, timing)
    dc.write_gif(folder / "US" / "CLIP.gif", frames, timing)
    (folder / "US" / "CLIP.txt").write_text("a clip\n")
    (folder / "DOC" / "REPORT.pdf").write_bytes(pdf("A report"))
    for name in ("REPORT.txt", "HEART.txt", "HEART.xml"):
        (folder / "DOC" / name).write_text(name)
    (folder / "study-001.html").write_text("<!doctype html><title>its page</title>")
    write_page(folder, study_data())
    return folder


@dataclass
class Shown:
    """A page in a browser, and what it must not do."""

    page: Any
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen."""
        page = self.page
        page.on("console", lambda told: self.faults.append(f"{told.type}: {told.text}"))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", self.dismiss)
        page.on("request", lambda request: self.asked.append(request.url))

    def dismiss(self, dialog: Any) -> None:
        """Note what a script says that should not have run."""
        self.faults.append(dialog.message)
        dialog.dismiss()

    def text(self, selector: str) -> str:
        """Return what is to be read there."""
        return str(self.page.locator(selector).inner_text())

    def open(self, words: str) -> None:
        """Open a series by what its card says."""
        self.page.locator(".card", has_text=words).first.click()

    def entry(self, words: str) -> None:
        """Open one entry of the series that is open."""
        self.page.locator("#entries button", has_text=words).first.click()

    def until(self, condition: str) -> None:
        """Wait for it from outside: what waits inside a page is script, which this page refuses."""
        for _ in range(400):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(20)
        pytest.fail(f"in vain: {condition}")

    def at(self, number: int, of: int = SLICES) -> None:
        """Wait until that picture is said to be shown, and is."""
        self.until(f"document.getElementById('place').value === '{number} / {of}'")
        self.until(f"document.querySelector('#stage > img')?.src.endsWith('IM{number:02}.png')")
        self.until("document.querySelector('#stage > img').naturalWidth > 0")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


USUAL = {"locale": "en-US", "viewport": {"width": 1280, "height": 800}}


def shown_in(browser: Any, path: Path, **context: Any) -> Iterator[Shown]:
    """Show a page in a window of its own, and look at the end whether it kept to itself."""
    with browser.new_context(**USUAL | context) as window:
        yield from kept_to_itself(Shown(window.new_page()), path)


def kept_to_itself(shown: Shown, path: Path) -> Iterator[Shown]:
    shown.page.goto(path.as_uri())
    yield shown
    assert not shown.faults
    inside = f"{path.parent}/"
    for address in shown.asked:
        if not address.startswith("chrome"):  # the browser's own reader of PDF
            assert address.startswith("file:"), address
            assert unquote(urlsplit(address).path).startswith(inside), address


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Shown]:
    """Return a window for page after page, as they keep nothing there."""
    with browser.new_context(**USUAL) as usual:
        yield Shown(usual.new_page())


@pytest.fixture
def usual(window: Shown) -> Shown:
    """Return that window, empty."""
    window.page.goto("about:blank")
    window.faults.clear()
    window.asked.clear()
    return window


@pytest.fixture
def shown(usual: Shown, page_folder: Path) -> Iterator[Shown]:
    yield from kept_to_itself(usual, page_folder / "index.html")


@pytest.fixture
def phone(browser: Any, page_folder: Path) -> Iterator[Shown]:
    small = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "locale": "zh-CN"}
    yield from shown_in(browser, page_folder / "index.html", **small)


def test_the_first_series_is_open(shown: Shown) -> None:
    shown.at(1)
    assert "Rossi, Anna" in shown.text("#what")
    assert "45 y" in shown.text("#tree")
    assert "1 failed" in shown.text(".card >> nth=0")
    assert "left out" in shown.text(".card >> nth=3")
    assert shown.page.title() == "Study overview"


def test_keys_go_through_a_stack(shown: Shown) -> None:
    shown.at(1)
    shown.page.locator("#stage").focus()
    walk = {"ArrowDown": 2, "ArrowRight": 3, "ArrowUp": 2, "End": SLICES, "Home": 1}
    for key, number in walk.items():
        shown.page.keyboard.press(key)
        shown.at(number)
    shown.page.keyboard.press("1")
    assert shown.page.locator("#stage > img").bounding_box()["width"] == 128
    shown.page.keyboard.press("1")
    assert shown.page.locator("#stage > img").bounding_box()["width"] > 300
    shown.page.keyboard.press("f")
    shown.until("document.fullscreenElement?.id === 'viewer'")
    shown.page.keyboard.press("f")
    shown.until("!document.fullscreenElement")


def test_keys_that_are_typed_do_nothing_else(shown: Shown) -> None:
    shown.page.locator("#search").press_sequentially("f 10-t", delay=5)
    assert shown.page.locator("#search").input_value() == "f 10-t"
    shown.at(1)


def test_a_card_is_opened_by_keyboard(shown: Shown) -> None:
    shown.page.locator(".card", has_text="Écho").focus()
    shown.page.keyboard.press("Enter")
    assert "Écho" in shown.text("#what")
    assert shown.page.evaluate("document.activeElement.id") == "stage"
    assert shown.page.locator(".card[aria-current=true]").count() == 1


def test_the_wheel_and_the_slider_go_through_a_stack(shown: Shown) -> None:
    shown.at(1)
    shown.page.locator("#stage").hover()
    for _ in range(3):
        shown.page.mouse.wheel(0, 120)
    shown.at(4)
    shown.page.mouse.wheel(0, -120)
    shown.at(3)
    shown.page.locator("#position").fill("8")
    shown.at(9)
    shown.page.locator("#next").click()
    shown.at(10)


def test_a_drag_goes_through_a_stack(shown: Shown) -> None:
    shown.at(1)
    box = shown.page.locator("#stage").bounding_box()
    shown.page.mouse.move(box["x"] + 50, box["y"] + 50)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + 50, box["y"] + 95, steps=3)
    shown.page.mouse.up()
    shown.at(4)


def test_a_drag_that_comes_from_elsewhere_hinders_nothing(shown: Shown) -> None:
    shown.at(1)
    shown.page.mouse.move(5, 790)
    shown.page.mouse.down()
    box = shown.page.locator("#stage").bounding_box()
    shown.page.mouse.move(box["x"] + 50, box["y"] + 50)
    shown.page.mouse.up()
    shown.page.locator("#next").click()
    shown.at(2)


def test_a_stack_plays_round_and_round(shown: Shown) -> None:
    shown.at(1)
    shown.page.locator("#speed").fill("4")
    shown.page.evaluate(
        "{window.seen = []; new MutationObserver(() => {"
        " const image = document.querySelector('#stage > img');"
        " window.seen.push(image.complete && image.naturalWidth ? +image.src.slice(-6, -4) : 0);"
        "}).observe(document.getElementById('stage'), {childList: true})}"
    )
    shown.page.locator("#stage").focus()
    shown.page.keyboard.press(" ")
    shown.until("window.seen.length > 26")
    round_ = shown.page.evaluate("window.seen.splice(0)")
    assert round_[:13] == [*range(2, SLICES + 1), 1, 2]
    shown.page.keyboard.press(" ")
    shown.page.evaluate("window.seen.length = 0")  # what came before the key took effect
    shown.page.wait_for_timeout(100)
    assert "Play" in shown.text("#play")
    assert len(shown.page.evaluate("window.seen")) <= 1


def test_without_loop_playing_ends(shown: Shown) -> None:
    shown.at(1)
    shown.page.locator("#speed").fill("4")
    shown.page.locator("#loop").click()
    shown.page.locator("#play").click()
    shown.at(SLICES)
    shown.until("document.getElementById('play').textContent.includes('Play')")


@pytest.mark.parametrize("words", ["Axial", "Écho"])
def test_a_clip_plays_at_its_speed_and_stops_at_each_frame(shown: Shown, words: str) -> None:
    shown.open(words)
    shown.entry("MP4")
    shown.until("document.querySelector('#stage video')?.readyState > 1")
    assert "10 fps" in shown.text("#known")
    time = "document.querySelector('#stage video').currentTime"
    shown.page.locator("#stage").focus()
    shown.page.keyboard.press(" ")
    shown.until(f"{time} > .15")
    shown.page.locator("#speed").fill("1.25")
    shown.page.locator("#stage").focus()
    assert shown.page.evaluate("document.querySelector('#stage video').playbackRate") == 1.25
    shown.page.keyboard.press(" ")
    shown.until("document.querySelector('#stage video').paused")
    shown.page.keyboard.press("Home")
    for number in range(2, 11):
        shown.page.keyboard.press("ArrowDown")
        assert shown.page.evaluate(time) == pytest.approx((number - 0.5) / 10, abs=0.01)
        assert shown.page.evaluate("document.getElementById('place').value") == f"{number} / 10"
    shown.page.locator("#back").click()
    assert shown.page.evaluate(time) == pytest.approx(0.85, abs=0.01)
    assert shown.page.evaluate("document.querySelector('#stage video').loop")
    shown.page.locator("#loop").click()
    assert not shown.page.evaluate("document.querySelector('#stage video').loop")


def test_the_ends_of_a_clip_are_ends(shown: Shown) -> None:
    shown.open("Axial")
    shown.entry("MP4")
    shown.until("document.querySelector('#stage video')?.readyState > 1")
    shown.page.locator("#stage").focus()
    shown.page.keyboard.press("End")
    for key in ("End", "ArrowDown"):
        shown.page.keyboard.press(key)
        shown.page.wait_for_timeout(200)
        assert shown.text("#place") == "10 / 10"
    shown.page.locator("#language").click()
    shown.until("document.getElementById('place').value === '10 / 10'")


def test_frames_of_uneven_length_are_all_reached(browser: Any, page_folder: Path) -> None:
    timing = dc.Timing(tuple(Fraction(n, 10) for n in (1, 3, 1, 5, 1)), "uneven")
    dc.write_mp4(page_folder / "US" / "UNEVEN.mp4", [slice_of(n, 5) for n in range(5)], timing)
    begins = [0, 0.1, 0.4, 0.5, 1.0, 1.1]
    clip = {**still("US", "UNEVEN", 1), "links": ["US/UNEVEN.mp4"], "frames": 5, "begins": begins}
    place = page_folder / "uneven.html"
    dc.write_page(place, [series(1, "US", "Uneven", files=[clip])], {})
    for shown in shown_in(browser, place):
        shown.until("document.querySelector('#stage video')?.readyState > 1")
        time = "document.querySelector('#stage video').currentTime"
        for number in range(1, 5):
            shown.page.locator("#next").click()
            shown.until(f"document.getElementById('place').value === '{number + 1} / 5'")
            assert begins[number] < shown.page.evaluate(time) < begins[number + 1]


def test_the_first_picture_is_open_and_frames_beside_a_clip_are_there(
    browser: Any, page_folder: Path
) -> None:
    text = {**still("CT", "DOSE", 1), "links": ["CT/DOSE.txt"]}
    frames = [f"CT/IM{number:02}.png" for number in range(1, SLICES + 1)]
    clip = {**still("US", "CLIP", 1), "links": ["US/CLIP.mp4", *frames], "frames": 10}
    place = page_folder / "order.html"
    series_of = [series(1, "SR", None, files=[text]), series(2, "US", "Heart", files=[clip])]
    dc.write_page(place, series_of, {})
    for shown in shown_in(browser, place):
        assert "Heart" in shown.text("#what")
        shown.until("document.querySelector('.card video')?.readyState > 0")
        shown.entry(f"{SLICES} pictures")
        shown.at(1)


def test_a_gif_alone_is_shown(shown: Shown) -> None:
    shown.open("Écho")
    shown.entry("GIF")
    shown.until("document.querySelector('#stage > img')?.src.endsWith('CLIP.gif')")
    assert not shown.page.locator("#play").is_visible()


def test_a_text_opens_beside_and_follows(shown: Shown) -> None:
    shown.at(1)
    shown.page.locator("#stage").focus()
    shown.page.keyboard.press("t")
    frame = shown.page.frame_locator("#beside iframe")
    frame.get_by_text("slice 1 切片").wait_for()
    assert shown.page.locator("#beside iframe").get_attribute("sandbox") == ""
    shown.page.keyboard.press("ArrowDown")
    frame.get_by_text("slice 2").wait_for()
    shown.page.keyboard.press("t")
    shown.until("!document.querySelector('iframe')")


def test_documents_and_texts_open_in_a_frame(shown: Shown) -> None:
    shown.entry("DOSE")
    shown.page.frame_locator("#stage iframe").get_by_text("the dose").wait_for()
    shown.entry("BROKEN")
    assert "the file ends early" in shown.text("#known")
    shown.open("Papers")
    frame = shown.page.locator("#stage iframe")
    assert frame.get_attribute("sandbox") is None
    assert frame.get_attribute("src").endswith("REPORT.pdf")


def test_what_could_run_or_fetch_something_is_named_only(shown: Shown) -> None:
    shown.open("Papers")
    shown.entry("HEART")
    assert frame_source(shown) == "./DOC/HEART.txt"
    assert "HEART.xml" in shown.text("#known")
    assert shown.page.locator("#known a").all_inner_texts() == ["TXT"]
    assert not [one for one in shown.asked if one.endswith("xml")]


def frame_source(shown: Shown) -> str | None:
    return str(shown.page.locator("#stage iframe").get_attribute("src"))


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_text_is_light_on_dark_whatever_the_system_wants(
    browser: Any, page_folder: Path, scheme: str, beside: bool
) -> None:
    for shown in shown_in(browser, page_folder / "index.html", color_scheme=scheme):
        shown.open("Axial")
        if beside:
            shown.page.locator("#text").click()
        else:
            shown.entry("DOSE")
        shown.page.frame_locator("iframe").locator("pre").wait_for()
        box = shown.page.locator("iframe").bounding_box()
        assert box["width"] > 200
        assert box["height"] > 350
        raw = np.frombuffer(shown.page.locator("iframe").screenshot(), np.uint8)
        levels = np.asarray(cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE), int)
        assert np.median(levels) < 60
        assert levels.max() > 180


@pytest.mark.parametrize(
    ("words", "cards"),
    [
        ("rossi echo", 1),
        ("axial", 1),
        ("20240305", 4),
        ("IM07", 1),
        ("papers 2024-03", 1),
        ("zzz", 0),
    ],
)
def test_the_search_filters(shown: Shown, words: str, cards: int) -> None:
    shown.page.locator("#search").fill(words)
    assert shown.page.locator(".card:visible").count() == cards
    assert shown.text("#hits") == f"{cards} / 7"
    shown.page.locator("#search").fill("")
    assert shown.page.locator(".card:visible").count() == 5


def test_the_language_is_switched_and_follows_the_browser(shown: Shown, phone: Shown) -> None:
    assert phone.page.title() == "检查总览"
    assert "岁" in phone.text("#tree")
    shown.at(1)
    shown.page.locator("#next").click()
    shown.page.locator("#language").click()
    shown.at(2)
    assert shown.page.locator("html").get_attribute("lang") == "zh-Hans"
    assert "12 幅图像" in shown.text("#tree")
    assert "已略去" in shown.text("#tree")
    shown.page.locator("#language").click()
    assert "12 pictures" in shown.text("#tree")


def test_a_phone_shows_all_below_each_other(phone: Shown) -> None:
    for words in ("Axial", "Écho", "Papers"):
        phone.open(words)
        width = phone.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, words
    assert phone.page.locator("#stage").bounding_box()["height"] > 400


def test_a_finger_swipes_through_a_stack(phone: Shown) -> None:
    phone.at(1)
    touch = phone.page.context.new_cdp_session(phone.page)
    for kind, x in (("Start", 300), *(("Move", 300 - 10 * n) for n in range(1, 9)), ("End", None)):
        points = [] if x is None else [{"x": x, "y": 300}]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    phone.until("document.getElementById('position').valueAsNumber >= 2")


def test_a_series_of_nothing_hinders_nothing(browser: Any, tmp_path: Path) -> None:
    data = [{"failed": []}, series(1, "CT", "")]
    for shown in shown_in(browser, write_page(tmp_path, data)):
        assert shown.text(".card").startswith("Series 1 · CT")
        assert not shown.page.locator("summary.red").is_visible()


def test_hostile_text_is_text(shown: Shown) -> None:
    shown.page.locator(".card >> nth=-1").click()
    shown.until("document.querySelector('#stage > img')")
    assert SCRIPT in shown.text("#what")
    assert IMAGE in shown.text("#known")
    assert shown.page.locator("script").count() == 2
    assert shown.page.locator("[onerror], img[src=x]").count() == 0
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert shown.page.locator("#stage").bounding_box()["height"] > 300
    assert shown.page.evaluate("document.documentElement.scrollHeight") <= 800
    shown.page.locator("summary", has_text="1 not converted").click()
    assert IMAGE in shown.text("#tree")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_hinders_a_screen_reader(shown: Shown, language: str) -> None:
    if language == "zh":
        shown.page.locator("#language").click()
    checks: dict[str, Callable[[], object]] = {
        "a stack": lambda: shown.at(1),
        "beside": lambda: shown.page.locator("#text").click(),
        "a clip": lambda: shown.entry("MP4"),
        "a text": lambda: shown.entry("DOSE"),
    }
    reader = axe.Axe()
    for name, act in checks.items():
        act()
        shown.page.wait_for_timeout(300)
        found = reader.run(shown.page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, (name, [(each["id"], each["nodes"][0]["html"]) for each in serious])


def test_an_index_of_pages_only(browser: Any, tmp_path: Path) -> None:
    data = [one for one in study_data() if "page" in one or "failed" in one]
    for shown in shown_in(browser, write_page(tmp_path, data)):
        link = shown.page.locator("#tree a")
        assert link.get_attribute("href") == "./study-001.html"
        assert "6000 files" in shown.text("#tree")
        assert not shown.page.locator("#viewer").is_visible()


def test_the_page_of_a_study_leads_back(browser: Any, tmp_path: Path) -> None:
    data = [one for one in study_data() if "page" in one or "failed" in one]
    index, place = write_page(tmp_path, data), tmp_path / "study-001.html"
    dc.write_page(place, data[1:], {"back": index.name})
    for shown in shown_in(browser, place):
        shown.page.locator("#studies").click()
        shown.page.wait_for_url(index.as_uri())
        assert not shown.page.locator("#studies").count()


FRAMES = 6
CLIP: dict[str, Any] = {"FrameTime": 100, "FrameIncrementPointer": 0x00181063}


def marked_files(folder: Path) -> Path:
    """Write a stack and a clip, states that show them, and lists of key and of rejected images."""
    slices(folder, range(5), SeriesDescription="Axial")
    frames = np.stack([slice_of(n, FRAMES, 64) for n in range(FRAMES)])
    elements = {"Modality": "US", "StudyInstanceUID": STUDY_UID, "SeriesInstanceUID": "1.5", **CLIP}
    data_set(frames, **elements).save_as(folder / "echo", enforce_file_format=True)
    second, third, fifth, echo = (
        reference(folder / name) for name in ("IM2", "IM3", "IM5", "echo")
    )
    state_file(folder / "a", third, label=DataElement(0x00700080, "LO", IMAGE))
    state_file(folder / "b", second, third, label="ROUND")
    state_file(folder / "c", reference(folder / "echo", 4), label="")
    state_file(folder / "d", echo, label="MOVING")
    own: dict[str, Any] = {
        "SeriesInstanceUID": "1.6",
        "SeriesDescription": "Mine",
        "SeriesNumber": 1,
    }
    key_file(folder / "empty", Dataset(), title="113004=For Teaching", **own)
    key_file(folder / "rejected", fifth, second, title="113001=Rejected for Quality Reasons")
    key_file(folder / "keys", third, reference(folder / "echo", 4), says=f"As in 2019 {SCRIPT}")
    there: dict[str, Any] = {
        "StudyInstanceUID": "1.7",
        "SeriesInstanceUID": "1.8",
        "StudyDescription": "Later",
    }
    key_file(folder / "there", third, title="113003=For Surgery", **there)
    return folder


@pytest.fixture(scope="module")
def marked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    source = str(marked_files(folder / "in"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dc, "Workers", Here)
        for name, more in (("out", []), ("again", []), ("again", ["--resume"])):
            assert dc.main([source, "-o", str(folder / name), "--study", "-q", *more]) == 0
    return folder


@pytest.fixture
def marked(usual: Shown, marked_folder: Path) -> Iterator[Shown]:
    yield from kept_to_itself(usual, marked_folder / "out" / "index.html")


def until_shown(shown: Shown, name: str, place: str) -> None:
    """Wait until the output *name* is on the stage, at its *place* ("" where it is alone)."""
    one = "document.querySelector('#stage > :is(img, video)')"
    shown.until(f"{one}?.src.endsWith('/{name}') && ({one}.naturalWidth || {one}.videoWidth) > 0")
    if place:
        shown.until(f"document.getElementById('place').value === '{place}'")


def test_key_and_button_go_through_the_states_of_a_picture(marked: Shown) -> None:
    marked.open("Axial")
    until_shown(marked, "IM1.png", "1 / 5")
    button = marked.page.locator("#state")
    assert not button.is_visible()
    marked.page.keyboard.press("ArrowDown")
    until_shown(marked, "IM2.png", "2 / 5")
    assert button.inner_text() == "As marked"
    marked.page.keyboard.press("ArrowDown")
    until_shown(marked, "IM3.png", "★ 3 / 5")
    assert button.inner_text() == "As marked · 0 / 2"
    for act, name, said, pressed in (
        (lambda: marked.page.keyboard.press("s"), "a.png", f"{IMAGE} · 1 / 2", "true"),
        (button.click, "b-0002.png", "ROUND · 2 / 2", "true"),
        (button.click, "IM3.png", "As marked · 0 / 2", "false"),
        (button.click, "a.png", f"{IMAGE} · 1 / 2", "true"),
        (lambda: marked.page.keyboard.press("S"), "b-0002.png", "ROUND · 2 / 2", "true"),
    ):
        act()
        until_shown(marked, name, "★ 3 / 5")
        assert button.inner_text() == said
        marked.until(f"document.getElementById('state').ariaPressed === '{pressed}'")
    assert marked.text("#known h3") == "IM3 · ROUND"
    assert "3\n" in marked.text("#known dl")  # the number of the picture
    marked.page.keyboard.press("t")
    frame = marked.page.frame_locator("#beside iframe")
    frame.get_by_text("Grayscale Softcopy Presentation State Storage").first.wait_for()
    marked.page.locator("#stage").focus()
    for way, name, place in (("Up", "b-0001", 2), ("Up", "IM1", 1), ("Down", "b-0001", 2)):
        marked.page.keyboard.press(f"Arrow{way}")
        until_shown(marked, f"{name}.png", f"{place} / 5")


def test_a_clip_stays_at_its_frame(marked: Shown) -> None:
    marked.open("US")
    until_shown(marked, "echo.mp4", f"1 / {FRAMES}")
    marked.page.keyboard.press("ArrowDown")
    marked.page.keyboard.press("ArrowDown")
    walk = (
        ("s", "c.png", "", "c · 1 / 2"),
        ("s", "d.mp4", f"3 / {FRAMES}", "MOVING · 2 / 2"),
        ("ArrowDown", "d.mp4", f"★ 4 / {FRAMES}", "MOVING · 2 / 2"),
        ("s", "echo.mp4", f"★ 4 / {FRAMES}", "As marked · 0 / 2"),
        ("s", "c.png", "", "c · 1 / 2"),
        ("s", "d.mp4", f"★ 4 / {FRAMES}", "MOVING · 2 / 2"),
    )
    for key, name, place, said in walk:
        marked.page.keyboard.press(key)
        until_shown(marked, name, place)
        assert marked.text("#state") == said
    marked.page.locator("#language").click()
    until_shown(marked, "d.mp4", f"★ 4 / {FRAMES}")
    marked.page.keyboard.press("ArrowDown")
    until_shown(marked, "d.mp4", f"5 / {FRAMES}")


def test_a_state_of_another_frame_does_not_hide_a_clip(marked: Shown) -> None:
    marked.open("Axial")
    marked.page.keyboard.press("ArrowDown")
    until_shown(marked, "IM2.png", "2 / 5")
    marked.page.keyboard.press("s")
    until_shown(marked, "b-0001.png", "2 / 5")
    marked.open("US")
    until_shown(marked, "d.mp4", f"1 / {FRAMES}")


def test_clips_of_a_state_have_frames_and_times_of_their_images(
    browser: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for count, times in ((4, [0, 100, 1000, 100]), (6, [0, 100, 100, 100, 100, 900])):
        frames = np.stack([slice_of(n, count, 64) for n in range(count)])
        known: dict[str, Any] = {
            "Modality": "US",
            "FrameIncrementPointer": 0x00181065,
            "FrameTimeVector": times,
        }
        data_set(frames, **known).save_as(folder / f"clip{count}", enforce_file_format=True)
    state_file(folder / "s", *(reference(folder / f"clip{count}") for count in (4, 6)), label="S")
    options = ("--study", "-q", "--fps", "auto", "--frames", "1")
    assert dc.main([str(folder), "-o", str(tmp_path / "out"), *options]) == 0
    for shown in shown_in(browser, tmp_path / "out" / "index.html"):
        shown.open("PR")
        until_shown(shown, "s-0001.mp4", "1 / 4")
        shown.page.keyboard.press("End")
        until_shown(shown, "s-0001.mp4", "4 / 4")
        assert shown.page.evaluate("document.querySelector('#stage video').currentTime") > 1.1
        entries = shown.page.locator("#entries button").all_inner_texts()
        assert [one.partition(" · ")[0] for one in entries] == ["MP4", "MP4"]


def test_key_images_come_first_and_have_a_star(marked: Shown) -> None:
    cards = marked.page.locator("section details").first.locator(".card span b").all_inner_texts()
    assert cards[:2] == [f"Of Interest · As in 2019 {SCRIPT}", "Mine · For Teaching"]
    assert cards.index("Rejected for Quality Reasons") > cards.index("Axial")
    marked.open("Of Interest")
    until_shown(marked, "IM3.png", "")
    assert "★ Key image" in marked.text("#known")
    assert "TXT" in marked.text("#known")
    marked.page.locator("#entries button", has_text="MP4 · echo · Frame 4").click()
    until_shown(marked, "echo.mp4", f"★ 4 / {FRAMES}")
    marked.entry("TXT · keys")
    frame = marked.page.frame_locator("#stage iframe")
    frame.get_by_text("frame 4 of echo.gif, echo.mp4, echo.txt").wait_for()
    marked.open("For Teaching")
    frame.get_by_text("Title          For Teaching").wait_for()


def test_rejected_images_have_no_star(marked: Shown) -> None:
    marked.open("Rejected")
    until_shown(marked, "IM5.png", "1 / 2")
    assert "★" not in marked.text("main")
    marked.open("Axial")
    marked.page.keyboard.press("End")
    until_shown(marked, "IM5.png", "5 / 5")
    assert "★" not in marked.text("main")


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_marks_hinder_no_screen_reader(browser: Any, marked_folder: Path, language: str) -> None:
    for shown in shown_in(browser, marked_folder / "out" / "index.html", locale=language):
        reader = axe.Axe()
        shown.page.keyboard.press("s")
        for words, name in (("Of Interest", "a.png"), ("US", "d.mp4"), ("Axial", "IM1.png")):
            shown.open(words)
            until_shown(shown, name, "")
            shown.page.keyboard.press("ArrowDown")
            shown.until("document.getElementById('state').ariaPressed === 'true'")
            found = reader.run(shown.page).response["violations"]
            assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def test_marks_are_on_the_page_of_a_resumed_run(marked_folder: Path) -> None:
    pages = [(marked_folder / name / "index.html").read_bytes() for name in ("out", "again")]
    assert pages[0] == pages[1]


def test_marks_are_on_pages_of_one_study_each(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dc, "Workers", Here)
    monkeypatch.setattr(dc, "MAX_ON_PAGE", 2)
    source = str(marked_files(tmp_path / "in"))
    assert dc.main([source, "-o", str(tmp_path / "out"), "--study", "-q"]) == 0
    _, studies = page_of(tmp_path / "out")
    for study in studies:
        own = {"Later": "For Surgery"}.get(study["study"].get("StudyDescription"), "Of Interest")
        for shown in shown_in(browser, tmp_path / "out" / study["page"]):
            shown.open(own)
            until_shown(shown, "IM3.png", "")
            assert "★ Key image" in shown.text("#known")
    assert len(studies) == 2


def test_the_page_of_the_samples(browser: Any, tmp_path: Path) -> None:
    """A real run: every series opens, and every file of it is there."""
    assert dc.main([str(SAMPLES), "-o", str(tmp_path / "out"), "--study", "-q"]) == 0
    for shown in shown_in(browser, tmp_path / "out" / "index.html"):
        cards = shown.page.locator(".card")
        assert cards.count() == 4
        for number in range(cards.count()):
            cards.nth(number).click()
            entries = shown.page.locator("#entries button")
            for entry in range(entries.count()):
                entries.nth(entry).click()
                picture = "document.querySelector('#stage > img')?.naturalWidth > 0"
                film = "document.querySelector('#stage > video')?.readyState > 1"
                shown.until(f"{picture} || {film}")
        shown.open("20 pictures")
        shown.until("document.getElementById('place').value === '1 / 20'")
        shown.page.locator("#text").click()
        shown.page.frame_locator("#beside iframe").get_by_text("PATIENT").wait_for()


def test_five_thousand_pictures(browser: Any, page_folder: Path) -> None:
    files = [still("CT", f"IM{1 + n % SLICES:02}", n) for n in range(200)]
    many = [series(n, "CT", f"Series of {n}", files=files) for n in range(25)]
    path = page_folder / "many.html"
    dc.write_page(path, many, {})
    for shown in shown_in(browser, path):
        shown.at(1, 200)
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        shown.until(f"{paint} > 0")
        print(
            f"{path.stat().st_size / 1e6:.1f} MB, first paint: {shown.page.evaluate(paint):.0f} ms"
        )
        assert len([one for one in shown.asked if one.endswith(".png")]) < 40
