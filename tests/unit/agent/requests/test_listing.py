"""What is listed of many tasks and verdicts: all that the owner has had to do with, and of strangers' the newest."""

from __future__ import annotations

from tests.unit.agent.core.tasks.device import ADA, BEN, Device

from grapevine_agent.requests.listing import MAX_STRANGERS, MAX_STRANGERS_VERDICTS, listed, shown
from grapevine_lab.bench import floods


def peer(number: int) -> str:
    return f"p{number:019d}"


def test_few_tasks_are_all_listed_in_the_order_in_which_they_were_heard_of() -> None:
    device = Device()
    tasks = [device.publish(peer(number), name=f"{number}") for number in range(5)]
    assert [entry.id for entry in listed(device.core)] == tasks


def test_of_many_strangers_tasks_the_newest_are_listed_and_never_read() -> None:
    device = Device()
    early = device.publish(peer(9_999), name="reviewed")
    device.approve(early, ADA)
    tasks = []
    for author, task, encoded in floods.manifests("chain", MAX_STRANGERS + 300, lambda number: peer(number // 90)):
        device.hear(floods.published(author, task, encoded))
        tasks.append(task)
    late = device.publish(peer(9_998), name="left")
    device.perform(device.core.set_consent(late, False, device.moment()))
    heads = device.core.book.opened.num_heads
    found = [entry.id for entry in listed(device.core)]
    assert found == [early, *tasks[-MAX_STRANGERS:], late]
    for task in tasks[-MAX_STRANGERS:]:
        device.why_not(task)
    assert device.core.book.opened.num_heads == heads


def test_of_many_verdicts_those_of_the_trusted_are_shown_and_of_others_the_newest() -> None:
    device = Device()
    task = device.publish()
    device.approve(task, ADA)
    for number in range(300):
        device.hear(floods.reviewed(peer(number), task))
    device.approve(task, BEN)
    verdicts = shown(device.core.book.reviews[task], {ADA, BEN})
    newest = [peer(number) for number in range(300 - MAX_STRANGERS_VERDICTS, 300)]
    assert list(verdicts) == [ADA, *newest, BEN]
