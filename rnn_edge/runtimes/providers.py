"""The execution providers rnn-edge knows: what each needs, what suits it, and why it cannot be used here.

onnxruntime's own list says what it was built with, not what this machine can run. This module looks: for the libraries
of a built-in provider, for the wheel and the devices of a plugin. It opens no graphs; `sessions.py` does.
"""

from __future__ import annotations

import ctypes
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

from rnn_edge.errors import ProviderError

__all__ = [
    "CPU",
    "PROVIDERS",
    "Activations",
    "Form",
    "Provider",
    "devices",
    "find",
    "import_onnxruntime",
    "is_plugin",
    "usable",
    "why_not",
]

Form: TypeAlias = Literal["scan", "fused", "step"]
"""How a step graph is made; see docs/bundle-format.md and docs/providers.md."""

Activations: TypeAlias = Literal["uint8", "uint16"]
"""What a calibrated graph computes with: only its products, in 8 bits, or everything, in 16."""

Verified: TypeAlias = Literal["hardware", "emulation", "statically", "no"]
"""How the project's tests prove it: run on the real thing, run on one made of software, only checked, or not at all."""

_GPU = "pip uninstall onnxruntime, then pip install 'rnn-edge[gpu]'"
_SOFTWARE_GPU = "for a software driver set ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 and VK_DRIVER_FILES"


@dataclass(frozen=True, kw_only=True, eq=False)
class Provider:
    """One execution provider.

    install     what to do where it is missing
    plugin      the module of the wheel that brings it; empty where it is part of a build of onnxruntime
    library     of a build of onnxruntime that needs more libraries than it brings
    has_memory  of its own, where states and scores stay between steps
    recording   the option that asks to record steps of one row, and to replay them
    form        the graph form that suits it; `fixed` where it takes no sizes that are chosen at each call
    precisions  that it runs without leaving nodes to the CPU
    activations  of its int8, which an export then calibrates on some text; none where int8 needs no text
    options     names it takes; onnxruntime ignores others silently
    """

    name: str
    full_name: str
    runs_on: str
    install: str
    plugin: str = ""
    library: str = ""
    has_memory: bool = False
    recording: str = ""
    form: Form = "step"
    fixed: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    activations: Activations | None = None
    verified: Verified = "no"
    note: str = ""
    options: frozenset[str] = frozenset()
    defaults: Mapping[str, str] = field(default_factory=dict)


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


