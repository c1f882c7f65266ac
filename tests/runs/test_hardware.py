import os

import pytest

from seg.runs import hardware


@pytest.mark.parametrize(
    ("precision", "num_gpus", "units", "policy"),
    [
        ("auto", 0, False, "float32"),
        ("auto", 0, True, "mixed_bfloat16"),
        ("auto", 1, False, "mixed_bfloat16"),
        ("float32", 1, True, "float32"),
        ("mixed_bfloat16", 0, False, "mixed_bfloat16"),
    ],
)
def test_precision_follows_the_hardware_unless_stated(monkeypatch, precision, num_gpus, units, policy):
    monkeypatch.setattr(hardware, "has_bfloat16_units", lambda: units)
    assert hardware.precision_policy(precision, num_gpus) == policy


def test_environment_names_versions_and_hardware():
    facts = hardware.environment(0, "float32")
    assert set(facts["packages"]) == set(hardware.PACKAGES)
    assert facts["precision"] == "float32"
    assert facts["cores"] == os.cpu_count()


def test_quiet_stderr_holds_back_native_output(capfd):
    with hardware.quiet_stderr():
        os.write(2, b"a note\n")
    assert capfd.readouterr().err == ""


def test_quiet_stderr_shows_it_after_all_when_something_fails(capfd):
    with pytest.raises(RuntimeError), hardware.quiet_stderr():
        os.write(2, b"the reason\n")
        raise RuntimeError
    assert capfd.readouterr().err == "the reason\n"
