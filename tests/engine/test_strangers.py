"""Clients may name any `provider/model`: what is kept of such names is bounded, what the configuration names is kept."""

from __future__ import annotations

from headgate.config.load import load_text
from headgate.core.records import LimitSpec
from headgate.engine import compile as compiling
from headgate.engine.compile import Compiler
from headgate.governance import governor as governing
from headgate.governance.governor import KeyedGovernor
from headgate.governance.rules import Rules
from headgate.stores.memory import MemoryStore
from support.gateway import ENV

TEXT = "providers: {openai: {}}\nmodels:\n  ours: {provider: openai, upstream: gpt-5.5}\n"


def test_names_that_clients_invent_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(compiling, "STRANGERS", 20)
    compiler = Compiler(ENV)
    config = load_text(TEXT, "t", ENV).config
    snapshot = compiler.compile(config)
    ours = snapshot.models()[0].deployments[0]
    used = snapshot.model("openai/used")
    assert used is not None
    for number in range(200):
        assert snapshot.model(f"openai/invented-{number}") is not None
        assert snapshot.model("openai/gpt-5.5") is not None
    assert len(compiler.vitals) == 21
    assert compiler.vitals[ours.key] is ours.vitals  # asked by its direct name it is still the one that we know
    assert used.deployments[0].key not in compiler.vitals
    named = load_text(TEXT + "  taken: {provider: openai, upstream: invented-199}\n", "t", ENV).config
    taken = compiler.compile(named).model("taken")
    assert taken is not None
    for number in range(200):
        assert snapshot.model(f"openai/more-{number}") is not None
    assert compiler.vitals[taken.deployments[0].key] is taken.deployments[0].vitals


def test_nor_do_they_fill_the_governors(monkeypatch):
    monkeypatch.setattr(governing, "MOST_GUARDS", 20)
    limit = LimitSpec(requests_per_minute=5)
    governor = KeyedGovernor(MemoryStore(), rules=Rules(deployment_limits={"openai/gpt-5.5": limit}))
    for number in range(200):
        assert not governor.guards(f"openai/invented-{number}", f"openai/invented-{number}")
        assert governor.guards("ours", "openai/gpt-5.5")
    assert len(governor._guards) <= 21
