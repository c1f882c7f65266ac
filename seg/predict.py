"""`python -m seg.predict`: images to class masks and overlays, by a trained run or its model file alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from seg.console import text_console
from seg.errors import ConfigError, DataError, run_command
from seg.progress import progress

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
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; same names are overwritten")
    parser.add_argument("--checkpoint", help="of a folder: best (default), last or the path of a .keras file")
    parser.add_argument("--tile", type=int, default=1024, help="larger images are predicted in tiles of this side")
    parser.add_argument("--overlap", type=int, default=128, help="pixels that neighbouring tiles share")
    parser.add_argument(
        "--valid", metavar="PATTERN", help="validity masks, outside which predictions are void: a path with {stem} for "
        "an image's name without its suffix, as in fov/{stem}_mask.gif",
    )  # fmt: skip
    args = parser.parse_args(argv)
    options = {"which": args.checkpoint, "tile": args.tile, "overlap": args.overlap, "valid": args.valid}
    return run_command(lambda: predict(args.model, args.inputs, args.out, **options))


def predict(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    which: str | None = None,
    tile: int = 1024,
    overlap: int = 128,
    valid: str | None = None,
) -> None:
    """Predicts every image of `inputs`; all paths are checked before the model is loaded.

    The classes and the preprocessing are those in the model's file. A run folder adds along which axis it cut volumes;
    of a file alone they are refused. `valid` is the pattern of validity masks, with {stem} for an image's name; which
    of their values mean valid is the run's data.valid_values, of a file alone all but 0.

    Raises:
        DataError: The run, the checkpoint or an image is at fault.
        ConfigError: `tile` and `overlap` do not go together, or `which` is given for a file.
    """
    from seg.data.files.volumes import is_nifti
    from seg.runs.model_file import read_description
    from seg.runs.run_dir import open_model

    if not 0 <= overlap < tile:
        raise ConfigError(f"--overlap: got {overlap}, allowed: 0 to {tile - 1} (less than --tile)")
    checkpoint, run = open_model(model, which)
    slices = run.config().data.slices if run else None
    images = find_images(inputs)
    for path in filter(is_nifti, images if run is None else []):
        raise DataError(f"{path}: is a volume, whose axis {model} does not say; allowed: with a run folder")
    labels, preprocessing = read_description(checkpoint)
    pixels = None
    if valid is not None:
        from seg.inference.validity import Validity

        pixels = Validity.of_pattern(valid, images, getattr(run.config().data, "valid_values", None) if run else None)

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
        axis=None if slices is None else slices.axis,
        valid=pixels,
    )
    with progress("predicting", len(images), console) as step:
        for path in images:
            predictor.predict(path)
            step()
    console.print(f"{len(images)} masks in {out / 'masks'}, overlays in {out / 'overlays'}")


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """The image files that `inputs` name, folders replaced by the images in them.

    Raises:
        DataError: A path is missing, a folder has no image, or two images would get the same name.
    """
    from seg.data.files.reading import SAMPLE_SUFFIXES
    from seg.data.samples.pairs import stem

    images: dict[str, Path] = {}
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.name.lower().endswith(SAMPLE_SUFFIXES))
            if not found:
                raise DataError(f"{path}: no images in it, allowed: {', '.join(sorted(SAMPLE_SUFFIXES))}")
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
