"""The network in torch itself."""

from collections import OrderedDict
from functools import partial

from hybrid_depth_ros.runtimes.kept import kept


class TorchRuntime:
    """The network in torch itself. network: a module; device: as choose_device gives it.

    Channels lie last, as the pixels do: a fifth to a third faster on a CPU, and what tensor cores
    read. On a GPU, pictures and depth go through pinned memory, and the forward pass of a shape
    is recorded once as a CUDA graph and replayed.
    """

    name = 'torch'

    def __init__(self, network, device='cpu', precision='fp32'):
        import torch

        from hybrid_depth_ros.network import IMAGENET_MEAN, IMAGENET_STD
        self.device, self.precision = device, precision
        self._torch, self._device = torch, torch.device(device)
        self._type = {'fp32': torch.float32, 'bf16': torch.bfloat16,
                      'fp16': torch.float16}[precision]
        if getattr(network, 'encoder_name', 'resnet50') != 'resnet50':
            # One wide convolution beats eight narrow ones; with resnet50's 1024 channels its
            # 44 % more arithmetic costs more than that saves.
            network.fuse()
        self.network = network.eval().to(self._device, memory_format=torch.channels_last)
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(3, 1, 1) * 255
            for values in (IMAGENET_MEAN, IMAGENET_STD))
        self._graphs = OrderedDict()

    def _forward(self, pixels):
        """uint8 N×H×W×3 tensor → float32 N×H/2×W/2 tensor, on the device."""
        torch = self._torch
        batch = (pixels.permute(0, 3, 1, 2) - self._mean) / self._std  # still lies as the pixels do
        with torch.autocast(self._device.type, self._type, enabled=self.precision != 'fp32'):
            return self.network(batch)[:, 0].float()

    def __call__(self, pixels):
        with self._torch.inference_mode():
            if self._device.type == 'cpu':
                return self._forward(self._torch.from_numpy(pixels)).numpy()
            return self._on_gpu(pixels)

    def _on_gpu(self, pixels):
        torch = self._torch
        replay, pinned, seen, output = kept(self._graphs, pixels.shape,
                                             partial(self._record, pixels.shape))
        pinned.copy_(torch.from_numpy(pixels))
        seen.copy_(pinned, non_blocking=True)
        replay()
        result = torch.empty(output.shape, pin_memory=True)
        result.copy_(output, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return result.numpy()

    def _record(self, shape):
        """The forward pass of one shape as a CUDA graph, and the memory that it reads and fills."""
        torch = self._torch
        pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        seen = pinned.to(self._device)
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # libraries choose their kernels before it is recorded
                    self._forward(seen)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = self._forward(seen)
        return graph.replay, pinned, seen, output
