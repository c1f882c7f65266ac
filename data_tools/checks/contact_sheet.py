"""Samples as one HTML page to look at: image, mask in class colours and overlay side by side, legend, class shares.

The page loads nothing from anywhere. Every picture is in it once: the overlay is the mask laid over the image by the
browser, so that its opacity is a slider, and void is where nothing lies on the image.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from seg.data.files.images import resize_image, resize_mask
from seg.labels import LabelSet

JPEG_QUALITY = 85
SHARES_SHOWN = 6  # classes written under a sample, the largest first; the bar has all
STRETCHED = (1, 99)  # percentiles that become black and white where an image is not 8-bit


@dataclass(frozen=True)
class Card:
    """One sample of a sheet.

    Attributes:
        name: Of the image, relative to the dataset's folder.
        split: Its split.
        size: (height, width) in pixels as stored, of the mask where it can be read; None where neither can.
        image: JPEG; None where it cannot be read.
        mask: PNG, transparent where nothing is labelled; None where it cannot be read.
        pixels: (C + 1,) pixels of each class, then void; None where the mask cannot be read.
        note: Why it is here, or why it cannot be shown.
    """

    name: str
    split: str
    size: tuple[int, int] | None = None
    image: bytes | None = None
    mask: bytes | None = None
    pixels: np.ndarray | None = None
    note: str = ""


def image_jpeg(image: np.ndarray, side: int) -> bytes:
    """A JPEG of an image, its longer side at most `side` pixels.

    Args:
        image: (H, W, bands). Of other than 1 or 3 bands the first, or first three, are shown; values of other than
            8 bits are stretched so that the 1st percentile is black and the 99th white.
        side: Pixels.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    shown = _reduced(shown, side)
    if shown.dtype != np.uint8:
        finite = np.nan_to_num(shown.astype(np.float32), posinf=0, neginf=0)
        low, high = np.percentile(finite, STRETCHED)
        shown = np.clip((finite - low) * (255 / max(float(high - low), 1e-12)), 0, 255).astype(np.uint8)
    bgr = shown if shown.shape[2] == 1 else cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def mask_png(mask: np.ndarray, labels: LabelSet, side: int) -> bytes:
    """A palette PNG of a mask in class colours, void transparent; its longer side at most `side` pixels.

    Of a larger mask every n-th pixel is kept, so an object of fewer pixels than the reduction may be missing.
    """
    height, width = _fitted(mask.shape[:2], side)
    picture = Image.fromarray(resize_mask(mask, (height, width)))
    picture.putpalette(labels.colour_table().tobytes())
    opaque = bytes(255 if value < labels.num_classes else 0 for value in range(256))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=opaque, optimize=False)
    return buffer.getvalue()


def coloured_png(colours: np.ndarray, shown: np.ndarray, side: int) -> bytes:
    """As `mask_png`, of a mask that is drawn already, where classes may overlap.

    Args:
        colours: (H, W, 3) uint8 RGB.
        shown: (H, W) bool; elsewhere the picture is transparent.
        side: Pixels.
    """
    rgba = np.dstack([colours, np.where(shown, np.uint8(255), np.uint8(0))])
    buffer = io.BytesIO()
    Image.fromarray(resize_mask(rgba, _fitted(shown.shape, side))).save(buffer, "PNG")
    return buffer.getvalue()


def page(title: str, subtitle: str, labels: LabelSet, cards: Sequence[Card], highlight: int | None = None) -> str:
    """The whole page.

    Args:
        title: Heading.
        subtitle: How the samples were chosen.
        labels: Names and colours.
        cards: What to show, in order.
        highlight: A class whose share is written first on every card.
    """
    rules, articles = [], []
    for place, card in enumerate(cards):
        for letter, kind, data in (("i", "jpeg", card.image), ("m", "png", card.mask)):
            if data is not None:
                rules.append(f".{letter}{place}{{background-image:url(data:image/{kind};base64,{_base64(data)})}}")
        articles.append(_article(place, card, labels, highlight))
    return _PAGE.format(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        legend=_legend(labels, cards),
        style=_STYLE,
        pictures="\n".join(rules),
        cards="\n".join(articles),
        script=_SCRIPT,
    )


