"""seg.data.sampling.copy_paste: image and mask get the same pixels, where they may, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg.data.masks.reading import IndexEncoding, write_mask
from seg.data.sampling.copy_paste import CopyPaste, cut_out, paste
from seg.data.sampling.mask_index import MaskIndex, index_masks
from seg.data.views.transforms import Augmentation
from seg.errors import DataError
from seg.labels import LabelSet

LABELS = LabelSet.from_names(("ground", "water", "boat"), ignore_index=255)
SHAPE = (40, 60)
CODE = 7  # every pixel of an image is 40 * class + its mask's number, so that an image tells where it comes from


def boat_mask(number: int) -> np.ndarray:
    """Ground, a lake, a strip of void, a boat shaped like an L, which no flip leaves as it is."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:36, 5:45] = 1
    mask[:, 55:] = 255
    mask[12 + number : 20 + number, 10 + 3 * number : 13 + 3 * number] = 2
    mask[18 + number : 20 + number, 10 + 3 * number : 18 + 3 * number] = 2
    return mask


MASKS = [boat_mask(number) for number in range(4)]


def image_of(number: int) -> np.ndarray:
    values = MASKS[number].astype(np.int64) % 3 * 40 + number + 1
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def load(number: int) -> tuple[np.ndarray, np.ndarray]:
    return image_of(number), MASKS[number]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], MaskIndex]:
    folder = tmp_path_factory.mktemp("masks")
    paths = [folder / f"{number}.png" for number in range(4)]
    for path, mask in zip(paths, MASKS, strict=True):
        write_mask(path, mask)
    return paths, index_masks(paths, LABELS, IndexEncoding(), copy=[2], min_area=4)


def make(indexed: tuple[list[Path], MaskIndex], **settings: object) -> CopyPaste:
    given = {"probability": 1.0, "objects": (1, 3), "onto": {}, "ignore_index": 255, "mirror": (True, True)}
    return CopyPaste(*indexed, (0.0, 0.0, 1.0), **(given | settings))


def pasted(copy_paste: CopyPaste, sample: int, seed: int, augment: Augmentation | None = None):
    frame = (augment or Augmentation()).draw(SHAPE, seed).frame
    return copy_paste(load(sample), sample, seed, frame, load)


def test_image_and_mask_change_together_and_only_there(indexed) -> None:
    copy_paste = make(indexed)
    numbers = []
    for seed in range(60):
        image, mask, number = pasted(copy_paste, 0, seed)
        numbers.append(number)
        changed = mask != MASKS[0]
        np.testing.assert_array_equal((image != image_of(0)).any(axis=-1), changed)
        assert set(np.unique(mask[changed]).tolist()) <= {2}
        # 2 % 3 * 40 = 80: boats of the images 1 to 3, never of its own.
        assert set(np.unique(image[changed]).tolist()) <= {82, 83, 84}
        assert changed.sum() == 34 * number  # 8 x 3 + 2 x 5
    assert set(numbers) <= {0, 1, 2, 3} and max(numbers) == 3 and np.mean(numbers) > 1.5


def test_void_and_pasted_classes_are_never_covered(indexed) -> None:
    for seed in range(60):
        _, mask, _ = pasted(make(indexed), 1, seed)
        assert (mask[MASKS[1] == 255] == 255).all()
        assert (mask[MASKS[1] == 2] == 2).all()


def test_onto_names_what_may_be_covered(indexed) -> None:
    covered = set()
    for seed in range(60):
        _, mask, _ = pasted(make(indexed, onto={2: (1,)}), 1, seed)
        covered |= set(np.unique(MASKS[1][mask != MASKS[1]]).tolist())
    assert covered == {1}


