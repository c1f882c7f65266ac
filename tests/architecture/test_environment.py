"""One list of dependencies: environment.yml repeats pyproject.toml's, and the lock file pins and hashes all of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
DIRECT = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
PYTHONS = ("3.11", "3.12", "3.13")


def locked_requirements(text: str) -> list[tuple[Requirement, list[str]]]:
    """(requirement, its hash options) for each entry of a lock file."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    entries = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    return [(Requirement(entry.split(" --hash=")[0]), re.findall(r"--hash=(\S+)", entry)) for entry in entries]


def locked_versions(name: str, python: str) -> list[str]:
    """The versions that the lock file gives `name` on Linux with this Python; one is right."""
    machine = default_environment() | {"python_version": python, "python_full_version": f"{python}.0"}
    machine |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return [
        str(requirement.specifier).removeprefix("==")
        for requirement, _ in locked_requirements(LOCK)
        if canonicalize_name(requirement.name) == canonicalize_name(name)
        and (requirement.marker is None or requirement.marker.evaluate(machine))
    ]


def test_environment_yml_equals_pyproject():
    python, pip, from_pypi = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    assert (python, pip) == ("python" + PROJECT["requires-python"], "pip")
    assert from_pypi["pip"] == [*PROJECT["dependencies"], "-e ."]


@pytest.mark.parametrize("dependency", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
def test_a_dependency_has_a_floor(dependency: str):
    assert [specifier.operator for specifier in Requirement(dependency).specifier] == [">="]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("dependency", DIRECT)
def test_the_lock_pins_a_dependency_above_its_floor(dependency: str, python: str):
    requirement = Requirement(dependency)
    (version,) = locked_versions(requirement.name, python)
    assert requirement.specifier.contains(version)


def test_every_locked_package_is_pinned_and_hashed():
    for requirement, hashes in locked_requirements(LOCK):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


def test_the_lock_names_no_url_path_or_index():
    entries = [line for line in LOCK.splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in entries if re.search(r"://|/|@|^-", line)] == []
    assert [line for line in LOCK.splitlines() if re.search(r"://|--index|--find-links|(^|\s)/", line)] == []


def test_the_lock_holds_one_opencv():
    # opencv-python and opencv-python-headless write the same folder, cv2/.
    assert sorted({r.name for r, _ in locked_requirements(LOCK) if r.name.startswith("opencv")}) == [
        "opencv-python-headless"
    ]


def test_the_lock_reader_reads_versions_markers_and_hashes():
    entry = "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd"
    text = f"# by make\n{entry}\n    # via seg\n"
    ((requirement, hashes),) = locked_requirements(text)
    assert (requirement.name, str(requirement.specifier), hashes) == ("numpy", "==2.4.6", ["sha256:ab", "sha256:cd"])
    assert requirement.marker is not None
    assert not requirement.marker.evaluate({"python_full_version": "3.13.0"})
