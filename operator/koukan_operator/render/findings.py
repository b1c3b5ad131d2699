"""What rendering finds on its way: missing references, problems, and the keys of Secrets that the pods read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from koukan.config.loader import Path_, dotted
from koukan_operator.model import OutputChain
from koukan_operator.model.secrets import SecretKeyRef
from koukan_operator.references import Document, ObjectRef, Refs
from koukan_operator.render.rendered import Claim, ConfigProblem, MissingReference

#: where the keys of Secrets are mounted: <directory>/<secret>/<key>
SECRETS_DIRECTORY = "/run/koukan/secrets"


@dataclass(slots=True)
class Findings:
    """Collected while a resource is rendered."""

    refs: Refs
    missing: list[MissingReference] = field(default_factory=list)
    problems: list[ConfigProblem] = field(default_factory=list)
    warnings: list[ConfigProblem] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    #: keys by Secret that are mounted as files
    files: dict[str, set[str]] = field(default_factory=dict)
    #: keys by Secret that are read otherwise
    values: dict[str, set[str]] = field(default_factory=dict)

    def problem(self, path: str, message: str) -> None:
        self.problems.append(ConfigProblem(path, message))

    def warn(self, path: str, message: str) -> None:
        self.warnings.append(ConfigProblem(path, message))

    def need(self, ref: ObjectRef, path: str) -> Document | None:
        """The object; its absence is noted once for each place that names it."""
        document = self.refs.chain(ref.name) if ref.kind == OutputChain.KIND else self.refs.found.get(ref)
        if document is None:
            self.missing.append(
                MissingReference(
                    ref, path, f'there is no {ref.kind} "{ref.name}" in this namespace; create it or name another'
                )
            )
        return document

    def need_keys(self, secret: str, keys: Iterable[str], path: str) -> None:
        """Note the Secret, or its keys, when they are missing."""
        ref = ObjectRef("Secret", secret)
        document = self.need(ref, path)
        if document is None:
            return
        present = _keys(document)
        for key in keys:
            if key not in present:
                listed = ", ".join(sorted(present)) or "none"
                message = f'Secret "{secret}" has no key "{key}"; it has: {listed}'
                self.missing.append(MissingReference(ref, path, message))

    def need_secrets(self, secrets: Iterable[tuple[Path_, SecretKeyRef]], prefix: str = "") -> None:
        """The same for references as `secrets_in` finds them."""
        for path, ref in secrets:
            self.need_keys(ref.name, [ref.key], f"{prefix}{dotted(path)}")

    def file(self, secret: str, key: str) -> str:
        """Path of a key of a Secret in the pods, which is mounted from now on."""
        self.files.setdefault(secret, set()).add(key)
        return f"{SECRETS_DIRECTORY}/{secret}/{key}"

    def value(self, secret: str, key: str) -> None:
        """A key of a Secret that becomes part of the environment: a change must reach the pods too."""
        self.values.setdefault(secret, set()).add(key)

    def ca_file(self, secret: str | None) -> str | None:
        """The authorities that a certificate's Secret brings with it, as cert-manager's do; None: the system's."""
        document = None if secret is None else self.refs.found.get(ObjectRef("Secret", secret))
        if secret is None or document is None or "ca.crt" not in _keys(document):
            return None
        return self.file(secret, "ca.crt")

    def secrets_hash(self) -> str:
        """A digest of everything that the pods read from Secrets; nothing can be learnt from it but that it changed."""
        digest = hashlib.sha256()
        for kind in (self.files, self.values):
            for secret in sorted(kind):
                document = self.refs.found.get(ObjectRef("Secret", secret), {})
                for key in sorted(kind[secret]):
                    content = _content(document, key)
                    digest.update(f"{secret}/{key}:{len(content)}:".encode())
                    digest.update(content)
        return digest.hexdigest() if self.files or self.values else ""


def _keys(secret: Document) -> set[str]:
    return {
        key
        for part in ("data", "stringData")
        for key, value in (secret.get(part) or {}).items()
        if key != "ca.crt" or value
    }


def _content(secret: Document, key: str) -> bytes:
    # As it is encoded: equal content is equal text, and a digest in its place does as well.
    for part in ("stringData", "data"):
        value = (secret.get(part) or {}).get(key)
        if value is not None:
            return str(value).encode()
    return b""
