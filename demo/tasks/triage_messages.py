"""What customers write around their problem in the ``triage`` task."""

from __future__ import annotations

from .task import Split
from .wording import lines, pieces

PRODUCTS: dict[Split, tuple[str, ...]] = {
    "train": pieces(
        """camera | printer | radio | robot vacuum | phone | keyboard | coffee machine | tablet | speaker | smart ring |
        fan heater | sewing machine | monitor | alarm clock | router | e-reader | rice cooker | air fryer | smart lamp |
        game console | doorbell camera | weather station | washing machine | toothbrush | thermostat | laptop"""
    ),
    "held_out": pieces("dishwasher | smart lock | projector | robot mower | headset | oven | baby monitor | e-scooter"),
}
OPENINGS: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        Hello!
        Hi there!
        Good morning.
        Dear team!
        I need some help with order {n}.
        My order number is {n}.
        I have been a customer for years.
        This is about the {p}.
        I hope you can help me.
        I am writing to you for the second time.
        My name is Ann Becker.
        Nobody answered the phone, so I am writing.
        A short message about order {n}.
        I found your shop through a friend.
        You helped me well last year.
    """),
    "held_out": lines("""
        Good evening.
        To whom it may concern:
        It is about number {n}.
        I am a new customer of yours.
        My neighbour told me to write to you.
        We are a small school in the north.
    """),
}
CLOSINGS: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        Thank you.
        Many thanks in advance.
        Please answer soon.
        Kind regards, Tom
        I look forward to your reply.
        Can you help?
        Please let me know.
        Please advise me.
        Greetings from Cork
        You can reach me in the evening.
        Best wishes from Leeds
        This is rather urgent.
        Please call me back.
    """),
    "held_out": lines("""
        Thanks for your time.
        I would be glad of a short answer.
        Yours sincerely, Mr Novak
        Please get back to me this week.
        Any advice is welcome.
    """),
}
# Things that went well, by the team that they have to do with.
PRAISE: dict[str, dict[Split, tuple[str, ...]]] = {
    "billing": {
        "train": lines("""
            Paying for the {p} was easy.
            The bill was correct, by the way.
            The amount on my card statement is right.
        """),
        "held_out": lines("""
            The invoice is fine.
            I have paid for the {p} without trouble.
        """),
    },
    "delivery": {
        "train": lines("""
            The {p} arrived on time.
            The driver was very friendly.
            The parcel came sooner than I thought.
            The box reached me safely.
        """),
        "held_out": lines("""
            The {p} was brought to my door within two days.
            Shipping went smoothly.
        """),
    },
    "technical": {
        "train": lines("""
            The {p} I have works well.
            Setting up the last {p} was easy.
            My old {p} runs without a fault.
        """),
        "held_out": lines("""
            The {p} in our kitchen does its job.
            There is nothing wrong with how my {p} runs.
        """),
    },
}
