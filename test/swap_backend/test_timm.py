"""Networks of timm, one of each of forty modules: whole, for more than one batch."""

import pytest
import torch

import ai3
import runners.vision  # noqa: F401  what timm takes of torchvision can be imported then
from test.compare import assert_close

timm = pytest.importorskip("timm")

NETWORKS = (
    *("test_resnet", "starnet_s050", "test_byobnet", "test_convnext", "test_efficientnet"),
    *("test_mambaout", "cs3darknet_focus_s", "fasternet_t0", "ese_vovnet19b_slim_dw"),
    *("hgnetv2_b0", "pit_ti_224", "inception_next_atto", "resnetv2_18", "mobilenetv3_small_050"),
    *("test_nfnet", "test_vit_relpos", "hardcorenas_b", "ghostnet_050", "test_coatnet"),
    *("swiftformer_xs", "skresnet18", "edgenext_xx_small", "hrnet_w18_small"),
    *("deit_tiny_patch16_224", "pvt_v2_b0", "iformer_t", "eca_botnext26ts_256", "shvit_s1"),
    *("poolformer_s12", "lowformer_b0", "levit_128s", "fastvit_t8"),
    *("repvit_m1", "gcvit_xxtiny", "repghostnet_050", "efficientvim_m1", "regnety_002"),
    *("test_vit", "efficientformerv2_s0", "tnt_s_legacy_patch16_224"),
)


@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_torch(name: str) -> None:
    net = timm.create_model(name, num_classes=10).eval()
    # Weights that begin as zeros would hide what comes before them.
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, *net.default_cfg["input_size"])
    model = ai3.swap_backend(net, sample_input_shape=x.shape)
    with torch.no_grad():
        expected = net(x)
    assert_close(model(x), expected)
    assert_close(model(x[:1]), expected[:1])
