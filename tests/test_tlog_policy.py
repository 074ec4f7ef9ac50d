"""Policies: the specification's rules line by line, and judgments over checkpoints and their cosignatures."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from storage.verifier import checkpoint
from storage.verifier.checkpoint import Checkpoint, Note, NoteMalformed, NoteUnverified, Signature, VerifierKey
from storage.verifier.cosignature import ED25519_V1, ML_DSA_44, CosignerKey, cosign
from storage.verifier.policy import (
    MAX_LOGS,
    MAX_POLICY,
    MAX_WITNESSES,
    TOLERANCE,
    Group,
    Policy,
    PolicyMalformed,
    PolicyUnmet,
)
from tests.vectors import ML_DSA_NOTE, ML_DSA_VKEY

LOG = "triad.example/log"
TEXT = Checkpoint(LOG, 12, bytes(range(32))).text()
NOW = 1_800_000_000


def private(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))


def raw(seed: int) -> bytes:
    return private(seed).public_key().public_bytes_raw()


LOG_KEY = VerifierKey(LOG, raw(1))
LOG_LINE = f"log {LOG_KEY.text()}\n"
ML_DSA = MLDSA44PrivateKey.from_seed_bytes(bytes(32))


def witness(seed: int, name: str | None = None) -> CosignerKey:
    return CosignerKey(name or f"witness.example/{seed}", ED25519_V1, raw(seed))


def witness_line(name: str, seed: int) -> str:
    return f"witness {name} {witness(seed).text()}\n"


def by(seed: int, time: int = NOW) -> Signature:
    return cosign(TEXT, f"witness.example/{seed}", private(seed), time)


def note(*signatures: Signature, text: str = TEXT) -> bytes:
    return Note(text, (checkpoint.sign(text, LOG, private(1)), *signatures)).encode()


def parse(text: str) -> Policy:
    return Policy.parse(text.encode())


# The example of c2sp.org/tlog-policy, with keys.
EXAMPLE = (
    LOG_LINE
    + "\n"
    + "".join(witness_line(f"X{at}", 10 + at) for at in (1, 2, 3))
    + "group X-witnesses 2 X1 X2 X3\n\n"
    + "".join(witness_line(f"Y{at}", 20 + at) for at in (1, 2, 3))
    + "group Y-witnesses any Y1 Y2 Y3\n\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
)


def test_the_specifications_example_asks_for_two_of_one_group_and_one_of_the_other() -> None:
    policy = parse(EXAMPLE)
    for seeds, met in (
        ((11, 12, 21), True),
        ((11, 13, 23), True),
        ((11, 12, 13, 21, 22, 23), True),
        ((11, 21, 22, 23), False),
        ((11, 12, 13), False),
        ((21,), False),
        ((), False),
    ):
        judged = policy.judge(note(*(by(seed) for seed in seeds)), NOW)
        assert judged.quorum_met is met
        assert judged.logs == (LOG_KEY,)
        assert {each.witness.key.name for each in judged.witnesses} == {f"witness.example/{seed}" for seed in seeds}
        assert (judged.missing == ()) is met


def test_what_is_missing_is_said_in_words() -> None:
    judged = parse(EXAMPLE).judge(note(by(11), by(21)), NOW)
    assert judged.missing == (
        "The group X-and-Y needs 2 of its 2 members; 1 cosigned.",
        "The group X-witnesses needs 2 of its 3 members; 1 cosigned.",
        "The witness X2 did not cosign.",
        "The witness X3 did not cosign.",
    )
    with pytest.raises(PolicyUnmet, match="The witness X2 did not cosign"):
        parse(EXAMPLE).require(note(by(11), by(21)), NOW)
    assert parse(EXAMPLE).require(note(by(11), by(12), by(21)), NOW).quorum_met


def test_a_policy_comes_back_from_its_own_text() -> None:
    for text in (EXAMPLE, LOG_LINE + "quorum none\n", LOG_LINE.rstrip() + " https://log.example/\nquorum none\n"):
        policy = parse(text)
        assert Policy.parse(policy.encode()) == policy
    assert parse(EXAMPLE).groups[0] == Group("X-witnesses", 2, ("X1", "X2", "X3"))


def test_the_policy_of_some_keys_asks_for_no_witness() -> None:
    second = VerifierKey(LOG, raw(2))
    policy = Policy.of([LOG_KEY, second, LOG_KEY])
    assert policy.keys == (LOG_KEY, second)
    assert Policy.parse(policy.encode()) == policy
    judged = policy.judge(note(), NOW)
    assert (judged.quorum_met, judged.witnesses, judged.checkpoint.size) == (True, (), 12)


def test_spaces_tabs_comments_and_empty_lines_say_nothing() -> None:
    text = f" \t# comment \u00e9\n\n \t\n\t log \t {LOG_KEY.text()} \t\n  quorum\tnone  \n#"
    assert parse(text + "\n") == Policy.of([LOG_KEY])


def test_every_log_line_is_accepted_and_every_log_that_signed_is_told() -> None:
    second = VerifierKey(LOG, raw(2))
    policy = parse(LOG_LINE + f"log {second.text()}\nquorum none\n")
    assert policy.judge(note(), NOW).logs == (LOG_KEY,)
    rotated = note(checkpoint.sign(TEXT, LOG, private(2)))
    assert policy.judge(rotated, NOW).logs == (LOG_KEY, second)


def test_a_log_may_sign_with_ml_dsa_as_the_published_vector_does() -> None:
    policy = parse(f"log {ML_DSA_VKEY}\nquorum none\n")
    judged = policy.judge(ML_DSA_NOTE, NOW)
    assert (judged.checkpoint.origin, judged.checkpoint.size) == ("example.com/mldsa-log", 1)
    assert Policy.parse(policy.encode()) == policy


def test_a_witness_may_cosign_with_ml_dsa() -> None:
    key = CosignerKey("witness.example/pq", ML_DSA_44, ML_DSA.public_key().public_bytes_raw())
    policy = parse(LOG_LINE + f"witness pq {key.text()} https://w.example/\nquorum pq\n")
    assert policy.witnesses[0].url == "https://w.example/"
    (found,) = policy.require(note(cosign(TEXT, key.name, ML_DSA, NOW)), NOW).witnesses
    assert (found.witness.name, found.time) == ("pq", NOW)


def test_one_person_with_a_plain_and_a_post_quantum_key_may_be_two_witnesses() -> None:
    key = CosignerKey("witness.example/11", ML_DSA_44, ML_DSA.public_key().public_bytes_raw())
    text = LOG_LINE + witness_line("a", 11) + f"witness b {key.text()}\ngroup g all a b\nquorum g\n"
    assert parse(text).judge(note(by(11), cosign(TEXT, key.name, ML_DSA, NOW)), NOW).quorum_met


def test_without_a_signature_of_a_log_nothing_is_judged() -> None:
    policy = parse(EXAMPLE)
    with pytest.raises(NoteUnverified, match="no log"):
        policy.judge(Note(TEXT, (by(11), by(12), by(21))).encode(), NOW)
    with pytest.raises(NoteUnverified):
        policy.judge(Note(TEXT, (checkpoint.sign(TEXT, LOG, private(9)),)).encode(), NOW)
    with pytest.raises(NoteUnverified):
        Policy.of([]).judge(note(), NOW)


def test_a_logs_key_counts_only_under_its_own_origin() -> None:
    text = Checkpoint("other.example/log", 12, bytes(32)).text()
    with pytest.raises(NoteUnverified, match="another name than its origin"):
        Policy.of([LOG_KEY]).judge(note(text=text), NOW)


def test_a_broken_cosignature_of_a_known_witness_rejects_the_note() -> None:
    wrong = Signature("witness.example/11", witness(11).key_id, bytes(72))
    with pytest.raises(NoteUnverified, match="does not verify"):
        parse(EXAMPLE).judge(note(by(12), by(13), by(21), wrong), NOW)
    with pytest.raises(NoteMalformed):
        parse(EXAMPLE).judge(note(by(12)).replace("— ".encode(), b"-- "), NOW)


def test_a_stranger_is_ignored_even_under_a_witnesss_name_or_id() -> None:
    stranger = cosign(TEXT, "witness.example/11", private(99), NOW)
    namesake = Signature("witness.example/99", witness(11).key_id, bytes(72))
    judged = parse(EXAMPLE).judge(note(stranger, namesake), NOW)
    assert judged.witnesses == ()


def test_a_time_beyond_the_tolerance_is_reported_and_does_not_count() -> None:
    policy = parse(LOG_LINE + witness_line("w", 11) + "quorum w\n")
    for ahead, counts in ((-(10**9), True), (0, True), (TOLERANCE, True), (TOLERANCE + 1, False), (10**9, False)):
        judged = policy.judge(note(by(11, NOW + ahead)), NOW)
        assert judged.quorum_met is counts
        (found,) = judged.witnesses
        assert (found.time, found.ahead) == (NOW + ahead, 0 if counts else ahead)
        if not counts:
            assert judged.missing == (
                f"The cosignature of w does not count: its time lies {ahead} seconds in the future.",
            )
    assert policy.judge(note(by(11, NOW + 10**9))).quorum_met
    assert policy.judge(note(by(11, NOW + 60)), NOW, tolerance=59).quorum_met is False


def test_a_future_time_is_reported_even_where_the_quorum_holds_without_it() -> None:
    policy = parse(LOG_LINE + witness_line("a", 11) + witness_line("b", 12) + "group g any a b\nquorum g\n")
    judged = policy.judge(note(by(11), by(12, NOW + 10**6)), NOW)
    assert judged.quorum_met
    assert len(judged.missing) == 1


def test_of_several_cosignatures_the_newest_that_counts_is_told() -> None:
    policy = parse(LOG_LINE + witness_line("w", 11) + "quorum w\n")
    judged = policy.judge(note(by(11, NOW - 50), by(11, NOW - 9), by(11, NOW + 10**6)), NOW)
    (found,) = judged.witnesses
    assert (found.time, found.ahead, judged.quorum_met) == (NOW - 9, 0, True)


WITNESSES = LOG_LINE + witness_line("a", 11) + witness_line("b", 12)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        (LOG_LINE, None),
        (LOG_LINE + "quorum none", None),
        (LOG_LINE + "quorum none\r\n", 2),
        (LOG_LINE + "quorum none\v\n", 2),
        (LOG_LINE + "quorum none\x00\n", 2),
        (LOG_LINE + "quorum none\x7f\n", 2),
        (LOG_LINE + "quorum none\x1b[0m\n", 2),
        (LOG_LINE + "quorum none\nquorum none\n", 3),
        (LOG_LINE + "quorum\n", 2),
        (LOG_LINE + "quorum none none\n", 2),
        (LOG_LINE + "quorum a\n" + witness_line("a", 11), 2),
        (LOG_LINE + "Quorum none\n", 2),
        (LOG_LINE + "quorum none # comment\n", 2),
        (LOG_LINE + "witness\u00a0a x\nquorum none\n", 2),
        ("log\nquorum none\n", 1),
        (f"log {LOG_KEY.text()} https://a https://b\nquorum none\n", 1),
        (f"log {LOG_KEY.text()[:-1]}\nquorum none\n", 1),
        (f"log {witness(11).text()}\nquorum none\n", 1),
        (LOG_LINE + LOG_LINE + "quorum none\n", 2),
        (LOG_LINE + f"log {VerifierKey('other.example', LOG_KEY.public).text()}\nquorum none\n", 2),
        (f"witness a {LOG_KEY.text()}\nquorum none\n", 1),
        (f"witness {witness(11).text()}\nquorum none\n", 1),
        (f"witness a {witness(11).text()} u u\nquorum none\n", 1),
        (f"witness none {witness(11).text()}\nquorum none\n", 1),
        (witness_line("a", 11) + witness_line("a", 12) + "quorum a\n", 2),
        (witness_line("a", 11) + witness_line("b", 11) + "quorum a\n", 2),
        (witness_line("a", 11) + f"witness b {witness(11, 'other').text()}\nquorum a\n", 2),
        (WITNESSES + "group g any\nquorum g\n", 4),
        (WITNESSES + "group g\nquorum g\n", 4),
        (WITNESSES + "group none any a\nquorum none\n", 4),
        (WITNESSES + "group a any b\nquorum a\n", 4),
        (WITNESSES + "group g any none\nquorum g\n", 4),
        (WITNESSES + "group g any c\nquorum g\n", 4),
        (WITNESSES + "group g any g\nquorum g\n", 4),
        (WITNESSES + "group g any a a\nquorum g\n", 4),
        (WITNESSES + "group g any a b\ngroup h any a\nquorum h\n", 5),
        (WITNESSES + "group g 0 a b\nquorum g\n", 4),
        (WITNESSES + "group g 3 a b\nquorum g\n", 4),
        (WITNESSES + "group g -1 a b\nquorum g\n", 4),
        (WITNESSES + "group g +1 a b\nquorum g\n", 4),
        (WITNESSES + "group g 01 a b\nquorum g\n", 4),
        (WITNESSES + "group g 1.0 a b\nquorum g\n", 4),
        (WITNESSES + "group g \u0661 a b\nquorum g\n", 4),
        (WITNESSES + f"group g {'9' * 5000} a b\nquorum g\n", 4),
        (WITNESSES + "group g ALL a b\nquorum g\n", 4),
        ("#" * (MAX_POLICY + 1), None),
    ],
    ids=lambda value: repr(value)[-24:],
)
def test_what_is_no_policy_is_refused_with_its_line_and_nothing_of_its_text(text: str, line: int | None) -> None:
    with pytest.raises(PolicyMalformed) as caught:
        parse(text)
    said = str(caught.value)
    assert said.startswith(f"line {line}: ") if line else "line 1" not in said
    assert LOG_KEY.text()[-20:] not in said
    assert "\u0661" not in said
    assert len(said) < 200


def test_names_are_octets_and_not_letters() -> None:
    kelvin = b"\xe2\x84\xaa"
    first, second = witness(11).text().encode(), witness(12).text().encode()
    log = LOG_LINE.encode()
    text = (
        log
        + b"witness K "
        + first
        + b"\nwitness "
        + kelvin
        + b" "
        + second
        + b"\ngroup \xff 1 "
        + kelvin
        + b" K\nquorum \xff\n"
    )
    policy = Policy.parse(text)
    assert policy.witnesses[0].name != policy.witnesses[1].name
    assert Policy.parse(policy.encode()) == policy
    assert policy.judge(note(by(12)), NOW).quorum_met
    (first_sentence, *_) = policy.judge(note(), NOW).missing
    assert "\\xff" in first_sentence
    assert first_sentence.encode()


def test_two_keys_that_share_name_and_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "key_id", lambda _name, _public, _kind=b"": bytes(4))
    monkeypatch.setattr("storage.verifier.cosignature.key_id", lambda _name, _public, _kind=b"": bytes(4))
    lines = [f"witness {name} {witness(seed, 'same').text()}\n" for name, seed in (("a", 11), ("b", 12))]
    with pytest.raises(PolicyMalformed, match="line 2: another key"):
        parse("".join(lines) + "quorum a\n")


def test_the_limits_are_at_least_those_of_the_specification_and_are_kept() -> None:
    assert min(MAX_LOGS, MAX_WITNESSES) >= 32
    logs = [f"log {VerifierKey(LOG, raw(1000 + at)).text()}\n" for at in range(MAX_LOGS + 1)]
    assert len(parse("".join(logs[:-1]) + "quorum none\n").logs) == MAX_LOGS
    with pytest.raises(PolicyMalformed, match=f"line {MAX_LOGS + 1}: a policy has at most"):
        parse("".join(logs) + "quorum none\n")
    witnesses = [witness_line(f"w{at}", 1000 + at) for at in range(MAX_WITNESSES + 1)]
    groups = [f"group g{at} any w{at}\n" for at in range(MAX_WITNESSES)]
    whole = parse("".join(witnesses[:-1] + groups) + "quorum g0\n")
    assert (len(whole.witnesses), len(whole.groups)) == (MAX_WITNESSES, MAX_WITNESSES)
    with pytest.raises(PolicyMalformed, match="at most"):
        parse("".join(witnesses) + "quorum none\n")
    with pytest.raises(PolicyMalformed, match="at most"):
        parse("".join(witnesses[:-1] + groups) + "group h any g0\nquorum none\n")


def test_a_chain_of_groups_is_followed_to_its_end() -> None:
    lines = [LOG_LINE, witness_line("w", 11), "group g0 all w\n"]
    lines += [f"group g{at} all g{at - 1}\n" for at in range(1, MAX_WITNESSES)]
    policy = parse("".join(lines) + f"quorum g{MAX_WITNESSES - 1}\n")
    assert policy.judge(note(by(11)), NOW).quorum_met
    judged = policy.judge(note(), NOW)
    assert not judged.quorum_met
    assert judged.missing[-1] == "The witness w did not cosign."


@pytest.mark.parametrize("turned", [False, True])
def test_no_log_is_its_own_witness_under_another_name(turned: bool) -> None:
    lines = [LOG_LINE, f"witness w {CosignerKey('w.example', ED25519_V1, LOG_KEY.public).text()}\n"]
    if turned:
        lines.reverse()
    with pytest.raises(PolicyMalformed, match=r"line 2: that public key is a .* no log is its own witness"):
        parse("".join(lines) + "quorum w\n")
