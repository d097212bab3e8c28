"""Fixtures shared by all tests."""

import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A slow or busy machine is no fault of the code: no example has a deadline, and none is generated too slowly.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell without job control lets what it runs in the background ignore Ctrl-C, and so would every command under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real speech beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real recordings in ../shared/data, which are not here")
    return folder


@pytest.fixture(autouse=True)
def small_numbers():
    """A training in this process makes numbers too small to be normal zero; no later test is to see that."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
