"""Loading: YAML's scalars, overrides, the dump, the schema, the shipped files, and answers without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seg.config import dump_config, load_config, validate
from seg.config.__main__ import main
from seg.config.data import FolderData
from seg.config.losses import CrossEntropyTerm, DiceTerm
from seg.config.optimizer import AdamW
from seg.config.schedule import CosineSchedule
from seg.config.tree import Config
from seg.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
BASE = """\
name: test
labels: {names: [sky, road]}
data: {name: folders, root: somewhere}
training: {epochs: 3, batch_size: 2}
"""
EVERYTHING = """\
name: all
seed: 3
labels: {names: [sky, 'no'], colours: [[1, 2, 3], [4, 5, 6]], encoding: {name: colour, void_colours: [[0, 0, 0]]}}
data: {name: fractions, root: x, train: 0.5, val: 0.5, test: 0, block_size: 2}
input: {bands: 1, resize: [64, 96], crop: [32, 32], crops_per_image: 2, max_value: 4095, mean: 0.5, std: 1}
augmentation: {scale: [0.5, 2], rotate: 10}
class_weights: {scheme: manual, cap: 9, manual: {sky: 1, 'no': 2.5}, normalize: none, counts: c.json}
pixel_weights: {name: border, classes: ['no'], strength: 5, sigma: 2.5}
model: {name: unet, depth: 2, norm: group, upsampling: bilinear, dropout: 0.5}
loss: [{name: focal, gamma: 0.5, coefficient: 2}, {name: dice, weighted: false, reduction: image}]
optimizer: {name: adam, learning_rate: 1e-5}
schedule: {name: constant}
training: {epochs: 9, batch_size: 1, early_stopping: 8, precision: float32, workers: 1}
output: {root: out, overlays: 0}
"""


def load(tmp_path: Path, text: str = BASE, *overrides: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def failure(tmp_path: Path, text: str | bytes = BASE, *overrides: str) -> str:
    """The error's text, with FILE for the file's path."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return str(error.value).replace(str(path), "FILE")


# --- what a file means ------------------------------------------------------------------------------------------------
def test_a_short_file_gets_the_defaults(tmp_path: Path):
    config = load(tmp_path)
    assert config.data == FolderData(name="folders", root="somewhere")
    assert config.optimizer == AdamW(name="adamw", learning_rate=1e-3, weight_decay=1e-4)
    assert config.schedule == CosineSchedule(name="cosine", warmup_epochs=0, final_fraction=0)
    assert config.loss == (CrossEntropyTerm(name="cross_entropy"),)
    assert (config.seed, config.class_weights.scheme, config.input.bands) == (0, "uniform", 3)


def test_the_label_set_has_chosen_colours_where_none_are_given(tmp_path: Path):
    labels = load(tmp_path).labels.label_set()
    assert (labels.names, labels.ignore_index, len(set(labels.colours))) == (("sky", "road"), 255, 2)
    assert load(tmp_path, EVERYTHING).labels.label_set().colours == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("2e0", 2.0), ("1.5e+1", 15.0), (".5", 0.5), ("5.", 5.0), ("3", 3.0)],
)
def test_numbers(tmp_path: Path, text: str, value: float):
    rate = load(tmp_path, BASE + f"optimizer: {{name: adam, learning_rate: {text}}}").optimizer.learning_rate
    assert (rate, type(rate)) == (value, float)


@pytest.mark.parametrize("text", ["no", "on", "y", "2026-11-22", "1:30", "010", "1_000", "0x1f", "nan", "a=b", "ü"])
def test_texts_that_need_no_quotes(tmp_path: Path, text: str):
    # YAML 1.1, which PyYAML reads, makes false, true, dates, 90, 8, 1000 and 31 of them.
    assert load(tmp_path, BASE.replace("somewhere", text)).data.root == text


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path):
    assert load(tmp_path, "\ufeff" + BASE.replace("\n", "\r\n")) == load(tmp_path)


def test_a_config_does_not_change(tmp_path: Path):
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).training.epochs = 5  # type: ignore[misc]


def test_validating_leaves_the_tree_as_it_was():
    tree = {"name": "a", "labels": {"names": ["a", "b"]}, "data": {"name": "folders", "root": "data"}}
    tree["training"] = {"epochs": 1, "batch_size": 1}
    before = json.dumps(tree)
    validate(tree, "tree")
    assert json.dumps(tree) == before


