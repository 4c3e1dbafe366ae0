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
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from hybrid_depth_ros.arguments import argument_parser, exit_on_error, user_path
from hybrid_depth_ros.errors import printable
from hybrid_depth_ros.predictor import DepthPredictor
from train.arguments import (
    add_anchor_arguments,
    add_data_arguments,
    add_training_arguments,
    check_shares,
    open_anchored,
    open_data,
)
from train.checkpoint import TrainingState, all_finite, find_checkpoint, save_checkpoint
from train.configuration import TrainingConfig, load_config
from train.data import (
    Batch,
    TrainingSamples,
    fit_workers,
    loaded_batches,
    make_loader,
    make_samples,
    require_batch,
    to_input,
)
from train.datasets.pairs import RgbdDataset
from train.distributed import DistributedContext, all_reduce, init_distributed
from train.interrupts import TrainingStopped, catch_stop_signals, lock_folder
from train.loss import laplace, sparse_loss, total_loss
from train.networks import make_network
from train.optimisation import backward_and_step, learning_rate, make_autocast
from train.protocols import evaluate_paper, evaluate_whole
from train.report import TrainingReport
from train.split import split_datasets


class CheckpointInterval(NamedTuple):
    """How often ``last.pt`` is written: every `number` of ``'s'`` (seconds) or ``'steps'``."""

    number: float
    unit: str


