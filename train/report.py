"""What people see of a training: a line for each epoch, TensorBoard, pictures, the best weights."""

import contextlib
import sys

import numpy as np
import tqdm
from torch.utils.tensorboard import SummaryWriter

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.metrics import format_metrics
from hybrid_depth_ros.weights import save_network
from train.evaluate import draw_pair, height_table


class TrainingReport:
    """Leaves ``log.txt``, ``tensorboard/``, ``samples/`` and ``best.safetensors`` in `out`.

    Of several processes only the lead writes; the others say what they could not read. To be
    closed.
    """

    def __init__(self, out, state, cut, team):
        self._out, self._state, self._shown, self._lead = out, state, cut.shown, team.lead
        self._batch = batch = state.settings['batch']
        self._bar = tqdm.tqdm(total=state.steps * batch, initial=state.step * batch,
                              unit='image', disable=not team.lead)
        if not team.lead:
            return
        self._log = (out / 'log.txt').open('a')
        size = self._log.tell()
        # what was logged after the checkpoint comes again
        state.log_size = size if state.log_size is None else min(state.log_size, size)
        self._log.truncate(state.log_size)
        self._board = SummaryWriter(str(out / 'tensorboard'), purge_step=state.step + 1)
        self.say(f'{cut.images} training images, {len(cut.validation or ())} for validation, '
                 f'{state.steps} steps of {batch} on {team.world} × {team.device.type}')
        self.left_out(state.lost)
        if state.step >= state.steps:
            self.say(f'{out} is trained to its end: {state.steps} steps; more of them by --set '
                     'epochs=…')

    def close(self):
        """Give the files back."""
        if self._lead:
            for file in (self._board, self._log):
                with contextlib.suppress(OSError):  # no room: said before
                    file.close()
        self._bar.close()

    def say(self, line, file=None):
        """A line above the bar."""
        self._bar.write(line, file=file)

    def left_out(self, sentences):
        """Name pairs that could not be read."""
        for sentence in sentences:
            self.say(f'left out: {sentence}', sys.stderr)

    @contextlib.contextmanager
    def outlived(self):
        """A disk without room costs a file and a sentence, not the training."""
        try:
            yield
        except OSError as error:
            self.say(f'train.nyu: {reason(error)}; training goes on; make room before it ends',
                     sys.stderr)

    def step(self):
        """Another step is done."""
        loss, delta1 = np.mean(self._state.recent, axis=0)
        self._bar.set_postfix(loss=f'{loss:.3f}', delta1=f'{delta1:.3f}', refresh=False)
        self._bar.update(self._batch)

    def epoch(self, rate, metrics, better, predictor):
        """An epoch is at its end.

        metrics: of the validation, or None; better: the best so far; predictor: of the averaged
        weights, for the pictures.
        """
        state = self._state
        epoch, (loss, delta1) = state.step // state.epoch_steps, np.mean(state.recent, axis=0)
        line = (f'epoch {epoch} lr {rate:.1e} loss {loss:.4f} delta1 {delta1:.3f} '
                f'{state.seconds:.0f}s')
        values = {'loss': loss, 'delta1': delta1, 'lr': rate}
        if metrics:
            line += f'  validation {format_metrics(metrics)}'
            values.update({f'validation/{key}': metrics[key] for key in ('rmse', 'rel', 'delta1')})
        if state.lost:
            line += f'  {len(state.lost)} pairs left out'
        self._note(line)
        with self.outlived():
            if better:
                save_network(state.average, self._out / 'best.safetensors')
                state.best = metrics['rel'] if metrics else state.best
        with self.outlived():
            save_samples(predictor, self._shown, self._out / 'samples' / f'{epoch:04d}.png')
        with self.outlived():
            self._draw(values)

    def judged(self, name, report):
        """What :func:`~train.evaluate.evaluate_whole` says of one more set."""
        text = f'  {name}, whole: {format_metrics(report)}\n{height_table(report)}'
        self._note(text.replace('\n', '\n    '))
        with self.outlived():
            self._draw({f'{name}/delta1': report['delta1'],
                        f'{name}/delta1 scaled': report['aligned']['delta1'],
                        **{f'{name}/delta1 from {band["from"]} m': band['delta1']
                           for band in report['heights']}})

    def _note(self, text):
        self.say(text)
        with self.outlived():
            print(text, file=self._log, flush=True)
            self._state.log_size = self._log.tell()

    def _draw(self, values):
        for key, value in values.items():
            self._board.add_scalar(key, value, self._state.step)
        self._board.flush()


def save_samples(predictor, dataset, out):
    """Colour | depth | true depth of a few pairs, as the network sees them now."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [draw_pair(predictor, dataset, i) for i in range(len(dataset))]
    width = min(row.shape[1] for row in rows)
    save_image(out, np.vstack([row[::2, :width:2] for row in rows]))
