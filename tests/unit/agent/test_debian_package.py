"""The Debian packages as they are described to dpkg, and the guides that they bring; built they are in the testbed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from grapevine_agent.config.example import EXAMPLE_CONFIG

CHECKOUT = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
NAMED = re.compile(r"\bdocs/([a-z-]+\.md)")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_deb", CHECKOUT / "agent/packaging/debian/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg: this is no Debian")
def test_a_newer_revision_keeps_pytorch_and_another_version_does_not(build: ModuleType) -> None:
    text = build.control_text("grapevine-train", "0.1.0-1", "amd64", 1)
    (line,) = (line for line in text.splitlines() if line.startswith("Depends: "))
    bounds = re.findall(r"grapevine \((\S+) (\S+)\)", line)
    assert len(bounds) == 2

    def fits(version: str) -> bool:
        compare = ["dpkg", "--compare-versions", version]
        return all(subprocess.run([*compare, *bound], check=False).returncode == 0 for bound in bounds)

    versions = ("0.0.9-1", "0.1.0-1", "0.1.0-2", "0.1.0-12", "0.1.1-1", "0.2.0-1")
    assert [each for each in versions if fits(each)] == ["0.1.0-1", "0.1.0-2", "0.1.0-12"]


@pytest.mark.parametrize("name", ["grapevine", "grapevine-train"])
def test_nothing_in_what_dpkg_is_told_is_left_open(build: ModuleType, name: str) -> None:
    text = build.control_text(name, "0.1.0-1", "arm64", 42)
    assert "@" not in text.replace(build.MAINTAINER, "")
    assert "Version: 0.1.0-1\n" in text


def test_the_package_brings_every_page_that_its_owner_is_referred_to(build: ModuleType) -> None:
    """From the example of a configuration, from what the command says, and from the guides themselves."""
    there = build.documents()
    says = [EXAMPLE_CONFIG, *(path.read_text() for path in (CHECKOUT / "agent/grapevine_agent").rglob("*.py"))]
    wanted = {Path(name) for text in says for name in NAMED.findall(text)}
    for guide in ("guide-owner", "operations", "configuration", "data-sources", "trainers", "applications"):
        links = {Path(name) for name in LINK.findall(there[Path(f"{guide}.md")].read_text())}
        wanted |= {Path(each.name) if each.parts[0] == ".." else each for each in links if each.parts[0] != "results"}
    wanted = {each for each in wanted if each.suffix in (".md", ".json")}
    assert {"guide-owner.md", "data-sources.md", "trainers.md", "applications.md"} <= {str(each) for each in wanted}
    assert not wanted - there.keys()
