"""Rule of Einsum, judged by torch and by central differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradient_check import OPSETS, check_rule

SIZES = {"a": 2, "b": 3, "c": 4, "d": 2, "i": 3}
EQUATIONS = (
    "ab,bc->ac",
    "ab,bc",  # the output left out: labels that occur once, by the alphabet
    "bab,bc->ac"[1:],
    "abc,acd->abd",
    "abc,dc->bd",
    "ab,cd->abcd",
    "a,b->ab",
    "ab,ab->",
    "abc,b->ac",
    "ab,a->b",
    "abc,bd->ad",  # c is summed over in one operand alone
    "ii,ib->b",  # a diagonal
    "aii->ai",
    "ab->ba",
    "abc->b",
    "a b , b c -> a c",
    "ab,bc,cd->ad",
    "...ab,...bc->...ac",
    "...ab,bc->...ac",
    "ab...,b->a...",
    "...,...->...",
)


@pytest.mark.parametrize("opset", [12, OPSETS[-1]])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation: str, opset: int) -> None:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=shape_of(term)) for term in terms]
    check_rule(
        "Einsum",
        inputs,
        {"equation": equation},
        opset=opset,
        reference=lambda *operands: torch.einsum(equation, *operands),
        symbolic={},
    )


def shape_of(term: str) -> list[int]:
    shape: list[int] = []
    before, dots, after = term.partition("...")
    for part in (before, dots, after):
        shape += [5, 2] if part == "..." else [SIZES[label] for label in part]
    return shape


def test_einsum_of_a_batch_that_is_broadcast() -> None:
    rng = np.random.default_rng(0)
    check_rule(
        "Einsum",
        [rng.normal(size=(5, 1, 2, 3)), rng.normal(size=(1, 4, 3, 2))],
        {"equation": "...ab,...bc->...ac"},
        opset=12,
        reference=lambda a, b: torch.einsum("...ab,...bc->...ac", a, b),
        symbolic={0: (0,)},
    )


def test_einsum_keeps_a_symbolic_batch() -> None:
    rng = np.random.default_rng(0)
    check_rule(
        "Einsum",
        [rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 4, 2))],
        {"equation": "nab,nbc->nac"},
        opset=13,
        reference=torch.bmm,
        symbolic={0: (0,), 1: (0,)},
    )
