"""Every projector held against its own dense matrix, its adjoint, autograd, its scale and its golden entries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pactl_cli import catalogue
from pactl_cli.errors import PactlError
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.kronecker import orthonormal_columns
from pactl_cli.subspace.projectors import Dense, ceil_sqrt

SIZES = [(400, 49), (400, 50), (401, 49), (401, 50), (1000, 1), (7, 7), (9, 9), (1, 1)]

# First three entries of the first column for seed 137, D = 401, d = 50.
GOLDEN = {
    "dense": [0.04993762, 0.04993762, -0.04993762],
    "rdkronqr": [0.0433817133, -0.0154957267, 0.0082765799],
}


def matrix(mode: str, parameters: int, dim: int, seed: int = 137) -> torch.Tensor:
    """P column by column."""
    projector = build_projector(mode, parameters, dim, seed)
    return torch.stack([projector.matvec(column) for column in torch.eye(dim)], dim=1)


@pytest.mark.parametrize("mode", catalogue.MODES)
@pytest.mark.parametrize(("parameters", "dim"), SIZES)
def test_matvec_adjoint_and_autograd_are_one_linear_map(mode: str, parameters: int, dim: int) -> None:
    projector = build_projector(mode, parameters, dim, 137)
    dense = matrix(mode, parameters, dim)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(dim, generator=generator, requires_grad=True)
    g = torch.randn(parameters, generator=generator)

    assert projector.shape == tuple(dense.shape) == (parameters, dim)
    torch.testing.assert_close(projector.matvec(w.detach()), dense @ w.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projector.adjoint(g), dense.T @ g, rtol=1e-4, atol=1e-5)
    (projector(w) @ g).backward()
    torch.testing.assert_close(w.grad, dense.T @ g, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", catalogue.MODES)
@pytest.mark.parametrize(("parameters", "dim"), [(400, 49), (401, 50), (1000, 1)])
def test_columns_have_unit_norm_in_expectation(mode: str, parameters: int, dim: int) -> None:
    norms = torch.cat([matrix(mode, parameters, dim, seed).square().sum(0) for seed in range(40)])
    assert norms.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("mode", catalogue.MODES)
def test_seeds_give_different_maps_and_the_same_seed_the_same(mode: str) -> None:
    assert torch.equal(matrix(mode, 401, 50, 1), matrix(mode, 401, 50, 1))
    assert not torch.allclose(matrix(mode, 401, 50, 1), matrix(mode, 401, 50, 2))


@pytest.mark.parametrize("mode", catalogue.MODES)
def test_no_coordinate_and_no_parameter_is_left_out(mode: str) -> None:
    dense = matrix(mode, 401, 50)
    assert (dense.abs().sum(0) > 0).all()
    assert (dense.abs().sum(1) > 0).all()


@pytest.mark.parametrize("mode", catalogue.MODES)
def test_golden_entries(mode: str) -> None:
    assert matrix(mode, 401, 50)[:3, 0].tolist() == pytest.approx(GOLDEN[mode], rel=1e-5)


@pytest.mark.parametrize("mode", catalogue.MODES)
def test_the_name_reads_like_the_formula(mode: str) -> None:
    assert "401" in str(build_projector(mode, 401, 50, 137))


@pytest.mark.parametrize("mode", catalogue.MODES)
def test_more_coordinates_than_parameters_are_refused(mode: str) -> None:
    with pytest.raises(PactlError, match=r"--intrinsic-dim 8 .* 7 parameters"):
        build_projector(mode, 7, 8, 137)


def test_dense_beyond_its_memory_names_another_mode() -> None:
    with pytest.raises(PactlError) as caught:
        build_projector("dense", 10**8, 10**4, 137)
    assert "rdkronqr" in caught.value.one_line()


def test_dense_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matrix("dense", 401, 50)
    monkeypatch.setattr(Dense, "BLOCK_ENTRIES", 1000)
    assert torch.equal(matrix("dense", 401, 50), whole)


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


def test_ceil_sqrt() -> None:
    assert [ceil_sqrt(n) for n in (1, 2, 4, 5, 9, 10**8, 10**8 + 1)] == [1, 2, 2, 3, 3, 10**4, 10**4 + 1]
