"""XLA's programs kept for the next start, with a made-up chip: where, how many, and where not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seg.runs import program_cache
from seg.runs.program_cache import DEVICES, FLAG, chip_key, keep_programs, remove_oldest

CHIP = "NVIDIA H200, 580.65.06"


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one GPU, as nvidia-smi tells it; the file that it answers with."""
    programs = tmp_path / "bin"
    programs.mkdir()
    answer = programs / "answer"
    answer.write_text(f"{CHIP}\n")
    script = programs / "nvidia-smi"
    script.write_text(f'#!/bin/sh\nwhile read -r line; do echo "$line"; done < "{answer}"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return answer


def test_the_environment_of_a_machine_with_a_gpu(chip: Path, tmp_path: Path):
    added, told = keep_programs({})
    (folder,) = (tmp_path / "cache" / "seg" / "xla").iterdir()
    assert folder.name.startswith("NVIDIA-H200-580.65.06_tensorflow-")
    assert added == {"TF_XLA_FLAGS": f"{FLAG}={folder} {DEVICES}"}
    assert told == (
        f"XLA's programs are kept in {folder} (0 of at most 1024 MiB there); training.keep_programs=false: not"
    )


def test_chip_driver_and_versions_are_the_key(chip: Path, monkeypatch: pytest.MonkeyPatch):
    versions = {"tensorflow": "2.21.0", "keras": "3.15.1"}
    monkeypatch.setattr(program_cache.metadata, "version", versions.__getitem__)
    assert chip_key({}) == "NVIDIA-H200-580.65.06_tensorflow-2.21.0_keras-3.15.1"
    chip.write_text("NVIDIA H200, 580.65.06\nNVIDIA H200, 580.65.06\nTesla T4, 580.65.06\n")
    assert chip_key({}) == "NVIDIA-H200-580.65.06_Tesla-T4-580.65.06_tensorflow-2.21.0_keras-3.15.1"


def test_a_user_s_other_flags_stay_and_an_own_cache_is_left_alone(chip: Path):
    added, _ = keep_programs({"TF_XLA_FLAGS": "--tf_xla_auto_jit=2"})
    assert added["TF_XLA_FLAGS"].startswith(f"--tf_xla_auto_jit=2 {FLAG}=")
    assert keep_programs({"TF_XLA_FLAGS": f"{FLAG}=/elsewhere"}) == ({}, "")


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus_are_none(chip: Path, hidden: str):
    assert keep_programs({"CUDA_VISIBLE_DEVICES": hidden}) == ({}, "")


def test_on_a_cpu_nothing_is_set_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert keep_programs({}) == ({}, "")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\n", "no program"])
def test_a_driver_that_does_not_answer_is_no_gpu(chip: Path, script: str):
    (chip.parent / "nvidia-smi").write_text(script)
    assert keep_programs({}) == ({}, "")


def test_a_folder_that_cannot_be_made_stops_nothing(chip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    added, told = keep_programs({})
    assert added == {}
    assert told.startswith("XLA's programs are not kept for the next start: ")


def test_no_home_stops_nothing(chip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(program_cache.Path, "home", no_home)
    assert keep_programs({}) == (
        {},
        "XLA's programs are not kept for the next start: Could not determine home directory.",
    )


def test_a_read_only_folder_stops_nothing(chip: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(dir: Path) -> None:  # root may write anywhere
        raise PermissionError(f"{dir} is read-only")

    monkeypatch.setattr(program_cache.tempfile, "TemporaryFile", refuse)
    added, told = keep_programs({})
    assert added == {}
    assert told.endswith(" is read-only")


def test_the_oldest_programs_go_first(tmp_path: Path):
    for age, name in enumerate(["new", "middle", "old"]):
        file = tmp_path / f"chip-{age}" / name
        file.parent.mkdir()
        file.write_bytes(bytes(100))
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    assert remove_oldest(tmp_path, 300) == 300
    assert remove_oldest(tmp_path, 250) == 200
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["middle", "new"]
    assert remove_oldest(tmp_path, 0) == 0
