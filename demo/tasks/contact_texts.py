"""Texts that carry contact details: signatures, mails, sentences, notes and forms."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .contact_people import FIRST_NAMES


@dataclass(frozen=True)
class Contact:
    """Contact details; None where the text does not give them."""

    name: str | None
    email: str | None
    phone: str | None
    company: str | None


_OPENINGS = (
    "Thanks for the quick reply.",
    "The meeting moved to {day} at {hour}.",
    "Please find the {thing} attached.",
    "Your {thing} {number} is ready.",
    "We would like {count} more copies of the {thing}.",
    "The {thing} arrives on {day}.",
    "I am writing about {thing} {number}.",
    "Could you confirm the {thing} by {day}?",
    "Sorry that I missed you on {day}.",
    "Room {count} is booked until {hour}.",
)
_THINGS = ("invoice", "order", "contract", "report", "quote", "parcel", "booking", "sample", "brochure")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "12 March", "3 June", "24 October")
_HOURS = ("9:30", "10 am", "14:00", "3 pm", "16:45")
_CLOSINGS = ("Best regards,", "Kind regards,", "Thanks,", "Best,", "Cheers,", "Sincerely,", "--")
_TITLES = ("Sales Manager", "Director", "Account Manager", "Head of Design", "Engineer", "Office Manager")


def _filler(rng: random.Random) -> str:
    """A sentence that holds no contact details, but dates and numbers that could be taken for some."""
    return rng.choice(_OPENINGS).format(
        day=rng.choice(_DAYS),
        hour=rng.choice(_HOURS),
        thing=rng.choice(_THINGS),
        number=rng.randint(1000, 99999),
        count=rng.randint(2, 40),
    )


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _signature(rng: random.Random, contact: Contact) -> str:
    greeting = f"Hi {rng.choice(FIRST_NAMES)},\n" if rng.random() < 0.5 else ""
    lines = [contact.company] if contact.company else []
    reach = [
        *([f"{rng.choice(('', '', 'Tel: ', 'Phone: ', 'T '))}{contact.phone}"] if contact.phone else []),
        *([f"{rng.choice(('', '', 'Email: ', 'E: '))}{contact.email}"] if contact.email else []),
    ]
    rng.shuffle(reach)
    separator = rng.choice(("\n", "\n", " | "))
    if contact.name:
        title = f", {rng.choice(_TITLES)}" if rng.random() < 0.3 else ""
        lines.insert(0, contact.name + title)
    else:
        lines.insert(0, rng.choice(("The team", "Your service team", "Customer service")))
    return f"{greeting}{_filler(rng)}\n{rng.choice(_CLOSINGS)}\n" + separator.join([*lines, *reach])


def _header(rng: random.Random, contact: Contact) -> str:
    sender = " ".join(part for part in (contact.name, f"<{contact.email}>" if contact.email else None) if part)
    lines = [f"From: {sender or contact.company}", f"Subject: {rng.choice(_THINGS)} {rng.randint(100, 9999)}"]
    body = [_filler(rng)]
    if contact.company and sender:
        body.append(rng.choice(("I work for {c}.", "I am with {c}.", "This is about {c}.")).format(c=contact.company))
    if contact.phone:
        body.append(rng.choice(("Call me on {p}.", "My number is {p}.", "You can ring {p}.")).format(p=contact.phone))
    return "\n".join([*lines, " ".join(body)])


def _sentence(rng: random.Random, contact: Contact) -> str:
    who = contact.name or rng.choice(("the front desk", "our office", "the sales team"))
    if contact.company:
        who += rng.choice((" at {c}", " from {c}", " of {c}", " ({c})")).format(c=contact.company)
    reach = [
        *([f"at {contact.email}"] if contact.email else []),
        *([f"on {contact.phone}"] if contact.phone else []),
    ]
    rng.shuffle(reach)
    if reach:
        verb = rng.choice(("Please contact", "You can reach", "For questions, write or call", "Get back to"))
        text = f"{verb} {who} {_joined(reach)}."
    else:
        text = f"{rng.choice(('I met', 'Ask for', 'The visit was arranged by', 'We heard from'))} {who}."
    return f"{text} {_filler(rng)}" if rng.random() < 0.5 else f"{_filler(rng)} {text}"


def _note(rng: random.Random, contact: Contact) -> str:
    parts = [
        *([contact.company] if contact.company else []),
        *([f"{rng.choice(('call', 'tel', 'mobile'))} {contact.phone}"] if contact.phone else []),
        *([f"{rng.choice(('mail', 'email', 'write to'))} {contact.email}"] if contact.email else []),
    ]
    rng.shuffle(parts)
    lead = f"{contact.name} phoned" if contact.name else rng.choice(("New lead", "Missed call", "To do"))
    return f"{lead}: {'; '.join([*parts, _filler(rng)])}"


def _form(rng: random.Random, contact: Contact) -> str:
    labels = {
        "name": rng.choice(("Name", "Contact person", "Full name")),
        "email": rng.choice(("Email", "E-mail", "Mail")),
        "phone": rng.choice(("Phone", "Tel.", "Mobile")),
        "company": rng.choice(("Company", "Organisation", "Employer")),
    }
    lines = []
    for field, label in labels.items():
        value = getattr(contact, field)
        # Forms show an empty field in several ways, or not at all.
        empty = rng.choice((None, "-", "n/a", ""))
        if value or empty is not None:
            lines.append(f"{label}: {value or empty}".rstrip())
    rng.shuffle(lines)
    return "\n".join([*lines, f"Message: {_filler(rng)}"])


def _introduction(rng: random.Random, contact: Contact) -> str:
    name = contact.name
    said = [rng.choice(("Hello, my name is {n}", "This is {n}", "I am {n}")).format(n=name) if name else "Hello"]
    if contact.company:
        said.append(rng.choice(("writing for {c}", "from {c}", "on behalf of {c}")).format(c=contact.company))
    text = f"{' '.join(said) if name else ', '.join(said)}. {_filler(rng)}"
    if contact.email:
        text += rng.choice((" My address is {e}.", " Mail me at {e}.", " Reply to {e}.")).format(e=contact.email)
    if contact.phone:
        text += rng.choice((" My phone is {p}.", " Or call {p}.", " I am on {p} all day.")).format(p=contact.phone)
    return text


STYLES: tuple[Callable[[random.Random, Contact], str], ...] = (
    _signature,
    _header,
    _sentence,
    _note,
    _form,
    _introduction,
)


def write_text(rng: random.Random, contact: Contact) -> str:
    """A text in one of the styles that gives these details and no others."""
    return rng.choice(STYLES)(rng, contact)
