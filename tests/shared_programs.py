"""Exports that trace a network once for all its formats and precisions, as tracing takes most of their time."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dualformer.model.network import DualFormer


@pytest.fixture(scope="session", autouse=True)
def shared_programs() -> Iterator[None]:
    """A program is known by the weights and settings that it was made of. What changes it is given a copy."""
    import torch

    from dualformer.export import export_weights as module

    programs: dict[Any, torch.export.ExportedProgram] = {}
    translated: dict[Any, Any] = {}
    make_program, to_onnx, to_openvino = module.make_program, module.to_onnx, module.to_openvino
    write_torch = module.write_torch

    def made_once(model: DualFormer, *arguments: Any, **settings: Any) -> torch.export.ExportedProgram:
        state = hashlib.sha256()
        for name, tensor in model.state_dict().items():
            state.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        key = (model.config, state.digest(), arguments, *sorted(settings.items()))
        if key not in programs:
            programs[key] = make_program(model, *arguments, **settings)
        return programs[key]

    def translated_once(
        translate: Callable[..., Any], copied: Callable[[Any], Any], program: Any, **settings: Any
    ) -> Any:
        key = (translate, id(program), *sorted(settings.items()))
        if key not in translated:
            translated[key] = translate(program, **settings)
        return copied(translated[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_program", made_once)
        patch.setattr(module, "write_torch", lambda program, path: write_torch(copy.copy(program), path))
        patch.setattr(module, "to_onnx", lambda program: translated_once(to_onnx, copy.deepcopy, program))
        patch.setattr(
            module,
            "to_openvino",
            lambda program, batch: translated_once(to_openvino, lambda made: made.clone(), program, batch=batch),
        )
        yield
