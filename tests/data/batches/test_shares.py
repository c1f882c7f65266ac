import numpy as np
import pytest

from seg.data.batches.shares import ALL, Share


def test_whole_batches_go_round_the_replicas_and_the_last_round_is_filled_up():
    # 7 views in batches of 2: (0 1) (2 3) | (4 5) (6); three replicas in a process of one and one of two.
    first, second = Share(0, 1, 3), Share(1, 2, 3)
    for share, views, empty in [(first, [0, 1, 6], 0), (second, [2, 3, 4, 5], 2)]:
        mine, number = share.of_evaluation(7, 2)
        assert (mine.tolist(), number) == (views, empty)


@pytest.mark.parametrize("num_views", [1, 2, 5, 8])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_view_is_one_replicas_and_all_have_as_many_batches(num_views, batch_size):
    shares = [Share(0, 2, 4), Share(2, 2, 4)]
    parts = [share.of_evaluation(num_views, batch_size) for share in shares]
    assert sorted(np.concatenate([views for views, _ in parts])) == list(range(num_views))
    numbers = {-(-len(views) // batch_size) + empty for views, empty in parts}
    assert len(numbers) == 1


def test_one_device_has_all():
    views, empty = ALL.of_evaluation(5, 2)
    assert (views.tolist(), empty) == ([0, 1, 2, 3, 4], 0)


def test_unequal_parts_are_refused():
    assert Share(0, 1, 4).part_size(8) == 2
    with pytest.raises(ValueError, match="batch_size: got 6 for 4 replicas, allowed: a multiple of that"):
        Share(0, 1, 4).part_size(6)