CPU = Provider(
    name="cpu",
    full_name="CPUExecutionProvider",
    runs_on="every processor",
    install="pip install 'rnn-edge[cpu]'",
    form="scan",
    precisions=("fp32", "fp16", "int8", "int4"),
    verified="hardware",
    note="x86-64; arm64 and old x86 by emulation",
)

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        CPU,
        Provider(
            name="cuda",
            full_name="CUDAExecutionProvider",
            runs_on="NVIDIA GPUs",
            install=_GPU,
            library="onnxruntime_providers_cuda",
            has_memory=True,
            recording="enable_cuda_graph",
            form="fused",
            precisions=("fp32", "fp16"),
            note="the graph on the CPU; without a GPU, that it fails clearly",
            options=_words(
                "device_id gpu_mem_limit arena_extend_strategy cudnn_conv_algo_search cudnn_conv_use_max_workspace "
                "cudnn_conv1d_pad_to_nc1d do_copy_in_default_stream enable_cuda_graph fuse_conv_bias "
                "enable_skip_layer_norm_strict_mode prefer_nhwc sdpa_kernel tunable_op_enable use_tf32 "
                "tunable_op_tuning_enable tunable_op_max_tuning_duration_ms use_ep_level_unified_stream "
                "has_user_compute_stream user_compute_stream gpu_external_alloc gpu_external_free "
                "gpu_external_empty_cache"
            ),
            defaults={"use_tf32": "0"},  # TF32 keeps 10 bits of each factor
        ),
        Provider(
            name="tensorrt",
            full_name="TensorrtExecutionProvider",
            runs_on="NVIDIA GPUs",
            install=f"{_GPU}, and TensorRT",
            library="onnxruntime_providers_tensorrt",
            precisions=("fp32", "fp16"),
            note="only that it fails clearly is tested",
            options=_words(
                "device_id trt_max_workspace_size trt_fp16_enable trt_bf16_enable trt_int8_enable "
                "trt_min_subgraph_size trt_max_partition_iterations trt_engine_cache_enable trt_engine_cache_path "
                "trt_engine_cache_prefix trt_timing_cache_enable trt_timing_cache_path trt_force_timing_cache "
                "trt_builder_optimization_level trt_auxiliary_streams "
                "trt_context_memory_sharing_enable trt_profile_min_shapes trt_profile_opt_shapes "
                "trt_profile_max_shapes trt_op_types_to_exclude trt_dla_enable trt_dla_core "
                "trt_detailed_build_log trt_dump_subgraphs"
            ),
        ),
        Provider(
            name="coreml",
            full_name="CoreMLExecutionProvider",
            runs_on="Apple's CPUs, GPUs and neural engines",
            install="on macOS it is in every onnxruntime; on iOS use the pod onnxruntime-objc",
            fixed=True,
            verified="statically",
            note="onnxruntime's usability checker: one partition, after looking up the token",
            options=_words(
                "ModelFormat MLComputeUnits RequireStaticInputShapes EnableOnSubgraphs SpecializationStrategy "
                "ProfileComputePlan AllowLowPrecisionAccumulationOnGPU ModelCacheDirectory"
            ),
            defaults={"ModelFormat": "MLProgram"},
        ),
        Provider(
            name="nnapi",
            full_name="NnapiExecutionProvider",
            runs_on="Android's GPUs, DSPs and NPUs",
            install="only onnxruntime-android has it",
            fixed=True,
            precisions=("fp32", "int8"),
            activations="uint8",
            verified="statically",
            note="onnxruntime's usability checker: one partition",
        ),
        Provider(
            name="xnnpack",
            full_name="XnnpackExecutionProvider",
            runs_on="Arm processors",
            install="only onnxruntime-android, onnxruntime-objc and builds of your own have it",
            fixed=True,
            options=_words("intra_op_num_threads"),
        ),
        Provider(
            name="qnn",
            full_name="QNNExecutionProvider",
            runs_on="Qualcomm's NPUs",
            install="pip install onnxruntime-qnn",
            plugin="onnxruntime_qnn",
            fixed=True,
            precisions=("fp32", "fp16", "int8"),
            activations="uint16",
            verified="emulation",
            note="Qualcomm's emulator of its HTP on x86-64; computes in half precision",
            options=_words(
                "backend_type backend_path device_id soc_model htp_arch htp_performance_mode vtcm_mb "
                "rpc_control_latency htp_graph_finalization_optimization_mode qnn_context_priority profiling_level "
                "profiling_file_path enable_htp_fp16_precision enable_htp_shared_memory_allocator "
                "enable_htp_spill_fill_buffer offload_graph_io_quantization op_packages skip_qnn_version_check "
                "extended_udma qnn_saver_path qnn_ir_backend_path dump_json_qnn_graph dump_qnn_ir_dlc "
                "dump_qnn_ir_dlc_dir"
            ),
            defaults={"backend_type": "htp", "offload_graph_io_quantization": "0"},
        ),
        Provider(
            name="openvino",
            full_name="OpenVINOExecutionProvider",
            runs_on="Intel's CPUs, GPUs and NPUs",
            install="pip install onnxruntime-ep-openvino",
            plugin="onnxruntime_ep_openvino",
            verified="hardware",
            note="Intel's CPUs; not GPUs and NPUs",
            options=_words(
                "device_type device_id device_luid precision num_of_threads num_streams cache_dir load_config "
                "model_priority reshape_input enable_opencl_throttling enable_qdq_optimizer disable_dynamic_shapes"
            ),
            defaults={"load_config": '{"CPU":{"EXECUTION_MODE_HINT":"ACCURACY"}}'},  # it rounds to bfloat16 otherwise
        ),
        Provider(
            name="webgpu",
            full_name="WebGpuExecutionProvider",
            runs_on="GPUs, by Vulkan, Metal or Direct3D 12",
            install="pip install onnxruntime-ep-webgpu",
            plugin="onnxruntime_ep_webgpu",
            has_memory=True,
            recording="enableGraphCapture",
            verified="emulation",
            note=f"Mesa's software Vulkan driver; {_SOFTWARE_GPU}",
            options=_words(
                "enableGraphCapture enableInt64 validationMode preferredLayout powerPreference dawnBackendType "
                "deviceId forceCpuNodeNames storageBufferCacheMode uniformBufferCacheMode queryResolveBufferCacheMode "
                "defaultBufferCacheMode maxStorageBufferBindingSize enableRobustness enablePIXCapture preserveDevice"
            ),
            defaults={"enableInt64": "1"},  # tokens are int64
        ),
        Provider(
            name="directml",
            full_name="DmlExecutionProvider",
            runs_on="GPUs under Windows",
            install="on Windows: pip uninstall onnxruntime, then pip install onnxruntime-directml",
            options=_words("device_id performance_preference device_filter disable_metacommands"),
        ),
    )
}
"""By their short names, in the order they are told."""


