"""NVIDIA GPUs: cuDNN's and cuBLAS's algorithms by name, and our own in Triton."""

from ai3.platforms import register
from ai3.platforms.cuda.platform import Cuda

register(Cuda())