def test_objects_are_mirrored_as_allowed(indexed) -> None:
    """Each L looks one of two or four ways."""
    for mirror, ways in (((False, False), 1), ((False, True), 2), ((True, True), 4)):
        shapes = set()
        for seed in range(60):
            _, mask, number = pasted(make(indexed, mirror=mirror, objects=(1, 1)), 0, seed)
            rows, columns = np.nonzero(mask != MASKS[0])
            if number:
                box = (mask != MASKS[0])[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                shapes.add(box.tobytes())
        assert len(shapes) == ways


def test_objects_lie_where_the_frame_looks(indexed) -> None:
    """A crop of 20 x 20: centres of objects fall into what it shows, whatever the flips and turns."""
    augment = Augmentation(horizontal_flip=0.5, vertical_flip=0.5, rotate90=0.5, scale=(1.0, 2.0), crop=(20, 20))
    shown = drawn = 0
    for seed in range(80):
        draw = augment.draw(SHAPE, seed)
        _, mask, number = make(indexed, objects=(1, 1))(load(0), 0, seed, draw.frame, load)
        drawn += number
        rows, columns = np.nonzero(mask != MASKS[0])
        box = np.zeros(SHAPE, np.uint8)  # an L does not cover its box's centre
        if number:
            box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
        shown += draw.frame.of_mask(box, 0).any()
    assert drawn > 20 and shown == drawn


def test_the_same_seed_pastes_the_same_and_others_differ(indexed) -> None:
    copy_paste = make(indexed)
    results = [pasted(copy_paste, 0, seed) for seed in range(12)]
    for seed, (image, mask, _) in enumerate(results):
        again = pasted(make(indexed), 0, seed)
        np.testing.assert_array_equal(image, again[0])
        np.testing.assert_array_equal(mask, again[1])
    assert len({mask.tobytes() for _, mask, _ in results}) > 8


def test_probability_and_the_input_left_alone(indexed) -> None:
    image, mask = image_of(0), MASKS[0].copy()
    image.flags.writeable = mask.flags.writeable = False
    draws = [make(indexed, probability=0.3)((image, mask), 0, seed, Augmentation().draw(SHAPE, seed).frame, load)
             for seed in range(300)]  # fmt: skip
    untouched = [drawn for drawn in draws if drawn[2] == 0]
    assert all(drawn[0] is image and drawn[1] is mask for drawn in untouched)
    assert 55 <= 300 - len(untouched) <= 125  # 90 expected; 35 is 4.4 deviations; a few find no place
    np.testing.assert_array_equal(mask, MASKS[0])


def test_an_object_without_a_place_is_left_out(indexed) -> None:
    void = np.full(SHAPE, 255, np.uint8)
    image, mask, number = make(indexed)((image_of(0), void), 0, 3, Augmentation().draw(SHAPE, 3).frame, load)
    assert number == 0 and mask is void


def test_the_only_image_with_objects_gets_none_of_its_own(indexed) -> None:
    paths, index = indexed
    alone = MaskIndex(**{**vars(index), "components": index.components[:1]})
    assert pasted(make((paths, alone)), 0, 1)[2] == 0
    assert pasted(make((paths, alone)), 1, 1)[2] > 0


def test_an_8_bit_object_in_a_float_image_keeps_its_value() -> None:
    image, mask = np.zeros((4, 4, 1), np.float32), np.zeros((4, 4), np.uint8)
    shape = np.array([[True, False], [True, True]])
    changed = paste(image, mask, np.full((2, 2, 1), 51, np.uint8), shape, 2, (1, 1))
    assert changed is image and mask.sum() == 6
    np.testing.assert_allclose(changed[1:3, 1:3, 0], [[0.2, 0], [0.2, 0.2]], atol=1e-7)  # 51 / 255
    widened = paste(np.full((4, 4, 1), 51, np.uint8), mask, np.ones((2, 2, 1), np.float32), shape, 2, (0, 0))
    assert widened.dtype == np.float32 and widened[3, 3, 0] == pytest.approx(0.2) and widened[0, 0, 0] == 1


def test_cut_out_leaves_neighbours_in_the_box_behind(indexed) -> None:
    mask = MASKS[0].copy()
    mask[13, 16] = 2  # within the L's box, apart from it
    row = indexed[1].components[0]
    image, pixels = cut_out(image_of(0), mask, row)
    assert pixels.sum() == 34 and image.shape == (8, 8, 3)


def test_a_mask_that_changed_since_is_named(indexed) -> None:
    gone = np.zeros(SHAPE, np.uint8)
    assert cut_out(image_of(0), gone, indexed[1].components[0]) is None
    frame = Augmentation().draw(SHAPE, 0).frame
    with pytest.raises(DataError, match=r"\d\.png: has changed since the training masks were indexed; allowed: masks"):
        make(indexed)(load(0), 0, 0, frame, lambda number: (image_of(number), gone))
