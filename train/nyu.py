"""Train on NYU Depth v2: ``python -m train.nyu --config config/training/lite.yaml --data PATH``.

On several GPUs: ``torchrun --nproc-per-node N -m train.nyu …``; the processes share each batch,
and the result is that of one process with the whole batch. On several machines, the same command
on each: ``torchrun --nnodes M --nproc-per-node N --rdzv-backend c10d --rdzv-endpoint FIRST:29500
-m train.nyu …``; the first machine writes --out, and all read their own copy of the data.

Killed at any moment, it goes on with ``--resume`` to the very weights it would have reached.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import argparse
import contextlib
import copy
import math
import re
import sys
import time
from pathlib import Path

import torch

from hybrid_depth_ros.arguments import argument_parser, exit_on_error, user_path
from hybrid_depth_ros.errors import printable
from hybrid_depth_ros.predictor import DepthPredictor
from train.arguments import (
    add_data_arguments,
    add_training_arguments,
    check_shares,
    open_data,
)
from train.checkpoint import TrainingState, all_finite, find_checkpoint, save_checkpoint
from train.configuration import load_config
from train.data import check_batch, make_loader, make_samples, to_input
from train.distributed import all_reduce, init_distributed
from train.evaluate import evaluate_paper, evaluate_whole
from train.interrupts import TrainingStopped, catch_stop_signals, lock_folder
from train.loss import total_loss
from train.networks import make_network
from train.optimisation import backward_and_step, follow, learning_rate, make_autocast
from train.report import TrainingReport
from train.split import split_datasets


def train(config, data, out, shares=None, resume=False, init=None, from_scratch=False,
          checkpoint_every=(600.0, 's'), strict=False, judged=None):
    """Run the configuration on datasets; validation is cut from the first.

    Leaves ``last.pt`` (for `resume`), ``best.safetensors``, ``log.txt``, ``tensorboard/`` and
    ``samples/`` in `out`. checkpoint_every: a number and ``s`` (seconds) or ``steps``; each epoch
    ends with one too. strict: a pair that cannot be read ends the training; otherwise another
    takes its place, and it is named and counted. judged: more sets to validate on, by name,
    whole pictures, by camera height where it is known.

    Raises ValueError or OSError before the first step where configuration, data or weights will
    not do, FloatingPointError where the loss is no number (its batch is saved), Stopped after
    SIGINT or SIGTERM (the state is saved).
    """
    if printable(str(out)) != str(out):
        raise OSError(f'{out} is not UTF-8, which TensorBoard wants: choose another --out')
    with contextlib.ExitStack() as stack:
        team = stack.enter_context(init_distributed())
        lock = [stack.enter_context(lock_folder(out))] if team.lead else []
        last = find_checkpoint(out, resume, team.lead)
        torch.manual_seed(config['seed'])
        share = team.share(config['batch'])
        cut = split_datasets(config, data, team.lead, strict)
        network = make_network(config, None if resume else init, from_scratch or resume)
        state = TrainingState(config, network, team, cut)
        if resume and (changed := state.load(last, team.device)) and team.lead:
            print(f'goes on with other settings: {", ".join(changed)}')
        samples = make_samples(config, cut.training, state.steps * config['batch'], shares)
        loader = make_loader(samples, team.numbers(state.step, state.steps, config['batch']),
                             share, config['workers'], team.device.type == 'cuda', lock)
        runner = team.runner(state.network, config['compile'])
        report = stack.enter_context(contextlib.closing(TrainingReport(out, state, cut, team)))
        asked = stack.enter_context(catch_stop_signals())
        (every, unit), saved_at = checkpoint_every, time.monotonic()
        for *batch, lost in loader:
            for sentence in state.newly_lost(lost):
                if strict:
                    raise OSError(sentence)
                report.left_out([sentence])
            check_batch(batch[0], lost)
            batch = [part.to(team.device, non_blocking=True) for part in batch]
            try:
                stop = take_step(config, team, state, runner, batch, asked)
                report.step()
                if state.epoch_ended:
                    end_epoch(config, team, state, cut.validation, judged or {}, report)
                due = (state.step % every == 0 if unit == 'steps' else
                       time.monotonic() - saved_at >= every)
                if team.lead and (state.epoch_ended or due or stop):
                    keep(state, last, report, final=stop or state.step == state.steps)
                    saved_at = time.monotonic()
            except FloatingPointError as error:
                raise no_number(*error.args, config, team, samples, batch, last, report) from None
            if stop and state.step < state.steps:
                raise TrainingStopped(
                    asked[0] if asked else 15, f'stopped after step {state.step} of '
                    f'{state.steps}; the same command with --resume goes on from there')
        if team.lead and state.lost:
            report.say(f'{len(state.lost)} pairs left out', sys.stderr)


def take_step(config, team, state, runner, batch, asked):
    """One batch through the network, and one step down the gradient of its loss.

    batch: rgb, gain and depth as :func:`~train.data.collate` gives them. Returns whether any
    process was asked to stop. Raises FloatingPointError where the loss is no number.
    """
    torch.manual_seed(config['seed'] * 1_000_003 + state.step)  # dropout goes on as it would have
    rate = learning_rate(config, state.step / state.steps)
    for group in state.optimiser.param_groups:
        group['lr'] = rate * group['share']
    rgb, gain, depth = batch
    inputs, target = to_input(rgb, gain).to(state.kind), depth.to(state.kind)
    valid = target > 0
    with make_autocast(config, team.device):
        predicted = runner(inputs)
    predicted = predicted[:, :1].to(state.kind)  # without log σ, which train.uncertainty teaches
    loss = total_loss(config, predicted, target, valid)
    with torch.no_grad():
        near = torch.maximum(predicted / target, target / predicted)[valid] < 1.25
        # one wait for the device a step; and all processes stop at the same one
        whole, hits, pixels, stop = all_reduce(torch.stack([
            loss.detach(), near.sum(dtype=state.kind), valid.sum(dtype=state.kind),
            loss.new_tensor(len(asked))])).tolist()
    if not math.isfinite(whole):
        raise FloatingPointError(f'the loss is {whole},', state.step)
    # DistributedDataParallel divides by world
    backward_and_step(config, state.network, state.optimiser, state.scaler, loss * team.world)
    state.step += 1
    follow(state.average, state.network,
           config['ema'] if state.step / state.steps > config['ema_start'] else 0.0)
    state.recent.append((whole, hits / max(pixels, 1)))
    return bool(stop)


def end_epoch(config, team, state, validation, judged, report):
    """Validate where it is due, and report."""
    state.lost.update(dict.fromkeys(team.everyones(list(state.lost))))
    if not team.lead:
        return
    epoch = state.step // state.epoch_steps
    due, metrics = epoch % config['validate_every'] == 0 or state.step == state.steps, None
    if validation and due:
        with make_autocast(config, team.device):
            metrics = evaluate_paper(state.average, validation, team.share(config['batch']))
    better = metrics['rel'] <= state.best if metrics else due and not validation
    # a copy, as the predictor fuses its network
    predictor = DepthPredictor(copy.deepcopy(state.average).float().cpu(), device='cpu')
    report.epoch(learning_rate(config, (state.step - 1) / state.steps), metrics, better, predictor)
    if due:
        for name, dataset in judged.items():
            report.judged(name, evaluate_whole(predictor, dataset))


def keep(state, last, report, final):
    """Save the state. A full disk costs a checkpoint, not the training, but for the final one.

    Raises FloatingPointError where the weights are no numbers.
    """
    if not all_finite(state.network):
        raise FloatingPointError('the weights are', state.step - 1)
    if not final:
        with report.outlived():
            state.save(last)
        return
    try:
        state.save(last)
    except OSError as error:
        raise OSError(f'{error}; make room, and --resume goes on from there') from error


def no_number(what, step, config, team, samples, batch, last, report):
    """Save the batch of the step where it happened; returns the error to raise."""
    path = last.with_name(f'bad_batch{team.rank if team.world > 1 else ""}.pt')
    rgb, gain, depth = (part.cpu() for part in batch)
    first = (step * team.world + team.rank) * len(rgb)
    with report.outlived():
        save_checkpoint(path, {
            'step': step, 'rgb': rgb, 'gain': gain, 'depth': depth,
            'pairs': [samples.name(n) for n in range(first, first + len(rgb))]})
    return FloatingPointError(
        f'{what} no number at step {step}: its batch is in {path}'
        + (f', {last} is the last good checkpoint' if last.exists() else '')
        + '; lower lr' + ('' if config['precision'] in ('fp32', 'fp64')
                          else ', or take precision: fp32'))


def interval(text):
    """``500`` → (500, 'steps'), ``600s`` → (600.0, 's'); ArgumentTypeError for anything else."""
    match = re.fullmatch(r'(\d+)(s?)', text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f'{text!r} is no number of steps (500) or seconds (600s)')
    return int(match[1]), match[2] or 'steps'


def main(argv=None):
    parser = argument_parser(__doc__, prog='train.nyu')
    add_data_arguments(parser, 'train', ('train', 'all'))
    add_training_arguments(parser)
    parser.add_argument('--validate', nargs='+', default=[], metavar='PATH',
                        help='more data to validate on, whole pictures, by camera height')
    parser.add_argument('--out', type=user_path, default=Path('runs/nyu'))
    parser.add_argument('--resume', action='store_true', help='go on from OUT/last.pt')
    parser.add_argument('--checkpoint-every', type=interval, default='600s', metavar='N[s]',
                        help='write OUT/last.pt every N steps, or N seconds (600s), and at the '
                        'end of each epoch')
    parser.add_argument('--strict', action='store_true', help='stop at a pair that cannot be '
                        'read, instead of leaving it out')
    parser.add_argument('--init', metavar='WEIGHTS', help='a registered name or file to start '
                        'from: fine-tuning')
    parser.add_argument('--from-scratch', action='store_true', help='no ImageNet weights')
    args = parser.parse_args(argv)
    check_shares(parser, args)
    try:
        with exit_on_error('train.nyu',
                           'stopped at once; --resume goes on from the last checkpoint'):
            config = load_config(args.config, args.set)
            data = [open_data(args, path) for path in args.data]
            judged = {path: open_data(args, path) for path in args.validate}
            train(config, data, args.out, args.shares, args.resume, args.init, args.from_scratch,
                  args.checkpoint_every, args.strict, judged)
    except FloatingPointError as error:
        sys.exit(f'train.nyu: {error}')
    except torch.cuda.OutOfMemoryError:
        sys.exit('train.nyu: the GPU has no memory for this batch; make it smaller (--set batch=…)')
    except TrainingStopped as stopped:
        print(f'train.nyu: {stopped}', file=sys.stderr)
        sys.exit(128 + stopped.number)


if __name__ == '__main__':
    main()
