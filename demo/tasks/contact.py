"""Contact details in free text become JSON with four fixed keys."""

from __future__ import annotations

import json
import random
import unicodedata
from dataclasses import asdict

from .contact_people import (
    COMPANY_FORMS,
    COMPANY_KINDS,
    COMPANY_ROLES,
    COMPANY_STEMS,
    FIRST_NAMES,
    MAIL_PROVIDERS,
    PHONE_PATTERNS,
    SURNAMES,
    TOP_DOMAINS,
)
from .contact_texts import Contact, write_text
from .task import Example, Split, Task, unfenced

_INSTRUCTION = "Give the name, email, phone and company as JSON, null where absent."
_SHARE_GIVEN = {"name": 0.85, "email": 0.7, "phone": 0.7, "company": 0.65}
_ASCII = str.maketrans({"ø": "o", "ł": "l", "ß": "ss"})


def draw(rng: random.Random, split: Split) -> Example:
    """One text with the contact details of someone of the split."""
    contact = _draw_contact(rng, split)
    answer = json.dumps(asdict(contact), ensure_ascii=False)
    return Example(f"{_INSTRUCTION}\n\n{write_text(rng, contact)}", answer)


def _draw_contact(rng: random.Random, split: Split) -> Contact:
    """Details of which some may be missing, but never name, email and company together.

    Each of those three carries a surname or a company of the split, and that is what keeps the splits apart.
    """
    first, surname = rng.choice(FIRST_NAMES), rng.choice(SURNAMES[split])
    stem, kind = rng.choice(COMPANY_STEMS[split]), rng.choice(COMPANY_KINDS)
    phone = "".join(str(rng.randint(0, 9)) if sign == "#" else sign for sign in rng.choice(PHONE_PATTERNS))
    given = {field: rng.random() < share for field, share in _SHARE_GIVEN.items()}
    if not (given["name"] or given["email"] or given["company"]):
        given["name"] = True
    return Contact(
        name=f"{first} {surname}" if given["name"] else None,
        email=_draw_email(rng, first, surname, stem, kind) if given["email"] else None,
        phone=phone if given["phone"] else None,
        company=f"{stem} {kind}{rng.choice(COMPANY_FORMS)}" if given["company"] else None,
    )


def _draw_email(rng: random.Random, first: str, surname: str, stem: str, kind: str) -> str:
    first, surname = _plain(first), _plain(surname)
    domain = f"{stem}{rng.choice(('', '-'))}{kind}.{rng.choice(TOP_DOMAINS)}".lower()
    style = rng.random()
    if style < 0.15:
        return f"{rng.choice(COMPANY_ROLES)}@{domain}"
    # A private address carries no company, so it must carry the surname.
    initial = first[0]
    person = rng.choice((f"{first}.{surname}", f"{initial}.{surname}", f"{first}_{surname}", f"{surname}{initial}"))
    if style < 0.4:
        return f"{person}{rng.choice(('', '', str(rng.randint(1, 99))))}@{rng.choice(MAIL_PROVIDERS)}"
    return f"{rng.choice((person, person, first))}@{domain}"


def _plain(name: str) -> str:
    """``name`` in the letters of a mail address: Müller becomes muller."""
    letters = unicodedata.normalize("NFKD", name.lower().translate(_ASCII))
    return letters.encode("ascii", "ignore").decode("ascii")


def score(answer: str, output: str) -> bool:
    """Whether both are JSON of equal value."""
    try:
        found = json.loads(unfenced(output))
    except json.JSONDecodeError:
        return False
    return bool(found == json.loads(answer))


TASK = Task(
    name="contact",
    title="Contact details to JSON",
    description=(
        "Reads a mail, a signature, a note or a web form and gives the contact details in it as JSON with the "
        "keys name, email, phone and company; what the text does not tell is null."
    ),
    held_out=("The unseen texts are about people whose surnames and companies whose names do not occur in training."),
    max_new_tokens=96,
    draw=draw,
    score=score,
)
