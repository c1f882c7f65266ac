"""What a training step computes and exchanges, from the model alone: FLOPs, weights, and an all-reduce's bytes.

python -m experiments.benchmarks.step_volume --base-filters 64 --batch 16 --size 512 --seconds 0.0606 --devices 8 256
"""

from __future__ import annotations

import argparse
import math

import keras
import tensorflow as tf

from seg.models.unet import unet_layers

TRAINING = 3  # forward, and two products of the same size backward: the gradient of the inputs and of the kernel
GRADIENT_BYTES = 4  # of a weight: gradients are float32 whatever the layers compute in


def forward_flops(model: keras.Model, size: int) -> int:
    """Of the convolutions of one image of size x size; a multiplication and an addition are two."""
    kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    outputs = keras.Model(model.input, [layer.output for layer in layers])
    images = tf.TensorSpec((1, size, size, model.input.shape[-1]))
    shapes = tf.function(outputs).get_concrete_function(images).structured_outputs
    total = 0
    for layer, output in zip(layers, shapes, strict=True):
        pixels = math.prod(output.shape[1:3])
        if isinstance(layer, keras.layers.Conv2DTranspose):  # a product for each pixel of its input
            pixels //= math.prod(layer.strides)
        total += 2 * math.prod(layer.kernel.shape) * pixels
    return total


def exchanged_bytes(weights: int, devices: int) -> float:
    """That each device sends in a ring all-reduce of the gradients (P. Patarasuk, X. Yuan, 2009)."""
    return 2 * (devices - 1) / devices * weights * GRADIENT_BYTES


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-filters", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--bands", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16, help="images on each device")
    parser.add_argument("--seconds", type=float, help="of a step on one device, as measured")
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 8, 256])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[450, 50], help="a second that a device sends")
    args = parser.parse_args()
    layers = unet_layers(bands=args.bands, num_classes=args.classes, depth=args.depth, base_filters=args.base_filters)
    model = keras.Model(*layers)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    flops = TRAINING * forward_flops(model, args.size) * args.batch
    print(f"{weights:,} trained weights, {weights * GRADIENT_BYTES / 1e6:.1f} MB of gradients")
    print(f"{flops / 1e12:.2f} TFLOP a step of {args.batch} images of {args.size} x {args.size}", end="")
    print(f", {flops / 1e12 / args.seconds:.0f} TFLOP/s" if args.seconds else "")
    for devices in args.devices:
        sent = exchanged_bytes(weights, devices)
        print(f"{devices} devices: each sends {sent / 1e6:.1f} MB a step", end="")
        for rate in args.gigabytes:
            seconds = sent / rate / 1e9
            share = f", efficiency {args.seconds / (args.seconds + seconds):.1%}" if args.seconds else ""
            print(f"; at {rate:g} GB/s {seconds * 1e3:.2f} ms{share}", end="")
        print()


if __name__ == "__main__":
    main()
