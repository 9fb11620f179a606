"""[review], [trust] and [[consent]], the trust file beside them, and `grapevine trust`."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.disks import small_disk

from grapevine_agent.cli.output import shown
from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.config.review import policy_of
from grapevine_agent.config.trust_file import TRUST_COPY, TRUST_FILE, read_trust_file
from grapevine_agent.core.settings import ConsentRule
from grapevine_agent.printable import printable
from grapevine_agent.requests.trusting import change_trust
from grapevine_proto.errors import ConfigError, RequestError, StoreError

ADA, BEN, CAT = "a" * 20, "b" * 20, "c" * 20


def loaded(folder: Path, text: str = "") -> Config:
    path = folder / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{folder / "state"}"\n{text}')
    return load_config(path, {})


def add(config: Config, peer: str, relation: str = "reviewer", *roles: str, name: str = "") -> dict[str, object]:
    change = {"action": "add", "peer": peer, "relation": relation, "roles": list(roles), "name": name}
    return change_trust(config, change)


def test_a_policy_is_read_as_it_is_written(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        f"""
        [review]
        approvals = 2
        trusted = ["{ADA}"]
        veto = "roles"
        rejections = 2
        max_valid_days = 3
        renew = true
        [review.roles]
        security = ["{BEN}"]
        [review.need]
        security = 1
        [trust]
        deny_publishers = ["{CAT}"]
        [trust.approvals]
        own = 0
        {ADA} = 1
        [[consent]]
        kind = "digits-8x8"
        name = "Hand*"
        answer = "auto"
        """,
    )
    policy = policy_of(config.review, config.trust, CAT)
    assert policy.reviewers == {ADA, BEN}
    assert policy.roles_of(BEN) == ("security",)
    assert policy.approvals_of == {CAT: 0, ADA: 1}
    assert (policy.veto, policy.max_valid_days, policy.need) == ("roles", 3.0, {"security": 1})
    assert config.review.renew
    assert config.consent == (ConsentRule(answer="auto", kind="digits-8x8", name="Hand*"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'[review]\ntrusted = ["{ADA}"]', ["review.trusted", "never give 2 approvals"]),
        ("[review.need]\nsecurty = 1", ["review.need", "'securty' is no role", "[review.roles]"]),
        (
            f'[review]\napprovals = 1\n[review.roles]\nsecurity = ["{ADA}"]\n[review.need]\nsecurity = 2',
            ["review.need", "never give 2 approvals", "security = 1"],
        ),
        (
            f'[review]\napprovals = 1\n[review.roles]\nsecurity = ["{ADA}"]\n[review.need]\nsecrity = 1',
            ["did you mean 'security'?"],
        ),
        ("[review.need]\nsecurity = 0", ["review.need.security = 0", "from 1 to 100"]),
        ('[review.roles]\nsecurity = ["ada"]', ["review.roles.security", "'ada' does not have the right form"]),
        ('[review.roles]\n"So Big" = []', ["review.roles.So Big", "security"]),
        ('[review]\nveto = "everybody"', ["review.veto", '"trusted", "roles", "none"']),
        ('[review]\nveto = "roles"', ["review.veto", "there are no roles"]),
        ("[review]\nrejections = 3", ["review.rejections", "one rejection is a veto"]),
        ('[review]\nveto_roles = ["x"]', ["review.veto_roles", "'x' is no role"]),
        (
            f'[review]\ntrusted = ["{ADA}", "{BEN}"]\nveto = "none"\nrejections = 3',
            ["review.rejections", "never give 3"],
        ),
        ("[review]\nmax_valid_days = 0", ["review.max_valid_days", "0.01 to 366"]),
        (f'[trust]\npublishers = ["{ADA}"]\ndeny_publishers = ["{ADA}"]', ["trust.publishers", "denied as well"]),
        ("[trust.approvals]\nada = 1", ["trust.approvals.ada", "right form"]),
        ('[[consent]]\nanswer = "yes"', ["consent[1].answer", "auto"]),
        ('[[consent]]\nanswer = "auto"', ["consent[1].kind", "[agent] consent"]),
        ('[[consent]]\nkind = "k"', ["consent[1].answer is missing"]),
        ('[[consent]]\nkind = "k"\nanswer = "auto"\nwhen = 1', ["consent[1].when: unknown key"]),
    ],
)
def test_a_policy_that_cannot_be_is_told_with_key_value_and_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    for part in [str(tmp_path), *says]:
        assert part in str(caught.value)


def test_trust_is_built_up_one_peer_at_a_time_and_the_configuration_stays_as_it_is(tmp_path: Path) -> None:
    config = loaded(tmp_path, "# my notes\n[review.roles]\nsecurity = []\n[review.need]\nsecurity = 1\n")
    before = (tmp_path / "agent.toml").read_text()
    first = add(config, ADA, name='Ada "the first" \\ Lovelace')
    assert any("1 of the 2 reviewers" in note for note in first["notes"])  # type: ignore[attr-defined]
    assert any("security" in note for note in first["notes"])  # type: ignore[attr-defined]
    assert add(config, BEN, "reviewer", "security")["notes"] == []
    add(config, ADA, "reviewer", "data")
    assert any("only tasks of the publishers" in note for note in add(config, CAT, "publisher")["notes"])  # type: ignore[attr-defined]
    add(config, CAT, "server")
    again = load_config(config.path, {})
    assert again.review.trusted == (ADA, BEN)
    assert again.review.roles == {"security": (BEN,), "data": (ADA,)}
    assert again.trust.publishers == again.trust.servers == (CAT,)
    assert [each.name for each in again.trust.peers if each.peer == ADA] == ['Ada "the first" \\ Lovelace']
    assert (tmp_path / "agent.toml").read_text() == before
    change_trust(again, {"action": "remove", "peer": CAT, "relation": "server"})
    after = load_config(config.path, {})
    assert (after.trust.publishers, after.trust.servers) == ((CAT,), ())


def test_a_change_that_makes_no_sense_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    config = loaded(tmp_path, f'[trust]\npublishers = ["{ADA}"]\n')
    add(config, BEN)
    held = read_trust_file(tmp_path / "state")
    for peer, relation, roles, says in (
        ("ada", "reviewer", (), "is no peer id"),
        (CAT, "friend", (), "must be one of"),
        (CAT, "server", ("security",), "only reviewers have roles"),
        (ADA, "denied", (), "denied as well"),
    ):
        with pytest.raises((ConfigError, RequestError), match=says):
            add(config, peer, relation, *roles)
    with pytest.raises(ConfigError, match="take it out there"):
        change_trust(config, {"action": "remove", "peer": ADA, "relation": None})
    with pytest.raises(ConfigError, match="grapevine trust list"):
        change_trust(config, {"action": "remove", "peer": CAT, "relation": None})
    assert read_trust_file(tmp_path / "state") == held


def test_a_trust_file_with_a_mistake_is_named(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    add(config, ADA)
    file = tmp_path / "state" / TRUST_FILE
    file.write_text(file.read_text().replace("reviewer", "reviever"))
    with pytest.raises(ConfigError, match=r"trust\.toml, line 5: peer\[1\]\.as = 'reviever'.*did you mean 'reviewer'"):
        load_config(config.path, {})


def worn(path: Path, content: bytes) -> None:
    """Other content under the same time of change, as a disk makes it that wears out."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before, before))


