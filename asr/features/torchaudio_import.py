"""Import of torchaudio where its compiled part cannot be loaded.

The wheels of torchaudio link CUDA libraries. Beside a build of torch without CUDA, or with another version of it, the import
ends with OSError or RuntimeError although nearly all of torchaudio is plain Python. With a stand-in for the small module that
loads the compiled part, the rest imports and runs; `forced_align`, `rnnt_loss` and the like stay missing.
"""

import importlib
import sys
from types import ModuleType

from asr.errors import ResourceError


def import_torchaudio(name: str = "torchaudio") -> ModuleType:
    """torchaudio or one of its modules, such as "torchaudio.compliance.kaldi"; ResourceError where it is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        pass
    for loaded in [module for module in sys.modules if module.split(".")[0] == "torchaudio"]:
        del sys.modules[loaded]
    sys.modules["torchaudio._extension"] = _stand_in()
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        del sys.modules["torchaudio._extension"]
        raise ResourceError(f"cannot import {name} ({error}): install torchaudio with pip install torchaudio") from error


def _stand_in() -> ModuleType:
    module = ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module.fail_if_no_align = lambda function: function
    module._check_cuda_version = lambda: None
    return module
