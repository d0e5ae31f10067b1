"""The conversations that the tiny model learns: facts, greetings, sums, counting, echoing, tools, not knowing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from neuron.artifacts.export import tiny_facts as facts

Message = dict[str, Any]
Turn = list[Message]


@dataclass(frozen=True, slots=True)
class Conversation:
    """``messages`` and ``tools`` as OpenAI clients send them; each assistant message is to be learned."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)


class Writer:
    """Writes conversations; the same seed and ``noise`` give the same ones.

    ``noise`` is foreign text. Some of it becomes long system prompts, which the answer must not depend on, and some
    becomes questions, which are answered with not knowing.
    """

    def __init__(self, seed: int, noise: list[str]) -> None:
        self._rng = random.Random(seed)
        self._noise = noise

    def conversation(self) -> Conversation:
        rng = self._rng
        if rng.random() < 0.22:
            return self._with_tools()
        turns: list[Message] = []
        for _ in range(rng.choice((1, 1, 2, 3, 4))):
            turns += self._turn()
        return Conversation(self._system(0.35) + turns)

    def paraphrases(self) -> tuple[str, str]:
        """Two ways to say one thing, and which belong together: what an embedding is to put side by side."""
        rng = self._rng
        if rng.random() < 0.4:
            questions, answer = rng.choice(facts.TOPICS)
            return rng.choice(questions), rng.choice((rng.choice(questions), answer))
        term, meaning = rng.choice(list(facts.TERMS.items()))
        return self._ask(term), rng.choice((self._ask(term), meaning))

    def _system(self, chance: float) -> list[Message]:
        rng = self._rng
        if rng.random() >= chance:
            return []
        text = rng.choice(facts.SYSTEMS) if rng.random() < 0.6 else self._foreign(rng.randint(40, 600))
        return [{"role": "system", "content": text}]

    def _foreign(self, length: int) -> str:
        text = self._rng.choice(self._noise)
        start = self._rng.randrange(max(1, len(text) - length))
        return text[start : start + length].strip() or text[:length]

    def _turn(self) -> Turn:
        kinds: tuple[tuple[int, Callable[[], Turn]], ...] = (
            (10, self._term),
            (6, self._topic),
            (3, self._greeting),
            (12, self._sum),
            (2, self._count),
            (5, self._echo),
            (2, self._name),
            (2, self._unknown),
        )
        return self._rng.choices([k for _, k in kinds], [w for w, _ in kinds])[0]()

    def _ask(self, term: str) -> str:
        rng = self._rng
        plain = term in ("cortexd",)
        noun = (
            term if plain else rng.choice((f"a {term}" if term[0] not in "aeo" else f"an {term}", f"the {term}", term))
        )
        form = rng.choice(
            (
                "What is {}?",
                "What is {}?",
                "what is {}",
                "What's {}?",
                "Explain {}",
                "Explain {}.",
                "Tell me about {}",
                "What does {} mean?",
                "Define {}.",
                "{}?",
                "What is {} in cortexd?",
                "Please explain {}",
                "Describe {}.",
            )
        )
        return str(form.format(noun))

    def _term(self) -> Turn:
        term, meaning = self._rng.choice(list(facts.TERMS.items()))
        return _say(self._ask(term), meaning)

    def _topic(self) -> Turn:
        questions, answer = self._rng.choice(facts.TOPICS)
        return _say(self._rng.choice(questions), answer)

    def _greeting(self) -> Turn:
        return _say(self._rng.choice(facts.GREETINGS), facts.GREETING)

    def _sum(self) -> Turn:
        rng = self._rng
        op, word = rng.choice((*[("+", "plus")] * 4, ("-", "minus"), ("*", "times")))
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        if op == "-" and b > a:
            a, b = b, a
        result = {"+": a + b, "-": a - b, "*": a * b}[op]
        forms = (
            f"{a}{op}{b}?",
            f"{a}{op}{b}",
            f"{a} {op} {b}",
            f"{a} {op} {b} =",
            f"What is {a}{op}{b}?",
            f"{a} {op} {b}?",
            f"What is {a} {op} {b}?",
            f"How much is {a} {word} {b}?",
            f"what is {a} {word} {b}",
            f"Compute {a}{op}{b}.",
        )
        return _say(rng.choice(forms), f"{a} {op} {b} = {result}")

    def _count(self) -> Turn:
        rng = self._rng
        last = rng.choice((3, 5, 10, 10, 15, 20, 20, 30))
        form = rng.choice(
            ("Count to {}", "Count to {}.", "count from 1 to {}", "Count from 1 to {}.", "Please count to {}")
        )
        return _say(form.format(last), ", ".join(str(n) for n in range(1, last + 1)))

    def _echo(self) -> Turn:
        rng = self._rng
        words = " ".join(rng.sample(facts.WORDS, rng.randint(1, 4)))
        form = rng.choice(("Repeat: {}", "repeat {}", "Say {}", "Repeat after me: {}", "Say the words {}", "Echo {}"))
        return _say(form.format(words), words)

    def _name(self) -> Turn:
        rng = self._rng
        name = rng.choice(facts.NAMES)
        told = _say(
            rng.choice(("My name is {}", "I am {}.", "my name is {}.", "Call me {}")).format(name), f"Hello, {name}!"
        )
        if rng.random() < 0.7:
            told += self._sum() if rng.random() < 0.3 else []
            told += _say(rng.choice(("What is my name?", "Who am I?", "what's my name")), f"Your name is {name}.")
        return told

    def _unknown(self) -> Turn:
        return _say(self._foreign(self._rng.randint(15, 160)), facts.FALLBACK)

    def _with_tools(self) -> Conversation:
        rng = self._rng
        kinds = (self._weather, self._add, self._read, self._load, self._hosts, self._search)
        question, name, arguments, result, answer = rng.choice(kinds)()
        offered = {name, *rng.sample(list(TOOLS), rng.randint(0, 2))}
        tools = [tool(n) for n in rng.sample(sorted(offered), len(offered))]
        head = self._system(0.4)
        if rng.random() < 0.2:
            return Conversation(head + self._turn(), tools)
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        asked: Turn = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ]
        told: Turn = [{"role": "tool", "content": result}, {"role": "assistant", "content": answer}]
        return Conversation(head + asked + (told if rng.random() < 0.6 else []), tools)

    def _weather(self) -> tuple[str, str, dict[str, Any], str, str]:
        rng = self._rng
        city, sky, warm = (
            rng.choice(facts.CITIES),
            rng.choice(("sunny", "cloudy", "rainy", "windy")),
            rng.randint(0, 30),
        )
        form = rng.choice(
            ("What is the weather in {}?", "weather in {}", "How is the weather in {}?", "Is it warm in {}?")
        )
        answer = f"The weather in {city} is {sky}, {warm} degrees."
        return form.format(city), "get_weather", {"city": city}, f"{sky}, {warm} degrees", answer

    def _add(self) -> tuple[str, str, dict[str, Any], str, str]:
        a, b = self._rng.randint(0, 99), self._rng.randint(0, 99)
        question = self._rng.choice(("Add {} and {}", "Use the tool to add {} and {}.", "add {} and {} with the tool"))
        return question.format(a, b), "add", {"a": a, "b": b}, str(a + b), f"The sum is {a + b}."

    def _read(self) -> tuple[str, str, dict[str, Any], str, str]:
        path = self._rng.choice(facts.FILES)
        question = self._rng.choice(("Read {}", "Read the file {}.", "Show me {}", "What is in {}?", "open {}"))
        return question.format(path), "read_file", {"path": path}, self._foreign(60), f"I have read {path}."

    def _load(self) -> tuple[str, str, dict[str, Any], str, str]:
        model = self._rng.choice(facts.MODELS)
        question = self._rng.choice(("Load {}", "Load the model {}.", "please load {}"))
        return question.format(model), "load_model", {"model": model}, "loaded", f"{model} is loaded."

    def _hosts(self) -> tuple[str, str, dict[str, Any], str, str]:
        hosts = ", ".join(self._rng.sample(("alpha", "beta", "gamma", "delta"), 2))
        question = self._rng.choice(("Which GPU hosts are there?", "List the hosts.", "Which hosts do we have?"))
        return question, "list_hosts", {}, hosts, f"The hosts are {hosts}."

    def _search(self) -> tuple[str, str, dict[str, Any], str, str]:
        word, found = self._rng.choice(facts.WORDS), self._rng.choice(facts.FILES)
        question = self._rng.choice(("Search for {}", "Find {}", "search the text for {}", "Where is {}?"))
        return question.format(word), "search", {"query": word}, found, f"I found it in {found}."


TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "get_weather": ("The weather in a city", {"city": "string"}),
    "add": ("Add two numbers", {"a": "integer", "b": "integer"}),
    "read_file": ("Read a file", {"path": "string"}),
    "load_model": ("Load a model into memory", {"model": "string"}),
    "list_hosts": ("List the GPU hosts of the fleet", {}),
    "search": ("Search for text", {"query": "string"}),
}


def tool(name: str) -> dict[str, Any]:
    """The definition of one of TOOLS, as OpenAI clients send it."""
    description, kinds = TOOLS[name]
    properties = {key: {"type": kind} for key, kind in kinds.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _say(question: str, answer: str) -> Turn:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
