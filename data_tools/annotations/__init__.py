"""What annotation tools export, to masks: each format by its own filling rule, classes by name and never by number."""

from data_tools.annotations.coco import read_coco
from data_tools.annotations.cvat import read_cvat
from data_tools.annotations.label_studio import read_label_studio
from data_tools.annotations.labelme import read_labelme
from data_tools.annotations.qupath import read_qupath

READERS = {
    "coco": read_coco,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "label_studio": read_label_studio,
    "qupath": read_qupath,
}

__all__ = ["READERS"]
