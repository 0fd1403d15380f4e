"""torchvision, also where its compiled operators cannot be loaded.

A wheel that is linked to CUDA cannot load its operators beside a CPU build of torch, and then fails
at import, where it registers fake kernels for `nms` and `qnms`. No network that is run here needs
the operators: it is enough that their schemas exist.
"""

import importlib.machinery
import importlib.util

import torch


def _load_operators() -> bool:
    """Load torchvision's operators as its own import is about to do; whether that works."""
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return True  # the import below tells what is wrong
    finder = importlib.machinery.FileFinder(
        package.submodule_search_locations[0],
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    extension = finder.find_spec("_C")
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True


if not _load_operators():
    # a Library's definitions live as long as it does
    _schemas = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, _name):
            _schemas.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision import models, transforms  # noqa: E402

__all__ = ["models", "transforms"]