def _article(place: int, card: Card, labels: LabelSet, highlight: int | None) -> str:
    size = f"{card.size[0]} &times; {card.size[1]}" if card.size else "not shown"
    head = f"<h2>{html.escape(card.name)}</h2><p class=meta>{html.escape(card.split)} &middot; {size}</p>"
    note = f"<p class=note>{html.escape(card.note)}</p>" if card.note else ""
    ratio = f"aspect-ratio:{card.size[1]}/{card.size[0]}" if card.size else ""
    image = f"pic i{place}" if card.image is not None else "pic none"
    layer = f"<div class='layer m{place}'></div>" if card.mask is not None else ""
    panels = "".join(
        f"<div class='{classes}' data-kind='{kind}' style='{ratio}' title='{kind}: click to enlarge'>{inner}</div>"
        for kind, classes, inner in (
            ("image", image, ""),
            ("mask", "pic void", layer),
            ("overlay", f"{image} over", layer),
        )
    )
    return f"<article>{head}{note}<div class=row>{panels}</div>{_shares(card, labels, highlight)}</article>"


def _shares(card: Card, labels: LabelSet, highlight: int | None) -> str:
    """A bar of all classes unless they overlap, and the largest in words; void last."""
    if card.pixels is None or card.size is None:
        return ""
    shares = card.pixels / (card.size[0] * card.size[1])
    order = [index for index in np.argsort(-shares[:-1], kind="stable").tolist() if shares[index]]
    if highlight is not None:
        order = [highlight, *(index for index in order if index != highlight)]
    bar = "".join(
        f"<i style='width:{100 * shares[index]:.3f}%;background:rgb{labels.colours[index]}'"
        f" title='{html.escape(labels.names[index], quote=True)} {shares[index]:.2%}'></i>"
        for index in sorted(order)
        if shares[index]
    )
    words = [
        f"<span>{_swatch(labels.colours[index])}{html.escape(labels.names[index])} {shares[index]:.2%}</span>"
        for index in order[:SHARES_SHOWN]
    ]
    if len(order) > SHARES_SHOWN:
        words.append(f"<span>and {len(order) - SHARES_SHOWN} more</span>")
    if shares[-1]:
        words.append(f"<span><b class='swatch void'></b>void {shares[-1]:.2%}</span>")
    drawn = "" if labels.multi_label else f"<div class=bar>{bar}</div>"
    return f"{drawn}<p class=shares>{''.join(words)}</p>"


def _legend(labels: LabelSet, cards: Sequence[Card]) -> str:
    total, size = np.zeros(labels.num_classes + 1, np.int64), 0
    for card in cards:
        if card.pixels is not None and card.size is not None:
            total += card.pixels
            size += card.size[0] * card.size[1]
    shares = total / max(1, size)
    entries = [
        f"<span>{_swatch(colour)}{html.escape(name)} <small>{share:.2%}</small></span>"
        for name, colour, share in zip(labels.names, labels.colours, shares[:-1], strict=True)
    ]
    return "".join(entries) + f"<span><b class='swatch void'></b>void <small>{shares[-1]:.2%}</small></span>"


def _swatch(colour: tuple[int, int, int]) -> str:
    return f"<b class=swatch style='background:rgb{tuple(colour)}'></b>"


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    return resize_image(image, _fitted(image.shape[:2], side))