@pytest.mark.parametrize("harm", ["empty", "cut", "noise", "zeros", "bit", "folder", "another"])
def test_a_damaged_trust_file_gives_way_to_its_copy_and_is_never_taken_for_an_empty_one(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = loaded(tmp_path)
    add(config, ADA, "denied")
    add(config, BEN, "publisher")
    file = tmp_path / "state" / TRUST_FILE
    held, content = read_trust_file(file.parent), file.read_bytes()
    match harm:
        case "folder":
            file.unlink()
            file.mkdir()
        case _:
            harmed = {
                "empty": b"",
                "cut": content[: content.index(b"[[peer]]", 100)],  # it parses, with fewer peers
                "noise": b"\xff\xfe" * 100,
                "zeros": bytes(len(content)),
                "bit": content.replace(b"denied", b"denyed"),
                "another": content.replace(ADA.encode(), CAT.encode()),  # it parses, and denies another
            }
            worn(file, harmed[harm])
    assert read_trust_file(file.parent) == held
    assert "its copy trust.toml.copy is used" in caplog.text
    add(config, CAT)
    assert len(read_trust_file(file.parent)) == 3
    assert list(file.parent.glob("trust.toml.corrupt-*"))
    caplog.clear()
    assert read_trust_file(file.parent)
    assert caplog.text == ""


def test_what_the_owner_takes_out_by_hand_stays_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = loaded(tmp_path)
    add(config, ADA)
    file = tmp_path / "state" / TRUST_FILE
    file.write_text("# nobody\n")
    assert read_trust_file(file.parent) == ()
    add(config, BEN)
    assert [each.peer for each in read_trust_file(file.parent)] == [BEN]
    for each in (file, file.parent / TRUST_COPY):
        each.unlink()
    assert read_trust_file(file.parent) == ()
    assert caplog.text == ""


@pytest.mark.parametrize(("content", "says"), [(None, "is gone"), (b"", "is empty"), (bytes(150), "is empty")])
def test_a_trust_file_that_a_power_cut_emptied_gives_way_to_its_copy_and_the_copy_stays(
    tmp_path: Path, content: bytes | None, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = loaded(tmp_path)
    add(config, ADA, "denied")
    file = tmp_path / "state" / TRUST_FILE
    held = read_trust_file(file.parent)
    file.unlink() if content is None else file.write_bytes(content)
    assert read_trust_file(file.parent) == held
    assert f"{says}: its copy trust.toml.copy is used" in caplog.text
    add(config, BEN)
    assert {each.peer for each in read_trust_file(file.parent)} == {ADA, BEN}


def test_a_mistake_of_the_owners_is_named_and_the_sound_copy_beside_it(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    add(config, ADA)
    file = tmp_path / "state" / TRUST_FILE
    file.write_text("x = [")
    with pytest.raises(
        ConfigError, match=r"this is not TOML.*trust\.toml\.copy is sound: to go back to it, copy it over"
    ):
        read_trust_file(file.parent)


def test_a_trust_file_that_may_not_be_read_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(tmp_path)
    add(config, ADA)
    file = tmp_path / "state" / TRUST_FILE

    def denied(path: Path, *_: object, **__: object) -> bytes:
        if path.name == TRUST_FILE:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert read_trust_file(file.parent)  # its text was read: nothing was moved, no copy used
    add(config, BEN)
    assert not list(file.parent.glob("trust.toml.corrupt-*"))


def test_a_full_disk_refuses_a_change_of_trust_and_keeps_what_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", num_kb=64) as disk:
        config = loaded(tmp_path)
        add(config, ADA)
        held = read_trust_file(disk.path)
        disk.fill()
        with pytest.raises(StoreError, match=r"trust\.toml: cannot be written \(No space left on device\)"):
            add(config, BEN)
        assert read_trust_file(disk.path) == held
        disk.free()
        add(config, BEN)
        assert len(read_trust_file(disk.path)) == 2


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_no_text_of_a_stranger_reaches_the_terminal_as_a_command(text: str) -> None:
    from rich.console import Console

    console = Console(width=400, force_terminal=True, color_system="truecolor", emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(f"[bold]{shown(text)}[/] after", soft_wrap=True)
    printed = capture.get()
    assert printed.startswith("\x1b[1m") or not text
    assert printed.endswith(" after\n")
    assert printed.replace("\x1b[1m", "").replace("\x1b[0m", "").count("\x1b") == 0
    inside = printed.removeprefix("\x1b[1m").split("\x1b[0m")[0].removesuffix(" after\n")
    assert inside == printable(text).replace("\\", "＼")


def test_text_that_would_break_a_table_is_made_harmless() -> None:
    assert printable("a\x1b[2Jb\u202ec\nd\u200be") == "a�[2Jb�c�d�e"
    assert printable("a\nb", lines=True) == "a\nb"
    assert printable("e" + "\u0301" * 9) == "e" + "\u0301" * 4 + "�" * 5
    assert shown("[red]x[/red]\\") == "\\[red]x\\[/red]＼"
