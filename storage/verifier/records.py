"""What the log says about itself: its keys, its witnesses, its archives, and what was deleted beside it."""

from collections.abc import Callable, Container, Iterable, Mapping

from .checkpoint import NoteMalformed, VerifierKey
from .rules import SETTLED, Json, Remark, ReportBreach, Rule, instant

RootOf = Callable[[int], str]
"""The root of the first entries in hexadecimal; asked only for sizes that were read."""


class Records:
    """Checks the entries that belong to no operation.

    Attributes:
        checks: what to call for which kind, with the index, the entry and its event.
        remarks: what a reader should know of, though nothing is broken.
        key: id of the log key in force.
        keys: the keys that the log names, oldest first, with the index from which on each is in force.
        gone: digests of the evidence that was deleted on the record.
    """

    def __init__(
        self,
        report: ReportBreach,
        root_of: RootOf | None,
        cases: Container[str],
        law_since: Callable[[str], str | None],
    ) -> None:
        self.remarks: list[Remark] = []
        self.key = ""
        self.keys: list[tuple[int, VerifierKey]] = []
        self.gone: set[bytes] = set()
        self._report = report
        self._root_of = root_of
        self._used: set[str] = set()
        self._named: dict[bytes, tuple[str, str]] = {}
        self._cases = cases
        self._law_since = law_since
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
            if key is not None and key.key_id.hex() == entry["key"] and key.name == entry["origin"]:
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
        self.name(entry, event["archive"])

    def _expired(self, at: int, entry: Json, event: Json) -> None:
        self._deleted(at, entry, event["digests"])

    def _deleted(self, at: int, entry: Json, digests: Iterable[str]) -> None:
        """Report what may not go; what the log said only lately may not have been known when the deletion was begun."""
        unheard = held = laws = 0
        before = instant(entry["time"]) - SETTLED
        for digest in digests:
            blob, since = bytes.fromhex(digest), self._law_since(digest)
            self.gone.add(blob)
            named = self._named.get(blob)
            if since is not None:
                laws += instant(since) < before
            elif named is None:
                unheard += 1
            else:
                operation, time = named
                held += operation in self._cases and instant(time) < before
        if unheard:
            self._report(at, Rule.EVIDENCE, f"{unheard} pieces of evidence are deleted that no entry named before.")
        if held:
            self._report(at, Rule.EVIDENCE, f"{held} pieces of evidence are deleted of operations under way.")
        if laws:
            self._report(at, Rule.EVIDENCE, "The text of a constitution that was in force is deleted.")

    def _recorded(self, _: int, __: Json, event: Json) -> None:
        self._commitments[event["commitment"]] = event["subject"]

    def _erased(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        self._deleted(at, entry, event["evidence"])
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
        self.name(entry, event["report"])

    def _acted(self, at: int, entry: Json, event: Json) -> None:
        if event["by"] != entry["principal"]:
            self._report(at, Rule.ACTOR, f"The event names {event['by']}, but {entry['principal']} recorded it.")

    def name(self, entry: Json, digest: str) -> None:
        """An entry names a piece of evidence."""
        self._named[bytes.fromhex(digest)] = (entry.get("operation", ""), entry["time"])

    def _plan(self, _: int, entry: Json, event: Json) -> None:
        self.name(entry, event["plan"])

    def _snapshot(self, _: int, entry: Json, event: Json) -> None:
        if "snapshot" in event:
            self.name(entry, event["snapshot"])

    def _evidence(self, _: int, entry: Json, event: Json) -> None:
        for digest in event["evidence"]:
            self.name(entry, digest)


def _key(text: str) -> VerifierKey | None:
    try:
        return VerifierKey.parse(text)
    except NoteMalformed:
        return None
