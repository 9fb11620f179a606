"""One demo with everything around it: a folder, a broker, an onlooker, processes; and all of it put away again.

Whatever goes wrong on the way (a process that dies, a broker that is lost, Ctrl-C), every process is
ended and the folder is removed before `run_demo` returns or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker import start_broker
from grapevine_lab.demo.cast import make_cast
from grapevine_lab.demo.children import ChildDiedError, Children
from grapevine_lab.demo.display import Voice
from grapevine_lab.demo.guarding import guarded
from grapevine_lab.demo.listening import Listener
from grapevine_lab.demo.login import with_login
from grapevine_lab.demo.plan import ROOT_PREFIX, DemoError, DemoPlan
from grapevine_lab.demo.report import EXTERNAL, Report
from grapevine_lab.demo.samples import write_shares
from grapevine_lab.demo.story import Story
from grapevine_proto.errors import BrokerError

LOG_FOLDER = "logs"
SETTLE_S = 0.5  # within which a broker has dealt with the last goodbyes


async def run_demo(plan: DemoPlan, voice: Voice) -> Report:
    """Run the whole demo and return what it found.

    Raises:
        DemoError: It could not be run to its end. Logs are in `plan.out` then.
        BrokerError: There is no broker.
    """
    started_s = time.monotonic()
    with _workplace(plan, voice) as folder:
        async with _broker(plan, voice) as broker:
            shares = await asyncio.to_thread(write_shares, folder, plan.num_peers, plan.seed)
            root = ROOT_PREFIX + secrets.token_hex(4)  # a broker of somebody's may hold an earlier demo's records
            cast = make_cast(folder, broker=broker, root=root, shares=shares)
            listener = Listener(broker, root, [actor.peer_id for actor in cast.agents])
            async with (
                _listening(listener, erase=bool(plan.broker_url)) as listening,
                _children(folder, plan, broker, voice) as children,
            ):
                story = Story(plan=plan, voice=voice, folder=folder, cast=cast, listener=listener, children=children)
                watching = asyncio.create_task(children.watch(), name="watch")
                try:
                    findings = await guarded(story.tell(), [listening, watching])
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
    return findings.to_report(
        total_s=time.monotonic() - started_s,
        seed=plan.seed,
        broker_engine=EXTERNAL if plan.broker_url else plan.engine,
        broker_url=str(broker.without_credentials()),
        with_server=plan.with_server,
    )


@contextlib.contextmanager
def _workplace(plan: DemoPlan, voice: Voice) -> Iterator[Path]:
    """A folder for keys, configurations, data, models and logs."""
    folder = Path(tempfile.mkdtemp(prefix="grapevine-demo-"))
    try:
        yield folder
    finally:
        if plan.keep:
            voice.say(f"keys, configurations, models and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _broker(plan: DemoPlan, voice: Voice) -> AsyncIterator[BrokerUrl]:
    """The broker that was named, or one of our own for as long as the demo takes."""
    if plan.broker_url:
        url = with_login(BrokerUrl.parse(plan.broker_url), os.environ)
        voice.say(f"using the broker at {url.without_credentials()}")
        yield url
        return
    # Not cancelled half-way: a broker that is just being started would be lost sight of.
    starting = asyncio.create_task(asyncio.to_thread(start_broker, plan.engine))
    try:
        broker = await asyncio.shield(starting)
        voice.say(f"an MQTT broker of our own listens at {broker.url}")
        yield BrokerUrl.parse(broker.url)
    finally:
        with contextlib.suppress(BrokerError):  # it never started: that error is on its way already
            broker = await starting
            await asyncio.to_thread(broker.stop)


@contextlib.asynccontextmanager
async def _listening(listener: Listener, *, erase: bool) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(listener.run(), name="listener")
    try:
        yield running
    finally:
        if erase and listener.connected.is_set():
            with contextlib.suppress(BrokerError, TimeoutError):
                await asyncio.sleep(SETTLE_S)
                await listener.erase_records()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def _children(folder: Path, plan: DemoPlan, broker: BrokerUrl, voice: Voice) -> AsyncIterator[Children]:
    logs = folder / LOG_FOLDER
    logs.mkdir()
    environment = {"TMPDIR": str(folder)}  # PyTorch leaves things there
    if broker.password:
        environment["GRAPEVINE_MQTT_PASSWORD"] = broker.password
    children = Children(logs, environment)
    try:
        yield children
    except (DemoError, OSError) as error:
        if not children.num_started:
            raise  # there are no logs that could tell more
        await children.end_all()
        kept = plan.out / LOG_FOLDER
        children.keep_logs(kept)
        what = str(error) if isinstance(error, ChildDiedError) else f"the demo failed: {error}"
        raise DemoError(f"{what}\n(the logs of all processes are in {kept})") from error
    finally:
        if children.num_started:
            voice.say("every process says goodbye and ends")
            await children.end_all()
