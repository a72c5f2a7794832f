"""Folds of two sets of camera footage of lips, as sets for benchmarks/table.py.

    python benchmarks/real_folds.py --data PATH --out FOLDER/real

PATH contains a folder for each set, with the videos and clips.csv: columns file, class, speaker, fold. No
speaker is in two folds. The sets are `lips_words`, the words of MIRACL-VC1 (Rekik, Ben-Hamadou, Mahdi, ICIAR
2014), 10 words by 15 speakers, and `lips_letters`, AVLetters (Matthews et al., TPAMI 2002), 26 letters by 10
speakers. Both are research data that this project does not contain: ask their authors for them. Every fold is
the test once; the fold before it is the validation, the other three are for training.
"""

import argparse
import csv
import sys
from pathlib import Path

SETS = ("lips_words", "lips_letters")
COLUMNS = {"file", "class", "speaker", "fold"}


def folds(rows: list[dict[str, str]]) -> dict[str, dict[str, list[dict[str, str]]]]:
    """By the fold that is the test, the rows of each split.

    Raises:
        ValueError: columns are missing, there are fewer than three folds, or a speaker is in two of them.
    """
    if missing := COLUMNS - set(rows[0] if rows else ()):
        raise ValueError(f"clips.csv has no column {', '.join(sorted(missing))}")
    names = sorted({x["fold"] for x in rows})
    if len(names) < 3:
        raise ValueError(f"clips.csv has {len(names)} folds; there must be at least 3")
    speakers = {(x["speaker"], x["fold"]) for x in rows}
    if len(speakers) > len({speaker for speaker, _ in speakers}):
        raise ValueError("clips.csv has a speaker in two folds")
    found = {}
    for i, test in enumerate(names):
        split_of = dict.fromkeys(names, "train") | {names[i - 1]: "val", test: "test"}
        splits: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
        for row in rows:
            splits[split_of[row["fold"]]].append(row)
        found[test] = splits
    return found


def main() -> int:
    """Exit code: 2 if the data does not fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to write a folder per fold in")
    args = parser.parse_args()
    for name in SETS:
        source = (args.data / name).absolute()
        try:
            with (source / "clips.csv").open(newline="", encoding="utf-8") as file:
                by_fold = folds(list(csv.DictReader(file)))
        except (OSError, ValueError) as error:
            print(f"{source}: {error}", file=sys.stderr)
            return 2
        for number, splits in enumerate(by_fold.values()):
            folder = args.out / f"{name}_{number}"
            folder.mkdir(parents=True, exist_ok=True)
            for split, rows in splits.items():
                with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(["path", "label", "speaker"])
                    writer.writerows([source / x["file"], x["class"], x["speaker"]] for x in rows)
            counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
            print(f"{folder}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
