"""The `.env` that ``init`` writes: every setting with its meaning, the ones that matter filled in."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values, set_key

from fullstory_dagster.settings import SETTINGS, Settings

_CLOUDS = ("AWS_", "GOOGLE_", "AZURE_")


def write_dotenv(path: Path, settings: Settings) -> list[str]:
    """Write the key and the start date into a `.env`, keeping whatever it holds already.

    A new file lists every setting, commented out with its default, and is readable by its owner only.

    Returns:
        list[str]: names of the settings that were added.
    """
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_template())
    wanted = {
        "FULLSTORY_API_KEY": settings.require_api_key(),
        "FULLSTORY_START_DATE": f"{settings.start:%Y-%m-%d}"
        if settings.start.hour == 0
        else f"{settings.start:%Y-%m-%dT%H:%M:%SZ}",
    }
    present = dotenv_values(path, interpolate=False)
    added = [name for name in wanted if not present.get(name)]
    for name in added:
        set_key(path, name, wanted[name], quote_mode="never")
    return added


def export_cloud_variables(path: Path) -> None:
    """Let the libraries of object stores find in the environment what a `.env` says to them, as Dagster does for all.

    What the environment has already wins. A file that cannot be read is told of where settings are read.
    """
    with suppress(UnicodeDecodeError):
        for name, value in dotenv_values(path, interpolate=False).items():
            if name.startswith(_CLOUDS) and value:
                os.environ.setdefault(name, value)


def _template() -> str:
    lines = [
        "# Settings of fullstory-dagster. The environment wins over this file.",
        "# Keep it out of version control: it holds the API key.",
    ]
    for setting in SETTINGS:
        lines += ["", f"# {setting.meaning.replace('`', '')}", f"# Default: {setting.default.replace('`', '')}"]
        lines.append(f"#{setting.name}=")
    return "\n".join([*lines, "", "# Written by init.", ""])
