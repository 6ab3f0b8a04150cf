"""Runs exported programs with PyTorch, ONNX Runtime, OpenVINO and ExecuTorch: one tensor in, one of its outputs out.

They need no card, and so may be of any origin, such as a teacher from elsewhere.
"""

import contextlib
import importlib
import logging
import os
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from dualformer.weights.errors import WeightsError, first_line
from dualformer.weights.exported.exported_files import format_of, openvino_files

Shape = tuple[int | None, ...]
"""None: any length."""

_ONNX_ERRORS = ("Fail", "InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoSuchFile", "NotImplemented")
_ONNX_TYPES = {"tensor(float)": torch.float32, "tensor(uint8)": torch.uint8}
_OPENVINO_TYPES = {"f32": torch.float32, "u8": torch.uint8}
EXECUTORCH_LOGGERS = ("torchao", "torch.utils._pytree")
"""Loggers that tell, when ExecuTorch is imported, of parts that a machine has no use for."""
_EXECUTORCH_TYPES = {0: torch.uint8, 6: torch.float32}
_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "nncf": "NNCF", "executorch": "ExecuTorch"}


class Runtime(ABC):
    """A model that is ready to run. ``shape`` and ``dtype`` are those of its input, ``outputs`` how many it has."""

    def __init__(self, shape: Shape, dtype: torch.dtype, outputs: int = 1) -> None:
        self.shape, self.dtype, self.outputs = shape, dtype, outputs
        self.device = torch.device("cpu")
        """Where inputs should lie, and outputs do."""

    def runs_on(self, device: torch.device) -> bool:
        """Whether `place` takes this device."""
        return device.type == "cpu"

    def place(self, device: torch.device) -> None:
        """Moves it to a device that it runs on."""
        assert self.runs_on(device)
        self.device = device

    @abstractmethod
    def run(self, inputs: Tensor, output: int = 0) -> Tensor:
        """Returns one of the model's outputs for an input of its ``dtype`` and ``shape``; both lie on its device."""


class Program(Runtime):
    """A program that ``torch.export.save`` wrote. It computes with as many threads as PyTorch does."""

    def __init__(self, path: Path) -> None:
        self._program = _load_program(path)
        self._run: Any = self._program.module()
        names = self._program.graph_signature.user_inputs
        inputs = [node for node in self._program.graph.nodes if node.op == "placeholder" and node.name in names]
        if len(inputs) != 1 or not isinstance(inputs[0].meta["val"], Tensor):
            raise WeightsError(f"{path}: it takes {len(names)} inputs, and here it is given clips only: export it so")
        if self._program.graph_signature.buffers_to_mutate or any(map(_is_active_dropout, self._program.graph.nodes)):
            raise WeightsError(f"{path}: it was exported in training mode: call eval() on the model and export it anew")
        value = inputs[0].meta["val"]
        outputs = len(self._program.graph_signature.user_outputs)
        super().__init__(tuple(n if isinstance(n, int) else None for n in value.shape), value.dtype, outputs)

    def runs_on(self, device: torch.device) -> bool:
        return True

    def place(self, device: torch.device) -> None:
        from torch.export.passes import move_to_device_pass

        if device != self.device:
            self._run = move_to_device_pass(self._program, device).module()
        super().place(device)

    @torch.no_grad()
    def run(self, inputs: Tensor, output: int = 0) -> Tensor:
        # Autocast would change the precision that it was exported in.
        with torch.autocast(inputs.device.type, enabled=False):
            outputs = self._run(inputs)
        return outputs if isinstance(outputs, Tensor) else outputs[output]


class Onnx(Runtime):
    """A model for ONNX Runtime. It runs on a GPU where the runtime that is installed can."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._path = path
        self._threads = threads or torch.get_num_threads()
        self._runtime = import_extra("onnxruntime", path)
        self._open(("CPUExecutionProvider",))
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _ONNX_TYPES:
            what = ", ".join(f"{one.name} ({one.type})" for one in inputs)
            raise WeightsError(f"{path}: it takes {what}, and here it is given clips in float32 or uint8: export it so")
        self._input, self._outputs = inputs[0].name, [one.name for one in self._session.get_outputs()]
        shape = tuple(n if isinstance(n, int) else None for n in inputs[0].shape)
        super().__init__(shape, _ONNX_TYPES[inputs[0].type], len(self._outputs))

    def _open(self, providers: Sequence[str]) -> None:
        errors = import_extra("onnxruntime.capi.onnxruntime_pybind11_state", self._path)
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors; it warns of every shape that it cannot infer
        try:
            self._session = self._runtime.InferenceSession(str(self._path), options, providers=list(providers))
        except tuple(getattr(errors, name) for name in _ONNX_ERRORS) as error:
            reason = first_line(error)
            raise WeightsError(f"{self._path}: ONNX Runtime cannot read it ({reason}); get it anew") from error

    def runs_on(self, device: torch.device) -> bool:
        there = self._runtime.get_available_providers()
        return device.type == "cpu" or (device.type == "cuda" and "CUDAExecutionProvider" in there)

    def place(self, device: torch.device) -> None:
        super().place(device)
        if device.type == "cuda":
            self._open(("CUDAExecutionProvider", "CPUExecutionProvider"))

    def run(self, inputs: Tensor, output: int = 0) -> Tensor:
        (found,) = self._session.run([self._outputs[output]], {self._input: inputs.cpu().numpy()})
        return torch.from_numpy(np.asarray(found)).to(self.device)


class OpenVino(Runtime):
    """A model for OpenVINO, on the CPU. ``options``: OpenVINO's, to compile it with."""

    def __init__(self, path: Path, *, options: Mapping[str, str], threads: int | None = None) -> None:
        openvino = import_extra("openvino", path)
        graph, _ = openvino_files(path)
        chosen = {"INFERENCE_NUM_THREADS": threads or torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY", **options}
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(str(graph)), "CPU", chosen)
        except RuntimeError as error:
            raise WeightsError(f"{path}: OpenVINO cannot read it ({_last_line(error)}); export it anew") from error
        inputs = self._compiled.inputs
        kind = inputs[0].get_element_type().get_type_name() if len(inputs) == 1 else ""
        if kind not in _OPENVINO_TYPES:
            raise WeightsError(f"{path}: it has {len(inputs)} inputs, and here it is given clips only: export it so")
        lengths = (None if n.is_dynamic else n.get_length() for n in inputs[0].get_partial_shape())
        super().__init__(tuple(lengths), _OPENVINO_TYPES[kind], len(self._compiled.outputs))

    def run(self, inputs: Tensor, output: int = 0) -> Tensor:
        found = self._compiled(inputs.contiguous().numpy())[output]
        return torch.from_numpy(found.copy())  # the next run overwrites its memory


