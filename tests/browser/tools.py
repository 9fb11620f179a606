"""What tests in a browser need beside it; where it is not installed, they are skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

WHY = "needs Playwright and axe: make setup"
expect = pytest.importorskip("playwright.sync_api", reason=WHY).expect
_axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=WHY)


def serious(page: Page) -> list[tuple[str, list[Any]]]:
    """What axe finds serious or critical on a page: the rule, and where."""
    found = _axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
