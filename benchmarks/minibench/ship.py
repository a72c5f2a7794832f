"""Copy the clips of `videossp demo` from the set `tabletop` into the package.

    python benchmarks/minibench/ship.py TABLETOP

The clips are of three pairs of opposite actions: the first ones of the splits train and test, and one per
class of val that is used for neither training nor testing. The same set gives the same archive, byte for
byte.
"""

import argparse
import csv
import io
import zipfile
from pathlib import Path

from videossp.bundled import CLIPS
from videossp.system.files import atomic_write

CLASSES = ("drawer-open", "drawer-close", "window-open", "window-close", "faucet-open", "faucet-close")
COUNTS = {"train": 24, "test": 12}
DATE = (2026, 11, 24, 0, 0, 0)


def rows_of(tabletop: Path, split: str, count: int) -> list[dict[str, str]]:
    """The first `count` rows of each class of a split."""
    with (tabletop / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for label in CLASSES for row in [x for x in rows if x["label"] == label][:count]]


def ship(tabletop: Path) -> bytes:
    """The bytes of the archive: clips/{train,test}.csv with their videos, unseen/CLASS.mp4, the licence."""
    entries: dict[str, bytes] = {"LICENSE.txt": (tabletop / "LICENSE.txt").read_bytes()}
    for split, count in COUNTS.items():
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", "label"])
        for row in rows_of(tabletop, split, count):
            name = f"{split}/{Path(row['path']).name}"
            writer.writerow([name, row["label"]])
            entries[f"clips/{name}"] = (tabletop / row["path"]).read_bytes()
        entries[f"clips/{split}.csv"] = table.getvalue().encode()
    for row in rows_of(tabletop, "val", 1):
        entries[f"unseen/{row['label']}.mp4"] = (tabletop / row["path"]).read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), data)
    return content.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tabletop", type=Path)
    data = ship(parser.parse_args().tabletop)
    atomic_write(CLIPS, data)
    print(f"{CLIPS}: {len(data) / 1e6:.2f} MB")
