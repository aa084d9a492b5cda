"""Phrases for the ``polite`` task. Each line crosses what stands before the colon with what stands behind it."""

from __future__ import annotations

from itertools import product

from .task import Split
from .wording import lines, pieces


def _crossed(text: str) -> tuple[tuple[str, ...], ...]:
    """Every way to take one entry from each part of a line; colons part the parts, bars the entries."""
    return tuple(way for line in lines(text) for way in product(*map(pieces, line.split(":"))))


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(way) for way in _crossed(text))


def _triples(text: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((first, second, third) for first, second, third in _crossed(text))


TIMES = (
    "today|tomorrow|this afternoon|on Monday|this week|tonight|after lunch|at six|on Friday morning|next week|"
    "before noon|before the weekend|on Thursday|this morning|next month"
).split("|")

COMMANDS: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        send me|forward me|show me: the report|your notes|the invoice|the new figures|a copy of the contract|the photos
        email|return: the form to the office|the list to Anna|the documents to our lawyer|the draft to the editor
        sign|fill in|check: the form|this contract|the order|the list|these papers|the application
        correct|rewrite|shorten: the text|your article|the second paragraph|the introduction|the summary
        close|lock|open: the window|the back door|the gate|the blinds in the hall|the cupboard
        clean|tidy|empty: the kitchen|your desk|the meeting room|the fridge|the shelves
        bring me|pass me|get me: the salt|a clean glass|the bill|another chair|the menu|a fork
        call|ring|write to: the customer|the supplier|my assistant|the landlord|the people upstairs
        move|carry|take: the boxes to the cellar|your bags to the corner|the table to the garden|the ladder outside
        print|copy|scan: the handout|all pages|the tickets|both letters|the map
        book|cancel|confirm: the flight|my appointment|the hotel room|the taxi|the table for six
        turn down|switch off|unplug: the radio|the heating|the lamp in the corridor|your computer
        explain|repeat: the last step|your question|the new rule|what you said
        wait|queue|stand: outside|by the entrance|behind the line|near the counter
        put: the files in order|the milk in the fridge|your coat on the hook|the keys on the table
        speak|talk: more quietly|more slowly|to the manager|to the press
        pay: the fee|the rest of the rent|the deposit|for the broken cup
    """),
    "held_out": _phrases("""
        hand me|lend me: the stapler|a towel|the remote control|a spare pencil|the brochure
        update|publish: the calendar|the price tags|the timetable|our website
        repair|replace: the printer|the broken lock|the tap|the cracked mirror
        wash|dry|fold: the towels|the aprons|the tablecloth
        water|move back: the plants|the flower pots
        weigh|wrap|deliver: the parcel|the cheese|this present|the vase
        review|translate: the minutes|the speech|the leaflet
        invite|remind: the board|the interns|the neighbours
        leave: the building|your shoes at the threshold|a message
    """),
}
PROHIBITIONS: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        park: in front of the gate|on the grass|next to the exit|behind my car|across two spaces
        smoke|eat|sing|shout: in the lift|in the office|in the waiting room|near the children|during the talk
        touch|move|use|open: my chair|my things|the machine|the samples|the red folder|the paintings
        leave: the door open|your cup in the sink|the lights on|the dog alone|rubbish on the stairs
        throw away|delete|lose: the receipts|the old files|my letters|the spare keys
        call|disturb|interrupt: me at night|the guests|the speaker|my colleagues|the driver
        use: my mug|the lift with wet shoes|this toilet
        send: junk to the whole team|the file twice|me jokes
    """),
    "held_out": _phrases("""
        lean: on the glass|against the shelf|over the fence
        feed|chase|photograph: the pigeons|the horses|the ducks|the swans
        spill|waste|drink: the coffee|the ink|the juice
        block|climb over: the aisle|the fire escape|the barrier
        whistle|dance: in the library|on the balcony|in the corridor
        copy: my homework|my recipe|the badge
    """),
}
LEAVES: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        use|borrow: your phone|your pen|the copier|the spare key|your ladder|the projector
        see|read|check: the letter|the list|the bill|your ticket|the contract|the plan
        leave: early|the room|my bag here|the car in the yard
        come in|sit down|wait: here|with you|by the fire
        speak|talk: to your boss|to the cook|to the owner|to the pupils
        take: a photo|the day off|this seat|a sample home|the last slice
        try on|return|exchange: these shoes|the jacket|this hat|the dress
        pay: by card|in cash|in euros|the bill separately
        ask: a question|your opinion|the doctor
    """),
    "held_out": _phrases("""
        park: in the courtyard|beside the stable
        charge|plug in: my laptop|my razor|the tablet
        taste|smell: the wine|the olives|the soap
        pass|cross: the bridge|the yard
        join|watch: the rehearsal|your club|the match
        open|close: the curtain|the hatch|the skylight
        measure|sketch: the statue|the doorway|the wardrobe
        finish: my sandwich|the puzzle|the chapter
    """),
}
FAULTS: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        your report|the offer|your estimate|this article: is late|is too long|is full of errors|has no date|is vague
        your slides|the figures|these numbers|the forms: are late|are wrong|are out of date|do not add up|are incomplete
        the soup|my coffee|the fish|this steak: is cold|is too salty|is not what I ordered|tastes odd
        the room|my office|the hall|our flat: is dirty|is too hot|is far too small|smells of smoke
        the towels|the sheets|these glasses|the plates: are dirty|are damp|are not clean
        the printer|your machine|the lift|the heating: does not work|is broken|makes too much noise|stopped
        your music|your dog|the television: is too loud|bothers the guests|wakes the baby
        my parcel|the order|the delivery: is late|is incomplete|went to the wrong address|never came
        the bill|this invoice|the price: is wrong|is too high|is not what we agreed
        you: forgot the attachment|gave me the wrong key|missed the deadline|are in my seat|are late|made a mistake
        your colleague|the waiter|the driver: was rude|did not answer|forgot our table|took the wrong bag
    """),
    "held_out": _phrases("""
        the bread|this salad|the cake: is stale|is burnt|contains nuts
        your translation|the brochure|the logo: is unreadable|contains typos|looks cheap
        the shower|the kettle|the boiler: is leaking|is out of order|is covered in lime
        the seats|the pillows|these pears: are too hard|are mouldy
        you: dialled the wrong number|spilled the milk|parked on my foot|mixed up the names
        the plumber|your intern|the cashier: left a mess|lost my coat|ignored us
    """),
}
REFUSALS: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        come to|attend|join: the meeting|the party|the training|your dinner|the call
        help you with|work on|finish: the report|the move|your project|the tax form|the slides
        lend you: my car|any money|my bicycle|the key|my notes
        accept|approve|change: the offer|your plan|the order|these terms|the price
        give you: a refund|a discount|my number|more time|the password|his address
        pay: the bill|for both of us|that much|the rent in advance
        take: your shift|more work|the dog|a later train|the blame
        answer: that question|every mail|the phone|your letter
        work: late|without a break|from home|in this heat
        share: the file|my room|the list with the press
        wait: for you|outside|in the car
    """),
    "held_out": _phrases("""
        visit|host: the fair|your aunt|the exchange student
        repair|sell you: the violin|the clock|the boat
        postpone|shorten: the lecture|the trial|the holiday
        babysit|drive: your twins|the van
        cook: for twelve people|without garlic
        recommend: this dentist|the novel
        sing|dance: at the wedding|on stage
    """),
}
WISHED_THINGS: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        a table|a seat|a room: by the window|near the door|for two|away from the noise|on the first floor|in the corner
        a cup of|a pot of|a glass of: tea|coffee|milk|hot chocolate|water
        the soup|the fish|the salad|a sandwich: without onions|with rice|with extra cheese|to take away
        a ticket|two tickets: to Leeds|to the airport|for the late show|for Saturday|for the museum
        a new|another: key|phone|chair|screen|copy of the form|pair of gloves
        a refund|an explanation|a receipt: for the shoes|for the delay|for this order|for last month
        a day off|more time|a pay rise|a quiet office|the truth|an answer|my money back|some help with the boxes
    """),
    "held_out": _phrases("""
        a slice of|a portion of: melon|apple pie|lasagne|ham
        a cabin|a berth|a bunk: on the ferry|with a sea view|for one night
        a spare|a softer: pillow|blanket|mattress|brush
        a haircut|a shave|a stamp|a pound of cherries|a map of the harbour|a lift to the station
    """),
}
WISHED_ACTS: dict[Split, tuple[str, ...]] = {
    "train": _phrases("""
        speak to|see|meet: the manager|the owner|a doctor|someone in charge|your boss
        book|cancel|change: a room|my order|the flight|my appointment|the subscription
        return|exchange: this coat|these shoes|the lamp|a gift
        pay: by card|in cash|the bill|for everyone
        know: the price|your name|the reason|the result
        leave: early|now|a complaint|the company
        order|buy: some wine|the large one|two more|the same again
        have: lunch outside|the day off|the red one|a look at the plans
    """),
    "held_out": _phrases("""
        rent|hire: a canoe|a tent|bicycles
        taste|sample: the jam|the cider
        register|enrol: my daughter|for the exam
        repaint|sell: the garage|my cottage
        send: a telegram|flowers
        stay: until midnight|another night
    """),
}
# Question word, thing, verb.
WHEREABOUTS: dict[Split, tuple[tuple[str, str, str], ...]] = {
    "train": _triples("""
        where: my parcel|the toilet|your manager|the key|the nearest bank|the exit|platform nine|my coat|the lift : is
        where: my shoes|the tickets|the toilets|your colleagues|the forms|the plates|the taxis : are
        when: the meeting|lunch|the next train|the deadline|your break|the last bus|the interview : is
        how much: the soup|this lamp|a ticket|the room|the small one|the repair : is
        how much: the shoes|these chairs|the lessons|two tickets : are
        who: the boss|your doctor|that man|the owner|the next speaker|the teacher : is
        what: the password|the problem|your name|the price|the plan|the reason|the code : is
    """),
    "held_out": _triples("""
        where: the pharmacy|my umbrella|the cloakroom|the stadium|our guide|the ice rink : is
        where: the trolleys|my glasses|the postcards|the lifeguards : are
        when: the parade|high tide|breakfast|the auction : is
        how much: the jam|a haircut|the kite : is
        how much: the tulips|these earrings : are
        who: the referee|your tailor|the caretaker : is
        what: the menu of the day|the fare|the forecast : is
    """),
}
# Thing, verb, state.
CONDITIONS: dict[Split, tuple[tuple[str, str, str], ...]] = {
    "train": _triples("""
        the room|this seat|the table|the doctor|the machine: is: free|ready|available
        the shop|the bank|the office|the kitchen: is: open|closed|still open|open on Sunday
        the report|my order|dinner|the contract|the parcel: is: ready|late|here
        the rooms|these seats|the desks|the nurses: are: free|ready|available
        the shoes|the tickets|the copies|these lamps: are: ready|cheap|for sale|here
        the water|the soup|the milk|the tea: is: hot|cold|free|fresh
        breakfast|parking|the tax|the tip|the towel: is: included|extra
    """),
    "held_out": _triples("""
        the pool|the sauna|the chapel: is: heated|crowded
        the ferry|the fountain: is: running
        the oysters|the lockers|the rafts: are: safe|clean
        bicycles|prams: are: allowed inside
        the ladder|the bridge|the ice: is: strong enough|safe|slippery
        the cottage|the studio: is: furnished|occupied|to let
    """),
}
