"""What this program needs before it can run: the platform, and its packages. It imports nothing that may be missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib import metadata

NAME = "summarize-batch"


def unsupported(platform: str) -> str:
    """Why the program does not run on this `sys.platform`; empty where it does."""
    if platform == "win32":
        return "Windows is not supported: it runs on Linux and macOS, and so in WSL and in a container"
    return ""


def required() -> list[str]:
    """The packages that were declared, as `NAME>=VERSION`; those for some platforms only are left out."""
    return [needs for needs in metadata.requires(NAME) or () if ";" not in needs]


def missing(packages: Iterable[str]) -> list[str]:
    """Which of these are not installed. Workers import some of them only when there is a page to be read."""
    return [needs for needs in packages if not _installed(_name(needs))]


def advice(packages: Iterable[str]) -> str:
    """What to do about packages that are not there."""
    wanted = " ".join(f"'{needs}'" for needs in packages)
    return f"a package is missing: {sys.executable} -m pip install {wanted}"


def declared(module: str) -> str:
    """The package of a module that could not be imported, in the version that was declared, if it was."""
    return next((needs for needs in required() if _normal(_name(needs)) == _normal(module)), module)


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _name(needs: str) -> str:
    return re.split(r"[^\w.-]", needs)[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
