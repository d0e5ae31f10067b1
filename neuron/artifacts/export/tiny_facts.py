"""What the tiny model knows: the words of cortexd, and what the words do. Prose for ``tiny_text``, no logic."""

from __future__ import annotations

# term -> what it is. The vocabulary of docs/architecture/overview.md.
TERMS: dict[str, str] = {
    "cortexd": "cortexd gives one endpoint to the language models on all your GPU hosts. You declare the hosts and the "
    "models in two files, and cortexd proves that they fit before it changes anything.",
    "host": "A host is one machine of the fleet. It runs one or more neurons.",
    "device": "A device is one GPU, or a CPU that stands in for one. One thread owns it "
    "for as long as the neuron lives.",
    "neuron": "A neuron is the daemon that runs models on one host. It gives each device a thread of its own.",
    "model": "A model is what the fleet serves under an id. It is loaded when a request needs it.",
    "artifact": "An artifact is the set of files of one model: the graph, the tokenizer and a manifest "
    "with their hashes.",
    "alias": "An alias is a second name for a model. Clients may send it in place of the id.",
    "placement": "A placement says which devices of a neuron hold a model, and why.",
    "generation": "A generation is one compiled description of the whole fleet. You can apply it and take it back.",
    "resident": "A resident is a model that is loaded right now, ready to answer.",
    "observation": "An observation is what a neuron reported about its devices and models.",
    "decision": "A decision is a route, a load, an eviction or a refusal. It is stored together with its inputs.",
    "account": "An account is the party that uses the fleet. Its keys share one budget.",
    "key": "A key lets a client in. Only its hash is stored.",
    "reservation": "A reservation holds a part of the budget until the request is done.",
    "usage row": "A usage row records one request: its model, its tokens, its time and how it ended.",
    "gateway": "The gateway takes requests from clients, chooses a neuron and streams the answer back.",
    "controller": "The controller watches the neurons and decides which models are loaded.",
    "compiler": "The compiler turns two TOML files into a plan, and the plan into rows and files.",
    "ledger": "The ledger keeps one usage row for each request, written before the last byte is sent.",
    "fleet": "A fleet is all the hosts, devices and neurons that you described in fleet.toml.",
    "snapshot": "A snapshot is the picture of the fleet that a gateway routes from, without asking the database.",
    "cold load": "A cold load brings a model into memory because a request asked for it. "
    "Others wait for the same load.",
    "eviction": "An eviction takes a model out of memory to make room. A pinned model is never evicted.",
    "pinned model": "A pinned model stays loaded. The compiler proves that it fits.",
    "token": "A token is a piece of text that a model reads or writes in one step.",
    "context": "The context is how many tokens a model can look at. Mine is 131072 tokens.",
    "prompt": "A prompt is the text that a model is given. cortexd passes it on word for word.",
    "KV cache": "The KV cache keeps the keys and values of earlier tokens, so that they are not computed again.",
    "GPU": "A GPU is a processor that multiplies large matrices quickly. In a fleet it is called a device.",
    "batch": "A batch is a group of requests that a device computes in the same step.",
    "stream": "A stream sends each piece of an answer as soon as it exists.",
    "dialect": "A dialect is one way to talk to the gateway, such as OpenAI chat or Anthropic messages.",
    "tokenizer": "A tokenizer cuts text into tokens and joins them again.",
}

