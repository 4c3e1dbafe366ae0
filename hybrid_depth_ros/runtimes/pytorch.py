"""A network in torch itself."""

from hybrid_depth_ros.runtimes.graph_cache import GraphCache


class TorchRuntime(GraphCache):
    """A network in torch itself. network: a module from pixels to depth, as a Model gives it;
    device: as choose_device gives it.

    Channels lie last, as the pixels do: a fifth to a third faster on a CPU, and what tensor cores
    read. On a GPU, pictures and depth go through pinned memory, and the forward pass of a shape
    is recorded once as a CUDA graph and replayed; a module whose ``replayable`` is False asks the
    CPU on its way, and runs anew each time.
    """

    name = 'torch'

    def __init__(self, network, device='cpu', precision='fp32'):
        super().__init__()
        import torch
        self.device, self.precision = device, precision
        self._torch, self._device = torch, torch.device(device)
        self._type = {'fp32': torch.float32, 'bf16': torch.bfloat16,
                      'fp16': torch.float16}[precision]
        self.network = network.eval().to(self._device, memory_format=torch.channels_last)

    def _forward(self, pixels):
        """Tensor of pixels → float32 tensor N×h×w, on the device."""
        with self._torch.autocast(self._device.type, self._type,
                                  enabled=self.precision != 'fp32'):
            return self.network(pixels)

    def __call__(self, pixels):
        with self._torch.inference_mode():
            if self._device.type == 'cpu':
                return self._forward(self._torch.from_numpy(pixels)).numpy()
            return self._on_gpu(pixels)

    def _on_gpu(self, pixels):
        torch = self._torch
        frames = torch.from_numpy(pixels)
        replay, pinned, seen, output = self.prepare((pixels.shape, frames.dtype))
        pinned.copy_(frames)
        seen.copy_(pinned, non_blocking=True)
        replay()
        result = torch.empty(output.shape, pin_memory=True)
        result.copy_(output, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return result.numpy()

    def _make(self, batch):
        """The forward pass of one shape as a CUDA graph, and the memory that it reads and fills.

        batch: its shape and dtype.
        """
        torch, (shape, kind) = self._torch, batch
        pinned = torch.zeros(shape, dtype=kind, pin_memory=True)
        seen = pinned.to(self._device)
        if not getattr(self.network, 'replayable', True):
            output = self._forward(seen)

            def run():
                output.copy_(self._forward(seen))
            return run, pinned, seen, output
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
