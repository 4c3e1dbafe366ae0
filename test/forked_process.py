"""Programs in forks of a process that has imported already what takes seconds."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

# Of a process that has imported ROS, OpenCV and the nodes. Where torch is wanted: HERE, whose tests
# have imported it.
HERE = multiprocessing.get_context('fork')
FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['hybrid_depth_ros.nodes.depth.node', 'hybrid_depth_ros.nodes.camera',
                              'hybrid_depth_ros.nodes.evaluator'])


def _run(program, arguments, log, environment, folder):
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, 'w', closefd=False), os.fdopen(
        2, 'w', buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    run = runpy.run_path if os.path.exists(program) else runpy.run_module
    run(program, run_name='__main__')


class ForkedProcess:
    """``python PROGRAM`` or ``python -m PROGRAM``, as subprocess.Popen has it.

    Args:
        program: A script's path, or a module's name.
        arguments: Texts.
        log: The path of a file for what it prints.
        context: Whose forks: FORKS or HERE.
        variables: Of its environment, besides this process's.
    """

    def __init__(self, program, arguments, log, context=FORKS, **variables):
        self.args = str(program), [str(argument) for argument in arguments]
        Path(log).write_text('')
        self._process = context.Process(target=_run, daemon=context is FORKS, args=(
            *self.args, str(Path(log).absolute()), {**os.environ, **variables}, os.getcwd()))
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.poll()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()
