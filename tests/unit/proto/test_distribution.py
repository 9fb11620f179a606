"""What a hint to install something says, by how this code was installed; and that none names a stranger's package."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grapevine_proto import distribution
from grapevine_proto.distribution import NAME, Installation

CHECKOUT = Path(__file__).resolve().parents[3]
WHEEL = "file:///tmp/grapevine_learning-0.1.0-py3-none-any.whl"
GIT = {"url": "https://example.org/grapevine.git", "vcs_info": {"vcs": "git", "commit_id": "0a1b2c"}}


def installed(tmp_path: Path, **changes: Any) -> Installation:
    settings: dict[str, Any] = {
        "origin": {},
        "installer": "pip",
        "prefix": tmp_path / "venv",
        "is_venv": True,
        "is_active": True,
        "has_pip": True,
        "checkout": None,
    }
    (tmp_path / "venv").mkdir(exist_ok=True)
    return Installation(**(settings | changes))


def test_from_an_index_the_hint_names_our_distribution(tmp_path: Path) -> None:
    assert installed(tmp_path).to_add_extra("train") == "pip install 'grapevine-learning[train]'"
    assert installed(tmp_path, is_venv=False).to_add_extra("data") == "pip install 'grapevine-learning[data]'"
    assert installed(tmp_path).to_add_packages("torch", "torchvision") == "pip install torch torchvision"


@pytest.mark.parametrize("editable", [False, True])
def test_from_a_checkout_the_hint_names_its_folder_and_keeps_it_editable(tmp_path: Path, editable: bool) -> None:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    origin = {"url": folder.as_uri(), "dir_info": {"editable": True} if editable else {}}
    words = shlex.split(installed(tmp_path, origin=origin).to_add_extra("train"))
    assert words == ["pip", "install", *(["--editable"] if editable else []), f"{folder}[train]"]


def test_a_checkout_that_is_gone_is_not_named(tmp_path: Path) -> None:
    origin = {"url": (tmp_path / "gone").as_uri(), "dir_info": {}}
    assert installed(tmp_path, origin=origin).to_add_extra("train") == "pip install 'grapevine-learning[train]'"


def test_from_a_wheel_or_a_repository_the_hint_names_that_again(tmp_path: Path) -> None:
    told = installed(tmp_path, origin={"url": WHEEL, "archive_info": {}}).to_add_extra("lab")
    assert shlex.split(told)[-1] == f"grapevine-learning[lab] @ {WHEEL}"
    told = installed(tmp_path, origin=GIT).to_add_extra("lab")
    assert shlex.split(told)[-1] == "grapevine-learning[lab] @ git+https://example.org/grapevine.git@0a1b2c"


def test_without_metadata_it_is_the_checkout_that_the_code_lies_in(tmp_path: Path) -> None:
    found = installed(tmp_path, origin=None, checkout=CHECKOUT)
    assert shlex.split(found.to_add_extra("train"))[-1] == f"{CHECKOUT}[train]"
    assert installed(tmp_path, origin=None).to_add_extra("train") == "pip install 'grapevine-learning[train]'"


def test_the_hint_is_about_this_environment_and_no_other(tmp_path: Path) -> None:
    prefix = str(tmp_path / "venv")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"is_active": False}, [f"{prefix}/bin/python", "-m", "pip", "install"]),
        ({"is_active": False, "has_pip": False}, ["pip", "--python", prefix, "install"]),
        ({"installer": "uv"}, ["uv", "pip", "install"]),
        ({"installer": "uv", "is_active": False}, ["uv", "pip", "install", "--python", prefix]),
    ]
    for changes, words in cases:
        found = installed(tmp_path, **changes)
        assert shlex.split(found.to_add_extra("train")) == [*words, "grapevine-learning[train]"]
        assert shlex.split(found.to_add_packages("torch")) == [*words, "torch"]


def test_in_an_environment_of_pipx_it_adds_to_that(tmp_path: Path) -> None:
    found = installed(tmp_path, is_active=False)
    (tmp_path / "venv" / "pipx_metadata.json").write_text("{}")
    assert found.to_add_extra("train") == "pipx inject venv 'grapevine-learning[train]'"
    assert found.to_add_packages("torch") == "pipx inject venv torch"


@pytest.mark.parametrize(
    ("receipt", "extras"),
    [
        ('[tool]\nrequirements = [{ name = "grapevine-learning", extras = ["data"] }]', "data,train"),
        ('[tool]\nrequirements = [{ name = "grapevine-learning" }, { name = "other", extras = ["x"] }]', "train"),
        ("no toml", "train"),
        ("[tool]\nrequirements = 3", "train"),
    ],
)
def test_a_tool_of_uv_keeps_the_extras_that_it_has(tmp_path: Path, receipt: str, extras: str) -> None:
    found = installed(tmp_path, installer="uv")
    (tmp_path / "venv" / "uv-receipt.toml").write_text(receipt)
    assert found.to_add_extra("train") == f"uv tool install --force 'grapevine-learning[{extras}]'"
    kept = "grapevine-learning[data]" if "data" in extras else "grapevine-learning"
    assert shlex.split(found.to_add_packages("torch")) == ["uv", "tool", "install", "--force", "--with", "torch", kept]


def project() -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return read


def test_the_name_is_that_of_the_project_and_extras_refer_to_it() -> None:
    assert project()["name"] == NAME
    extras = project()["optional-dependencies"]
    (ours,) = (each for each in extras["lab"] if each.startswith(NAME))
    assert set(ours.removeprefix(f"{NAME}[").removesuffix("]").split(",")) == set(extras) - {"lab"}


def test_what_attaches_to_the_command_is_what_the_guides_name() -> None:
    attached = project()["entry-points"]
    assert set(attached["grapevine.commands"]) == {"demo", "lab", "simulate"}
    assert set(attached["grapevine.dashboards"]) == {"lab"}
    for group, function in (("grapevine.commands", "register"), ("grapevine.dashboards", "sources_of")):
        for where in attached[group].values():
            module, _, name = where.partition(":")
            assert (CHECKOUT / "lab" / (module.replace(".", "/") + ".py")).is_file()
            assert name == function


def test_every_extra_that_a_hint_names_is_there() -> None:
    named = {
        extra
        for file in source_files(".py")
        for extra in re.findall(r"""to_add_extra\(["'](\w+)["']\)""", file.read_text(encoding="utf-8"))
    }
    assert {"train", "data", "broker", "lab"} <= named <= set(project()["optional-dependencies"])


def test_this_process_can_tell_what_it_runs_from() -> None:
    told = distribution.to_add_extra("train")
    assert told.endswith(("[train]", "[train]'"))
    assert distribution.version() == project()["version"] or distribution.installation().origin is None


def test_no_command_pays_for_hints_that_it_does_not_give() -> None:
    code = "import sys, grapevine_proto.distribution; sys.exit('importlib.metadata' in sys.modules)"
    environment = {"PYTHONPATH": str(CHECKOUT / "proto")}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, check=False)
    assert done.returncode == 0


