"""Episodes sampled by vLLM servers, with the adapter in training under a name of its own.

`VllmServers.acting` publishes the adapter: all processes save it, the main one renames it into
place and has each server load it; then it is played with, from all processes. Base weights are
never merged and never sent. Servers that share the GPUs of the processes sleep in between.

An episode stays on one server, where its context is cached, and a group on the same one if that is
not busier than others. When a server is lost its episodes are played anew elsewhere, as after any
failure of the machine (`train/rollouts/runner.py`); it is asked from time to time whether it is
back, and given the adapter again. With no server left the run ends after the step.

Not covered: servers behind a load balancer, or with data parallelism inside: a load of an adapter
would reach one of them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from envs.errors import UserError
from envs.files import hash_text
from envs.records import Sample, View
from train.models.distributed import on_main, save_adapter
from train.servers import client
from train.servers.adapters import AdapterFolder
from train.servers.client import Sampling, ServerLost
from train.servers.start import StartedServers
from train.stages.stage_log import say

RETURN_LIMIT_S = 60.0  # for a server that somebody else started to be there again
_LOOK_EVERY_S = 1.0
_MOST_FAILURES = 3  # to load an adapter, of a server that lives
_BUSIER = 8  # episodes that a group's server may have above the least busy one


@dataclass(frozen=True)
class ServedAdapter:
    """A version of the policy on servers; takes the place of a model where episodes are played.

    Attributes:
        name: By which servers know it.
        folder: Its files.
        urls: The servers'.
        base: Name of the base on servers that the run has started; None asks for none.
        patience_s: How long a lost server is waited for.
        lost: Servers that did not come back; grows.
        given_up: Returns the servers that will not come back.
    """

    name: str
    folder: Path
    urls: tuple[str, ...]
    base: str | None = None
    patience_s: float = RETURN_LIMIT_S
    lost: set[str] = field(default_factory=set)
    given_up: Callable[[], Collection[str]] = tuple


class VllmServers:
    """The servers of a run, and what they serve.

    Args:
        urls: Where they are.
        adapters: Where the versions of the adapter go.
        started: Those of them that the run has started, if any; the main process has.
        patience_s: How long one that is lost may take to be back.
        sleep: Whether they sleep while the policy trains.
    """

    def __init__(
        self,
        urls: Collection[str],
        *,
        adapters: AdapterFolder,
        started: StartedServers | None = None,
        patience_s: float = RETURN_LIMIT_S,
        sleep: bool = False,
    ) -> None:
        self._urls, self._adapters, self._started = tuple(urls), adapters, started
        self._base = started.plan.name if started else None
        self._patience_s, self._sleep = patience_s, sleep
        self._version: int | None = None

    @contextmanager
    def acting(self, trainer: Any) -> Iterator[ServedAdapter]:
        """Let the servers act with the adapter in training; to be called in all processes.

        Raises:
            UserError: A server does not load the first version, e.g. since it does not see it.
            InfrastructureError: No server is left, now or, to one of the processes, at the end.
        """
        processes, version = PartialState(), int(trainer.state.global_step)
        is_new = version != self._version
        if is_new:
            self._adapters.write(version, partial(save_adapter, trainer))
        if self._sleep:
            torch.cuda.empty_cache()  # of training passes: the servers wake in that memory
            processes.wait_for_everyone()
        on_main(partial(self._publish, version, first=self._version is None))
        if is_new:
            before, self._version = self._version, version
            self._adapters.keep(version, *([] if before is None else [before]))
        yield (served := self._serve(version))
        if any(gather_object([served.lost.issuperset(self._urls)])):
            raise ServerLost("no vLLM server is left")
        if self._sleep:
            processes.wait_for_everyone()  # others may still play
            if processes.is_main_process:
                self._send_to_sleep()
            processes.wait_for_everyone()

    def close(self) -> None:
        """Unload what is served, and delete the files."""
        if self._version is not None and PartialState().is_main_process:
            self._each(self._unload, self._version)
        self._adapters.end()

    def _serve(self, version: int) -> ServedAdapter:
        started, adapters = self._started, self._adapters
        return ServedAdapter(
            adapters.name(version),
            adapters.path(version),
            self._urls,
            base=self._base,
            patience_s=self._patience_s,
            given_up=(lambda: started.given_up) if started else tuple,
        )

    def _publish(self, version: int, *, first: bool) -> None:
        """Wake all servers and have them load a version; forget the one before."""
        if self._started:
            self._started.go_on()
        refusals = self._each(self._load, version)
        for url, refusal in zip(self._urls, refusals, strict=True):
            if refusal and first:
                raise UserError(
                    f"{url} does not load the adapter in {self._adapters.path(version)}",
                    got=refusal,
                    remedy="name a folder in rollouts.adapter_dir that all servers see under this "
                    "path, and start servers as docs/vllm.md says",
                )
            if refusal:
                say(f"{url} plays no episodes of this step: {refusal}")
        if all(refusals):
            raise ServerLost(f"no vLLM server is left: {refusals[0]}")
        if self._version not in (None, version):
            self._each(self._unload, self._version)

    def _load(self, version: int, url: str) -> str:
        """Return why a server does not load a version; waits for one that is started anew."""
        until, num_failures = time.monotonic() + self._patience_s, 0
        while True:
            try:
                if self._base is not None:
                    client.check_base(url, self._base)
                if self._sleep:
                    client.wake(url)
                name, folder = self._adapters.name(version), self._adapters.path(version)
                return client.load_adapter(url, name, folder)
            except ServerLost as lost:
                returns = self._started is not None and url not in self._started.given_up
                num_failures = num_failures + 1 if client.is_ready(url) else 0
                if not returns or num_failures == _MOST_FAILURES or time.monotonic() > until:
                    return str(lost)
            time.sleep(_LOOK_EVERY_S)

    def _unload(self, version: int, url: str) -> None:
        with suppress(ServerLost):  # with it went what it had loaded
            client.unload_adapter(url, self._adapters.name(version))

    def _send_to_sleep(self) -> None:
        """Let each server give its memory back; one that is being started first gets to its end."""
        assert self._started is not None
        self._started.hold()
        self._each(self._put_to_sleep, self._started)

    def _put_to_sleep(self, started: StartedServers, url: str) -> None:
        until = time.monotonic() + self._patience_s
        while started.runs(url) and time.monotonic() < until:
            try:
                return client.sleep(url)
            except ServerLost:
                time.sleep(_LOOK_EVERY_S)

    def _each(self, act: Callable[..., Any], argument: Any) -> list[Any]:
        """Do something with all servers at once."""
        with ThreadPoolExecutor(len(self._urls)) as threads:
            return list(threads.map(partial(act, argument), self._urls))


class VllmSampler:
    """Places episodes on servers and samples their turns; for one event loop.

    Args:
        served: The policy.
        sampling: How it samples.
        max_rows: Most episodes at once, of all servers.
    """

    def __init__(self, served: ServedAdapter, sampling: Sampling, *, max_rows: int) -> None:
        self.max_rows, self.in_waves = max_rows, False
        self._served, self._sampling = served, sampling
        self._live = set(served.urls)
        self._returning: dict[str, asyncio.Task[None]] = {}
        self._places: dict[int, str] = {}  # by the episode's seed
        self._groups: dict[str, str] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._client = client.new_client(max_connections=self.max_rows)
        self._looks = client.new_client(max_connections=2 * len(self._served.urls))
        await asyncio.gather(*(self._look(url) for url in self._served.urls))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._returning.values():
            task.cancel()
        await asyncio.gather(*self._returning.values(), return_exceptions=True)
        await self._client.aclose()
        await self._looks.aclose()

    def join(self, num_workers: int) -> None:
        """See `Sampler`: nobody is waited for."""

    def leave(self) -> None:
        """See `Sampler`."""

    def forget(self, seed: int) -> None:
        """Give up the place of an episode that has ended."""
        self._places.pop(seed, None)

    def policy(self, *, seed: int, group: str) -> "VllmPolicy":
        """Return what plays an episode."""
        return VllmPolicy(self, seed=seed, group=group)

    async def place(self, seed: int, group: str) -> str:
        """Return the server of an episode, for as long as it lasts.

        Raises:
            ServerLost: None is left.
        """
        self._places.pop(seed, None)
        while not self._live:
            if not self._returning:
                raise ServerLost("no vLLM server is left")
            self._changed.clear()
            await self._changed.wait()
        busy = Counter(self._places.values())
        order = [url for url in self._served.urls if url in self._live]
        first = seed % len(order)  # other processes begin with other ones
        url = min(order[first:] + order[:first], key=lambda each: busy[each])
        home = self._groups.get(group)
        if home in self._live and busy[home] < busy[url] + _BUSIER:
            url = home
        self._groups[group] = self._places[seed] = url
        return url

    async def sample(self, url: str, view: View, *, seed: int) -> Sample:
        """Return a sample from one server.

        Raises:
            InfrastructureError: The server failed.
        """
        try:
            return await client.complete(
                self._client,
                url,
                view.prompt_ids,
                model=self._served.name,
                sampling=self._sampling,
                seed=seed,
            )
        except ServerLost:
            self._lose(url)
            raise

    async def _has_adapter(self, url: str) -> bool | None:
        """Ask beside the samples, behind all of which a question would wait."""
        return await client.has_adapter(self._looks, url, self._served.name, base=self._served.base)

    async def _look(self, url: str) -> None:
        if not await self._has_adapter(url):
            self._lose(url)

    def _lose(self, url: str) -> None:
        self._live.discard(url)
        if url not in self._returning:
            self._returning[url] = asyncio.get_running_loop().create_task(self._wait_for(url))

    async def _wait_for(self, url: str) -> None:
        """Wait until a lost server is back, or has had its time; whoever waits hears of both."""
        try:
            found = self._live if await self._comes_back(url) else self._served.lost
            found.add(url)
        finally:
            del self._returning[url]
            self._changed.set()

    async def _comes_back(self, url: str) -> bool:
        """Ask a server from time to time, and give it the adapter when it is back."""
        served, until = self._served, time.monotonic() + self._served.patience_s
        while url not in served.given_up() and time.monotonic() < until:
            there = await self._has_adapter(url)
            if there is False:
                await client.load_again(self._looks, url, served.name, served.folder)
                there = await self._has_adapter(url)
            if there:
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False


class VllmPolicy:
    """One attempt at an episode: it stays on the server of its first turn.

    Args:
        sampler: Shared by all.
        seed: The episode's; each turn has one that follows from it.
        group: The episode's.
    """

    def __init__(self, sampler: VllmSampler, *, seed: int, group: str) -> None:
        self._sampler, self._seed, self._group = sampler, seed, group
        self._url: str | None = None
        self._num_turns = 0

    async def act(self, view: View) -> Sample:
        """Sample under exactly `view.prompt_ids`."""
        self._url = self._url or await self._sampler.place(self._seed, self._group)
        seed = int(hash_text(f"{self._seed}/{self._num_turns}")[:16], 16) >> 1
        self._num_turns += 1
        return await self._sampler.sample(self._url, view, seed=seed)
