"""The core on aarch64: cross-compiled, and checked under an emulator (`./run aarch64`)."""
