#!/usr/bin/env python3
"""Draws the shapes data set: small RGB pictures of ten shapes on cluttered backgrounds.

Arrays:   x uint8 [N, 3, size, size] (NCHW, raw 0..255), y int64 [N] in 0..9 (see CLASSES).
Splits:   each split has a seed of its own, and each chunk of 50 pictures draws from
          PCG64(SeedSequence([seed of the split, chunk])): splits share no picture, and the
          first n pictures of a split don't depend on how many are drawn after them.
Sizes:    32 and 64 show the same scenes; only the noise of the pixels differs.
Exact:    the same bytes on every machine and NumPy >= 1.24. Randomness is the raw output of
          PCG64; the arithmetic is float32 +, -, *, /, sqrt, min, max and comparisons, which
          IEEE 754 rounds in one way only. No sums over an axis, no sin, cos, exp or matmul,
          whose last bit depends on the build.
Needs:    Python >= 3.10 and NumPy, nothing else.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

CLASSES = ("circle", "square", "triangle", "star", "cross",
           "ring", "crescent", "hexagon", "heart", "arrow")
SEEDS = {"train": 101, "calibration": 102, "evaluation": 103, "test": 104}
COUNTS = {"calibration": 512, "evaluation": 2000, "test": 2000}
CHUNK = 50

# SHA-256 over dtype, shape and bytes of each array (see array_sha256).
ARRAYS = {
    "calibration.npz": {"x": "73f700c8967973e072b54f05b9ab42e9bb83acd768987625275ec021490539ad",
                        "y": "704d3e214437cae5997c4e9f7e3d2232c9072822af119af1d6450ca7ce197bd3"},
    "evaluation.npz": {"x": "3efea24d3372c407b72d5790f1a67a67000253486794866d4a21b06e0b2d8a96",
                       "y": "10dff286ca1662fb6d3c5c9abe0415748e432c2cf7502218c052763efff30524"},
    "test.npz": {"x": "d17cca5b127f489734bb5439e7029bcd9d004fa19817ad4f13ee9845a64e2e55",
                 "y": "83741b897ff9e06e73385163c9fbca77a0c10d3d41d269b6913e64f071c3bd5a"},
    "calibration64.npz": {"x": "5d5b7d7e1f10ec434bb9a4c160425c8f8a2189b69216e1c5d16bd55a4eb9f43d",
                          "y": "704d3e214437cae5997c4e9f7e3d2232c9072822af119af1d6450ca7ce197bd3"},
    "evaluation64.npz": {"x": "6334c94df9d1c89f66821d66feb6338645cc2de39707b48f47552156b0d676a1",
                         "y": "10dff286ca1662fb6d3c5c9abe0415748e432c2cf7502218c052763efff30524"},
    "test64.npz": {"x": "656beefb343fea8bd1babc94124f9dd32dd28674776630c4cbad720656075cdd",
                   "y": "83741b897ff9e06e73385163c9fbca77a0c10d3d41d269b6913e64f071c3bd5a"},
}


class Stream:
    """Uniform numbers from the raw words of one PCG64; each word is used once."""

    def __init__(self, seed, chunk):
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, chunk]))

    def uniform(self, low, high, *shape):
        """float32 in [low, high), 24 random bits each."""
        words = self._bits.random_raw(shape) >> np.uint64(40)
        unit = words.astype(np.float32) * np.float32(2.0**-24)
        return unit * np.float32(high - low) + np.float32(low)

    def flip(self, chance, *shape):
        """True with the given chance."""
        return self.uniform(0.0, 1.0, *shape) < np.float32(chance)

    def pick(self, count, *shape):
        """int64 in 0..count-1."""
        return (self.uniform(0.0, 1.0, *shape) * np.float32(count)).astype(np.int64)

    def permutation(self, count):
        """A random order of 0..count-1."""
        return np.argsort(self._bits.random_raw(count), kind="stable")

    def noise(self, *shape):
        """float32 near normal, mean 0 and variance 1: the sum of four bytes."""
        count = 1
        for extent in shape:
            count *= extent
        words = self._bits.random_raw((count + 1) // 2).astype("<u8")
        pixels = words.view(np.uint8).reshape(-1, 4)[:count].astype(np.int32)
        total = pixels[:, 0] + pixels[:, 1] + pixels[:, 2] + pixels[:, 3] - 510
        return (total.astype(np.float32) * np.float32(1.0 / 147.8)).reshape(shape)


def direction(stream, quarter_turns, *shape):
    """Unit vectors (cos, sin) by the rational circle, so that no libm is involved."""
    t = stream.uniform(-0.41421356, 0.41421356, *shape)  # tan(angle/2): within 45 degrees
    norm = 1 + t * t
    cos, sin = (1 - t * t) / norm, 2 * t / norm
    if quarter_turns:
        turn = stream.pick(4, *shape)
        cos, sin = (np.choose(turn, (cos, -sin, -cos, sin)),
                    np.choose(turn, (sin, cos, -sin, -cos)))
    return cos, sin


def smooth(grid, size):
    """Bilinear enlargement of [B, g, g] to [B, size, size]."""
    cells = grid.shape[1] - 1
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size)
    low = np.minimum(at.astype(np.int64), cells - 1)
    part = at - low.astype(np.float32)
    rows = grid[:, low, :] * (1 - part)[None, :, None] + grid[:, low + 1, :] * part[None, :, None]
    return rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part


# Signed distances, positive inside, of shapes of radius about 1 around the origin.

def length(x, y):
    return np.sqrt(x * x + y * y)


def box(x, y, half_x, half_y):
    return np.minimum(half_x - np.abs(x), half_y - np.abs(y))


def circle(x, y):
    return np.float32(0.86) - length(x, y)


def square(x, y):
    return box(x, y, np.float32(0.76), np.float32(0.76))


def triangle(x, y):
    side = np.abs(x) * np.float32(0.8660254) - y * np.float32(0.5)
    return np.minimum(np.float32(0.5) - side, np.float32(0.5) - y)


def star(x, y):
    # Five half planes; a pentagram is where at least four of them hold.
    least = second = None
    for nx, ny in ((0.0, 1.0), (0.95105652, 0.30901699), (0.58778525, -0.80901699),
                   (-0.58778525, -0.80901699), (-0.95105652, 0.30901699)):
        d = np.float32(0.36) - (x * np.float32(nx) + y * np.float32(ny))
        if least is None:
            least, second = d, np.full_like(d, 9)
        else:
            second = np.minimum(second, np.maximum(least, d))
            least = np.minimum(least, d)
    return second


def cross(x, y):
    arm, width = np.float32(0.95), np.float32(0.3)
    return np.maximum(box(x, y, arm, width), box(x, y, width, arm))


def ring(x, y):
    return np.float32(0.2) - np.abs(length(x, y) - np.float32(0.7))


def crescent(x, y):
    outer = np.float32(0.92) - length(x, y)
    inner = length(x - np.float32(0.42), y) - np.float32(0.72)
    return np.minimum(outer, inner)


def hexagon(x, y):
    ax, ay = np.abs(x), np.abs(y)
    return np.float32(0.8) - np.maximum(ay, ax * np.float32(0.8660254) + ay * np.float32(0.5))


def heart(x, y):
    low = y - np.float32(0.08)
    tip = np.float32(0.66) - (np.abs(x) + np.abs(low)) * np.float32(0.70710678)
    lobe = np.float32(0.56) - length(np.abs(x) - np.float32(0.44), y + np.float32(0.36))
    return np.maximum(tip, lobe)


def arrow(x, y):
    head = np.minimum(x + np.float32(0.05),
                      (np.float32(0.95) - x - np.abs(y)) * np.float32(0.70710678))
    shaft = box(x + np.float32(0.45), y, np.float32(0.5), np.float32(0.26))
    return np.maximum(head, shaft)


SHAPES = (circle, square, triangle, star, cross, ring, crescent, hexagon, heart, arrow)


def pattern(stream, size, count, px, py):
    """[B, size, size] in 0..1: a gradient, stripes, a chequerboard, or smooth patches."""
    cos, sin = direction(stream, True, count, 1, 1)
    along, across = px * cos + py * sin, py * cos - px * sin
    frequency = stream.uniform(1.0, 3.5, count, 1, 1)
    phase = stream.uniform(0.0, 1.0, count, 1, 1)
    wave_a, wave_b = along * frequency + phase, across * frequency + phase
    wave_a = np.abs(wave_a - np.floor(wave_a) - np.float32(0.5)) * 2
    wave_b = np.abs(wave_b - np.floor(wave_b) - np.float32(0.5)) * 2
    kinds = (along * np.float32(0.4) + np.float32(0.5),
             np.clip((wave_a - np.float32(0.5)) * 3 + np.float32(0.5), 0, 1),
             np.clip((wave_a - np.float32(0.5)) * (wave_b - np.float32(0.5)) * 12
                     + np.float32(0.5), 0, 1),
             smooth(stream.uniform(0.0, 1.0, count, 6, 6), size))
    return np.clip(np.choose(stream.pick(4, count, 1, 1), kinds), 0, 1)


def paint(picture, colour, alpha):
    """Lays colour [B, 3, 1, 1] or [B, 3, S, S] over picture [B, 3, S, S] by alpha [B, S, S]."""
    return picture + (colour - picture) * alpha[:, None]


def capsule(stream, count, px, py, half_pixels):
    """Alpha [B, S, S] of one short thick line a picture."""
    cos, sin = direction(stream, True, count, 1, 1)
    x = px - stream.uniform(-1.0, 1.0, count, 1, 1)
    y = py - stream.uniform(-1.0, 1.0, count, 1, 1)
    reach = stream.uniform(0.0, 0.6, count, 1, 1)
    width = stream.uniform(0.05, 0.14, count, 1, 1)
    along = np.maximum(np.abs(x * cos + y * sin) - reach, 0)
    return np.clip((width - length(along, y * cos - x * sin)) * half_pixels
                   + np.float32(0.5), 0, 1)


def draw_chunk(seed, chunk, size):
    """Pictures uint8 [CHUNK, 3, size, size] and labels int64 [CHUNK] of one chunk."""
    n, stream = CHUNK, Stream(seed, chunk)
    labels = (np.arange(n) % len(CLASSES))[stream.permutation(n)]
    half_pixels = np.float32(size / 2)
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / half_pixels - 1
    px, py = axis[None, None, :], axis[None, :, None]

    # Background: two colours mixed by a pattern.
    back_a = stream.uniform(0.0, 0.75, n, 3, 1, 1)
    spread = stream.uniform(-0.25, 0.25, n, 3, 1, 1)
    back_b = np.clip(back_a + spread, 0, 1)
    picture = back_a + (back_b - back_a) * pattern(stream, size, n, px, py)[:, None]

    # Clutter beneath the shape.
    for _ in range(3):
        alpha = capsule(stream, n, px, py, half_pixels)
        alpha = alpha * stream.flip(0.4, n, 1, 1).astype(np.float32)
        picture = paint(picture, stream.uniform(0.0, 1.0, n, 3, 1, 1), alpha)

    # The shape's own coordinates: moved, warped, turned, stretched and sheared.
    amount = stream.uniform(0.0, 0.12, n, 1, 1)
    x = px - stream.uniform(-0.22, 0.22, n, 1, 1)
    y = py - stream.uniform(-0.22, 0.22, n, 1, 1)
    x = x + smooth(stream.uniform(-1.0, 1.0, n, 5, 5), size) * amount
    y = y + smooth(stream.uniform(-1.0, 1.0, n, 5, 5), size) * amount
    cos, sin = direction(stream, False, n, 1, 1)
    x, y = x * cos + y * sin, y * cos - x * sin
    scale = stream.uniform(0.45, 0.78, n, 1, 1)
    stretch = stream.uniform(0.82, 1.22, n, 1, 1)
    x = (x + y * stream.uniform(-0.22, 0.22, n, 1, 1)) / (scale * stretch)
    y = y * stretch / scale

    distance = np.empty((n, size, size), np.float32)
    for label, shape in enumerate(SHAPES):
        of = labels == label
        distance[of] = shape(x[of], y[of])
    blur = stream.uniform(1.0, 2.0, n, 1, 1)
    alpha = np.clip(distance * scale * half_pixels / blur + np.float32(0.5), 0, 1)
    alpha = alpha * stream.uniform(0.85, 1.0, n, 1, 1)

    # Its colour stands off the background's mean by a contrast: mostly brighter, at times darker,
    # and now and then the other way round in one channel.
    middle = (back_a + back_b) * np.float32(0.5)
    contrast = stream.uniform(0.16, 0.49, n, 1, 1, 1) * stream.uniform(0.5, 1.0, n, 3, 1, 1)
    contrast = np.where(stream.flip(0.2, n, 1, 1, 1), -contrast, contrast)
    contrast = np.where(stream.flip(0.15, n, 3, 1, 1), -contrast, contrast)
    outside = (middle + contrast < 0) | (middle + contrast > 1)
    fore_a = middle + np.where(outside, -contrast, contrast)
    fore_b = fore_a + stream.uniform(-0.16, 0.16, n, 3, 1, 1)
    colour = fore_a + (fore_b - fore_a) * pattern(stream, size, n, px, py)[:, None]
    picture = paint(picture, colour, alpha)

    # Occlusion on top, then light, noise and rounding.
    for chance in (0.5, 0.3):
        alpha = capsule(stream, n, px, py, half_pixels)
        alpha = alpha * stream.flip(chance, n, 1, 1).astype(np.float32)
        picture = paint(picture, stream.uniform(0.0, 1.0, n, 3, 1, 1), alpha)
    light = smooth(stream.uniform(0.65, 1.2, n, 3, 3), size)
    sigma = stream.uniform(0.01, 0.08, n, 1, 1, 1)
    picture = picture * light[:, None] + stream.noise(n, 3, size, size) * sigma
    pixels = np.floor(np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5))
    return pixels.astype(np.uint8), labels.astype(np.int64)


def draw(split, count, size):
    """The first count pictures of a split."""
    x = np.empty((count, 3, size, size), np.uint8)
    y = np.empty(count, np.int64)
    for start in range(0, count, CHUNK):
        pixels, labels = draw_chunk(SEEDS[split], start // CHUNK, size)
        x[start:start + CHUNK] = pixels[:count - start]
        y[start:start + CHUNK] = labels[:count - start]
    return x, y


def array_sha256(array):
    """Hash of an array's type, shape and bytes; a file's would depend on the zip's writer."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    digest.update(little.tobytes())
    return digest.hexdigest()


