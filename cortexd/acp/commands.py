"""What the user may type as ``/NAME`` instead of a prompt. Anything else that begins with a slash goes to the model."""

from __future__ import annotations

from acp.schema import AvailableCommand, AvailableCommandInput, UnstructuredCommandInput

from cortexd.acp.session import Session

COMMANDS = (
    AvailableCommand(
        name="model",
        description="Show the models, or choose one",
        input=AvailableCommandInput(root=UnstructuredCommandInput(hint="endpoint:model")),
    ),
    AvailableCommand(name="clear", description="Forget the conversation, keep the session"),
)


async def run_command(session: Session, text: str) -> str | None:
    """What the user is told; None where ``text`` is no command. Raises StoreError."""
    name, _, rest = text.strip().partition(" ")
    match name:
        case "/model":
            if rest.strip():
                try:
                    choose_model(session, rest.strip())
                except ValueError as e:
                    return str(e)
                await session.save()
                return f"The model is {session.selected}."
            others = [f"- {model}" for model in session.models if model != session.selected]
            return "\n".join([f"The model is {session.selected}. There are also:", *others])
        case "/clear" if not rest.strip():
            session.history.clear()
            await session.forget()
            return "The conversation is forgotten."
        case _:
            return None


def choose_model(session: Session, selector: str) -> None:
    """``endpoint:model``, also one that no endpoint lists. Raises ValueError."""
    name, _, model = selector.partition(":")
    endpoint = session.config.endpoint(name)
    if endpoint is None or not model:
        known = ", ".join(e.name for e in session.config.endpoints)
        raise ValueError(f"{selector!r} is no ENDPOINT:MODEL; the endpoints are: {known}")
    session.choose(endpoint, model)