# Elsewhere than in this file: the name of the other project as something to install.
_STRANGERS = re.compile(
    r"(?<![\w./-])grapevine\[|(?:pip|pipx|uv)\d?\s+(?:tool\s+|pip\s+)*(?:install|inject)\s+(?:-\S+\s+)*['\"]?grapevine(?![-\w./])"
    r"|version\(['\"]grapevine['\"]\)"
)
_NOT_OURS = {".git", ".venv", "node_modules"}


def source_files(*endings: str) -> Iterator[Path]:
    for top in CHECKOUT.iterdir():
        if (
            top.name in _NOT_OURS
            or (top / "pyvenv.cfg").exists()
            or top.name.startswith((".mypy", ".ruff", ".pytest", ".hypothesis", ".import"))
        ):
            continue
        for file in [top] if top.is_file() else top.rglob("*"):
            if file.is_file() and file.suffix in endings and file != Path(__file__).resolve():
                yield file


def test_nothing_in_the_tree_tells_anybody_to_install_a_strangers_package() -> None:
    files = [
        *source_files(".py", ".md", ".toml", ".txt", ".sh", ".yml", ".yaml", ".cfg", ".html", ".json"),
        *(file for file in (CHECKOUT / "Makefile", CHECKOUT / ".ci" / "run") if file.exists()),
    ]
    found = [
        f"{file.relative_to(CHECKOUT)}: {match.group()}"
        for file in files
        if file.name != "CHANGELOG.md"  # tells what was
        for match in _STRANGERS.finditer(file.read_text(encoding="utf-8", errors="replace"))
    ]
    assert len(files) > 300
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "pip install 'grapevine[train]'",
        "pip install grapevine",
        "python -m pip install -U grapevine",
        "pipx install grapevine",
        "install grapevine[broker]",
        'importlib.metadata.version("grapevine")',
    ],
)
def test_the_search_would_find_them(text: str) -> None:
    assert _STRANGERS.search(text)
    assert not _STRANGERS.search(text.replace("grapevine", "grapevine-learning"))


def test_of_a_debian_package_apt_brings_what_trains_and_pipx_what_is_in_no_package(tmp_path: Path) -> None:
    debian = installed(tmp_path, installer="dpkg", is_active=False, has_pip=False)
    assert debian.is_debian
    assert debian.to_add_extra("train") == "apt install ./grapevine-train_*.deb"
    assert debian.to_add_extra("data") == "apt install ./grapevine-train_*.deb"
    assert debian.to_add_extra("lab") == "pipx install 'grapevine-learning[lab]'"
    assert not installed(tmp_path).is_debian
