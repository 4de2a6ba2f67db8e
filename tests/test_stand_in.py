"""What takes the place of a chunk that did not arrive."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install fpcodec[torch]")

from fpcodec.training.network import NetworkConfig, Synthesis  # noqa: E402
from fpcodec.training.stand_in import Neighbour, StandIn, fit_stand_ins  # noqa: E402

NAMES, COUNTS, SIZES = ("p3", "p4", "p5"), (3, 4, 2), ((9, 13), (5, 7), (3, 4))


def stand_ins() -> torch.nn.ModuleDict:
    around = [None, *COUNTS, None]
    return torch.nn.ModuleDict({x: StandIn(*around[i : i + 3]) for i, x in enumerate(NAMES)})


def example(seed: int) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(2, count, *size, generator=make)
        for name, count, size in zip(NAMES, COUNTS, SIZES, strict=True)
    }


def known(values: torch.Tensor, here: float = 1.0) -> Neighbour:
    return Neighbour(values * here, torch.full((len(values), 1, 1, 1), here))


@pytest.mark.parametrize(("finer", "coarser"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_a_linear_relation_is_found_whichever_neighbours_are_there(finer, coarser):
    torch.manual_seed(1)
    relation = stand_ins()["p4"]
    examples = [example(seed) for seed in range(8)]
    for levels in examples:
        around = known(levels["p3"], finer), known(levels["p5"], coarser)
        levels["p4"] = relation(*around, levels["p4"]).detach()
    fitted = stand_ins()
    fit_stand_ins(fitted, examples)
    levels = examples[0]
    found = fitted["p4"](known(levels["p3"], finer), known(levels["p5"], coarser), levels["p4"])
    torch.testing.assert_close(found, levels["p4"], atol=2e-2, rtol=0)


def test_both_neighbours_tell_more_than_either():
    examples = [example(seed) for seed in range(8)]
    for levels in examples:
        below = torch.nn.functional.pad(levels["p3"], (0, 1, 0, 1))[:, :2, ::2, ::2]
        above = torch.repeat_interleave(torch.repeat_interleave(levels["p5"], 2, 2), 2, 3)
        levels["p4"][:, :2] = below + above[:, :, :5, :7]
    fitted = stand_ins()
    fit_stand_ins(fitted, examples)
    errors = {}
    for sides in [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]:
        levels = examples[0]
        around = known(levels["p3"], sides[0]), known(levels["p5"], sides[1])
        guess = fitted["p4"](*around, levels["p4"])
        errors[sides] = float(((guess - levels["p4"])[:, :2] ** 2).mean().detach())
    assert errors[1.0, 1.0] < 0.01 < 0.5 < min(errors[1.0, 0.0], errors[0.0, 1.0])


def test_levels_that_arrived_are_not_guessed_and_lost_ones_are_made_from_coarse_to_fine():
    torch.manual_seed(2)
    synthesis = Synthesis(NAMES, COUNTS, NetworkConfig(COUNTS, (2, 2, 2), 4))
    levels = example(0)
    arrived = {name: known(x).known for name, x in levels.items()}
    completed = synthesis._completed(levels, arrived)
    assert all(torch.equal(completed[name], levels[name]) for name in NAMES)

    only = {name: x * float(name == "p5") for name, x in levels.items()}
    here = {name: x * float(name == "p5") for name, x in arrived.items()}
    completed = synthesis._completed(only, here)
    p4 = synthesis.stand_in["p4"].alone.coarser(only["p5"])[..., :5, :7]
    torch.testing.assert_close(completed["p4"], p4)
    # A level guessed counts as known to the finer ones.
    p3 = synthesis.stand_in["p3"].alone.coarser(p4)[..., :9, :13]
    torch.testing.assert_close(completed["p3"], p3)


def test_where_nothing_arrived_the_guess_is_nothing():
    synthesis = Synthesis(NAMES, COUNTS, NetworkConfig(COUNTS, (2, 2, 2), 4))
    nothing = {name: x * 0 for name, x in example(0).items()}
    absent = {name: known(x, 0.0).known for name, x in nothing.items()}
    assert not any(x.any() for x in synthesis._completed(nothing, absent).values())


def test_a_pyramid_of_one_level_has_nothing_to_guess_from():
    synthesis = Synthesis(("p4",), (3,), NetworkConfig((3,), (2,), 4))
    fit_stand_ins(synthesis.stand_in, [{"p4": torch.ones(1, 3, 2, 2)}])
    lost = {"p4": torch.zeros(1, 3, 2, 2)}
    out = synthesis(lost, {"p4": torch.zeros(1, 1, 2, 2)}, {"p4": torch.zeros(1, 1, 1, 1)})
    assert out["p4"].shape == (1, 3, 2, 2)