class ExecuTorch(Runtime):
    """A program for ExecuTorch, on the CPU.

    All programs of a process share its threads. Another number of them would leave those that are open without any: it
    is a ``ValueError``.
    """

    _open: ClassVar[WeakSet["ExecuTorch"]] = WeakSet()

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        with quiet(*EXECUTORCH_LOGGERS):
            runtime = import_extra("executorch.runtime", path)
            library = import_extra("executorch.extension.pybindings.portable_lib", path)
        with _quiet_library():  # it tells of processors that it does not know
            threads, now = threads or torch.get_num_threads(), library._threadpool_get_thread_count()
        if threads != now and self._open:
            raise ValueError(f"{path}: other programs for ExecuTorch run on `threads={now}`, which all of them share")
        try:
            with _quiet_library():
                if threads != now:
                    library._unsafe_reset_threadpool(threads)
                program = runtime.Runtime.get().load_program(path)
                self._method = program.load_method("forward")
        except RuntimeError as error:
            why = first_line(error)
            raise WeightsError(f"{path}: this ExecuTorch cannot load it ({why}); export it anew") from error
        self._program = program  # owns what the method points to
        self._open.add(self)
        facts = self._method.metadata
        given = [facts.input_tensor_meta(place) for place in range(facts.num_inputs())]
        if len(given) != 1 or given[0].dtype() not in _EXECUTORCH_TYPES:
            raise WeightsError(f"{path}: it takes {facts}, and here it is given clips only: export it so")
        super().__init__(tuple(given[0].sizes()), _EXECUTORCH_TYPES[given[0].dtype()], facts.num_outputs())

    def run(self, inputs: Tensor, output: int = 0) -> Tensor:
        return self._method.execute([inputs.contiguous()])[output].clone()  # the next run overwrites its memory


def open_runtime(path: Path, *, options: Mapping[str, str] | None = None, threads: int | None = None) -> Runtime:
    """Opens an exported model in the runtime of its format.

    ``threads``: of a CPU (None: as many as PyTorch uses); PyTorch's own programs share those of the process.
    Errors: ``WeightsError`` for what cannot be read, takes several inputs, or needs an extra that is not installed.
    """
    kind = format_of(path)
    if kind == "torch":
        if threads is not None:
            torch.set_num_threads(threads)
        return Program(path)
    if kind == "openvino":
        return OpenVino(path, options=options or {}, threads=threads)
    return Onnx(path, threads=threads) if kind == "onnx" else ExecuTorch(path, threads=threads)


def import_extra(module: str, path: Path | str) -> Any:
    """Imports a module of the extra ``export``, or ``executorch``.

    Errors: ``WeightsError`` with the command that installs it, or what it lacks.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        extra = "executorch" if package == "executorch" else "export"
        name, command = _NAMES.get(package, module), f"pip install 'dualformer[{extra}]'"
        if error.name == package:
            raise WeightsError(f"{path}: {name} is not installed ({error}): {command}") from error
        raise WeightsError(f"{path}: {name} is incomplete ({error}): {command} adds what it lacks") from error


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silences warnings, and what these loggers say below errors."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """Silences what a library that is not Python's writes to stderr."""
    terminal = os.dup(2)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _load_program(path: Path) -> torch.export.ExportedProgram:
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: not a file that torch.export.save wrote, or a damaged one; get it anew")
    log = logging.getLogger("torch.export")
    was = log.disabled
    log.disabled = True  # it prints a page of traceback before it raises
    try:
        return torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:
        raise WeightsError(
            f"{path}: not a program that this PyTorch ({torch.__version__}) can load ({first_line(error)}); "
            "export it anew"
        ) from error
    finally:
        log.disabled = was


def _is_active_dropout(node: torch.fx.Node) -> bool:
    """Whether it is dropout in training mode."""
    name = str(node.target)
    return name.startswith("aten.native_dropout") or (
        name.startswith("aten.dropout") and len(node.args) > 2 and node.args[2] is True
    )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(". ") if lines else type(error).__name__