def _fitted(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """(height, width), the longer at most `side`, neither below 1."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_STYLE = """
:root { --opacity: .5 }
* { box-sizing: border-box }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 110rem; padding: 1rem 1.2rem; color: #222 }
h1 { font-size: 1.3rem; margin: 0 }
header > p { margin: .1rem 0 .6rem; color: #555 }
nav { position: sticky; top: 0; z-index: 1; background: #fff; padding: .5rem 0; border-bottom: 1px solid #ddd;
  display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; align-items: center; max-height: 30vh; overflow-y: auto }
nav label { margin-left: auto; display: flex; align-items: center; gap: .5rem }
small { color: #666 }
span { white-space: nowrap }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(36rem, 100%), 1fr)); gap: 1.4rem 1.6rem;
  margin-top: 1rem }
article { min-width: 0 }
h2 { font-size: .95rem; font-weight: 600; margin: 0; overflow-wrap: anywhere }
.meta { margin: 0 0 .3rem; color: #666 }
.note { margin: 0 0 .3rem; background: #fff6dd; border-left: 4px solid #e0a800; padding: .15rem .5rem;
  overflow-wrap: anywhere }
.row { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .4rem }
.pic { position: relative; background: #eee center / contain no-repeat; cursor: zoom-in; min-height: 4rem }
.pic.none::before { content: "not readable"; position: absolute; inset: 0; display: grid; place-items: center;
  color: #a33 }
.layer { position: absolute; inset: 0; background: center / contain no-repeat; image-rendering: pixelated }
.over .layer { opacity: var(--opacity) }
.void { background: repeating-conic-gradient(#ddd 0 25%, #fff 0 50%) 0 0 / 12px 12px }
.bar { display: flex; height: .5rem; margin: .35rem 0 .15rem; background: #fff; border: 1px solid #bbb }
.bar i { display: block; height: 100% }
.shares { margin: 0; display: flex; flex-wrap: wrap; gap: 0 .9rem }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border: 1px solid #888 }
.swatch.void { background-size: 6px 6px }
dialog { border: 0; padding: 0; background: #111; color: #eee; width: 96vw; height: 96vh; max-width: none;
  max-height: none; overflow: hidden }
dialog::backdrop { background: #000c }
dialog .pic { width: 100%; height: calc(100% - 2rem); cursor: zoom-out; background-color: transparent;
  image-rendering: pixelated; aspect-ratio: auto !important }
dialog .pic.void { background: #111 }
dialog p { margin: 0; padding: .35rem .8rem; height: 2rem; white-space: nowrap; overflow: hidden }
"""
_SCRIPT = """
const cards = [...document.querySelectorAll("article")], box = document.querySelector("dialog");
const kinds = ["image", "mask", "overlay"];
let at = 0, kind = "overlay";
document.querySelector("#opacity").oninput = e =>
  document.documentElement.style.setProperty("--opacity", e.target.value / 100);
function show() {
  const picture = cards[at].querySelector(`[data-kind=${kind}]`).cloneNode(true);
  const line = document.createElement("p");
  const name = cards[at].querySelector("h2").textContent, keys = "arrows: other samples, 1 2 3: image, mask, overlay";
  line.textContent = `${name} \\u2013 ${kind} (${at + 1} of ${cards.length}; ${keys})`;
  picture.onclick = () => box.close();
  box.replaceChildren(line, picture);
  if (!box.open) box.showModal();
}
cards.forEach((card, place) => card.querySelectorAll(".pic").forEach(p => p.onclick = () => {
  at = place; kind = p.dataset.kind; show();
}));
addEventListener("keydown", e => {
  if (!box.open) return;
  if (e.key === "ArrowRight" || e.key === "ArrowLeft")
    at = (at + (e.key === "ArrowRight" ? 1 : cards.length - 1)) % cards.length;
  else if ("123".includes(e.key)) kind = kinds[e.key - 1];
  else return;
  e.preventDefault(); show();
});
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}</style><style>
{pictures}
</style></head>
<body><header><h1>{title}</h1><p>{subtitle}</p></header>
<nav>{legend}<label>overlay <input id=opacity type=range min=0 max=100 value=50></label></nav>
<main>
{cards}
</main><dialog></dialog>
<script>{script}</script></body></html>
"""
