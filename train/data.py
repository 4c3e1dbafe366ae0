"""From an RGB-D pair to a training sample: the paper's preprocessing and augmentation.

Pictures stay uint8, rows × columns × channels, on their way from the loading process to the
network's device, a quarter of the bytes; :func:`to_input` makes the network's input there.
"""

import os
import signal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.network import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from train.datasets import read_whole

# The paper's preprocessing (section 4): 640×480 → 352×264 → crop 320×256; target 160×128.
RESIZED_WIDTH, RESIZED_HEIGHT = 352, 264
CROP_WIDTH, CROP_HEIGHT = 320, 256


def augment(rgb, depth, rng, *, focal=NYU_FX_PER_WIDTH, scale=(1.0, 1.5), rotation=5.0,
            tilt=0.0, colour=(0.8, 1.2), flip=0.5, border=0, brightness=0.0, contrast=0.0,
            gamma=0.0, saturation=0.0, grey=0.0, noise=0.0, blur=0.0, erase=0.0, nearest=False):
    """One training sample by the paper's recipe (section 4), and what lite adds to it.

    rgb uint8 H×W×3, depth float32 H×W metres → rgb uint8 256×320×3; gain float32 3, what its
    channels are still to be multiplied by (:func:`to_input`), so that a colour factor alone
    rounds nothing; depth float32 128×160 metres, 0 = not valid.

    The paper's part: resize to 352×264, zoom by s ∈ `scale` with depths divided by s (a
    camera of s times the focal length sees an object at depth z as the first camera sees it
    at z/s), rotate by ±`rotation` degrees, crop 320×256 at random, multiply each channel by
    a factor ∈ `colour`, mirror with probability `flip`. Depth is sampled by nearest
    neighbour, so that no depth is invented between two surfaces; with `nearest` colour is too,
    as the paper does, otherwise it is antialiased.

    tilt: turn the camera up or down and to a side by as many degrees at most, about its centre:
    the picture is warped as such a camera would see it (focal: its focal length per image
    width), and depth becomes that along the new optical axis.
    border: pixels of `rgb` at each side that are not scene content (NYU's white frame):
    painted over with their neighbours and not valid in depth. The remaining arguments are
    photometric: strengths of brightness, contrast, gamma and saturation jitter (0.2: factor
    0.8…1.2), and probabilities of grey-scale, sensor noise, blur and an erased rectangle, whose
    depth is asked for all the same.
    """
    height, width = depth.shape
    if border:
        inner = slice(border, -border)
        rgb = cv2.copyMakeBorder(rgb[inner, inner], border, border, border, border,
                                 cv2.BORDER_REPLICATE)
        depth = cv2.copyMakeBorder(depth[inner, inner], border, border, border, border,
                                   cv2.BORDER_CONSTANT, value=0)
    s = rng.uniform(*scale)
    zoom = s * RESIZED_WIDTH / width  # source pixels → network pixels
    angle = np.deg2rad(rng.uniform(-rotation, rotation))
    mirror = -1.0 if rng.random() < flip else 1.0
    # Random crop: where the window's centre may lie when it is to stay inside the image.
    slack_x = max(0.0, (width * zoom - CROP_WIDTH) / 2)
    slack_y = max(0.0, (height * zoom - CROP_HEIGHT) / 2)
    centre = np.array([rng.uniform(-slack_x, slack_x), rng.uniform(-slack_y, slack_y)])

    # Shrink with antialiasing first, then one warp for rotation, crop and mirror.
    shrunk = zoom / s if nearest else zoom
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrunk < 1 else cv2.INTER_LINEAR)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([mirror, 1.0])
    if tilt:
        up, side = (cv2.Rodrigues(axis * radians)[0] for axis, radians in
                    zip(np.eye(3), np.deg2rad(rng.uniform(-tilt, tilt, size=2))))
        turned = up @ side

    def window(shape_hw, pixels_per_network_pixel, out_w, out_h, image, interpolation, mode):
        """Sample out_h × out_w around the window's centre; exact for both resolutions."""
        h, w = shape_hw
        linear = turn * pixels_per_network_pixel * (CROP_WIDTH / out_w)
        middle = (np.array([w, h]) - 1) / 2 + centre * pixels_per_network_pixel
        offset = middle - linear @ ((np.array([out_w, out_h]) - 1) / 2)
        affine = np.vstack((np.column_stack((linear, offset)), (0, 0, 1)))
        if not tilt:
            return cv2.warpAffine(image, affine[:2], (out_w, out_h), borderMode=mode,
                                  flags=interpolation | cv2.WARP_INVERSE_MAP), np.float32(1)
        camera = np.array([[focal * w, 0, (w - 1) / 2], [0, focal * w, (h - 1) / 2], [0, 0, 1]])
        # a pixel's ray in the turned camera, of depth 1, has this depth in the first camera
        matrix = camera @ turned @ np.linalg.inv(camera) @ affine
        x, y = np.arange(out_w), np.arange(out_h)[:, None]
        ray_depth = (matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]).astype(np.float32)
        return cv2.warpPerspective(image, matrix, (out_w, out_h), borderMode=mode,
                                   flags=interpolation | cv2.WARP_INVERSE_MAP), ray_depth

    rgb, _ = window(small.shape[:2], shrunk / zoom, CROP_WIDTH, CROP_HEIGHT, small,
                 cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    depth, ray_depth = window(depth.shape, 1 / zoom, CROP_WIDTH // 2, CROP_HEIGHT // 2, depth,
                              cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    depth = depth / (ray_depth * np.float32(s))

    gain = rng.uniform(*colour, size=3).astype(np.float32)
    if not any((gamma, brightness, contrast, saturation, grey, blur, noise, erase)):
        return rgb, gain, depth
    # what changes each channel by itself is a table of 256 levels
    levels = np.arange(256, dtype=np.float32)[:, None] / 255 * gain
    if gamma:
        levels = np.clip(levels, 0, 1) ** np.float32(np.exp(rng.uniform(-gamma, gamma)))
    if brightness or contrast:
        counts = np.column_stack([cv2.calcHist([rgb], [i], None, [256], [0, 256])
                                  for i in range(3)])
        mean = np.float32((counts * levels).sum(dtype=np.float64) / rgb.size)
        levels = (levels - mean) * np.float32(1 + rng.uniform(-contrast, contrast)) + mean
        levels *= np.float32(1 + rng.uniform(-brightness, brightness))
    rgb = cv2.LUT(rgb, 255 * levels[None])
    if saturation or grey:
        keep = 0.0 if rng.random() < grey else 1 + rng.uniform(-saturation, saturation)
        rgb = cv2.transform(rgb, keep * np.eye(3) + (1 - keep) * np.array([0.299, 0.587, 0.114]))
    if rng.random() < blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < noise:
        rgb += rng.standard_normal(rgb.shape, np.float32) * np.float32(
            255 * rng.uniform(0.005, 0.04))
    if rng.random() < erase:
        high, wide = (int(side * rng.uniform(0.1, 0.4)) for side in rgb.shape[:2])
        top, left = (int(rng.uniform(0, side - size))
                     for side, size in zip(rgb.shape[:2], (high, wide)))
        rgb[top:top + high, left:left + wide] = 255 * rng.random(3, np.float32)
    return to_uint8(rgb), np.ones(3, np.float32), depth


def to_uint8(rgb):
    """Float H×W×3 in 0…255 → uint8, rounded, what lies outside clipped."""
    return cv2.addWeighted(rgb, 1, rgb, 0, 0, dtype=cv2.CV_8U)


def paste_window(rgb, depth, other_rgb, other_depth, rng):
    """Cut a window out of another sample and paste it, depth and all (CutMix, Yun et al. 2019).

    Samples as :func:`augment` makes them; the window keeps its place, a fifth to a half of each
    side. Returns rgb and depth.
    """
    rows, columns = depth.shape
    high, wide = (int(side * rng.uniform(0.2, 0.5)) for side in (rows, columns))
    top, left = int(rng.uniform(0, rows - high)), int(rng.uniform(0, columns - wide))
    depth[top:top + high, left:left + wide] = other_depth[top:top + high, left:left + wide]
    pixels = np.s_[2 * top:2 * (top + high), 2 * left:2 * (left + wide)]
    rgb[pixels] = other_rgb[pixels]
    return rgb, depth


def centre_crop(rgb):
    """The paper's test-time input: resize to 352×264, centre crop to 320×256; uint8."""
    small = cv2.resize(rgb, (RESIZED_WIDTH, RESIZED_HEIGHT), interpolation=cv2.INTER_AREA)
    y, x = (RESIZED_HEIGHT - CROP_HEIGHT) // 2, (RESIZED_WIDTH - CROP_WIDTH) // 2
    return small[y:y + CROP_HEIGHT, x:x + CROP_WIDTH]


def normalise(rgb):
    """RGB in 0…1, … × 3 → float32 3 × …, the network's input."""
    rgb = (rgb - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return np.ascontiguousarray(np.moveaxis(rgb, -1, 0), np.float32)


def to_input(rgb, gain):
    """Samples' uint8 N×H×W×3 and gain N×3 → the network's input, on the device they are on.

    float32 N×3×H×W, channels last in memory as the uint8 picture was.
    """
    mean, std = (torch.tensor(values, device=rgb.device).view(3, 1, 1)
                 for values in (IMAGENET_MEAN, IMAGENET_STD))
    picture = rgb.permute(0, 3, 1, 2).float().div_(255).mul_(gain[:, :, None, None])
    return picture.clamp_(max=1).sub_(mean).div_(std)


class Samples(torch.utils.data.Dataset):
    """The whole training run as one list: sample n is decided by (seed, n) alone.

    datasets: one or more RGB-D sets; shares: how often each is drawn, relative. A sample is rgb,
    gain and depth (1×128×160) as :func:`augment` makes them, and a sentence for each pair that
    could not be read: the next pair of the order takes its place. Where not one can be read,
    rgb, gain and depth are None.
    """

    def __init__(self, datasets, shares, count, seed, augmentation, mix=0.0):
        self.datasets, self.count, self.seed = datasets, count, seed
        self.shares = np.cumsum(shares) / np.sum(shares)
        self.augmentation, self.mix = augmentation, mix
        self.orders, self.broken = {}, {}

    def __len__(self):
        return self.count

    def order(self, which, lap):
        """Every image once a lap, in an order of the lap's own."""
        if (which, lap) not in self.orders:
            rng = np.random.default_rng([self.seed, 1, which, lap])
            self.orders[which, lap] = rng.permutation(len(self.datasets[which]))
        return self.orders[which, lap]

    def place(self, n):
        """Which set sample n is from, which lap through it and which place in the lap's order."""
        # Spread each set evenly: a golden-ratio sequence picks the set.
        which = int(np.searchsorted(self.shares, (n * 0.6180339887498949) % 1.0, side='right'))
        share = self.shares[which] - (self.shares[which - 1] if which else 0)
        return which, *divmod(int(n * share), len(self.datasets[which]))

    def name(self, n):
        """What people call the pair that sample n starts from."""
        which, lap, position = self.place(n)
        return self.datasets[which].name(self.order(which, lap)[position])

    def __getitem__(self, n):
        which, lap, position = self.place(n)
        rng, lost = np.random.default_rng([self.seed, 2, n]), []
        sample = self.sample(which, np.roll(self.order(which, lap), -position), rng, lost)
        if sample and self.mix and rng.random() < self.mix:
            which = int(np.searchsorted(self.shares, rng.random(), side='right'))
            count = len(self.datasets[which])
            indices = (rng.integers(count) + np.arange(count)) % count
            other = self.sample(which, indices, rng, lost)
            if other:
                sample = self.paste(sample, other, rng)
        rgb, gain, depth = sample or (None, None, None)
        return rgb, gain, None if depth is None else depth[None], lost

    def paste(self, sample, other, rng):
        """:func:`paste_window` for two samples, whose gains differ."""
        (rgb, depth), (other_rgb, other_depth) = (
            (rgb if (gain == 1).all() else to_uint8(rgb * gain), depth)
            for rgb, gain, depth in (sample, other))
        rgb, depth = paste_window(rgb, depth, other_rgb, other_depth, rng)
        return rgb, np.ones(3, np.float32), depth

    def sample(self, which, indices, rng, lost):
        """The first of the pairs that can be read, augmented; None: none of them can."""
        dataset = self.datasets[which]
        for i in indices:
            if (which, i) not in self.broken:
                try:
                    rgb, depth, focal = read_whole(dataset, i)
                except OSError as error:
                    self.broken[which, i] = explain(error)
                else:
                    # what NYU's camera would have to stand in front of, to see the same picture
                    depth = depth * np.float32(NYU_FX_PER_WIDTH / focal)
                    return augment(rgb, depth, rng, focal=focal, **self.augmentation)
            lost.append(self.broken[which, i])
        return None


def collate(samples):
    """Samples → uint8 N×H×W×3, gain N×3, depth N×1×h×w, and what could not be read.

    The tensors are None where a sample is.
    """
    lost = [sentence for *_, sentences in samples for sentence in sentences]
    if any(sample[0] is None for sample in samples):
        return None, None, None, lost
    return *default_collate([sample[:3] for sample in samples]), lost


def _start_worker(handles):
    cv2.setNumThreads(0)  # one worker, one core; and threads don't survive a fork
    # Ctrl-C and a service manager's SIGTERM reach all processes: the trainer is the one to act.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for handle in handles:
        os.close(handle)


def make_loader(samples, numbers, batch, workers=0, pin_memory=False, handles=()):
    """Batches of the samples with these numbers, loaded ahead by `workers` processes.

    handles: open files of this process that the workers must not keep open.
    """
    return DataLoader(
        Subset(samples, numbers), batch_size=batch, num_workers=workers, collate_fn=collate,
        prefetch_factor=4 if workers else None, pin_memory=pin_memory,
        # forked: what a dataset holds in memory is not copied
        multiprocessing_context='fork' if workers else None,
        worker_init_fn=lambda _: _start_worker(handles))
