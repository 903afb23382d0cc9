"""Documents, help text and lists of dependencies say the same."""

from __future__ import annotations

import re
import symtable
import tomllib
from bisect import bisect
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dicom_converter as dc

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README_CN.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def options() -> set[str]:
    """Return every option of the command line."""
    parser_help = help_text()
    return set(re.findall(r"(?<![\w-])--?[a-z8][\w-]*", parser_help))


def help_text() -> str:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        dc.main(["--help"])
    return out.getvalue()


@pytest.mark.parametrize("readme", READMES)
def test_every_option_is_documented_and_no_other(readme: str) -> None:
    table = read(readme).split("\n|---|---|\n")[1].split("\n\n")[0]
    documented = set(
        re.findall(
            r"`(--?[a-z8][\w-]*)`", " ".join(row.split("|")[1] for row in table.splitlines())
        )
    )
    assert documented == options()


@pytest.mark.parametrize("readme", READMES)
def test_the_usage_line_names_every_option(readme: str) -> None:
    usage = next(
        line for line in read(readme).splitlines() if line.startswith("dicom_converter.py [-h]")
    )
    long_forms = {"--output", "--quiet", "--jobs", "--help"}
    assert set(re.findall(r"--?[a-z8][\w-]*", usage)) == options() - long_forms


def test_both_readmes_have_the_same_shape() -> None:
    english, chinese = map(read, READMES)
    for pattern in (r"^#+ ", r"^\|", r"^```", r"^- "):
        counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        assert counts[0] == counts[1], pattern
    figures = [re.findall(r"\d+\.\d+ (?:MB|dB|%)", text) for text in (english, chinese)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("name", ["convert", "test"])
def test_both_readmes_have_the_same_commands(name: str) -> None:
    pattern = rf"<!-- command: {name} -->\n```sh\n(.*)\n```"
    english, chinese = (re.findall(pattern, read(readme)) for readme in READMES)
    assert english == chinese
    assert len(english) == 1


@pytest.mark.parametrize("readme", READMES)
def test_limits_and_licence_are_stated(readme: str) -> None:
    text = read(readme)
    sentence = {
        "README.md": "For personal medical archive management only, not for diagnosis.",
        "README_CN.md": "仅供个人医疗影像档案管理使用，不得用于诊断。",  # noqa: RUF001 - Chinese
    }[readme]
    assert sentence in text
    for code in (0, 1, 2, 130):
        assert f"\n| {code} | " in text


def test_the_lists_of_dependencies_agree() -> None:
    block = re.search(r"# /// script\n(.*?)# ///", read("dicom_converter.py"), re.DOTALL)
    assert block
    script = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    project = tomllib.loads(read("pyproject.toml"))
    assert script["dependencies"] == read("requirements.txt").split()
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {
        "file": ["requirements.txt"]
    }
    assert script["requires-python"] == project["project"]["requires-python"]
    assert read("requirements-dev.txt").splitlines()[0] == "-r requirements.txt"


def test_what_is_installed_lies_within_the_bounds() -> None:
    required = [Requirement(line) for line in read("requirements.txt").split()]
    broken_before = {"av", "imagecodecs", "numpy", "opencv-python-headless", "pillow", "pydicom"}
    broken_before |= {"pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "rich"}
    for library in required:
        ends = {end.operator for end in library.specifier}
        assert ">=" in ends, library
        assert "<" in ends or library.name not in broken_before, library
        assert version(library.name) in library.specifier, library
    assert broken_before <= {library.name for library in required}


def test_the_version_is_the_newest_everywhere() -> None:
    newest = re.search(r"^## ([\d.]+) ", read("CHANGELOG.md"), re.MULTILINE)
    assert newest
    assert newest[1] == dc.__version__
    for readme in READMES:
        assert f"- **{dc.__version__}**" in read(readme)


def test_a_section_calls_only_what_stands_above_it() -> None:
    source = read("dicom_converter.py")
    heads = [0] + [n for n, line in enumerate(source.splitlines(), 1) if line.startswith("# --- ")]
    module = symtable.symtable(source, "dicom_converter.py", "exec")
    section = {child.get_name(): bisect(heads, child.get_lineno()) for child in scopes(module)}
    assert len(section) > 200
    upward = [
        f"{child.get_name()} -> {name}"
        for child in scopes(module)
        for name in globals_of(child)
        if section.get(name, 0) > section[child.get_name()]
    ]
    assert not upward


def scopes(table: symtable.SymbolTable) -> list[symtable.SymbolTable]:
    """Return the functions and classes right inside *table*."""
    return [child for child in table.get_children() if child.get_type() in ("function", "class")]


def globals_of(table: symtable.SymbolTable) -> set[str]:
    """Return the names of the module that *table* uses, however deep inside it."""
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return own.union(*map(globals_of, table.get_children()))


@pytest.mark.parametrize("readme", READMES)
def test_every_file_of_the_layout_exists(readme: str) -> None:
    section = re.search(
        r"^## (?:Layout|目录结构)\n(.*?)^## ", read(readme), re.MULTILINE | re.DOTALL
    )
    assert section
    paths = re.findall(r"^\| (.*?) \|", section[1], re.MULTILINE)[2:]
    names = [name for cell in paths for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) >= 10
    for name in names:
        assert name == "output/" or (ROOT / name).exists(), name


@pytest.mark.parametrize("syntax", dc.DECODED_SYNTAXES)
@pytest.mark.parametrize("readme", READMES)
def test_every_compressed_encoding_is_listed(readme: str, syntax: str) -> None:
    short = syntax.removeprefix("1.2.840.10008.1.2.4") if ".2.4." in syntax else syntax
    assert re.search(rf"(?<!\d){re.escape(short)}(?!\d)", read(readme))
