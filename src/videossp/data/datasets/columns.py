"""The columns of tables of videos: the names that are known for the path, the class and other meanings."""

import re
from collections.abc import Iterable, Sequence

from videossp.data.datasets.text import normalised

# Names are compared without case, blanks, underscores and dashes: VideoName, "video name", video-name. The
# order is that of preference.
# fmt: off
PATHS = (
    "path", "file_path", "video_path", "clip_path", "vid_path", "full_path", "abs_path", "absolute_path",
    "relative_path", "rel_path", "video_file_path", "file_location", "file", "file_name", "video_file",
    "video_file_name", "clip_file", "clip_file_name", "video", "clip", "video_name", "clip_name", "vid_name",
    "frame_dir", "frames_dir", "frames_path", "frame_path", "frame_folder", "folder_name", "video_dir",
    "video_folder", "video_id", "clip_id", "vid_id", "vid", "narration_id", "youtube_id", "yt_id",
    "sample_id", "name", "uid", "uuid", "id",
)
# These occur in many other tables, too. A table with one of them lists videos only if most are there.
VAGUE_PATHS = ("name", "uid", "uuid", "id", "sample_id", "folder_name")
CLASS_NAMES = (
    "class_name", "label_name", "class_label", "label_text", "text_label", "label_str", "label_string",
    "class_str", "label", "labels", "class", "classes",
)
CLASS_NUMBERS = (
    "class_id", "label_id", "class_index", "label_index", "class_idx", "label_idx", "class_number",
    "label_number", "class_num", "label_num", "class_no", "label_int", "int_label", "numeric_label",
)
# Used only where a table has none of CLASS_NAMES.
OTHER_CLASS_NAMES = (
    "category", "category_name", "action", "action_name", "action_label", "action_class", "activity",
    "activity_name", "activity_label", "gesture", "gesture_name", "gesture_label", "sign", "gloss", "tag",
    "tags", "target", "y", "y_true", "ground_truth", "gt", "gt_label", "annotation", "event", "event_name",
    "emotion", "exercise", "exercise_name", "behavior", "behaviour", "motion", "movement", "sport", "verb",
    "noun",
)
OTHER_CLASS_NUMBERS = (
    "category_id", "category_index", "category_idx", "action_id", "action_index", "action_idx",
    "activity_id", "activity_index", "activity_idx", "gesture_id", "target_id", "verb_class", "verb_id",
    "noun_class", "noun_id",
)
SPLITS = ("split", "subset", "set", "partition", "data_split", "dataset_split", "split_name", "data_set")
# Columns of splits only if one of their values names a split.
OTHER_SPLITS = (
    "usage", "phase", "mode", "stage", "dataset", "data_type", "train_test", "train_or_test", "fold",
)
FLAGS = {
    "train": ("is_train", "is_training", "in_train", "train", "training"),
    "val": ("is_val", "is_validation", "in_val", "val", "validation"),
    "test": ("is_test", "is_testing", "in_test", "test", "testing"),
}
FOLDS = ("fold", "folds", "fold_id", "fold_index", "fold_idx", "fold_number", "kfold", "cv_fold")
STARTS = (
    "start", "start_time", "time_start", "start_sec", "start_secs", "start_second", "start_seconds",
    "start_s", "t_start", "begin", "begin_time", "time_begin", "begin_sec", "begin_seconds",
    "start_timestamp", "clip_start", "segment_start", "start_time_sec", "start_time_seconds", "start_time_s",
)
ENDS = (
    "end", "end_time", "time_end", "end_sec", "end_secs", "end_second", "end_seconds", "end_s", "t_end",
    "stop", "stop_time", "time_stop", "stop_sec", "stop_seconds", "end_timestamp", "stop_timestamp",
    "clip_end", "segment_end", "end_time_sec", "end_time_seconds", "end_time_s",
)
FIRST_FRAMES = (
    "start_frame", "frame_start", "first_frame", "begin_frame", "frame_begin", "start_f", "f_start",
    "start_frame_id", "start_frame_index", "start_frame_idx", "start_frame_number", "from_frame",
    "frame_from",
)
LAST_FRAMES = (
    "end_frame", "frame_end", "last_frame", "stop_frame", "frame_stop", "end_f", "f_end", "stop_f",
    "end_frame_id", "end_frame_index", "end_frame_idx", "end_frame_number", "to_frame", "frame_to",
)
GROUPS = ("group", "group_id")
# fmt: on
# The commonest names, for messages.
PATH_EXAMPLES = ("path", "file_name", "video", "video_path", "video_name", "clip", "video_id", "id")
CLASS_EXAMPLES = ("label", "class", "class_name", "class_id", "category", "action", "activity", "tag")
TEXTS = ("text", "caption", "captions", "description", "sentence", "narration", "transcript", "question")
# A column with one of these words, which is none of those above, may select a part of the video.
PART_WORDS = {"start", "starts", "begin", "begins", "end", "ends", "stop", "stops", "onset", "offset"}
LENGTH_WORDS = {"duration", "dur", "length"}


def words_of(name: str) -> set[str]:
    """The words of a column name: start, time, ms of start_time_ms or startTimeMs."""
    return {x.lower() for x in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def positions(columns: Sequence[str], names: Iterable[str]) -> list[int]:
    """The positions of the columns that have one of these names, in the order of the names."""
    by_name: dict[str, int] = {}
    for position, column in enumerate(columns):
        by_name.setdefault(normalised(column), position)
    found = (by_name.get(normalised(x)) for x in names)
    return [x for x in dict.fromkeys(found) if x is not None]


def path_positions(columns: Sequence[str]) -> list[int]:
    """The positions of the columns that may name the video, in the order of preference.

    The last ones are columns such as left_file_name (Hugging Face).
    """
    others = [x for x in columns if normalised(x).endswith("filename")]
    return positions(columns, (*PATHS, *others))


def has_path(columns: Sequence[str]) -> bool:
    """Whether a table has a column for the video."""
    return bool(path_positions(columns))


def has_label(columns: Sequence[str]) -> bool:
    """Whether a table has a column for the class."""
    names = (*CLASS_NAMES, *CLASS_NUMBERS, *OTHER_CLASS_NAMES, *OTHER_CLASS_NUMBERS)
    return bool(positions(columns, names))


def label_positions(columns: Sequence[str]) -> tuple[list[int], list[int]]:
    """The positions of the columns of class names and of class numbers, in the order of preference."""
    names = positions(columns, CLASS_NAMES)
    numbers = positions(columns, CLASS_NUMBERS)
    if not names:
        names = positions(columns, OTHER_CLASS_NAMES)
        numbers = numbers or positions(columns, OTHER_CLASS_NUMBERS)
    return names, numbers
