"""Where an image lies on earth, in whichever ways its file or a file beside it says it, and whether two say the same.

GDAL reads a transform and a coordinate reference system, ground control points and rational polynomial coefficients
(RPCs) out of a GeoTIFF, and a world file (.tfw, .pgw, .jgw, .wld) or GDAL's own .aux.xml beside any picture. The .prj
beside a world file, which GDAL leaves alone, is read here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from seg.data.files.rasters import rasterio_module
from seg.data.files.reading import image_size
from seg.data.files.tiff import SUFFIXES as TIFF_SUFFIXES
from seg.errors import DataError

_SIDECARS = (".wld", ".aux.xml")  # and the first and last letter of a suffix with a w behind, .tfw, or all of it, .tifw


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        crs: rasterio's coordinate reference system, or None.
        transform: rasterio's affine transform from (column, row) to it, or None.
        gcps: rasterio's ground control points.
        gcps_crs: What they are in, or None.
        rpcs: rasterio's RPCs, or None.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()
    gcps_crs: Any = None
    rpcs: Any = None

    def part(self, top: int, left: int) -> Place:
        """Of the part of the image that begins at this row and column."""
        from rasterio.control import GroundControlPoint

        transform, rpcs = self.transform, self.rpcs
        if transform is not None:
            a, b, c, d, e, f = transform[:6]
            transform = type(transform)(a, b, a * left + b * top + c, d, e, d * left + e * top + f)
        if rpcs is not None:
            known = {name.lower(): value for name, value in rpcs.to_dict().items()}
            known |= {"line_off": rpcs.line_off - top, "samp_off": rpcs.samp_off - left}
            rpcs = type(rpcs)(**known)
        points = tuple(
            GroundControlPoint(one.row - top, one.col - left, one.x, one.y, one.z, one.id, one.info)
            for one in self.gcps
        )
        return replace(self, transform=transform, gcps=points, rpcs=rpcs)

    def profile(self) -> dict[str, Any]:
        """What `rasterio.open` takes to write it. A TIFF holds a transform or ground control points: the transform."""
        found: dict[str, Any] = {} if self.rpcs is None else {"rpcs": self.rpcs}
        if self.gcps and self.transform is None:
            return found | {"gcps": list(self.gcps), "crs": self.gcps_crs}
        given = {"crs": self.crs, "transform": self.transform}
        return found | {key: value for key, value in given.items() if value is not None}


def place_of(dataset: Any) -> Place | None:
    """Where an open dataset of rasterio lies; None where nothing says it."""
    points, crs = dataset.gcps
    transform = None if dataset.transform.is_identity else dataset.transform
    place = Place(dataset.crs, transform, tuple(points), crs, dataset.rpcs)
    if place.transform is not None and place.crs is None:
        place = replace(place, crs=_beside(Path(dataset.name)))
    return None if place == Place() else place


def file_place(file: Path) -> Place | None:
    """Where a PNG, JPEG, BMP or TIFF lies; None where nothing says it.

    Raises:
        DataError: It is no image, or a world file is beside it that GDAL does not read.
    """
    beside = sidecars(file)
    if not beside and not file.name.lower().endswith(TIFF_SUFFIXES):
        return None
    rasterio = rasterio_module()
    image_size(file)  # refuses what is no image, such as a format that names other files
    try:
        with rasterio.open(file) as dataset:
            place = place_of(dataset)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{file}: its place cannot be read ({str(error).partition(chr(10))[0]})") from None
    worlds = [one for one in beside if one.suffix.lower() != ".xml"]
    if place is None and worlds:
        raise DataError(
            f"{worlds[0]}: is no world file that can be read, so that what {file.name} becomes would lose its place; "
            "allowed: six numbers, a line each, or no such file"
        )
    return place


def sidecars(file: Path) -> list[Path]:
    """The world files and .aux.xml files of an image, sorted."""
    suffix = file.suffix.lower()
    names = {f"{file.name.lower()}.aux.xml", *(f"{file.stem.lower()}{end}" for end in _ends(suffix))}
    return sorted(one for one in _listing(file.parent, _changed(file.parent)) if one.name.lower() in names)


def _ends(suffix: str) -> tuple[str, ...]:
    return f".{suffix[1:2]}{suffix[-1:]}w", f"{suffix}w", *_SIDECARS


@lru_cache(maxsize=16)
def _listing(folder: Path, changed: int) -> tuple[Path, ...]:
    """What may be a sidecar in a folder, listed once and not for each image."""
    return tuple(one for one in folder.iterdir() if one.suffix.lower().endswith(("w", ".wld", ".xml")))


def _changed(folder: Path) -> int:
    return folder.stat().st_mtime_ns


def _beside(file: Path) -> Any:
    """The coordinate reference system in the .prj beside a world file; None without a readable one."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_wkt(file.with_suffix(".prj").read_text("utf-8"))
    except (OSError, ValueError, CRSError):
        return None


def same_crs(one: Any, two: Any) -> bool:
    """Whether two coordinate reference systems put (x, y) at one point of the earth, whatever words say it.

    Heights do not count (EPSG:32633+5773 is EPSG:32633), nor the order of the axes, for GDAL always gives (x, y)
    (OGC:CRS84 is EPSG:4326), nor the dialect (ESRI's names).

    Args:
        one: rasterio's CRS, or a text that it reads.
        two: The same.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    first, second = (CRS.from_user_input(each) for each in (one, two))
    if first == second:
        return True
    try:
        first, second = _horizontal(first), _horizontal(second)
    except (CRSError, KeyError, ValueError):  # PROJ describes all but a few that are of no place
        return False
    return bool(first == second or (first.to_epsg() is not None and first.to_epsg() == second.to_epsg()))


def _horizontal(crs: Any) -> Any:
    """The horizontal part with its axes in one order and no code, which would be compared in their place."""
    part = crs.to_dict(projjson=True)
    while "components" in part or "source_crs" in part:
        part = part["components"][0] if "components" in part else part["source_crs"]
    part.pop("id", None)
    system = part["coordinate_system"]
    system["axis"] = sorted(
        (axis for axis in system["axis"] if axis["direction"] != "up"), key=lambda axis: axis["direction"]
    )
    return type(crs).from_user_input(part)
