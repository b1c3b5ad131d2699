"""Senders, their tags and the chains they use, resolved once when the configuration is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from koukan.chain.engine import Chain
from koukan.config.filters import Exploder
from koukan.config.references import child_chain
from koukan.config.router import EffectiveSender, RouterConfig
from koukan.model import Sender


@dataclass(frozen=True, slots=True)
class Role:
    """A sender in one of its tags, with its chain; `child` is the role of an exploder's per-recipient transactions."""

    sender: EffectiveSender
    chain: Chain
    child: Role | None = None

    @property
    def delivering(self) -> Role:
        """The role that delivers one recipient: what is queued has been through the exploder."""
        return self.child or self


class Roles:
    """Every role there is."""

    def __init__(self, config: RouterConfig, chains: Mapping[str, Chain]) -> None:
        self._config = config
        self._chains = chains
        self._senders = {sender.name: sender for sender in config.sender}
        self._roles: dict[Sender, Role] = {}
        for sender in config.sender:
            for tag in (None, *(t.name for t in sender.tag or ())):
                role = self._make(sender.name, tag)
                if role is not None:
                    self._roles[Sender(sender.name, tag)] = role

    def find(self, name: str, tag: str | None) -> Role | None:
        """The role of a sender and tag; a sender without a list of tags takes any."""
        found = self._roles.get(Sender(name, tag))
        if found is None and tag is not None:
            found = self._make(name, tag)
        return found

    def has_sender(self, name: str) -> bool:
        return name in self._senders

    def _make(self, name: str, tag: str | None) -> Role | None:
        config = self._senders.get(name)
        effective = None if config is None else EffectiveSender.of(config, tag)
        if effective is None or effective.output_chain is None:
            return None
        chain = self._chains[effective.output_chain]
        sink = chain.config.sink
        child = self._child(effective, sink) if isinstance(sink, Exploder) else None
        return Role(effective, chain, child)

    def _child(self, parent: EffectiveSender, sink: Exploder) -> Role | None:
        chain = child_chain(self._config, parent, sink)
        upstream = self._senders.get(parent.upstream.name)
        effective = None if upstream is None else EffectiveSender.of(upstream, parent.upstream.tag)
        return None if chain is None else Role(effective or parent, self._chains[chain.name])
