import os

import pytest

from seg.runs import hardware


def test_environment_names_versions_and_hardware():
    facts = hardware.environment(0, "float32")
    assert set(facts["packages"]) == set(hardware.PACKAGES)
    assert facts["precision"] == "float32"
    assert facts["cores"] == os.cpu_count()


@pytest.mark.parametrize(("machine", "flag"), [("x86_64", "1"), ("AMD64", "1"), ("aarch64", None)])
def test_onednn_is_on_where_the_processor_is_an_x86(monkeypatch, machine, flag):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setattr(hardware.platform, "machine", lambda: machine)
    monkeypatch.delitem(hardware.sys.modules, "tensorflow", raising=False)
    hardware.choose_kernels()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == flag


def test_a_user_s_own_choice_of_kernels_stays(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.delitem(hardware.sys.modules, "tensorflow", raising=False)
    hardware.choose_kernels()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_quiet_stderr_holds_back_native_output(capfd):
    with hardware.quiet_stderr():
        os.write(2, b"a note\n")
    assert capfd.readouterr().err == ""


def test_quiet_stderr_shows_it_after_all_when_something_fails(capfd):
    with pytest.raises(RuntimeError), hardware.quiet_stderr():
        os.write(2, b"the reason\n")
        raise RuntimeError
    assert capfd.readouterr().err == "the reason\n"
