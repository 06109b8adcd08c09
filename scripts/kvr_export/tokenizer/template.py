"""Chat templates as prefixes and suffixes."""

import sys
from typing import Callable

import jinja2.sandbox

from ..refused import one_line

Render = Callable[..., str]  # of turns, each a role and its content


def reduce_template(
    text: str, bos: str | None, eos: str | None, adds_bos: bool = False
) -> dict | None:
    """The template as a prefix and a suffix for each role, found by rendering probes and proved by
    rendering conversations; None, with a warning, when that is not what the template does."""
    try:
        render = renderer(text, bos, eos)
        spec = probe(render)
        prove(spec, render)
    except Exception as error:  # a template is a program, and may fail in any way
        print("warning: the chat template is left out: it can't be written as prefixes and suffixes "
              f"({one_line(error, 200)})", file=sys.stderr)
        return None
    # The program's Encode adds the beginning-of-text token; transformers does not to a template's
    # text, which has its own.
    spec["strip"] = bos if adds_bos and bos else ""
    return spec


def renderer(text: str, bos: str | None, eos: str | None) -> Render:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    template = environment.from_string(text)

    def render(*turns: tuple[str, str], opened: bool = False) -> str:
        messages = [{"role": r, "content": c} for r, c in turns]
        return template.render(
            messages=messages, add_generation_prompt=opened, bos_token=bos or "",
            eos_token=eos or "",
        )

    return render


def probe(render: Render) -> dict:
    def around(whole: str, content: str, before: str) -> dict:
        prefix, found, suffix = whole.removeprefix(before).partition(content)
        if not whole.startswith(before) or not found:
            raise ValueError("a message changes what is written before it")
        return {"prefix": prefix, "suffix": suffix}

    begin = render()
    first = ("user", "\u2042one")
    asked = render(first)
    replied = render(first, ("assistant", "\u2042two"))
    roles = {"assistant": around(replied, "\u2042two", asked)}
    # After an answer a question has nothing but its own prefix; before it, maybe a default system
    # message.
    roles["user"] = around(render(first, ("assistant", "x"), ("user", "\u2042three")),
                           "\u2042three", render(first, ("assistant", "x")))
    head = asked.removeprefix(begin).removesuffix(
        roles["user"]["prefix"] + "\u2042one" + roles["user"]["suffix"]
    )
    default = None
    try:
        roles["system"] = around(render(("system", "\u2042sys")), "\u2042sys", begin)
    except jinja2.TemplateError:
        pass  # the template refuses system messages
    if head:
        system = roles.get("system")
        if not system or not head.startswith(system["prefix"]):
            begin, head = begin + head, ""
        else:
            default = head.removeprefix(system["prefix"]).removesuffix(system["suffix"])
    opened = render(first, opened=True).removeprefix(asked)
    return {"begin": begin, "default_system": default, "open_assistant": opened, "roles": roles}


def prove(spec: dict, render: Render) -> None:
    conversations = [
        [("user", " a \n")], [("user", "")], [("user", "a"), ("assistant", " b")],
        [("user", "a"), ("assistant", "b\n"), ("user", "c")],
        [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5")],
    ]
    if "system" in spec["roles"]:
        conversations += [[("system", " s "), *c] for c in conversations]
    for turns in conversations:
        for opened in (False, True):
            if render(*turns, opened=opened) != render_reduced(spec, turns, opened):
                raise ValueError(f"a conversation of {len(turns)} messages comes out otherwise")


def render_reduced(spec: dict, turns: list[tuple[str, str]], opened: bool) -> str:
    """As the program does it."""
    if spec["default_system"] is not None and turns[0][0] != "system":
        turns = [("system", spec["default_system"]), *turns]
    parts = (spec["roles"][r]["prefix"] + c + spec["roles"][r]["suffix"] for r, c in turns)
    return spec["begin"] + "".join(parts) + (spec["open_assistant"] if opened else "")
