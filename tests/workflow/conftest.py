"""Copies of the repository to run, change and break."""

from collections.abc import Callable

import pytest
from running import Checkout


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory) -> Callable[[], Checkout]:
    return lambda: Checkout(tmp_path_factory.mktemp("checkout"))
