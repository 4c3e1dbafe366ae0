"""How far anchors are followed: ``python -m train.trust --data PATH --out SAMPLES.npz``, then
``python -m train.trust --fit SAMPLES.npz [MORE.npz …] --out hybrid_depth_ros/data/trust.npz``.

The first notes, for pictures that the weights were not trained on, what anchors say of their cells
(``hybrid_depth_ros.anchors.trust.known``) and what is true, with sensors simulated from true depth.
The second fits by how much doubt grows, so that δ1 rises most. Files of samples are drawn from
alike, however long they are.
"""

from zipfile import BadZipFile

import cv2
import numpy as np
import torch
import tqdm

from hybrid_depth_ros.anchors import Anchors, anchored
from hybrid_depth_ros.anchors.trust import EACH, WHOLE, share
from hybrid_depth_ros.arguments import command, number, told, user_path
from hybrid_depth_ros.files import check_result, result
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.weights import load_network
from train.anchors import NOISE, TILTED, points, scan, zones
from train.arguments import add_data_arguments, open_data
from train.datasets.pairs import ranges, read_whole
from train.evaluate import BORDER

DRAWS = 8            # sensors simulated for each picture, half of them with the picture mirrored
CELLS = 432          # of each picture, which stand for all
HIDDEN = 16
STEPS, PICTURES, RATE = 8000, 8, 4e-3  # of the fit; pictures in a step, of each file
LOSS = 190.0         # how much more a picture counts that loses
CLOSE = 1.0          # and |log of true / corrected depth|: beyond δ1, it is to be near
CAUTION = 0.4        # added to the log of doubt in the end: other pictures are more unlike
RIGHT, SOFT = np.log(1.25), 0.04       # δ1's bound, and how gradually it is passed: log depth


def lower(truth, rng):
    """Columns, rows and depths all over the picture's lower part, as of a floor."""
    height, width = truth.shape
    v, u = (places.ravel() for places in np.mgrid[int(0.65 * height):height:13, 6:width:13])
    return u, v, truth[v, u]


def sensor(truth, rng):
    """Anchors of any kind, with noise, outliers, and sometimes in wrong places or of a scale."""
    kind = rng.random()
    if kind < 0.55:
        u, v, depth = scan(truth, rng, rng.choice([0.5, 0.65, rng.uniform(0.3, 0.85)]))
    elif kind < 0.7:
        u, v, depth = zones(truth, rng)
    elif kind < 0.92:
        count = int(np.exp(rng.uniform(0, np.log(200))))
        u, v, depth = (values[:count] for values in points(truth, rng))
    else:
        u, v, depth = lower(truth, rng)
    known = depth > 0
    depth = depth * (1 + NOISE * rng.standard_normal(depth.size))
    gross = np.exp(rng.uniform(np.log(0.4), np.log(10), depth.size))
    depth = np.where(rng.random(depth.size) < rng.choice([0.05, 0.05, 0.3]), gross, depth)
    return Anchors(u[known], v[known], depth[known])


def hidden(truth, rng):
    """True depth with a thing in it: nearer, its foot below, from 0.2 to 0.8 of the width."""
    height, width = truth.shape
    wide = rng.uniform(0.2, 0.8) * width
    left, top = rng.uniform(0, width - wide), rng.uniform(0.2, 0.7) * height
    nearer, inside = truth.copy(), np.s_[int(top):, int(left):int(left + wide)]
    nearer[inside] *= np.float32(rng.uniform(0.3, 0.8))
    return nearer


