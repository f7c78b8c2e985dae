"""Classes are matched by their names, wherever two files meet (data/class_names.py)."""

from pathlib import Path

import pytest
import torch

from longtail.data.class_names import check_same_order, class_order
from longtail.models.heads import CosineHead, ReorderedHead, ScaledLinearHead, linear_head
from tests.refusals import refused

FILE, SET = Path("runs/a/ckpt.pth.tar"), Path("datasets/prepared/b")


def order_of(found: list[str], wanted: list[str]) -> list[int] | None:
    return class_order(found, wanted, file=FILE, of=SET)


@pytest.mark.parametrize(
    ("found", "wanted", "order"),
    [
        (["cat", "dog", "eel"], ["cat", "dog", "eel"], None),
        (["cat", "dog", "eel"], ["eel", "cat", "dog"], [2, 0, 1]),
        (["1", "10", "2"], ["1", "2", "10"], [0, 2, 1]),
    ],
)
def test_the_order_leads_from_one_to_the_other(found: list[str], wanted: list[str], order: list[int] | None) -> None:
    assert order_of(found, wanted) == order
    if order is not None:
        assert [found[index] for index in order] == wanted


@pytest.mark.parametrize(
    ("found", "wanted", "differences"),
    [
        (["cat", "dog"], ["cat", "zebra"], "it lacks 'zebra' and has 'dog' instead;"),
        (["cat", "dog", "eel"], ["cat", "dog"], "has 'eel' instead;"),
        (["cat"], ["cat", "dog"], "it lacks 'dog';"),
        (list("abcde"), list("vwxyz"), "it lacks 'v', 'w', 'x' and 2 more and has 'a', 'b', 'c' and 2 more instead;"),
        (["cat", "cat", "dog"], ["cat", "dog", "dog"], "has two classes of the same name"),
        (["cat\x1b[31m\nred"], ["cat"], "it lacks 'cat' and has 'cat\\x1b[31m\\nred' instead;"),
    ],
)
def test_other_names_are_refused_and_named(found: list[str], wanted: list[str], differences: str) -> None:
    with refused() as messages:
        order_of(found, wanted)
    assert differences in messages[0] and str(FILE) in messages[0] and str(SET) in messages[0]


def test_where_the_order_must_be_the_same_another_one_is_refused() -> None:
    check_same_order(["a", "b"], ["a", "b"], file=FILE, of=SET, remedy="train anew")
    with refused() as messages:
        check_same_order(["a", "b", "c"], ["a", "c", "b"], file=FILE, of=SET, remedy="train anew")
    assert "in another order (class 1 is 'b' there and 'c' here): train anew" in messages[0]


@pytest.mark.parametrize("head", [linear_head(4, 3), CosineHead(4, 3), ScaledLinearHead(4, 3)])
def test_a_reordered_head_gives_the_same_outputs_in_another_order(head: torch.nn.Module) -> None:
    features = torch.randn(5, 4)
    outputs = head(features)
    assert torch.equal(ReorderedHead(head, [2, 0, 1])(features), torch.stack([outputs[:, i] for i in (2, 0, 1)], dim=1))
