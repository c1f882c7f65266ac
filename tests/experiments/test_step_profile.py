"""Grouping a profiler's events by kind of operation, on names that its traces hold."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from experiments.benchmarks.step_profile import REST, by_kind, events, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gradient_tape/segmenter/up0/Conv2DBackpropFilter:Conv2DBackpropFilter", "convolutions, weight gradients"),
        ("weight_gradient_2/MatMul_1:_MklMatMul", "convolutions, weight gradients"),
        ("data_gradient/Conv2D:_MklNativeConv2D", "convolutions, data gradients"),
        ("sm90_xmma_wgrad_implicit_gemm_bf16bf16", "convolutions, weight gradients"),
        (
            "gradient_tape/up0/Conv2DBackpropInput:_MklNativeConv2DBackpropInput",
            "convolutions, data gradients",
        ),
        ("segmenter/up0_1_conv_1/convolution:Conv2D", "convolutions, forward"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16", "convolutions, forward"),
        ("segmenter/down0_norm/FusedBatchNormV3:FusedBatchNormV3", "normalisation"),
        ("gradient_tape/segmenter/pool/MaxPoolGrad:MaxPoolGrad", "pooling"),
        ("ThunkExecutor::Execute", "loss and metric, compiled"),
        ("gradient_tape/segmenter/relu/ReluGrad:ReluGrad", "ReLU"),
        ("MemcpyH2D", "copies between host and device"),
        ("loop_multiply_fusion_3", "elementwise, compiled"),
        ("segmenter/unheard_of:Unheard", REST),
    ],
)
def test_the_kind_of_a_name(name: str, kind: str):
    assert kind_of(name) == kind


def space(plane: str, line: str, *found: tuple[str, float]) -> SimpleNamespace:
    """A trace of one line, events given as name and milliseconds."""
    metadata = {index: SimpleNamespace(name=name) for index, (name, _) in enumerate(found)}
    recorded = [SimpleNamespace(metadata_id=index, duration_ps=took * 1e9) for index, (_, took) in enumerate(found)]
    lines = [SimpleNamespace(name=line, events=recorded)]
    return SimpleNamespace(planes=[SimpleNamespace(name=plane, event_metadata=metadata, lines=lines)])


def test_events_are_summed_by_kind_the_longest_first():
    found = [("a:Relu", 1.0), ("b:Conv2D", 2.0), ("c:Relu", 4.0)]
    on_cpu = space("/host:CPU", "tf_Compute/1", *found, ("ExecutorState::Process", 99.0))
    assert by_kind(events(on_cpu)) == [("ReLU", 5.0, 2, "c:Relu"), ("convolutions, forward", 2.0, 1, "b:Conv2D")]
    on_gpu = space("/device:GPU:0", "Stream #13", ("MemcpyH2D", 1.0))
    assert by_kind(events(on_gpu)) == [("copies between host and device", 1.0, 1, "MemcpyH2D")]
    assert by_kind(events(space("/host:CPU", "python", *found))) == []