# --- files that are no configuration ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: got nothing, allowed: a YAML mapping of sections"),
        ("# only a comment", "FILE: got nothing, allowed: a YAML mapping of sections"),
        ("- a", 'FILE: got ["a"], allowed: a YAML mapping of sections'),
        ("hello", "FILE: got 'hello', allowed: a YAML mapping of sections"),
        ("a:\n\tb: 3", r"FILE:2:1: not valid YAML: found character '\t' that cannot start any token"),
        ("a: [1, 2", "FILE:1:9: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2", "FILE:2:1: not valid YAML: but found another document"),
        ("a: 1\nb: 2\na: 3", "FILE:3:1: not valid YAML: key 'a' stands twice"),
        (BASE.replace("{epochs: 3,", "{epochs: 3, epochs: 4,"), "FILE:4:23: not valid YAML: key 'epochs' stands twice"),
        ("[1]: 2", "FILE:1:1: not valid YAML: found unhashable key"),
        ("a: &x 1\nb: *x", "FILE:2:4: not valid YAML: alias *x; allowed: the value itself"),
        ("a: &x {b: *x}", "FILE:1:11: not valid YAML: alias *x; allowed: the value itself"),
        (
            "a: !!python/object:os.x {}",
            "FILE:1:4: not valid YAML: tag tag:yaml.org,2002:python/object:os.x; allowed: the value itself",
        ),  # fmt: skip
        ("a: !mine 3", "FILE:1:4: not valid YAML: tag !mine; allowed: the value itself"),
        (
            "a: \x01",
            "FILE: not valid YAML: unacceptable character #x0001: special characters are not allowed in "
            '"<unicode string>", position 3',
        ),  # fmt: skip
        (b"name: \xff", "FILE: not UTF-8 text: invalid start byte at byte 6"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str | bytes, message: str):
    assert failure(tmp_path, text) == message


def test_a_file_that_is_nested_too_deeply(tmp_path: Path):
    assert failure(tmp_path, "a: " + "[" * 5000 + "]" * 5000).startswith("FILE: not valid YAML: maximum recursion")


def test_a_number_with_too_many_digits(tmp_path: Path):
    assert failure(tmp_path, "a: " + "9" * 5000).startswith("FILE: not valid YAML: Exceeds the limit")


def test_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "none.yaml")
    assert str(error.value) == f"{tmp_path / 'none.yaml'}: no such file"
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path)
    assert str(error.value) == f"{tmp_path}: cannot be read: Is a directory"


# --- overrides --------------------------------------------------------------------------------------------------------
def test_overrides_reach_keys_lists_and_left_out_sections(tmp_path: Path):
    config = load(
        tmp_path,
        BASE,
        "training.epochs=7",
        "labels.names.1=street",
        "optimizer.learning_rate=1e-2",  # the section is left out: the override changes the default one
        "schedule.warmup_epochs=2",
        "loss.0.coefficient=2",
        "model.depth=3",
        "input.resize=[32, 64]",
        "output={overlays: 0}",
        "data.root=a=b",
    )
    assert config.training.epochs == 7
    assert config.labels.names == ("sky", "street")
    assert config.optimizer == AdamW(name="adamw", learning_rate=0.01)
    assert config.schedule == CosineSchedule(name="cosine", warmup_epochs=2)
    assert config.loss == (CrossEntropyTerm(name="cross_entropy", coefficient=2.0),)
    assert (config.model.depth, config.input.resize, config.output.overlays) == (3, (32, 64), 0)
    assert config.data.root == "a=b"


def test_an_override_replaces_a_whole_section(tmp_path: Path):
    without = ("class_weights={}", "pixel_weights=null")
    config = load(tmp_path, EVERYTHING, "loss=[{name: dice}]", *without, "optimizer.name=adamw")
    assert config.loss == (DiceTerm(name="dice"),)
    assert config.class_weights.manual is None
    assert config.optimizer == AdamW(name="adamw", learning_rate=1e-5)


def test_an_empty_value_is_null(tmp_path: Path):
    assert load(tmp_path, EVERYTHING, "training.workers=", "input.max_value=null").training.workers is None


def test_later_overrides_win(tmp_path: Path):
    assert load(tmp_path, BASE, "training.epochs=7", "training.epochs=8").training.epochs == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "override 'epochs': allowed: key.sub=value, for example training.epochs=3"),
        ("=3", "override '=3': allowed: key.sub=value, for example training.epochs=3"),
        ("training..epochs=3", "override 'training..epochs=3': allowed: key.sub=value, for example training.epochs=3"),
        ("name.sub=3", "override 'name.sub=3': name is 'test', which has no keys"),
        ("name.sub.key=3", "override 'name.sub.key=3': name is 'test', which has no keys"),
        (
            "labels.names.2=x",
            "override 'labels.names.2=x': labels.names is a list; got '2', allowed: an index from 0 to 1",
        ),  # fmt: skip
        (
            "labels.names.-1=x",
            "override 'labels.names.-1=x': labels.names is a list; got '-1', allowed: an index from 0 to 1",
        ),  # fmt: skip
        (
            "labels.names.²=x",
            "override 'labels.names.²=x': labels.names is a list; got '²', allowed: an index from 0 to 1",
        ),  # fmt: skip
        (
            "data.root=[",
            "override 'data.root=[':1:2: not valid YAML: expected the node content, but found '<stream end>'",
        ),  # fmt: skip
        ("data={a: 1, a: 2}", "override 'data={a: 1, a: 2}':1:8: not valid YAML: key 'a' stands twice"),
    ],
)
def test_overrides_that_cannot_be_applied(tmp_path: Path, override: str, message: str):
    assert failure(tmp_path, BASE, override) == message


