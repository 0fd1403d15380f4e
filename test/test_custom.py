"""The user's own algorithms: fill in the functions, build, choose 'custom'."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough  # they build the package

ROOT = Path(__file__).parent.parent

CONV2D = """
template <typename T>
void conv2d(const Conv2d& p, const T* input, const T* weight, const T* bias, T* output) {
    parallel_for(p.threads, p.N * p.OC, [&](Index i, int) {
        const Index n = i / p.OC, oc = i % p.OC;
        for (Index oh = 0; oh < p.OH; ++oh)
            for (Index ow = 0; ow < p.OW; ++ow) {
                T total = bias ? bias[oc] : T(0);
                for (Index ic = 0; ic < p.group_ic(); ++ic)
                    for (Index kh = 0; kh < p.KH; ++kh)
                        for (Index kw = 0; kw < p.KW; ++kw) {
                            const Index ih = oh * p.stride_h + kh * p.dilation_h - p.pad_top;
                            const Index iw = ow * p.stride_w + kw * p.dilation_w - p.pad_left;
                            const Index c = oc / p.group_oc() * p.group_ic() + ic;
                            if (ih >= 0 && ih < p.IH && iw >= 0 && iw < p.IW)
                                total += input[((n * p.IC + c) * p.IH + ih) * p.IW + iw] *
                                         weight[((oc * p.group_ic() + ic) * p.KH + kh) * p.KW + kw];
                        }
                // Tells in the result that this function ran.
                output[((n * p.OC + oc) * p.OH + oh) * p.OW + ow] = total + T(1000);
            }
    });
}
"""

RELU = """
inline void relu(const Relu& problem, const float* input, float* output) {
    for (Index i = 0; i < elements(problem.output().shape); ++i)
        output[i] = input[i] > 0 ? input[i] : -7;
}
"""

CHECK = """
import sys
sys.path[:0] = {paths!r}
import ai3, copy, torch
from torch import nn

assert ai3.__file__.startswith({site!r}), ai3.__file__
assert "custom" in ai3.SUPPORTED_ALGORITHMS["conv2d"]
assert "custom" in ai3.SUPPORTED_ALGORITHMS["relu"]
assert "custom" not in ai3.SUPPORTED_ALGORITHMS["linear"]
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2))
x = torch.randn(2, 3, 9, 9)
with torch.no_grad():
    first = net[0](x) + 1000
    assert (first > 0).all()

    swapped = copy.deepcopy(net)
    ai3.swap_conv2d(swapped, ["custom", "direct"])
    torch.testing.assert_close(swapped(x), net[2](first), rtol=1e-4, atol=1e-2)
    double = copy.deepcopy(net).double()
    expected = double[2](double[0](x.double()) + 1000)
    ai3.swap_conv2d(double, ["custom", "direct"])
    torch.testing.assert_close(double(x.double()), expected)

    model = ai3.swap_backend(net, {{"conv2d": ["custom", "direct"]}})
    torch.testing.assert_close(model(x), net[2](first), rtol=1e-4, atol=1e-2)
    assert [node.algorithm for node in model.profile(x)] == ["custom", "custom", "direct"]

    # The custom relu is the default, for float32 only.
    model = ai3.swap_backend(nn.ReLU())
    assert torch.equal(model(torch.tensor([1.0, -1.0])), torch.tensor([1.0, -7.0]))
    y = model(torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert y.tolist() == [1.0, 0.0]
    try:
        ai3.swap_backend(nn.ReLU().double(), {{"relu": "custom"}})(torch.ones(2).double())
    except ValueError as error:
        assert "not written for float64" in str(error), error
    else:
        raise AssertionError("a custom function for float32 took float64")
print("custom algorithms ran")
"""


def fill_in(header: Path, body: str, *, default: bool = False) -> None:
    text = header.read_text()
    begin = text.index("template <typename T>")
    end = text.index("= delete;") + len("= delete;")
    text = text[:begin] + body + text[end:]
    if default:
        text = text.replace("_is_default = false", "_is_default = true")
    header.write_text(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy of the repository with two functions filled in."""
    folder = tmp_path_factory.mktemp("custom")
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    fill_in(folder / "src/ai3/custom/conv2d.hpp", CONV2D)
    fill_in(folder / "src/ai3/custom/relu.hpp", RELU, default=True)
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "-q"]
    options = ["--target", str(folder / "site"), "-Ccmake.define.AI3_ISAS=baseline"]
    ran = subprocess.run([*pip, *options, str(folder)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "site"


def test_both_swapping_functions_run_what_was_filled_in(site: Path) -> None:
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    code = CHECK.format(paths=[str(site), *libraries], site=str(site))
    # Without `site` the editable install of this repository does not come first.
    ran = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip() == "custom algorithms ran"


def test_an_installed_package_holds_what_algorithms_include(site: Path) -> None:
    assert (site / "ai3/csrc/ops/conv2d/op.hpp").exists()
    assert (site / "ai3/custom/conv2d.hpp").exists()
    assert not (site / "ai3/csrc/bindings").exists()
    assert (site / "ai3/py.typed").exists()
