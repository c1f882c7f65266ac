"""HTML pages from Jinja templates, which lie beside the code that fills them; what they share lies here."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **values: Any) -> str:
    """A page as one file that loads nothing from anywhere: styles, scripts and pictures are in it.

    Every value is escaped. The filter `picture` makes the address of an image from its bytes, of PNG or JPEG.

    Args:
        package: Where the template lies, such as 'seg.inference'. It may extend, import and include what lies there
            and here.
        template: Its file name.
        values: What it shows. A name that a template asks for and nobody gave is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader(__name__, ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["picture"] = _picture
    return environment.get_template(template).render(values)


def _picture(data: bytes) -> str:
    kind = "jpeg" if data.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
