"""`python -m seg.predict`: images to class masks and overlays, by a trained run or its model file alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg.console import text_console
from seg.errors import ConfigError, DataError, OutputError, run_command
from seg.progress import progress

if TYPE_CHECKING:
    from seg.data.files.storage import File
    from seg.data.views.preprocessing import Preprocessing
    from seg.inference.files import FilePredictor
    from seg.labels import LabelSet
    from seg.runs.run_dir import RunDir

SKIPPED = 3  # exit code where images were skipped
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for the user

console = text_console(soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m seg.predict",
        description="Predicts class masks (OUT/masks/NAME.png, 8-bit class indices; of a GeoTIFF NAME.tif on its grid, "
        "of a NIfTI NAME.nii.gz; of multi-label runs NAME.tif, a page of 0 and 1 a class) and overlays "
        "(OUT/overlays/NAME.png) of images of any size, with the preprocessing that the model was trained with.",
        epilog="example: python -m seg.predict runs/quickstart-20260101-120000 data/scenes/images/test --out out",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a folder that seg.train made, or a .keras file")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="image files or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace files in OUT")
    parser.add_argument("--checkpoint", help="of a folder: best (default), last or the path of a .keras file")
    parser.add_argument("--tile", type=int, default=1024, help="larger images are predicted in tiles of this side")
    parser.add_argument("--overlap", type=int, default=128, help="pixels that neighbouring tiles share")
    parser.add_argument(
        "--valid", metavar="PATTERN", help="validity masks, outside which predictions are void: a path with {stem} for "
        "an image's name without its suffix, as in fov/{stem}_mask.gif",
    )  # fmt: skip
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="what an image that cannot be predicted does; "
        "skipped ones are listed, exit code 3",
    )  # fmt: skip
    args = parser.parse_args(argv)
    options = {
        "overwrite": args.overwrite,
        "on_error": args.on_error,
        "which": args.checkpoint,
        "tile": args.tile,
        "overlap": args.overlap,
        "valid": args.valid,
    }
    return run_command(lambda: predict(args.model, args.inputs, args.out, **options))


def predict(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    which: str | None = None,
    tile: int = 1024,
    overlap: int = 128,
    valid: str | None = None,
    on_error: str = "stop",
) -> int:
    """Predicts every image of `inputs`; all paths are checked before the model is loaded.

    Files in `out` are replaced only if `overwrite`, and files of the run's data never; nothing is written among them.

    The classes and the preprocessing are those in the model's file. A run folder adds along which axis it cut volumes;
    of a file alone they are refused. `valid` is the pattern of validity masks, with {stem} for an image's name; which
    of their values mean valid is the run's data.valid_values, of a file alone all but 0. Images of another type or
    number of bands than the training's are refused, values far from the training's are told.

    Returns:
        The exit code: 0, or `SKIPPED` where `on_error` is `skip` and images could not be predicted.

    Raises:
        DataError: The run, the checkpoint or an image is at fault.
        ConfigError: `tile` and `overlap` do not go together, or `which` is given for a file.
    """
    from seg.data.files.volumes import is_nifti
    from seg.inference.settings import MOST_TILE
    from seg.runs.model_file import read_description
    from seg.runs.run_dir import open_model

    if tile > MOST_TILE:
        raise ConfigError(f"--tile: got {tile}, allowed: 1 to {MOST_TILE} (pixels of a side)")
    if not 0 <= overlap < tile:
        raise ConfigError(f"--overlap: got {overlap}, allowed: 0 to {tile - 1} (less than --tile)")
    checkpoint, run = open_model(model, which)
    slices = run.config().data.slices if run else None
    images = find_images(inputs, console.print)
    for path in filter(is_nifti, images if run is None else []):
        raise DataError(f"{path}: is a volume, whose axis {model} does not say; allowed: with a run folder")
    labels, preprocessing = read_description(checkpoint)
    pixels = None
    if valid is not None:
        from seg.inference.validity import Validity

        pixels = Validity.of_pattern(valid, images, getattr(run.config().data, "valid_values", None) if run else None)

    axis = None if slices is None else slices.axis
    images, skipped = familiar(images, checkpoint, preprocessing, axis, on_error)
    _check_out(out, images, labels, axis, run, overwrite)

    from seg.runs.hardware import start_tensorflow

    start_tensorflow()
    from seg.inference.files import FilePredictor
    from seg.training.segmenter import load_segmenter

    predictor = FilePredictor(
        load_segmenter(checkpoint, labels.num_classes),
        preprocessing,
        labels,
        out=out,
        tile=tile,
        overlap=overlap,
        axis=axis,
        valid=pixels,
    )
    done, failed = _predict_each(predictor, images, on_error, out)
    console.print(f"{done} masks in {out / 'masks'}, overlays in {out / 'overlays'}")
    for text in (*skipped, *failed):
        print(f"skipped {text}", file=sys.stderr)
    return SKIPPED if skipped or failed else 0


def _predict_each(predictor: FilePredictor, images: Sequence[Path], on_error: str, out: Path) -> tuple[int, list[str]]:
    """How many images were predicted, and why each of the others was not."""
    failed: list[str] = []
    with progress("predicting", len(images), console) as step:
        for done, path in enumerate(images):
            try:
                predictor.predict(path)
            except OutputError:
                raise
            except DataError as error:
                if on_error == "stop":
                    finished = f"{done} of {len(images)} images were predicted, in {out / 'masks'}"
                    raise DataError(f"{error}; {finished}; to go on behind a bad image: --on-error skip") from None
                failed.append(str(error))
            step()
    return len(images) - len(failed), failed


def _check_out(
    out: Path, images: Sequence[Path], labels: LabelSet, axis: int | None, run: RunDir | None, overwrite: bool
) -> None:
    """Refuses to write among the run's data, over the images, or, unless `overwrite`, over anything.

    Raises:
        DataError: Names the file or folder.
    """
    from seg.data.files.outputs import check_folder, check_targets, local_paths
    from seg.inference.files import target_files

    data: set[Path] = set(run.data_files()) if run else set()
    data_folders = {path.resolve().parent for path in data}
    for folder in (out / "masks", out / "overlays"):
        check_folder(folder)
        if folder.resolve() in data_folders:
            raise DataError(f"{folder}: holds masks or images that the run was trained on; allowed: another --out")
    targets = [target for path in images for target in target_files(path, out, labels, axis)]
    check_targets(targets, lambda: {*images, *local_paths(data)}, overwrite)


def familiar(
    images: list[Path], checkpoint: Path, preprocessing: Preprocessing, axis: int | None, on_error: str
) -> tuple[list[Path], list[str]]:
    """The images that are like those of the training, and why each of the others is not; warns of values far from the
    training's. A model file that does not say what they were like takes all.

    Raises:
        DataError: An image is of another type or number of bands, and `on_error` is `stop`; or none is left.
    """
    from seg.data.samples.slices import volume_slices
    from seg.data.views.seen_images import seen_images
    from seg.runs.model_file import read_images

    seen = read_images(checkpoint)
    if seen is None:
        return images, []
    kept, skipped = [], []
    parts: list[File] = []
    for path in images:
        slices = volume_slices(path, axis)
        part = slices[len(slices) // 2] if slices else path
        try:
            seen.check(part)
            kept.append(path)
            parts.append(part)
        except DataError as error:
            if on_error == "stop":
                raise
            skipped.append(str(error))
    if not kept:
        raise DataError(f"none of the {len(images)} images can be predicted; the first: {skipped[0]}")
    try:
        unlike = seen.unlike(seen_images(parts, preprocessing.wanted, preprocessing.nodata))
    except DataError:  # told where the file is predicted
        unlike = ""
    if unlike:
        console.print(f"warning: {unlike}")
    return kept, skipped


def find_images(inputs: Sequence[Path], tell: Callable[[str], None] = lambda text: None) -> list[Path]:
    """The image files that `inputs` name, folders replaced by the images in them; hidden files are none. `tell` is told
    which files of a folder were left out.

    Raises:
        DataError: A path is missing, a folder has no image, or two images would get the same name.
    """
    from seg.data.files.reading import SAMPLE_SUFFIXES
    from seg.data.files.storage import is_hidden
    from seg.data.samples.pairs import by_suffix, stem

    images: dict[str, Path] = {}
    for path in inputs:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and not is_hidden(file.name))
            found = [file for file in files if file.name.lower().endswith(SAMPLE_SUFFIXES)]
            others = [file.name for file in files if not file.name.lower().endswith(SAMPLE_SUFFIXES)]
            if not found:
                there = f", but {by_suffix(others)}" if others else ""
                raise DataError(f"{path}: no images in it{there}, allowed: {', '.join(sorted(SAMPLE_SUFFIXES))}")
            if others:
                tell(f"{path}: left out {len(others)} files that are no images: {by_suffix(others)}")
        elif path.is_file():
            found = [path]
        else:
            raise DataError(f"{path}: no such file or folder")
        for file in found:
            if stem(file) in images:
                raise DataError(f"{images[stem(file)]} and {file}: both would become {stem(file)}; predict them apart")
            images[stem(file)] = file
    return list(images.values())


if __name__ == "__main__":
    sys.exit(main())
