"""Which chains a router has, and whose claims on senders hold.

A router's own senders always hold. Then chains that attach themselves come, oldest first: a claim on a sender or tag that is
taken is refused, and nothing that an accepted claim brings can change what was there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from koukan.config.loader import dotted
from koukan.config.router import SenderConfig
from koukan_operator.errors import InvalidResource
from koukan_operator.model import KoukanRouter, OutputChain
from koukan_operator.model.values import Writing
from koukan_operator.references import Document, ObjectRef, chains_led_to, named_chains
from koukan_operator.render.findings import Findings
from koukan_operator.render.rendered import Claim


@dataclass(slots=True)
class SenderStanza:
    """A sender of router.yaml, and where it and its tags come from."""

    document: dict[str, Any]
    origin: str
    tag_origins: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Attachment:
    """A router's senders and chains."""

    router: KoukanRouter
    findings: Findings
    senders: dict[str, SenderStanza] = field(default_factory=dict)
    chains: dict[str, OutputChain] = field(default_factory=dict)
    #: some chain that is named does not exist or is invalid
    incomplete: bool = False
    _invalid: set[str] = field(default_factory=set)

    @property
    def writing(self) -> Writing:
        return Writing(self.findings.file)

    def collect(self) -> None:
        """Fill in everything."""
        for index, sender in enumerate(self.router.spec.senders):
            self._own_sender(index, sender)
        for path, name in named_chains(self.router):
            self._add_named(name, dotted(path))
        for document in self.findings.refs.attached(self.router.metadata.name):
            self._attach(document)
        self.chains = dict(sorted(self.chains.items()))

    def _own_sender(self, index: int, sender: SenderConfig) -> None:
        path = f"spec.senders[{index}]"
        if sender.name in self.senders:
            self.findings.problem(f"{path}.name", f"there is another sender {sender.name!r}; names must be unique")
            return
        tags = [f"{path}.tags[{position}]" for position, _ in enumerate(sender.tag or ())]
        self.senders[sender.name] = SenderStanza(self._document(sender), path, tags)

    def _document(self, sender: SenderConfig) -> dict[str, Any]:
        return sender.model_dump(mode="json", exclude_unset=True, context=self.writing)

    def _add_named(self, name: str, path: str) -> None:
        """A chain that something names, and those that it names in turn."""
        if name in self.chains:
            return
        document = self.findings.need(ObjectRef(OutputChain.KIND, name), path)
        chain = None if document is None else self._parsed(document)
        if chain is None:
            self.incomplete = True
        else:
            self._add(chain)

    def _add(self, chain: OutputChain) -> None:
        name = chain.metadata.name
        self.chains[name] = chain
        for path, other in chains_led_to(chain):
            self._add_named(other, f"{OutputChain.KIND}/{name} {dotted(path)}")

    def _parsed(self, document: Document) -> OutputChain | None:
        name = document["metadata"]["name"]
        if name in self._invalid:
            return None
        try:
            return OutputChain.parse(document)
        except InvalidResource as error:
            self._invalid.add(name)
            for line in str(error).splitlines():
                path, _, message = line.partition(": ")
                self.findings.problem(f"{OutputChain.KIND}/{name} {path}", message)
            return None

    def _attach(self, document: Document) -> None:
        name = document["metadata"]["name"]
        chain = self.chains.get(name) or self._parsed(document)
        if chain is None:
            self.incomplete = True
            self._claim(name, False, "InvalidChain", "the chain is not valid; its condition ConfigValid says why")
            return
        if name not in self.chains:
            self._add(chain)
        if not chain.spec.senders:
            self._claim(name, True, "Accepted", f"attached to KoukanRouter {self.router.metadata.name}")
        for index, sender in enumerate(chain.spec.senders):
            self._claim_sender(chain, sender, f"{OutputChain.KIND}/{name} spec.senders[{index}]")

    def _claim_sender(self, chain: OutputChain, sender: SenderConfig, path: str) -> None:
        name, document = chain.metadata.name, self._document(sender)
        tags = document.pop("tag", None)
        document.setdefault("output_chain", name)
        held = self.senders.get(sender.name)
        if not tags:
            if held is not None:
                self._refuse(name, sender.name, None, held.origin)
                return
            self.senders[sender.name] = SenderStanza(document, path)
            self._accept(name, sender.name, None)
            return
        for position, tag in enumerate(tags):
            self._claim_tag(name, {**document, **tag}, sender.name, f"{path}.tags[{position}]")

    def _claim_tag(self, chain: str, tag: dict[str, Any], sender: str, path: str) -> None:
        """A tag with everything that it needs set, so that it neither inherits from nor adds to the sender it joins."""
        held = self.senders.setdefault(sender, SenderStanza({"name": sender, "tag": []}, path))
        tags = held.document.get("tag")
        if tags is None:
            self._refuse(chain, sender, tag["name"], f"{held.origin}, which takes every tag")
            return
        for position, other in enumerate(tags):
            if other["name"] == tag["name"]:
                self._refuse(chain, sender, tag["name"], held.tag_origins[position])
                return
        unset = {key: None for key in held.document if key not in ("name", "tag")}
        tags.append({"name": tag["name"], **unset, **tag})
        held.tag_origins.append(path)
        self._accept(chain, sender, tag["name"])

    def _accept(self, chain: str, sender: str, tag: str | None) -> None:
        self._claim(chain, True, "Accepted", f"opens {_described(sender, tag)}", sender, tag)

    def _refuse(self, chain: str, sender: str, tag: str | None, holder: str) -> None:
        router = self.router.metadata.name
        where = holder if holder.startswith(OutputChain.KIND) else f"{KoukanRouter.KIND}/{router} {holder}"
        message = f"{_described(sender, tag)} is taken by {where}; claim another, or remove that one"
        self._claim(chain, False, "SenderTaken", message, sender, tag)

    def _claim(
        self, chain: str, accepted: bool, reason: str, message: str, sender: str | None = None, tag: str | None = None
    ) -> None:
        router = self.router.metadata.name
        self.findings.claims.append(Claim(chain, router, accepted, reason, message, sender, tag))


def origins(attachment: Attachment) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where the stanzas of router.yaml come from, by their path in it."""
    for index, sender in enumerate(attachment.senders.values()):
        yield ("sender", index), sender.origin
        for position, origin in enumerate(sender.tag_origins):
            yield ("sender", index, "tag", position), origin
    for index, name in enumerate(attachment.chains):
        yield ("endpoint", index), f"{OutputChain.KIND}/{name} spec"


def _described(sender: str, tag: str | None) -> str:
    return f"sender {sender!r}" if tag is None else f"tag {tag!r} of sender {sender!r}"
