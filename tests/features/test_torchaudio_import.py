import importlib
import sys

import pytest

from asr.errors import ResourceError
from asr.features import torchaudio_import


@pytest.fixture
def fresh_torchaudio():
    """Takes torchaudio out of the loaded modules for one test."""
    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torchaudio"}
    for name in saved:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules.update(saved)


@pytest.mark.usefixtures("fresh_torchaudio")
@pytest.mark.parametrize("error", [OSError("no libcudart"), RuntimeError("CUDA 13.2 against 13.0"), ImportError("no")])
def test_the_rest_loads_where_the_compiled_part_does_not(error, monkeypatch):
    class CompiledPart:
        def find_spec(self, name, path=None, target=None):
            if name == "torchaudio._extension":
                raise error

    monkeypatch.setattr(sys, "meta_path", [CompiledPart(), *sys.meta_path])
    with pytest.raises(type(error)):
        importlib.import_module("torchaudio")
    kaldi = torchaudio_import.import_torchaudio("torchaudio.compliance.kaldi")
    assert callable(kaldi.fbank)
    assert sys.modules["torchaudio._extension"]._IS_TORCHAUDIO_EXT_AVAILABLE is False


def test_the_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    loaded = [name for name in sys.modules if name.split(".")[0] == "torchaudio"]
    saved = {name: sys.modules[name] for name in loaded}
    monkeypatch.setattr(torchaudio_import.importlib, "import_module", missing)
    with pytest.raises(ResourceError, match="pip install torchaudio"):
        torchaudio_import.import_torchaudio()
    assert not any(name.split(".")[0] == "torchaudio" for name in sys.modules)
    sys.modules.update(saved)