def test_an_index_into_an_empty_list(tmp_path: Path):
    message = "override 'loss.0.name=dice': loss is a list; got '0', allowed: nothing: it is empty"
    assert failure(tmp_path, BASE + "loss: []", "loss.0.name=dice") == message


# --- dump and schema --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [BASE, EVERYTHING], ids=["base", "everything"])
def test_the_dump_loads_as_an_equal_config(tmp_path: Path, text: str):
    config = load(tmp_path, text)
    assert load(tmp_path, dump_config(config)) == config


@settings(max_examples=30)
@given(root=st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=20))
@example(root="1e3")
@example(root="1e-3")
@example(root="null")
@example(root="~")
@example(root="true")
@example(root="no")
@example(root="010")
@example(root="2026-11-22")
@example(root="*alias")
@example(root="!tag")
@example(root="a: b # c\nd\t")
@example(root=" ")
def test_any_text_survives_the_dump(tmp_path_factory: pytest.TempPathFactory, root: str):
    tmp_path = tmp_path_factory.mktemp("dump")
    config = validate(
        {
            "name": "a",
            "labels": {"names": ["b", "c"]},
            "data": {"name": "table", "root": root, "table": f"{root}."},
            "training": {"epochs": 1, "batch_size": 1},
        },
        "tree",
    )
    assert load(tmp_path, dump_config(config)) == config


@settings(max_examples=30)
@given(rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_any_number_survives_the_dump(tmp_path_factory: pytest.TempPathFactory, rate: float):
    tmp_path = tmp_path_factory.mktemp("dump")
    config = load(tmp_path, BASE, f"optimizer={{name: adam, learning_rate: {rate!r}}}")
    assert config.optimizer.learning_rate == rate
    assert load(tmp_path, dump_config(config)) == config


def test_the_schema_in_the_repository_is_the_one_of_the_code():
    stored = json.loads((ROOT / "configs" / "schema.json").read_text("utf-8"))
    assert stored == Config.model_json_schema(), "run `make schema`"


def test_every_field_of_the_schema_has_a_type_and_every_section_a_sentence():
    for name, section in Config.model_json_schema()["$defs"].items():
        assert section["description"], name
        assert section["additionalProperties"] is False, name


def test_main_writes_the_schema_and_leaves_nothing_else(tmp_path: Path):
    assert main([str(tmp_path / "schema.json")]) == 0
    assert json.loads((tmp_path / "schema.json").read_text("utf-8")) == Config.model_json_schema()
    assert [path.name for path in tmp_path.iterdir()] == ["schema.json"]


def test_main_tells_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "schema.json"
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path.parent}: is no folder; allowed: a folder, or a new name\n"


# --- the shipped files ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_loads_opens_with_a_comment_and_fits_a_screen(path: Path):
    config = load_config(path)
    assert config.name == path.stem
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= 66  # about 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_survives_the_dump(tmp_path: Path, path: Path):
    config = load_config(path)
    assert load(tmp_path, dump_config(config)) == config


def test_there_are_shipped_files():
    assert "camvid" in [path.stem for path in FILES]


# --- without TensorFlow -----------------------------------------------------------------------------------------------
def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after `code`."""
    code = f"import sys\n{code}\nprint(*(name.partition('.')[0] for name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_a_config_error_needs_no_framework(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(BASE.replace("epochs: 3", "epochs: 0"))
    code = "from seg.config import load_config\nfrom seg.errors import ConfigError\n"
    code += (
        f"try:\n    load_config({str(path)!r})\nexcept ConfigError:\n    pass\nelse:\n    raise SystemExit('no error')"
    )
    loaded = modules_after(code)
    assert "seg" in loaded
    assert not loaded & {"tensorflow", "keras", "albumentations", "cv2", "matplotlib"}


def test_help_answers_without_a_framework():
    code = "import contextlib, io\nfrom seg.config.__main__ import main\nout = io.StringIO()\n"
    code += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(out):\n    main(['--help'])\n"
    code += "assert 'JSON schema' in out.getvalue()"
    assert not modules_after(code) & {"tensorflow", "keras", "albumentations", "cv2", "matplotlib"}


def test_the_command_prints_its_usage():
    command = [sys.executable, "-m", "seg.config", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: python -m seg.config")
    assert result.stderr == ""
