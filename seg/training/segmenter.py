"""The model as Keras trains it: `compile` and `fit` as usual, integer labels kept integer, every loss term logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
from keras import ops

import seg.models.blocks  # noqa: F401 - registers the layers that a saved model is made of
from seg.errors import DataError
from seg.losses.combined import Combined
from seg.losses.online_weights import OnlineClassWeights
from seg.losses.probabilities import refuse_activation
from seg.losses.replicas import apart, num_replicas, sum_over_replicas
from seg.optimization.clipping import check_clip, clipped
from seg.optimization.weight_average import WeightAverage
from seg.runs.model_file import check_model_file, first_line
from seg.training.model_checks import all_finite, check_declared

# From labels, logits, pixel weights and class weights to the total and the terms' values, unscaled.
Evaluate = Callable[[Any, Any, Any, Any], tuple[Any, tuple[Any, ...]]]


@keras.saving.register_keras_serializable(package="seg")
class Segmenter(keras.Model):
    """A functional model from images (N, H, W, bands) to logits (N, H, W, C), trained on labels (N, H, W).

    `compile(loss=Combined(...))` takes a sum of `seg.losses` terms; everything else is `keras.Model`, so every Keras
    callback works. Logs have `loss`, `loss/<term>` for each term (unscaled) and what the compiled metrics return.

    Example:
        >>> from seg.losses.combined import Combined
        >>> from seg.losses.cross_entropy import CrossEntropy
        >>> from seg.models.unet import unet_layers
        >>> model = Segmenter(*unet_layers(bands=3, num_classes=4, depth=2, base_filters=8))
        >>> model.compile("adam", loss=Combined([(1.0, CrossEntropy(ignore_index=255))]))
    """

    average: WeightAverage | None = None  # of a model that is not compiled
    jit_compile: Any  # Keras's property

    def compile(
        self,
        *args: Any,
        online_weights: OnlineClassWeights | None = None,
        clip: tuple[str, float] | None = None,
        l2: float | None = None,
        accumulation: int = 1,
        ema: float | None = None,
        skip_nonfinite: bool = False,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, with `loss` a `seg.losses.Combined`. What follows needs TensorFlow.

        Args:
            args: As for `keras.Model.compile`.
            online_weights: Class weights that follow the training batches, in place of those of the terms that have
                any. Evaluation takes them as they stand. They are saved with the model.
            clip: (by, limit) of `seg.optimization.clipping.clipped`, of the gradient of the whole batch on all
                replicas; Keras's own clips each replica's before they are summed.
            l2: Adds l2 times the sum of the squared kernels (variables of more than one axis) to the loss.
            accumulation: Parts that a batch is computed in, one after another; see `seg.training.parts`.
            ema: Momentum of the average of the weights that is evaluated, saved and predicted with; see
                `seg.optimization.weight_average`. The moving statistics of batch normalisation are averaged alike.
                The model holds the average but while it trains; a saved file has it as the model's weights, and
                beside it the raw ones, which training goes on from.
            skip_nonfinite: Whether an update whose loss or gradient is NaN or infinite is undone; the logs count them
                as `skipped_steps`. Takes the memory of weights and optimizer once more.
            kwargs: As for `keras.Model.compile`.

        Raises:
            TypeError: `loss` is something else, whose terms could not be told apart.
            ValueError: `online_weights` without a term that has class weights; an option is out of range; `clip` with
                an optimizer that scales the loss (mixed_float16).
        """
        super().compile(*args, **kwargs)
        self.clip, self.l2 = check_clip(clip), l2
        if clip is not None and isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError("clip: the optimizer scales the loss, allowed: float32 or mixed_bfloat16")
        for variable in self.trainable_variables:
            if l2 is not None and len(variable.shape) > 1:
                variable.regularizer = keras.regularizers.L2(l2)
        if accumulation < 1:
            raise ValueError(f"accumulation: got {accumulation}, allowed: 1 or more")
        self.accumulation, self._is_raw = accumulation, False
        self.skipped = keras.metrics.Sum(name="skipped_steps") if skip_nonfinite else None
        self.average = None if ema is None else WeightAverage(self._layer_weights(), ema)
        if not isinstance(self.loss, Combined):
            raise TypeError(f"loss: got {type(self.loss).__name__}, allowed: seg.losses.Combined, also of one term")
        if online_weights is not None and not self.loss.has_class_weights:
            raise ValueError("online_weights: no effect, no loss term has class weights; allowed: with such a term")
        self.online_weights = online_weights
        self.term_means = [keras.metrics.Mean(name=f"loss/{term.name}") for _, term in self.loss.terms]
        if self._penalties():
            self.term_means.append(keras.metrics.Mean(name="loss/regularization"))
        self._training_loss = partial(_evaluate, self.loss) if self.jit_compile else _compiled(self.loss)

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile_from_config` takes."""
        config = super().get_compile_config()
        if not config:
            return config
        own = {"online_weights": self.online_weights, "clip": self.clip, "l2": self.l2}
        own |= {"accumulation": self.accumulation, "ema": self.average and self.average.momentum}
        own |= {"skip_nonfinite": self.skipped is not None}
        return config | {key: keras.saving.serialize_keras_object(value) for key, value in own.items() if value}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model; Keras leaves that to classes whose `compile` is their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics that `fit` resets and reports, the loss terms among them."""
        known = super().metrics
        terms = getattr(self, "term_means", [])
        return known + [mean for mean in terms if not any(mean is metric for metric in known)]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The scalar loss of a batch: sum of coefficient x term.

        Args:
            x: Not used.
            y: Labels (N, H, W), any integer dtype.
            y_pred: Logits (N, H, W, C).
            sample_weight: Pixel weights (N, H, W) for the terms that take them, or None.
            training: Whether a gradient will be taken.
        """
        refuse_activation(y_pred, self.loss.name)
        given = (y, y_pred, sample_weight, self._class_weights(y, training))
        if training:
            total, values = self._training_loss(*given)
        else:  # batches may differ in size, for each of which XLA would compile anew; each is one replica's
            with apart():
                total, values = _evaluate(self.loss, *given)
        if penalties := self._penalties():
            penalty = ops.sum(ops.stack(penalties))
            total, values = total + penalty, (*values, penalty)
        for mean, value in zip(self.term_means, values, strict=True):
            mean.update_state(value, sample_weight=ops.shape(y_pred)[0])
        return total / num_replicas()

    def _penalties(self) -> list[Any]:
        """Each regularised weight's part of the loss. Of frozen layers too, which Keras leaves out: the validation loss
        would change with their thaw, but only once its step is traced anew."""
        weights = [weight for weight in self._layer_weights() if weight.regularizer is not None]
        return [ops.cast(weight.regularizer(weight), "float32") for weight in weights]

    def train_step(self, *args: Any) -> dict[str, Any]:
        """One update: the gradient of the loss of the whole batch on all replicas, clipped, to the optimizer."""
        if keras.backend.backend() != "tensorflow":  # where it takes other arguments
            return super().train_step(*args)
        return self._update(*args)[0] if self.skipped is None else self._update_or_skip(*args)

    def _update_or_skip(self, data: Any) -> dict[str, Any]:
        """An update, undone where its loss or gradient is no number; then all is as before but for random streams."""
        import tensorflow as tf

        assert self.skipped is not None
        if num_replicas() > 1:
            raise ValueError("skip_nonfinite: got several replicas, allowed: one")
        touched = [*self.weights, *self.optimizer.variables, *self.metrics_variables]
        before = [tf.identity(variable.value) for variable in touched]
        _, values = self._update(data)
        finite = tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(value)) for value in values]))
        for variable, old in zip(touched, before, strict=True):
            variable.assign(tf.where(finite, variable.value, old))
        self.skipped.update_state(tf.where(finite, 0.0, 1.0))
        return self.get_metrics_result()

    def _update(self, data: Any) -> tuple[dict[str, Any], list[Any]]:
        """The logs, and what must be numbers: the loss and the gradients."""
        import tensorflow as tf

        images, labels, pixel_weights = keras.utils.unpack_x_y_sample_weight(data)
        if self.accumulation > 1:
            from seg.training.parts import gradients_of_parts

            loss, logits, gradients = gradients_of_parts(self, images, labels, pixel_weights, self.accumulation)
        else:
            with tf.GradientTape() as tape:
                logits = self(images, training=True)
                loss = self.compute_loss(images, labels, logits, pixel_weights, training=True)
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, self.trainable_variables)
        self._loss_tracker.update_state(loss * num_replicas(), sample_weight=tf.shape(logits)[0])
        if self.clip is not None:
            gradients = clipped(sum_over_replicas(gradients), *self.clip)
            # The optimizer sums what the replicas give it: each gives its part of what is clipped.
            gradients = [gradient / num_replicas() for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        if self.average is not None:
            self.average.follow(self._layer_weights(), self.optimizer.iterations)
        return self.compute_metrics(images, labels, logits, sample_weight=pixel_weights), [loss, *gradients]

    # --- the average of the weights -----------------------------------------------------------------------------------
    def _layer_weights(self) -> list[Any]:
        """All weights and statistics of the layers, trained or not."""
        weights = [weight for layer in self.layers for weight in layer.weights]
        return [weight for weight in weights if "float" in keras.backend.standardize_dtype(weight.dtype)]

    @contextmanager
    def _holding(self, raw: bool) -> Iterator[None]:
        """The model with its raw weights or with their average; the other ones stand in `average` meanwhile."""
        swapped = self.average is not None and self._is_raw != raw
        if swapped:
            self._swap()
        try:
            yield
        finally:
            if swapped:
                self._swap()

    def _swap(self) -> None:
        assert self.average is not None
        self.average.swap(self._layer_weights())
        self._is_raw = not self._is_raw

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`."""
        with self._holding(raw=True):
            return super().fit(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`."""
        with self._holding(raw=True):
            return super().train_on_batch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, also within `fit`: of the average."""
        with self._holding(raw=False):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`, also within `fit`: of the average."""
        with self._holding(raw=False):
            return super().predict(*args, **kwargs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`, also within `fit`: the average as the model's weights, and the raw ones beside it."""
        with self._holding(raw=False):
            super().save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save_weights`, also within `fit`: both, as `save`."""
        with self._holding(raw=False):
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.load_weights`, also within `fit`: both."""
        with self._holding(raw=False):
            super().load_weights(*args, **kwargs)

    # --- several devices ----------------------------------------------------------------------------------------------
    @property
    def _is_distributed(self) -> bool:
        """Whether it was made in the scope of a `tf.distribute` strategy, which only TensorFlow's models note."""
        return getattr(self, "_distribute_strategy", None) is not None

    def test_step(self, *args: Any) -> dict[str, Any]:
        """As Keras's; of several devices one may have no image in the last round."""
        if not self._is_distributed:
            return super().test_step(*args)
        import tensorflow as tf

        images, labels, pixel_weights = keras.utils.unpack_x_y_sample_weight(args[0])
        number = tf.shape(images)[0]
        # oneDNN's fused convolutions fail on batches of no images: then one is computed and left out.
        filled = tf.pad(images, [[0, tf.maximum(0, 1 - number)], [0, 0], [0, 0], [0, 0]])
        logits = self(filled, training=False)[:number]
        loss = self.compute_loss(images, labels, logits, pixel_weights, training=False)
        self._loss_tracker.update_state(loss * num_replicas(), sample_weight=number)
        return self.compute_metrics(images, labels, logits, sample_weight=pixel_weights)

    def make_train_function(self, force: bool = False) -> None:
        """As Keras's; under `tf.distribute` see `_on_replicas`."""
        if not self._is_distributed:
            super().make_train_function(force)
        elif getattr(self, "train_function", None) is None or force:
            self.train_function = self._on_replicas(self.train_step)

    def make_test_function(self, force: bool = False) -> None:
        """As Keras's, but not compiled by XLA, which would do so anew for each size of image; under `tf.distribute` see
        `_on_replicas`."""
        if not self._is_distributed:
            compiled, self.jit_compile = self.jit_compile, False
            try:
                super().make_test_function(force)
            finally:
                self.jit_compile = compiled
        elif getattr(self, "test_function", None) is None or force:
            self.test_function = self._on_replicas(self.test_step)

    def _on_replicas(self, step: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """A step on each replica's next batch, from an iterator; the logs are those of the first replica here. Keras's
        own takes the logs' mean over the replicas, which is neither a step's nor the epoch's value."""
        strategy = self.distribute_strategy

        def on_batch(batch: Any) -> dict[str, Any]:
            logs = strategy.run(step, args=(batch,))
            return {key: strategy.experimental_local_results(value)[0] for key, value in logs.items()}

        if not self.run_eagerly:
            import tensorflow as tf

            on_batch = tf.function(on_batch, reduce_retracing=True, autograph=False)
        return lambda iterator: on_batch(next(iterator))

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Keras would build a distributed model with the mean of the replicas' batches; this one is built already."""
        if not self._is_distributed:
            super()._maybe_symbolic_build(*args, **kwargs)

    def _class_weights(self, labels: Any, training: bool) -> Any:
        """(C,) of this step, or None where the terms' own hold."""
        if self.online_weights is None:
            return None
        return self.online_weights.update(labels) if training else self.online_weights.current()


def _evaluate(
    loss: Combined, labels: Any, logits: Any, pixel_weights: Any, class_weights: Any
) -> tuple[Any, tuple[Any, ...]]:
    """The total and the terms' values, as they are."""
    values = loss.term_values(labels, logits, pixel_weights, class_weights)
    return loss.total(values), tuple(values.values())


def _compiled(loss: Combined) -> Evaluate:
    """The loss with its gradient, compiled in one by XLA on TensorFlow's CPU.

    Three to five times faster there, while the model's convolutions are slower (so `jit_compile` for the model is for
    GPUs, and then holds the loss too). Were TensorFlow to differentiate the compiled loss, it would compile the two
    directions apart, and they would take up to twice as long. Only the total has a gradient; the terms are for logs.
    """
    # Replicas meet in a loss to share their sums, which XLA cannot wait for.
    if keras.backend.backend() != "tensorflow" or num_replicas() > 1:
        return partial(_evaluate, loss)
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def with_gradient(labels: Any, logits: Any, pixel_weights: Any, class_weights: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(logits)
            total, values = _evaluate(loss, labels, logits, pixel_weights, class_weights)
        return total, values, tape.gradient(total, logits)

    def evaluate(labels: Any, logits: Any, pixel_weights: Any, class_weights: Any) -> tuple[Any, tuple[Any, ...]]:
        @tf.custom_gradient
        def of_logits(logits: Any) -> Any:
            total, values, gradient = with_gradient(labels, logits, pixel_weights, class_weights)
            return (total, values), lambda upstream, *_: upstream * gradient

        return of_logits(tf.cast(logits, "float32"))

    return evaluate


def load_segmenter(path: Path, num_classes: int | None = None) -> Segmenter:
    """A saved model for inference, not compiled. Code stored in the file is never run (Keras's safe mode).

    Args:
        path: A .keras file.
        num_classes: How many classes it must predict; None: any number.

    Raises:
        DataError: The file is damaged, no model that this package saved, predicts other classes, or has weights that
            are no numbers.
    """
    check_model_file(path)
    try:
        check_declared(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except DataError:
        raise
    except Exception as error:  # Keras raises what its parts raise on a broken file: AttributeError, zlib.error ...
        raise DataError(f"{path}: cannot be loaded as a model: {first_line(error)}") from None
    shape = getattr(model, "output_shape", None)  # a Segmenter of another file may have no layers
    if not isinstance(model, Segmenter) or shape is None:
        raise DataError(f"{path}: got a {type(model).__name__}, allowed: a checkpoint that seg.train saved")
    if num_classes not in (None, shape[-1]):
        raise DataError(f"{path}: the model predicts {shape[-1]} classes, allowed: {num_classes}, as many as are named")
    if not all_finite(model.weights):
        raise DataError(f"{path}: has weights that are NaN or infinite, of a training that diverged; allowed: numbers")
    return model
