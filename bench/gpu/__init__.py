"""What needs a GPU: `./run gputest` and `./run gpubench`, for a machine that has nothing but
Python, torch and Triton, and no network; see docs/cuda.md."""
