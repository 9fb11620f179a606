"""What the guides have an owner type, held against what a shell makes of it."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"


def _commands() -> list[str]:
    """Lines of the guides that are commands of root."""
    found = []
    for page in ("guide-owner", "operations"):
        text = (DOCS / f"{page}.md").read_text()
        found += [line.strip() for line in text.splitlines() if re.match(r"    (\$ )?sudo ", line)]
    return found


def test_no_command_of_root_has_the_users_shell_look_into_a_folder_of_roots() -> None:
    """`sudo rm -rf /var/lib/grapevine/*` deletes nothing: who types it may not see what is there."""
    commands = _commands()
    assert len(commands) > 15
    for command in commands:
        word = command.partition("#")[0]
        assert not re.search(r"/(etc|var)/\S*\*", word), command
        assert not re.search(r">\s*/(etc|var)/", word), command


def test_what_is_to_be_saved_is_put_back() -> None:
    page = (DOCS / "operations.md").read_text()
    section = page[page.index("## Back up, and move") : page.index("## Figures")]
    saved, _, restored = section.partition("To put it back")
    for name in re.findall(r"cp -r?p /\S*/(\S+) ", saved):
        assert f"/media/backup/{name}" in restored, name
