"""A witness's own keys: files of mode 0600 in the witness's home, made once and never replaced.

Each file holds one line, `PRIVATE+KEY+name+key id+base64(type || seed)`, the form in which other tools of signed notes
keep theirs. Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-cosignature.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations.errors import LedgerUnavailable
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, Signature, check_name, decode_base64, encode_base64
from storage.verifier.cosignature import ED25519_V1, HAS_ML_DSA, ML_DSA_44, CosignerKey, cosign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

ED25519_FILE: Final = "witness.key"
ML_DSA_FILE: Final = "witness-ml-dsa.key"

_PRIVATE: Final = "PRIVATE+KEY+"
_SEED: Final = 32
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """One key of a witness, and the public half that others know it by."""

    public: CosignerKey
    private: "Ed25519PrivateKey | MLDSA44PrivateKey"

    @classmethod
    def of(cls, name: str, private: "Ed25519PrivateKey | MLDSA44PrivateKey") -> "WitnessKey":
        """The key under a name.

        Raises:
            NoteMalformed: the name is none.
        """
        kind = ED25519_V1 if isinstance(private, Ed25519PrivateKey) else ML_DSA_44
        return cls(CosignerKey(check_name(name), kind, private.public_key().public_bytes_raw()), private)

    def cosign(self, head: Checkpoint, at: int) -> Signature | None:
        """The cosignature of a checkpoint at `at`, in seconds since 1970.

        None where this kind of key signs no such checkpoint: ML-DSA-44 covers neither extension lines nor origins of
        more than 255 bytes.
        """
        try:
            return cosign(head.text(), self.public.name, self.private, at)
        except NoteMalformed:
            if self.public.kind == ED25519_V1:
                raise
            return None

    def text(self) -> str:
        """The line of the key file."""
        encoded = encode_base64(self.public.kind + self.private.private_bytes_raw())
        return f"{_PRIVATE}{self.public.name}+{self.public.key_id.hex()}+{encoded}"


def make_keys(name: str, *, ml_dsa: bool) -> tuple[WitnessKey, ...]:
    """New keys under a name; nothing is written yet.

    Raises:
        NoteMalformed: the name cannot be a key name.
        LedgerUnavailable: ML-DSA-44 is asked for and `cryptography` has none.
    """
    classic = WitnessKey.of(name, Ed25519PrivateKey.generate())
    if not ml_dsa:
        return (classic,)
    return classic, WitnessKey.of(name, _ml_dsa(secrets.token_bytes(_SEED)))


def store_keys(home: Path, keys: Sequence[WitnessKey]) -> None:
    """Write a witness's keys into its home, which must not hold any yet.

    Raises:
        LedgerUnavailable: there are keys already, or they cannot be written.
    """
    if has_keys(home):
        raise LedgerUnavailable(f"There is a key in {home} already. A witness keeps its key for life.")
    classic, *further = keys
    try:
        for key in further:
            _write(home / ML_DSA_FILE, key.text())
        _write(home / ED25519_FILE, classic.text())  # the key without which there is no witness comes last
    except LedgerUnavailable:
        if not (home / ED25519_FILE).exists():
            (home / ML_DSA_FILE).unlink(missing_ok=True)
        raise


def has_keys(home: Path) -> bool:
    """Whether there is a key of a witness in `home`."""
    return any((home / name).exists() for name in (ED25519_FILE, ML_DSA_FILE))


def load_keys(home: Path) -> tuple[WitnessKey, ...]:
    """The keys of the witness in `home`: Ed25519 first, then ML-DSA-44 where there is one.

    Raises:
        LedgerUnavailable: there is no witness here, others can read a key, or it is none.
    """
    if not has_keys(home):
        raise LedgerUnavailable(f"There is no witness in {home}. `triad witness init` makes one.")
    if not (home / ED25519_FILE).exists():
        raise LedgerUnavailable(f"{home / ED25519_FILE} is missing; put it back, or retire this witness.")
    paths = [path for path in (home / ED25519_FILE, home / ML_DSA_FILE) if path.exists()]
    keys = tuple(_read(path) for path in paths)
    if len({key.public.name for key in keys}) != 1:
        raise LedgerUnavailable(f"The keys in {home} belong to witnesses of different names.")
    return keys


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LedgerUnavailable(f"{path} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> WitnessKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & _OTHERS:
                raise LedgerUnavailable(f"{path} has mode {mode:04o}: others could read the key. Run: chmod 600 {path}")
            text = file.read(4096).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerUnavailable(f"The witness's key {path} cannot be read.") from error
    try:
        if not text.startswith(_PRIVATE):
            raise NoteMalformed("no private key")
        name, _, encoded = text.removeprefix(_PRIVATE).split("+", 2)
        key = WitnessKey.of(name, _private(decode_base64(encoded)))
    except ValueError as error:
        raise LedgerUnavailable(f"{path} is no key of a witness.") from error
    if not secrets.compare_digest(key.text(), text):
        raise LedgerUnavailable(f"The key id in {path} is not that of its key.")
    return key


def _private(data: bytes) -> "Ed25519PrivateKey | MLDSA44PrivateKey":
    kind, seed = data[:1], data[1:]
    if len(seed) != _SEED:
        raise NoteMalformed("a seed has 32 bytes")
    if kind == ED25519_V1:
        return Ed25519PrivateKey.from_private_bytes(seed)
    if kind == ML_DSA_44:
        return _ml_dsa(seed)
    raise NoteMalformed("no key of a cosigner")


def _ml_dsa(seed: bytes) -> "MLDSA44PrivateKey":
    missing = "The installed `cryptography` has no ML-DSA-44. Install one that has, or go without that key."
    if not HAS_ML_DSA:
        raise LedgerUnavailable(missing)
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey  # noqa: PLC0415 - see above

    try:
        return MLDSA44PrivateKey.from_seed_bytes(seed)
    except UnsupportedAlgorithm as error:  # built against an OpenSSL that has none
        raise LedgerUnavailable(missing) from error
