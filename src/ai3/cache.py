"""The folder in which ai3 keeps what it can make anew: measured times, compiled algorithms."""

import os
from pathlib import Path


def folder() -> Path:
    """What the environment variable AI3_CACHE_DIR names, or ai3's folder in the user's cache. It
    need not exist."""
    if own := os.environ.get("AI3_CACHE_DIR"):
        return Path(own)
    from platformdirs import user_cache_path

    return user_cache_path("ai3", appauthor=False)
