"""What a task says of training: names out of closed sets, constants in range, a loss that fits data and model."""

from __future__ import annotations

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import FeatureSpec, Optimiser, Schedule, TaskManifest, TrainingPlan
from grapevine_tasks.checks.contract import shown
from grapevine_tasks.checks.fields import in_range, one_of
from grapevine_tasks.closed_sets import LOSSES, METRICS, OPTIMISERS, SCHEDULES, read_constants
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.pipelines import model_specs
from grapevine_tasks.sizes import Size, TensorType, fixed

_NEEDED_CLASSES = {"accuracy": 2, "top-5-accuracy": 6}


def check_training(training: TrainingPlan) -> None:
    """Raise TaskError, naming the key, its value and what to write, when nobody can train like this."""
    one_of("training.loss", training.loss, LOSSES)
    one_of("training.metric", training.metric, METRICS)
    read_constants("training.loss_constants", LOSSES[training.loss].constants, training.loss_constants)
    _check_optimiser(training.optimiser)
    _check_schedule(training.schedule)
    in_range("training.max_gradient_norm", training.max_gradient_norm, 0, 1e9)
    in_range("training.batch_size", training.batch_size, 1, 65536)
    in_range("training.patience", training.patience, 0, 2**40)
    in_range("training.steps_per_round", training.steps_per_round, 1, 1_000_000)
    in_range("training.round_interval_s", training.round_interval_s, 0.01, 7 * 86400)


def _check_optimiser(optimiser: Optimiser) -> None:
    one_of("training.optimiser.name", optimiser.name, OPTIMISERS)
    in_range("training.optimiser.learning_rate", optimiser.learning_rate, 1e-9, 100)
    in_range("training.optimiser.momentum", optimiser.momentum, 0, 0.9999)
    in_range("training.optimiser.weight_decay", optimiser.weight_decay, 0, 10)
    constants = read_constants("training.optimiser", OPTIMISERS[optimiser.name].constants, optimiser.constants)
    if optimiser.momentum and optimiser.name != "sgd":
        raise FieldTaskError(
            "training.optimiser.momentum",
            f"training.optimiser.momentum belongs to sgd; {optimiser.name} has none: remove it",
        )
    if constants.get("nesterov") and not optimiser.momentum:
        raise FieldTaskError(
            "training.optimiser.nesterov",
            "training.optimiser.nesterov is 1 without a momentum: write one, such as 0.9, or remove it",
        )


def _check_schedule(schedule: Schedule) -> None:
    one_of("training.schedule.name", schedule.name, SCHEDULES)
    constants = read_constants("training.schedule", SCHEDULES[schedule.name].constants, schedule.constants)
    if schedule.name == "warm-up-cosine" and constants["steps"] <= constants["warm_up"]:
        raise FieldTaskError(
            "training.schedule.steps",
            f"training.schedule.steps is {constants['steps']:g}, and warm_up {constants['warm_up']:g} of them: "
            "write more steps",
        )


def check_fit(manifest: TaskManifest, output: TensorType) -> None:
    """The model takes what the data gives, and gives what the loss takes; the metric goes with both."""
    data, training, inputs = manifest.data, manifest.training, manifest.program.inputs
    features, target = model_specs(data)
    if len(inputs) != 1 or (inputs[0].dtype, inputs[0].shape) != (features.dtype, features.shape):
        taken = "; ".join(f"{i.dtype}{list(i.shape)}" for i in inputs)
        made = "what data.pipeline makes of data.features is" if data.pipeline else "data.features are"
        raise TaskError(f"the model takes {taken} but {made} {shown(features)}: make them the same")
    is_class = bool(data.num_classes) and target.dtype == "int64"
    num_classes = data.num_classes if is_class else 0
    takes = LOSSES[training.loss].takes
    if takes == "reconstruction":
        _check_reconstruction(output, target)
    elif output.shape[1:] != (expected := _expected(training.loss, takes, num_classes, target)):
        raise TaskError(
            f"the model gives {output} but the loss {training.loss} with this target takes "
            f"[batch, {', '.join(map(str, expected))}]: change the model's last layer or data.target"
        )
    if training.loss not in METRICS[training.metric].losses:
        suited = [name for name, metric in METRICS.items() if training.loss in metric.losses]
        raise TaskError(
            f"the metric {training.metric} goes with the loss {' or '.join(METRICS[training.metric].losses)}, "
            f"not {training.loss}: use the metric {' or '.join(suited)}"
        )
    if num_classes < _NEEDED_CLASSES.get(training.metric, 0):
        raise TaskError(
            f"the metric {training.metric} needs {_NEEDED_CLASSES[training.metric]} classes or more, "
            f"and data.num_classes is {num_classes}: use the metric accuracy"
        )


def _expected(loss: str, takes: str, num_classes: int, target: FeatureSpec) -> tuple[Size, ...]:
    """The output's shape without the batch. Raises TaskError when the loss does not take such a target."""
    if takes == "classes":
        if num_classes < 2:
            raise TaskError(f"{loss} needs data.num_classes of 2 or more and a class as target, not {num_classes}")
        return fixed(num_classes)
    if takes == "zeros and ones" and num_classes == 2:
        return fixed(1)
    if target.dtype != "float32":
        remedy = "use cross-entropy, or put the step one-hot-target into data.pipeline" if num_classes else "change it"
        raise TaskError(f"the loss {loss} needs a float32 target, not {shown(target)}: {remedy}")
    return fixed(*target.shape)


def _check_reconstruction(output: TensorType, target: FeatureSpec) -> None:
    if target.dtype != "float32" or len(target.shape) != 1:
        raise TaskError(
            f"the loss elbo needs a float32 target [d], not {shown(target)}: put flatten before reconstruct"
        )
    width = output.shape[1].number if len(output.shape) == 2 else None
    num_latent = (width or 0) - target.shape[0]
    if num_latent < 2 or num_latent % 2:
        raise TaskError(
            f"the model gives {output} but the loss elbo takes [batch, {target.shape[0]} + 2·l]: "
            "the reconstruction, then the mean and the log-variance of l latent numbers"
        )
