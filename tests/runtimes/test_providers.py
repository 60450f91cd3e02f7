"""The table of providers tells what is so here."""

from __future__ import annotations

import re
from types import SimpleNamespace

import onnxruntime
import pytest

from rnn_edge.runtimes import providers
from rnn_edge.runtimes.providers import PROVIDERS, find, usable, why_not


def test_onnxruntime_knows_every_full_name():
    assert {provider.full_name for provider in PROVIDERS.values()} <= set(onnxruntime.get_all_providers())


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=list(PROVIDERS))
def test_every_provider_is_found_by_both_names_and_says_what_it_needs(provider):
    assert find(provider.name) is find(provider.full_name) is provider
    assert set(provider.defaults) <= provider.options
    reason = why_not(provider)
    assert (not reason) == (provider in usable())
    assert "\n" not in reason


def test_the_cpu_is_always_there():
    assert "cpu" in [provider.name for provider in usable()]


def test_a_plugin_without_a_device_is_told_apart_from_one_that_is_not_installed(monkeypatch):
    webgpu = PROVIDERS["webgpu"]
    monkeypatch.setattr(providers, "find_spec", lambda name: None)
    assert why_not(webgpu) == "is not in this build of onnxruntime; pip install onnxruntime-ep-webgpu"
    monkeypatch.setattr(providers, "find_spec", lambda name: SimpleNamespace())
    monkeypatch.setattr(providers, "_problem_of_registering", lambda *_: "")
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    assert why_not(webgpu).startswith("is installed but found no device on this machine; for a software driver")
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [SimpleNamespace(ep_name=webgpu.full_name)])
    assert why_not(webgpu) == ""


@pytest.fixture
def _unregistered(monkeypatch):
    """Pretend that a plugin's wheel is there, and forget afterwards what became of it."""
    monkeypatch.setattr(providers, "find_spec", lambda name: SimpleNamespace())
    providers._problem_of_registering.cache_clear()
    yield
    providers._problem_of_registering.cache_clear()


@pytest.mark.usefixtures("_unregistered")
def test_an_onnxruntime_that_takes_no_plugins_is_told(monkeypatch):
    monkeypatch.delattr(onnxruntime, "register_execution_provider_library")
    assert re.fullmatch("is a plugin, and onnxruntime .* takes none: upgrade it", why_not(PROVIDERS["webgpu"]))


@pytest.mark.usefixtures("_unregistered")
def test_a_plugin_that_cannot_be_loaded_is_a_reason_and_no_crash(monkeypatch):
    """Of a table that is to tell of all the others too."""
    monkeypatch.setattr(
        providers, "import_module", lambda name: onnxruntime if name == "onnxruntime" else _broken_wheel()
    )
    assert why_not(PROVIDERS["webgpu"]).startswith("is a plugin that cannot be loaded: ")
    assert PROVIDERS["webgpu"] not in usable()


def _broken_wheel():
    return SimpleNamespace(get_library_path=lambda: "/nowhere/plugin.so")
