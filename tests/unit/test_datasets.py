from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.workloads import datasets


@pytest.mark.parametrize(
    ("name", "features", "targets"),
    [
        ("breast_cancer", (569, 30), {0, 1}),
        ("diabetes", (442, 10), None),
        ("digits", (1797, 64), set(range(10))),
    ],
)
def test_a_data_set_is_the_one_that_was_shipped(name: str, features: tuple[int, ...], targets: set[int] | None) -> None:
    arrays = datasets.load(name)
    assert set(arrays) == {"features", "target"}
    assert arrays["features"].reshape(len(arrays["features"]), -1).shape == features
    assert arrays["target"].shape == features[:1]
    assert targets is None or set(arrays["target"].tolist()) == targets
    assert np.isfinite(arrays["features"]).all()


def test_every_shipped_file_has_its_digest_and_its_source() -> None:
    folder = files("pytest_optcheck.workloads") / "data"
    shipped = {entry.name.removesuffix(".npz") for entry in folder.iterdir() if entry.name.endswith(".npz")}
    assert shipped == set(datasets.SHA256)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.npz`" in readme for name in shipped)


def test_another_file_in_the_place_of_the_shipped_one_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = datasets.SHA256["diabetes"][:12]
    monkeypatch.setitem(datasets.SHA256, "diabetes", "0" * 64)
    with pytest.raises(OptcheckError) as caught:
        datasets.load("diabetes")
    assert str(caught.value) == (
        f"data set diabetes: SHA-256 is {found}…, not 000000000000…; reinstall pytest-optcheck"
    )


@pytest.mark.parametrize("shape", [(50, 3), (50,)])
def test_standardised_columns_have_mean_0_and_variance_1(shape: tuple[int, ...]) -> None:
    values = np.random.RandomState(0).uniform(5.0, 9.0, shape) * 1e3
    found = datasets.standardised(values)
    assert found.shape == shape
    assert found.mean(axis=0) == pytest.approx(0.0, abs=1e-6)
    assert found.std(axis=0) == pytest.approx(1.0, abs=1e-6)


def test_standardised_numbers_lie_on_a_grid() -> None:
    found = datasets.standardised(np.random.RandomState(0).uniform(-1.0, 1.0, 100)) * 2.0**20
    assert np.array_equal(found, np.round(found))


def test_the_grid_swallows_the_order_of_a_sum() -> None:
    values = np.random.RandomState(0).uniform(-1.0, 1.0, 1001)
    orders = [np.random.RandomState(seed).permutation(1001) for seed in range(50)]
    order = next(order for order in orders if values[order].sum() != values.sum())
    assert np.array_equal(datasets.standardised(values)[order], datasets.standardised(values[order]))