class NotFinite(FloatingPointError):
    """The loss or the weights are no numbers after `step` steps. what: which of them, and how."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(what)
        self.what, self.step = what, step


def train(config: TrainingConfig, data: Sequence[RgbdDataset], out: Path,
          shares: Sequence[float] | None = None, resume: bool = False, init: str | None = None,
          from_scratch: bool = False,
          checkpoint_every: CheckpointInterval = CheckpointInterval(600, 's'),  # noqa: B008
          strict: bool = False, validate: Mapping[str, RgbdDataset] | None = None) -> None:
    """Run the configuration on datasets; validation is cut from the first.

    Leaves ``last.pt`` (for `resume`), ``best.safetensors``, ``log.txt``, ``tensorboard/`` and
    ``samples/`` in `out`.

    Args:
        config: What is trained, and how.
        data: One or more datasets.
        out: A folder, made where it is missing.
        shares: How often each dataset is drawn, relative; by default by their sizes.
        resume: Go on from OUT/last.pt.
        init: A registered name or a file of weights to start from.
        from_scratch: Start without ImageNet's weights.
        checkpoint_every: How often ``last.pt`` is written; each epoch ends with it too.
        strict: A pair that cannot be read ends the training. Otherwise another takes its place,
            and it is named and counted.
        validate: More sets to validate on, by name: whole images, by camera height where it is
            known.

    Raises:
        ValueError, OSError: Before the first step, where configuration, data or weights will not
            do.
        FloatingPointError: The loss is not finite. Its batch is saved.
        TrainingStopped: After SIGINT or SIGTERM. The state is saved.
    """
    if printable(str(out)) != str(out):
        raise OSError(f'{out} is not UTF-8, which TensorBoard wants: choose another --out')
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(init_distributed())
        lock = [stack.enter_context(lock_folder(out))] if context.is_main else []
        last = find_checkpoint(out, resume, context.is_main)
        torch.manual_seed(config.seed)
        split = split_datasets(config, data, context.is_main, strict)
        network = make_network(config, None if resume else init, from_scratch or resume)
        state = TrainingState(config, network, context, split)
        if resume and (changed := state.load(last, context.device)) and context.is_main:
            print(f'goes on with other settings: {", ".join(changed)}')
        samples = make_samples(config, split.training, state.steps * config.batch, shares)
        module = context.wrap(state.network, config.compile)
        report = stack.enter_context(contextlib.closing(
            TrainingReport(out, state, split, context)))
        batch_size = context.local_batch_size(config.batch)
        workers = fit_workers(config.workers, batch_size, report.warn, context.local_world_size)
        loader = make_loader(samples,
                             context.sample_indices(state.step, state.steps, config.batch),
                             batch_size, workers, context.device.type == 'cuda', lock)
        signals = stack.enter_context(catch_stop_signals())
        saved_at = time.monotonic()
        for loaded in stack.enter_context(loaded_batches(loader)):
            for sentence in state.newly_skipped(loaded.skipped):
                if strict:
                    raise OSError(sentence)
                report.left_out([sentence])
            batch = Batch(*(part.to(context.device, non_blocking=True)
                            for part in require_batch(loaded)))
            try:
                stop = take_step(config, context, state, module, batch, signals)
                report.step()
                if state.epoch_ended:
                    end_epoch(config, context, state, split.validation, validate or {}, report)
                due = (state.step % checkpoint_every.number == 0
                       if checkpoint_every.unit == 'steps' else
                       time.monotonic() - saved_at >= checkpoint_every.number)
                if context.is_main and (state.epoch_ended or due or stop):
                    write_checkpoint(state, last, report,
                                     final=stop or state.step == state.steps)
                    saved_at = time.monotonic()
            except NotFinite as error:
                save_bad_batch(error.step, context, samples, batch, last, report)
                raise FloatingPointError(advice(error, config, context, last)) from None
            if stop and state.step < state.steps:
                raise TrainingStopped(
                    signals[0] if signals else signal.SIGTERM, f'stopped after step {state.step} '
                    f'of {state.steps}; the same command with --resume goes on from there')
        if context.is_main and state.skipped:
            report.say(f'{len(state.skipped)} pairs left out', sys.stderr)


def take_step(config: TrainingConfig, context: DistributedContext, state: TrainingState,
              module: nn.Module, batch: Batch, signals: list[int]) -> bool:
    """One batch through the network, and one step down the gradient of its loss.

    Args:
        config: Loss, rate and precision.
        context: The processes that share the batch.
        state: It is changed.
        module: Runs ``state.network`` forward.
        batch: On the device.
        signals: Stop signals that this process received.

    Returns:
        Whether any process was asked to stop.

    Raises:
        NotFinite: The loss is no number.
    """
    # dropout after --resume is as it would have been
    torch.manual_seed(config.seed * 1_000_003 + state.step)
    rate = learning_rate(config, state.step / state.steps)
    for group in state.optimiser.param_groups:
        group['lr'] = rate * group['share']
    inputs = to_input(batch.rgb, batch.gain).to(state.dtype)
    target = batch.depth.to(state.dtype)
    valid = target > 0
    with make_autocast(config, context.device):
        predicted = module(inputs)
    predicted, *log_sigma = predicted.to(state.dtype).split(1, dim=1)
    loss = (sparse_loss if state.sparse else total_loss)(config, predicted, target, valid)
    for channel in log_sigma:
        loss = loss + laplace(predicted, channel, target, valid)
    with torch.no_grad():
        near = torch.maximum(predicted / target, target / predicted)[valid] < 1.25
        # one wait for the device in a step; and all processes stop at the same one
        total, hits, pixels, stop = all_reduce(torch.stack([
            loss.detach(), near.sum(dtype=state.dtype), valid.sum(dtype=state.dtype),
            loss.new_tensor(len(signals))])).tolist()
    if not math.isfinite(total):
        raise NotFinite(f'the loss is {total},', state.step)
    # DistributedDataParallel divides by the number of processes
    backward_and_step(config, state.network, state.optimiser, state.scaler,
                      loss * context.world_size)
    state.step += 1
    state.ema.update(state.network, state.step)
    state.recent.append((total, hits / max(pixels, 1)))
    return bool(stop)


def end_epoch(config: TrainingConfig, context: DistributedContext, state: TrainingState,
              validation: RgbdDataset | None, more_sets: Mapping[str, RgbdDataset],
              report: TrainingReport) -> None:
    """Validate the averaged weights where it is due, and report."""
    state.skipped.update(dict.fromkeys(context.gather(list(state.skipped))))
    if not context.is_main:
        return
    epoch = state.step // state.epoch_steps
    due = epoch % config.validate_every == 0 or state.step == state.steps
    metrics = None
    if validation and due:
        with make_autocast(config, context.device):
            metrics = evaluate_paper(state.ema.module, validation,
                                     context.local_batch_size(config.batch)).metrics
    better = metrics['rel'] <= state.best if metrics else due and not validation
    # a copy, as the predictor fuses its network
    predictor = DepthPredictor(copy.deepcopy(state.ema.module).float().cpu(), device='cpu')
    report.epoch(learning_rate(config, (state.step - 1) / state.steps), metrics, better, predictor)
    if due:
        for name, dataset in more_sets.items():
            report.validated(name, evaluate_whole(predictor, dataset))


def write_checkpoint(state: TrainingState, last: Path, report: TrainingReport, final: bool
                     ) -> None:
    """Save the state. A full disk costs a checkpoint, not the training, but for the final one.

    Raises:
        NotFinite: The weights are no numbers.
        OSError: There is no room for the final checkpoint.
    """
    if not all_finite(state.network):
        raise NotFinite('the weights are', state.step - 1)
    if not final:
        with report.outlive_full_disk():
            state.save(last)
        return
    try:
        state.save(last)
    except OSError as error:
        raise OSError(f'{error}; make room, and --resume goes on from there') from error


def save_bad_batch(step: int, context: DistributedContext, samples: TrainingSamples, batch: Batch,
                   last: Path, report: TrainingReport) -> None:
    """Save the batch of the step where numbers ceased to be finite, and the names of its pairs."""
    first = (step * context.world_size + context.rank) * len(batch.rgb)
    with report.outlive_full_disk():
        save_checkpoint(bad_batch_path(context, last), {
            'step': step, **{name: part.cpu() for name, part in batch._asdict().items()},
            'pairs': [samples.name(n) for n in range(first, first + len(batch.rgb))]})


def bad_batch_path(context: DistributedContext, last: Path) -> Path:
    """Where this process saves a bad batch, beside ``last.pt``."""
    return last.with_name(f'bad_batch{context.rank if context.world_size > 1 else ""}.pt')


def advice(error: NotFinite, config: TrainingConfig, context: DistributedContext, last: Path
           ) -> str:
    """What people read where numbers ceased to be finite."""
    return (f'{error.what} no number at step {error.step}: its batch is in '
            f'{bad_batch_path(context, last)}'
            + (f', {last} is the last good checkpoint' if last.exists() else '')
            + '; lower lr' + ('' if config.precision in ('fp32', 'fp64')
                              else ', or take precision: fp32'))


def checkpoint_interval(text: str) -> CheckpointInterval:
    """``500`` → 500 steps, ``600s`` → 600 seconds; ArgumentTypeError for anything else."""
    match = re.fullmatch(r'(\d+)(s?)', text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f'{text!r} is no number of steps (500) or seconds (600s)')
    return CheckpointInterval(int(match[1]), match[2] or 'steps')


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argument_parser(__doc__, prog='train.nyu')
    add_data_arguments(parser, 'train', ('train', 'all'))
    add_anchor_arguments(parser)
    add_training_arguments(parser)
    parser.add_argument('--validate', nargs='+', default=[], metavar='PATH',
                        help='more data to validate on, whole images, by camera height')
    parser.add_argument('--out', type=user_path, default=Path('runs/nyu'))
    parser.add_argument('--resume', action='store_true', help='go on from OUT/last.pt')
    parser.add_argument('--checkpoint-every', type=checkpoint_interval, default='600s',
                        metavar='N[s]', help='write OUT/last.pt every N steps, or N seconds '
                        '(600s), and at the end of each epoch')
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
            data = [open_anchored(args, path) for path in args.data]
            validate = {path: open_data(args, path) for path in args.validate}
            train(config, data, args.out, args.shares, args.resume, args.init, args.from_scratch,
                  args.checkpoint_every, args.strict, validate)
    except FloatingPointError as error:
        sys.exit(f'train.nyu: {error}')
    except torch.cuda.OutOfMemoryError:
        sys.exit('train.nyu: the GPU has no memory for this batch; make it smaller (--set batch=…)')
    except TrainingStopped as stopped:
        print(f'train.nyu: {stopped}', file=sys.stderr)
        sys.exit(128 + stopped.signal_number)


if __name__ == '__main__':
    main()
