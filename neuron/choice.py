"""One answer of a request: the tokens that the device sends become protocol events."""

from __future__ import annotations

from collections import deque

from cortexd.protocol.events import Event, FinishReason, PartEnded, PartStarted, ReasoningDelta, TokenLogprob
from neuron.artifacts.reasoning import ReasoningSplitter
from neuron.artifacts.tokenizer import Tokenizer
from neuron.artifacts.tool_calls import ToolCallParser
from neuron.device.jobs import GenerationEnded, GenerationFailed, GenerationSpec, TokenProduced
from neuron.engine.detokenize import Detokenizer, StepText


class Choice:
    """Made with the request; ``end`` is its last event once that has come. ``echo`` is said before the answer."""

    def __init__(
        self,
        index: int,
        spec: GenerationSpec,
        tokenizer: Tokenizer,
        *,
        tools: bool,
        echo: str | None = None,
        reasoning: ReasoningSplitter | None = None,
    ) -> None:
        self.index = index
        self.spec = spec
        self.end: GenerationEnded | GenerationFailed | None = None
        self._tokenizer = tokenizer
        marked = tools or reasoning is not None  # the marks that a parser looks for may be special tokens
        self._text = Detokenizer(StepText(tokenizer.step(skip_special_tokens=not marked)), spec.sampling.stop)
        self._parser = ToolCallParser(spec.request_id, enabled=tools, choice=index)
        self._echo = echo
        self._reasoning = reasoning or ReasoningSplitter(enabled=False)
        self._reasoning_part: int | None = None  # while it is open
        self.reasoning_tokens = 0
        self._told: deque[tuple[int, TokenLogprob]] = deque()  # with the place in the text where the token begins

    @property
    def stopped(self) -> str | None:
        """The stop string that was found: what follows is not wanted."""
        return self._text.stopped

    @property
    def reason(self) -> FinishReason:
        """Why it ended."""
        if self._parser.calls:
            return "tool_calls"
        length = isinstance(self.end, GenerationEnded) and self.end.reason == "length"
        return "length" if length and self.stopped is None else "stop"

    def begin(self) -> list[Event]:
        """What it says before the first token."""
        return self._parser.push(self._echo) if self._echo else []

    def push(self, event: TokenProduced) -> list[Event]:
        """What this token completes."""
        if self.stopped is not None:
            return []
        if event.logprobs is not None:
            top = tuple(self._logprob(token, value) for token, value in event.logprobs.top)
            self._told.append((self._text.received, self._logprob(event.token, event.logprobs.chosen, top)))
        within = self._reasoning.inside
        events = self._say(*self._reasoning.push(self._text.push(event.token)))
        self.reasoning_tokens += within or self._reasoning.inside
        return events

    def finish(self, end: GenerationEnded | GenerationFailed) -> list[Event]:
        """What was held back, and the ends of open parts."""
        self.end = end
        if isinstance(end, GenerationFailed):
            return [*self._end_reasoning(), *self._parser.finish()]
        events = self._say(*self._reasoning.push(self._text.finish()))
        events += self._say(*self._reasoning.finish())
        return [*events, *self._end_reasoning(), *self._parser.finish()]

    def _say(self, reasoning: str, content: str) -> list[Event]:
        events: list[Event] = []
        if reasoning:
            if self._reasoning_part is None:
                self._reasoning_part = self._parser.skip_part()
                events.append(PartStarted(self._reasoning_part, "reasoning", choice=self.index))
            events.append(ReasoningDelta(reasoning, self.index))
        if self._reasoning.content_from is not None:
            events += [*self._end_reasoning(), *self._parser.push(content, self._shown())]
        return events

    def _end_reasoning(self) -> list[Event]:
        part, self._reasoning_part = self._reasoning_part, None
        return [] if part is None else [PartEnded(part, self.index)]

    def _shown(self) -> tuple[TokenLogprob, ...]:
        """Logprobs of the tokens that begin in what was shown by now: a stop string takes its own tokens along."""
        found = []
        rest = self.end is not None and self.stopped is None
        while self._told and (rest or self._told[0][0] < self._text.shown):
            at, told = self._told.popleft()
            # those of reasoning and its marks are dropped with it
            if at >= (self._reasoning.content_from or 0):
                found.append(told)
        return tuple(found)

    def _logprob(self, token: int, value: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        said, data = self._tokenizer.piece(token)
        return TokenLogprob(said, value, data, top)
