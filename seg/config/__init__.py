"""What can be set, read and explained: every key is checked, and all problems are reported at once.

`load_config` reads a YAML file, applies `key.sub=value` overrides and validates. Each problem is one line with the
dotted key, the value got, what is allowed and, for a typo, the nearest key. Nothing here imports TensorFlow: a wrong
configuration answers at once.
"""

from seg.config.rules import validate
from seg.config.tree import Config
from seg.config.yaml import dump_config, load_config

__all__ = ["Config", "dump_config", "load_config", "validate"]
