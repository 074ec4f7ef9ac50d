"""What the log says about itself: its keys, its witnesses, its archives, and what was deleted beside it."""

from collections.abc import Callable, Mapping

from .checkpoint import NoteMalformed, VerifierKey
from .rules import Json, Remark, ReportBreach, Rule

RootOf = Callable[[int], str]
"""The root of the first entries in hexadecimal; asked only for sizes that were read."""


class Records:
    """Checks the entries that belong to no operation.

    Attributes:
        checks: what to call for which kind, with the index, the entry and its event.
        remarks: what a reader should know of, though nothing is broken.
        key: id of the log key in force.
        keys: the keys that the log names, oldest first, with the index from which on each is in force.
    """

    def __init__(self, report: ReportBreach, root_of: RootOf | None) -> None:
        self.remarks: list[Remark] = []
        self.key = ""
        self.keys: list[tuple[int, VerifierKey]] = []
        self._report = report
        self._root_of = root_of
        self._used: set[str] = set()
        self._named: set[bytes] = set()
        self._commitments: dict[str, str] = {}
        self.checks: Mapping[str, Callable[[int, Json, Json], None]] = {
            "genesis": self._genesis,
            "key.rotated": self._rotated,
            "witness.refused": self._refused,
            "segment.archived": self._archived,
            "evidence.expired": self._expired,
            "personal.recorded": self._recorded,
            "personal.erased": self._erased,
            "report.stored": self._stored,
            "plan.proposed": self._plan,
            "step.intent": self._snapshot,
            "step.done": self._evidence,
            "step.failed": self._evidence,
        }

    def place(self, at: int, entry: Json) -> None:
        """Check under which key an entry was written."""
        if entry["key"] != self.key:
            if not self.key:
                self.key = entry["key"]
                self._used.add(self.key)
            else:
                self._report(at, Rule.KEY, f"The entry names the log key {entry['key']}; {self.key} is in force.")

    def _genesis(self, at: int, entry: Json, event: Json) -> None:
        if at:
            return
        for text in event["keys"]:
            key = _key(text)
            if key is not None and key.key_id.hex() == entry["key"]:
                self.keys.append((0, key))
                return
        self._report(at, Rule.KEY, "The genesis does not name the key that it was written under.")

    def _rotated(self, at: int, entry: Json, event: Json) -> None:
        if event["by"] != entry["principal"]:
            self._report(at, Rule.ACTOR, f"The event names {event['by']}, but {entry['principal']} recorded it.")
        previous, following = _key(event["previous"]), _key(event["key"])
        if previous is None or previous.key_id.hex() != self.key or (self.keys and previous != self.keys[-1][1]):
            self._report(at, Rule.ROTATION, "The rotation replaces a key that is not in force.")
        if following is None or following.name != entry["origin"]:
            self._report(at, Rule.ROTATION, "The new key is no key of this log.")
            return
        self.key = following.key_id.hex()
        if self.key in self._used:
            self._report(at, Rule.ROTATION, "The new key was in force before.")
        self._used.add(self.key)
        self.keys.append((at + 1, following))
        if event["compromised"]:
            sentence = f"The log key {event['previous'][:60]} was replaced because somebody else may hold it."
            self.remarks.append(Remark(at, sentence))

    def _refused(self, at: int, _: Json, event: Json) -> None:
        seen = f", having seen {event['seen']}" if "seen" in event else ""
        sentence = f"The witness {event['witness']} refused the checkpoint of {event['size']} entries{seen}."
        self.remarks.append(Remark(at, f"{sentence} ({event['code']})"))

    def _archived(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        first, end = event["first"], event["end"]
        if not first < end <= at:
            self._report(at, Rule.ARCHIVE, f"There is no segment from {first} to {end} before entry {at}.")
        elif self._root_of is not None and self._root_of(end) != event["root"]:
            self._report(at, Rule.ARCHIVE, f"The first {end} entries have another root than the archive's.")
        self._name(event["archive"])

    def _expired(self, at: int, _: Json, event: Json) -> None:
        unheard = sum(bytes.fromhex(digest) not in self._named for digest in event["digests"])
        if unheard:
            self._report(at, Rule.EVIDENCE, f"{unheard} pieces of evidence expire that no entry named before.")

    def _recorded(self, _: int, __: Json, event: Json) -> None:
        self._commitments[event["commitment"]] = event["subject"]

    def _erased(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        for commitment in event["commitments"]:
            if self._commitments.get(commitment) is None:
                self._report(at, Rule.PERSONAL, "A commitment is erased that was never recorded.")
            elif self._commitments[commitment] != event.get("subject"):
                self._report(at, Rule.PERSONAL, "A commitment is erased that is about somebody else.")

    def _stored(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        if not event["first"] <= event["end"] <= at:
            sentence = f"There are no entries from {event['first']} to {event['end']} before entry {at}."
            self._report(at, Rule.REPORT, sentence)
        self._name(event["report"])

    def _acted(self, at: int, entry: Json, event: Json) -> None:
        if event["by"] != entry["principal"]:
            self._report(at, Rule.ACTOR, f"The event names {event['by']}, but {entry['principal']} recorded it.")

    def _name(self, digest: str) -> None:
        self._named.add(bytes.fromhex(digest))

    def _plan(self, _: int, __: Json, event: Json) -> None:
        self._named.add(bytes.fromhex(event["plan"]))

    def _snapshot(self, _: int, __: Json, event: Json) -> None:
        if "snapshot" in event:
            self._named.add(bytes.fromhex(event["snapshot"]))

    def _evidence(self, _: int, __: Json, event: Json) -> None:
        for digest in event["evidence"]:
            self._named.add(bytes.fromhex(digest))


def _key(text: str) -> VerifierKey | None:
    try:
        return VerifierKey.parse(text)
    except NoteMalformed:
        return None
