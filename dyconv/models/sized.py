"""Networks whose sizes a file says: none is made larger than the weights that the file really has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from dyconv.errors import DyconvError, ModelMissing

# What networks raise that are built with sizes which do not fit together, or filled with other weights.
_MISFIT = (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, LookupError, AttributeError, MemoryError)


@contextmanager
def sized_by(tensors: Iterable[Any], path: Path, hint: str) -> Iterator[None]:
    """In the block, no network gets more parameters than there are numbers in `tensors`.

    A config of a few bytes can ask for a network of any size, which would be there before its weights are compared with it.

    Raises:
        ModelMissing: naming the file, where the network is larger, or its sizes make none.
    """
    left = sum(tensor.numel() for tensor in tensors if isinstance(tensor, Tensor))

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None or isinstance(parameter, nn.UninitializedParameter) else parameter.numel()
        if left < 0:
            raise ValueError("its config asks for more weights than it has")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except DyconvError:
        raise
    except _MISFIT as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelMissing(f"{path} does not hold weights of its own config: {reason[:300]}", hint=hint) from error
    finally:
        handle.remove()
