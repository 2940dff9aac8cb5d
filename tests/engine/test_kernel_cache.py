"""Machine code of old sources goes, but never what may be in use."""

import os
from pathlib import Path

from engine.kernel_cache import KEEP_COUNT, UNUSED_S, remove_old

NOW = 1_000_000.0


def made(root: Path, count: int, age_s: float) -> list[str]:
    """Folders of machine code, the newest first, and something else that is as old."""
    names = [f"kernels-{number:02d}" for number in range(count)]
    for age, name in enumerate([*names, "other"]):
        (root / name).mkdir()
        (root / name / "code").touch()
        os.utime(root / name, (0, NOW - age_s - age))
    return names


def test_the_newest_stay(tmp_path: Path) -> None:
    names = made(tmp_path, KEEP_COUNT + 3, UNUSED_S + 1)
    remove_old(tmp_path, NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names[:KEEP_COUNT], "other"]


def test_what_was_used_lately_stays(tmp_path: Path) -> None:
    names = made(tmp_path, KEEP_COUNT + 3, UNUSED_S / 2)
    remove_old(tmp_path, NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "other"]
