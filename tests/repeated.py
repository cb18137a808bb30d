"""Whether two runs of one training are the same: on a CPU to the bit, on a GPU up to rounding.

On a GPU gradients of what rows share are added atomically, in an order that changes from run to run. There the steps,
tokens and metrics are the same, and numbers equal up to what that rounding can add up to in 8 steps.
"""

import pytest
import torch

STEP = 4300 * 2**-24  # float32 rounding of a sum over the 4,300 tokens of a step (Higham 2002, eq. 4.4)
MOVED = 8 * 2e-3  # by Adam in 8 steps of the highest learning rate


def assert_same_rows(found: list[tuple], expected: list[tuple], value: int = -1) -> None:
    """Rows of two histories; `value` is the place of the number in a row."""
    if not torch.cuda.is_available():
        assert found == expected
        return
    assert len(found) == len(expected)
    for row, other in zip(map(list, found), map(list, expected), strict=True):
        number, expected_number = row.pop(value), other.pop(value)
        assert row == other
        assert number == pytest.approx(expected_number, rel=8 * STEP, abs=STEP), (row, number, expected_number)


def assert_same_weights(found: dict, expected: dict) -> None:
    """Tensors by name."""
    assert found.keys() == expected.keys()
    exact = {"rtol": 0, "atol": 0} if not torch.cuda.is_available() else {"rtol": 8 * STEP, "atol": 8 * STEP * MOVED}
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], **exact)
