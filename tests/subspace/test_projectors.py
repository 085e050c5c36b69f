"""Every projector is compared with its dense matrix, its adjoint, autograd, its scale and its golden entries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pactl_cli import catalogue, randomness
from pactl_cli.errors import PactlError
from pactl_cli.models.layers import Layout
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.dense import Dense
from pactl_cli.subspace.fastfood import hadamard
from pactl_cli.subspace.kronecker import KroneckerProduct, KroneckerSum, orthonormal_columns
from pactl_cli.subspace.projectors import Projector, RunShuffle, ceil_sqrt

SIZES = [(400, 49), (400, 50), (401, 49), (401, 50), (1000, 1), (7, 7), (9, 9), (1, 1), (30, 30)]
NEEDS_MORE = {"stfilmkronqr": 5}
"""The least d of a projector for the layout below."""
TAKES_LESS = {"head": 7}
"""For a projector on a part of the network, the part of D that d may be at most."""

# The first two and the last nonzero entry of the last column, by row, for seed 137, D = 401, d = 50.
GOLDEN = {
    "rdkronqr": {0: -0.0926513672, 1: 0.0112494305, 400: -0.0398451872},
    "dense": {0: -0.049937617, 1: 0.049937617, 400: 0.049937617},
    "sparse": {37: -0.223467261, 49: -0.223467261, 386: -0.223467261},
    "fastfood": {0: -0.0352652296, 1: 0.097459197, 400: 0.0637786612},
    "rkron": {0: -0.0497944802, 1: -0.0172317941, 400: 0.0665817484},
    "rdkron": {0: -0.0248049982, 1: -0.00932446308, 400: 0.00236236351},
    "film": {3: -0.128036872, 5: 0.128036872, 400: 0.128036872},
    "filmrdkron": {0: -0.000233196988, 1: 0.00515855243, 400: -0.141267806},
    "filmrdkronqr": {0: 0.00418122811, 1: 0.0337457769, 400: 0.0678051561},
    "stfilmkronqr": {0: -0.0609277003, 1: 0.075529173, 400: 0.00511740148},
    "head": {344: -0.0221163295, 345: 0.139935091, 400: 0.0708070472},
}


def layout(parameters: int) -> Layout:
    """Return the layout of a made-up network: some normalisation parameters near the start, a head at the end."""
    places = np.arange(parameters)
    return Layout(parameters, places[3:10:2] if parameters > 20 else places[:0], places[-max(1, parameters // 7) :])


def build(name: str, parameters: int, dim: int, seed: int = 137) -> Projector:
    return build_projector(name, layout(parameters), dim, seed)


def matrix(name: str, parameters: int, dim: int, seed: int = 137) -> torch.Tensor:
    """Return the matrix of P, column by column."""
    projector = build(name, parameters, dim, seed)
    return torch.stack([projector.matvec(column) for column in torch.eye(dim)], dim=1)


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
@pytest.mark.parametrize(("parameters", "dim"), SIZES)
def test_matvec_adjoint_and_autograd_are_one_linear_map(name: str, parameters: int, dim: int) -> None:
    dim = max(dim, min(NEEDS_MORE.get(name, 1), parameters))
    dim = min(dim, max(1, parameters // TAKES_LESS.get(name, 1)))
    projector = build(name, parameters, dim)
    dense = matrix(name, parameters, dim)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(dim, generator=generator, requires_grad=True)
    g = torch.randn(parameters, generator=generator)

    assert projector.shape == tuple(dense.shape) == (parameters, dim)
    torch.testing.assert_close(projector.matvec(w.detach()), dense @ w.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projector.adjoint(g), dense.T @ g, rtol=1e-4, atol=1e-5)
    (projector(w) @ g).backward()
    torch.testing.assert_close(w.grad, dense.T @ g, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
def test_weights_and_gradients_are_exact_under_autocast(name: str) -> None:
    projector, found = build(name, 401, 50), []
    for enabled in (False, True):
        w = torch.linspace(-1, 1, 50).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            theta = projector(w)
        theta.square().sum().backward()
        found.append((theta, w.grad))
    for exact, under_autocast in zip(*found, strict=True):
        assert torch.equal(exact, under_autocast)


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
@pytest.mark.parametrize(("parameters", "dim"), [(400, 49), (401, 50), (1000, 1)])
def test_columns_have_unit_norm_in_expectation(name: str, parameters: int, dim: int) -> None:
    dim = max(dim, NEEDS_MORE.get(name, 1))
    norms = torch.cat([matrix(name, parameters, dim, seed).square().sum(0) for seed in range(40)])
    assert norms.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
def test_seeds_give_different_maps_and_the_same_seed_the_same(name: str) -> None:
    assert torch.equal(matrix(name, 401, 50, 1), matrix(name, 401, 50, 1))
    assert not torch.allclose(matrix(name, 401, 50, 1), matrix(name, 401, 50, 2))


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
def test_no_coordinate_and_no_parameter_is_left_out(name: str) -> None:
    dense = matrix(name, 401, 50)
    assert (dense.abs().sum(0) > 0).all()
    if name not in ("film", "sparse", "head"):
        assert (dense.abs().sum(1) > 0).all()


def test_film_moves_normalisation_and_head_only() -> None:
    moved = (matrix("film", 401, 50).abs().sum(1) > 0).nonzero().flatten().tolist()
    parts = layout(401)
    assert moved == sorted([*parts.normalisation, *parts.head])


def test_head_moves_the_head_only() -> None:
    parts = layout(401)
    assert (matrix("head", 401, 50).abs().sum(1) > 0).nonzero().flatten().tolist() == parts.head.tolist()
    all_of_it = matrix("head", 401, len(parts.head))
    torch.testing.assert_close(all_of_it[parts.head], torch.eye(len(parts.head)))
    with pytest.raises(PactlError, match=f"58 .* which is {len(parts.head)}"):
        build("head", 401, len(parts.head) + 1)


def test_stfilmkronqr_gives_normalisation_its_own_coordinates() -> None:
    dense, parts = matrix("stfilmkronqr", 401, 50), layout(401)
    own = len(parts.normalisation)
    torch.testing.assert_close(dense[parts.normalisation], torch.eye(50)[:own])
    others = np.setdiff1d(np.arange(401), parts.normalisation)
    assert (dense[others][:, :own] == 0).all()
    with pytest.raises(PactlError, match=f"{own} normalisation"):
        build("stfilmkronqr", 401, own)
    plain = Layout(401, parts.normalisation[:0], parts.head)
    w = torch.ones(50)
    same = build_projector("stfilmkronqr", plain, 50, 137).matvec(w)
    assert same.shape == (401,)


def test_projectors_draw_from_streams_of_their_own() -> None:
    first = {name: tuple(matrix(name, 401, 50)[:, -1].tolist()) for name in catalogue.PROJECTORS}
    assert len(set(first.values())) == len(catalogue.PROJECTORS)
    kronecker = matrix("rdkronqr", 401, 50)
    both = matrix("filmrdkronqr", 401, 50)
    untouched = both.abs().sum(1).argsort()[0]
    assert not torch.allclose(both[untouched] * 2**0.5, kronecker[untouched])


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
def test_golden_entries(name: str) -> None:
    column = matrix(name, 401, 50)[:, -1]
    rows = column.nonzero().flatten()[[0, 1, -1]].tolist()
    assert {row: column[row].item() for row in rows} == pytest.approx(GOLDEN[name], rel=1e-5)


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
def test_the_name_reads_like_the_formula(name: str) -> None:
    assert "401" in str(build(name, 401, 50))


@pytest.mark.parametrize("name", catalogue.PROJECTORS)
def test_more_coordinates_than_parameters_are_refused(name: str) -> None:
    with pytest.raises(PactlError, match=r"--intrinsic-dim 8 is larger .* which is 7"):
        build(name, 7, 8)


@pytest.mark.parametrize(
    ("name", "parameters", "dim"), [("sparse", 10**8, 10**6), ("rkron", 10**8, 10**6), ("dense", 10**7, 10**4)]
)
def test_maps_too_large_for_memory_name_another_projector(name: str, parameters: int, dim: int) -> None:
    with pytest.raises(PactlError) as caught:
        build(name, parameters, dim)
    assert "rdkronqr" in caught.value.one_line()


def test_hadamard_is_its_own_transpose_and_scaled_inverse() -> None:
    matrix = hadamard(torch.eye(16))
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix @ matrix, 16 * torch.eye(16))
    assert torch.equal(matrix[:2, :2], torch.tensor([[1.0, 1.0], [1.0, -1.0]]))


def test_rkron_in_half_precision_is_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matrix("rkron", 401, 50)
    monkeypatch.setattr(KroneckerSum, "MAX_SINGLE_BYTES", 0)
    torch.testing.assert_close(matrix("rkron", 401, 50), whole, rtol=1e-2, atol=1e-3)


def test_dense_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matrix("dense", 401, 50)
    monkeypatch.setattr(Dense, "MAX_EXPANDED_BYTES", 0)
    monkeypatch.setattr(Dense, "BLOCK_ENTRIES", 1000)
    assert torch.equal(matrix("dense", 401, 50), whole)
    g = torch.randn(401, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(build("dense", 401, 50).adjoint(g), whole.T @ g, rtol=1e-4, atol=1e-5)


def test_dense_entries_are_fair_signs() -> None:
    entries = matrix("dense", 1000, 100) * np.sqrt(1000)
    assert torch.allclose(entries.abs(), torch.ones(()))
    assert entries.mean() == pytest.approx(0, abs=4 / np.sqrt(entries.numel()))


def test_orthonormal_columns_have_a_positive_diagonal() -> None:
    raw = np.random.default_rng(0).standard_normal((30, 7))
    q = orthonormal_columns(raw)
    np.testing.assert_allclose(q.T @ q, np.eye(7), atol=1e-12)
    assert (np.diag(q.T @ raw) > 0).all()


def test_kronecker_map_is_isometric_when_square() -> None:
    """With D = a^2 nothing is cut, and P^T P = (a^2 / D) I = I."""
    dense = matrix("rdkronqr", 400, 49)
    torch.testing.assert_close(dense.T @ dense, torch.eye(49), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "run"), [(1, 1), (7, 1), (7, 2), (7, 8), (400, 32), (1024, 32), (1030, 32)])
def test_a_shuffle_moves_runs_of_neighbours(rows: int, run: int) -> None:
    """Compare with the definition, number by number."""
    numbers = np.arange(1, rows + 6)
    order = randomness.permutation(7, "some/permutation", len(numbers) // run)
    expected = [*(number for place in order for number in numbers[place * run :][:run]), *numbers[len(order) * run :]]
    shuffle = RunShuffle(len(numbers), rows, run, 7, "some")
    moved = shuffle(torch.from_numpy(numbers))
    assert moved.tolist() == expected[:rows]
    assert shuffle.adjoint(moved).tolist() == [number if number in moved else 0 for number in numbers.tolist()]


def test_only_large_kronecker_products_move_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both orders contain the same numbers, in runs of 32 or single, and are linear maps."""
    w = torch.ones(49)
    alone = build("rdkronqr", 4000, 49).matvec(w)
    monkeypatch.setattr(KroneckerProduct, "FROM", 4000)
    projector = build("rdkronqr", 4000, 49)
    by_runs = projector.matvec(w)
    assert not torch.equal(by_runs, alone)
    assert len(np.intersect1d(by_runs.numpy(), alone.numpy())) > 3800, "all but those that are cut"
    g = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(projector.adjoint(g) @ w, by_runs @ g, rtol=1e-4, atol=1e-4)


def test_a_shuffle_mixes_the_layers_of_a_network() -> None:
    """The first tenth of the entries is spread over the whole vector."""
    places = RunShuffle(10**6, 10**6, 32, 137, "any")(torch.arange(10**6)).argsort()[: 10**5]
    assert abs(places.double().mean() / 10**6 - 0.5) < 5 * 12**-0.5 / (10**5 / 32) ** 0.5
    assert places.min() < 10**4
    assert places.max() > 99 * 10**4


def test_ceil_sqrt() -> None:
    assert [ceil_sqrt(n) for n in (1, 2, 4, 5, 9, 10**8, 10**8 + 1)] == [1, 2, 2, 3, 3, 10**4, 10**4 + 1]
