"""Where the firmware profiles lie that ship with Grapevine, and what they are called."""

from __future__ import annotations

from pathlib import Path


def profile_names() -> list[str]:
    """The names of the profiles that ship with Grapevine, sorted."""
    names: set[str] = set()
    for folder in _folders():
        names |= {file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")}
    return sorted(names)


def profile_path(name: str) -> Path | None:
    """The file of a profile that ships with Grapevine; None where there is none of this name."""
    if "/" in name:
        return None
    return next((file for folder in _folders() if (file := folder / f"{name}.toml").is_file()), None)


def _folders() -> list[Path]:
    """Where profiles ship: the checkout first, because an editable install leaves stale copies behind."""
    checkout = Path(__file__).resolve().parents[3] / "firmware_profiles"
    packaged = Path(__file__).resolve().parents[1] / "profiles"
    return [folder for folder in (checkout, packaged) if folder.is_dir()]
