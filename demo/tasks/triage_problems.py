"""Problems for the ``triage`` task, each of them one team's."""

from __future__ import annotations

from .task import Split
from .wording import lines

TEAMS = ("billing", "delivery", "returns", "account", "technical", "sales")

PROBLEMS: dict[str, dict[Split, tuple[str, ...]]] = {
    "billing": {
        "train": lines("""
            You charged my card twice for the {p}.
            The invoice for the {p} shows the wrong amount.
            I paid for one {p}, but the bill lists two.
            Please send me an invoice for the {p}, I need it for my taxes.
            My bank says that you took the money for order {n} two times.
            The discount I was promised is missing from the bill.
            Why is there a fee of five euros on my invoice?
            My card was declined when I tried to pay for the {p}.
            I would like to pay for the {p} in three instalments instead.
            There is a payment on my bank statement that I cannot explain.
            The VAT number is missing on invoice {n}.
            I got a payment reminder although I have paid.
            You have taken 80 euros too much from my account at the bank.
            Can I pay the bill for the {p} by bank transfer?
            The price on the receipt is higher than the price in the shop.
            Invoice {n} is made out to the wrong company.
            I transferred the money for the {p} last week, but you say that it is unpaid.
            The gift voucher was not taken off the total.
            Please correct the sum on bill {n}.
            When will you charge my credit card for the {p}?
            I lost my receipt for the {p} and need a copy.
            The monthly payment for the {p} was booked twice in May.
            Two payments for the same {p} appear on my card.
            You billed me for {a} that I cancelled the same day.
            The invoice has my old company on it.
            I was promised ten per cent off, but I paid the full price for the {p}.
            My payment for order {n} did not go through.
            How do I pay the open amount of invoice {n}?
            The second instalment for the {p} was taken too early.
            Your bill asks for the express fee, which I did not choose.
        """),
        "held_out": lines("""
            I was billed for two although I only bought one {p}.
            The total on my invoice does not add up.
            Your shop debited my card three times.
            My direct debit for the {p} failed, how can I settle the amount?
            I need a corrected invoice with our tax number.
            The receipt for the {p} lists an extra charge of nine pounds.
            I received a dunning letter, but the {p} was paid in cash.
            Please explain the second payment on my card.
        """),
    },
    "delivery": {
        "train": lines("""
            My {p} has not arrived yet.
            Where is my parcel with the {p}?
            The tracking page has not changed for five days.
            The courier left the parcel at the wrong house.
            When will the {p} be delivered?
            The {p} was meant to come on Monday, and it is Thursday now.
            Can the driver ring the bell at the back door?
            I will be away on Friday, please deliver the {p} on Saturday.
            Please send the parcel to my office instead of my home.
            The tracking number for order {n} does not work.
            The parcel is said to be delivered, but nothing came.
            The driver threw the box over the fence.
            Has the {p} been shipped yet?
            My order {n} has been on its way for three weeks.
            Can I pick up the parcel at the post office?
            The van drove past our house without stopping.
            Only one of the two boxes has come so far.
            The shipping address on order {n} has a wrong street number.
            My {p} seems to be stuck at customs.
            How long does shipping to Ireland take for order {n}?
            The courier never came, although I waited all day.
            Please leave the parcel with my neighbour.
            Today the {p} should have been brought, but nobody came.
            My package was left in the rain.
            On which day do you ship order {n}?
            I moved house, please have the {p} dropped off at my new home.
            The carrier says that the package is lost.
            The tracking shows that the {p} is in the wrong town.
            The delivery van always comes when I am at work.
            Someone else signed for my package.
        """),
        "held_out": lines("""
            I am still waiting for the {p} to be dropped off.
            The postman gave my package to a stranger.
            The shipment has been at the depot since Tuesday.
            Which day will the courier bring the {p}?
            Please reroute the package to my sister's flat.
            The {p} got lost on the way to me.
            The tracking link says nothing about where the package is.
            The lorry came when nobody was at home, can it come again?
        """),
    },
    "returns": {
        "train": lines("""
            I would like to send the {p} back.
            How can I return the {p}?
            I want to exchange the {p} for a larger one.
            The colour of the {p} is not what I expected, so I want to give it back.
            Please send me a return label for the {p}.
            Can I swap the {p} for another model?
            I sent the {p} back two weeks ago and have heard nothing.
            I changed my mind and do not want to keep the {p}.
            How many days do I have to return the {p}?
            The {p} is too big for our flat, I want to return it.
            Do I need the original box to send the {p} back?
            My wife bought the same {p}, so I would like to return mine.
            The {p} was a present, can I exchange it without the packaging?
            Has the {p} that I returned reached you?
            Where do I take the {p} that I want to give back?
            I ordered the wrong size and want to exchange it.
            I do not like the {p}, please take it back.
            Who pays for sending the {p} back?
            I want to return two of the three things in order {n}.
            You sent me the wrong model, I would like to exchange it.
            The return form does not list my {p}.
            Can I bring the {p} back to one of your shops?
            The {p} is nice, but too heavy for me, so I am sending it back.
            What is the address for returns?
            Can the courier collect the {p} that I am returning?
            I would rather have the black {p}, may I exchange mine?
            I opened the box, am I still allowed to return the {p}?
            I do not want the {p} any more, how do I hand it back?
            Is it too late to give back the {p}?
            My return with number {n} has not been confirmed.
        """),
        "held_out": lines("""
            I do not need the {p} after all and want to hand it back.
            Which form must I fill in to send back the {p}?
            The {p} does not suit our room, so I would like to swap it.
            Will you take the {p} back after 20 days?
            I have packed up the {p} again, please arrange for its return.
            Could I exchange the {p} for the white one?
            The return label that came with the {p} is torn.
            I posted the {p} back to you, was it received?
        """),
    },
    "account": {
        "train": lines("""
            I forgot my password.
            I cannot log in to your website any more.
            Please change the email address of my account.
            How do I delete my account?
            My account has been locked after three attempts.
            I would like to change my user name.
            The link for resetting my password has expired.
            Someone else has logged in to my account.
            Please change my surname in my profile, I got married.
            I have two accounts with you, can you merge them?
            I never got the email for confirming my registration.
            How can I turn on two-step login?
            Your site says that my user name does not exist.
            I want to stop your newsletter, but cannot find it in my profile.
            Please remove my phone number from my profile.
            My login code never arrives on my phone.
            I registered with the wrong date of birth, please correct it.
            Can my husband and I share one customer account?
            The page for signing in rejects my password.
            Please tell me which email address I registered with.
            How do I see what personal data you keep about me?
            I no longer use this mailbox, please move my login to a new one.
            I no longer know which user name I chose.
            Please delete my profile and all my data.
            I cannot sign in although my password is right.
            The registration page does not accept my email address.
            My profile shows a birthday that is not mine.
            I typed the wrong password too often and am locked out.
            Is it possible to change the name in my profile?
            I get no code when I try to sign in.
        """),
        "held_out": lines("""
            The sign-in page keeps rejecting my user name.
            I would like to close my customer profile for good.
            Somebody has changed my password without my knowledge.
            How can I register with a different email address?
            My profile shows an old surname, please update it.
            I am locked out since I got a new phone for the login codes.
            The password reset never reaches my inbox.
            Please erase all personal data in my profile.
        """),
    },
    "technical": {
        "train": lines("""
            The {p} does not switch on.
            My {p} makes a loud noise when I use it.
            How do I connect the {p} to the internet?
            The {p} shows error {n}.
            The display of the {p} stays black.
            The {p} stops after ten minutes.
            Which button resets the {p}?
            The light on the {p} keeps blinking red.
            How do I set up the {p}?
            The update for the {p} fails half way.
            The {p} gets very hot after a while.
            I cannot find out how to change the language of the {p}.
            The {p} turns itself off at night.
            The app does not find my {p}.
            The {p} worked for a month, now it is dead.
            How do I clean the filter inside the {p}?
            Where can I download the manual of the {p}?
            The plug of the {p} gives off sparks.
            The buttons of the {p} do not react.
            My {p} smells of burning when it runs.
            The cable does not fit into the back of the {p}.
            The {p} loses its settings whenever I unplug it.
            My {p} will not charge.
            The {p} crashes every time I press start.
            I hear a strange hum from the {p}.
            How do I pair the {p} with my phone?
            What does the blinking symbol on the {p} mean?
            The {p} is frozen and does not react to anything.
            Please explain how to install the {p}.
            The sensor of the {p} gives wrong values.
        """),
        "held_out": lines("""
            The {p} will not start any more.
            Since the last update the {p} freezes.
            How can I pair the {p} with my computer?
            The display of the {p} flickers.
            There is a strange rattle inside the {p}.
            The {p} shuts down in the middle of its work.
            What does the yellow warning light on the {p} mean?
            I need instructions for installing the {p}.
        """),
    },
    "sales": {
        "train": lines("""
            Do you have the {p} in blue?
            I would like to buy ten {ps}, is there a discount?
            Which {p} do you recommend for a small flat?
            When will the {p} be in stock again?
            Is the new {p} better than the old one?
            I am thinking of buying {a}, what does it cost?
            Do you sell {ps} of other brands too?
            Could you make us an offer for thirty {ps}?
            Will the {p} be cheaper in the winter sale?
            Do you also sell used goods?
            I am looking for {a} as a present, what can you suggest?
            Which {ps} do you have in your shop?
            Do students get a lower price on {ps}?
            Can I see the {p} in one of your shops before I buy it?
            What is the difference between the two {ps} in your catalogue?
            Please send me your catalogue with all prices.
            Do you plan to offer the {p} in other colours?
            Our hotel wants to order fifty {ps}, what would the price be?
            Is there a larger version of the {p} to buy?
            Can you reserve {a} for me until I come to buy it?
            Do you offer gift cards?
            I want to buy {a}, does the price include the cable?
            What would you charge for a dozen {ps}?
            Before I buy {a}: how long is its cable?
            Are there any red {ps} left?
            Could I get a quote for five {ps}?
            Which {p} would you suggest for a beginner?
            Does your range include {ps} for left-handed people?
            Will there be an offer on {ps} before Christmas?
            We are furnishing an office and would like to order eight {ps}, who can advise us?
        """),
        "held_out": lines("""
            Are there any green {ps} left for sale?
            We might purchase twenty {ps}, what would you charge for that many?
            Which {p} would suit a family of five best?
            Do you stock {ps} of other makers?
            Before I order: how do the small and the large {p} differ?
            Is the {p} part of your spring sale?
            I would like a quote for {a} and two spare parts.
            Will you have a cheaper {p} in your range soon?
        """),
    },
}
