"""What people see of a training: a line for each epoch, TensorBoard, images, the best weights."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

import numpy as np
import tqdm
from torch.utils.tensorboard import SummaryWriter

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.weights import save_network
from train.checkpoint import TrainingState
from train.datasets.pairs import RgbdDataset
from train.distributed import DistributedContext
from train.evaluate import draw_pair, height_table
from train.protocols import WholeImageEvaluation
from train.split import Split


class TrainingReport:
    """Leaves ``log.txt``, ``tensorboard/``, ``samples/`` and ``best.safetensors`` in `out`.

    Of several processes only the main one writes; the others say what they could not read. To be
    closed.
    """

    def __init__(self, out: Path, state: TrainingState, split: Split,
                 context: DistributedContext) -> None:
        self._out, self._state, self._samples = out, state, split.samples
        self._is_main = context.is_main
        self._batch = batch = state.settings['batch']
        self._bar = tqdm.tqdm(total=state.steps * batch, initial=state.step * batch,
                              unit='image', disable=not context.is_main)
        if not context.is_main:
            return
        self._log = (out / 'log.txt').open('a')
        size = self._log.tell()
        # what was logged after the checkpoint comes again
        state.log_size = size if state.log_size is None else min(state.log_size, size)
        self._log.truncate(state.log_size)
        self._board = SummaryWriter(str(out / 'tensorboard'), purge_step=state.step + 1)
        self.say(f'{split.training_images} training images, {len(split.validation or ())} for '
                 f'validation, {state.steps} steps of {batch} on {context.world_size} × '
                 f'{context.device.type}')
        self.left_out(state.skipped)
        if state.step >= state.steps:
            self.say(f'{out} is trained to its end: {state.steps} steps; more of them by --set '
                     'epochs=…')

    def close(self) -> None:
        """Close the files."""
        if self._is_main:
            for file in (self._board, self._log):
                with contextlib.suppress(OSError):  # no room: said before
                    file.close()
        self._bar.close()

    def say(self, line: str, file: TextIO | None = None) -> None:
        """A line above the bar."""
        self._bar.write(line, file=file)

    def warn(self, line: str) -> None:
        """A line above the bar on stderr, of the main process alone."""
        if self._is_main:
            self.say(f'train.nyu: {line}', sys.stderr)

    def left_out(self, sentences: Iterable[str]) -> None:
        """Name pairs that could not be read."""
        for sentence in sentences:
            self.say(f'left out: {sentence}', sys.stderr)

    @contextlib.contextmanager
    def outlive_full_disk(self) -> Iterator[None]:
        """A full disk costs a file and a sentence, not the training."""
        try:
            yield
        except OSError as error:
            self.say(f'train.nyu: {reason(error)}; training goes on; make room before it ends',
                     sys.stderr)

    def step(self) -> None:
        """Move the bar by one step."""
        loss, delta1 = np.mean(self._state.recent, axis=0)
        self._bar.set_postfix(loss=f'{loss:.3f}', delta1=f'{delta1:.3f}', refresh=False)
        self._bar.update(self._batch)

    def epoch(self, rate: float, metrics: Mapping[str, float] | None, better: bool,
              predictor: DepthPredictor) -> None:
        """Report the end of an epoch.

        Args:
            rate: Learning rate of its last step.
            metrics: Of the validation, if there was one.
            better: Whether the weights are the best so far.
            predictor: Of the averaged weights, for the sample images.
        """
        state = self._state
        epoch, (loss, delta1) = state.step // state.epoch_steps, np.mean(state.recent, axis=0)
        line = (f'epoch {epoch} lr {rate:.1e} loss {loss:.4f} delta1 {delta1:.3f} '
                f'{state.seconds:.0f}s')
        values = {'loss': loss, 'delta1': delta1, 'lr': rate}
        if metrics:
            line += f'  validation {format_metrics(metrics)}'
            values.update({f'validation/{key}': metrics[key] for key in ('rmse', 'rel', 'delta1')})
        if state.skipped:
            line += f'  {len(state.skipped)} pairs left out'
        self._note(line)
        with self.outlive_full_disk():
            if better:
                save_network(state.ema.module, self._out / 'best.safetensors')
                state.best = metrics['rel'] if metrics else state.best
        with self.outlive_full_disk():
            if self._samples is not None:
                save_samples(predictor, self._samples,
                             self._out / 'samples' / f'{epoch:04d}.png')
        with self.outlive_full_disk():
            self._draw(values)

    def validated(self, name: str, evaluation: WholeImageEvaluation) -> None:
        """Report the evaluation of one more set."""
        text = (f'  {name}, whole: {format_metrics(evaluation.metrics)}\n'
                f'{height_table(evaluation)}')
        self._note(text.replace('\n', '\n    '))
        with self.outlive_full_disk():
            self._draw({f'{name}/delta1': evaluation.metrics['delta1'],
                        f'{name}/delta1 scaled': evaluation.aligned['delta1'],
                        **{f'{name}/delta1 from {band.lowest} m': band.metrics['delta1']
                           for band in evaluation.heights}})

    def _note(self, text: str) -> None:
        self.say(text)
        with self.outlive_full_disk():
            print(text, file=self._log, flush=True)
            self._state.log_size = self._log.tell()

    def _draw(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(key, value, self._state.step)
        self._board.flush()


def save_samples(predictor: DepthPredictor, dataset: RgbdDataset, out: Path) -> None:
    """Colour | depth | true depth of a few pairs, as the network sees them now."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [draw_pair(predictor, dataset, i) for i in range(len(dataset))]
    width = min(row.shape[1] for row in rows)
    save_image(out, np.vstack([row[::2, :width:2] for row in rows]))