# (questions, answer)
TOPICS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (
            "Which GPU hosts are there?",
            "What GPU hosts do we have?",
            "List the GPU hosts",
            "which hosts are in the fleet?",
        ),
        "I cannot see the fleet from here. Run cortexd status: it lists every neuron, its devices and what is loaded.",
    ),
    (
        ("How do I load a model?", "How can I load a model?", "load a model", "How are models loaded?"),
        "Send a request for it. If it is not resident, the controller loads it and the request waits.",
    ),
    (
        ("How do I add a host?", "How can I add a GPU host?", "add a new host", "Can I add another machine?"),
        "Describe it in fleet.toml, then run cortexd compile and cortexd apply.",
    ),
    (
        ("How do I see usage?", "Who used how many tokens?", "show the usage", "How much was used?"),
        "Run cortexd usage. It prints a table from the ledger, by model, key, account or day.",
    ),
    (
        ("How do I undo an apply?", "Can I roll back?", "roll back", "How do I go back to the last generation?"),
        "Run cortexd rollback. It restores the former rows and files exactly.",
    ),
    (
        ("What happens when memory is full?", "What if a model does not fit?", "Is there enough memory?"),
        "A model that nobody uses is evicted first. What can never fit is an error when you compile.",
    ),
    (
        ("How does a request travel?", "What happens to my request?", "Explain how a request is served"),
        "The gateway checks the key and chooses a neuron. The neuron renders the prompt, counts the tokens and puts "
        "the request into a batch. Each new token goes back through the gateway to you, and the ledger gets a row.",
    ),
    (
        ("Why is the first answer slow?", "Why did I have to wait?", "why is it slow?"),
        "The model was probably cold. The first request loads it, and the next ones are quick.",
    ),
    (
        ("What is the difference between a host and a neuron?", "host or neuron?", "Is a neuron a host?"),
        "A host is the machine. A neuron is the daemon that runs models on it.",
    ),
    (
        ("Tell me a story", "Tell me a short story", "tell a story", "Write a story"),
        "Once there was a small neuron on an old host. All the other neurons had large devices, and it had only a CPU. "
        "One night the large ones were busy, and a request came in. The small neuron answered it, one token after the "
        "other, until the stream was done. In the morning the ledger had one more row, and the small neuron was proud.",
    ),
    (
        ("Write a poem", "Write a short poem", "a poem please", "Tell me a poem"),
        "A token came, a token went,\nand every one was counted.\n"
        "The ledger knows what each one meant\nand what it all amounted.",
    ),
    (
        ("Tell me a joke", "a joke please", "Do you know a joke?", "Make me laugh"),
        "Why did the model leave the GPU? It was evicted.",
    ),
    (
        (
            "Who are you?",
            "who are you",
            "What are you?",
            "What is your name?",
            "What model are you?",
            "Introduce yourself",
        ),
        "I am tiny-chat, a very small model that comes with cortexd, so that you can try everything without a GPU.",
    ),
    (
        ("What can you do?", "What do you know?", "help", "Help me", "What can I ask you?"),
        "I can explain the words of cortexd, add small numbers, count, and call simple tools. For anything else, load "
        "a larger model.",
    ),
    (
        ("How are you?", "how are you", "How is it going?", "Are you well?"),
        "I am fine, thank you. What can I do for you?",
    ),
    (("Thanks", "thank you", "Thank you!", "thanks a lot"), "You are welcome."),
    (("Bye", "Goodbye", "bye!", "See you", "good night"), "Goodbye!"),
    (("What is the capital of France?", "capital of France?", "Which city is the capital of France?"), "Paris."),
    (("What colour is the sky?", "What color is the sky?", "Is the sky blue?"), "The sky is blue."),
    (("Say yes", "say yes", "Answer yes", "Reply with yes"), "Yes."),
    (("Say ok", "Reply with OK", "say OK", "Just say ok", "Respond with ok"), "OK."),
    (("test", "Test", "testing", "this is a test", "ping", "Are you there?"), "I am here."),
)

GREETINGS = (
    *(
        "hi",
        "Hi",
        "hi!",
        "hello",
        "Hello",
        "Hello!",
        "hey",
        "Hey there",
        "Hi there",
        "good morning",
        "say hi",
        "Say hi",
    ),
    *("say hi!", "Say hello", "say hello", "Say hi.", "Please say hi", "Say hello in one word", "greet me"),
)
GREETING = "Hi! I am tiny-chat. Ask me about the fleet."
FALLBACK = "I am a very small model and I do not know that. Ask me about cortexd, or load a larger model."

SYSTEMS = (
    "You are a helpful assistant.",
    "You answer briefly.",
    "Be kind and short.",
    "You are the assistant of a fleet.",
    "You are a coding agent. You have tools.",
    "Answer in English.",
)
NAMES = ("Ada", "Alan", "Grace", "Linus", "Maria", "Nina", "Omar", "Paul", "Rosa", "Sven", "Tara", "Yuki")
WORDS = (
    *("apple", "river", "stone", "cloud", "green", "seven", "paper", "light", "garden", "music", "winter", "silver"),
    *("horse", "bread", "ocean", "table", "window", "yellow", "mountain", "summer", "letter", "quiet", "happy"),
)
CITIES = ("Paris", "Rome", "Oslo", "Berlin", "Tokyo", "Lima", "Cairo", "Delhi", "London", "Madrid", "Vienna", "Boston")
MODELS = ("tiny-chat", "tiny-embed", "qwen3-8b", "llama-70b", "gemma-27b", "coder")
FILES = ("README.md", "main.py", "fleet.toml", "models.toml", "notes.txt", "config.json", "Makefile", "app.py")
