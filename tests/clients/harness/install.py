"""Fetches what a suite needs from its ordinary registry, at pinned versions, into the cache; once.

Each folder of the cache gets a stamp with what was asked for, so a second run fetches nothing and a changed pin fetches
anew. A tool that is missing and cannot be installed ends the suite with a message: it never passes by not running.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from . import places


class Missing(Exception):
    """Something a suite needs is not here and cannot be had."""


def command(name: str, package: str) -> str:
    """The path of a command; where it is missing, its Debian package is installed if this user may."""
    if found := shutil.which(name):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"env": environment, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], check=False, **quiet
        )
    if found := shutil.which(name):
        return found
    raise Missing(f"`{name}` is not installed and could not be (Debian package {package}); install it")


def once(folder: Path, wanted: str, make) -> Path:
    """Runs `make(folder)` unless `folder` was made for the same `wanted`."""
    stamp = folder / ".made-for"
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    stamp.write_text(wanted)
    return folder


def run(*arguments, **options) -> None:
    """Runs a step of an installation; what it says is shown if it fails."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Missing(f"{' '.join(str(a) for a in arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def python(suite: Path) -> Path:
    """A virtual environment with the suite's requirements.txt; the interpreter in it."""
    wanted = (suite / "requirements.txt").read_text()

    def make(folder: Path) -> None:
        own = command("python3", "python3-venv")
        run(own, "-m", "venv", folder)
        run(folder / "bin/python", "-m", "pip", "install", "--quiet", "-r", suite / "requirements.txt")

    folder = once(places.CACHE / suite.name / "venv", wanted + platform.python_version(), make)
    return folder / "bin/python"


def node_modules(suite: Path) -> Path:
    """The suite's program beside its installed packages, in a folder of the cache."""
    npm = command("npm", "npm")
    manifest = [(suite / name).read_text() for name in ("package.json", "package-lock.json")]

    def make(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(suite / name, folder)
        run(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)

    folder = once(places.CACHE / suite.name / "node", "".join(manifest), make)
    for program in [*suite.glob("*.mjs"), places.CLIENTS / "harness/cases.mjs"]:
        shutil.copy(program, folder)
    return folder


def node(least: tuple[int, int], pinned: str) -> str:
    """Node.js of at least this version: the machine's own, or the pinned one that the npm registry carries."""
    own = command("node", "nodejs")
    said = subprocess.run([own, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(number) for number in re.findall(r"\d+", said)[:2]) >= least:
        return own
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if machine is None:
        raise Missing(f"Node.js {'.'.join(map(str, least))} or newer is needed, and {said.strip()} is here")
    package = f"node-linux-{machine}"

    def make(folder: Path) -> None:
        run(command("npm", "npm"), "install", "--prefix", folder, "--no-save", "--loglevel=error", f"{package}@{pinned}")

    folder = once(places.CACHE / f"node-{pinned}", package, make)
    return str(folder / "node_modules" / package / "bin/node")


def maven(suite: Path) -> Path:
    """The jars of the suite's pom.xml, in one folder."""
    def make(folder: Path) -> None:
        goal = "dependency:copy-dependencies"
        run(command("mvn", "maven"), "-B", "-q", "-f", suite / "pom.xml", goal, f"-DoutputDirectory={folder}")

    return once(places.CACHE / suite.name / "jars", (suite / "pom.xml").read_text(), make)
