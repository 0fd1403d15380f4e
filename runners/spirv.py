"""The SYCL kernels as SPIR-V: `./run spirv` compiles them anew, `--check` compares only.

The compiler is the one that the SYCL runtime has for programs which bring sources (libsycl-jit); a
small C++ program drives it. What it makes is committed, and is all that users of ai3 need.
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

KERNELS = ROOT / "src/ai3/platforms/sycl/kernels"
DRIVER = Path(__file__).with_suffix(".cpp")
PACKAGES = ("intel-sycl-rt", "intel-opencl-rt")


def missing() -> str:
    """Why nothing can be compiled, as a sentence; empty where it can."""
    for name in PACKAGES:
        try:
            distribution(name)
        except PackageNotFoundError:
            return f"{name} is not installed: pip install {' '.join(PACKAGES)}"
    return ""


def sources() -> list[Path]:
    return sorted(KERNELS.glob("*.cpp"))


def libraries() -> Path:
    """The folder of the runtime's libraries, beside that of its headers."""
    installed = distribution("intel-sycl-rt")
    (library,) = (f for f in installed.files or () if f.name == "libsycl.so")
    return Path(str(installed.locate_file(library))).resolve().parent


def environment() -> dict[str, str]:
    """In which the runtime finds its libraries and this computer's processor as a device."""
    lib = libraries()
    return {
        **os.environ,
        "OCL_ICD_FILENAMES": str(lib / "libintelocl.so"),
        "LD_LIBRARY_PATH": str(lib),
        "ONEAPI_DEVICE_SELECTOR": "opencl:cpu",
    }


def compile_all(folder: Path) -> dict[str, bytes]:
    """The SPIR-V of each source, by its stem. Works in an empty folder."""
    lib, driver = libraries(), folder / "driver"
    flags = ("-std=c++20", "-O0", "-w", f"-I{lib.parent / 'include'}", f"-L{lib}", "-lsycl")
    compiler = os.environ.get("CXX", "c++").split()
    subprocess.run(
        [*compiler, str(DRIVER), *flags, f"-Wl,-rpath,{lib}", "-o", str(driver)], check=True
    )
    dumping = {**environment(), "SYCL_DUMP_IMAGES": "1"}
    headers = [str(path) for path in sorted(KERNELS.glob("*.hpp"))]
    made = {}
    for source in sources():
        work = folder / source.stem
        work.mkdir()
        subprocess.run([str(driver), str(source), *headers], cwd=work, env=dumping, check=True)
        (image,) = work.glob("*.spv")
        made[source.stem] = image.read_bytes()
    return made


def main(arguments: list[str]) -> int:
    if why := missing():
        print(f"spirv: {why}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        made = compile_all(Path(folder))
    files = {KERNELS / f"{stem}.spv": image for stem, image in made.items()}
    changed = [path for path, image in files.items() if _read(path) != image]
    if "--check" in arguments:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is not what its source gives: ./run spirv")
        return int(bool(changed))
    for path in changed:
        path.write_bytes(files[path])
        print(f"{path.relative_to(ROOT)}: {len(files[path])} bytes")
    return 0


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
