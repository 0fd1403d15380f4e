"""Small networks of segmentation_models_pytorch, ultralytics, transformers and monai, which are
installed without torch in build/others: `./run sbtest.others`."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
import runners.vision  # noqa: F401  what they take of torchvision can be imported then

FOLDER = Path(__file__).parents[2] / "build" / "others"
PLAIN = (
    *("segmentation-models-pytorch", "ultralytics", "ultralytics-thop", "monai", "transformers"),
    *("opencv-python-headless", "polars", "polars-runtime-32", "psutil", "py-cpuinfo", "scipy"),
)
"""Installed without what they want, which is torch."""
WHOLE = ("huggingface_hub", "tokenizers", "regex", "requests", "einops", "pyyaml", "tqdm")


def install() -> None:
    if not (FOLDER / "done").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(FOLDER)]
        subprocess.run([*pip, *WHOLE], check=True)
        subprocess.run([*pip, "--no-deps", *PLAIN], check=True)
        (FOLDER / "done").touch()
    sys.path.append(str(FOLDER))


install()
smp = pytest.importorskip("segmentation_models_pytorch")
transformers = pytest.importorskip("transformers")
nets = pytest.importorskip("monai.networks.nets")
tasks = pytest.importorskip("ultralytics.nn.tasks")

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}

for _encoder in ("resnet18", "mobilenet_v2", "efficientnet-b0"):
    for _decoder in (
        *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "PAN"),
        *("DeepLabV3Plus", "UPerNet", "Segformer"),
    ):
        CASES[f"smp {_decoder} {_encoder}"] = (
            lambda decoder=_decoder, encoder=_encoder: getattr(smp, decoder)(
                encoder, encoder_weights=None
            ),
            (1, 3, 128, 128),
        )

_YAML = Path(importlib.import_module("ultralytics").__file__).parent / "cfg" / "models"
for _file, _task in (
    *((name, "Detection") for name in ("v3/yolov3-tiny", "v5/yolov5n", "v6/yolov6n", "v8/yolov8n")),
    *((name, "Detection") for name in ("v9/yolov9t", "v10/yolov10n", "11/yolo11n", "12/yolo12n")),
    *(("v8/yolov8n-seg", "Segmentation"), ("v8/yolov8n-pose", "Pose"), ("v8/yolov8n-obb", "OBB")),
    *(("11/yolo11n-seg", "Segmentation"), ("11/yolo11n-cls", "Classification")),
    ("v8/yolov8n-cls", "Classification"),
):
    CASES[f"ultralytics {_file}"] = (
        lambda file=_file, task=_task: getattr(tasks, f"{task}Model")(
            str(_YAML / f"{file}.yaml"), verbose=False
        ),
        (1, 3, 128, 128),
    )

_PLAIN_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_VIT = {**_PLAIN_VIT, "intermediate_size": 64}
_STAGES = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
_SWIN = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
}
for _name, _options in (
    *((name, _VIT) for name in ("ViT", "DeiT", "Beit", "CLIPVision", "SiglipVision", "ViTMSN")),
    ("Dinov2", _PLAIN_VIT),
    *((name, _STAGES) for name in ("ConvNext", "ConvNextV2", "PoolFormer")),
    ("ResNet", {**_STAGES, "embedding_size": 8}),
    ("RegNet", {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "groups_width": 8}),
    *((name, {**_SWIN, "window_size": 4}) for name in ("Swin", "Swinv2")),
    *((name, {"image_size": 64}) for name in ("MobileViT", "MobileViTV2", "EfficientNet", "Levit")),
    ("MobileNetV2", {}),
    *(
        (name, {**_STAGES, "image_size": 64, "num_attention_heads": [1, 2, 4, 8]})
        for name in ("Pvt", "PvtV2")
    ),
    ("Segformer", {**_STAGES, "num_attention_heads": [1, 2, 4, 8]}),
):
    _size = _options.get("image_size", 64)
    CASES[f"transformers {_name}"] = (
        lambda name=_name, options=_options: First(
            getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options))
        ),
        (1, 3, _size, _size),
    )

for _name, _arguments, _shape in (
    ("BasicUNet", (3, 1, 2), (1, 1, 32, 32, 32)),
    ("BasicUNet", (2, 1, 2), (1, 1, 33, 33)),
    ("UNet", (3, 1, 2, (4, 8, 16), (2, 2)), (1, 1, 16, 16, 16)),
    ("SegResNet", (3, 8, 1, 2), (1, 1, 16, 16, 16)),
    ("VNet", (3, 1, 2), (1, 1, 32, 32, 32)),
    ("DynUNet", (3, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2]), (1, 1, 16, 16, 16)),
    ("DenseNet121", (3, 1, 2), (1, 1, 32, 32, 32)),
    ("FlexibleUNet", (3, 2, "efficientnet-b0"), (1, 3, 32, 32)),
    ("AttentionUnet", (2, 1, 2, (4, 8, 16), (2, 2)), (1, 1, 32, 32)),
    ("HighResNet", (3, 1, 2), (1, 1, 16, 16, 16)),
):
    CASES[f"monai {_name} {_shape}"] = (
        lambda name=_name, arguments=_arguments: getattr(nets, name)(*arguments),
        _shape,
    )


class First(nn.Module):
    """The first of a network's outputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x)[0]


def tensors(item: Any) -> list[Tensor]:
    if isinstance(item, Tensor):
        return [item]
    parts = (
        item.values() if isinstance(item, dict) else item if isinstance(item, tuple | list) else ()
    )
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str) -> None:
    make, shape = CASES[name]
    net, x = make().eval(), torch.randn(shape)
    model = ai3.swap_backend(net, sample_input_shape=shape)
    with torch.no_grad():
        expected = tensors(net(x))
    assert "torch" not in {node.op for node in model.graph.nodes}
    for one, other in zip(tensors(model(x)), expected, strict=True):
        scale = max(other.abs().max().item(), 1e-6)
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * scale)
