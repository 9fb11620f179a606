"""[review], [trust] and [[consent]], the trust file beside them, and `grapevine trust`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.cli.output import shown
from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.config.review import policy_of
from grapevine_agent.config.trust_file import TRUST_FILE, read_trust_file
from grapevine_agent.core.settings import ConsentRule
from grapevine_agent.printable import printable
from grapevine_agent.requests.trusting import change_trust
from grapevine_proto.errors import ConfigError, RequestError

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
    with pytest.raises(ConfigError, match=r"trust\.toml: peer\[1\]\.as = 'reviever'.*did you mean 'reviewer'"):
        load_config(config.path, {})


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