def samples(predictor, dataset, every=1):
    """What anchors say of pictures' cells. Returns float16 ``each`` N×CELLS×EACH, float32 ``whole``
    N×WHOLE, float16 ``wanted`` N×CELLS: log of true / predicted depth, NaN where not known.
    """
    found = {'each': [], 'whole': [], 'wanted': []}
    for i in tqdm.trange(0, len(dataset), every, unit='image'):
        rgb, truth, focal = read_whole(dataset, i)
        rng = np.random.default_rng(i)
        for mirrored in (False, True):
            if mirrored:
                rgb, truth = (np.ascontiguousarray(picture[:, ::-1]) for picture in (rgb, truth))
            depth = cv2.resize(predictor(rgb, fx=focal * rgb.shape[1]), truth.shape[::-1])
            inside = np.zeros(truth.shape, bool)
            inside[BORDER:-BORDER, BORDER:-BORDER] = True
            for _ in range(DRAWS // 2):
                seen, true, kind = depth, truth, rng.random()
                if kind < 0.1:  # weights that take all for far nearer, or farther
                    seen = depth * np.float32(np.exp(rng.choice([-1, 1]) * rng.uniform(0.4, 1)))
                elif kind < 0.25:  # nothing but the scale is wrong, and all anchors say so
                    seen = truth * np.float32(np.exp(rng.uniform(-1, 1)))
                elif kind < 0.29:  # the network doesn't see a large thing that stands before it
                    true = hidden(truth, rng)
                anchors = sensor(true, rng)
                if rng.random() < 0.2:  # a pose that is off
                    aside = rng.choice([-1, 1]) * TILTED * focal * truth.shape[1]
                    anchors = Anchors(anchors.u + aside, anchors.v, anchors.depth)
                _note(found, seen, anchors, np.where(inside, true, 0), rng)
    return {'each': np.float16(found['each']), 'whole': np.float32(found['whole']),
            'wanted': np.float16(found['wanted'])}


def _note(found, depth, anchors, truth, rng):
    def follow(each, whole):
        rows, columns = each.shape[1:]
        height, width = truth.shape
        cell = rng.choice(rows * columns, CELLS, replace=rows * columns < CELLS)
        v = ((cell // columns + 0.5) * height / rows).astype(int)
        u = ((cell % columns + 0.5) * width / columns).astype(int)
        with np.errstate(divide='ignore', invalid='ignore'):
            wanted = np.where(truth[v, u] > 0, np.log(truth[v, u] / depth[v, u]), np.nan)
        if np.isfinite(wanted).any():
            found['each'].append(each.reshape(EACH, -1)[:, cell].T)
            found['whole'].append(whole)
            found['wanted'].append(wanted)
        return share(each, whole)
    anchored(depth, anchors, follow=follow)


def fit(files, steps, seed=0):
    """The numbers of ``hybrid_depth_ros/data/trust.npz``, a dict, from what ``samples`` returns."""
    torch.manual_seed(seed)
    files = [[torch.from_numpy(file[name]).float() for name in ('each', 'whole', 'wanted')]
             for file in files]
    means, sds = zip(*[(torch.cat([file[k].flatten(0, -2) for file in files]).mean(0),
                        torch.cat([file[k].flatten(0, -2) for file in files]).std(0) + 1e-6)
                       for k in (0, 1)])
    of_each, of_whole = torch.nn.Linear(EACH, HIDDEN), torch.nn.Linear(WHOLE, HIDDEN, bias=False)
    out = torch.nn.Linear(HIDDEN, 1)
    weights = [*of_each.parameters(), *of_whole.parameters(), *out.parameters()]
    optimiser = torch.optim.Adam(weights, RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in (bar := tqdm.trange(steps)):
        loss = 0.0
        for each, whole, wanted in files:
            chosen = torch.randint(len(each), (PICTURES * DRAWS,))
            each, whole, wanted = each[chosen], whole[chosen], wanted[chosen]
            hidden = (of_each((each - means[0]) / sds[0])
                      + of_whole((whole - means[1]) / sds[1])[:, None])
            doubt = (out(torch.relu(hidden))[..., 0] + each[..., 3]).clamp(max=20).exp()
            square = each[..., 0] ** 2
            gain, off = _gain(each[..., 0] * square / (square + doubt + 1e-12), wanted)
            loss = loss + (LOSS * torch.relu(-gain) - gain + CLOSE * off).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            bar.set_postfix(loss=f'{float(loss.detach()) / len(files):.4f}')
    # the numbers are taken as they are, so that what made them alike is part of the layers
    with torch.no_grad():
        each, whole = of_each.weight / sds[0], of_whole.weight / sds[1]
        bias = of_each.bias - each @ means[0] - whole @ means[1]
        return {name: np.ascontiguousarray(values.numpy()) for name, values in (
            ('each', each), ('whole', whole.T), ('bias', bias), ('out', out.weight[0]),
            ('out_bias', out.bias + CAUTION))}


def _gain(correction, wanted):
    """By how much a softer δ1 rises, and what the correction is off: of each sample."""
    judged = torch.isfinite(wanted)
    wanted = wanted.nan_to_num()
    off = (wanted - correction).abs()
    rise = torch.sigmoid((RIGHT - off) / SOFT) - torch.sigmoid((RIGHT - wanted.abs()) / SOFT)
    return [(values * judged).sum(-1) / judged.sum(-1) for values in (rise, off)]


def _read(path):
    try:
        with np.load(path) as stored:
            file = {name: stored[name] for name in ('each', 'whole', 'wanted')}
    except (ValueError, KeyError, BadZipFile) as error:
        raise ValueError(f'{path} holds no samples; write them with --data first') from error
    if file['each'].shape[1:] != (CELLS, EACH) or file['whole'].shape[1:] != (WHOLE,):
        raise ValueError(f'{path} holds samples of another version; write them anew')
    return file


def main(argv=None):
    parser = command(__doc__)
    parser.add_argument('--data', help='RGB-D data in any form that training takes')
    parser.add_argument('--weights', default='lite-nyu', help='registered name or file')
    add_data_arguments(parser, 'test')
    parser.add_argument('--ranges', type=ranges, metavar='[[A,B],…]',
                        help='keep only frames numbered A to B')
    parser.add_argument('--every', type=number(least=1, kind=int), default=1,
                        help='take one picture of so many')
    parser.add_argument('--fit', nargs='+', metavar='SAMPLES', help='files of samples')
    parser.add_argument('--out', type=user_path, required=True, help='file to write')
    args = parser.parse_args(argv)
    if bool(args.data) == bool(args.fit):
        parser.error('say --data PATH, or --fit SAMPLES')
    with told('train.trust', stopped='nothing is written'):
        check_result(args.out)
        if args.fit:
            found = fit([_read(path) for path in args.fit], STEPS)
        else:
            dataset = open_data(args, args.data)
            if args.ranges:
                dataset = dataset.numbered(args.ranges)
            found = samples(DepthPredictor(load_network(args.weights)), dataset, args.every)
            print(f'{len(found["whole"])} samples of {len(dataset)} pictures')
        with result(args.out) as file, open(file, 'wb') as stream:
            np.savez(stream, **found)


if __name__ == '__main__':
    main()
