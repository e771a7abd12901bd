"""An OpenAI-compatible chat server as a policy: for evaluation, and for what a teacher would do.

    endpoint:http://127.0.0.1:8000/v1#Qwen/Qwen2.5-Coder-7B-Instruct

A view is cut at the marks of ChatML, in which it is rendered, into the messages that are sent; the
answer is encoded by our tokenizer, calls of the server's own form as the template writes them. So
window, records and metered tokens are those of our tokenizer, the same for all endpoints; what the
server itself counts (`Usage` in `train/servers/chat.py`) is kept beside them. It tells no
log-probs: such episodes can be compared, shown and learned from as demonstrations, not trained on
off-policy. An episode whose requests failed again and again is the machine's failure, played anew
or marked unscorable.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from envs.errors import UserError
from envs.files import hash_text
from envs.records import Ids, Sample, ToolCall, View
from envs.rendering import ChatFormat
from train.servers.chat import Answer, Endpoint, Usage
from train.servers.transport import is_loopback, new_client

_MARK = "<|im_start|>"
_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "user"}
"""By what templates call them; a server takes results of `tool` for calls of its own form alone."""


class EndpointSampler:
    """Samples the turns of episodes from an endpoint; for one event loop, as `Sampler` says.

    Args:
        endpoint: Where it asks.
        chat: Encodes and decodes; its template is ChatML.
        max_new_tokens: Most tokens of a turn, by the server's count and by ours.
        max_rows: Most requests at once.
        greedy: Ask for the likeliest token.
        system: What the server is told in the place of the view's system prompt, if anything.
        kept: Answers by `name_request`, such as those of an interrupted command: they are not asked
            for again. Grows, since an episode that the machine broke is played anew.
        on_answer: Called with the name of a request, its answer, and what it was charged.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        chat: ChatFormat,
        *,
        max_new_tokens: int,
        max_rows: int,
        greedy: bool = False,
        system: str | None = None,
        kept: dict[str, Answer] | None = None,
        on_answer: Callable[[str, Answer, Usage], None] = lambda name, answer, charge: None,
    ) -> None:
        self.max_rows, self.in_waves = max_rows, False
        self.chat, self.max_new_tokens = chat, max_new_tokens
        self._endpoint, self._temperature, self._system = endpoint, 0.0 if greedy else 1.0, system
        self._kept, self._on_answer = kept if kept is not None else {}, on_answer

    async def __aenter__(self) -> Self:
        self._client = new_client(
            max_connections=self.max_rows,
            limit_s=self._endpoint.limit_s,
            proxies=not is_loopback(self._endpoint.url),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def join(self, num_workers: int) -> None:
        """See `Sampler`: nobody is waited for."""

    def leave(self) -> None:
        """See `Sampler`."""

    def forget(self, seed: int) -> None:
        """See `Sampler`: nothing is kept."""

    def policy(self, *, seed: int, group: str) -> "EndpointPolicy":
        """Return what plays an episode."""
        del group
        return EndpointPolicy(self, seed=seed)

    async def answer(self, view: View, *, seed: int, turn: int) -> Answer:
        """Return what the server says to a view; what it said before is not asked again."""
        messages = split_messages(view.prompt_ids, self.chat)
        if self._system is not None:
            messages[0] = {"role": "system", "content": self._system}
        name = name_request(messages, seed=seed, turn=turn)
        if (known := self._kept.get(name)) is not None:
            return known
        answer = await self._endpoint.complete(
            self._client,
            {
                "messages": messages,
                "max_tokens": self.max_new_tokens,
                "temperature": self._temperature,
                "top_p": 1.0,
                "seed": seed % 2**31,
            },
        )
        charge = self._charge(answer, num_prompt=len(view.prompt_ids))
        self._endpoint.usage.add(charge)
        self._on_answer(name, answer, charge)
        self._kept[name] = answer
        return answer

    def encode(self, answer: Answer) -> tuple[Ids, bool]:
        """Return an answer in our tokens, and whether it was cut."""
        ids = encode_answer(answer, self.chat)
        is_cut = answer.is_cut or len(ids) > self.max_new_tokens
        return (ids[:-1] if is_cut else ids)[: self.max_new_tokens], is_cut

    def _charge(self, answer: Answer, *, num_prompt: int) -> Usage:
        told = answer.prompt_tokens
        return Usage(
            num_requests=1,
            num_uncounted=int(told is None),
            prompt_tokens=num_prompt if told is None else told,
            completion_tokens=(
                len(self.encode(answer)[0]) if told is None else answer.completion_tokens
            ),
        )


class EndpointPolicy:
    """One attempt at an episode.

    Args:
        sampler: Shared by all.
        seed: Passed on; a server may ignore it.
    """

    def __init__(self, sampler: EndpointSampler, *, seed: int) -> None:
        self._sampler, self._seed, self._num_turns = sampler, seed, 0

    async def act(self, view: View) -> Sample:
        """Send the conversation, and return the answer in our tokens."""
        answer = await self._sampler.answer(view, seed=self._seed, turn=self._num_turns)
        self._num_turns += 1
        ids, is_cut = self._sampler.encode(answer)
        return Sample(
            token_ids=ids,
            sampling_logps=(0.0,) * len(ids),
            finish="length" if is_cut else "stop",
        )


def name_request(messages: Sequence[Mapping[str, str]], *, seed: int, turn: int) -> str:
    """Return what tells the request of one turn of one episode from all others."""
    return hash_text(json.dumps([seed, turn, list(messages)], sort_keys=True))[:32]


def split_messages(prompt_ids: Ids, chat: ChatFormat) -> list[dict[str, str]]:
    """Return the messages of a view in ChatML, without the turn that it asks for.

    It is cut at the ids of the marks: a text that only looks like one stays inside its message.
    """
    messages, start = [], 0
    for place, token in enumerate(prompt_ids):
        if token == chat.eot_id:
            _, _, text = chat.decode(prompt_ids[start:place]).partition(_MARK)
            role, _, content = text.partition("\n")
            assert role in _ROLES, f"no view in ChatML: {text[:40]!r}"
            messages.append({"role": _ROLES[role], "content": content})
            start = place + 1
    return messages


def encode_answer(answer: Answer, chat: ChatFormat) -> Ids:
    """Return an answer as a model would have sampled it, end-of-turn included.

    Calls of the server's own form are written as the template would; arguments that are no object
    stay as they are, for the reader of calls to judge.
    """
    ids = chat.encode(answer.text)
    for name, text in answer.calls:
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            ids += chat.call_ids([ToolCall(name=name, arguments=arguments)])[:-1]
        else:
            ids += chat.encode(f'<tool_call>{{"name": "{name}", "arguments": {text}}}</tool_call>')
    return (*ids, chat.eot_id)


def check_chatml(chat: ChatFormat) -> None:
    """Refuse a template whose views cannot be cut into messages.

    Raises:
        UserError: It is not in ChatML.
    """
    parts = chat.surround_results(["submit"])
    ids = chat.prefix(system="a", user="b") + chat.call_ids([ToolCall(name="submit")])
    ids += parts.head + chat.encode_result("c") + parts.tail
    try:
        roles = [message["role"] for message in split_messages(ids, chat)]
    except AssertionError:
        roles = []
    if roles != ["system", "user", "assistant", "user"]:
        raise UserError(
            "a teacher is shown views in ChatML, which this run's chat template does not write",
            remedy="--model.chat_template chatml",
        )