def file_name(split, size):
    return f"{split}.npz" if size == 32 else f"{split}{size}.npz"


def is_intact(path, name):
    """Whether the file exists and holds exactly the recorded arrays."""
    try:
        with np.load(path) as arrays:
            return all(array_sha256(arrays[key]) == ARRAYS[name][key] for key in ("x", "y"))
    except Exception:  # absent, cut off, or something else altogether: draw it again
        return False


def write_npz(path, **arrays):
    """Writes beside the target and renames, so that a reader never sees half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--size", type=int, choices=(32, 64), action="append",
                        help="side in pixels (default: both)")
    parser.add_argument("--force", action="store_true", help="draw even what is intact")
    parser.add_argument("--print-hashes", action="store_true",
                        help="print the hashes instead of checking them")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for size in options.size or (32, 64):
        for split, count in COUNTS.items():
            name = file_name(split, size)
            path = options.out / name
            if not options.force and not options.print_hashes and is_intact(path, name):
                print(f"{name}: already there, hashes match")
                continue
            x, y = draw(split, count, size)
            hashes = {"x": array_sha256(x), "y": array_sha256(y)}
            if options.print_hashes:
                print(f'    "{name}": {{"x": "{hashes["x"]}",\n'
                      f'    {" " * (len(name) + 4)} "y": "{hashes["y"]}"}},')
            elif hashes != ARRAYS[name]:
                print(f"{name}: expected {ARRAYS[name]}, drew {hashes}; not written",
                      file=sys.stderr)
                wrong += 1
                continue
            write_npz(path, x=x, y=y)
            if not options.print_hashes:
                print(f"{name}: drawn, {count} pictures of seed {SEEDS[split]}, hashes match")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