def find(name: str) -> Provider:
    """Return the provider of a short name, or of onnxruntime's full one."""
    by_full_name = {provider.full_name: provider for provider in PROVIDERS.values()}
    provider = PROVIDERS.get(name) or by_full_name.get(name)
    if provider is None:
        raise ProviderError(f"unknown provider {name!r}; rnn-edge knows {', '.join(PROVIDERS)}")
    return provider


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime, or say how to get it."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}); for the CPU: pip install 'rnn-edge[cpu]', "
            "for CUDA: pip install 'rnn-edge[gpu]'"
        ) from error


def why_not(provider: Provider) -> str:
    """Say in half a sentence why a provider cannot be used here; empty where nothing stands against it."""
    if is_plugin(provider):
        return _missing_device(provider)
    if provider.full_name in import_onnxruntime().get_available_providers():
        return _missing_library(provider)
    return f"is not in this build of onnxruntime; {provider.install}"


def is_plugin(provider: Provider) -> bool:
    """Tell whether a wheel of its own brings a provider; onnxruntime lists it as if built in, once it is registered."""
    return bool(provider.plugin) and find_spec(provider.plugin) is not None


def usable() -> list[Provider]:
    """Return the providers nothing stands against here, as far as can be told without opening a graph."""
    return [provider for provider in PROVIDERS.values() if not why_not(provider)]


def devices(provider: Provider) -> list[Any]:
    """Return onnxruntime's devices of a plugin provider, which is registered first; none where that fails."""
    if _problem_of_registering(provider.full_name, provider.plugin):
        return []
    return [device for device in import_onnxruntime().get_ep_devices() if device.ep_name == provider.full_name]


def _missing_device(provider: Provider) -> str:
    problem = _problem_of_registering(provider.full_name, provider.plugin)
    if problem or devices(provider):
        return problem
    hint = f"; {_SOFTWARE_GPU}" if provider.name == "webgpu" else ""
    return f"is installed but found no device on this machine{hint}"


@cache  # a library can be registered once in a process
def _problem_of_registering(full_name: str, plugin: str) -> str:
    onnxruntime = import_onnxruntime()
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        return f"is a plugin, and onnxruntime {onnxruntime.__version__} takes none: upgrade it"
    try:
        onnxruntime.register_execution_provider_library(full_name, import_module(plugin).get_library_path())
    except Exception as error:  # onnxruntime has a dozen unrelated classes for this
        return f"is a plugin that cannot be loaded: {error}"
    return ""


@cache  # loading CUDA's libraries takes a second
def _missing_library(provider: Provider) -> str:
    """Load what a built-in provider needs as onnxruntime would, which itself only logs what is missing."""
    if not provider.library or sys.platform == "darwin":
        return ""
    onnxruntime = import_onnxruntime()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        onnxruntime.preload_dlls()  # libraries that pip installed; prints what it does not find
    folder = Path(str(onnxruntime.__file__)).parent / "capi"
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    try:
        for name in ("onnxruntime_providers_shared", provider.library):
            ctypes.CDLL(str(folder / f"{prefix}{name}{suffix}"), ctypes.RTLD_GLOBAL)
    except OSError as error:
        advice = "install NVIDIA's driver" if "libcuda.so" in str(error) else _CUDA_ADVICE[provider.name]
        return f"cannot be used here: {error}; {advice}"
    return ""


_CUDA_ADVICE = {
    "cuda": "pip install 'onnxruntime-gpu[cuda,cudnn]', and NVIDIA's driver",
    "tensorrt": "install TensorRT, CUDA and NVIDIA's driver",
}
