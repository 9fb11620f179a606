"""Whether a program is the module that it was built from, and where it is not, an error that says what to change."""

from __future__ import annotations

from torch import Tensor, nn

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Program
from grapevine_tasks.authoring import causes
from grapevine_tasks.authoring.comparison import ModuleFailsError, differences
from grapevine_tasks.authoring.places import Origins, place_in_traceback
from grapevine_tasks.authoring.sides import DrawnElsewhereError
from grapevine_tasks.authoring.untouched import put_back


def check_faithful(module: nn.Module, program: Program, example: Tensor, origins: Origins) -> tuple[str, ...]:
    """Run the program beside its module, and raise TaskError if outputs, gradients or buffers differ.

    Returns warnings: of what the module does that might make a difference on other samples, or later.

    Args:
        module: What the program was built from. It is not changed.
        program: Checked.
        example: A batch, float32 or int64 [n, …]; its numbers count if they are not all the same.
        origins: Where the module's layers were made.
    """
    with put_back(module):
        if error := causes.hooks_on_parameters(module, origins):
            raise error
        weights = {n: t.detach().clone() for n, t in (*module.named_parameters(), *module.named_buffers())}
        watched = causes.Watched(module)
        try:
            with watched.running():
                found = differences(module, program, weights, example)
        except DrawnElsewhereError as error:
            raise causes.drawn_elsewhere(module, error.stage) from None
        except ModuleFailsError as error:
            at = place_in_traceback(error.__cause__) if error.__cause__ else ""
            raise TaskError(
                f"{at}the module cannot be trained as it is: {error}; where it needs other samples than numbers around "
                "0, let example() in model.py return a batch of them"
            ) from error
        if found:
            raise causes.refused(module, found, origins)
        return watched.doubts()
