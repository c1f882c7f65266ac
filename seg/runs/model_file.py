"""A model file that needs no run folder: its classes, and how images become what it takes, travel inside.

To predict from the file alone:

    model = load_segmenter(path)
    labels, preprocessing = read_description(path)
    image = preprocessing.prepare(preprocessing.read(Path("tile.png")))  # (H, W, bands) float32
    mask = labels.predicted(model.predict(image[None])[0])  # (H, W) uint8

(`load_segmenter` is of seg/training/segmenter.py.)
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.data.files.storage import written_whole
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.data.views.seen_images import SeenImages
from seg.errors import DataError
from seg.labels import LabelSet

if TYPE_CHECKING:  # a description is read before TensorFlow is started
    import keras

MEMBER = "seg.json"  # in the .keras file, a zip archive; Keras leaves alone what it does not know
WEIGHTS = "model.weights.h5"
# The largest configuration of a model here has 0.3 MB, the sums of a confusion matrix of 1000 classes 8 MB.
MOST_MEMBER_BYTES = 64 * 2**20
MOST_MEMBERS = 64


def save_model(model: keras.Model, path: Path, description: str | None = None) -> None:
    """Saves under a temporary name and renames, so that a kill in the middle leaves the old file.

    Args:
        model: Any Keras model.
        path: A .keras file.
        description: What `describe` gave; None: the file has none.
    """
    with written_whole(path, suffix=".keras", durable=True) as temporary:
        write_model(model, temporary, description)


def write_model(model: keras.Model, path: Path, description: str | None = None) -> None:
    """As `save_model`, straight to `path`."""
    model.save(path)
    if description is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(MEMBER, description)


def describe(labels: LabelSet, preprocessing: Preprocessing, images: SeenImages | None = None) -> str:
    """The classes, the preprocessing and what the training's images were like, as JSON; numbers keep all digits."""
    parts: dict[str, Any] = {"labels": labels, "preprocessing": preprocessing}
    if images is not None:
        parts["images"] = images
    return json.dumps({key: dataclasses.asdict(part) for key, part in parts.items()})


def read_images(path: Path) -> SeenImages | None:
    """What the images were like that a saved model was trained on; None where its file, an older one, does not say.

    Raises:
        DataError: The description is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(MEMBER))
        return SeenImages(**_tuples(content["images"])) if "images" in content else None
    except Exception as error:
        raise _unreadable(path, error) from None


def read_description(path: Path) -> tuple[LabelSet, Preprocessing]:
    """The classes of a saved model, and what it was trained to see: bands, size, value range, mean and std.

    Raises:
        DataError: The file is none that `seg.train` saved, or its description is broken.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(MEMBER))
        return LabelSet(**_tuples(content["labels"])), _preprocessing(_tuples(content["preprocessing"]))
    except Exception as error:  # no archive, no JSON, other fields: it is no checkpoint of ours
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: has no readable {MEMBER} ({first_line(error)}); allowed: a checkpoint that seg.train saved"
    )


def _preprocessing(fields: dict[str, Any]) -> Preprocessing:
    value_range = fields.pop("value_range")
    return Preprocessing(**fields, value_range=None if value_range is None else ValueRange(**_tuples(value_range)))


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists, and lists of lists, as the tuples they were."""
    return {key: _tuple(value) for key, value in fields.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or what kind of error it is."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


# --- before anything of the file is believed --------------------------------------------------------------------------
def check_model_file(path: Path) -> None:
    """Verifies that a .keras file is whole, and that reading it takes no more memory than it has bytes.

    The checksum is the CRC-32 that a zip archive keeps of each member; Keras itself reads the weights without it.

    Raises:
        DataError: Says what is wrong: no archive, torn, damaged, or more declared than there is.
    """
    check_archive(path)
    problem = f"has no {WEIGHTS}"
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)  # compares the checksum
                if name.endswith(".json"):
                    json.loads(content)
                elif name == WEIGHTS:
                    problem = next(_weights_problems(content), "")
    except RecursionError:
        problem = "its JSON is nested too deeply"
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile) as error:  # HDF5 has them all
        problem = f"is damaged ({first_line(error)})"
    if problem:
        raise DataError(f"{path}: {problem}; allowed: a model that seg.train saved")


def check_archive(path: Path) -> None:
    """Refuses an archive whose members would take more memory than the file has bytes, by its list of members alone.

    Raises:
        DataError: It is none, or a member is encrypted, packed in an unknown way, too large or not to be expected.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: cannot be read as a model ({first_line(error)}); allowed: a checkpoint that seg.train saved"
        ) from None
    names = [member.filename for member in members]
    if len(names) > MOST_MEMBERS or len(set(names)) < len(names):
        raise DataError(f"{path}: has {len(names)} members, allowed: {MOST_MEMBERS} at most, each once")
    for member in members:
        if problem := _member_problem(member):
            raise DataError(f"{path}: its member {member.filename!r} {problem}")


def _member_problem(member: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member's entry in the list, and what is allowed."""
    if member.flag_bits & 0x1:
        return "is encrypted, allowed: members that are not"
    stored = member.compress_type == zipfile.ZIP_STORED
    if member.filename == WEIGHTS and not stored:
        return "is compressed, allowed: weights that are stored as they are, as Keras writes them"
    if not stored and member.compress_type != zipfile.ZIP_DEFLATED:
        return f"is compressed in the unknown way {member.compress_type}, allowed: stored or deflated"
    if stored and member.compress_size != member.file_size:
        return f"declares {member.file_size:,} bytes but has {member.compress_size:,}, allowed: as many"
    if member.filename != WEIGHTS and member.file_size > MOST_MEMBER_BYTES:
        return f"declares {member.file_size:,} bytes, allowed: {MOST_MEMBER_BYTES:,} at most, but for the weights"
    return None


def _weights_problems(content: bytes) -> Iterator[str]:
    """What in the weights' HDF5 file would be read from elsewhere, or be larger in memory than it is in the file."""
    import h5py

    declared = 0
    with h5py.File(io.BytesIO(content)) as file:
        groups, seen = [file], set()
        while groups:
            group = groups.pop()
            place = h5py.h5o.get_info(group.id).addr
            if place in seen:  # a folder inside itself would never end
                yield f"{WEIGHTS} refers to another place ({group.name})"
            seen.add(place)
            for name in group:
                link = group.get(name, getlink=True)
                item = group.get(name) if isinstance(link, h5py.HardLink) else None
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset) and item.external is None and not item.is_virtual:
                    declared += item.nbytes
                else:
                    yield f"{WEIGHTS} refers to another place ({group.name}/{name})"
            if declared > len(content):
                yield f"{WEIGHTS} declares arrays of {declared:,} bytes but has {len(content):,}"
